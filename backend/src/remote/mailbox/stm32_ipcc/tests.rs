//! The inter-processor communication controller against its model.

use std::time::Duration;

use proptest::prelude::*;

use super::super::models::bench::{Bench, Op, ops};
use super::super::models::stm32_ipcc::Ipcc;
use super::super::models::{Heard, Parts, RemoteOp, Word};
use super::super::uio::tests::Tree;
use super::*;

fn config(processor: u8) -> IpccConfig {
    IpccConfig { processor, vrings: vec![0, 1], shut_down: Some(2), detach: Some(3) }
}

/// Whether there is a TX-free interrupt.
const LINES: [bool; 2] = [true, false];

fn open(parts: &mut Parts<Ipcc>, config: IpccConfig, free_line: bool) -> Stm32Ipcc {
    let (receive, transmit) = (parts.interrupt(0), parts.interrupt(1));
    Stm32Ipcc::new(parts.window(0), receive, free_line.then_some(transmit), config).unwrap()
}

fn bench_of(ipcc: Ipcc, config: IpccConfig, free_line: bool) -> Bench<Ipcc> {
    let mut parts = Parts::new(ipcc);
    let mailbox = open(&mut parts, config, free_line);
    Bench::new(&parts, mailbox)
}

fn bench(free_line: bool) -> Bench<Ipcc> {
    bench_of(Ipcc::new(config(0), 6), config(0), free_line)
}

/// What the event loop does when a channel that the host waits for was freed.
fn receive_when_told(bench: &mut Bench<Ipcc>, free_line: bool) -> Signals {
    assert_eq!(bench.is_readable(), free_line);
    assert_eq!(bench.mailbox.retry_at().is_some(), !free_line, "a line, or a timer");
    bench.receive()
}

#[test]
fn a_kick_that_finds_its_channel_occupied_waits_until_it_is_free() {
    for free_line in LINES {
        let mut bench = bench(free_line);
        bench.kick(0);
        assert!(!bench.is_readable(), "a channel that nobody waits for wakes nobody");
        bench.kick(0);
        bench.kick(1);
        assert!(!bench.is_readable());
        assert_eq!(bench.take_all(), [Heard::Vring(0), Heard::Vring(1)]);
        receive_when_told(&mut bench, free_line);
        assert_eq!(bench.take_all(), [Heard::Vring(0)]);
        assert!(!bench.is_readable());
        assert_eq!(bench.mailbox.retry_at(), None);
        bench.settle();
    }
}

#[test]
fn a_kick_of_the_remote_is_received_and_its_channel_freed() {
    for free_line in LINES {
        let mut bench = bench(free_line);
        bench.remote(RemoteOp::Kick(1));
        assert!(bench.is_readable());
        assert_eq!(bench.receive(), Signals { vring: true, ..Signals::default() });
        assert!(!bench.is_readable());
        bench.remote(RemoteOp::Kick(1));
        assert_eq!(bench.receive(), Signals { vring: true, ..Signals::default() }, "free for the next");
        assert_eq!(bench.receive(), Signals::default(), "a spurious interrupt changes nothing");
        bench.settle();
    }
}

#[test]
fn a_request_is_answered_when_the_remote_frees_its_channel_and_not_before() {
    let (shut_down, detached) =
        (Signals { shut_down: true, ..Signals::default() }, Signals { detached: true, ..Signals::default() });
    for (request, word, answer) in
        [(Request::ShutDown, Word::ShutDown, shut_down), (Request::Detach, Word::Detached, detached)]
    {
        for free_line in LINES {
            let mut bench = bench(free_line);
            assert!(bench.request(request));
            assert!(!bench.is_readable());
            assert_eq!(bench.receive(), Signals::default(), "no answer yet");
            bench.remote(RemoteOp::Say(word));
            assert_eq!(receive_when_told(&mut bench, free_line), answer);
            assert_eq!(bench.receive(), Signals::default(), "answered once");
            assert!(bench.request(request), "and can be asked again");
            bench.remote(RemoteOp::Say(word));
            assert_eq!(receive_when_told(&mut bench, free_line), answer);
            bench.settle();
        }
    }
}

#[test]
fn a_request_that_is_repeated_is_answered_once() {
    for free_line in LINES {
        let mut bench = bench(free_line);
        assert!(bench.request(Request::ShutDown));
        bench.remote(RemoteOp::Say(Word::ShutDown));
        assert!(bench.request(Request::ShutDown), "the answer is there, but not seen yet");
        assert_eq!(bench.world().controller.by_host, 0, "nothing was sent again");
        assert!(receive_when_told(&mut bench, free_line).shut_down);
        bench.settle();
    }
}

#[test]
fn a_request_that_a_predecessor_has_left_is_not_sent_again() {
    let mut ipcc = Ipcc::new(config(0), 6);
    ipcc.by_host = 1 << 2;
    let mut bench = bench_of(ipcc, config(0), true);
    assert!(bench.request(Request::ShutDown));
    bench.remote(RemoteOp::Say(Word::ShutDown));
    assert!(receive_when_told(&mut bench, true).shut_down);
    bench.settle();
}

#[test]
fn a_kick_that_a_predecessor_has_left_does_not_swallow_the_next() {
    let mut ipcc = Ipcc::new(config(0), 6);
    ipcc.by_host = 1;
    let mut bench = bench_of(ipcc, config(0), true);
    bench.kick(0);
    bench.remote(RemoteOp::Take);
    receive_when_told(&mut bench, true);
    assert_eq!(bench.take_all(), [Heard::Vring(0)]);
    bench.settle();
}

#[test]
fn what_has_no_channel_is_not_said() {
    let few = IpccConfig { shut_down: None, detach: None, ..config(0) };
    let mut bench = bench_of(Ipcc::new(few.clone(), 2), few, true);
    for request in [Request::State, Request::Echo, Request::ShutDown, Request::Detach] {
        assert!(!bench.request(request));
    }
    bench.mailbox.kick(2);
    assert_eq!(bench.world().controller.by_host, 0, "nothing was sent");
    assert!(!bench.mailbox.wants_write());
    bench.settle();
}

#[test]
fn a_remote_that_is_dead_is_looked_at_ever_more_seldom() {
    let mut bench = bench(false);
    bench.kick(0);
    bench.kick(0);
    let start = bench.mailbox.retry_at().unwrap();
    let mut at = start;
    for _ in 0..100 {
        bench.mailbox.flush(at);
        at = bench.mailbox.retry_at().unwrap();
    }
    assert!(at - start > Duration::from_secs(10));
}

#[test]
fn numbers_that_do_not_exist_are_refused() {
    for (config, what) in [
        (
            IpccConfig { vrings: vec![0, 6], ..config(0) },
            "channel 6 does not exist in this STM32 IPCC, whose highest is 5",
        ),
        (IpccConfig { shut_down: Some(16), ..config(0) }, "channel 16 does not exist"),
        (IpccConfig { detach: Some(255), ..config(0) }, "channel 255 does not exist"),
        (config(2), "processor 2 does not exist in this STM32 IPCC, whose highest is 1"),
    ] {
        let mut parts = Parts::new(Ipcc::new(self::config(0), 6));
        let error =
            Stm32Ipcc::new(parts.window(0), parts.interrupt(0), None, config).unwrap_err().to_string();
        assert!(error.starts_with(what), "{error}");
    }
}

#[test]
fn it_is_opened_by_its_physical_address_and_the_names_of_its_devices() {
    let tree = Tree::new();
    tree.add(0, "ipcc-rx", &[(0, 0x1000, 0), (0x4C00_1000, 0x1000, 0)]);
    tree.add(1, "ipcc-tx", &[(0, 0x1000, 0), (0x4C00_1000, 0x1000, 0)]);
    let name = |name: &str| Some(name.to_owned());
    let nodes = IpccNodes { receive: name("ipcc-rx"), transmit: name("ipcc") };
    let registers = tree.look_at(Stm32Ipcc::registers(0x4C00_1000, &nodes));
    registers.write32(HWCFGR, 6);
    for own in [IpccNodes::default(), IpccNodes { receive: name("ipcc-rx"), transmit: None }] {
        let receive = tree.open(Stm32Ipcc::registers(0x4C00_1000, &own)).unwrap();
        let mut mailbox = Stm32Ipcc::open(receive, None, config(0)).unwrap();
        assert_eq!((registers.read32(CR), registers.read32(MR)), (CR_RX_ON, !3));
        mailbox.kick(1);
        assert_eq!(registers.read32(SCR), 1 << 17);
    }
    let transmit = Stm32Ipcc::transmit_registers(0x4C00_1000, &nodes).unwrap();
    let error = tree.open(transmit).unwrap_err();
    assert!(error.to_string().contains("called \"ipcc\""), "{error}");
}

proptest! {
    #[test]
    fn nothing_is_lost_and_nothing_invented_in_any_order(
        processor in 0..2_u8,
        free_line: bool,
        ops in ops(),
    ) {
        bench_of(Ipcc::new(config(processor), 6), config(processor), free_line).play_all(ops);
    }

    #[test]
    fn a_host_that_is_killed_at_any_register_leaves_nothing_in_the_way_of_the_next(
        processor in 0..2_u8,
        free_line: bool,
        access in 0..100_usize,
        before in ops(),
        after in ops(),
    ) {
        let config = config(processor);
        let mut bench = bench_of(Ipcc::new(config.clone(), 6), config.clone(), free_line);
        bench.play_and_kill(before, access, |parts| open(parts, config, free_line));
        bench.play_all(after);
    }
}

#[test]
fn a_kick_that_comes_while_the_host_frees_the_channel_is_seen() {
    for free_line in LINES {
        for accesses in 0..6 {
            let mut bench = bench(free_line);
            bench.remote(RemoteOp::Kick(0));
            bench.script(std::iter::repeat_n(None, accesses).chain([Some(RemoteOp::Kick(1))]));
            bench.play(Op::Turn);
            bench.settle();
        }
    }
}
