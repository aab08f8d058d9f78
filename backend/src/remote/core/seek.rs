//! Looking for a core that should be up, and attaching to it.

use std::time::{Duration, Instant};

use log::info;

use super::super::attach::{Attachment, RpmsgVdev, attach};
use super::super::link::{self, Mapped};
use super::super::locate;
use super::super::mailbox::Request;
use super::super::resume::AttachmentRecord;
use super::super::watchdog::Watchdog;
use super::{Change, Phase, RemoteCore};
use crate::causes::Causes;

/// Between two attempts to reach a remote core that is not there.
pub(super) const RETRY: Duration = Duration::from_millis(20);
/// Between two attempts once the first ones have failed.
pub(super) const SLOW_RETRY: Duration = Duration::from_secs(1);
/// Attempts before the slow interval.
pub(super) const FAST_ATTEMPTS: u32 = 100;
/// How long after a start the core is looked for eagerly: it is about to come.
pub(super) const EAGER_TIME: Duration = Duration::from_millis(500);
/// Between two attempts then.
const EAGER_RETRY: Duration = Duration::from_millis(5);

impl RemoteCore {
    /// Looks for a core that should be up.
    pub(super) fn seek(&mut self, now: Instant) -> Option<Change> {
        if self.mailbox.is_none() {
            if !self.connect(now) {
                return None;
            }
            // Hardware may have signals whose interrupt a predecessor has taken.
            let change = self.on_mailbox(now);
            let is_sought = matches!(self.phase, Phase::Up) && self.timer.is_some();
            if change.is_some() || self.mailbox.is_none() || !is_sought {
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
        let silent = now.duration_since(self.silent_since);
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
        let connected = link::open_mailbox(&*self.host, &mut self.config.mailbox).and_then(|mailbox| {
            let is_new = link::map(&*self.host, &self.config.memory, &mut self.memory)?;
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
                self.silent_since = now;
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

    pub(super) fn open_watchdog(&mut self) {
        if self.config.watch.watchdog.is_none() || self.watchdog.is_some() {
            return;
        }
        let name = &self.config.name;
        match self.host.watchdog().map(Watchdog::new) {
            Ok(Ok(watchdog)) => self.watchdog = Some(watchdog),
            Ok(Err(error)) => {
                let text = format_args!("remote {name}: cannot use its watchdog: {error}");
                self.log.say(log::Level::Warn, text);
            }
            Err(error) => {
                self.log.say(log::Level::Warn, format_args!("remote {name}: {}", Causes(&error)));
            }
        }
    }

    /// Attaches to a core that has been up before: one that we know, or one that is new to us.
    pub(super) fn attach_running(&mut self, now: Instant) -> Option<Change> {
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

    pub(super) fn attach(&mut self, now: Instant) -> Option<Vec<RpmsgVdev>> {
        let Mapped { carveouts: memory, identity } = self.memory.as_ref()?;
        let layout = match locate::layout(self.config.vrings, memory, self.table_of_firmware, &*self.host) {
            Ok(layout) => layout,
            Err(error) => {
                self.trouble(&error);
                self.retry(now, FAST_ATTEMPTS);
                return None;
            }
        };
        let keeps = &mut self.keeps;
        let mut remember = |record: &AttachmentRecord| {
            if let Some(keeps) = keeps {
                keeps.attaching(record, identity);
            }
        };
        let number = self.attachments.wrapping_add(1);
        match attach(memory, &layout, number, &mut remember) {
            Ok((attachment, devices)) => {
                self.attachments = number;
                if let Some(mailbox) = &mut self.mailbox {
                    for device in &devices {
                        mailbox.kick(device.inbound.notifyid());
                    }
                }
                for entry in &attachment.left_alone {
                    if !self.last_left_alone.contains(entry) {
                        let name = &self.config.name;
                        let text = format_args!("remote {name}: resource table entry {entry}: left alone");
                        self.table_log.say(log::Level::Info, text);
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

    pub(super) fn retry(&mut self, now: Instant, attempts: u32) {
        self.is_ready = false;
        self.attempts = attempts;
        let wait = match attempts {
            _ if now < self.eager_until => EAGER_RETRY,
            0..FAST_ATTEMPTS => RETRY,
            _ => SLOW_RETRY,
        };
        self.timer = Some(now + wait);
    }
}
