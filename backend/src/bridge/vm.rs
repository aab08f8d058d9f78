//! What the bridge knows of one VM: its queues, its session, its announcements.

mod saved;

use std::fs::File;

use log::Level;

use super::aliases::Aliases;
use super::counters::{Counters, Reason};
use super::directory::{Directory, View};
use super::held::Waiting;
use super::parties::GuestService;
use super::policy::VmPolicy;
use super::report::Stalls;
use crate::causes::Causes;
use crate::guest::Queue;
use crate::guest::port::QueueIndex;
use crate::guest::queue::QueueFault;
use crate::log_limit::LogLimit;
use crate::rpmsg::address::{Session, Slot, to_host};
use crate::rpmsg::{ANY_ADDRESS, NAME_SERVICE_ADDRESS, VIRTIO_RPMSG_F_NS};

/// Most services that a guest may have announced at a time: what the bridge remembers of it is bounded.
pub(super) const MAX_ANNOUNCEMENTS: usize = 256;

/// One VM.
#[derive(Debug)]
pub(super) struct Vm {
    /// Queue that the guest receives from.
    pub(super) to_guest: Option<Queue>,
    /// Queue that the guest transmits with.
    pub(super) from_guest: Option<Queue>,
    pub(super) account: Account,
}

/// What is known of a VM beside its queues.
#[derive(Debug)]
pub(super) struct Account {
    pub(super) name: String,
    slot: Slot,
    pub(super) policy: VmPolicy,
    /// Whether its next message waits for its turn at a serialized service.
    pub(super) waits_for_turn: bool,
    /// Number of the session, of the last one if there is none now.
    session: Session,
    /// Whether a driver is up, be it paused.
    in_session: bool,
    /// Whether the driver's rings have been used in this session. Until then nobody can tell, nor need care, whether
    /// rings that are handed over once more are a new driver's.
    progressed: bool,
    /// Services that the guest has announced in this session.
    pub(super) services: Vec<GuestService>,
    /// What the guest has been told of the remote's services.
    pub(super) view: View,
    /// Messages in the remote's buffers that wait for the guest.
    pub(super) waiting: Waiting,
    /// How many of these come before the next name service message.
    pub(super) before_news: usize,
    pub(super) counters: Counters,
    pub(super) stalls: Stalls,
    /// Used index of each queue, to the guest and from it, that the bridge had when the program before this one was killed,
    /// until it has the queue again.
    awaited: [Option<u16>; 2],
    log: LogLimit,
    /// For the counts at the end of a connection.
    reports: LogLimit,
}

impl Vm {
    pub(super) fn new(name: String, slot: Slot, policy: VmPolicy) -> Self {
        let account = Account {
            name,
            slot,
            policy,
            waits_for_turn: false,
            session: Session::default(),
            in_session: false,
            progressed: false,
            services: Vec::new(),
            view: View::default(),
            waiting: Waiting::default(),
            before_news: 0,
            counters: Counters::default(),
            stalls: Stalls::default(),
            awaited: [None; 2],
            log: LogLimit::default(),
            reports: LogLimit::default(),
        };
        Vm { to_guest: None, from_guest: None, account }
    }

    fn queue_mut(&mut self, index: QueueIndex) -> &mut Option<Queue> {
        match index {
            QueueIndex::ToGuest => &mut self.to_guest,
            QueueIndex::FromGuest => &mut self.from_guest,
        }
    }

    /// Both queues, to the guest and from it, if messages can pass: a driver is up and not paused.
    #[inline]
    pub(super) fn running(&mut self) -> Option<(&mut Queue, &mut Queue)> {
        Some((self.to_guest.as_mut()?, self.from_guest.as_mut()?))
    }

    /// Whether messages can pass, and the guest has made some available.
    #[inline]
    pub(super) fn has_something(&self) -> bool {
        self.to_guest.is_some() && self.from_guest.as_ref().is_some_and(Queue::has_available)
    }

    /// The guest has kicked this queue.
    #[inline]
    pub(super) fn kicked(&mut self, index: QueueIndex) {
        if let Some(queue) = self.queue_mut(index) {
            queue.drain_kick();
        }
    }

    /// The guest is to be interrupted by another descriptor.
    pub(super) fn call_by(&mut self, index: QueueIndex, call: Option<File>) {
        let Some(queue) = self.queue_mut(index) else { return };
        if let Err(error) = queue.call_by(call) {
            let text = format_args!("queue {index:?} interrupts nobody: {}", Causes(&error));
            self.account.say(Level::Warn, text);
        }
    }

    /// A queue is the bridge's now. Returns whether a session begins with it: with both queues there, the driver
    /// is not one that goes on after a pause.
    pub(super) fn give_queue(&mut self, index: QueueIndex, mut queue: Queue) -> bool {
        if let Some(used) = self.account.awaited[index as usize].take() {
            queue.resume(used);
        }
        *self.queue_mut(index) = Some(queue);
        let Some((to_guest, from_guest)) = self.running() else { return false };
        let is_fresh = to_guest.is_fresh() && from_guest.next_index() == 0;
        let new_driver = is_fresh && self.account.progressed;
        if new_driver {
            // Whoever comes up knows nothing; one that goes on has been told before.
            self.account.view = View::default();
        }
        new_driver || !self.account.in_session
    }

    /// Makes visible what was completed in this queue.
    pub(super) fn publish(&mut self, index: QueueIndex) {
        if let Some(queue) = self.queue_mut(index) {
            queue.publish();
        }
    }

    /// The queue is the front-end's again.
    pub(super) fn take_queue(&mut self, index: QueueIndex) -> Option<Queue> {
        let queue = self.queue_mut(index).take();
        self.account.progressed |= queue.as_ref().is_some_and(|queue| !queue.is_fresh());
        self.account.awaited[index as usize] = None;
        queue
    }

    /// Whether the driver understands the name service.
    pub(super) fn has_name_service(&self) -> bool {
        self.to_guest.as_ref().is_some_and(|queue| queue.features() & (1 << VIRTIO_RPMSG_F_NS) != 0)
    }
}

impl Account {
    pub(super) fn slot(&self) -> Slot {
        self.slot
    }

    /// The slot had another VM before, whose last session this was.
    pub(super) fn go_on_after(&mut self, session: Session) {
        self.session = session;
    }

    /// Begins a session: the next number, so that answers to the last one are told apart.
    pub(super) fn start_session(&mut self) {
        self.session = self.session.next();
        self.in_session = true;
        self.progressed = false;
        self.say(Level::Info, format_args!("driver is up (session {})", self.session.number()));
    }

    /// Ends the session, if there is one. Returns what the guest has announced, to be withdrawn.
    pub(super) fn end_session(&mut self) -> Vec<GuestService> {
        self.in_session = false;
        self.waits_for_turn = false;
        // A ring that does not come back had been used: whoever comes up on a fresh one is a new driver.
        self.progressed |= std::mem::take(&mut self.awaited) != [None; 2];
        std::mem::take(&mut self.services)
    }

    /// Whether a driver is up, be it paused.
    pub(super) fn is_in_session(&self) -> bool {
        self.in_session
    }

    /// The session's number.
    pub(super) fn session(&self) -> Session {
        self.session
    }

    /// Whether this very session is still going on.
    #[inline]
    pub(super) fn is_in(&self, session: Session) -> bool {
        self.in_session && session == self.session
    }

    /// Whether a message for this session may be delivered. Slot 0 has none: it is the identity.
    #[inline]
    pub(super) fn accepts(&self, session: Session) -> bool {
        self.in_session && (self.slot == Slot::ZERO || session == self.session)
    }

    /// The guest's address as the remote knows it: by arithmetic, or from the table where that has no room for it.
    /// `None` if the table has none either, or if no endpoint can have the address.
    #[inline]
    pub(super) fn host_address(&self, aliases: &mut Aliases, address: u32) -> Option<u32> {
        // An answer to the name service's own address would be taken for an announcement.
        if matches!(address, ANY_ADDRESS | NAME_SERVICE_ADDRESS) {
            return None;
        }
        let by_arithmetic =
            to_host(self.slot, self.session, address).filter(|_| !aliases.is_needed_for_all());
        by_arithmetic.or_else(|| aliases.endpoint(self.slot, address))
    }

    /// Whether the VM may send to a remote address where no service is announced.
    #[inline]
    pub(super) fn may_send_unannounced(&self, address: u32) -> bool {
        !self.policy.strict || self.policy.addresses.contains(&address)
    }

    /// Whether the remote knows everything that the guest has announced.
    #[inline]
    pub(super) fn has_told_remote(&self) -> bool {
        self.services.iter().all(|service| service.told)
    }

    /// Whether messages or announcements wait for the guest.
    #[inline]
    pub(super) fn awaits_something(&self, directory: &Directory) -> bool {
        !self.waiting.is_empty() || self.view.is_behind(directory)
    }

    /// Says that a queue is of no use until the driver sets it up anew.
    pub(super) fn queue_broke(&mut self, index: QueueIndex, fault: QueueFault) {
        let cause = Causes(&fault);
        let text = format_args!("queue {index:?} is left alone until its driver sets it up anew: {cause}");
        self.say(Level::Warn, text);
    }

    /// Logs what has become of the VM, at a bounded rate: a guest can come and go as fast as it likes.
    pub(super) fn say(&mut self, level: Level, text: std::fmt::Arguments<'_>) {
        self.log.say(level, format_args!("vm {}: {text}", self.name));
    }

    /// Logs the counts of the VM, whose front-end is gone. This has a limit of its own, so that nothing that a guest makes
    /// the program say about it keeps back what has become of its messages.
    pub(super) fn report(&mut self) {
        let text = format_args!("vm {}: front-end gone; so far {}", self.name, self.counters.figures());
        self.reports.say(Level::Info, text);
    }

    /// Counts a dropped message to or from a service.
    pub(super) fn drop_message(
        &mut self,
        reason: Reason,
        service: Option<usize>,
        detail: &dyn std::fmt::Display,
    ) {
        self.drop_messages(reason, service, 1, detail);
    }

    /// Counts several of them.
    pub(super) fn drop_messages(
        &mut self,
        reason: Reason,
        service: Option<usize>,
        count: u64,
        detail: &dyn std::fmt::Display,
    ) {
        self.counters.drop_messages(&self.name, reason, service, count, detail);
    }

    /// Counts messages that were waiting for the guest and are dropped.
    pub(super) fn drop_waiting(&mut self, reason: Reason, count: u64) {
        self.before_news = 0;
        self.drop_messages(reason, None, count, &"undelivered messages");
    }
}
