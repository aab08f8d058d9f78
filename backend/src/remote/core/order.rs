//! Switching a core on and off: because VMs need it, because somebody says so, or because the program ends.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use log::{Level, info, warn};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::super::chores::{Chores, Done};
use super::super::firmware::Firmware;
use super::super::layout::Layout;
use super::super::link;
use super::super::locate;
use super::super::mailbox::{Request, Signals};
use super::super::memory::Carveouts;
use super::super::power::Step;
use super::seek::{FAST_ATTEMPTS, RETRY, SLOW_RETRY};
use super::{Change, Loss, Phase, RemoteCore, State};
use crate::causes::Causes;

/// How long a core may take to answer a request to shut down (Linux `drivers/remoteproc/stm32_rproc.c`).
const SHUT_DOWN_TIME: Duration = Duration::from_millis(500);

/// What somebody wants of a core.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Order {
    /// To be switched on, or looked for again.
    Start,
    /// To be switched off, or let go of where somebody else has started it.
    Stop,
    /// To be switched off and on, with this firmware from now on if any is named.
    Restart(Option<PathBuf>),
}

/// An order cannot be carried out.
#[derive(Clone, Copy, Debug, thiserror::Error, PartialEq, Eq)]
#[error(
    "this core is started by somebody else; for firmware to be loaded it takes `firmware` in its configuration"
)]
pub struct NoFirmware;

/// What can be seen of a core at one moment.
#[derive(Clone, Debug)]
pub struct Inspection {
    /// What it is doing.
    pub state: State,
    /// Its memory, once that has been mapped.
    pub memory: Option<Carveouts>,
    /// Where its vrings are, if that is known.
    pub layout: Option<Layout>,
}

impl RemoteCore {
    /// What can be seen of the core now.
    pub fn inspect(&self) -> Inspection {
        Inspection {
            state: self.state(),
            memory: self.memory.as_ref().map(|memory| memory.carveouts.clone()),
            layout: self.memory.as_ref().and_then(|memory| {
                let (vrings, memory) = (self.config.vrings, &memory.carveouts);
                locate::layout(vrings, memory, self.table_of_firmware, &*self.host).ok()
            }),
        }
    }

    /// Carries out an order.
    ///
    /// # Errors
    /// Firmware for a core that is not ours to boot.
    pub fn order(&mut self, order: &Order, now: Instant) -> Result<Option<Change>, NoFirmware> {
        if let Order::Restart(Some(path)) = order {
            self.config.boot.as_ref().filter(|boot| boot.firmware.is_some()).ok_or(NoFirmware)?;
            self.firmware = Some(path.clone());
        }
        self.crashes.forgive();
        self.is_held_off = *order == Order::Stop;
        Ok(match order {
            Order::Start => {
                self.start_if_off(now);
                None
            }
            Order::Stop => {
                self.starts_anew = false;
                self.stop(now)
            }
            Order::Restart(_) if matches!(self.phase, Phase::Off | Phase::GivenUp | Phase::Waiting(_)) => {
                self.starts_anew = true;
                self.switch_off(now);
                None
            }
            Order::Restart(_) => {
                self.starts_anew = true;
                self.stop(now)
            }
        })
    }

    /// Whether any VM uses the core now.
    pub fn needed(&mut self, is_needed: bool, now: Instant) -> Option<Change> {
        self.is_needed = is_needed;
        self.on_need(now)
    }

    /// Another core has begun or ceased to count on this one.
    pub fn on_presence(&mut self, now: Instant) -> Option<Change> {
        if let Some(presence) = &self.presence {
            // Empty already where several changes came at once.
            let _ = presence.changes().read();
        }
        self.on_need(now)
    }

    pub(super) fn is_wanted(&self) -> bool {
        let on_demand = self.config.boot.as_ref().is_some_and(|boot| boot.on_demand);
        let is_used = self.presence.as_ref().is_some_and(|presence| presence.is_used());
        !self.is_held_off && (!on_demand || self.is_needed || is_used)
    }

    fn on_need(&mut self, now: Instant) -> Option<Change> {
        match self.is_wanted() {
            true if matches!(self.phase, Phase::Off) => self.start_if_off(now),
            false if matches!(self.phase, Phase::Up | Phase::Waiting(_)) => return self.stop(now),
            _ => {}
        }
        None
    }

    fn start_if_off(&mut self, now: Instant) {
        match self.phase {
            Phase::Off | Phase::GivenUp if self.config.boot.is_none() => {
                self.phase = Phase::Up;
                self.silent_since = now;
                self.retry(now, 0);
            }
            Phase::Off => self.phase = Phase::Waiting(now),
            // It may still be on, whatever it is doing.
            Phase::GivenUp => {
                self.starts_anew = true;
                self.switch_off(now);
            }
            Phase::Ending(_) | Phase::Dumping => self.starts_anew = true,
            Phase::Busy => self.starts_anew |= self.is_to_stop,
            Phase::Waiting(_) | Phase::Up => {}
        }
    }

    /// Starts the core, once those are up that it comes after.
    pub(super) fn start(&mut self, now: Instant) {
        if self.starts_anew || !self.is_wanted() {
            // It waits after a crash, and is still on.
            return self.switch_off(now);
        }
        self.count_on_others(true);
        if let Some(other) = self.config.after.iter().find(|other| !other.is_up()) {
            let text = format!("remote {}: waits for remote {} to be up", self.config.name, other.name());
            if text != self.last_trouble {
                self.trouble_log.say(Level::Info, format_args!("{text}"));
                self.last_trouble = text;
            }
            self.attempts = self.attempts.saturating_add(1);
            let wait = if self.attempts < FAST_ATTEMPTS { RETRY } else { SLOW_RETRY };
            self.phase = Phase::Waiting(now + wait);
            return;
        }
        if self.config.boot.as_ref().is_none_or(|boot| boot.firmware.is_none()) {
            return self.turn_on(now);
        }
        if let Err(error) = link::map(&*self.host, &self.config.memory, &mut self.memory) {
            self.trouble(&error);
            self.phase = Phase::Waiting(now + SLOW_RETRY);
            return;
        }
        let Some(memory) = &self.memory else { return };
        let carveouts = memory.carveouts.clone();
        let (host, named) = (Arc::clone(&self.host), self.firmware.clone());
        let load = move || {
            let (file, path) = host.firmware(named)?;
            Ok(Firmware::read(&path, &file)?.load(&carveouts)?)
        };
        self.busy(now, Box::new(move || Done::Loaded(load())));
    }

    /// Throws the switch.
    pub(super) fn turn_on(&mut self, now: Instant) {
        if self.config.boot.is_none() {
            self.phase = Phase::Up;
            return self.retry(now, 0);
        }
        let host = Arc::clone(&self.host);
        self.is_on = self.busy(now, Box::new(move || Done::Started(host.switch(Step::Start))));
    }

    /// Ends the core's work in good order.
    pub(super) fn stop(&mut self, now: Instant) -> Option<Change> {
        if matches!(self.phase, Phase::Ending(_)) {
            return None;
        }
        let was_attached = self.let_go();
        if self.config.boot.is_some() && matches!(self.phase, Phase::Up) && was_attached {
            let is_told = self.mailbox.as_mut().is_some_and(|mailbox| mailbox.request(Request::ShutDown));
            match is_told {
                true => self.phase = Phase::Ending(now + SHUT_DOWN_TIME),
                false => self.switch_off(now),
            }
        } else if self.config.boot.is_some() && !self.is_on && matches!(self.phase, Phase::Waiting(_)) {
            self.is_off(now);
        } else {
            self.switch_off(now);
        }
        was_attached.then_some(Change::Lost(Loss::Stopped))
    }

    /// Lets go of the devices, so that the core or another host can have them. Returns whether there were any.
    fn let_go(&mut self) -> bool {
        let Some(attachment) = self.attachment.take() else { return false };
        let notifyid = attachment.notifyid();
        // Behind a line that was cut there may be another core by now, with a table of its own.
        if !self.is_cut_off || attachment.is_untouched() {
            attachment.detach();
        }
        if let Some(mailbox) = &mut self.mailbox
            && !mailbox.request(Request::Detach)
        {
            mailbox.kick(notifyid);
        }
        self.forget();
        self.power_log.say(Level::Info, format_args!("remote {}: detached", self.config.name));
        true
    }

    /// Throws the switch, whatever the core is doing, as soon as the service thread can.
    pub(super) fn switch_off(&mut self, now: Instant) {
        self.timer = None;
        self.expects_ready = false;
        if matches!(self.phase, Phase::Busy | Phase::Dumping) {
            self.is_to_stop = true;
            return;
        }
        if self.config.boot.is_none() {
            return self.is_off(now);
        }
        let host = Arc::clone(&self.host);
        self.busy(now, Box::new(move || Done::Stopped(host.switch(Step::Stop))));
    }

    /// The core is off.
    pub(super) fn is_off(&mut self, now: Instant) {
        if self.config.boot.is_some() {
            self.retire_mailbox();
        }
        self.phase = Phase::Off;
        self.attempts = 0;
        if std::mem::take(&mut self.starts_anew) && self.is_wanted() {
            self.start_if_off(now);
        } else if self.is_wanted() && self.config.boot.is_some() {
            self.phase = Phase::Waiting(now);
        } else {
            self.count_on_others(false);
        }
    }

    pub(super) fn count_on_others(&mut self, counts: bool) {
        if std::mem::replace(&mut self.counts_on_others, counts) != counts {
            for other in &self.config.after {
                match counts {
                    true => other.enter(),
                    false => other.leave(),
                }
            }
        }
    }

    /// Leaves the core in a good state, as the program ends: a core that somebody else has started goes on without us,
    /// one of ours is shut down. Blocks until that is done.
    pub fn end(&mut self) {
        self.remember();
        // What happens now is nothing that holds for a program after this one.
        self.forget_to_remember();
        if self.config.is_remembered && self.config.boot.is_none() {
            return info!("remote {}: left as it is", self.config.name);
        }
        let was_attached = self.let_go();
        // What has begun comes to its end first: a core that is being started could not be stopped.
        let last = self.chores.as_mut().and_then(Chores::finish);
        let is_on = self.is_on && !matches!(last, Some(Done::Stopped(Ok(()))));
        // Nothing that is still heard of it matters.
        self.phase = Phase::Off;
        self.is_held_off = true;
        if self.config.boot.is_some() && is_on {
            if was_attached {
                self.wait_for_shut_down();
            }
            match self.host.switch(Step::Stop) {
                Ok(()) => info!("remote {}: stopped", self.config.name),
                Err(error) => warn!("remote {}: cannot be stopped: {}", self.config.name, Causes(&error)),
            }
        }
        self.count_on_others(false);
    }

    fn wait_for_shut_down(&mut self) {
        let Some(mailbox) = self.mailbox.as_mut() else { return };
        let until = Instant::now() + SHUT_DOWN_TIME;
        let mut signals = Signals::default();
        if !mailbox.request(Request::ShutDown) {
            return;
        }
        while !signals.shut_down {
            let now = Instant::now();
            if now >= until {
                return warn!("remote {}: it has not answered the request to shut down", self.config.name);
            }
            let next = mailbox.retry_at().map_or(until, |at| at.clamp(now, until));
            let Ok(timeout) = Timespec::try_from(next - now) else { return };
            let events = if mailbox.wants_write() { PollFlags::IN | PollFlags::OUT } else { PollFlags::IN };
            let descriptor = mailbox.descriptor();
            // Interrupted or not, what there is to do is done.
            let _ = poll(&mut [PollFd::new(&descriptor, events)], Some(&timeout));
            mailbox.flush(Instant::now());
            if let Err(error) = mailbox.receive(&mut signals) {
                return warn!("remote {}: it is gone before it has shut down: {error}", self.config.name);
            }
        }
    }
}
