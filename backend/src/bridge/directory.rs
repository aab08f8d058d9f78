//! The service directory: what the remote has announced, how it is shared, and what each VM has been told of it.
//!
//! The directory keeps states, not messages: a [`View`] knows what its VM has been told and how far it has looked
//! through the changes, so a VM that comes late, or takes its time, is told the difference and nothing twice. A
//! change of rights is a change like any other: a service that a VM may not see any more is gone for it.

mod saved;

use std::cell::Cell;
use std::collections::BTreeMap;
use std::time::Instant;

use rustc_hash::FxHashMap;
use thiserror::Error;

use super::desk::{Desk, Left};
use super::parties::Client;
use super::policy::{Mode, Rule, Slots};
use super::watch::Watch;
use crate::rpmsg::address::Slot;
use crate::rpmsg::{Announcement, AnnouncementKind, ServiceName};

/// Most services that are kept. A remote that announces without end gets no further.
pub const MAX_SERVICES: usize = 1024;

/// The remote has announced more services than are kept.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("more than {MAX_SERVICES} services announced")]
pub struct DirectoryFull;

#[derive(Debug)]
struct Service {
    name: ServiceName,
    addr: u32,
    live: bool,
    visible_to: Slots,
    /// Who may talk to it now, where VMs cannot simply share it.
    desk: Option<Desk>,
    /// Whether it answers everyone, where they do.
    watch: Watch,
    /// Counts how often it was announced, from 1.
    incarnation: u32,
    /// Number of the change that it had last.
    changed: u64,
}

/// The services of one remote.
#[derive(Debug, Default)]
pub struct Directory {
    rules: Vec<Rule>,
    services: Vec<Service>,
    by_key: FxHashMap<(ServiceName, u32), usize>,
    /// Services that are there, by address.
    by_address: FxHashMap<u32, usize>,
    /// What was found there last: messages of one service come one after the other.
    looked_up: Cell<Option<(u32, usize)>>,
    /// Services with a desk that keeps time.
    timed: Vec<usize>,
    /// Services whose desks may have changed since the journal was written.
    touched: Vec<usize>,
    /// The last change of each service, in order.
    changes: BTreeMap<u64, usize>,
    last_change: u64,
}

/// A service that is there no more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Withdrawn {
    /// Its name.
    pub name: ServiceName,
    /// Its address.
    pub addr: u32,
    /// Its number in the directory.
    pub service: usize,
    /// VMs whose requests were still waiting for it.
    pub waiting: Vec<Slot>,
}

/// What one VM has been told.
#[derive(Clone, Debug, Default)]
pub struct View {
    /// Incarnation told of, by service; 0 for none.
    told: Vec<u32>,
    /// Changes up to this one have been looked at.
    seen: u64,
}

impl View {
    fn told(&self, service: usize) -> u32 {
        self.told.get(service).copied().unwrap_or(0)
    }

    fn tell(&mut self, service: usize, incarnation: u32) {
        if self.told.len() <= service {
            self.told.resize(service + 1, 0);
        }
        self.told[service] = incarnation;
    }

    /// Whether there may be something to tell.
    #[inline]
    pub fn is_behind(&self, directory: &Directory) -> bool {
        self.seen < directory.last_change
    }

    /// Passes over all changes without telling: for a driver without a name service.
    pub fn skip_all(&mut self, directory: &Directory) {
        self.seen = directory.last_change;
    }
}

impl Directory {
    /// An empty directory under these rules.
    pub fn new(rules: Vec<Rule>) -> Self {
        Directory { rules, ..Directory::default() }
    }

    /// This rule holds before all others from now on, and in the place of one for the same names. No service that it is for is
    /// there at this moment.
    pub(super) fn set_rule(&mut self, rule: &Rule) {
        rule.clone().put_first(&mut self.rules);
        for index in 0..self.services.len() {
            let Service { name, addr, .. } = self.services[index];
            if !rule.pattern.matches(name) {
                continue;
            }
            let (fresh, is_timed) = self.fresh(name, addr);
            let service = &mut self.services[index];
            debug_assert!(!service.live, "it was withdrawn");
            (service.visible_to, service.desk) = (fresh.visible_to, fresh.desk);
            self.keeps_time(index, is_timed);
        }
    }

    /// The remote has announced a service. Returns whether it is new; announcing twice changes nothing. `views` are
    /// those of all VMs: what none of them remembers makes room for something new.
    ///
    /// # Errors
    /// Too many services.
    pub fn announce<'a>(
        &mut self,
        name: ServiceName,
        addr: u32,
        views: &(impl Iterator<Item = &'a View> + Clone),
    ) -> Result<bool, DirectoryFull> {
        let index = match self.by_key.get(&(name, addr)) {
            Some(index) if self.services[*index].live => return Ok(false),
            Some(index) => *index,
            None => self.new_entry(name, addr, views)?,
        };
        let service = &mut self.services[index];
        service.live = true;
        service.incarnation += 1;
        self.by_address.insert(addr, index);
        self.looked_up.set(None);
        self.touch(index);
        Ok(true)
    }

    /// The remote has withdrawn a service. Returns which it was, if it was there.
    pub fn withdraw(&mut self, name: ServiceName, addr: u32) -> Option<Withdrawn> {
        let index = *self.by_key.get(&(name, addr))?;
        let service = &mut self.services[index];
        if !std::mem::take(&mut service.live) {
            return None;
        }
        service.watch = Watch::default();
        let waiting = service.desk.as_mut().map(Desk::close).unwrap_or_default();
        if self.by_address.get(&addr) == Some(&index) {
            self.by_address.remove(&addr);
            self.looked_up.set(None);
        }
        self.touch(index);
        Some(Withdrawn { name, addr, service: index, waiting })
    }

    /// The remote is gone, and all its services with it. Returns which these were.
    pub fn withdraw_all(&mut self) -> Vec<Withdrawn> {
        let live: Vec<_> = self.services().collect();
        live.into_iter().filter_map(|(name, addr)| self.withdraw(name, addr)).collect()
    }

    /// The number of the service at this address, if there is one.
    #[inline]
    pub fn at(&self, addr: u32) -> Option<usize> {
        match self.looked_up.get() {
            Some((last, service)) if last == addr => Some(service),
            _ => self.look_up(addr),
        }
    }

    fn look_up(&self, addr: u32) -> Option<usize> {
        let service = self.by_address.get(&addr).copied()?;
        self.looked_up.set(Some((addr, service)));
        Some(service)
    }

    /// Numbers that services have had so far: all of them are below this.
    #[expect(clippy::len_without_is_empty, reason = "a bound of numbers, not of what is there")]
    pub fn len(&self) -> usize {
        self.services.len()
    }

    /// Whether a service that was just announced has the number of one that is forgotten. So many numbers there were before.
    pub(super) fn is_in_place_of_another(&self, service: usize, before: usize) -> bool {
        service < before && self.services[service].incarnation == 1
    }

    /// Name and address of a service.
    pub fn name(&self, service: usize) -> Option<(ServiceName, u32)> {
        self.services.get(service).map(|service| (service.name, service.addr))
    }

    /// Whether a VM sees this service now.
    #[inline]
    pub fn sees(&self, slot: Slot, service: usize) -> bool {
        let service = &self.services[service];
        service.live
            && service.visible_to.contains(slot)
            && service.desk.as_ref().is_none_or(|desk| desk.admits(slot))
    }

    /// The desk of a service that VMs cannot simply share.
    #[inline]
    pub(super) fn desk(&mut self, service: usize) -> Option<&mut Desk> {
        let desk = self.services.get_mut(service)?.desk.as_mut()?;
        if self.touched.last() != Some(&service) && self.touched.len() < MAX_SERVICES {
            self.touched.push(service);
        }
        Some(desk)
    }

    /// What is watched of a service that VMs do simply share.
    #[inline]
    pub(super) fn watch(&mut self, service: usize) -> &mut Watch {
        &mut self.services[service].watch
    }

    /// Services whose desks keep time or requests.
    pub(super) fn timed(&self) -> &[usize] {
        &self.timed
    }

    /// When the first of the desks has something to do.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.timed.iter().filter_map(|service| self.services[*service].desk.as_ref()?.deadline()).min()
    }

    /// A VM's session has ended: every desk forgets it. Returns what that means to those to which it means something, by
    /// service.
    pub(super) fn leave(&mut self, slot: Slot) -> Vec<(usize, Left)> {
        let mut all = Vec::new();
        for index in 0..self.services.len() {
            let Some(desk) = &mut self.services[index].desk else { continue };
            let left = desk.leave(slot);
            if left.rights_changed {
                self.touch(index);
            }
            if left != Left::default() {
                all.push((index, left));
            }
        }
        all
    }

    /// The remote is back with requests from before. Returns the services whose desks wait until nothing comes of these any
    /// more.
    pub(super) fn hand_over(&mut self) -> Vec<usize> {
        let live = self.services.iter_mut().enumerate().filter(|(_, service)| service.live);
        let desks = live.filter_map(|(index, service)| Some((index, service.desk.as_mut()?)));
        desks.filter_map(|(index, desk)| desk.hand_over().then_some(index)).collect()
    }

    /// The numbers of services that are there.
    pub(super) fn live(&self) -> impl Iterator<Item = usize> + '_ {
        (0..self.services.len()).filter(|service| self.services[*service].live)
    }

    /// How a service is shared, whose it is now, and the endpoints that its firmware sees as one.
    pub(super) fn shared_how(&self, service: usize) -> (&'static str, Option<Slot>, &[Client]) {
        self.services[service].desk.as_ref().map_or(("shared", None, &[]), Desk::shared_how)
    }

    /// The services that are there.
    pub fn services(&self) -> impl Iterator<Item = (ServiceName, u32)> + '_ {
        self.services.iter().filter(|service| service.live).map(|service| (service.name, service.addr))
    }

    /// What the VM in this slot is to be told next, if anything. Call [`told`](Self::told) once it has been told.
    pub fn next_for(&self, slot: Slot, view: &mut View) -> Option<Announcement> {
        for (change, index) in self.changes.range(view.seen + 1..) {
            let service = &self.services[*index];
            let (told, sees) = (view.told(*index), self.sees(slot, *index));
            let announcement = |kind| Announcement { name: service.name, addr: service.addr, kind };
            if told != 0 && (!sees || told != service.incarnation) {
                return Some(announcement(AnnouncementKind::Destroy));
            }
            if told == 0 && sees {
                return Some(announcement(AnnouncementKind::Create));
            }
            view.seen = *change;
        }
        None
    }

    /// The VM has been told this announcement. Returns of which service, and of which incarnation; 0 that there is none.
    pub fn told(&self, view: &mut View, announcement: Announcement) -> Option<(u16, u32)> {
        let index = *self.by_key.get(&(announcement.name, announcement.addr))?;
        let incarnation = match announcement.kind {
            AnnouncementKind::Create => self.services[index].incarnation,
            AnnouncementKind::Destroy => 0,
        };
        view.tell(index, incarnation);
        Some((u16::try_from(index).ok()?, incarnation))
    }

    /// The service has changed, or who may see it: every VM is to look at it again.
    pub(super) fn touch(&mut self, index: usize) {
        let service = &mut self.services[index];
        self.changes.remove(&service.changed);
        self.last_change += 1;
        service.changed = self.last_change;
        self.changes.insert(self.last_change, index);
    }

    /// A service as it is before it is there for the first time, and whether its desk keeps time.
    fn fresh(&self, name: ServiceName, addr: u32) -> (Service, bool) {
        let rule = self.rules.iter().find(|rule| rule.pattern.matches(name));
        let fresh = Service {
            name,
            addr,
            live: false,
            visible_to: rule.map_or(Slots::ALL, |rule| rule.visible_to),
            desk: rule.and_then(|rule| Desk::new(rule.mode)),
            watch: Watch::default(),
            incarnation: 0,
            changed: 0,
        };
        (fresh, rule.is_some_and(|rule| matches!(rule.mode, Mode::Serialized(_))))
    }

    /// Whether the desk of this service keeps time from now on.
    fn keeps_time(&mut self, index: usize, is_timed: bool) {
        self.timed.retain(|timed| *timed != index);
        if is_timed {
            self.timed.push(index);
        }
    }

    /// A place for a service that has none: a new one, or that of a service that is gone and that no VM remembers.
    fn new_entry<'a>(
        &mut self,
        name: ServiceName,
        addr: u32,
        views: &(impl Iterator<Item = &'a View> + Clone),
    ) -> Result<usize, DirectoryFull> {
        let (fresh, is_timed) = self.fresh(name, addr);
        let index = if self.services.len() < MAX_SERVICES {
            self.services.push(fresh);
            self.services.len() - 1
        } else {
            let forgotten = |index: &usize| {
                !self.services[*index].live && views.clone().all(|view| view.told(*index) == 0)
            };
            let index = (0..self.services.len()).find(forgotten).ok_or(DirectoryFull)?;
            let old = &self.services[index];
            self.by_key.remove(&(old.name, old.addr));
            self.changes.remove(&old.changed);
            self.services[index] = fresh;
            index
        };
        self.keeps_time(index, is_timed);
        self.by_key.insert((name, addr), index);
        Ok(index)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn name(text: &str) -> ServiceName {
        ServiceName::new(text).unwrap()
    }

    /// Tells a VM everything, and checks on the way that no create comes twice and no destroy without a create.
    fn tell_all(directory: &Directory, view: &mut View, known: &mut BTreeSet<(ServiceName, u32)>) -> usize {
        let mut count = 0;
        while let Some(announcement) = directory.next_for(Slot::ZERO, view) {
            let key = (announcement.name, announcement.addr);
            match announcement.kind {
                AnnouncementKind::Create => assert!(known.insert(key), "duplicate create"),
                AnnouncementKind::Destroy => assert!(known.remove(&key), "destroy of an unknown service"),
            }
            directory.told(view, announcement);
            count += 1;
        }
        count
    }

    #[test]
    fn a_late_vm_is_told_what_there_is_and_nothing_twice() {
        let mut directory = Directory::default();
        directory.announce(name("a"), 1, &std::iter::empty()).unwrap();
        directory.announce(name("b"), 2, &std::iter::empty()).unwrap();
        directory.announce(name("a"), 1, &std::iter::empty()).unwrap();
        directory.withdraw(name("b"), 2);
        let (mut view, mut known) = (View::default(), BTreeSet::new());
        assert_eq!(tell_all(&directory, &mut view, &mut known), 1);
        assert_eq!(known, BTreeSet::from([(name("a"), 1)]));
        assert_eq!(tell_all(&directory, &mut view, &mut known), 0);
        assert!(!view.is_behind(&directory));
    }

    #[test]
    fn a_service_that_came_back_unseen_is_withdrawn_and_told_again() {
        let mut directory = Directory::default();
        let (mut view, mut known) = (View::default(), BTreeSet::new());
        directory.announce(name("a"), 1, &std::iter::empty()).unwrap();
        tell_all(&directory, &mut view, &mut known);
        directory.withdraw_all();
        directory.announce(name("a"), 1, &std::iter::empty()).unwrap();
        assert_eq!(tell_all(&directory, &mut view, &mut known), 2);
        assert_eq!(known.len(), 1);
    }

    #[test]
    fn an_endless_flood_of_announcements_ends_at_the_limit_and_makes_room_again() {
        let mut directory = Directory::default();
        let mut view = View::default();
        for addr in 0..u32::try_from(MAX_SERVICES).unwrap() {
            directory.announce(name("a"), addr, &[&view].into_iter()).unwrap();
        }
        assert_eq!(directory.announce(name("b"), 0, &[&view].into_iter()), Err(DirectoryFull));
        tell_all(&directory, &mut view, &mut BTreeSet::new());
        directory.withdraw(name("a"), 7);
        assert_eq!(
            directory.announce(name("b"), 0, &[&view].into_iter()),
            Err(DirectoryFull),
            "the VM still knows it"
        );
        let destroy = directory.next_for(Slot::ZERO, &mut view).unwrap();
        directory.told(&mut view, destroy);
        assert_eq!(directory.announce(name("b"), 0, &[&view].into_iter()), Ok(true));
    }

    proptest! {
        #[test]
        fn however_late_each_vm_looks_it_ends_up_knowing_what_there_is(
            steps in proptest::collection::vec((0u8..4, 0u32..4, 0usize..3), 0..200)
        ) {
            let mut directory = Directory::default();
            let mut views: [View; 3] = Default::default();
            let mut known: [BTreeSet<_>; 3] = Default::default();
            for (action, addr, vm) in steps {
                match action {
                    0 => drop(directory.announce(name("s"), addr, &views.iter())),
                    1 => drop(directory.withdraw(name("s"), addr)),
                    2 => drop(tell_all(&directory, &mut views[vm], &mut known[vm])),
                    _ => if let Some(one) = directory.next_for(Slot::ZERO, &mut views[vm]) {
                        let key = (one.name, one.addr);
                        match one.kind {
                            AnnouncementKind::Create => prop_assert!(known[vm].insert(key)),
                            AnnouncementKind::Destroy => prop_assert!(known[vm].remove(&key)),
                        }
                        directory.told(&mut views[vm], one);
                    },
                }
            }
            for vm in 0..3 {
                tell_all(&directory, &mut views[vm], &mut known[vm]);
                prop_assert_eq!(&known[vm], &directory.services().collect::<BTreeSet<_>>());
            }
        }
    }
}
