//! The life of a remote core: from switched off to working vrings, and back.
//!
//! | phase | what goes on | next step |
//! |---|---|---|
//! | off | nobody needs it | a VM that does, or an order |
//! | waiting | it is to be started, but not yet: after a crash, or another core has to be up first | by timer |
//! | dumping | it has crashed, and the service thread writes its memory down | when that is done |
//! | busy | the service thread stops, loads or starts it | when that is done |
//! | ending | it has been told to shut down | its answer, or a time-out |
//! | up | it is looked for: connected to, asked "state?", attached to; then doorbells | what it says, by timer |
//! | given up | it has crashed and is left alone | an order |
//!
//! *Ready* means that the remote has just booted: whatever was attached is gone, and its table is read afresh.
//! *Running* attaches where nothing is attached. A closed socket is a core that is gone; should the same core answer
//! on a new connection with its table untouched, only the line was cut, and the vrings go on where they were.
//!
//! The service thread has one thing to do at a time. What is ordered meanwhile is remembered, and done next.

mod change;
mod mailbox;
mod order;
mod recover;
mod saved;
mod seek;

use std::os::fd::{AsRawFd, RawFd};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use log::{Level, warn};

use self::saved::Memory;
use super::attach::Attachment;
use super::chores::Chores;
use super::config::RemoteConfig;
use super::host::{Direct, Host};
use super::link::Mapped;
use super::mailbox::{Mailbox, Request};
use super::presence::Presence;
use super::recovery::{Crashes, RecoveryPolicy};
use super::vring::VringFault;
use super::watch::{Finding, Traffic, Watch};
use super::watchdog::Watchdog;
use crate::causes::Causes;
use crate::log_limit::LogLimit;

pub use change::{Change, Loss, State};
pub use order::{Inspection, NoFirmware, Order};
pub use saved::{Recovered, SavedCore};

/// What goes on with a core.
#[derive(Debug)]
enum Phase {
    Off,
    /// It is started at this time, if the cores are up that it comes after.
    Waiting(Instant),
    Dumping,
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
    host: Arc<dyn Host>,
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
    /// Whether that is because it does not answer; the mailbox is as it was.
    is_silent: bool,
    chores: Option<Chores>,
    /// Firmware that was named at run time, instead of what is configured.
    firmware: Option<PathBuf>,
    /// Where the firmware that was loaded has its table.
    table_of_firmware: Option<u64>,
    /// Whether it has been started by us and has not said that it is ready yet.
    expects_ready: bool,
    /// Whether it can be attached to without asking, once what it was before has been let go of.
    is_ready: bool,
    /// Until then it is looked for often, as it is about to come.
    eager_until: Instant,
    /// Whether it has said that it is ready while its memory was being dumped.
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
    /// Whether it is to be switched off once the service thread has done what it is doing.
    is_to_stop: bool,
    /// Whether the cores that it comes after know that it counts on them.
    counts_on_others: bool,
    presence: Option<Arc<Presence>>,
    /// How often it was attached to.
    attachments: u32,
    keeps: Option<Memory>,
    /// When to try again or ask again; `None` while attached.
    timer: Option<Instant>,
    attempts: u32,
    /// Since when it is waited for to say that it is there.
    silent_since: Instant,
    last_trouble: String,
    last_left_alone: Vec<String>,
    unknown_signals: u64,
    log: LogLimit,
    /// Of what stands in its way.
    trouble_log: LogLimit,
    /// Of its being switched on and off.
    power_log: LogLimit,
    /// Of what its table has in it.
    table_log: LogLimit,
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
            host: Arc::new(Direct::new(&config)),
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
            firmware: None,
            table_of_firmware: None,
            expects_ready: false,
            is_ready: false,
            eager_until: now,
            was_ready: false,
            crashes: Crashes::default(),
            has_crashed: false,
            watch,
            watchdog: None,
            is_needed: false,
            is_held_off: false,
            is_on: false,
            starts_anew: false,
            is_to_stop: false,
            counts_on_others: false,
            presence: None,
            attachments: 0,
            keeps: None,
            timer,
            attempts: 0,
            silent_since: now,
            last_trouble: String::new(),
            last_left_alone: Vec::new(),
            unknown_signals: 0,
            log: LogLimit::default(),
            trouble_log: LogLimit::default(),
            power_log: LogLimit::default(),
            table_log: LogLimit::default(),
        }
    }

    /// The same core, which tells others by this whether it is up, and stays up while they count on it.
    #[must_use]
    pub fn known_by(mut self, presence: Arc<Presence>) -> Self {
        self.presence = Some(presence);
        self
    }

    /// The same core, for which another host opens files and throws the switch than this process itself.
    #[must_use]
    pub fn served_by(mut self, host: Arc<dyn Host>) -> Self {
        self.host = host;
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
            Phase::GivenUp | Phase::Dumping => State::Crashed,
            Phase::Up | Phase::Waiting(_) | Phase::Busy if self.has_crashed => State::Crashed,
            Phase::Up | Phase::Waiting(_) | Phase::Busy => State::Booting,
            Phase::Off if self.config.boot.is_none() => State::Detached,
            Phase::Off | Phase::Ending(_) => State::Offline,
        }
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
            Phase::Up => self.timer,
            Phase::Off | Phase::Dumping | Phase::Busy | Phase::GivenUp => None,
        };
        let retry = self.mailbox.as_ref().and_then(|mailbox| mailbox.retry_at());
        [phase, retry, self.watch.due()].into_iter().flatten().min()
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
        self.retire_mailbox();
        self.retry(now, 0);
        self.lose(now, Loss::Torn)
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
                self.switch_off(now);
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
        let (has_fired, trouble) = self.watchdog.as_mut()?.has_fired();
        if let Some(error) = trouble {
            warn!("remote {}: its watchdog cannot be heard any more: {error}", self.config.name);
        }
        // One that is off, or has crashed already, does not feed its watchdog.
        if has_fired && matches!(self.phase, Phase::Up) { self.lose(now, Loss::Watchdog) } else { None }
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
        self.is_silent = true;
        self.silent_since = now;
        self.retry(now, 0);
        Some(self.cut_off(loss))
    }

    /// The core that was attached has a successor. It is attached to when the bridge has let go of the old vrings, which
    /// are cleared then.
    fn succeed(&mut self, now: Instant) -> Change {
        self.is_ready = true;
        self.timer = Some(now);
        Change::Lost(Loss::Rebooted)
    }

    /// It cannot be reached, and may go on where it was.
    fn cut_off(&mut self, loss: Loss) -> Change {
        self.watch.end();
        self.is_cut_off = true;
        self.tell_others();
        Change::CutOff(loss)
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

    /// Says what stands in the way; the same thing only once.
    fn trouble(&mut self, error: &dyn std::error::Error) {
        let text = Causes(error).to_string();
        if text != self.last_trouble {
            let line = format_args!("remote {}: waiting for it: {text}", self.config.name);
            self.trouble_log.say(Level::Warn, line);
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
