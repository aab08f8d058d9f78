//! Sessions against a model of the daemon: one that was replayed into a fresh daemon is like one that never was.

use proptest::prelude::*;
use rustix::fs::{MemfdFlags, memfd_create};

use super::daemon::{Closed, Daemon, FEATURES, PROTOCOL, Used, id};
use super::*;

const SIZE: u64 = 0x1000;

/// A front-end with a daemon and the memory of their session.
#[derive(Default)]
struct Bench {
    session: Session,
    daemon: Daemon,
    used: Used,
}

fn file() -> OwnedFd {
    memfd_create("test", MemfdFlags::CLOEXEC).unwrap()
}

fn region(number: u64, user: u64) -> Region {
    Region { guest: 0x1_0000 * (number + 1), size: SIZE, user, offset: 0 }
}

fn with_fd(mut message: Message) -> Message {
    message.fds = vec![file()];
    message
}

fn add(region: Region) -> Message {
    with_fd(Message::new(FrontendReq::ADD_MEM_REG, bytes(&[&[0][..], &region.words()].concat())))
}

fn remove(region: Region) -> Message {
    Message::new(FrontendReq::REM_MEM_REG, bytes(&[&[0][..], &region.words()].concat()))
}

fn table(regions: &[Region]) -> Message {
    let mut words = vec![regions.len() as u64];
    words.extend(regions.iter().flat_map(|region| region.words()));
    let mut message = Message::new(FrontendReq::SET_MEM_TABLE, bytes(&words));
    message.fds = regions.iter().map(|_| file()).collect();
    message
}

fn addresses(ring: u64, user: u64) -> Message {
    Message::new(FrontendReq::SET_VRING_ADDR, bytes(&[ring, user, user + 0x100, user + 0x200, 0]))
}

fn kick(ring: u8) -> Message {
    with_fd(number(FrontendReq::SET_VRING_KICK, ring.into()))
}

fn answer(request: FrontendReq, value: u64) -> Message {
    let mut answer = number(request, value);
    answer.flags_for_test(true, false);
    answer
}

impl Bench {
    /// Sends a message. Returns the answer, or `Err` where the daemon does not take it, which is then as it was.
    fn send(&mut self, message: Message) -> Result<Option<u64>, Closed> {
        let before = self.daemon.clone();
        let fds: Vec<_> = message.fds.iter().map(id).collect();
        let reply = self.daemon.take(&message, &fds, &self.used).inspect_err(|_| self.daemon = before)?;
        let change = message.change().unwrap();
        assert_eq!(self.session.expects_reply(&message, &change), reply.is_some(), "{message:?}");
        let is_memory = matches!(change, Change::Table(_) | Change::Add(_));
        let said = reply.map(|reply| answer(message.request, reply));
        self.session.apply(change, message.fds, said.as_ref());
        if is_memory {
            for message in self.session.overdue() {
                self.daemon.take(&message, &[], &self.used).unwrap();
            }
        }
        Ok(reply)
    }

    fn all(&mut self, messages: impl IntoIterator<Item = Message>) {
        for message in messages {
            self.send(message).unwrap();
        }
    }

    /// The daemon dies, and another one gets the session replayed.
    fn kill(&mut self) {
        let mut fresh = Daemon::default();
        for (mut message, fds) in self.session.replay() {
            message.fds = fds.iter().map(|fd| fd.try_clone_to_owned().unwrap()).collect();
            let fds: Vec<_> = fds.iter().map(id).collect();
            fresh.take(&message, &fds, &self.used).unwrap_or_else(|Closed| panic!("refused: {message:?}"));
        }
        self.daemon = fresh;
    }

    /// Live rings move on.
    fn work(&mut self, ring: usize) {
        if self.daemon.is_live(ring) {
            self.used[ring] += 3;
        }
    }

    /// The daemon is killed now: nothing is different after that.
    fn is_the_same_after_a_kill(&mut self) {
        let before = self.daemon.seen();
        self.kill();
        assert_eq!(self.daemon.seen(), before);
    }
}

/// A front-end that has done all that QEMU does until the rings run.
fn running() -> Bench {
    let mut bench = Bench::default();
    bench.all([
        empty(FrontendReq::GET_FEATURES),
        empty(FrontendReq::GET_PROTOCOL_FEATURES),
        number(FrontendReq::SET_PROTOCOL_FEATURES, PROTOCOL),
        empty(FrontendReq::SET_OWNER),
        number(FrontendReq::SET_FEATURES, FEATURES),
        add(region(0, 0x70_0000)),
    ]);
    for ring in 0..2 {
        bench.all([
            pair(FrontendReq::SET_VRING_NUM, ring, 256),
            pair(FrontendReq::SET_VRING_BASE, ring, 0),
            addresses(ring.into(), 0x70_0000 + 0x400 * u64::from(ring)),
            kick(ring),
            with_fd(number(FrontendReq::SET_VRING_CALL, ring.into())),
            with_fd(number(FrontendReq::SET_VRING_ERR, ring.into())),
            pair(FrontendReq::SET_VRING_ENABLE, ring, 1),
        ]);
    }
    assert!(bench.daemon.is_live(0) && bench.daemon.is_live(1));
    bench
}

#[test]
fn rings_that_run_go_on() {
    let mut bench = running();
    bench.work(0);
    bench.is_the_same_after_a_kill();
    assert!(bench.daemon.is_live(0) && bench.daemon.is_live(1));
}

#[test]
fn nothing_is_replayed_of_a_front_end_that_has_said_nothing() {
    assert!(Session::default().is_fresh());
    assert!(!running().session.is_fresh());
    Bench::default().is_the_same_after_a_kill();
}

#[test]
fn a_ring_that_was_stopped_is_not_started_and_knows_where_it_stopped() {
    let mut bench = running();
    bench.work(0);
    let stopped = bench.send(pair(FrontendReq::GET_VRING_BASE, 0, 0)).unwrap();
    bench.is_the_same_after_a_kill();
    assert!(!bench.daemon.is_live(0) && bench.daemon.is_live(1));
    assert_eq!(bench.send(pair(FrontendReq::GET_VRING_BASE, 0, 0)).unwrap(), stopped);
}

#[test]
fn a_ring_that_was_disabled_tells_where_it_stopped() {
    let mut bench = running();
    bench.work(1);
    bench.all([pair(FrontendReq::SET_VRING_ENABLE, 1, 0)]);
    bench.is_the_same_after_a_kill();
    assert_eq!(bench.send(pair(FrontendReq::GET_VRING_BASE, 1, 0)).unwrap(), Some(1 | 3 << 32));
}

#[test]
fn a_request_that_was_not_answered_is_answered_by_the_next_daemon() {
    let mut bench = running();
    bench.work(0);
    // Carried out, but the answer was lost with the daemon.
    let request = || pair(FrontendReq::GET_VRING_BASE, 0, 0);
    bench.daemon.take(&request(), &[], &bench.used).unwrap();
    bench.kill();
    assert!(bench.daemon.is_live(0));
    assert_eq!(bench.send(request()).unwrap(), Some(3 << 32));
}

#[test]
fn a_kick_without_a_descriptor_stops_a_ring_until_there_is_one() {
    let mut bench = running();
    bench.all([number(FrontendReq::SET_VRING_KICK, 0x100)]);
    bench.is_the_same_after_a_kill();
    assert!(!bench.daemon.is_live(0));
    bench.all([kick(0)]);
    assert!(bench.daemon.is_live(0));
}

#[test]
fn a_ring_whose_memory_is_away_gets_its_addresses_when_it_is_back() {
    let mut bench = running();
    bench.all([remove(region(0, 0x70_0000))]);
    bench.kill();
    assert!(!bench.daemon.is_live(0));
    // Elsewhere in the front-end, and the same to the guest.
    bench.all([add(region(0, 0x90_0000))]);
    assert!(bench.daemon.is_live(0) && bench.daemon.is_live(1));
}

#[test]
fn a_table_takes_the_place_of_all_memory() {
    let mut bench = running();
    bench.all([add(region(1, 0x80_0000)), table(&[region(0, 0x50_0000), region(2, 0x60_0000)])]);
    bench.is_the_same_after_a_kill();
    assert_eq!(bench.daemon.regions.len(), 2);
    assert!(bench.daemon.is_live(0));
}

#[test]
fn resets_are_replayed_as_far_as_they_go() {
    for reset in [FrontendReq::RESET_DEVICE, FrontendReq::RESET_OWNER] {
        let mut bench = running();
        bench.work(0);
        bench.all([empty(reset)]);
        bench.is_the_same_after_a_kill();
        // Enabling takes features again.
        bench.send(pair(FrontendReq::SET_VRING_ENABLE, 0, 1)).unwrap_err();
        bench.all([number(FrontendReq::SET_FEATURES, FEATURES), pair(FrontendReq::SET_VRING_ENABLE, 0, 1)]);
        bench.is_the_same_after_a_kill();
    }
}

#[test]
fn features_without_the_protocol_enable_all_rings() {
    let mut bench = running();
    bench.all([pair(FrontendReq::SET_VRING_ENABLE, 0, 0), number(FrontendReq::SET_FEATURES, 1)]);
    bench.is_the_same_after_a_kill();
    assert!(bench.daemon.is_live(0));
}

#[test]
fn acknowledgements_are_on_once_features_were_asked_for() {
    let acknowledged = |request| {
        let mut message = number(request, 0);
        message.flags_for_test(false, true);
        message
    };
    let mut bench = Bench::default();
    let protocol = || {
        let mut message = number(FrontendReq::SET_PROTOCOL_FEATURES, PROTOCOL);
        message.flags_for_test(false, true);
        message
    };
    assert_eq!(bench.send(protocol()).unwrap(), None);
    bench.all([empty(FrontendReq::GET_FEATURES)]);
    assert_eq!(bench.send(protocol()).unwrap(), Some(0));
    bench.kill();
    assert_eq!(bench.send(acknowledged(FrontendReq::SET_FEATURES)).unwrap(), Some(0));
}

/// A message, and whether an acknowledgement is wanted.
#[derive(Clone, Debug)]
enum Step {
    Say(u8, u8, u8, bool),
    Work(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let say =
        (0..17_u8, 0..4_u8, 0..4_u8, any::<bool>()).prop_map(|(what, a, b, ack)| Step::Say(what, a, b, ack));
    let step = prop_oneof![8 => say, 1 => (0..2_usize).prop_map(Step::Work)];
    (any::<bool>(), prop::collection::vec(step, 0..120)).prop_map(|(runs, steps)| {
        // Half of them begin with rings that run.
        let first = if runs { RUNNING } else { &[] };
        let first = first.iter().map(|(what, a, b)| Step::Say(*what, *a, *b, false));
        first.chain(steps).collect()
    })
}

/// The messages by which a front-end has its rings run, see [`message`].
const RUNNING: &[(u8, u8, u8)] = &[
    (0, 0, 0),
    (1, 0, 0),
    (2, 0, 0),
    (3, 1, 0),
    (5, 0, 0),
    (10, 0, 0),
    (13, 0, 1),
    (16, 0, 1),
    (10, 1, 0),
    (13, 1, 1),
    (16, 1, 1),
];

/// The message of a step. Some of them are not taken by any daemon.
fn message(what: u8, a: u8, b: u8) -> Message {
    let (ring, user) = (a % 2, 0x10_0000 * (1 + u64::from(b)));
    match what {
        0 => empty(FrontendReq::GET_FEATURES),
        1 => number(FrontendReq::SET_PROTOCOL_FEATURES, PROTOCOL),
        2 => empty(FrontendReq::SET_OWNER),
        3 => number(FrontendReq::SET_FEATURES, if a == 0 { 1 } else { FEATURES }),
        4 => empty(if a == 0 { FrontendReq::RESET_OWNER } else { FrontendReq::RESET_DEVICE }),
        5 => add(region(a.into(), user)),
        6 => remove(region(a.into(), user)),
        7 => table(&[region(a.into(), user), region(u64::from(a) + 4, user + 0x1_0000)]),
        8 => pair(FrontendReq::SET_VRING_NUM, ring, 1 << b),
        9 => pair(FrontendReq::SET_VRING_BASE, ring, b.into()),
        10 | 11 => addresses(ring.into(), user),
        12 => pair(FrontendReq::GET_VRING_BASE, ring, 0),
        13 if b == 0 => number(FrontendReq::SET_VRING_KICK, u64::from(ring) | 0x100),
        13 => kick(ring),
        14 => with_fd(number(FrontendReq::SET_VRING_CALL, ring.into())),
        15 => with_fd(number(FrontendReq::SET_VRING_ERR, ring.into())),
        _ => pair(FrontendReq::SET_VRING_ENABLE, ring, u32::from(b != 0)),
    }
}

proptest! {
    #[test]
    fn a_session_with_a_kill_anywhere_is_like_one_without(steps in steps(), kills in prop::collection::vec(0..120_usize, 1..4)) {
        let (mut killed, mut steady) = (Bench::default(), Bench::default());
        for (at, step) in steps.iter().enumerate() {
            if kills.contains(&at) {
                killed.kill();
            }
            match *step {
                Step::Work(ring) => {
                    killed.work(ring);
                    steady.work(ring);
                }
                Step::Say(what, a, b, ack) => {
                    let mut to_killed = message(what, a, b);
                    to_killed.flags_for_test(false, ack);
                    let mut to_steady = Message::new(to_killed.request, to_killed.body.clone());
                    to_steady.fds = to_killed.fds.iter().map(|fd| fd.try_clone().unwrap()).collect();
                    to_steady.flags_for_test(false, ack);
                    // What a ring without its memory comes to has a test of its own.
                    let mut after = steady.daemon.clone();
                    if after.take(&to_steady, &[0; 2], &steady.used).is_ok() && !after.has_its_memory() {
                        continue;
                    }
                    let replies = (killed.send(to_killed), steady.send(to_steady));
                    prop_assert_eq!(replies.0.ok(), replies.1.ok());
                }
            }
        }
        killed.kill();
        prop_assert_eq!(killed.daemon.seen(), steady.daemon.seen());
    }
}
