//! Single messages: every size there and back, with every kind of ring.

use vhost_device_rpmsg::rpmsg::MAX_PAYLOAD;

use crate::harness::guest::Guest;
use crate::harness::options::{DriverOptions, GuestOptions};
use crate::harness::rig::{Plan, Rig};

/// The guest's endpoint in these tests.
const HERE: u32 = 1024;

fn echo_all_sizes(guest: &mut Guest) {
    let raw = guest.wait_service("rpmsg-raw");
    for size in 0..=MAX_PAYLOAD {
        let payload: Vec<u8> = (0..size).map(|i| (i * 7 + size).to_le_bytes()[0]).collect();
        guest.echo(HERE, raw, &payload);
    }
}

fn every_size_comes_back(driver: DriverOptions) {
    let rig = Rig::start(Plan::default());
    let mut guest = rig.guest_with(0, GuestOptions::with_driver(driver));
    echo_all_sizes(&mut guest);
}

#[test]
fn every_payload_size_comes_back_as_it_was() {
    every_size_comes_back(DriverOptions { guarded: true, ..DriverOptions::default() });
}

#[test]
fn every_payload_size_comes_back_without_event_idx() {
    every_size_comes_back(DriverOptions { event_idx: false, guarded: true, ..DriverOptions::default() });
}

#[test]
fn every_payload_size_comes_back_through_indirect_descriptors() {
    every_size_comes_back(DriverOptions { indirect: true, guarded: true, ..DriverOptions::default() });
}

#[test]
fn every_payload_size_comes_back_through_rings_of_1024_entries() {
    every_size_comes_back(DriverOptions { ring_size: 1024, buffers: 1024, ..DriverOptions::default() });
}

#[test]
fn every_payload_size_comes_back_through_rings_of_2_entries() {
    every_size_comes_back(DriverOptions { ring_size: 2, buffers: 2, ..DriverOptions::default() });
}

#[test]
fn a_header_split_anywhere_over_descriptors_is_put_together() {
    let rig = Rig::start(Plan::default());
    for indirect in [false, true] {
        for split in 1..16 {
            let mut guest = rig.guest_with(
                0,
                GuestOptions::with_driver(DriverOptions {
                    ring_size: 1024,
                    indirect,
                    guarded: true,
                    tx_cuts: vec![split, 16 - split, 5],
                    rx_cuts: vec![16 - split, split, 100],
                    ..DriverOptions::default()
                }),
            );
            let raw = guest.wait_service("rpmsg-raw");
            for size in [0, 1, 4, 5, 6, 99, 100, 101, 495, 496] {
                guest.echo(HERE, raw, &vec![0x5A; size]);
            }
        }
    }
}

#[test]
fn the_loopback_core_serves_every_socket_without_any_configuration() {
    use crate::harness::program::Program;
    let dir = tempfile::TempDir::new().unwrap();
    let socket = dir.path().join("s");

    let program = Program::spawn(["-s".as_ref(), socket.as_os_str(), "-c".as_ref(), "2".as_ref()]);
    program.wait_ready();

    for name in ["s0", "s1"] {
        let mut guest = Guest::connect(&dir.path().join(name), GuestOptions::default());
        echo_all_sizes(&mut guest);
    }
}
