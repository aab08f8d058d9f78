//! What is remembered of a core, and going on with it.

use std::fmt;
use std::time::Instant;

use log::info;
use serde::{Deserialize, Serialize};

use super::super::attach::Attachment;
use super::super::link;
use super::super::resume::{AttachmentRecord, Place};
use super::{Phase, RemoteCore};
use crate::causes::Causes;

/// What is remembered of a core.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedCore {
    /// How often it was attached to.
    attachments: u32,
    attachment: Option<AttachmentRecord>,
    /// Which files its memory was.
    memory: Vec<(u64, u64, u64)>,
    table_of_firmware: Option<u64>,
    flags: Flags,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Flags {
    is_cut_off: bool,
    is_on: bool,
    is_held_off: bool,
    has_crashed: bool,
    has_given_up: bool,
}

/// Whoever remembers.
pub(super) struct Memory {
    keep: Box<dyn FnMut(&SavedCore) + Send>,
    /// What was kept last.
    kept: SavedCore,
}

impl Memory {
    /// A core is about to be attached to.
    pub(super) fn attaching(&mut self, record: &AttachmentRecord, memory: &[(u64, u64, u64)]) {
        self.kept.attachments = record.number;
        self.kept.attachment = Some(record.clone());
        self.kept.memory = memory.to_vec();
        self.kept.flags.is_cut_off = false;
        (self.keep)(&self.kept);
    }
}

impl fmt::Debug for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Memory").field("kept", &self.kept).finish_non_exhaustive()
    }
}

/// A core that is still the one that a program before this one had attached to.
#[derive(Debug)]
pub struct Recovered {
    /// Where its devices are.
    pub places: Vec<Place>,
    /// Whether it cannot be reached now.
    pub is_cut_off: bool,
}

impl RemoteCore {
    /// The same core, which has `keep` remember what a program after this one has to know.
    #[must_use]
    pub fn remembered_by(mut self, keep: impl FnMut(&SavedCore) + Send + 'static) -> Self {
        self.keeps = Some(Memory { keep: Box::new(keep), kept: SavedCore::default() });
        self
    }

    /// What happens from now on is not remembered.
    pub(super) fn forget_to_remember(&mut self) {
        self.keeps = None;
    }

    /// Has everything remembered that has changed.
    #[inline]
    pub fn remember(&mut self) {
        let flags = Flags {
            is_cut_off: self.is_cut_off,
            is_on: self.is_on,
            is_held_off: self.is_held_off,
            has_crashed: self.has_crashed,
            has_given_up: matches!(self.phase, Phase::GivenUp),
        };
        let Some(Memory { keep, kept }) = &mut self.keeps else { return };
        let record = self.attachment.as_ref().and_then(Attachment::record);
        let known = kept.attachment.as_ref().map(|record| record.number);
        if kept.flags == flags
            && known == record.map(|record| record.number)
            && kept.table_of_firmware == self.table_of_firmware
        {
            return;
        }
        kept.attachments = self.attachments;
        if known != record.map(|record| record.number) {
            kept.attachment = record.cloned();
        }
        kept.table_of_firmware = self.table_of_firmware;
        kept.flags = flags;
        keep(kept);
    }

    /// Goes on where a program before this one was killed. Returns the devices of a core that was attached to and still is;
    /// they are where they were, and have been kicked. Any other core is looked for anew, or started.
    pub fn go_on_from(&mut self, saved: SavedCore, now: Instant) -> Option<Recovered> {
        if let Some(keeps) = &mut self.keeps {
            keeps.kept = saved.clone();
        }
        self.attachments = saved.attachments;
        self.is_held_off = saved.flags.is_held_off;
        self.has_crashed = saved.flags.has_crashed;
        self.is_on = saved.flags.is_on && self.config.boot.is_some();
        self.table_of_firmware = saved.table_of_firmware;
        if saved.flags.has_given_up || saved.flags.is_held_off {
            self.phase = if saved.flags.has_given_up { Phase::GivenUp } else { Phase::Off };
            self.timer = None;
            return None;
        }
        if self.config.boot.is_some() && !self.is_on {
            return None;
        }
        let recovered = saved.attachment.and_then(|record| self.take_up(&record, &saved.memory, now));
        match recovered {
            Some(places) => {
                self.phase = Phase::Up;
                self.count_on_others(true);
                Some(self.go_on(places, saved.flags.is_cut_off, now))
            }
            None if self.config.boot.is_some() => {
                // Nobody knows how far its start had got.
                self.starts_anew = true;
                self.phase = Phase::Waiting(now);
                None
            }
            None => None,
        }
    }

    /// The devices of a core that was attached to, if its memory and its table are still what they were.
    fn take_up(
        &mut self,
        record: &AttachmentRecord,
        identity: &[(u64, u64, u64)],
        now: Instant,
    ) -> Option<Vec<Place>> {
        if let Err(error) = link::map(&*self.host, &self.config.memory, &mut self.memory) {
            self.trouble(&error);
            return None;
        }
        let memory = self.memory.as_ref().filter(|memory| memory.identity == identity)?;
        let found = Attachment::remembered(record, &memory.carveouts).and_then(|attachment| {
            let places = record.places.iter().map(|place| place.open(&memory.carveouts, record.number));
            Ok((attachment, places.collect::<Result<Vec<_>, _>>()?))
        });
        let name = &self.config.name;
        match found {
            Ok((attachment, _)) if attachment.is_overwritten() => {
                info!("remote {name}: it has booted anew while nobody was there");
                self.former = Some(attachment);
                self.timer = Some(now);
                None
            }
            Ok((attachment, places)) => {
                self.attachment = Some(attachment);
                Some(places)
            }
            Err(error) => {
                info!("remote {name}: it is not where it was: {}", Causes(&error));
                None
            }
        }
    }

    fn go_on(&mut self, places: Vec<Place>, was_cut_off: bool, now: Instant) -> Recovered {
        match link::open_mailbox(&*self.host, &mut self.config.mailbox) {
            Ok(mailbox) => self.mailbox = Some(mailbox),
            Err(error) => self.trouble(&error),
        }
        self.is_cut_off = was_cut_off || self.mailbox.is_none();
        self.timer = self.is_cut_off.then_some(now);
        self.silent_since = now;
        self.open_watchdog();
        if let Some(mailbox) = self.mailbox.as_mut().filter(|_| !self.is_cut_off) {
            info!("remote {}: going on where it was", self.config.name);
            self.watch.begin(now);
            // What was published last may not have been told.
            places.iter().flat_map(Place::notifyids).for_each(|notifyid| mailbox.kick(notifyid));
        }
        self.tell_others();
        Recovered { places, is_cut_off: self.is_cut_off }
    }
}
