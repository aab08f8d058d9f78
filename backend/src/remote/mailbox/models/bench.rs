//! Both sides of a controller, and the books of what was said and heard.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use proptest::collection::vec;
use proptest::prelude::*;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::super::{Mailbox, Request, Signals};
use super::{Controller, Heard, Killed, Parts, RemoteOp, VRINGS, Word, World};

const REQUESTS: [Request; 4] = [Request::State, Request::Echo, Request::ShutDown, Request::Detach];

/// What was said and whether it was heard. Times are numbers that only grow.
#[derive(Debug, Default)]
pub(in crate::remote::mailbox) struct Books {
    now: u64,
    /// When the host last began to kick each vring, and when the remote was last told to look at it.
    kicked: [u64; VRINGS],
    looked: [u64; VRINGS],
    /// When the remote last kicked and how often, and when and how often the host noticed.
    remote_kicked: (u64, u64),
    noticed: (u64, u64),
    said: [(u64, u64); Word::ALL.len()],
    noticed_words: [(u64, u64); Word::ALL.len()],
    /// When and how often the host asked what the remote is to take out of the mailbox, and when and how often it did.
    asked: [(u64, u64); REQUESTS.len()],
    heard: [(u64, u64); REQUESTS.len()],
    /// Kicks of the remote for which there was no room.
    pub(super) refused: Vec<u32>,
}

impl Books {
    fn tick(&mut self) -> u64 {
        self.now += 1;
        self.now
    }

    /// Returns what was known before, for a request that turns out to be none.
    fn host_asks(&mut self, request: Request) -> (u64, u64) {
        let before = self.asked[request as usize];
        self.asked[request as usize] = (self.tick(), before.1 + 1);
        before
    }

    fn host_kicks(&mut self, vring: u32) {
        self.kicked[vring as usize] = self.tick();
    }

    pub(super) fn remote_kicked(&mut self) {
        self.remote_kicked = (self.tick(), self.remote_kicked.1 + 1);
    }

    pub(super) fn remote_said(&mut self, word: Word) {
        self.said[word as usize] = (self.tick(), self.said[word as usize].1 + 1);
    }

    pub(super) fn remote_heard(&mut self, heard: Heard) {
        match heard {
            Heard::Vring(vring) => self.looked[vring as usize] = self.tick(),
            Heard::Request(request) => {
                self.heard[request as usize] = (self.tick(), self.heard[request as usize].1 + 1);
            }
        }
    }

    fn host_noticed(&mut self, signals: &Signals) {
        let now = self.tick();
        if signals.vring {
            self.noticed = (now, self.noticed.1 + 1);
        }
        let words = [signals.ready, signals.crashed, signals.echo, signals.shut_down, signals.detached];
        for (noticed, _) in self.noticed_words.iter_mut().zip(words).filter(|(_, word)| *word) {
            *noticed = (now, noticed.1 + 1);
        }
        assert!(!signals.running && signals.unknown == 0, "nobody said so");
        self.assert_nothing_invented();
    }

    /// A host that has just started looks at everything, and does not know what its predecessor was told or had to say.
    fn host_is_new(&mut self) {
        let now = self.tick();
        self.noticed.0 = now;
        for noticed in &mut self.noticed_words {
            noticed.0 = now;
        }
        for (asked, heard) in self.asked.iter_mut().zip(&self.heard) {
            asked.0 = heard.0;
        }
    }

    /// Everything that the host noticed was said; several sayings may be noticed as one.
    fn assert_nothing_invented(&self) {
        assert!(self.noticed.1 <= self.remote_kicked.1, "the host heard a kick that was none: {self:?}");
        for (said, noticed) in self.said.iter().zip(&self.noticed_words) {
            assert!(noticed.1 <= said.1, "the host heard a word that was not said: {self:?}");
        }
    }

    /// Each kick was followed by a look, each word by its notice.
    fn assert_nothing_lost(&self) {
        for (kicked, looked) in self.kicked.iter().zip(&self.looked) {
            assert!(looked >= kicked, "the remote missed a kick: {self:?}");
        }
        assert!(self.noticed.0 >= self.remote_kicked.0, "the host missed a kick: {self:?}");
        for (said, noticed) in self.said.iter().zip(&self.noticed_words) {
            assert!(noticed.0 >= said.0, "the host missed a word: {self:?}");
        }
        assert!(self.refused.is_empty(), "the remote still has to kick: {self:?}");
        for (asked, heard) in self.asked.iter().zip(&self.heard) {
            assert!(heard.0 >= asked.0, "the remote missed a request: {self:?}");
            assert!(heard.1 <= asked.1, "the remote heard a request that was not made: {self:?}");
        }
    }
}

/// A mailbox with its controller, played by hand.
pub(in crate::remote::mailbox) struct Bench<C> {
    world: Arc<Mutex<World<C>>>,
    pub(in crate::remote::mailbox) mailbox: Box<dyn Mailbox>,
    now: Instant,
}

/// Something that happens.
#[derive(Clone, Debug)]
pub(in crate::remote::mailbox) enum Op {
    /// The host kicks a vring.
    Kick(u32),
    Request(Request),
    /// The event loop looks whether there is something to do.
    Turn,
    /// The event loop looks although there is nothing to do.
    Spurious,
    /// The retry timer expires.
    Timer,
    Remote(RemoteOp),
    /// What the remote does between the host's next register accesses.
    Script(Vec<Option<RemoteOp>>),
}

fn vring() -> impl Strategy<Value = u32> {
    0..u32::try_from(VRINGS).unwrap()
}

fn remote_op() -> impl Strategy<Value = RemoteOp> {
    prop_oneof![
        3 => vring().prop_map(RemoteOp::Kick),
        3 => Just(RemoteOp::Take),
        1 => prop::sample::select(Word::ALL.to_vec()).prop_map(RemoteOp::Say),
    ]
}

/// Anything in any order.
pub(in crate::remote::mailbox) fn ops() -> impl Strategy<Value = Vec<Op>> {
    let op = prop_oneof![
        6 => vring().prop_map(Op::Kick),
        1 => prop::sample::select(REQUESTS.to_vec()).prop_map(Op::Request),
        4 => Just(Op::Turn),
        1 => Just(Op::Spurious),
        2 => Just(Op::Timer),
        4 => remote_op().prop_map(Op::Remote),
        4 => vec(prop::option::of(remote_op()), 1..12).prop_map(Op::Script),
    ];
    vec(op, 1..60)
}

impl<C: Controller> Bench<C> {
    pub(in crate::remote::mailbox) fn new(parts: &Parts<C>, mailbox: impl Mailbox + 'static) -> Self {
        Bench { world: Arc::clone(&parts.world), mailbox: Box::new(mailbox), now: Instant::now() }
    }

    pub(in crate::remote::mailbox) fn world(&self) -> MutexGuard<'_, World<C>> {
        self.world.lock().unwrap()
    }

    /// Whether the event loop would wake up.
    pub(in crate::remote::mailbox) fn is_readable(&self) -> bool {
        self.world().settle_lines();
        let descriptor = self.mailbox.descriptor();
        let mut descriptors = [PollFd::from_borrowed_fd(descriptor, PollFlags::IN)];
        poll(&mut descriptors, Some(&Timespec::default())).unwrap() == 1
    }

    pub(in crate::remote::mailbox) fn kick(&mut self, vring: u32) {
        self.world().books.host_kicks(vring);
        self.mailbox.kick(vring);
    }

    /// Asks, and expects the remote to hear it.
    pub(in crate::remote::mailbox) fn request(&mut self, request: Request) -> bool {
        // The remote may hear it before the call returns, also if that is because the host is killed.
        let before = self.world().books.host_asks(request);
        let sent = self.mailbox.request(request);
        if !(sent && C::TAKES_REQUESTS) {
            self.world().books.asked[request as usize] = before;
        }
        sent
    }

    /// What the event loop does when it wakes up.
    pub(in crate::remote::mailbox) fn receive(&mut self) -> Signals {
        let mut signals = Signals::default();
        self.mailbox.flush(self.now);
        self.mailbox.receive(&mut signals).unwrap();
        self.world().books.host_noticed(&signals);
        signals
    }

    /// Wakes up if there is a reason.
    pub(in crate::remote::mailbox) fn turn(&mut self) -> bool {
        let due = self.mailbox.retry_at().is_some_and(|at| at <= self.now);
        let awake = self.is_readable() || due;
        if awake {
            self.receive();
        }
        awake
    }

    /// Wakes up as long as there is a reason, without the remote's doing anything new.
    pub(in crate::remote::mailbox) fn turns(&mut self) {
        for _ in 0..100 {
            if !self.turn() {
                return;
            }
        }
        panic!("the host wakes up for ever");
    }

    fn timer(&mut self) -> bool {
        let at = self.mailbox.retry_at();
        if let Some(at) = at {
            assert!(at < self.now + Duration::from_secs(1), "a look comes soon enough");
            self.now = self.now.max(at);
        }
        at.is_some()
    }

    pub(in crate::remote::mailbox) fn remote(&mut self, op: RemoteOp) {
        self.world().remote(op);
    }

    /// What the remote takes out of its mailbox, all of it.
    pub(in crate::remote::mailbox) fn take_all(&mut self) -> Vec<Heard> {
        let mut world = self.world();
        let mut all = Vec::new();
        while let Some(heard) = world.controller.take() {
            world.books.remote_heard(heard);
            all.push(heard);
        }
        all
    }

    pub(in crate::remote::mailbox) fn script(&mut self, ops: impl IntoIterator<Item = Option<RemoteOp>>) {
        self.world().script.extend(ops);
    }

    pub(in crate::remote::mailbox) fn play(&mut self, op: Op) {
        match op {
            Op::Kick(vring) => self.kick(vring),
            Op::Request(request) => drop(self.request(request)),
            Op::Turn => drop(self.turn()),
            Op::Spurious => drop(self.receive()),
            Op::Timer => drop(self.timer()),
            Op::Remote(op) => self.remote(op),
            Op::Script(ops) => self.script(ops),
        }
    }

    /// Lets both sides do what they still have to do, and checks that nothing was lost and that all is quiet.
    pub(in crate::remote::mailbox) fn settle(&mut self) {
        for _ in 0..1000 {
            let heard = !self.take_all().is_empty();
            self.answer();
            let refused = std::mem::take(&mut self.world().books.refused);
            let waiting = !refused.is_empty();
            for vring in refused {
                self.remote(RemoteOp::Kick(vring));
            }
            let awake = self.turn() || self.timer();
            if !(heard || waiting || awake) {
                let world = self.world();
                world.books.assert_nothing_lost();
                world.controller.assert_idle();
                return;
            }
        }
        panic!("it never comes to rest");
    }

    /// Plays until the host is killed at this register access, if it gets so far. Then another one takes the controller
    /// over, as `open` does it, kicks all vrings and looks.
    pub(in crate::remote::mailbox) fn play_and_kill<M: Mailbox + 'static>(
        &mut self,
        ops: Vec<Op>,
        access: usize,
        open: impl FnOnce(&mut Parts<C>) -> M,
    ) {
        self.world().life = Some(access);
        let played = catch_unwind(AssertUnwindSafe(|| ops.into_iter().for_each(|op| self.play(op))));
        if let Err(cause) = played
            && !cause.is::<Killed>()
        {
            resume_unwind(cause);
        }
        {
            let mut world = self.world();
            (world.life, world.script) = (None, VecDeque::new());
        }
        self.answer();
        self.world().books.host_is_new();
        self.mailbox = Box::new(open(&mut Parts::again(&self.world)));
        for vring in 0..VRINGS {
            self.kick(u32::try_from(vring).unwrap());
        }
        self.receive();
    }

    /// Answers what stands in channels of requests.
    fn answer(&mut self) {
        if !C::TAKES_REQUESTS {
            self.remote(RemoteOp::Say(Word::ShutDown));
            self.remote(RemoteOp::Say(Word::Detached));
        }
    }

    /// Plays everything, then settles.
    pub(in crate::remote::mailbox) fn play_all(&mut self, ops: Vec<Op>) {
        for op in ops {
            self.play(op);
        }
        self.world().script = VecDeque::new();
        self.settle();
    }
}
