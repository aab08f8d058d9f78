//! What the bridge knows of one VM: its queues, its session, its announcements.

use log::Level;

use super::counters::{Counters, Reason};
use super::directory::View;
use super::held::Waiting;
use crate::causes::Causes;
use crate::guest::Queue;
use crate::guest::port::QueueIndex;
use crate::guest::queue::QueueFault;
use crate::log_limit::LogLimit;
use crate::rpmsg::address::{Session, Slot, to_host};
use crate::rpmsg::{ServiceName, VIRTIO_RPMSG_F_NS};

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
    /// Number of the session, of the last one if there is none now.
    session: Session,
    /// Whether a driver is up, be it paused.
    in_session: bool,
    /// Whether the driver's rings have been used in this session. Until then nobody can tell, nor need care, whether
    /// rings that are handed over once more are a new driver's.
    progressed: bool,
    /// Services that the guest has announced in this session.
    pub(super) services: Vec<GuestService>,
    /// Services of ended sessions, by host address, that the remote must still be told to forget.
    pub(super) withdrawn: Vec<(ServiceName, u32)>,
    /// What the guest has been told of the remote's services.
    pub(super) view: View,
    /// Messages in the remote's buffers that wait for the guest.
    pub(super) waiting: Waiting,
    /// How many of these come before the next name service message.
    pub(super) before_news: u16,
    pub(super) counters: Counters,
    log: LogLimit,
}

/// A service of a guest's own.
#[derive(Clone, Copy, Debug)]
pub(super) struct GuestService {
    pub(super) name: ServiceName,
    /// Its address as the guest knows it.
    pub(super) address: u32,
    /// Whether the remote has been told.
    pub(super) told: bool,
}

impl Vm {
    pub(super) fn new(name: String, slot: Slot) -> Self {
        let account = Account {
            name,
            slot,
            session: Session::default(),
            in_session: false,
            progressed: false,
            services: Vec::new(),
            withdrawn: Vec::new(),
            view: View::default(),
            waiting: Waiting::default(),
            before_news: 0,
            counters: Counters::default(),
            log: LogLimit::default(),
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

    /// The guest has kicked this queue.
    #[inline]
    pub(super) fn kicked(&mut self, index: QueueIndex) {
        if let Some(queue) = self.queue_mut(index) {
            queue.drain_kick();
        }
    }

    /// A queue is the bridge's now. Returns whether a session begins with it: with both queues there, the driver
    /// is not one that goes on after a pause.
    pub(super) fn give_queue(&mut self, index: QueueIndex, queue: Queue) -> bool {
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

    /// The queue is the front-end's again.
    pub(super) fn take_queue(&mut self, index: QueueIndex) -> Option<Queue> {
        let queue = self.queue_mut(index).take();
        self.account.progressed |= queue.as_ref().is_some_and(|queue| !queue.is_fresh());
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

    /// Begins a session: the next number, so that answers to the last one are told apart.
    pub(super) fn start_session(&mut self) {
        self.session = self.session.next();
        self.in_session = true;
        self.progressed = false;
        self.say(Level::Info, format_args!("driver is up (session {})", self.session.number()));
    }

    /// Ends the session, if there is one: what the guest has announced is to be withdrawn.
    pub(super) fn end_session(&mut self) {
        self.in_session = false;
        for service in std::mem::take(&mut self.services) {
            let host = self.host_address(service.address).filter(|_| service.told);
            self.withdrawn.extend(host.map(|host| (service.name, host)));
        }
    }

    /// Whether a message for this session may be delivered. Slot 0 has none: it is the identity.
    #[inline]
    pub(super) fn accepts(&self, session: Session) -> bool {
        self.in_session && (self.slot == Slot::ZERO || session == self.session)
    }

    /// The guest's address as the remote knows it.
    #[inline]
    pub(super) fn host_address(&self, address: u32) -> Option<u32> {
        to_host(self.slot, self.session, address)
    }

    /// Whether everything that the remote must know of this VM's services has been told.
    #[inline]
    pub(super) fn has_told_remote(&self) -> bool {
        self.withdrawn.is_empty() && self.services.iter().all(|service| service.told)
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

    /// Counts a dropped message.
    pub(super) fn drop_message(&mut self, reason: Reason, detail: &dyn std::fmt::Display) {
        self.counters.drop_message(&self.name, reason, detail);
    }

    /// Counts messages that were waiting for the guest and are dropped.
    pub(super) fn drop_waiting(&mut self, reason: Reason, count: u64) {
        self.before_news = 0;
        self.counters.drop_messages(&self.name, reason, count, &"undelivered messages");
    }
}
