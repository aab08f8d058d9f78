//! Counters as state memory has them: with each batch, what it has changed, so that no message is counted twice or not at all
//! where this process is killed.

use super::{Counters, Reason, ServiceCounters, Traffic};
use crate::bridge::journal::{Block, Journal, Side};
use crate::rpmsg::address::Slot;

/// Figures, and what state memory has of them.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Kept<T> {
    pub(super) figures: T,
    side: Side,
    /// Whether something was counted that state memory does not have.
    pub(super) is_counted: bool,
}

impl Counters {
    /// The counters of a slot as they count by now, with so many services.
    pub(in crate::bridge) fn load(journal: &Journal, slot: Slot, services: usize) -> Self {
        let kept = |block| {
            let (words, side) = journal.load(block);
            Kept { figures: ServiceCounters::of(words), side, is_counted: false }
        };
        let mut counters = Counters::default();
        counters.make_room(services);
        counters.elsewhere = kept(Block::Elsewhere(slot));
        for (service, counted) in counters.services.iter_mut().enumerate() {
            *counted = kept(Block::Service(slot, service));
        }
        let all = counters.services.iter().fold(counters.elsewhere.figures, |sum, one| sum.and(one.figures));
        (counters.to_remote, counters.to_guest) = (all.to_remote, all.to_guest);
        let (words, side): ([u64; Reason::COUNT + 2], _) = journal.load(Block::Vm(slot));
        let (dropped, rest) = words.split_at(Reason::COUNT);
        counters.dropped.copy_from_slice(dropped);
        (counters.subscriptions, counters.time_outs) = (rest[0], rest[1]);
        counters.noted.side = side;
        counters
    }

    /// Whether something was counted that the journal has not been told.
    #[inline]
    pub(in crate::bridge) fn is_ahead(&self) -> bool {
        !self.counted.is_empty() || self.elsewhere.is_counted || self.noted.is_counted
    }

    /// Notes what was counted. It counts with the next commit.
    pub(in crate::bridge) fn note(&mut self, slot: Slot, journal: &mut Journal) {
        for service in self.counted.drain(..) {
            let service = usize::from(service);
            self.services[service].note(Block::Service(slot, service), journal);
        }
        if self.elsewhere.is_counted {
            self.elsewhere.note(Block::Elsewhere(slot), journal);
        }
        if std::mem::take(&mut self.noted.is_counted) {
            let mut words = [0; Reason::COUNT + 2];
            words[..Reason::COUNT].copy_from_slice(&self.dropped);
            words[Reason::COUNT..].copy_from_slice(&[self.subscriptions, self.time_outs]);
            journal.note(Block::Vm(slot), &mut self.noted.side, words);
        }
    }

    /// Counts from nothing again.
    pub(in crate::bridge) fn clear(&mut self) {
        let services: Vec<_> = (0..self.services.len()).collect();
        for service in services {
            *self.service_mut(Some(service)) = ServiceCounters::default();
        }
        *self.service_mut(None) = ServiceCounters::default();
        (self.to_remote, self.to_guest) = Default::default();
        (self.dropped, self.subscriptions, self.time_outs) = Default::default();
        self.noted.is_counted = true;
    }

    /// The service of this number is another one from now on: what was counted is no service's.
    pub(in crate::bridge) fn forget(&mut self, service: usize) {
        let gone = self.service(service);
        if gone != ServiceCounters::default() {
            *self.service_mut(Some(service)) = ServiceCounters::default();
            let elsewhere = self.service_mut(None);
            *elsewhere = elsewhere.and(gone);
        }
    }
}

impl Kept<ServiceCounters> {
    #[inline]
    fn note(&mut self, block: Block, journal: &mut Journal) {
        self.is_counted = false;
        let ServiceCounters { to_remote, to_guest, dropped } = self.figures;
        let words = [to_remote.messages, to_remote.bytes, to_guest.messages, to_guest.bytes, dropped];
        journal.note(block, &mut self.side, words);
    }
}

impl ServiceCounters {
    fn of(words: [u64; 5]) -> Self {
        let [to_remote, to_remote_bytes, to_guest, to_guest_bytes, dropped] = words;
        ServiceCounters {
            to_remote: Traffic { messages: to_remote, bytes: to_remote_bytes },
            to_guest: Traffic { messages: to_guest, bytes: to_guest_bytes },
            dropped,
        }
    }
}
