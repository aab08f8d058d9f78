//! A service whose next answers are to requests of its last client.
//!
//! An exclusive service between two owners is one, and an exclusive or serialized one behind a line that was cut: nobody
//! knows whose the requests are that the remote still has when it is back.
//!
//! Its firmware sees one address, whoever the owner is, so what it answers late to the last owner looks like an answer to
//! the next one. Therefore the next one's first message waits until the remote has given back every buffer that the last
//! one had sent in, and everything that the remote had sent by then has been taken: as firmware answers before it gives a
//! buffer back, nothing comes for the last owner after that. Firmware that answers later nevertheless cannot be told
//! from one that answers the new owner.
//!
//! A remote that keeps buffers for good would keep the service from everyone: after [`LIMIT`] it is handed over all the
//! same.

use std::time::{Duration, Instant};

use log::Level;

use super::relay::Relay;

/// How long the remote may take to give the last owner's buffers back.
pub(super) const LIMIT: Duration = Duration::from_secs(5);

/// A service that is being handed over.
#[derive(Debug)]
pub(super) struct Handover {
    service: usize,
    /// Buffers of the last owner that are still with the remote.
    buffers: Vec<u16>,
    /// Once there are none: how many messages have to be taken to have seen all that the remote had sent by then.
    untaken: Option<usize>,
    /// When it ends at the latest; known from the first look on.
    until: Option<Instant>,
}

impl Handover {
    /// The service's owner has gone, with these buffers at the remote.
    pub(super) fn new(service: usize, buffers: impl Iterator<Item = u16>) -> Self {
        Handover { service, buffers: buffers.collect(), untaken: None, until: None }
    }

    /// The service, by its number in the directory.
    pub(super) fn service(&self) -> usize {
        self.service
    }

    /// The remote has returned a buffer.
    pub(super) fn returned(&mut self, buffer: u16) {
        self.buffers.retain(|known| *known != buffer);
    }

    /// Whether it is over, after `taken` messages were taken from the remote's vring, which holds `room`.
    fn is_over(&mut self, taken: usize, is_empty: bool, room: usize) -> bool {
        if !self.buffers.is_empty() {
            return false;
        }
        match &mut self.untaken {
            // The buffers came back after the last look at the messages.
            None => self.untaken = Some(room),
            Some(_) if is_empty => return true,
            Some(untaken) => *untaken = untaken.saturating_sub(taken),
        }
        self.untaken == Some(0)
    }
}

/// When the first of them ends at the latest.
pub(super) fn deadline(handovers: &[Handover]) -> Option<Instant> {
    handovers.iter().filter_map(|handover| handover.until).min()
}

impl Relay {
    /// Ends the handovers that are over. `taken` messages were just taken from the remote; `is_empty` says that there
    /// were no more. Returns how many handovers got on.
    pub(super) fn hand_over(&mut self, now: Instant, taken: usize, is_empty: bool) -> usize {
        let room = self.device.as_ref().map_or(0, |device| device.inbound.count().into());
        let mut moved = 0;
        for mut handover in std::mem::take(&mut self.handovers) {
            let waited = handover.untaken.is_none();
            let until = *handover.until.get_or_insert(now + LIMIT);
            let is_over = handover.is_over(taken, is_empty, room);
            moved += usize::from(is_over || waited && handover.untaken.is_some());
            if !is_over && now < until {
                self.handovers.push(handover);
                continue;
            }
            if let Some((name, addr)) = self.directory.name(handover.service)
                && !is_over
            {
                let (remote, kept) = (&self.name, handover.buffers.len());
                let text = format_args!(
                    "remote {remote}: service {name} at {addr:#x}: {kept} messages of its last client are still at the \
                     core after {LIMIT:?}; the next one has it now, and would get late answers to them"
                );
                self.log.say(Level::Warn, text);
                moved += 1;
            }
            if let Some(desk) = self.directory.desk(handover.service) {
                desk.handed_over();
            }
            self.wake_waiting_for_turn();
        }
        // Some firmware never tells of consumed buffers: look again by the timer.
        self.stalled |= !self.handovers.is_empty();
        moved
    }
}
