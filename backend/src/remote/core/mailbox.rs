//! The core's mailbox: what comes by it, and what happens when it closes.

use std::mem;
use std::time::Instant;

use log::debug;

use super::{Change, Loss, Phase, RemoteCore};
use crate::remote::attach::Attachment;
use crate::remote::config::MailboxConfig;
use crate::remote::mailbox::{Mailbox, Signals};
use crate::remote::memory::full;
use crate::remote::recovery::RecoveryPolicy;

impl RemoteCore {
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

    /// Signals without a meaning that were received and ignored.
    pub fn unknown_signals(&self) -> u64 {
        self.unknown_signals
    }

    /// Takes what the mailbox has received, and sends what waits for the socket.
    pub fn on_mailbox(&mut self, now: Instant) -> Option<Change> {
        let mailbox = self.mailbox.as_mut()?;
        let mut signals = Signals::default();
        mailbox.flush(now);
        let received = mailbox.receive(&mut signals);
        // What was acknowledged is so before anybody looks at the vrings: what comes later is signalled anew.
        full();
        self.unknown_signals += signals.unknown;
        if let Err(error) = received {
            debug!("remote {}: {error}", self.config.name);
            return self.mailbox_closed(now);
        }
        let has_crashed = signals.crashed && !signals.recovered;
        if signals.shut_down && matches!(self.phase, Phase::Ending(_)) {
            self.switch_off(now);
            return None;
        }
        if !matches!(self.phase, Phase::Up) {
            self.was_ready = (self.was_ready || signals.ready) && !has_crashed;
            return None;
        }
        let has_answered = signals.echo || signals.running;
        if has_answered {
            self.watch.answered();
        }
        if has_crashed {
            return self.lose(now, Loss::Crashed);
        }
        if signals.ready {
            return self.ready(now);
        }
        let is_there = signals.running || self.is_silent && signals.echo;
        if is_there && (self.attachment.is_none() || self.is_cut_off) {
            return self.attach_running(now);
        }
        None
    }

    /// The remote has booted.
    pub(super) fn ready(&mut self, now: Instant) -> Option<Change> {
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

    /// Keeps the mailbox until nobody waits for it any more.
    pub(super) fn retire_mailbox(&mut self) {
        let mut mailbox = self.mailbox.take();
        if let Some(mailbox) = &mut mailbox {
            mailbox.hang_up();
        }
        // Where one is kept already, this one was opened since, and nobody has begun to wait for it.
        if self.retired.is_none() {
            self.retired = mailbox;
        }
    }

    fn mailbox_closed(&mut self, now: Instant) -> Option<Change> {
        self.retire_mailbox();
        self.is_silent = false;
        if !matches!(self.phase, Phase::Up) {
            return None;
        }
        let is_for_good = matches!(self.config.mailbox, MailboxConfig::Stream(_));
        if is_for_good {
            self.timer = None;
        } else {
            self.retry(now, 0);
        }
        let is_ours = self.config.boot.is_some() && self.config.recovery.policy == RecoveryPolicy::Reboot;
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
        Some(self.cut_off(Loss::Closed))
    }
}
