//! The bridge's thread: an event loop that owns all rings, and the way by which queues reach it.
//!
//! The protocol threads send commands and wait for the answer, so that every change of a ring is a hand-over. All else
//! are file descriptors: the guests' kicks, the mailbox, a timer.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

use event_manager::{EventManager, EventOps, EventSet, Events, MutEventSubscriber, SubscriberOps};
use log::{debug, error, warn};
use thiserror::Error;
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};
use vmm_sys_util::timerfd::TimerFd;

use super::policy::{Policy, VmPolicy};
use super::relay::Relay;
use super::vm::Vm;
use crate::guest::Queue;
use crate::guest::port::{QueueIndex, QueueOwner};
use crate::remote::core::RemoteCore;
use crate::rpmsg::address::Slot;

/// How soon a VM that found no buffer at the remote looks again: some firmware (rpmsg-lite) never tells of consumed
/// buffers.
const STALL_RETRY: Duration = Duration::from_millis(10);

/// What an event is about: a command, the mailbox, the timer, or from [`TOKEN_QUEUES`] on a queue's kick.
const TOKEN_COMMAND: u32 = 0;
const TOKEN_MAILBOX: u32 = 1;
const TOKEN_TIMER: u32 = 2;
const TOKEN_QUEUES: u32 = 3;

/// A VM that the bridge serves.
#[derive(Clone, Debug)]
pub struct VmConfig {
    /// Its name, for people.
    pub name: String,
    /// Its place in the remote's address space; no two VMs of a remote share one.
    pub slot: Slot,
    /// What it may do.
    pub policy: VmPolicy,
}

/// A VM cannot be added.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("slot {slot} is taken by another VM")]
pub struct SlotTaken {
    /// Number of the slot.
    pub slot: u8,
}

/// Why a bridge cannot start.
#[derive(Debug, Error)]
pub enum BridgeError {
    /// No event loop.
    #[error("cannot set up the event loop")]
    EventLoop(#[source] event_manager::Error),
    /// No event descriptor, timer or thread.
    #[error("cannot create the bridge's {what}")]
    Create {
        /// What could not be created.
        what: &'static str,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

enum Command {
    AddVm(Box<Vm>),
    RemoveVm(Slot),
    Take(Slot, QueueIndex, Box<Queue>),
    Release(Slot, QueueIndex),
    CallBy(Slot, QueueIndex, Option<File>),
    Disconnected(Slot),
    Stop,
}

/// What a command comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    Done,
    /// Index of the queue's next entry.
    Released(u16),
    /// It could not be done.
    Refused,
}

type Request = (Command, SyncSender<Answer>);

/// A running bridge. It goes on until it is [stopped](Self::stop).
#[derive(Debug)]
pub struct Bridge {
    commands: Commands,
    thread: JoinHandle<()>,
}

#[derive(Clone, Debug)]
struct Commands {
    sender: Sender<Request>,
    wake: Arc<EventFd>,
}

impl Commands {
    /// Has the bridge carry out a command, and waits until it has.
    fn call(&self, command: Command) -> Option<Answer> {
        let (reply, answer) = sync_channel(1);
        self.sender.send((command, reply)).ok()?;
        if let Err(error) = self.wake.write(1) {
            debug!("bridge: {error}; it is awake already");
        }
        answer.recv().ok()
    }
}

impl Bridge {
    /// Starts the thread that joins VMs to this remote. There is no VM yet.
    ///
    /// # Errors
    /// No thread, no event loop or no descriptors to be had.
    pub fn start(remote: RemoteCore, policy: Policy) -> Result<Self, BridgeError> {
        let create = |what| move |source| BridgeError::Create { what, source };
        let wake = Arc::new(EventFd::new(EFD_NONBLOCK).map_err(create("event descriptor"))?);
        let timer =
            TimerFd::new().map_err(|errno| create("timer")(io::Error::from_raw_os_error(errno.errno())))?;
        let (sender, receiver) = channel();
        let name = format!("bridge {}", remote.name());
        let worker = Worker {
            relay: Relay::new(remote, policy, Instant::now()),
            commands: receiver,
            wake: Arc::clone(&wake),
            timer,
            timer_set: None,
            watched: None,
            stalled_until: None,
            stop: false,
        };
        let mut manager = EventManager::new().map_err(BridgeError::EventLoop)?;
        let id = manager.add_subscriber(worker);
        let thread = Builder::new().name(name).spawn(move || run(manager, id)).map_err(create("thread"))?;
        Ok(Bridge { commands: Commands { sender, wake }, thread })
    }

    /// Serves a VM from now on. Returns where its queues are to be handed over.
    ///
    /// # Errors
    /// Another VM in the same slot.
    pub fn add_vm(&self, config: VmConfig) -> Result<Arc<dyn QueueOwner>, SlotTaken> {
        let VmConfig { name, slot, policy } = config;
        let answer = self.commands.call(Command::AddVm(Box::new(Vm::new(name, slot, policy))));
        match answer {
            Some(Answer::Refused) => Err(SlotTaken { slot: slot.number() }),
            _ => Ok(Arc::new(Port { slot, commands: self.commands.clone() })),
        }
    }

    /// Serves the VM in this slot no more. Its front-end must be gone.
    pub fn remove_vm(&self, slot: Slot) {
        self.commands.call(Command::RemoveVm(slot));
    }

    /// Detaches from the remote and ends the thread.
    pub fn stop(self) {
        self.commands.call(Command::Stop);
        if self.thread.join().is_err() {
            error!("the bridge's thread had panicked");
        }
    }
}

/// One VM's way to the bridge.
struct Port {
    slot: Slot,
    commands: Commands,
}

impl QueueOwner for Port {
    fn take(&self, index: QueueIndex, queue: Queue) {
        self.commands.call(Command::Take(self.slot, index, Box::new(queue)));
    }

    fn release(&self, index: QueueIndex) -> Option<u16> {
        match self.commands.call(Command::Release(self.slot, index)) {
            Some(Answer::Released(next)) => Some(next),
            _ => None,
        }
    }

    fn call_by(&self, index: QueueIndex, call: Option<File>) {
        self.commands.call(Command::CallBy(self.slot, index, call));
    }

    fn disconnected(&self) {
        self.commands.call(Command::Disconnected(self.slot));
    }
}

/// The event loop's only subscriber.
struct Worker {
    relay: Relay,
    commands: Receiver<Request>,
    wake: Arc<EventFd>,
    timer: TimerFd,
    /// When the timer will fire.
    timer_set: Option<Instant>,
    /// The mailbox that is registered, and whether for writing too.
    watched: Option<(RawFd, bool)>,
    /// When a VM that found no buffer looks again.
    stalled_until: Option<Instant>,
    stop: bool,
}

fn run(mut manager: EventManager<Worker>, id: event_manager::SubscriberId) {
    let mut more = true;
    loop {
        let timeout = if more { 0 } else { -1 };
        if let Err(error) = manager.run_with_timeout(timeout) {
            // EINTR is handled below us; anything else would come again at once.
            error!("bridge: event loop: {error}");
            return;
        }
        let Ok(worker) = manager.subscriber_mut(id) else {
            return;
        };
        if worker.stop {
            return;
        }
        let now = Instant::now();
        more = worker.relay.sweep(now);
        let retry = worker.stalled_until.filter(|due| *due > now).unwrap_or(now + STALL_RETRY);
        worker.stalled_until = worker.relay.stalled.then_some(retry);
        let mailbox = worker.mailbox_to_watch();
        let deadline = worker.set_timer();
        debug_assert!(deadline.is_ok(), "timer");
        if let Ok(mut ops) = manager.event_ops(id)
            && let Some((old, new)) = mailbox
        {
            watch_mailbox(&mut ops, old, new);
        }
    }
}

type Watched = Option<(RawFd, bool)>;

fn mailbox_events((descriptor, writing): (RawFd, bool)) -> Events {
    let events = if writing { EventSet::IN | EventSet::OUT } else { EventSet::IN };
    Events::with_data_raw(descriptor, TOKEN_MAILBOX, events)
}

fn watch_mailbox(ops: &mut EventOps<'_>, old: Watched, new: Watched) {
    let result = match (old, new) {
        (Some(old), Some(new)) if old.0 == new.0 => ops.modify(mailbox_events(new)),
        (_, Some(new)) => ops.add(mailbox_events(new)),
        // Retired mailboxes are forgotten before they are closed.
        (_, None) => Ok(()),
    };
    if let Err(error) = result {
        error!("bridge: cannot wait for the mailbox: {error}");
    }
}

/// Stops waiting for a descriptor that is still open. It may have left the set already, when it turned out to be
/// broken.
fn forget(ops: &mut EventOps<'_>, events: Events) {
    if let Err(error) = ops.remove(events) {
        debug!("bridge: descriptor {} was not waited for: {error}", events.fd());
    }
}

impl Worker {
    /// Which mailbox is registered and which should be, where these differ.
    fn mailbox_to_watch(&mut self) -> Option<(Watched, Watched)> {
        let mailbox = self.relay.remote.mailbox();
        let new = mailbox.map(|mailbox| (mailbox.as_raw_fd(), mailbox.wants_write()));
        let old = std::mem::replace(&mut self.watched, new);
        (old != new).then_some((old, new))
    }

    /// Sets the timer for whatever is due first.
    fn set_timer(&mut self) -> Result<(), vmm_sys_util::errno::Error> {
        let due = [self.relay.timer(), self.stalled_until].into_iter().flatten().min();
        if due == self.timer_set {
            return Ok(());
        }
        self.timer_set = due;
        match due {
            // A zero duration would disarm it.
            Some(due) => {
                let wait = due.saturating_duration_since(Instant::now()).max(Duration::from_nanos(1));
                self.timer.reset(wait, None)
            }
            None => self.timer.clear(),
        }
    }

    fn carry_out(&mut self, command: Command, ops: &mut EventOps<'_>) -> Answer {
        match command {
            Command::AddVm(vm) => return if self.relay.add_vm(*vm) { Answer::Done } else { Answer::Refused },
            Command::RemoveVm(slot) => self.relay.remove_vm(slot),
            Command::Take(slot, index, queue) => {
                if let Err(error) = ops.add(queue_events(slot, index, queue.as_raw_fd())) {
                    warn!("slot {}: cannot wait for kicks of queue {index:?}: {error}", slot.number());
                }
                self.relay.give_queue(slot, index, *queue);
            }
            Command::Release(slot, index) => {
                let queue = self.relay.vm(slot).and_then(|vm| vm.take_queue(index));
                let Some(queue) = queue else { return Answer::Refused };
                forget(ops, queue_events(slot, index, queue.as_raw_fd()));
                return Answer::Released(queue.next_index());
            }
            Command::CallBy(slot, index, call) => self.relay.call_by(slot, index, call),
            Command::Disconnected(slot) => {
                self.relay.end_session(slot);
                if let Some(vm) = self.relay.vm(slot) {
                    vm.account.report();
                }
            }
            Command::Stop => {
                self.relay.remote.detach();
                self.stop = true;
            }
        }
        Answer::Done
    }

    fn kicked(&mut self, events: Events, ops: &mut EventOps<'_>) {
        let token = events.data() - TOKEN_QUEUES;
        let (number, index) = (token / 2, QueueIndex::ALL[token as usize % 2]);
        let Some(slot) = u8::try_from(number).ok().and_then(Slot::new) else { return };
        if events.event_set().intersects(EventSet::ERROR | EventSet::HANG_UP) {
            warn!("slot {number}: the kick descriptor of queue {index:?} is broken, ignoring it");
            forget(ops, events);
            return;
        }
        self.relay.kicked(slot, index);
    }
}

fn queue_events(slot: Slot, index: QueueIndex, descriptor: RawFd) -> Events {
    let queue = QueueIndex::ALL.iter().zip(0..).find_map(|(one, number)| (*one == index).then_some(number));
    let token = TOKEN_QUEUES + u32::from(slot.number()) * 2 + queue.unwrap_or(0);
    Events::with_data_raw(descriptor, token, EventSet::IN)
}

impl MutEventSubscriber for Worker {
    fn init(&mut self, ops: &mut EventOps<'_>) {
        let wake = Events::with_data_raw(self.wake.as_raw_fd(), TOKEN_COMMAND, EventSet::IN);
        let timer = Events::with_data_raw(self.timer.as_raw_fd(), TOKEN_TIMER, EventSet::IN);
        for events in [wake, timer] {
            ops.add(events).expect("fresh descriptors can be waited for");
        }
    }

    fn process(&mut self, events: Events, ops: &mut EventOps<'_>) {
        let now = Instant::now();
        match events.data() {
            TOKEN_COMMAND => {
                // Only whether it was written matters; what for is in the channel.
                let _ = self.wake.read();
                while let Ok((command, reply)) = self.commands.try_recv() {
                    let answer = self.carry_out(command, ops);
                    let _ = reply.send(answer);
                }
            }
            TOKEN_MAILBOX => {
                let change = self.relay.remote.on_mailbox(now);
                if let Some(retired) = self.relay.remote.take_retired_mailbox() {
                    self.watched = None;
                    forget(ops, mailbox_events((retired.as_raw_fd(), false)));
                }
                if let Some(change) = change {
                    self.relay.remote_changed(change);
                }
            }
            TOKEN_TIMER => {
                let _ = self.timer.wait();
                self.timer_set = None;
                self.relay.on_timer(now);
            }
            _ => self.kicked(events, ops),
        }
    }
}
