//! Guests that do not play by the rules: what they send is given back to them and goes nowhere, their queue goes on, and
//! nobody else notices.

use vhost_device_rpmsg::rpmsg::{ANY_ADDRESS, HEADER_LEN, Header, NAME_SERVICE_ADDRESS};

use super::{HERE, beside};
use crate::harness::driver::{RX, TX};
use crate::harness::guest::Guest;
use crate::harness::options::{DriverOptions, GuestOptions};
use crate::harness::ram::{HOTPLUG_BASE, MAIN_BASE, MAIN_SIZE};
use crate::harness::rig::{Plan, Rig};
use crate::harness::ring::{BY_HAND, DESC_INDIRECT, DESC_NEXT, DESC_WRITE, Descriptor};

/// Guest memory that nothing else uses.
const SCRATCH: u64 = MAIN_BASE + 0x60_0000;

/// Runs `misbehave` in one guest; afterwards that guest and another one are served as ever, and the core has received
/// nothing of it.
fn nothing_comes_of(misbehave: impl Fn(&mut Guest)) {
    nothing_comes_of_with(GuestOptions::default(), misbehave);
}

fn nothing_comes_of_with(options: GuestOptions, misbehave: impl Fn(&mut Guest)) {
    let mut rig = Rig::start(Plan::with_sessions(2));
    let mut guest = rig.guest_with(0, options);
    let mut other = rig.guest(1);
    Rig::settle(&mut guest);
    let received = rig.core().total("received");

    let echoes = beside(&mut other, || {
        misbehave(&mut guest);
        guest.flush();
    });

    Rig::settle(&mut guest);
    assert_eq!(rig.core().total("received"), received + echoes + 1, "messages at the core");
}

fn message(src: u32, dst: u32, len: u16, payload: usize) -> Vec<u8> {
    let header = Header { src, dst, reserved: 0, len, flags: 0 };
    let mut bytes = header.to_bytes().to_vec();
    bytes.resize(HEADER_LEN + payload, 0x33);
    bytes
}

fn send_bytes(guest: &mut Guest, bytes: &[u8]) {
    assert!(guest.try_send_bytes(bytes));
}

/// Sends a chain of one descriptor made by hand.
fn send_descriptor(guest: &mut Guest, descriptor: Descriptor) {
    let ring = guest.ring(TX);
    let head = ring.take_descriptor();
    ring.write_descriptor(head, descriptor);
    ring.hand_over(head, 1, BY_HAND);
    ring.kick();
}

#[test]
fn a_message_shorter_than_its_header() {
    nothing_comes_of(|guest| {
        for len in 1..HEADER_LEN {
            send_bytes(guest, &message(HERE, 0x402, 0, 0)[..len]);
        }
    });
}

#[test]
fn a_header_that_promises_more_than_the_message_holds() {
    nothing_comes_of(|guest| {
        send_bytes(guest, &message(HERE, 0x402, 11, 10));
        send_bytes(guest, &message(HERE, 0x402, 0xFFFF, 10));
        send_bytes(guest, &message(HERE, 0x402, 497, 496));
    });
}

#[test]
fn a_message_longer_than_any_rpmsg_buffer() {
    nothing_comes_of(|guest| {
        let bytes = message(HERE, 0x402, 497, 497);
        guest.ram().write(SCRATCH, &bytes);
        let len = u32::try_from(bytes.len()).unwrap();
        let descriptor = Descriptor { addr: SCRATCH, len, ..Descriptor::default() };
        send_descriptor(guest, descriptor);
    });
}

#[test]
fn a_source_address_that_is_not_the_guests_to_use() {
    nothing_comes_of(|guest| {
        for src in [NAME_SERVICE_ADDRESS, ANY_ADDRESS] {
            send_bytes(guest, &message(src, 0x402, 4, 4));
        }
    });
}

#[test]
fn a_name_service_message_that_is_none() {
    nothing_comes_of(|guest| {
        for len in [0, 39, 41, 496] {
            send_bytes(guest, &message(HERE, NAME_SERVICE_ADDRESS, len, usize::from(len)));
        }
        // 32 bytes of name without a NUL, and one of no name.
        send_bytes(guest, &message(HERE, NAME_SERVICE_ADDRESS, 40, 40));
        let mut nameless = message(HERE, NAME_SERVICE_ADDRESS, 40, 40);
        nameless[HEADER_LEN..].fill(0);
        send_bytes(guest, &nameless);
    });
}

#[test]
fn a_buffer_outside_of_the_guests_memory() {
    nothing_comes_of(|guest| {
        for addr in [0, MAIN_BASE - 8, MAIN_BASE + MAIN_SIZE as u64 - 8, HOTPLUG_BASE, u64::MAX - 8] {
            let descriptor = Descriptor { addr, len: 64, ..Descriptor::default() };
            send_descriptor(guest, descriptor);
        }
    });
}

#[test]
fn an_empty_buffer_and_one_of_four_gigabytes() {
    nothing_comes_of(|guest| {
        for len in [0, u32::MAX] {
            let descriptor = Descriptor { addr: SCRATCH, len, ..Descriptor::default() };
            send_descriptor(guest, descriptor);
        }
    });
}

#[test]
fn a_buffer_to_write_to_on_the_transmit_queue() {
    nothing_comes_of(|guest| {
        let descriptor = Descriptor { addr: SCRATCH, len: 64, flags: DESC_WRITE, next: 0 };
        send_descriptor(guest, descriptor);
    });
}

#[test]
fn a_chain_that_bites_its_own_tail() {
    nothing_comes_of(|guest| {
        let ring = guest.ring(TX);
        let head = ring.take_descriptor();
        let looped = Descriptor { addr: SCRATCH, len: 1, flags: DESC_NEXT, next: head };
        ring.write_descriptor(head, looped);
        ring.hand_over(head, 1, BY_HAND);
        ring.kick();
    });
}

#[test]
fn a_chain_that_goes_on_outside_of_the_table() {
    nothing_comes_of(|guest| {
        for next in [256, 0x7FFF, u16::MAX] {
            let descriptor = Descriptor { addr: SCRATCH, len: 16, flags: DESC_NEXT, next };
            send_descriptor(guest, descriptor);
        }
    });
}

#[test]
fn an_indirect_table_that_is_none() {
    let driver = DriverOptions { indirect: true, ..DriverOptions::default() };
    nothing_comes_of_with(GuestOptions::with_driver(driver), |guest| {
        // Of no length, of a broken one, outside of memory; and one that holds another one.
        for (addr, len) in [(SCRATCH, 0), (SCRATCH, 24), (SCRATCH, 0xFFFF_FFF0), (8, 16), (SCRATCH, 16)] {
            let nested = Descriptor { addr: SCRATCH, len: 16, flags: DESC_INDIRECT, next: 0 };
            guest.ram().write(SCRATCH, &nested.to_bytes());
            let descriptor = Descriptor { addr, len, flags: DESC_INDIRECT, next: 0 };
            send_descriptor(guest, descriptor);
        }
    });
}

/// An indirect table of these descriptors.
fn send_table(guest: &mut Guest, descriptors: &[Descriptor]) {
    let bytes: Vec<u8> = descriptors.iter().flat_map(|descriptor| descriptor.to_bytes()).collect();
    guest.ram().write(SCRATCH, &bytes);
    let len = u32::try_from(bytes.len()).unwrap();
    send_descriptor(guest, Descriptor { addr: SCRATCH, len, flags: DESC_INDIRECT, next: 0 });
    // The table is the same memory for all of them.
    guest.flush();
}

#[test]
fn an_indirect_table_that_never_ends() {
    let driver = DriverOptions { indirect: true, ..DriverOptions::default() };
    nothing_comes_of_with(GuestOptions::with_driver(driver), |guest| {
        let piece = |next| Descriptor { addr: SCRATCH + 0x10_0000, len: 1, flags: DESC_NEXT, next };
        // Onto itself, round and round, as long as 16 bits can count, out of the table.
        send_table(guest, &[piece(0)]);
        send_table(guest, &[piece(1), piece(2), piece(0)]);
        let long: Vec<_> = (1..=u16::MAX).map(piece).collect();
        send_table(guest, &long);
        send_table(guest, &[piece(1), piece(2)]);
    });
}

#[test]
fn receive_buffers_of_which_the_core_gets_nothing_back() {
    let rig = Rig::start(Plan::with_sessions(2));
    let mut guest = rig.guest(0);
    let mut other = rig.guest(1);
    Rig::settle(&mut guest);
    let raw = guest.wait_service("rpmsg-raw");

    beside(&mut other, || {
        guest.withhold();
        for number in 0..4096_u32 {
            guest.send(HERE, raw, &number.to_le_bytes());
        }
        guest.flush();
    });

    guest.return_buffers();
    // Behind what has waited in the core's buffers.
    guest.send(HERE, raw, b"here again");
    while guest.recv().payload != b"here again" {}
}

#[test]
fn a_receive_buffer_that_cannot_be_written_hurts_its_owner_only() {
    a_broken_ring_hurts_its_owner_only(|guest| {
        // All descriptors that the device has at this moment, and with the next message it finds one of them.
        for id in 0..256 {
            let elsewhere = Descriptor { addr: HOTPLUG_BASE, len: 512, flags: DESC_WRITE, next: 0 };
            guest.ring(RX).write_descriptor(id, elsewhere);
        }
        let raw = guest.wait_service("rpmsg-raw");
        guest.send(HERE, raw, b"nobody can tell me");
        guest.flush();
    });
}

/// Breaks a ring for good; the other guest is served as ever, and a reset makes the broken one work again.
fn a_broken_ring_hurts_its_owner_only(break_it: impl Fn(&mut Guest)) {
    let rig = Rig::start(Plan::with_sessions(2));
    let mut guest = rig.guest(0);
    let mut other = rig.guest(1);
    Rig::settle(&mut guest);

    beside(&mut other, || break_it(&mut guest));

    guest.vmm().stop().unwrap();
    guest.probe();
    guest.boot();
    Rig::settle(&mut guest);
}

#[test]
fn a_head_outside_of_the_table_hurts_its_owner_only() {
    a_broken_ring_hurts_its_owner_only(|guest| {
        let ring = guest.ring(TX);
        ring.publish(0x4000);
        ring.force_kick();
    });
}

#[test]
fn an_available_index_that_leaps_hurts_its_owner_only() {
    a_broken_ring_hurts_its_owner_only(|guest| {
        let ring = guest.ring(TX);
        let index = ring.place().avail + 2;
        let leap = ring.avail_idx().wrapping_add(1000);
        guest.ram().store(index, leap, std::sync::atomic::Ordering::Release);
        guest.ring(TX).force_kick();
    });
}

#[test]
fn a_flood_of_kicks_for_nothing_hurts_nobody() {
    nothing_comes_of(|guest| {
        for _ in 0..10_000 {
            guest.ring(TX).force_kick();
        }
    });
}

/// What the core sends as plain messages to these addresses never gets to the guest; not to its name service in
/// particular, which takes nothing but announcements.
fn the_core_is_not_heard_at(plan: Plan, addresses: impl IntoIterator<Item = u32>) {
    let mut rig = Rig::start(plan);
    let mut guest = rig.guest(0);
    Rig::settle(&mut guest);
    let news = guest.news().len();

    for address in addresses {
        rig.core().command(&format!("say rpmsg-raw {address:#x} hello"));
        rig.core().command(&format!("say rpmsg-raw {address:#x} {}", "x".repeat(40)));
    }

    Rig::settle(&mut guest);
    assert_eq!(guest.news().len(), news);
}

#[test]
fn a_core_that_writes_nonsense_to_the_name_service() {
    the_core_is_not_heard_at(Plan::default(), [NAME_SERVICE_ADDRESS]);
}

#[test]
fn a_core_that_writes_to_the_name_service_of_a_guest() {
    // Whatever number the guest's session has.
    let addresses = (0..16).map(|session| 1 << 24 | session << 20 | NAME_SERVICE_ADDRESS);
    the_core_is_not_heard_at(Plan::with_sessions(1), addresses);
}

#[test]
fn a_core_that_writes_to_addresses_that_nobody_has() {
    let addresses = [0x7F00_0400, 0x8100_0400, ANY_ADDRESS, 0x0500_0400];
    the_core_is_not_heard_at(Plan::with_sessions(1), addresses);
}
