//! Front-ends that break the vhost-user protocol: it costs them their connection at most. The next one is served, nothing
//! of them is left in the program, and other VMs notice nothing.

use std::io::{IoSlice, Read};
use std::net::Shutdown;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use vhost::VhostUserMemoryRegionInfo;
use vhost::vhost_user::VhostUserFrontend;
use vhost::{VhostBackend, VringConfigData};

use super::beside;
use crate::harness::driver::{RX, TX};
use crate::harness::guest::Guest;
use crate::harness::ram::{HOTPLUG_BASE, HOTPLUG_SIZE, MAIN_BASE, MAIN_SIZE};
use crate::harness::rig::{Plan, Rig};
use crate::harness::ring::DriverRing;

/// vhost-user requests by number (QEMU `docs/interop/vhost-user.rst`).
const SET_OWNER: u32 = 3;
const SET_MEM_TABLE: u32 = 5;
const SET_VRING_KICK: u32 = 12;
const SET_VRING_CALL: u32 = 13;
const ADD_MEM_REG: u32 = 37;
/// Most descriptors that the kernel passes with one message (`SCM_MAX_FD`).
const MOST_DESCRIPTORS: usize = 253;

/// Has front-ends of one VM do something while the other VM looks on; afterwards both are served, and the program holds no
/// more than before.
fn nothing_is_left_of(misbehave: impl FnOnce(&Rig)) {
    let mut rig = Rig::start(Plan::with_sessions(2));
    let mut other = rig.guest(1);
    all_done(&mut other);
    let held = |rig: &mut Rig| {
        let mut guest = rig.guest(0);
        Rig::settle(&mut guest);
        all_done(&mut guest);
        let held = rig.program().footprint();
        (held.fds, held.threads)
    };
    let before = held(&mut rig);

    beside(&mut other, || misbehave(&rig));

    assert_eq!(held(&mut rig), before, "descriptors and threads");
}

/// Waits until the program is done with everything that this front-end has sent.
fn all_done(guest: &mut Guest) {
    guest.vmm().frontend().get_queue_num().expect("the connection goes on");
}

/// A message: its head, whatever its length says, and its body.
fn message(request: u32, body: &[u64], len: u32) -> Vec<u8> {
    let head = [request, 1, len].map(u32::to_le_bytes);
    head.concat().into_iter().chain(body.iter().flat_map(|word| word.to_le_bytes())).collect()
}

/// Sends this to VM 0 as a front-end of its own, with some descriptors, and waits until the program has hung up.
fn send_and_hang_up(rig: &Rig, bytes: &[u8], descriptors: usize) {
    let mut stream = UnixStream::connect(rig.socket(0)).expect("connection to the backend");
    let (end, _other_end) = UnixStream::pair().expect("something to pass");
    let files = vec![end.as_fd(); descriptors];
    let mut space = vec![std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_DESCRIPTORS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    assert!(files.is_empty() || control.push(SendAncillaryMessage::ScmRights(&files)));
    let sent = sendmsg(&stream, &[IoSlice::new(bytes)], &mut control, SendFlags::NOSIGNAL);
    assert_eq!(sent.expect("a message that fits"), bytes.len());
    stream.shutdown(Shutdown::Write).expect("half of the connection closed");
    let _reset_or_answer = stream.read_to_end(&mut Vec::new());
}

#[test]
fn messages_that_break_off() {
    nothing_is_left_of(|rig| {
        let region = [1, 0, MAIN_BASE, MAIN_SIZE as u64, 0x7000_0000, 0];
        let table = message(SET_MEM_TABLE, &region[..5], 40);
        for len in 0..table.len() {
            send_and_hang_up(rig, &table[..len], usize::from(len > 0));
        }
        // Bodies that are shorter or longer than the message is, or than anything is.
        for len in [0, 1, 7, 39, 41, 4096, 4097, u32::MAX] {
            send_and_hang_up(rig, &message(SET_MEM_TABLE, &region[..5], len), 1);
        }
    });
}

#[test]
fn more_descriptors_than_regions() {
    nothing_is_left_of(|rig| {
        for request in [SET_OWNER, SET_MEM_TABLE, SET_VRING_KICK, SET_VRING_CALL, ADD_MEM_REG] {
            for count in [0, 2, 8, 9, 32, MOST_DESCRIPTORS] {
                let body = [1, MAIN_BASE, 0x1000, 0x7000_0000, 0];
                send_and_hang_up(rig, &message(request, &body, 40), count);
                // Descriptors in the middle of nothing.
                send_and_hang_up(rig, &[0xFF], count);
            }
        }
    });
}

#[test]
fn a_storm_of_connections() {
    nothing_is_left_of(|rig| {
        for _ in 0..10 {
            let crowd: Vec<_> =
                (0..30).map(|_| UnixStream::connect(rig.socket(0)).expect("connected")).collect();
            drop(crowd);
        }
        for _ in 0..100 {
            send_and_hang_up(rig, &message(SET_OWNER, &[], 0), 0);
        }
    });
}

/// A region like the guest's own, but somewhere else.
fn moved(guest: &Guest, base: u64, size: u64) -> VhostUserMemoryRegionInfo {
    VhostUserMemoryRegionInfo { guest_phys_addr: base, memory_size: size, ..guest.ram().hotplug_region() }
}

#[test]
fn regions_of_memory_that_overlap() {
    nothing_is_left_of(|rig| {
        // Into the end and the beginning of the guest's memory, all of it, round the end of all addresses, and none.
        let end = MAIN_BASE + MAIN_SIZE as u64;
        for (base, size) in
            [(end - 0x1000, 0x2000), (MAIN_BASE - 0x1000, 0x2000), (MAIN_BASE, MAIN_SIZE as u64)]
                .into_iter()
                .chain([(u64::MAX - 0xFFF, 0x2000), (HOTPLUG_BASE, 0)])
        {
            let mut guest = rig.guest(0);
            Rig::settle(&mut guest);
            let region = moved(&guest, base, size);
            assert!(guest.vmm().add_region(&region).is_err(), "{size:#x} bytes at {base:#x} taken");

            // The harness may have refused it by itself.
            drop(guest);
            let mut guest = rig.guest(0);
            Rig::settle(&mut guest);
            let both = [guest.ram().main_region(), region];
            assert!(guest.vmm().set_memory_table(&both).is_err(), "{size:#x} bytes at {base:#x} taken");
        }
    });
}

#[test]
fn a_region_of_memory_that_its_file_does_not_hold() {
    nothing_is_left_of(|rig| {
        for size in [HOTPLUG_SIZE as u64 + 0x1000, 1 << 40] {
            let mut guest = rig.guest(0);
            Rig::settle(&mut guest);
            let region = moved(&guest, HOTPLUG_BASE, size);
            assert!(guest.vmm().add_region(&region).is_err(), "{size:#x} bytes taken");
        }
    });
}

#[test]
fn rings_that_move_while_they_run() {
    nothing_is_left_of(|rig| {
        let mut guest = rig.guest(0);
        Rig::settle(&mut guest);
        let [rx, tx] = guest.rings().map(DriverRing::config);
        for round in 0..50 {
            // The driver itself looks at its rings no more, after what is done to them.
            guest.ring(RX).force_kick();
            guest.ring(TX).force_kick();
            // Onto memory that nothing is in, and onto each other.
            let empty = guest.ram().host_address(MAIN_BASE + 0x70_0000);
            let elsewhere = |used| VringConfigData { used_ring_addr: used, ..rx };
            let frontend = guest.vmm().frontend();
            for used in [empty, tx.used_ring_addr] {
                frontend.set_vring_addr(RX, &elsewhere(used)).expect("sent");
            }
            frontend.set_vring_num(TX, 1 << (round % 11)).expect("sent");
            frontend.set_vring_base(TX, 0x1234).expect("sent");
            frontend.set_vring_addr(TX, &rx).expect("sent");
            drop(frontend);
            all_done(&mut guest);
        }
        // To where no alignment allows.
        let crooked = VringConfigData { used_ring_addr: rx.used_ring_addr + 1, ..rx };
        guest.vmm().frontend().set_vring_addr(RX, &crooked).expect("sent");
        guest.vmm().frontend().get_queue_num().expect_err("the connection is over");
    });
}
