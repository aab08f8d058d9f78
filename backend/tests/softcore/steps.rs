//! The core without thread, socket or time: each step is a call.

use proptest::prelude::*;
use vhost_device_rpmsg::softcore::{Config, Habits, Memory, SoftCore, UsedLength};

use crate::host::{Host, NOTIFY_IDS};
use crate::{RAW, SINK, SOURCE, request};

/// A core and a host that is up with so many receive buffers, announcements done or turned off.
fn pair(config: Config, buffers: usize) -> (SoftCore, Host) {
    let memory = Memory::memfd(&config.layout().unwrap()).unwrap();
    let core = SoftCore::new(config, memory).unwrap();
    let file = core.memory().file().try_clone().unwrap();
    let mut host = Host::new(file, core.memory().size(), core.memory().device_address(), None);
    host.bring_up_with(0, buffers);
    (core, host)
}

fn serve(core: &mut SoftCore) {
    while core.serve_once().more {}
}

#[test]
fn a_message_stays_in_the_hosts_ring_until_there_is_a_buffer_for_its_answer() {
    let (mut core, mut host) = pair(Config::default(), 0);
    for number in 0..10u8 {
        assert!(host.put(1024, RAW, &[number]));
    }
    serve(&mut core);
    assert!(host.reclaim().is_empty() && core.deadline().is_none());
    host.post(3);
    serve(&mut core);
    assert_eq!(host.reclaim().len(), 3);
    host.post(10);
    serve(&mut core);
    let numbers: Vec<u8> =
        std::iter::from_fn(|| host.try_receive_and_keep()).map(|message| message.payload[0]).collect();
    assert_eq!(numbers, (0..10).collect::<Vec<u8>>());
}

#[test]
fn a_sink_needs_no_buffers() {
    let (mut core, mut host) = pair(Config::default(), 0);
    for number in 0..100u32 {
        assert!(host.put(1024, SINK, &number.to_le_bytes()));
    }
    serve(&mut core);
    assert_eq!(host.reclaim().len(), 100);
    assert!(core.stats().contains("received=100 received_bytes=400 sent=0 sent_bytes=0 gaps=0"));
}

#[test]
fn scarce_buffers_are_shared_between_answers_and_what_was_asked_for() {
    let (mut core, mut host) = pair(Config::default(), 0);
    assert!(host.put(1100, SOURCE, &request(&[1000, 4])));
    for _ in 0..100 {
        assert!(host.put(1024, RAW, b"text"));
    }
    serve(&mut core);
    let mut from = [0, 0];
    for _ in 0..40 {
        host.post(1);
        serve(&mut core);
        let message = host.try_receive_and_keep().unwrap();
        from[usize::from(message.header.src == SOURCE)] += 1;
    }
    assert_eq!(from, [20, 20]);
}

#[test]
fn one_batch_costs_one_kick_each_way() {
    let (mut core, mut host) = pair(Config::default(), usize::MAX);
    core.bells().clear();
    for _ in 0..50 {
        assert!(host.put(1024, RAW, b"text"));
    }
    let served = core.serve_once();
    assert_eq!((served.received, served.sent, served.more), (50, 50, false));
    assert_eq!(core.bells().waiting(), NOTIFY_IDS);
}

#[test]
fn used_lengths_are_exact_or_those_of_the_buffer() {
    for (used_length, expected) in [(UsedLength::Exact, (20, 0)), (UsedLength::Buffer, (512, 20))] {
        let habits = Habits { used_length, ..Habits::default() };
        let (mut core, mut host) = pair(Config { habits, ..Config::default() }, 1);
        assert!(host.put(1024, RAW, b"text"));
        serve(&mut core);
        let consumed = host.tx.take(&host.memory).unwrap();
        assert_eq!((host.try_receive().unwrap().used_len, consumed.1), expected);
    }
}

#[test]
fn a_receive_buffer_that_is_none_is_returned_empty_and_the_next_one_used() {
    let (mut core, mut host) = pair(Config::default(), 0);
    let memory = host.memory.clone();
    for (address, len, flags) in [(0, 512, 2), (host.rx.buffer(1).0, 10, 2), (host.rx.buffer(2).0, 512, 0)] {
        let head = host.rx.free.pop().unwrap();
        host.rx.offer(&memory, head, address, len, flags);
    }
    host.post(1);
    assert!(host.put(1024, RAW, b"text"));
    serve(&mut core);
    for _ in 0..3 {
        assert_eq!(host.rx.take(&memory).unwrap().1, 0);
    }
    assert_eq!(host.try_receive().unwrap().payload, b"text");
}

#[test]
fn openamp_traces_are_left_in_reserved_on_both_sides() {
    let habits = Habits { scribble_reserved: true, keep: 2, ..Habits::default() };
    let config = Config { habits, ..Config::default() };
    let (mut core, mut host) = pair(config, usize::MAX);
    for _ in 0..4 {
        assert!(host.put(1024, RAW, b"text"));
    }
    serve(&mut core);
    let reserved: Vec<u32> =
        std::iter::from_fn(|| host.try_receive_and_keep()).map(|message| message.header.reserved).collect();
    assert_eq!(reserved, [0, 0x1_0001, 0x2_0002, 0x2_0003]);
    let left: u32 = host.word(host.tx.buffer(1).0 + 8);
    assert_eq!(left, 0x1_0001);
    assert_eq!(host.reclaim(), [0, 1], "two of four are kept");
}

#[test]
fn rest_sees_what_came_while_kicks_were_suppressed() {
    let habits = Habits { suppress_kicks: true, ..Habits::default() };
    let config = Config { habits, ..Config::default() };
    let (mut core, mut host) = pair(config, 0);
    serve(&mut core);
    assert!(host.put(1024, SINK, b"text"));
    assert!(core.rest());
    serve(&mut core);
    assert!(!core.rest());
    // A message that waits for a buffer is no reason to stay awake; a buffer is.
    assert!(host.put(1024, RAW, b"text"));
    serve(&mut core);
    assert!(!core.rest());
    serve(&mut core);
    host.post(1);
    assert!(core.rest());
}

#[test]
fn a_reset_that_was_not_seen_is_noticed_by_fresh_rings_or_by_other_places() {
    let (mut core, mut host) = pair(Config::default(), usize::MAX);
    assert!(host.put(1024, RAW, b"text"));
    serve(&mut core);
    host.bring_up_with(0, usize::MAX);
    assert!(host.put(1024, RAW, b"text"));
    serve(&mut core);
    assert_eq!(host.try_receive().unwrap().payload, b"text");

    host.rx.da -= 0x1_0000;
    host.bring_up_with(0, usize::MAX);
    assert!(host.put(1024, RAW, b"text"));
    serve(&mut core);
    assert_eq!(host.try_receive().unwrap().payload, b"text");
    assert!(core.stats().contains("links=3"), "{}", core.stats());

    host.write(host.tx.avail_at(2).0, 0x7000u16);
    serve(&mut core);
    assert!(core.stats().starts_with("state=broken"));
    host.bring_up_with(0, usize::MAX);
    serve(&mut core);
    assert!(core.stats().starts_with("state=up"));
}

#[test]
fn the_trace_buffer_tells_what_has_happened() {
    let (mut core, host) = pair(Config::default(), 0);
    core.serve_once();
    let mut text = [0; 64];
    vm_memory::Bytes::read_slice(&host.memory, &mut text, host.trace()).unwrap();
    assert!(text.starts_with(b"ready, waiting for a host\nlink is up"));
}

proptest! {
    #[test]
    fn whatever_a_host_writes_the_core_neither_panics_nor_runs_for_ever(
        writes in proptest::collection::vec((any::<u32>(), proptest::collection::vec(any::<u8>(), 1..64)), 1..40),
        in_rings: bool,
    ) {
        let (mut core, host) = pair(Config { buffers: 16, ..Config::default() }, 8);
        core.serve_once();
        let size = core.memory().size() - 64;
        for (place, bytes) in writes {
            // The table, or the ends where the host has put its rings.
            let offset = if in_rings { size - u64::from(place) % 0x40000 } else { u64::from(place) % 0x1000 };
            host.scribble(offset, &bytes);
            for _ in 0..4 {
                core.serve_once();
                core.rest();
            }
        }
        core.hear(0xF4);
        core.reboot().unwrap();
    }
}
