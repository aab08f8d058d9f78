//! Pauses, resets, disconnects: front-ends say nearly the same for all of them, and each has to be what it was meant to be.

use std::io::Write;
use std::os::unix::net::UnixStream;

use vhost::VhostBackend;

use crate::harness::driver::{RX, TX};
use crate::harness::guest::Guest;
use crate::harness::options::{DriverOptions, GuestOptions};
use crate::harness::rig::{Plan, Rig};
use crate::harness::stream::{EchoStream, scaled};
use crate::harness::vmm::{Flavour, MemoryMessages};

const HERE: u32 = 1024;

/// The first service of the core, for guests that nobody tells of services.
const FIRST_SERVICE: u32 = 0x400;

/// Runs a stream during which `event` happens again and again while messages are under way in both directions.
fn stream_through(guest: &mut Guest, raw: u32, mut event: impl FnMut(&mut Guest)) {
    let mut stream = EchoStream::new(5, HERE, raw);
    for _ in 0..50 {
        let (sent, received) = (stream.sent() + 400, stream.received() + 300);
        stream.run(guest, sent, received);
        event(guest);
    }
    stream.finish(guest, 100);
}

fn nothing_happens_to_a_stream_by(options: GuestOptions, event: impl FnMut(&mut Guest)) {
    let rig = Rig::start(Plan::with_sessions(1));
    let told = options.driver.name_service;
    let mut guest = rig.guest_with(0, options);
    let echo = if told { guest.wait_service("rpmsg-raw") } else { FIRST_SERVICE };
    guest.echo(HERE, echo, b"hello");
    let news = guest.news().len();

    stream_through(&mut guest, echo, event);

    assert_eq!(guest.news().len(), news, "nothing is told twice");
}

#[test]
fn a_stream_goes_on_after_a_pause() {
    nothing_happens_to_a_stream_by(GuestOptions::default(), |guest| {
        guest.pause();
        guest.resume();
    });
}

#[test]
fn a_stream_goes_on_after_a_pause_in_cloud_hypervisor() {
    nothing_happens_to_a_stream_by(GuestOptions::cloud_hypervisor(), |guest| {
        guest.vmm().enable_all(false).unwrap();
        guest.vmm().enable_all(true).unwrap();
    });
}

#[test]
fn a_stream_goes_on_after_one_ring_was_disabled_for_a_while() {
    for queue in [RX, TX] {
        nothing_happens_to_a_stream_by(GuestOptions::default(), |guest| {
            guest.vmm().enable(queue, false).unwrap();
            guest.vmm().enable(queue, true).unwrap();
        });
    }
}

#[test]
fn a_stopped_guest_gets_what_came_meanwhile_when_it_goes_on() {
    let mut rig = Rig::start(Plan::with_sessions(1).observed());
    let mut guest = rig.guest(0);
    let raw = guest.wait_service("rpmsg-raw");
    Rig::settle(&mut guest);
    rig.core().command("hang");
    for number in 0..10u8 {
        guest.send(HERE, raw, &[number]);
    }
    guest.flush();

    guest.pause();
    let used = guest.rings()[RX].used_idx();
    rig.core().command("resume");
    rig.settle_all();
    assert_eq!(guest.rings()[RX].used_idx(), used, "nothing is delivered to a stopped ring");
    guest.resume();

    for number in 0..10u8 {
        assert_eq!(guest.recv().payload, [number]);
    }
}

#[test]
fn a_pause_before_the_first_delivery_is_no_reset() {
    let mut rig = Rig::start(Plan::with_sessions(1).observed());
    // The driver knows no name service, so nothing is delivered to it at first.
    let driver = DriverOptions { name_service: false, ..DriverOptions::default() };
    let mut guest = rig.guest_with(0, GuestOptions::with_driver(driver));
    rig.settle_all();
    rig.core().command("hang");
    guest.send(HERE, FIRST_SERVICE, b"hello");
    guest.flush();

    guest.pause();
    guest.resume();
    rig.core().command("resume");

    assert_eq!(guest.recv().payload, b"hello");
}

#[test]
fn a_pause_after_exactly_65536_deliveries_is_no_reset() {
    let rig = Rig::start(Plan::with_sessions(1));
    let mut guest = rig.guest(0);
    let raw = guest.wait_service("rpmsg-raw");
    Rig::settle(&mut guest);
    let news = guest.news().len();
    let delivered = u32::from(guest.rings()[RX].used_idx());
    EchoStream::new(6, HERE, raw).finish(&mut guest, 0x1_0000 - delivered);
    assert_eq!(guest.rings()[RX].used_idx(), 0);

    guest.pause();
    guest.resume();

    Rig::settle(&mut guest);
    assert_eq!(guest.news().len(), news, "nothing is told twice");
}

#[test]
fn a_reset_begins_a_session_that_is_told_of_all_services_anew() {
    let rig = Rig::start(Plan::with_sessions(1));
    let mut guest = rig.guest(0);
    Rig::settle(&mut guest);
    let news = guest.news().len();

    // More often than there are session numbers.
    for _ in 0..20 {
        guest.reset_driver();

        Rig::settle(&mut guest);
        assert_eq!(guest.news().len(), news);
    }
}

#[test]
fn answers_to_a_session_before_the_reset_never_reach_the_one_after_it() {
    let mut rig = Rig::start(Plan::with_sessions(2));
    let mut guest = rig.guest(0);
    let mut other = rig.guest(1);
    let raw = guest.wait_service("rpmsg-raw");
    Rig::settle(&mut guest);
    Rig::settle(&mut other);
    rig.core().command("hang");
    for _ in 0..20 {
        guest.send(HERE, raw, b"old");
        other.send(HERE, raw, b"other");
    }
    guest.flush();
    other.flush();

    guest.reset_driver();
    let raw = guest.wait_service("rpmsg-raw");
    guest.send(HERE, raw, b"new");
    guest.flush();
    rig.core().command("resume");

    assert_eq!(guest.recv().payload, b"new");
    Rig::settle(&mut guest);
    for _ in 0..20 {
        assert_eq!(other.recv().payload, b"other");
    }
}

#[test]
fn a_reset_in_the_middle_of_a_stream_leaves_the_other_vms_stream_alone() {
    let rig = Rig::start(Plan::with_sessions(2));
    let mut other = rig.guest(1);
    let raw = other.wait_service("rpmsg-raw");
    let mut others = EchoStream::new(7, HERE, raw).window(100);
    let mut guest = rig.guest(0);

    for session in 0..30 {
        let raw = guest.wait_service("rpmsg-raw");
        let mut stream = EchoStream::new(100 + session, HERE, raw).window(100);
        stream.run(&mut guest, 500, 400);
        let (sent, received) = (others.sent() + 300, others.received() + 200);
        others.run(&mut other, sent, received);
        guest.reset_driver();
    }

    others.finish(&mut other, 100);
}

#[test]
fn a_reset_is_seen_with_every_front_ends_idea_of_the_ring_base() {
    let flavours = [
        GuestOptions::default(),
        GuestOptions { memory: MemoryMessages::Table, ..GuestOptions::default() },
        GuestOptions::cloud_hypervisor(),
    ];
    for options in flavours {
        let rig = Rig::start(Plan::with_sessions(1).observed());
        let mut guest = rig.guest_with(0, options);
        for session in 0..5 {
            let mut stream = EchoStream::new(session, HERE, FIRST_SERVICE).window(100);
            rig.settle_all();
            stream.finish(&mut guest, 1000);
            guest.reset_driver();
        }
    }
}

#[test]
fn reset_device_ends_the_session() {
    let mut rig = Rig::start(Plan::with_sessions(1));
    let mut guest = rig.guest(0);
    guest.announce("guest-made", HERE);
    Rig::settle(&mut guest);
    let news = guest.news().len();

    guest.vmm().reset_device().unwrap();
    guest.probe();
    guest.boot();

    Rig::settle(&mut guest);
    assert_eq!(guest.news().len(), news);
    assert_eq!(rig.core().host_services(), []);
}

#[test]
fn a_front_end_comes_and_goes_a_thousand_times_and_nothing_is_left_behind() {
    let mut rig = Rig::start(Plan::with_sessions(2));
    let mut stays = rig.guest(1);
    Rig::settle(&mut stays);
    let mut settled = None;

    for visit in 0..scaled(1_000) {
        if visit == scaled(200) {
            settled = Some(footprint(&mut rig));
        }
        let mut guest = rig.guest(0);
        match visit % 4 {
            0 => Rig::settle(&mut guest),
            1 => drop(guest),
            // Gone in the middle of a message, before any, and before the driver is up.
            2 => {
                drop(guest);
                UnixStream::connect(rig.socket(0)).unwrap().write_all(&[1, 0, 0]).unwrap();
                UnixStream::connect(rig.socket(0)).unwrap();
                drop(Guest::connect_only(&rig.socket(0), GuestOptions::default()));
            }
            _ => {
                guest.wait_service("rpmsg-raw");
                guest.announce("guest-made", HERE);
                guest.flush();
            }
        }
    }

    let (before, after) = (settled.unwrap(), footprint(&mut rig));
    println!("after 200: {before:?}; after 1000: {after:?}");
    assert_eq!((after.fds, after.threads, after.mappings), (before.fds, before.threads, before.mappings));
    assert!(after.resident <= before.resident + 256, "memory grows: {before:?} to {after:?}");
    Rig::settle(&mut stays);
    assert_eq!(rig.core().host_services(), []);
}

/// What the program holds while VM 0 is connected and has just been served.
fn footprint(rig: &mut Rig) -> crate::harness::program::Footprint {
    let mut guest = rig.guest(0);
    Rig::settle(&mut guest);
    // Whatever was sent without waiting for an answer has been dealt with when this is answered.
    guest.vmm().frontend().get_features().unwrap();
    rig.program().footprint()
}

#[test]
fn another_front_end_finds_the_device_as_new() {
    let rig = Rig::start(Plan::with_sessions(1).observed());
    rig.settle_all();
    for flavour in [Flavour::Qemu, Flavour::CloudHypervisor, Flavour::Qemu] {
        let options = match flavour {
            Flavour::Qemu => GuestOptions::default(),
            Flavour::CloudHypervisor => GuestOptions::cloud_hypervisor(),
        };
        let mut guest = rig.guest_with(0, options);
        guest.echo(HERE, FIRST_SERVICE, b"hello");
    }
}
