//! The life of a remote core: from switched off to working vrings, and back.
//!
//! | phase | what goes on | next step |
//! |---|---|---|
//! | off | nobody needs it | a VM that does, or an order |
//! | waiting | it is to be started, but not yet: after a crash, or another core has to be up first | by timer |
//! | busy | the service thread dumps, stops, loads or starts it | when that is done |
//! | ending | it has been told to shut down | its answer, or a time-out |
//! | up | it is looked for: connected to, asked "state?", attached to; then doorbells | what it says, by timer |
//! | given up | it has crashed and is left alone | an order |
//!
//! *Ready* means that the remote has just booted: whatever was attached is gone, and its table is read afresh.
//! *Running* attaches where nothing is attached. A closed socket is a core that is gone; should the same core answer
//! on a new connection with its table untouched, only the line was cut, and the vrings go on where they were.

mod order;
mod recover;

use std::fmt;
use std::mem;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use log::{debug, info, warn};
use thiserror::Error;

use super::attach::{Attachment, RpmsgVdev, attach};
use super::chores::Chores;
use super::config::{MailboxConfig, RemoteConfig};
use super::link::{self, Mapped};
use super::locate;
use super::mailbox::{Mailbox, Request, Signals};
use super::presence::Presence;
use super::recovery::{Crashes, RecoveryPolicy};
use super::vring::VringFault;
use super::watch::{Finding, Traffic, Watch};
use super::watchdog::Watchdog;
use crate::causes::Causes;
use crate::log_limit::LogLimit;

pub use order::{Inspection, NoFirmware, Order};

/// Between two attempts to reach a remote core that is not there.
const RETRY: Duration = Duration::from_millis(20);
/// Between two attempts once the first ones have failed.
const SLOW_RETRY: Duration = Duration::from_secs(1);
/// Attempts before the slow interval.
const FAST_ATTEMPTS: u32 = 100;
/// Attempts within a moment of a start: the core is about to come.
const EAGER_ATTEMPTS: u32 = 100;
/// Between these.
const EAGER_RETRY: Duration = Duration::from_millis(5);

/// What has become of a remote core.
#[derive(Debug)]
pub enum Change {
    /// It has been attached to; nothing is known of its services yet. These are its rpmsg devices.
    Attached(Vec<RpmsgVdev>),
    /// It cannot be reached, but may go on where it was.
    CutOff(Loss),
    /// It can be reached again, and goes on as if nothing had been.
    Resumed,
    /// It is not there any more.
    Lost(Loss),
}

/// How a remote core was lost.
#[derive(Debug, Error)]
pub enum Loss {
    /// The doorbell socket was closed.
    #[error("its doorbell socket was closed")]
    Closed,
    /// It said so.
    #[error("it reports a crash")]
    Crashed,
    /// A vring is unusable.
    #[error("a vring is unusable")]
    Fault(#[source] VringFault),
    /// It has booted anew.
    #[error("it has booted anew")]
    Rebooted,
    /// It has booted anew, and is not attached to any more.
    #[error("it has booted anew, and is left alone")]
    LeftAlone,
    /// It does not answer.
    #[error("it has not answered the last heartbeat")]
    Silent,
    /// It has messages and does nothing about them.
    #[error("it hangs: it has consumed nothing for {} ms, although it has messages", .0.as_millis())]
    Hangs(Duration),
    /// Its watchdog says so.
    #[error("its watchdog has fired")]
    Watchdog,
    /// It was stopped.
    #[error("it is switched off")]
    Stopped,
    /// Somebody has truncated a file with its memory.
    #[error("a file with its memory was truncated")]
    Torn,
}

/// What a core is doing, for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Switched off.
    Offline,
    /// Being started, or looked for.
    Booting,
    /// Attached to, and started by somebody else.
    Attached,
    /// Attached to, and started by us.
    Running,
    /// It has crashed and has not come back yet.
    Crashed,
    /// Let go of.
    Detached,
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            State::Offline => "offline",
            State::Booting => "booting",
            State::Attached => "attached",
            State::Running => "running",
            State::Crashed => "crashed",
            State::Detached => "detached",
        })
    }
}

/// What goes on with a core.
#[derive(Debug)]
enum Phase {
    Off,
    /// It is started at this time, if the cores are up that it comes after.
    Waiting(Instant),
    Busy,
    /// Until it has answered, or this time has come.
    Ending(Instant),
    Up,
    GivenUp,
}

/// A remote core and what the host knows of it.
#[derive(Debug)]
pub struct RemoteCore {
    config: RemoteConfig,
    phase: Phase,
    mailbox: Option<Box<dyn Mailbox>>,
    /// A closed mailbox whose descriptor somebody may still be waiting for.
    retired: Option<Box<dyn Mailbox>>,
    memory: Option<Mapped>,
    attachment: Option<Attachment>,
    /// What was attached last: firmware may leave its table as the host has written it.
    former: Option<Attachment>,
    /// Whether the line to a core that is attached has been cut.
    is_cut_off: bool,
    /// Whether it was so because the core does not answer.
    is_silent: bool,
    chores: Option<Chores>,
    /// Where the firmware that was loaded has its table.
    table_of_firmware: Option<u64>,
    /// Whether it has been started by us and has not said that it is ready yet.
    expects_ready: bool,
    /// Whether it can be attached to without asking, once what it was before has been let go of.
    is_ready: bool,
    /// Whether it has said so while its memory was being dumped.
    was_ready: bool,
    crashes: Crashes,
    has_crashed: bool,
    watch: Watch,
    watchdog: Option<Watchdog>,
    /// Whether any VM uses it.
    is_needed: bool,
    /// Whether it was switched off by order.
    is_held_off: bool,
    /// Whether its start has begun since it was last stopped.
    is_on: bool,
    /// Whether it is to be started once it is off.
    starts_anew: bool,
    /// Whether the cores that it comes after know that it counts on them.
    counts_on_others: bool,
    presence: Option<Arc<Presence>>,
    /// When to try again or ask again; `None` while attached.
    timer: Option<Instant>,
    attempts: u32,
    connected_at: Instant,
    last_trouble: String,
    last_left_alone: Vec<String>,
    unknown_signals: u64,
    log: LogLimit,
}

impl RemoteCore {
    /// A core that nobody has looked for yet: the first [`on_timer`](Self::on_timer) does.
    pub fn new(config: RemoteConfig, now: Instant) -> Self {
        let watch = Watch::new(&config.watch);
        let phase = match &config.boot {
            Some(boot) if boot.on_demand => Phase::Off,
            Some(_) => Phase::Waiting(now),
            None => Phase::Up,
        };
        let timer = matches!(phase, Phase::Up).then_some(now);
        RemoteCore {
            config,
            phase,
            mailbox: None,
            retired: None,
            memory: None,
            attachment: None,
            former: None,
            is_cut_off: false,
            is_silent: false,
            chores: None,
            table_of_firmware: None,
            expects_ready: false,
            is_ready: false,
            was_ready: false,
            crashes: Crashes::default(),
            has_crashed: false,
            watch,
            watchdog: None,
            is_needed: false,
            is_held_off: false,
            is_on: false,
            starts_anew: false,
            counts_on_others: false,
            presence: None,
            timer,
            attempts: 0,
            connected_at: now,
            last_trouble: String::new(),
            last_left_alone: Vec::new(),
            unknown_signals: 0,
            log: LogLimit::default(),
        }
    }

    /// The same core, which tells others by this whether it is up, and stays up while they count on it.
    #[must_use]
    pub fn known_by(mut self, presence: Arc<Presence>) -> Self {
        self.presence = Some(presence);
        self
    }

    /// Its name, for people.
    pub fn name(&self) -> &str {
        &self.config.name
    }

    /// What it is doing.
    pub fn state(&self) -> State {
        let is_attached = self.attachment.is_some() && !self.is_cut_off;
        match self.phase {
            Phase::Up if is_attached && self.config.boot.is_some() => State::Running,
            Phase::Up if is_attached => State::Attached,
            Phase::GivenUp => State::Crashed,
            Phase::Up | Phase::Waiting(_) | Phase::Busy if self.has_crashed => State::Crashed,
            Phase::Up | Phase::Waiting(_) | Phase::Busy => State::Booting,
            Phase::Off if self.config.boot.is_none() => State::Detached,
            Phase::Off | Phase::Ending(_) => State::Offline,
        }
    }

    /// The mailbox, to wait for its signals; another one after every new connection.
    pub fn mailbox(&self) -> Option<&dyn Mailbox> {
        self.mailbox.as_deref()
    }

    /// The mailbox that was closed, to stop waiting for it before its descriptor is closed too.
    pub fn take_retired_mailbox(&mut self) -> Option<Box<dyn Mailbox>> {
        self.retired.take()
    }

    /// The mailbox to kick, while the core is attached.
    #[inline]
    pub fn bell(&mut self) -> Option<&mut dyn Mailbox> {
        let mailbox = self.mailbox.as_mut().filter(|_| self.attachment.is_some() && !self.is_cut_off)?;
        Some(mailbox.as_mut())
    }

    /// What becomes readable when the service thread has done something; none before it has had anything to do.
    pub fn chores(&self) -> Option<RawFd> {
        self.chores.as_ref().map(Chores::descriptor)
    }

    /// What becomes readable when its watchdog fires.
    pub fn watchdog(&self) -> Option<RawFd> {
        self.watchdog.as_ref().filter(|watchdog| !watchdog.is_deaf()).map(AsRawFd::as_raw_fd)
    }

    /// What becomes readable when another core begins or ceases to count on this one.
    pub fn presence(&self) -> Option<RawFd> {
        self.presence.as_ref().map(|presence| presence.changes().as_raw_fd())
    }

    /// When [`on_timer`](Self::on_timer) is due.
    pub fn timer(&self) -> Option<Instant> {
        let phase = match self.phase {
            Phase::Waiting(at) | Phase::Ending(at) => Some(at),
            _ => None,
        };
        let retry = self.mailbox.as_ref().and_then(|mailbox| mailbox.retry_at());
        [phase, self.timer, retry, self.watch.due()].into_iter().flatten().min()
    }

    /// Signals without a meaning that were received and ignored.
    pub fn unknown_signals(&self) -> u64 {
        self.unknown_signals
    }

    /// What can be seen of the core now.
    #[inline]
    pub fn see(&mut self, traffic: Traffic, now: Instant) {
        if self.attachment.is_some() && !self.is_cut_off {
            self.watch.see(traffic, now);
        }
    }

    /// Gives the core up if its memory is not there any more.
    #[inline]
    pub fn look_at_memory(&mut self, now: Instant) -> Option<Change> {
        if !self.memory.as_ref().is_some_and(|memory| memory.carveouts.are_torn()) {
            return None;
        }
        self.memory = None;
        if self.retired.is_none() {
            self.retired = self.mailbox.take();
        }
        self.retry(now, 0);
        self.lose(now, Loss::Torn)
    }

    /// Takes what the mailbox has received, and sends what waits for the socket.
    pub fn on_mailbox(&mut self, now: Instant) -> Option<Change> {
        let mailbox = self.mailbox.as_mut()?;
        let mut signals = Signals::default();
        mailbox.flush(now);
        let received = mailbox.receive(&mut signals);
        self.unknown_signals += signals.unknown;
        if let Err(error) = received {
            debug!("remote {}: {error}", self.config.name);
            return self.mailbox_closed(now);
        }
        if signals.shut_down && matches!(self.phase, Phase::Ending(_)) {
            self.switch_off();
            return None;
        }
        if !matches!(self.phase, Phase::Up) {
            self.was_ready |= signals.ready;
            return None;
        }
        if signals.echo || signals.running {
            self.watch.answered();
        }
        if signals.ready {
            return self.ready(now);
        }
        if signals.crashed {
            return self.lose(now, Loss::Crashed);
        }
        let is_there = signals.running || self.is_silent && signals.echo;
        if is_there && (self.attachment.is_none() || self.is_cut_off) {
            return self.attach_running(now);
        }
        None
    }

    /// Does what is due: starts, connects, asks, or attaches to a core that does not answer.
    pub fn on_timer(&mut self, now: Instant) -> Option<Change> {
        let retry_at = self.mailbox.as_ref().and_then(|mailbox| mailbox.retry_at());
        if retry_at.is_some_and(|at| now >= at)
            && let Some(change) = self.on_mailbox(now)
        {
            return Some(change);
        }
        match self.phase {
            Phase::Waiting(at) if now >= at => self.start(now),
            Phase::Ending(by) if now >= by => {
                warn!("remote {}: it has not answered the request to shut down", self.config.name);
                self.switch_off();
            }
            Phase::Up => {
                if let Some(change) = self.look(now) {
                    return Some(change);
                }
                if self.timer.is_some_and(|due| now >= due) {
                    return match self.is_ready {
                        true => self.attach(now).map(Change::Attached),
                        false => self.seek(now),
                    };
                }
            }
            _ => {}
        }
        None
    }

    /// Its watchdog has something to say.
    pub fn on_watchdog(&mut self, now: Instant) -> Option<Change> {
        let has_fired = self.watchdog.as_mut()?.has_fired();
        match has_fired {
            Ok(false) => None,
            Ok(true) => self.lose(now, Loss::Watchdog),
            Err(error) => {
                warn!("remote {}: its watchdog cannot be heard any more: {error}", self.config.name);
                None
            }
        }
    }

    /// Gives the devices up because of what was found in a vring. Only a reboot of the core brings it back.
    pub fn fault(&mut self, now: Instant, fault: VringFault) -> Option<Change> {
        self.lose(now, Loss::Fault(fault))
    }

    /// Looks whether it is well.
    fn look(&mut self, now: Instant) -> Option<Change> {
        match self.watch.look(now)? {
            Finding::Ask => {
                let mailbox = self.mailbox.as_mut()?;
                if !mailbox.request(Request::Echo) && self.watch.cannot_ask() {
                    warn!("remote {}: its mailbox has no heartbeat, none is expected", self.config.name);
                }
                None
            }
            Finding::Silent => self.does_not_answer(now, Loss::Silent),
            Finding::Hangs(since) if self.watch.can_ask() => self.does_not_answer(now, Loss::Hangs(since)),
            Finding::Hangs(since) => self.lose(now, Loss::Hangs(since)),
        }
    }

    /// It was asked whether it is well. Unless it is ours to reboot it may only be slow: it is asked again and again, and
    /// goes on where it was if it answers.
    fn does_not_answer(&mut self, now: Instant, loss: Loss) -> Option<Change> {
        if self.config.recovery.policy != RecoveryPolicy::Reattach {
            return self.lose(now, loss);
        }
        self.watch.end();
        self.is_cut_off = true;
        self.is_silent = true;
        self.tell_others();
        self.retry(now, 0);
        Some(Change::CutOff(loss))
    }

    /// The remote has booted.
    fn ready(&mut self, now: Instant) -> Option<Change> {
        if mem::take(&mut self.expects_ready)
            && self.attachment.as_ref().is_some_and(|attachment| !attachment.is_overwritten())
        {
            return None;
        }
        let had = self.forget();
        // Firmware whose table was put there by a loader starts with what its last run has left in it.
        if let Some(former) = self.former.take().filter(Attachment::is_untouched) {
            former.detach();
        }
        if had {
            let verdict = self.crashes.another(&self.config.recovery, now);
            if let Some(change) = self.leave_alone(verdict, Loss::LeftAlone) {
                return Some(change);
            }
            return Some(self.succeed(now));
        }
        self.attach(now).map(Change::Attached)
    }

    /// The core that was attached has a successor. It is attached to when the bridge has let go of the old vrings, which
    /// are cleared then.
    fn succeed(&mut self, now: Instant) -> Change {
        self.is_ready = true;
        self.timer = Some(now);
        Change::Lost(Loss::Rebooted)
    }

    fn mailbox_closed(&mut self, now: Instant) -> Option<Change> {
        self.retired = self.mailbox.take();
        if !matches!(self.phase, Phase::Up) {
            return None;
        }
        self.retry(now, 0);
        self.is_silent = false;
        let is_ours = self.config.boot.is_some() && self.config.recovery.policy == RecoveryPolicy::Reboot;
        let is_for_good = matches!(self.config.mailbox, MailboxConfig::Stream(_));
        if is_ours {
            return self.lose(now, Loss::Closed);
        }
        if self.attachment.is_none() || self.is_cut_off {
            return None;
        }
        if is_for_good {
            self.forget();
            return Some(Change::Lost(Loss::Closed));
        }
        self.watch.end();
        self.is_cut_off = true;
        self.tell_others();
        Some(Change::CutOff(Loss::Closed))
    }

    /// Looks for a core that should be up.
    fn seek(&mut self, now: Instant) -> Option<Change> {
        if self.mailbox.is_none() {
            if !self.connect(now) {
                return None;
            }
            // Hardware may have signals whose interrupt a predecessor has taken.
            let change = self.on_mailbox(now);
            if change.is_some() || self.mailbox.is_none() || self.timer.is_none() {
                return change;
            }
        }
        if self.is_silent {
            // Its table says nothing of whether it lives.
            if let Some(mailbox) = &mut self.mailbox {
                mailbox.request(Request::Echo);
            }
            self.retry(now, self.attempts.saturating_add(1));
            return None;
        }
        let silent = now.duration_since(self.connected_at);
        if self.config.attach_after.is_some_and(|limit| silent >= limit) {
            return self.attach_running(now);
        }
        let can_ask = self.mailbox.as_mut().is_some_and(|mailbox| mailbox.request(Request::State));
        if !can_ask {
            // Nobody will say that it is there; its table does.
            return self.attach_running(now);
        }
        self.retry(now, self.attempts.saturating_add(1));
        None
    }

    /// Opens mailbox and memory. Returns whether both are there.
    fn connect(&mut self, now: Instant) -> bool {
        let connected = link::open_mailbox(&mut self.config.mailbox).and_then(|mailbox| {
            let is_new = link::map(&self.config.memory, &mut self.memory)?;
            Ok((mailbox, is_new))
        });
        match connected {
            Ok((mailbox, is_new)) => {
                if is_new {
                    self.former = None;
                    if let Some(attachment) = &mut self.attachment {
                        attachment.forsake();
                    }
                }
                self.mailbox = Some(mailbox);
                self.connected_at = now;
                self.attempts = 0;
                self.open_watchdog();
                true
            }
            Err(error) => {
                self.trouble(&error);
                self.retry(now, self.attempts.saturating_add(1));
                false
            }
        }
    }

    fn open_watchdog(&mut self) {
        let Some(path) = self.config.watch.watchdog.as_ref().filter(|_| self.watchdog.is_none()) else {
            return;
        };
        match Watchdog::open(path) {
            Ok(watchdog) => self.watchdog = Some(watchdog),
            Err(error) => {
                let path = path.display();
                let text =
                    format_args!("remote {}: cannot open its watchdog {path}: {error}", self.config.name);
                self.log.say(log::Level::Warn, text);
            }
        }
    }

    /// Forgets what was attached. Returns whether something was.
    fn forget(&mut self) -> bool {
        self.is_cut_off = false;
        self.is_silent = false;
        self.is_ready = false;
        self.watch.end();
        let attachment = self.attachment.take();
        let had = attachment.is_some();
        self.former = attachment.or(self.former.take());
        self.tell_others();
        had
    }

    /// Attaches to a core that has been up before: one that we know, or one that is new to us.
    fn attach_running(&mut self, now: Instant) -> Option<Change> {
        if self.is_cut_off && self.attachment.as_ref().is_some_and(Attachment::is_untouched) {
            info!("remote {}: it is back, going on", self.config.name);
            self.is_cut_off = false;
            self.is_silent = false;
            self.timer = None;
            self.watch.begin(now);
            self.tell_others();
            return Some(Change::Resumed);
        }
        if self.forget() {
            return Some(self.succeed(now));
        }
        self.attach(now).map(Change::Attached)
    }

    fn attach(&mut self, now: Instant) -> Option<Vec<RpmsgVdev>> {
        let memory = &self.memory.as_ref()?.carveouts;
        let layout = match locate::layout(self.config.vrings, memory, self.table_of_firmware) {
            Ok(layout) => layout,
            Err(error) => {
                self.trouble(&error);
                self.retry(now, FAST_ATTEMPTS);
                return None;
            }
        };
        match attach(memory, &layout) {
            Ok((attachment, devices)) => {
                if let Some(mailbox) = &mut self.mailbox {
                    for device in &devices {
                        mailbox.kick(device.inbound.notifyid());
                    }
                }
                for entry in &attachment.left_alone {
                    if !self.last_left_alone.contains(entry) {
                        info!("remote {}: resource table entry {entry}: left alone", self.config.name);
                    }
                }
                self.last_left_alone.clone_from(&attachment.left_alone);
                self.log.say(log::Level::Info, format_args!("remote {}: attached", self.config.name));
                self.last_trouble.clear();
                self.attachment = Some(attachment);
                self.former = None;
                self.timer = None;
                self.has_crashed = false;
                self.crashes.up(now);
                self.watch.begin(now);
                self.tell_others();
                Some(devices)
            }
            Err(error) => {
                self.trouble(&error);
                self.retry(now, FAST_ATTEMPTS);
                None
            }
        }
    }

    fn retry(&mut self, now: Instant, attempts: u32) {
        self.is_ready = false;
        self.attempts = attempts;
        let wait = match attempts {
            _ if self.expects_ready && attempts < EAGER_ATTEMPTS => EAGER_RETRY,
            0..FAST_ATTEMPTS => RETRY,
            _ => SLOW_RETRY,
        };
        self.timer = Some(now + wait);
    }

    /// Says what stands in the way; the same thing only once.
    fn trouble(&mut self, error: &dyn std::error::Error) {
        let text = Causes(error).to_string();
        if text != self.last_trouble {
            warn!("remote {}: waiting for it: {text}", self.config.name);
            self.last_trouble = text;
        }
    }

    /// Tells cores that come after this one whether it is up.
    fn tell_others(&self) {
        if let Some(presence) = &self.presence {
            presence.set_up(self.attachment.is_some() && !self.is_cut_off);
        }
    }
}
