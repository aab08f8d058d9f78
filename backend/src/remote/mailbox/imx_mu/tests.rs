//! The messaging unit against its model.

use proptest::prelude::*;

use super::super::models::bench::{Bench, Op, ops};
use super::super::models::imx_mu::Mu;
use super::super::models::{Heard, Parts, RemoteOp, Word};
use super::super::uio::tests::Tree;
use super::*;

const CONFIGS: [MuConfig; 4] = [
    MuConfig { version: MuVersion::V1, channel: 1, word: MuWord::Shifted },
    MuConfig { version: MuVersion::V2, channel: 1, word: MuWord::Shifted },
    MuConfig { version: MuVersion::V1, channel: 0, word: MuWord::Plain },
    MuConfig { version: MuVersion::V2, channel: 3, word: MuWord::Plain },
];

fn open(parts: &mut Parts<Mu>, config: MuConfig) -> ImxMu {
    ImxMu::new(parts.window(0), parts.interrupt(0), config).unwrap()
}

fn bench_of(mu: Mu, config: MuConfig) -> Bench<Mu> {
    let mut parts = Parts::new(mu);
    let mailbox = open(&mut parts, config);
    Bench::new(&parts, mailbox)
}

fn bench(config: MuConfig) -> Bench<Mu> {
    bench_of(Mu::new(config), config)
}

#[test]
fn kicks_wait_in_the_host_while_the_remote_has_not_read_the_first() {
    for config in CONFIGS {
        let mut bench = bench(config);
        for vring in [0, 1, 0, 1] {
            bench.kick(vring);
        }
        assert!(!bench.is_readable(), "a remote that is still booting wakes nobody");
        bench.remote(RemoteOp::Take);
        assert!(bench.turn(), "its reading the word does");
        assert_eq!(bench.take_all(), [Heard::Vring(1)]);
        assert!(bench.turn());
        assert_eq!(bench.take_all(), [Heard::Vring(0)], "kicked again after the first was sent");
        bench.settle();
    }
}

#[test]
fn a_word_is_a_kick_whatever_it_says() {
    for config in CONFIGS {
        let mut bench = bench(config);
        bench.remote(RemoteOp::Kick(1));
        assert!(bench.is_readable());
        assert_eq!(bench.receive(), Signals { vring: true, ..Signals::default() });
        assert!(!bench.is_readable(), "the word was taken");
        bench.settle();
    }
}

#[test]
fn the_doorbell_says_that_the_remote_is_ready_once() {
    for config in CONFIGS {
        let mut bench = bench(config);
        bench.remote(RemoteOp::Say(Word::Ready));
        assert!(bench.is_readable());
        assert_eq!(bench.receive(), Signals { ready: true, ..Signals::default() });
        assert!(!bench.is_readable());
        assert_eq!(bench.receive(), Signals::default(), "a spurious interrupt changes nothing");
        bench.settle();
    }
}

#[test]
fn what_came_before_the_mailbox_was_opened_is_not_lost() {
    for config in CONFIGS {
        let mut mu = Mu::new(config);
        mu.receive[usize::from(config.channel)] = Some(7);
        let mut bench = bench_of(mu, config);
        bench.remote(RemoteOp::Say(Word::Ready));
        bench.remote(RemoteOp::Kick(0));
        assert!(bench.is_readable());
        assert!(bench.world().controller.receive[usize::from(config.channel)].is_some());
        let mut signals = Signals::default();
        bench.mailbox.receive(&mut signals).unwrap();
        assert_eq!(signals, Signals { vring: true, ready: true, ..Signals::default() });
    }
}

#[test]
fn a_word_that_comes_while_the_host_handles_another_is_seen() {
    let mut bench = bench(CONFIGS[0]);
    bench.remote(RemoteOp::Kick(0));
    // After the look at the doorbell, at the word, and between taking it and the next look.
    bench.script([None, None, None, Some(RemoteOp::Kick(1)), Some(RemoteOp::Say(Word::Ready))]);
    assert!(bench.turn());
    bench.settle();
}

#[test]
fn there_are_no_words_for_requests() {
    let mut bench = bench(CONFIGS[0]);
    for request in [Request::State, Request::Echo, Request::ShutDown, Request::Detach] {
        assert!(!bench.request(request));
    }
    assert_eq!(bench.take_all(), []);
    assert!(!bench.mailbox.wants_write());
    assert_eq!(bench.mailbox.retry_at(), None);
}

#[test]
fn a_channel_that_does_not_exist_is_refused() {
    let refused = |mu: Mu, config: MuConfig| {
        let mut parts = Parts::new(mu);
        ImxMu::new(parts.window(0), parts.interrupt(0), config).unwrap_err().to_string()
    };
    let config = MuConfig { channel: 4, ..CONFIGS[0] };
    assert!(
        refused(Mu::new(config), config)
            .starts_with("channel 4 does not exist in this i.MX messaging unit, whose highest is 3")
    );
    let config = MuConfig { channel: 1, ..CONFIGS[1] };
    for (transmit, receive) in [(1, 4), (4, 1)] {
        let error = refused(Mu::new(config).with_registers(transmit, receive), config);
        assert!(error.contains("whose highest is 0"), "{error}");
    }
    // Registers that read as 0 are not those of a messaging unit, or have no clock.
    assert!(refused(Mu::new(config).with_registers(0, 0), config).contains("whose highest is -1"));
}

#[test]
fn it_is_opened_by_its_physical_address() {
    let tree = Tree::new();
    tree.add(4, "mu", &[(0x30AA_0000, 0x1000, 0), (0x30AB_0000, 0x1000, 0)]);
    let wanted = ImxMu::registers(0x30AB_0000, CONFIGS[0]);
    let mut mailbox = ImxMu::open(tree.open(wanted).unwrap(), CONFIGS[0]).unwrap();
    let registers = tree.look_at(wanted);
    assert_eq!(registers.read32(0x24), 1 << 26 | 1 << 30, "RIE and GIE of channel 1");
    mailbox.kick(5);
    assert_eq!(
        registers.read32(0x24),
        1 << 22 | 1 << 26 | 1 << 30,
        "TIE too: the empty file is a full register"
    );
    registers.write32(0x20, 1 << 22);
    mailbox.flush(Instant::now());
    assert_eq!((registers.read32(0x4), registers.read32(0x24)), (5 << 16, 1 << 26 | 1 << 30));
    assert!(tree.open(ImxMu::registers(0x30AC_0000, CONFIGS[0])).is_err());
}

proptest! {
    #[test]
    fn nothing_is_lost_and_nothing_invented_in_any_order(which in 0..CONFIGS.len(), ops in ops()) {
        bench(CONFIGS[which]).play_all(ops);
    }

    #[test]
    fn a_host_that_is_killed_at_any_register_leaves_nothing_in_the_way_of_the_next(
        which in 0..CONFIGS.len(),
        access in 0..100_usize,
        before in ops(),
        after in ops(),
    ) {
        let mut bench = bench(CONFIGS[which]);
        bench.play_and_kill(before, access, |parts| open(parts, CONFIGS[which]));
        bench.play_all(after);
    }
}

#[test]
fn a_vring_that_is_kicked_all_the_time_does_not_keep_the_other_from_being_heard() {
    let mut bench = bench(CONFIGS[0]);
    bench.kick(0);
    bench.kick(1);
    let mut heard = Vec::new();
    for _ in 0..3 {
        bench.play(Op::Kick(0));
        heard.extend(bench.take_all());
        bench.turn();
    }
    assert!(heard.contains(&Heard::Vring(1)), "{heard:?}");
    bench.settle();
}
