//! What a capture sees of the messages, and what they see of it: nothing.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, channel};

use rtrb::Consumer;
use rustix::event::{EventfdFlags, eventfd};

use super::*;
use crate::bridge::tap::{Event, Filter, Record, Shared, Tapping, Way};
use crate::rpmsg::BUFFER_SIZE;

/// Somebody who captures at a bench.
struct Reader {
    ring: Consumer<Record>,
    shared: Arc<Shared>,
    /// VMs by their numbers.
    vms: Vec<String>,
    _tapping: Tapping,
}

fn capture(bench: &mut Bench, filter: Filter) -> Reader {
    let shared = Arc::new(Shared::new(eventfd(0, EventfdFlags::NONBLOCK).unwrap()));
    let (sender, events): (_, Receiver<Event>) = channel();
    let mut tapping = Tapping::new(filter, sender, Arc::clone(&shared));
    tapping.begin(&mut bench.relay);
    let (mut rings, mut vms) = (Vec::new(), Vec::new());
    for event in events.try_iter() {
        match event {
            Event::Ring(ring) => rings.push(ring),
            Event::Interface(_, name) => vms.push(name),
        }
    }
    Reader { ring: rings.pop().unwrap(), shared, vms, _tapping: tapping }
}

fn everything() -> Filter {
    Filter { slots: u128::MAX, services: Vec::new(), snap_length: BUFFER_SIZE }
}

impl Reader {
    fn records(&mut self) -> Vec<Record> {
        std::iter::from_fn(|| self.ring.pop().ok()).collect()
    }
}

#[test]
fn each_message_is_recorded_both_ways_as_it_is() {
    let mut bench = bench(&[0, 5]);
    let echo = bench.service("rpmsg-raw");
    let mut reader = capture(&mut bench, everything());
    assert_eq!(reader.vms, ["vm0", "vm5"]);
    for len in 0..=MAX_PAYLOAD {
        for vm in 0..2 {
            assert!(bench.guests[vm].send(1024, echo, &payload(len, vm)));
        }
        bench.settle();
        let records = reader.records();
        assert_eq!(records.len(), 4);
        for (vm, host) in [(0, 1024), (1, 5 << 24 | 1 << 20 | 1024)] {
            let of_vm: Vec<_> = records.iter().filter(|record| record.interface == vm).collect();
            for (record, way, addresses) in
                [(of_vm[0], Way::ToRemote, (1024, echo)), (of_vm[1], Way::ToGuest, (echo, 1024))]
            {
                let seen = record.seen;
                assert_eq!((seen.way, seen.host, (seen.header.src, seen.header.dst)), (way, host, addresses));
                assert_eq!(record.bytes()[HEADER_LEN..], payload(len, vm as usize));
                assert_eq!(
                    (seen.dropped, seen.service),
                    (None, Some(ServiceName::new("rpmsg-raw").unwrap()))
                );
            }
        }
        bench.guests.iter_mut().for_each(|guest| assert!(guest.receive().is_some()));
    }
}

#[test]
fn a_full_ring_loses_records_and_no_message() {
    let mut bench = bench(&[3]);
    let echo = bench.service("rpmsg-raw");
    let mut reader = capture(&mut bench, everything());
    for number in 0..3000 {
        assert!(bench.guests[0].send(1024, echo, &payload(100, number)));
        bench.settle();
        let (_, bytes) = bench.guests[0].receive().unwrap();
        assert_eq!(bytes, payload(100, number));
    }
    let (kept, lost) = (reader.records().len(), reader.shared.lost[3].load(Ordering::Relaxed));
    assert_eq!((kept, lost), (4096, 6000 - 4096));
}

#[test]
fn nothing_is_allocated_for_a_record() {
    let mut bench = bench(&[0]);
    let echo = bench.service("rpmsg-raw");
    let mut reader = capture(&mut bench, everything());
    for number in 0..32 {
        assert!(bench.guests[0].send(1024, echo, &payload(496, number)));
    }
    assert_eq!(allocation_counter::measure(|| bench.sweep()).count_total, 0, "to the remote");
    while bench.step_core() {}
    assert_eq!(allocation_counter::measure(|| bench.sweep()).count_total, 0, "to the guest");
    assert_eq!(reader.records().len(), 64);
}

#[test]
fn what_is_not_asked_for_is_not_recorded() {
    let mut bench = bench(&[1, 2]);
    let (echo, sink) = (bench.service("rpmsg-raw"), bench.service("sink"));
    let services = vec![ServiceName::new("rpmsg-raw").unwrap()];
    let mut reader = capture(&mut bench, Filter { slots: 1 << 2, services, snap_length: HEADER_LEN + 4 });
    assert_eq!(reader.vms, ["vm2"]);
    for guest in &mut bench.guests {
        assert!(guest.send(1024, echo, b"to the echo") && guest.send(1024, sink, b"to the sink"));
    }
    bench.settle();
    let records = reader.records();
    assert_eq!(records.len(), 2);
    for record in records {
        assert_eq!((record.seen.slot.number(), &record.bytes()[HEADER_LEN..]), (2, &b"to t"[..]));
    }
}

#[test]
fn a_message_that_is_dropped_is_recorded_with_the_reason() {
    let mut bench = bench(&[1]);
    let echo = bench.service("rpmsg-raw");
    let mut reader = capture(&mut bench, everything());
    assert!(bench.guests[0].send(u32::MAX, echo, b"from nobody"));
    bench.settle();
    let records = reader.records();
    assert_eq!(records.len(), 1);
    assert_eq!(records[0].seen.dropped, Some(Reason::BadAddress));
    assert_eq!(&records[0].bytes()[HEADER_LEN..], b"from nobody");
}
