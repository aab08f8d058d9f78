//! What becomes of messages when the remote is lost in the middle of them.

use super::super::counters::Reason;
use crate::bridge::bench::Bench;
use crate::guest::port::QueueIndex;

/// Messages that the core has answered without anybody having looked at its vrings since.
const ANSWERED: u32 = 8;

fn bench_with_answers_in_the_vring() -> Bench {
    let mut bench = super::bench(&[0]);
    let echo = bench.service("rpmsg-raw");
    for number in 0..ANSWERED {
        assert!(bench.guests[0].send(1024, echo, &number.to_le_bytes()));
    }
    bench.sweep();
    assert!(bench.step_core());
    bench
}

/// Numbers of the answers that the guest has received, up to the first announcement.
fn answers(bench: &mut Bench) -> Vec<Vec<u8>> {
    let received = std::iter::from_fn(|| bench.guests[0].receive());
    received.take_while(|(header, _)| header.dst == 1024).map(|(_, bytes)| bytes).collect()
}

fn all_answers() -> Vec<Vec<u8>> {
    (0..ANSWERED).map(|number| number.to_le_bytes().to_vec()).collect()
}

#[test]
fn what_a_core_has_answered_before_it_crashed_is_delivered_and_not_lost() {
    let mut bench = bench_with_answers_in_the_vring();

    bench.core.crash();
    // Its kick and its last word are heard at once.
    bench.step_core();
    bench.settle();

    assert_eq!(answers(&mut bench), all_answers());
    assert_eq!(bench.account(0).counters.figures().dropped(Reason::RemoteLost), 0);
}

#[test]
fn what_a_core_has_answered_before_it_booted_anew_is_delivered_and_not_lost() {
    let mut bench = bench_with_answers_in_the_vring();

    bench.core.reboot().unwrap();
    bench.step_core();
    bench.settle();

    assert_eq!(answers(&mut bench), all_answers());
    assert_eq!(bench.account(0).counters.figures().dropped(Reason::RemoteLost), 0);
    bench.pass_time();
    bench.settle();
    let echo = bench.service("rpmsg-raw");
    bench.guests[0].announcements();
    assert!(bench.guests[0].send(1024, echo, b"again"));
    bench.settle();
    assert_eq!(bench.guests[0].receive().unwrap().1, b"again");
}

#[test]
fn answers_of_a_core_that_is_lost_after_its_line_was_cut_are_counted_as_lost_and_what_it_consumed_is_not() {
    let mut bench = super::bench(&[0]);
    let echo = bench.service("rpmsg-raw");
    for number in 0..ANSWERED {
        assert!(bench.guests[0].send(1024, echo, &number.to_le_bytes()));
    }
    bench.sweep();

    bench.relay.cut_off(bench.now);
    bench.step_core();
    bench.relay.lost(bench.now);

    assert_eq!(bench.account(0).counters.figures().dropped(Reason::RemoteLost), u64::from(ANSWERED));
    assert_eq!(bench.core.stats().matches(" received=8 sent=14 ").count(), 1, "{}", bench.core.stats());
}

#[test]
fn what_a_core_has_not_consumed_before_it_crashed_is_lost_and_counted() {
    let mut bench = super::bench(&[0]);
    let echo = bench.service("rpmsg-raw");
    bench.core.hang();
    for number in 0..ANSWERED {
        assert!(bench.guests[0].send(1024, echo, &number.to_le_bytes()));
    }
    bench.sweep();

    bench.core.crash();
    bench.settle();

    assert!(answers(&mut bench).is_empty());
    assert_eq!(bench.account(0).counters.figures().dropped(Reason::RemoteLost), u64::from(ANSWERED));
}

#[test]
fn what_the_last_of_a_core_has_brought_is_published_before_a_queue_is_given_back() {
    let mut bench = bench_with_answers_in_the_vring();

    bench.core.crash();
    bench.step_core();
    // The front-end stops its rings before anything else happens.
    bench.hear();
    let slot = bench.slots[0];
    let queue = bench.relay.take_queue(slot, QueueIndex::ToGuest).unwrap();

    assert!(!queue.is_behind());
    assert_eq!(answers(&mut bench), all_answers());
}
