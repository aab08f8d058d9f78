//! The event loop of a bridge: one subscriber that owns the remote and all rings.
//!
//! What it waits for are file descriptors: commands, the guests' kicks, the mailbox, a timer, and what belongs to the
//! remote's life.

mod awake;
mod patience;

use std::io;
use std::mem;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use event_manager::{
    EventManager, EventOps, EventSet, Events, MutEventSubscriber, SubscriberId, SubscriberOps,
};
use log::{Level, debug, error, warn};
use vmm_sys_util::eventfd::EventFd;
use vmm_sys_util::timerfd::TimerFd;

use self::patience::Patience;
use super::journal::State;
use super::latency::Latency;
use super::policy::Policy;
use super::relay::Relay;
use super::tap::Tapping;
use super::thread::{Answer, Command, Figures, Request};
use crate::causes::Causes;
use crate::guest::port::QueueIndex;
use crate::log_limit::LogLimit;
use crate::remote::attach::RpmsgVdev;
use crate::remote::core::{Change, RemoteCore, SavedCore};
use crate::remote::mailbox::Mailbox;
use crate::rpmsg::address::Slot;

/// What an event is about: a command, the mailbox, the timer, what the remote's service thread has done, its watchdog, who
/// counts on it, or from [`TOKEN_QUEUES`] on a queue's kick.
const TOKEN_COMMAND: u32 = 0;
const TOKEN_MAILBOX: u32 = 1;
const TOKEN_TIMER: u32 = 2;
const TOKEN_CHORES: u32 = 3;
const TOKEN_WATCHDOG: u32 = 4;
const TOKEN_PRESENCE: u32 = 5;
const TOKEN_QUEUES: u32 = 6;

/// Descriptors of the remote that are waited for, which come and go.
const REMOTE_TOKENS: [u32; 4] = [TOKEN_MAILBOX, TOKEN_CHORES, TOKEN_WATCHDOG, TOKEN_PRESENCE];

/// The event loop's only subscriber.
pub(super) struct Worker {
    remote: RemoteCore,
    /// One for each rpmsg device of the remote, and for each that a VM is in front of.
    relays: Vec<Relay>,
    /// What holds for the services of each device.
    policy: Policy,
    state: State,
    log: LogLimit,
    commands: Receiver<Request>,
    wake: Arc<EventFd>,
    timer: TimerFd,
    /// When the timer will fire.
    timer_set: Option<Instant>,
    /// Descriptors of the remote that are registered, by token, and whether for writing too.
    watched: [Watched; REMOTE_TOKENS.len()],
    /// When a VM that found no buffer looks again.
    stalled_until: Option<Instant>,
    /// How long to look for more after the last message before going to sleep.
    patience: Patience,
    /// When a message was moved last, unless the bridge has slept since.
    last_moved: Option<Instant>,
    latency: Latency,
    /// How often the mailbox was heard.
    heard: u64,
    /// When VMs that were idle were asked to kick, and when those were looked at that had been asked.
    parked: Instant,
    glanced: Instant,
    stop: bool,
    /// Who captures.
    tapping: Option<Tapping>,
}

/// Runs the event loop until the worker is told to stop.
pub(super) fn run(mut manager: EventManager<Worker>, id: SubscriberId) {
    let mut may_sleep = false;
    loop {
        let timeout = if may_sleep { -1 } else { 0 };
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
        may_sleep = worker.relay_messages();
        let retired = worker.take_retired_mailbox();
        let deadline = worker.set_timer();
        debug_assert!(deadline.is_ok(), "timer");
        let wanted = worker.to_watch();
        if wanted != worker.watched || retired.is_some() {
            let before = mem::replace(&mut worker.watched, wanted);
            if let Ok(mut ops) = manager.event_ops(id) {
                if let Some(retired) = retired {
                    forget_mailbox(&mut ops, &*retired);
                }
                for (token, (old, new)) in REMOTE_TOKENS.into_iter().zip(before.into_iter().zip(wanted)) {
                    watch(&mut ops, token, old, new);
                }
            }
        }
    }
}

/// A descriptor that is waited for, and whether until it is writable too.
type Watched = Option<(RawFd, bool)>;

fn remote_events(token: u32, (descriptor, writing): (RawFd, bool)) -> Events {
    let events = if writing { EventSet::IN | EventSet::OUT } else { EventSet::IN };
    Events::with_data_raw(descriptor, token, events)
}

/// Waits for one descriptor instead of another. Those that are closed have been forgotten before.
fn watch(ops: &mut EventOps<'_>, token: u32, old: Watched, new: Watched) {
    let result = match (old, new) {
        (Some(old), Some(new)) if old == new => return,
        (Some(old), Some(new)) if old.0 == new.0 => ops.modify(remote_events(token, new)),
        (_, Some(new)) => ops.add(remote_events(token, new)),
        (Some(old), None) => return forget(ops, remote_events(token, old)),
        (None, None) => return,
    };
    if let Err(error) = result {
        error!("bridge: cannot wait for the remote: {error}");
    }
}

/// Stops waiting for a descriptor that is still open. It may have left the set already, when it turned out to be
/// broken.
fn forget(ops: &mut EventOps<'_>, events: Events) {
    if let Err(error) = ops.remove(events) {
        debug!("bridge: descriptor {} was not waited for: {error}", events.fd());
    }
}

/// Stops waiting for a mailbox that is still open.
fn forget_mailbox(ops: &mut EventOps<'_>, mailbox: &dyn Mailbox) {
    forget(ops, remote_events(TOKEN_MAILBOX, (mailbox.descriptor().as_raw_fd(), false)));
}

impl Worker {
    /// A worker without VMs; `wake` is readable when there are commands.
    ///
    /// # Errors
    /// No timer to be had.
    pub(super) fn new(
        remote: RemoteCore,
        policy: Policy,
        state: State,
        poll: Duration,
        commands: Receiver<Request>,
        wake: Arc<EventFd>,
    ) -> io::Result<Self> {
        let timer = TimerFd::new().map_err(|errno| io::Error::from_raw_os_error(errno.errno()))?;
        Ok(Worker {
            remote,
            relays: Vec::new(),
            policy,
            state,
            log: LogLimit::default(),
            commands,
            wake,
            timer,
            timer_set: None,
            watched: [None; REMOTE_TOKENS.len()],
            stalled_until: None,
            patience: Patience::new(poll, Instant::now()),
            last_moved: None,
            latency: Latency::new(),
            heard: 0,
            parked: Instant::now(),
            glanced: Instant::now(),
            stop: false,
            tapping: None,
        })
    }

    /// The relay of this device of the remote, made if there is none yet.
    fn relay(&mut self, vdev: usize) -> &mut Relay {
        while self.relays.len() <= vdev {
            let name = match self.relays.len() {
                0 => self.remote.name().to_owned(),
                number => format!("{} device {number}", self.remote.name()),
            };
            let area = self.state.device(self.relays.len());
            let mut relay = Relay::new(name, self.policy.clone(), area, Instant::now());
            if let Some(tapping) = &mut self.tapping {
                tapping.begin(&mut relay);
            }
            self.relays.push(relay);
        }
        &mut self.relays[vdev]
    }

    /// Goes on where a program before this one was killed. What was written down of the remote is this.
    pub(super) fn recover(&mut self, saved: Option<SavedCore>, now: Instant) {
        let Some(last) = self.state.devices().checked_sub(1) else { return };
        self.relay(last);
        let recovered = saved.and_then(|saved| self.remote.go_on_from(saved, now));
        let is_cut_off = recovered.as_ref().is_none_or(|recovered| recovered.is_cut_off);
        let mut places = recovered.into_iter().flat_map(|recovered| recovered.places);
        for relay in &mut self.relays {
            match places.next() {
                Some(place) => relay.go_on(place, now),
                None => relay.gone_meanwhile(now),
            }
            match is_cut_off {
                true => relay.cut_off(now),
                // Does nothing to one that goes on anyway.
                false => relay.resumed(),
            }
        }
        // Signals whose interrupt or wake-up a predecessor has taken.
        let change = self.remote.on_mailbox(now);
        self.remote_changed(change, now);
    }

    /// The relay that serves the VM in this slot.
    fn relay_of(&mut self, slot: Slot) -> Option<&mut Relay> {
        self.relays.iter_mut().find(|relay| relay.has_vm(slot))
    }

    /// Something has become of the remote.
    fn remote_changed(&mut self, change: Option<Change>, now: Instant) {
        // What is lost is written down as lost first: a program after this one must not take vrings for new ones that are not.
        self.remote.remember();
        let remote = self.remote.name();
        match change {
            None => {}
            Some(Change::Attached(devices)) => self.attached(devices, now),
            Some(Change::CutOff(loss)) => {
                self.log.say(Level::Warn, format_args!("remote {remote}: lost: {}", Causes(&loss)));
                self.relays.iter_mut().for_each(|relay| relay.cut_off(now));
            }
            Some(Change::Resumed) => self.relays.iter_mut().for_each(Relay::resumed),
            Some(Change::Lost(loss)) => {
                self.log.say(Level::Warn, format_args!("remote {remote}: lost: {}", Causes(&loss)));
                self.relays.iter_mut().for_each(|relay| relay.lost(now));
            }
        }
    }

    fn attached(&mut self, devices: Vec<RpmsgVdev>, now: Instant) {
        let found = devices.len();
        for (vdev, device) in devices.into_iter().enumerate() {
            self.relay(vdev).attached(device, now);
        }
        for relay in &mut self.relays[found..] {
            relay.lost(now);
            let text =
                format_args!("remote {}: there is no such device, the remote core has {found}", relay.name);
            self.log.say(Level::Warn, text);
        }
    }

    /// What of the remote is to be waited for, by token.
    fn to_watch(&self) -> [Watched; REMOTE_TOKENS.len()] {
        let mailbox = self.remote.mailbox();
        [
            mailbox.map(|mailbox| (mailbox.descriptor().as_raw_fd(), mailbox.wants_write())),
            self.remote.chores().map(|descriptor| (descriptor, false)),
            self.remote.watchdog().map(|descriptor| (descriptor, false)),
            self.remote.presence().map(|descriptor| (descriptor, false)),
        ]
    }

    /// Closes a mailbox that is gone, which nobody may wait for any more then.
    fn close_retired_mailbox(&mut self, ops: &mut EventOps<'_>) {
        if let Some(retired) = self.take_retired_mailbox() {
            forget_mailbox(ops, &*retired);
        }
    }

    /// A mailbox that is gone, to be forgotten before it is closed.
    fn take_retired_mailbox(&mut self) -> Option<Box<dyn Mailbox>> {
        let retired = self.remote.take_retired_mailbox()?;
        self.watched[0] = None;
        Some(retired)
    }

    /// Lets the remote know whether any VM uses it.
    fn tell_need(&mut self) {
        let is_needed = self.relays.iter().any(Relay::is_used);
        let now = Instant::now();
        let change = self.remote.needed(is_needed, now);
        self.remote_changed(change, now);
    }

    /// Sets the timer for whatever is due first.
    fn set_timer(&mut self) -> Result<(), vmm_sys_util::errno::Error> {
        let relays = self.relays.iter().map(Relay::timer);
        let due = relays.chain([self.remote.timer(), self.stalled_until]).flatten().min();
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
            Command::AddVm(vdev, vm, goes_on) => {
                let slot = vm.account.slot();
                if self.relay_of(slot).is_some() {
                    return Answer::Refused;
                }
                self.relay(vdev).add_vm(*vm, goes_on);
                if let Some(tapping) = &mut self.tapping {
                    tapping.add_vm(&mut self.relays[vdev], slot.number().into());
                }
            }
            Command::Settle => {
                let now = Instant::now();
                self.relays.iter_mut().for_each(|relay| relay.settle(now));
                self.tell_need();
            }
            Command::RemoveVm(slot) => {
                if let Some(relay) = self.relay_of(slot) {
                    relay.remove_vm(slot);
                    self.tell_need();
                }
            }
            Command::Take(slot, index, queue) => {
                if let Err(error) = ops.add(queue_events(slot, index, queue.as_raw_fd())) {
                    warn!("slot {}: cannot wait for kicks of queue {index:?}: {error}", slot.number());
                }
                if let Some(relay) = self.relay_of(slot) {
                    relay.give_queue(slot, index, *queue);
                    self.tell_need();
                }
            }
            Command::Release(slot, index) => {
                let queue = self.relay_of(slot).and_then(|relay| relay.take_queue(slot, index));
                let Some(queue) = queue else { return Answer::Refused };
                forget(ops, queue_events(slot, index, queue.as_raw_fd()));
                return Answer::Released(queue.next_index());
            }
            Command::CallBy(slot, index, call) => {
                if let Some(relay) = self.relay_of(slot) {
                    relay.call_by(slot, index, call);
                }
            }
            Command::Disconnected(slot) => {
                let Some(relay) = self.relay_of(slot) else { return Answer::Done };
                relay.end_session(slot);
                relay.commit();
                if let Some(vm) = relay.vm(slot) {
                    vm.account.report();
                }
                self.tell_need();
            }
            Command::Order(order) => {
                let now = Instant::now();
                let result = self.remote.order(&order, now).map(|change| self.remote_changed(change, now));
                self.close_retired_mailbox(ops);
                return Answer::Ordered(result);
            }
            Command::SetRule(rule) => {
                self.policy.set(rule.clone());
                let set = self.relays.iter_mut().flat_map(|relay| relay.set_rule(&rule));
                return Answer::RuleSet(set.collect());
            }
            Command::List => return Answer::Listed(self.relays.iter().map(Relay::list).collect()),
            Command::Count => {
                let now = Instant::now();
                let devices = self.relays.iter_mut().map(|relay| relay.figures(now)).collect();
                let (heard, latency) = (self.heard, self.latency.clone());
                return Answer::Counted(Box::new(Figures { heard, latency, devices }));
            }
            Command::Capture(_) if self.tapping.is_some() => return Answer::Refused,
            Command::Capture(mut tapping) => {
                self.relays.iter_mut().for_each(|relay| tapping.begin(relay));
                self.tapping = Some(tapping);
            }
            Command::EndCapture => {
                self.relays.iter_mut().for_each(|relay| relay.tap = None);
                self.tapping = None;
            }
            Command::Inspect => return Answer::Inspected(self.remote.inspect()),
            Command::Stop => {
                self.remote.end();
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
        if let Some(relay) = self.relay_of(slot) {
            relay.kicked(slot, index);
        }
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
                self.heard += 1;
                let change = self.remote.on_mailbox(now);
                self.remote_changed(change, now);
            }
            TOKEN_CHORES => {
                let change = self.remote.on_chores(now);
                self.remote_changed(change, now);
            }
            TOKEN_WATCHDOG => {
                let change = self.remote.on_watchdog(now);
                self.remote_changed(change, now);
            }
            TOKEN_PRESENCE => {
                let change = self.remote.on_presence(now);
                self.remote_changed(change, now);
            }
            TOKEN_TIMER => {
                let _ = self.timer.wait();
                self.timer_set = None;
                for relay in &mut self.relays {
                    relay.on_timer(now);
                }
                let change = self.remote.on_timer(now);
                self.remote_changed(change, now);
            }
            _ => self.kicked(events, ops),
        }
        self.close_retired_mailbox(ops);
    }
}
