//! The inter-processor interrupts against their model.

use std::time::Duration;

use proptest::prelude::*;

use super::super::models::bench::{Bench, Op, ops};
use super::super::models::zynqmp_ipi::{Ipi, REMOTE};
use super::super::models::{Heard, Parts, RemoteOp};
use super::super::uio::tests::Tree;
use super::*;

fn open(parts: &mut Parts<Ipi>) -> ZynqmpIpi {
    ZynqmpIpi::new(parts.window(0), parts.window(1), parts.interrupt(0), REMOTE).unwrap()
}

fn bench() -> Bench<Ipi> {
    let mut parts = Parts::new(Ipi::new());
    let mailbox = open(&mut parts);
    Bench::new(&parts, mailbox)
}

#[test]
fn kicks_wait_until_the_remote_has_cleared_the_last_and_are_retried_by_timer() {
    let mut bench = bench();
    for vring in [1, 0, 1] {
        bench.kick(vring);
    }
    let at = bench.mailbox.retry_at().expect("no interrupt tells");
    bench.mailbox.flush(at);
    assert!(bench.mailbox.retry_at().unwrap() > at, "still busy: later");
    bench.remote(RemoteOp::Take);
    assert!(!bench.is_readable(), "no interrupt tells");
    bench.mailbox.flush(at);
    assert_eq!(bench.take_all(), [Heard::Vring(0)]);
    bench.mailbox.flush(at);
    assert_eq!(bench.take_all(), [Heard::Vring(1)], "kicked again after the first was sent");
    assert_eq!(bench.mailbox.retry_at(), None, "nothing waits any more");
    bench.settle();
}

#[test]
fn a_remote_that_is_dead_is_looked_at_ever_more_seldom() {
    let mut bench = bench();
    bench.kick(0);
    bench.kick(1);
    let start = bench.mailbox.retry_at().unwrap();
    let mut at = start;
    for _ in 0..100 {
        bench.mailbox.flush(at);
        at = bench.mailbox.retry_at().unwrap();
    }
    assert!(at - start > Duration::from_secs(10));
}

#[test]
fn an_interrupt_is_cleared_and_that_of_another_agent_is_not() {
    let mut bench = bench();
    assert!(!bench.is_readable(), "the other agent is masked");
    bench.remote(RemoteOp::Kick(0));
    assert!(bench.is_readable());
    assert_eq!(bench.receive(), Signals { vring: true, ..Signals::default() });
    assert!(!bench.is_readable());
    assert_eq!(bench.receive(), Signals::default(), "a spurious interrupt changes nothing");
    bench.settle();
}

#[test]
fn a_kick_that_comes_right_after_the_interrupt_was_cleared_is_seen() {
    let mut bench = bench();
    bench.remote(RemoteOp::Kick(0));
    // After ISR was read, after it was cleared.
    bench.script([None, Some(RemoteOp::Kick(1)), Some(RemoteOp::Kick(0))]);
    bench.play(Op::Turn);
    bench.settle();
}

#[test]
fn there_are_no_words_for_requests() {
    let mut bench = bench();
    for request in [Request::State, Request::Echo, Request::ShutDown, Request::Detach] {
        assert!(!bench.request(request));
    }
    assert_eq!(bench.take_all(), []);
    assert!(!bench.mailbox.wants_write());
}

#[test]
fn a_bit_that_does_not_exist_is_refused() {
    let mut parts = Parts::new(Ipi::new());
    let (registers, buffer) = (parts.window(0), parts.window(1));
    let error = ZynqmpIpi::new(registers, buffer, parts.interrupt(0), 32).unwrap_err().to_string();
    assert!(error.starts_with("bit 32 does not exist in this ZynqMP IPI, whose highest is 31"), "{error}");
}

#[test]
fn channel_and_buffer_are_opened_by_their_physical_addresses() {
    let tree = Tree::new();
    tree.add(0, "ipi-buffers", &[(0xFF99_0000, 0x1000, 0)]);
    tree.add(1, "ipi", &[(0xFF34_0000, 0x1000, 0), (0xFF34_1000, 0x1000, 0)]);
    let config = IpiConfig { channel: 0xFF34_1000, request_buffer: 0xFF99_0620, remote: REMOTE };
    let (channel, buffer) = (ZynqmpIpi::registers(config), ZynqmpIpi::buffer(config));
    let mut mailbox =
        ZynqmpIpi::open(tree.open(channel).unwrap(), &tree.open(buffer).unwrap(), config).unwrap();
    let (registers, buffer) = (tree.look_at(channel), tree.look_at(buffer));
    assert_eq!(registers.read32(IER), 1 << REMOTE);
    mailbox.kick(5);
    assert_eq!((buffer.read32(0), registers.read32(TRIG)), (5, 1 << REMOTE));
    assert!(tree.open(ZynqmpIpi::buffer(IpiConfig { request_buffer: 0, ..config })).is_err());
}

proptest! {
    #[test]
    fn nothing_is_lost_and_nothing_invented_in_any_order(ops in ops()) {
        bench().play_all(ops);
    }

    #[test]
    fn a_host_that_is_killed_at_any_register_leaves_nothing_in_the_way_of_the_next(
        access in 0..100_usize,
        before in ops(),
        after in ops(),
    ) {
        let mut bench = bench();
        bench.play_and_kill(before, access, open);
        bench.play_all(after);
    }
}
