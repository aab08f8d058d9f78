//! The TI mailbox against its model.

use proptest::prelude::*;

use super::super::models::bench::{Bench, Op, ops};
use super::super::models::omap_mailbox::{Latch, Omap};
use super::super::models::{Heard, Parts, RemoteOp, Word};
use super::super::uio::tests::Tree;
use super::*;

const OMAP4: OmapConfig =
    OmapConfig { version: OmapVersion::Omap4, receive_fifo: 0, transmit_fifo: 1, user: 0 };
const CONFIGS: [OmapConfig; 3] = [
    OMAP4,
    OmapConfig { version: OmapVersion::Omap2, receive_fifo: 1, transmit_fifo: 0, user: 3 },
    OmapConfig { version: OmapVersion::Omap4, receive_fifo: 15, transmit_fifo: 3, user: 3 },
];

fn all() -> impl Iterator<Item = (OmapConfig, Latch)> {
    CONFIGS.into_iter().flat_map(|config| [(config, Latch::State), (config, Latch::Event)])
}

fn open(parts: &mut Parts<Omap>, config: OmapConfig) -> OmapMailbox {
    OmapMailbox::new(parts.window(0), parts.interrupt(0), config).unwrap()
}

fn bench((config, latch): (OmapConfig, Latch)) -> Bench<Omap> {
    let mut parts = Parts::new(Omap::new(config, latch));
    let mailbox = open(&mut parts, config);
    Bench::new(&parts, mailbox)
}

#[test]
fn kicks_that_find_the_fifo_full_wait_and_are_sent_when_there_is_room() {
    for variant in all() {
        let mut bench = bench(variant);
        for vring in [0, 1, 0, 1, 0, 1, 0, 1] {
            bench.kick(vring);
        }
        assert!(!bench.is_readable(), "a remote that takes nothing wakes nobody");
        bench.remote(RemoteOp::Take);
        assert!(bench.turn(), "room wakes the host");
        assert_eq!(bench.take_all(), [1, 0, 1, 0].map(Heard::Vring));
        assert!(bench.turn(), "and again, for the last one");
        assert_eq!(bench.take_all(), [Heard::Vring(1)], "one of each was kept");
        assert!(!bench.turn(), "room that nobody waits for wakes nobody");
        bench.settle();
    }
}

#[test]
fn words_are_told_apart_and_what_means_nothing_is_counted() {
    for variant in all() {
        for (word, signals) in [
            (0, Signals { vring: true, ..Signals::default() }),
            (MAX_NOTIFYID, Signals { vring: true, ..Signals::default() }),
            (0xFFFF_FF00, Signals { ready: true, ..Signals::default() }),
            (0xFFFF_FF01, Signals { vring: true, ..Signals::default() }),
            (0xFFFF_FF02, Signals { crashed: true, ..Signals::default() }),
            (0xFFFF_FF03, Signals::default()),
            (0xFFFF_FF04, Signals { echo: true, ..Signals::default() }),
            (0xFFFF_FF05, Signals::default()),
            (0xFFFF_FF10, Signals::default()),
            (0xFFFF_FF11, Signals::default()),
            (0xFFFF_FF12, Signals::default()),
            (0xFFFF_FF13, Signals::default()),
            (0xFFFF_FF15, Signals { shut_down: true, ..Signals::default() }),
            (MAX_NOTIFYID + 1, Signals { unknown: 1, ..Signals::default() }),
            (0xFFFF_FF06, Signals { unknown: 1, ..Signals::default() }),
            (0xFFFF_FF14, Signals { unknown: 1, ..Signals::default() }),
            (u32::MAX, Signals { unknown: 1, ..Signals::default() }),
        ] {
            let mut bench = bench(variant);
            assert!(bench.world().controller.send(word));
            assert!(bench.is_readable());
            let mut received = Signals::default();
            bench.mailbox.receive(&mut received).unwrap();
            assert_eq!(received, signals, "{word:#x}");
            assert!(!bench.is_readable());
        }
    }
}

#[test]
fn a_heartbeat_is_asked_for_and_answered() {
    let mut bench = bench((OMAP4, Latch::Event));
    assert!(bench.request(Request::Echo));
    assert_eq!(bench.take_all(), [Heard::Request(Request::Echo)]);
    bench.remote(RemoteOp::Say(Word::Echo));
    assert!(bench.is_readable());
    assert_eq!(bench.receive(), Signals { echo: true, ..Signals::default() });
    bench.settle();
}

#[test]
fn a_shut_down_is_asked_for_and_answered() {
    let mut bench = bench((OMAP4, Latch::State));
    assert!(bench.request(Request::ShutDown));
    assert_eq!(bench.take_all(), [Heard::Request(Request::ShutDown)]);
    bench.remote(RemoteOp::Say(Word::ShutDown));
    assert_eq!(bench.receive(), Signals { shut_down: true, ..Signals::default() });
    bench.settle();
}

#[test]
fn a_request_that_finds_the_fifo_full_waits_behind_the_kicks() {
    let mut bench = bench((OMAP4, Latch::Event));
    for vring in [0, 1, 0, 1, 0] {
        bench.kick(vring);
    }
    assert!(bench.request(Request::Echo));
    assert_eq!(bench.take_all().len(), 4);
    assert!(bench.turn());
    assert_eq!(bench.take_all(), [Heard::Vring(0), Heard::Request(Request::Echo)]);
    bench.settle();
}

#[test]
fn there_is_no_word_to_ask_for_the_state_or_to_detach() {
    let mut bench = bench((OMAP4, Latch::Event));
    assert!(!bench.request(Request::State));
    assert!(!bench.request(Request::Detach));
    assert_eq!(bench.take_all(), []);
    assert!(!bench.mailbox.wants_write());
    assert_eq!(bench.mailbox.retry_at(), None);
}

#[test]
fn room_that_appears_while_the_host_begins_to_wait_for_it_is_seen() {
    for variant in all() {
        for accesses in 0..6 {
            let mut bench = bench(variant);
            for _ in 0..4 {
                bench.world().controller.fifos[usize::from(variant.0.transmit_fifo)].push_back(0);
            }
            // The only word that the remote takes, at any point of the host's look.
            bench.script(std::iter::repeat_n(None, accesses).chain([Some(RemoteOp::Take)]));
            bench.kick(1);
            bench.turns();
            let fifo = &bench.world().controller.fifos[usize::from(variant.0.transmit_fifo)];
            // The script may not have come to its end.
            assert!(fifo.len() == 4, "{variant:?}, after {accesses} accesses");
            assert!(accesses > 3 || fifo.back() == Some(&1), "{variant:?}, after {accesses} accesses");
        }
    }
}

#[test]
fn a_word_that_comes_while_the_host_clears_the_interrupt_is_seen() {
    for variant in all() {
        for accesses in 0..8 {
            let mut bench = bench(variant);
            bench.remote(RemoteOp::Kick(0));
            bench.script(std::iter::repeat_n(None, accesses).chain([Some(RemoteOp::Kick(1))]));
            bench.turns();
            assert!(bench.world().controller.received().is_empty(), "{variant:?}, after {accesses} accesses");
        }
    }
}

#[test]
fn a_remote_that_never_stops_talking_is_given_a_turn_at_a_time() {
    for variant in all() {
        // It may stop at any point of the host's look.
        for words in (120..280).step_by(3) {
            let mut bench = bench(variant);
            bench.remote(RemoteOp::Kick(0));
            bench.script(std::iter::repeat_n(Some(RemoteOp::Kick(1)), words));
            assert!(bench.turn());
            let left = !bench.world().controller.received().is_empty();
            assert!(!left || bench.is_readable(), "it goes on in the next turn, after {words} words");
            assert!(words < 260 || left, "two looks at {DRAIN} words are not enough");
            bench.settle();
        }
    }
}

#[test]
fn numbers_that_do_not_exist_are_refused() {
    for (config, what) in [
        (
            OmapConfig { receive_fifo: 16, ..OMAP4 },
            "FIFO 16 does not exist in this TI mailbox, whose highest is 15",
        ),
        (OmapConfig { transmit_fifo: 255, ..OMAP4 }, "FIFO 255 does not exist"),
        (OmapConfig { user: 4, ..OMAP4 }, "user 4 does not exist in this TI mailbox, whose highest is 3"),
    ] {
        let mut parts = Parts::new(Omap::new(OMAP4, Latch::State));
        let error = OmapMailbox::new(parts.window(0), parts.interrupt(0), config).unwrap_err().to_string();
        assert!(error.starts_with(what), "{error}");
    }
}

#[test]
fn it_is_opened_by_its_physical_address() {
    let tree = Tree::new();
    tree.add(0, "mailbox", &[(0x31F8_0000, 0x1000, 0), (0x31F8_1000, 0x1000, 0)]);
    let wanted = OmapMailbox::registers(0x31F8_1000);
    let mut mailbox = OmapMailbox::open(tree.open(wanted).unwrap(), OMAP4).unwrap();
    let registers = tree.look_at(wanted);
    assert_eq!((registers.read32(0x108), registers.read32(0x10C)), (1, 8), "NEWMSG on, NOTFULL off");
    mailbox.kick(5);
    assert_eq!(registers.read32(0x44), 5);
    assert!(tree.open(OmapMailbox::registers(0x31F8_2000)).is_err());
}

proptest! {
    #[test]
    fn nothing_is_lost_and_nothing_invented_in_any_order(which in 0..6_usize, ops in ops()) {
        bench(all().nth(which).unwrap()).play_all(ops);
    }

    #[test]
    fn a_host_that_is_killed_at_any_register_leaves_nothing_in_the_way_of_the_next(
        which in 0..6_usize,
        access in 0..100_usize,
        before in ops(),
        after in ops(),
    ) {
        let variant = all().nth(which).unwrap();
        let mut bench = bench(variant);
        bench.play_and_kill(before, access, |parts| open(parts, variant.0));
        bench.play_all(after);
    }
}

#[test]
fn a_spurious_interrupt_changes_nothing() {
    for variant in all() {
        let mut bench = bench(variant);
        bench.play(Op::Spurious);
        assert!(!bench.is_readable());
        bench.settle();
    }
}
