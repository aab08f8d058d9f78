//! The bridge's thread: an event loop that owns all rings, and the way by which queues reach it.
//!
//! The protocol threads send commands and wait for the answer, so that every change of a ring is a hand-over. All else
//! are file descriptors: the guests' kicks, the mailbox, a timer.

use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

use event_manager::{EventManager, EventOps, EventSet, Events, MutEventSubscriber, SubscriberOps};
use log::{Level, debug, error, warn};
use thiserror::Error;
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};
use vmm_sys_util::timerfd::TimerFd;

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
    Take(usize, QueueIndex, Box<Queue>),
    Release(usize, QueueIndex),
    Disconnected(usize),
    Stop,
}

type Request = (Command, SyncSender<Option<u16>>);

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
    fn call(&self, command: Command) -> Option<u16> {
        let (reply, answer) = sync_channel(1);
        self.sender.send((command, reply)).ok()?;
        if let Err(error) = self.wake.write(1) {
            debug!("bridge: {error}; it is awake already");
        }
        answer.recv().ok().flatten()
    }
}

impl Bridge {
    /// Starts the thread that joins these VMs to this remote.
    ///
    /// # Errors
    /// No thread, no event loop or no descriptors to be had.
    pub fn start(remote: RemoteCore, vms: Vec<VmConfig>) -> Result<Self, BridgeError> {
        let create = |what| move |source| BridgeError::Create { what, source };
        let wake = Arc::new(EventFd::new(EFD_NONBLOCK).map_err(create("event descriptor"))?);
        let timer =
            TimerFd::new().map_err(|errno| create("timer")(io::Error::from_raw_os_error(errno.errno())))?;
        let (sender, receiver) = channel();
        let name = format!("bridge {}", remote.name());
        let vms = vms.into_iter().map(|vm| Vm::new(vm.name, vm.slot)).collect();
        let worker = Worker {
            relay: Relay::new(remote, vms),
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

    /// Where the queues of VM number `vm` (in the order given to [`start`](Self::start)) are handed over.
    pub fn port(&self, vm: usize) -> Arc<dyn QueueOwner> {
        Arc::new(Port { vm, commands: self.commands.clone() })
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
    vm: usize,
    commands: Commands,
}

impl QueueOwner for Port {
    fn take(&self, index: QueueIndex, queue: Queue) {
        self.commands.call(Command::Take(self.vm, index, Box::new(queue)));
    }

    fn release(&self, index: QueueIndex) -> Option<u16> {
        self.commands.call(Command::Release(self.vm, index))
    }

    fn disconnected(&self) {
        self.commands.call(Command::Disconnected(self.vm));
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
        let due = [self.relay.remote.timer(), self.stalled_until].into_iter().flatten().min();
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

    fn carry_out(&mut self, command: Command, ops: &mut EventOps<'_>) -> Option<u16> {
        match command {
            Command::Take(vm, index, queue) => {
                if let Err(error) = ops.add(queue_events(vm, index, queue.as_raw_fd())) {
                    warn!(
                        "vm {}: cannot wait for kicks of queue {index:?}: {error}",
                        self.relay.vms[vm].account.name
                    );
                }
                self.relay.give_queue(vm, index, *queue);
                None
            }
            Command::Release(vm, index) => {
                let queue = self.relay.vms[vm].take_queue(index)?;
                forget(ops, queue_events(vm, index, queue.as_raw_fd()));
                Some(queue.next_index())
            }
            Command::Disconnected(vm) => {
                self.relay.end_session(vm);
                let account = &mut self.relay.vms[vm].account;
                let counters = account.counters.clone();
                account.say(Level::Info, format_args!("front-end gone; so far {counters}"));
                None
            }
            Command::Stop => {
                self.relay.remote.detach();
                self.stop = true;
                None
            }
        }
    }

    fn kicked(&mut self, events: Events, ops: &mut EventOps<'_>) {
        let token = (events.data() - TOKEN_QUEUES) as usize;
        let (vm, index) = (token / QueueIndex::ALL.len(), QueueIndex::ALL[token % QueueIndex::ALL.len()]);
        if events.event_set().intersects(EventSet::ERROR | EventSet::HANG_UP) {
            warn!(
                "vm {}: the kick descriptor of queue {index:?} is broken, ignoring it",
                self.relay.vms[vm].account.name
            );
            forget(ops, events);
            return;
        }
        self.relay.kicked(vm, index);
    }
}

fn queue_events(vm: usize, index: QueueIndex, descriptor: RawFd) -> Events {
    let token = TOKEN_QUEUES as usize + vm * QueueIndex::ALL.len() + index as usize;
    Events::with_data_raw(descriptor, u32::try_from(token).expect("at most 127 VMs"), EventSet::IN)
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
        let change = match events.data() {
            TOKEN_COMMAND => {
                // Only whether it was written matters; what for is in the channel.
                let _ = self.wake.read();
                while let Ok((command, reply)) = self.commands.try_recv() {
                    let answer = self.carry_out(command, ops);
                    let _ = reply.send(answer);
                }
                None
            }
            TOKEN_MAILBOX => {
                let change = self.relay.remote.on_mailbox(Instant::now());
                if let Some(retired) = self.relay.remote.take_retired_mailbox() {
                    self.watched = None;
                    forget(ops, mailbox_events((retired.as_raw_fd(), false)));
                }
                change
            }
            TOKEN_TIMER => {
                let _ = self.timer.wait();
                self.timer_set = None;
                self.relay.remote.on_timer(Instant::now())
            }
            _ => {
                self.kicked(events, ops);
                None
            }
        };
        if let Some(change) = change {
            self.relay.remote_changed(change);
        }
    }
}
