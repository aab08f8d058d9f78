//! Streams: everything arrives, in order, once, whatever the rings and however the guest keeps up.

use std::time::Instant;

use vhost_device_rpmsg::rpmsg::MAX_PAYLOAD;
use vhost_device_rpmsg::softcore::pattern;

use crate::harness::options::{DriverOptions, GuestOptions};
use crate::harness::rig::{Plan, Rig};
use crate::harness::stream::{EchoStream, scaled};

const HERE: u32 = 1024;

#[test]
fn a_million_messages_go_and_come_back_in_order_once_each() {
    let rig = Rig::start(Plan::default());
    let mut guest = rig.guest(0);
    let raw = guest.wait_service("rpmsg-raw");
    let count = scaled(1_000_000);
    let begin = Instant::now();

    let mut stream = EchoStream::new(1, HERE, raw);
    stream.finish(&mut guest, count);

    let rate = f64::from(count) / begin.elapsed().as_secs_f64();
    println!("echo of {count} messages of 4..=496 bytes: {rate:.0} messages/s each way; {}", guest.state());
}

#[test]
fn a_million_messages_each_way_at_once_that_have_nothing_to_do_with_each_other() {
    let mut rig = Rig::start(Plan::default());
    let mut guest = rig.guest(0);
    let (sink, source) = (guest.wait_service("sink"), guest.wait_service("source"));
    let count = scaled(1_000_000);
    let mut buffer = [0; MAX_PAYLOAD];
    let begin = Instant::now();

    let request = [count.to_le_bytes(), 496u32.to_le_bytes()].concat();
    guest.send(HERE, source, &request);
    let (mut sent, mut received) = (0, 0);
    guest.until("message of the source", |guest| {
        while sent < count {
            buffer[..4].copy_from_slice(&sent.to_le_bytes());
            if !guest.try_send(HERE + 1, sink, &buffer) {
                break;
            }
            sent += 1;
        }
        while let Some(message) = guest.try_recv() {
            assert_eq!((message.src, message.dst), (source, HERE));
            let mut expected = [0; MAX_PAYLOAD];
            pattern(received, &mut expected);
            assert!(
                message.payload == expected,
                "message {received} of the source: {:02x?}",
                message.payload
            );
            received += 1;
        }
        sent == count && received == count
    });
    let rate = f64::from(count) / begin.elapsed().as_secs_f64();
    println!("{count} messages of 496 bytes each way: {rate:.0} messages/s each way; {}", guest.state());
    Rig::settle(&mut guest);
    assert_eq!(rig.core().counter("sink", "received"), u64::from(count));
    assert_eq!(rig.core().counter("sink", "gaps"), 0);
    assert_eq!(rig.core().counter("sink", "repeated"), 0);
}

fn a_stream_arrives_with(driver: DriverOptions) {
    let rig = Rig::start(Plan::default());
    let mut guest = rig.guest_with(0, GuestOptions::with_driver(driver));
    let raw = guest.wait_service("rpmsg-raw");
    EchoStream::new(2, HERE, raw).finish(&mut guest, scaled(100_000));
}

#[test]
fn a_stream_arrives_without_event_idx() {
    a_stream_arrives_with(DriverOptions { event_idx: false, ..DriverOptions::default() });
}

#[test]
fn a_stream_arrives_through_indirect_and_scattered_descriptors() {
    a_stream_arrives_with(DriverOptions {
        ring_size: 1024,
        indirect: true,
        tx_cuts: vec![7, 20],
        rx_cuts: vec![15, 2, 200],
        guarded: true,
        ..DriverOptions::default()
    });
}

#[test]
fn a_stream_arrives_through_tiny_rings() {
    a_stream_arrives_with(DriverOptions { ring_size: 4, buffers: 4, ..DriverOptions::default() });
}

#[test]
fn a_stream_arrives_through_rings_of_1024_entries() {
    a_stream_arrives_with(DriverOptions { ring_size: 1024, buffers: 1024, ..DriverOptions::default() });
}

#[test]
fn a_stream_arrives_from_a_core_with_the_habits_of_openamp() {
    let habits = ["--used-length", "buffer", "--scribble-reserved", "--shuffle", "16"];
    let rig = Rig::start(Plan { core: habits.to_vec(), ..Plan::default() });
    let mut guest = rig.guest(0);
    let raw = guest.wait_service("rpmsg-raw");
    EchoStream::new(3, HERE, raw).finish(&mut guest, scaled(100_000));
}

#[test]
fn a_stream_arrives_from_a_core_that_never_tells_of_consumed_buffers() {
    let rig = Rig::start(Plan { core: vec!["--silent-consume"], ..Plan::default() });
    let mut guest = rig.guest(0);
    let raw = guest.wait_service("rpmsg-raw");
    EchoStream::new(4, HERE, raw).finish(&mut guest, scaled(10_000));
}

#[test]
fn a_guest_that_does_not_keep_up_loses_nothing() {
    let rig = Rig::start(Plan::default());
    let mut guest = rig.guest(0);
    let source = guest.wait_service("source");
    let count = 5_000u32;
    guest.withhold();

    guest.open(HERE);
    guest.send(HERE, source, &[count.to_le_bytes(), 64u32.to_le_bytes()].concat());
    let mut received = 0;
    while received < count {
        let message = guest.recv();
        assert_eq!(message.payload[..4], received.to_le_bytes());
        received += 1;
        if guest.posted() == 0 {
            guest.return_buffers();
            guest.withhold();
        }
    }
}
