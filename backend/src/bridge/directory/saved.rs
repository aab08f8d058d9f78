//! The directory as the journal has it.

use std::hash::BuildHasher;
use std::time::Instant;

use rustc_hash::FxBuildHasher;

use super::super::desk::Desk;
use super::super::journal::{Entry, Journal, SavedService};
use super::{Directory, View};

impl Directory {
    /// Every service there has been, and the number of the last change.
    pub(in crate::bridge) fn save(&self) -> (Vec<SavedService>, u64) {
        let services = self.services.iter().map(|service| SavedService {
            name: service.name,
            addr: service.addr,
            live: service.live,
            incarnation: service.incarnation,
            changed: service.changed,
            desk: service.desk.as_ref().map(Desk::save),
        });
        (services.collect(), self.last_change)
    }

    /// Goes on with what was remembered, under the rules that hold now.
    pub(in crate::bridge) fn restore(
        &mut self,
        services: Vec<SavedService>,
        last_change: u64,
        rules: u64,
        now: Instant,
    ) {
        for (index, saved) in services.into_iter().enumerate() {
            let (mut service, is_timed) = self.fresh(saved.name, saved.addr);
            service.live = saved.live;
            service.incarnation = saved.incarnation;
            service.changed = saved.changed;
            if let (Some(desk), Some(saved)) = (&mut service.desk, saved.desk) {
                desk.restore(saved, now);
            }
            self.by_key.insert((saved.name, saved.addr), index);
            if saved.live {
                // Of several at one address the last one counts, as when they were announced.
                let former = self.by_address.get(&saved.addr).copied();
                if former.is_none_or(|former: usize| self.services[former].changed < saved.changed) {
                    self.by_address.insert(saved.addr, index);
                }
            }
            if is_timed {
                self.timed.push(index);
            }
            self.changes.insert(saved.changed, index);
            self.services.push(service);
        }
        self.last_change = last_change;
        if rules != self.rules_hash() {
            // Others may see them now than were told.
            let live: Vec<_> = self.live().collect();
            live.into_iter().for_each(|service| self.touch(service));
        }
    }

    /// Tells rules from others, nearly always.
    pub(in crate::bridge) fn rules_hash(&self) -> u64 {
        FxBuildHasher.hash_one(&self.rules)
    }

    /// Services whose desks wait until nothing comes for their last client any more.
    pub(in crate::bridge) fn handed_over(&self) -> Vec<usize> {
        let desks = self
            .services
            .iter()
            .enumerate()
            .filter_map(|(index, service)| Some((index, service.desk.as_ref()?)));
        desks.filter(|(_, desk)| desk.is_handed_over()).map(|(index, _)| index).collect()
    }

    /// Tells the journal of the desks that have changed.
    #[inline]
    pub(in crate::bridge) fn log_desks(&mut self, journal: &mut Journal) {
        if self.touched.is_empty() {
            return;
        }
        for service in self.touched.drain(..) {
            let desk = self.services.get_mut(service).and_then(|service| service.desk.as_mut());
            let Some(desk) = desk else { continue };
            if desk.take_change() {
                let desk = desk.save();
                let service = u16::try_from(service).expect("a number of the directory");
                journal.append(&Entry::Desk { service, desk: &desk });
            }
        }
    }
}

impl View {
    /// What has been told of each service, and the change up to which there is nothing more to tell.
    pub(in crate::bridge) fn save(&self) -> (Vec<u32>, u64) {
        (self.told.clone(), self.seen)
    }

    /// Goes on with what was remembered.
    pub(in crate::bridge) fn restore(told: Vec<u32>, seen: u64) -> Self {
        View { told, seen }
    }

    /// The change up to which there is nothing more to tell.
    pub(in crate::bridge) fn seen(&self) -> u64 {
        self.seen
    }
}
