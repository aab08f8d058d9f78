//! After a crash.

use std::mem;
use std::sync::Arc;
use std::time::Instant;

use log::{Level, info, warn};

use super::super::chores::{Chore, Chores, Done};
use super::super::config::VringsConfig;
use super::super::locate::LocateError;
use super::super::recovery::{RecoveryPolicy, Verdict};
use super::seek::{EAGER_TIME, FAST_ATTEMPTS, RETRY, SLOW_RETRY};
use super::{Change, Loss, Phase, RemoteCore};
use crate::causes::Causes;
use crate::remote::dump;

impl RemoteCore {
    /// The core is not there any more.
    pub(super) fn lose(&mut self, now: Instant, loss: Loss) -> Option<Change> {
        let had = self.forget();
        // What it says of a crash while it is waited for to boot anew by itself is no other crash.
        let is_known = self.has_crashed && self.config.recovery.policy == RecoveryPolicy::Reattach;
        if !had && (self.config.boot.is_none() || is_known) {
            return None;
        }
        if !had {
            let name = &self.config.name;
            let text = format_args!("remote {name}: lost before it could be attached to: {}", Causes(&loss));
            self.log.say(log::Level::Warn, text);
        }
        self.has_crashed = true;
        self.was_ready = false;
        if !self.dump(now) {
            self.recover(now);
        }
        had.then_some(Change::Lost(loss))
    }

    /// Has its memory dumped, if that is wanted. Returns whether it is.
    fn dump(&mut self, now: Instant) -> bool {
        let (Some(directory), Some(memory)) = (self.config.dump.clone(), &self.memory) else { return false };
        let (carveouts, name) = (memory.carveouts.clone(), self.config.name.clone());
        let host = Arc::clone(&self.host);
        let dump = move || Done::Dumped(dump::dump(&*host, &carveouts, &name, &directory));
        let is_given = self.busy(now, Box::new(dump));
        if is_given {
            self.phase = Phase::Dumping;
        }
        is_given
    }

    /// Does about a crash what is configured.
    pub(super) fn recover(&mut self, now: Instant) {
        let verdict = self.crashes.another(&self.config.recovery, now);
        if self.leave_alone(verdict, Loss::Crashed).is_some() {
            return;
        }
        match verdict {
            Verdict::Reboot(at) if self.config.boot.is_some() => {
                self.starts_anew = true;
                match at <= now {
                    true => self.switch_off(now),
                    false => self.phase = Phase::Waiting(at),
                }
            }
            _ => {
                self.phase = Phase::Up;
                self.silent_since = now;
                // Its successor announces itself with "ready"; one that we missed is found by asking.
                self.retry(now, FAST_ATTEMPTS);
            }
        }
    }

    /// Leaves the core alone if that is the verdict.
    pub(super) fn leave_alone(&mut self, verdict: Verdict, loss: Loss) -> Option<Change> {
        let name = &self.config.name;
        match verdict {
            Verdict::Leave => {
                info!("remote {name}: recovery is off; it is left as it is until it is started");
            }
            Verdict::GiveUp(times) => {
                warn!(
                    "remote {name}: given up after {times} crashes in a row; look at its trace and dump, then start it"
                );
            }
            Verdict::Reattach | Verdict::Reboot(_) => return None,
        }
        self.phase = Phase::GivenUp;
        self.has_crashed = true;
        self.timer = None;
        Some(Change::Lost(loss))
    }

    /// Gives the service thread something to do. Returns whether there is one; without, the core is tried again later.
    pub(super) fn busy(&mut self, now: Instant, chore: Chore) -> bool {
        if self.chores.is_none() {
            match Chores::new(&self.config.name) {
                Ok(chores) => self.chores = Some(chores),
                Err(error) => {
                    self.trouble(&error);
                    self.phase = Phase::Waiting(now + SLOW_RETRY);
                    return false;
                }
            }
        }
        if let Some(chores) = &mut self.chores {
            chores.give(chore);
        }
        self.phase = Phase::Busy;
        self.timer = None;
        true
    }

    /// Takes what the service thread has done.
    pub fn on_chores(&mut self, now: Instant) -> Option<Change> {
        self.chores.as_ref()?.acknowledge();
        let mut change = None;
        while let Some(done) = self.chores.as_mut()?.take() {
            change = self.done(now, done).or(change);
        }
        change
    }

    fn done(&mut self, now: Instant, done: Done) -> Option<Change> {
        let name = &self.config.name;
        let is_to_stop = mem::take(&mut self.is_to_stop);
        match done {
            Done::Dumped(result) => {
                match result {
                    Ok(path) => info!("remote {name}: its memory is in {}", path.display()),
                    Err(error) => warn!("remote {name}: its memory is not dumped: {}", Causes(&error)),
                }
                self.phase = Phase::Up;
                if is_to_stop || self.starts_anew || !self.is_wanted() {
                    self.switch_off(now);
                    return None;
                }
                self.recover(now);
                if matches!(self.phase, Phase::Up) && self.was_ready {
                    return self.ready(now);
                }
            }
            // It has not been started.
            Done::Loaded(_) if is_to_stop || !self.is_wanted() => self.is_off(now),
            Done::Loaded(Ok(loaded)) => {
                self.table_of_firmware = loaded.table.map(|table| table.address);
                if self.table_of_firmware.is_none() && self.config.vrings == VringsConfig::TableOfFirmware {
                    self.cannot_start(now, &LocateError::NotInFirmware);
                } else {
                    self.turn_on(now);
                }
            }
            Done::Started(result) if is_to_stop || !self.is_wanted() => {
                if let Err(error) = result {
                    warn!("remote {name}: cannot be started: {}", Causes(&error));
                }
                self.phase = Phase::Up;
                self.switch_off(now);
            }
            Done::Started(Ok(())) => {
                self.power_log.say(Level::Info, format_args!("remote {name}: started"));
                self.phase = Phase::Up;
                self.expects_ready = true;
                self.eager_until = now + EAGER_TIME;
                self.silent_since = now;
                // It may have said that it is ready before anybody could hear it.
                self.retry(now, 0);
                return self.seek(now);
            }
            Done::Loaded(Err(error)) => self.cannot_start(now, &error),
            Done::Started(Err(error)) => self.cannot_start(now, &error),
            Done::Stopped(result) => {
                match result {
                    Ok(()) => {
                        self.power_log.say(Level::Info, format_args!("remote {name}: stopped"));
                        self.is_on = false;
                    }
                    Err(error) => {
                        let text = format_args!("remote {name}: cannot be stopped: {}", Causes(&error));
                        self.power_log.say(Level::Warn, text);
                    }
                }
                self.is_off(now);
            }
        }
        None
    }

    fn cannot_start(&mut self, now: Instant, error: &dyn std::error::Error) {
        let text = format_args!("remote {}: cannot be started: {}", self.config.name, Causes(error));
        self.power_log.say(Level::Warn, text);
        self.has_crashed = true;
        let verdict = self.crashes.another(&self.config.recovery, now);
        if self.leave_alone(verdict, Loss::Crashed).is_some() {
            return;
        }
        // Nothing brings it up but another attempt, whatever the policy is for a core that was up.
        let at = match verdict {
            Verdict::Reboot(at) => at.max(now + RETRY),
            _ => now + SLOW_RETRY,
        };
        self.phase = Phase::Waiting(at);
    }
}
