//! Shared memory that is torn away: whoever did it is cut off, and nobody else notices.

use std::fs::File;

use crate::harness::driver::TX;
use crate::harness::ram::HOTPLUG_BASE;
use crate::harness::rig::{Plan, Rig};
use crate::harness::ring::{BY_HAND, Descriptor};
use crate::harness::stream::EchoStream;

const HERE: u32 = 1024;

#[test]
fn a_front_end_that_truncates_its_guests_memory_is_disconnected_and_nobody_else_notices() {
    let mut rig = Rig::start(Plan::with_sessions(2));
    let mut guest = rig.guest(0);
    let mut other = rig.guest(1);
    Rig::settle(&mut guest);
    let raw = other.wait_service("rpmsg-raw");
    let mut stream = EchoStream::new(1, HERE, raw).window(100);
    stream.run(&mut other, 500, 400);
    let region = guest.ram().hotplug_region();
    guest.vmm().add_region(&region).unwrap();

    guest.ram().tear_hotplug_region();
    let ring = guest.ring(TX);
    let head = ring.take_descriptor();
    ring.write_descriptor(head, Descriptor { addr: HOTPLUG_BASE, len: 64, flags: 0, next: 0 });
    ring.hand_over(head, 1, BY_HAND);
    ring.kick();

    rig.program().wait_log("the front-end has truncated the memory that it had shared, and is disconnected");
    rig.program().wait_log("vm vm0: front-end gone");
    stream.finish(&mut other, 1000);
    // And there is room for another one.
    Rig::settle(&mut rig.guest(0));
}

#[test]
fn a_core_whose_memory_is_truncated_is_lost_and_its_successor_is_found() {
    let mut rig = Rig::start(Plan::with_sessions(1));
    let mut guest = rig.guest(0);
    Rig::settle(&mut guest);

    rig.core().command("hang");
    File::options().write(true).open(rig.place().memory).unwrap().set_len(0).unwrap();
    guest.send(HERE, 0x400, b"anybody?");
    guest.flush();

    rig.program().wait_log("a file with its memory was truncated");
    guest.wait_service_gone("rpmsg-raw");
    rig.kill_core();
    rig.start_core();
    let raw = guest.wait_service("rpmsg-raw");
    EchoStream::new(2, HERE, raw).finish(&mut guest, 1000);
}
