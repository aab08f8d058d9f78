//! The bridge's thread as seen by others: how it is started, and how queues and orders reach it.
//!
//! The protocol threads send commands and wait for the answer, so that every change of a ring is a hand-over. What the
//! thread does is in `worker`.

use std::fs::File;
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Sender, SyncSender, channel, sync_channel};
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

use event_manager::{EventManager, SubscriberOps};
use log::{debug, error};
use rustix::event::{EventfdFlags, eventfd};
use thiserror::Error;
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use super::capture::Capture;
use super::journal::{State, StateError};
use super::latency::Latency;
use super::policy::{Policy, Rule, VmPolicy};
use super::report::{DeviceFigures, DeviceListing};
use super::tap::{Filter, Shared, Tapping};
use super::vm::Vm;
use super::worker::{Worker, run};
use crate::guest::Queue;
use crate::guest::port::{QueueIndex, QueueOwner};
use crate::remote::core::{Inspection, NoFirmware, Order, RemoteCore};
use crate::rpmsg::ServiceName;
use crate::rpmsg::address::Slot;

/// A VM that the bridge serves.
#[derive(Clone, Debug)]
pub struct VmConfig {
    /// Its name, for people.
    pub name: String,
    /// Its place in the remote's address space; no two VMs of a remote share one.
    pub slot: Slot,
    /// Which of the remote's rpmsg devices it is in front of, from 0 on.
    pub vdev: usize,
    /// What it may do.
    pub policy: VmPolicy,
    /// Whether its front-end has been connected all the time, to a program before this one that was killed.
    pub goes_on: bool,
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
    /// No state memory.
    #[error(transparent)]
    State(#[from] StateError),
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

/// Why nothing can be captured.
#[derive(Debug, Error)]
pub enum CaptureError {
    /// Somebody else captures.
    #[error("expected one capture of a remote at a time, found another that goes on")]
    Taken,
    /// The bridge has ended.
    #[error("expected a remote that is served, found that it is not served any more")]
    Ended,
    /// No event descriptor.
    #[error("cannot create the capture's event descriptor")]
    Descriptor(#[source] io::Error),
}

/// What others have the bridge's thread do.
pub(super) enum Command {
    AddVm(usize, Box<Vm>, bool),
    Settle,
    RemoveVm(Slot),
    Take(Slot, QueueIndex, Box<Queue>),
    Release(Slot, QueueIndex),
    CallBy(Slot, QueueIndex, Option<File>),
    Disconnected(Slot),
    Order(Order),
    Inspect,
    SetRule(Rule),
    List,
    Count,
    Capture(Tapping),
    EndCapture,
    Stop,
}

/// What a command comes to.
#[derive(Debug)]
pub(super) enum Answer {
    Done,
    /// Index of the queue's next entry.
    Released(u16),
    /// It could not be done.
    Refused,
    Ordered(Result<(), NoFirmware>),
    Inspected(Inspection),
    RuleSet(Vec<ServiceName>),
    Listed(Vec<DeviceListing>),
    Counted(Box<Figures>),
}

/// What was counted at a remote.
#[derive(Debug)]
pub struct Figures {
    /// How often its mailbox was heard, by this worker.
    pub heard: u64,
    /// How long messages were in this program's hands.
    pub latency: Latency,
    /// Its rpmsg devices.
    pub devices: Vec<DeviceFigures>,
}

/// A command, and where its answer goes.
pub(super) type Request = (Command, SyncSender<Answer>);

/// A running bridge. It goes on until it is [stopped](Self::stop).
#[derive(Debug)]
pub struct Bridge {
    commands: Commands,
    thread: JoinHandle<()>,
}

/// The way to a bridge's thread.
#[derive(Clone, Debug)]
pub(super) struct Commands {
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

    /// Nobody captures any more.
    pub(super) fn end_capture(&self) {
        self.call(Command::EndCapture);
    }
}

impl Bridge {
    /// Starts the thread that joins VMs to this remote. There is no VM yet. What a program before this one has left in the
    /// state memory is gone on with, once the VMs [are there](Self::settle). After a message, the thread looks for more for as
    /// long as `poll` before it sleeps.
    ///
    /// # Errors
    /// No thread, no event loop, no descriptors or no memory to be had.
    pub fn start(
        remote: RemoteCore,
        policy: Policy,
        state: State,
        poll: Duration,
    ) -> Result<Self, BridgeError> {
        let create = |what| move |source| BridgeError::Create { what, source };
        let wake = Arc::new(EventFd::new(EFD_NONBLOCK).map_err(create("event descriptor"))?);
        let (sender, receiver) = channel();
        let name = format!("bridge {}", remote.name());
        let (mut record, saved) = state.core()?;
        let remote = remote.remembered_by(move |saved| record.keep(saved));
        let mut worker =
            Worker::new(remote, policy, state, poll, receiver, Arc::clone(&wake)).map_err(create("timer"))?;
        worker.recover(saved, Instant::now());
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
        let VmConfig { name, slot, vdev, policy, goes_on } = config;
        let vm = Box::new(Vm::new(name, slot, policy));
        let answer = self.commands.call(Command::AddVm(vdev, vm, goes_on));
        match answer {
            Some(Answer::Refused) => Err(SlotTaken { slot: slot.number() }),
            _ => Ok(Arc::new(Port { slot, commands: self.commands.clone() })),
        }
    }

    /// All VMs have been added that a program before this one may have served: messages pass from now on, and sessions of
    /// others are over.
    pub fn settle(&self) {
        self.commands.call(Command::Settle);
    }

    /// Serves the VM in this slot no more. Its front-end must be gone.
    pub fn remove_vm(&self, slot: Slot) {
        self.commands.call(Command::RemoveVm(slot));
    }

    /// Switches the remote on or off. It takes its time; [`inspect`](Self::inspect) shows what has become of it.
    ///
    /// # Errors
    /// Firmware for a remote that is not ours to boot.
    pub fn order(&self, order: Order) -> Result<(), NoFirmware> {
        match self.commands.call(Command::Order(order)) {
            Some(Answer::Ordered(result)) => result,
            _ => Ok(()),
        }
    }

    /// What the remote is doing, and its memory. `None` if the bridge has ended.
    pub fn inspect(&self) -> Option<Inspection> {
        match self.commands.call(Command::Inspect) {
            Some(Answer::Inspected(inspection)) => Some(inspection),
            _ => None,
        }
    }

    /// Services are shared by this rule from now on, before all others, and in the place of one for the same names. Guests see
    /// those that it is for go, and come back. Returns which these are: none if the bridge has ended.
    pub fn set_rule(&self, rule: Rule) -> Vec<ServiceName> {
        match self.commands.call(Command::SetRule(rule)) {
            Some(Answer::RuleSet(services)) => services,
            _ => Vec::new(),
        }
    }

    /// What is served at each of the remote's devices. Nothing if the bridge has ended.
    pub fn list(&self) -> Vec<DeviceListing> {
        match self.commands.call(Command::List) {
            Some(Answer::Listed(devices)) => devices,
            _ => Vec::new(),
        }
    }

    /// What was counted. `None` if the bridge has ended.
    pub fn figures(&self) -> Option<Box<Figures>> {
        match self.commands.call(Command::Count) {
            Some(Answer::Counted(figures)) => Some(figures),
            _ => None,
        }
    }

    /// Captures messages from now on, until what is returned is dropped.
    ///
    /// # Errors
    /// Another capture that goes on, no descriptor to be had.
    pub fn capture(&self, filter: Filter) -> Result<Capture, CaptureError> {
        let doorbell = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK);
        let shared = Arc::new(Shared::new(doorbell.map_err(|errno| CaptureError::Descriptor(errno.into()))?));
        let (sender, events) = channel();
        let tapping = Tapping::new(filter, sender, Arc::clone(&shared));
        match self.commands.call(Command::Capture(tapping)) {
            Some(Answer::Done) => Ok(Capture::new(self.commands.clone(), events, shared)),
            Some(_) => Err(CaptureError::Taken),
            None => Err(CaptureError::Ended),
        }
    }

    /// Detaches from the remote, switches it off where it is ours to boot, and ends the thread.
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
