//! The remote core comes, goes, crashes and comes back; the guests' devices stay as they are.

use crate::harness::doorbell::{STATE_QUERY, Wire};
use crate::harness::guest::Guest;
use crate::harness::options::GuestOptions;
use crate::harness::rig::{Plan, Rig};
use crate::harness::stream::EchoStream;

const HERE: u32 = 1024;
/// Messages that a VM of two may have under way: what the core has buffers for, shared out.
const SHARE: u32 = 127;
/// Services of the soft core when it is left to itself.
const SERVICES: usize = 6;

/// That all services were withdrawn and are back, and work, on the same device as before.
fn all_services_come_back(
    rig: &mut Rig,
    guests: &mut [Guest],
    away_and_back: impl FnOnce(&mut Rig, &mut [Guest]),
) {
    for guest in guests.iter_mut() {
        Rig::settle(guest);
        assert_eq!(guest.news().len(), SERVICES);
    }

    away_and_back(rig, guests);

    for guest in guests {
        guest.until("services told again", |guest| {
            guest.drain();
            guest.news().len() >= 3 * SERVICES
        });
        let raw = guest.wait_service("rpmsg-raw");
        EchoStream::new(10, HERE, raw).window(SHARE).finish(guest, 1000);
        assert_eq!(guest.news().len(), 3 * SERVICES, "told, withdrawn, told again");
    }
}

#[test]
fn a_killed_core_takes_its_services_along_and_brings_them_back() {
    let mut rig = Rig::start(Plan::with_sessions(2));
    let mut guests = [rig.guest(0), rig.guest(1)];
    all_services_come_back(&mut rig, &mut guests, |rig, guests| {
        rig.kill_core();
        for guest in guests {
            guest.wait_service_gone("rpmsg-raw");
        }
        rig.start_core();
    });
}

#[test]
fn a_core_that_was_killed_again_and_again_is_found_every_time() {
    let mut rig = Rig::start(Plan::with_sessions(1));
    let mut guest = rig.guest(0);
    for _ in 0..5 {
        let raw = guest.wait_service("rpmsg-raw");
        EchoStream::new(11, HERE, raw).finish(&mut guest, 100);
        rig.kill_core();
        guest.wait_service_gone("rpmsg-raw");
        rig.start_core();
    }
    Rig::settle(&mut guest);
}

#[test]
fn a_crash_withdraws_the_services_and_a_reboot_brings_them_back() {
    let mut rig = Rig::start(Plan::with_sessions(2));
    let mut guests = [rig.guest(0), rig.guest(1)];
    all_services_come_back(&mut rig, &mut guests, |rig, guests| {
        rig.core().command("crash");
        for guest in guests {
            guest.wait_service_gone("rpmsg-raw");
        }
        rig.core().command("reboot");
    });
}

#[test]
fn a_reboot_out_of_the_blue_is_a_core_that_was_gone() {
    let mut rig = Rig::start(Plan::with_sessions(2));
    let mut guests = [rig.guest(0), rig.guest(1)];
    all_services_come_back(&mut rig, &mut guests, |rig, _| {
        rig.core().command("reboot");
    });
}

#[test]
fn a_guest_that_starts_before_the_core_is_told_when_it_is_there() {
    let mut rig = Rig::prepare(Plan::with_sessions(1));
    rig.start_program();
    let mut guest = rig.guest(0);

    rig.start_core();

    Rig::settle(&mut guest);
    assert_eq!(guest.news().len(), SERVICES);
}

#[test]
fn messages_for_a_core_that_is_not_there_are_given_back_to_the_guest() {
    let mut rig = Rig::prepare(Plan::with_sessions(1));
    rig.start_program();
    let mut guest = rig.guest(0);

    // More than the ring holds: they do not wait for a core.
    for _ in 0..1000 {
        guest.send(HERE, 0x400, b"anybody?");
    }
    guest.flush();

    rig.start_core();
    Rig::settle(&mut guest);
}

#[test]
fn a_guest_that_rings_before_and_long_after_finds_the_core() {
    let mut rig = Rig::prepare(Plan::with_sessions(2));
    rig.start_program();
    let mut early = rig.guest(0);
    rig.start_core();
    let raw = early.wait_service("rpmsg-raw");
    EchoStream::new(12, HERE, raw).window(SHARE).finish(&mut early, 10_000);

    let mut late = rig.guest(1);

    EchoStream::new(13, HERE, late.wait_service("rpmsg-raw")).window(SHARE).finish(&mut late, 1000);
}

#[test]
fn the_services_of_guests_are_announced_to_a_core_that_comes_back() {
    let mut rig = Rig::start(Plan::with_sessions(1));
    let mut guest = rig.guest(0);
    guest.announce("guest-made", HERE);
    Rig::settle(&mut guest);
    let before = rig.core().host_services();
    assert_eq!(before.len(), 1);

    rig.kill_core();
    guest.wait_service_gone("rpmsg-raw");
    rig.start_core();
    Rig::settle(&mut guest);

    assert_eq!(rig.core().host_services(), before);
}

#[test]
fn a_cut_line_to_a_core_that_lives_loses_nothing() {
    let mut rig = Rig::prepare(Plan::with_sessions(1));
    let wire = rig.start_core_behind_a_wire();
    rig.start_program();
    let mut guest = rig.guest(0);
    let raw = guest.wait_service("rpmsg-raw");
    let mut stream = EchoStream::new(14, HERE, raw);
    stream.finish(&mut guest, 1000);

    for connection in 2..=4 {
        wire.cut();
        guest.wait_service_gone("rpmsg-raw");
        wire.wait_to_core(STATE_QUERY, connection);
        guest.wait_service("rpmsg-raw");
        stream.finish(&mut guest, 1000);
    }
}

#[test]
fn noise_on_the_doorbell_is_ignored_and_nothing_is_lost() {
    let mut rig = Rig::prepare(Plan::with_sessions(1));
    let wire: Wire = rig.start_core_behind_a_wire();
    rig.start_program();
    let mut guest = rig.guest_with(0, GuestOptions::default());
    let raw = guest.wait_service("rpmsg-raw");
    let mut stream = EchoStream::new(15, HERE, raw);
    // Everything but "ready" and "crashed", which mean what they say.
    let noise: Vec<u8> = (0..=0xFF).filter(|byte| *byte != 0xF0 && *byte != 0xF1).collect();

    for _ in 0..50 {
        let (sent, received) = (stream.sent() + 200, stream.received() + 100);
        stream.run(&mut guest, sent, received);
        wire.put_to_host(&noise);
    }

    stream.finish(&mut guest, 100);
    assert_eq!(guest.news().len(), SERVICES);
}
