//! Going on where a program before this one was killed: what the journal says becomes a relay again.
//!
//! It comes back in pieces. The directory and the table of addresses are there at once. Of the VMs nobody knows yet which
//! are still connected: they [are taken up](Relay::take_up) one by one as they are added, and those that are not there
//! any more when [all have been](Relay::settle) have their sessions ended. The remote's device comes from the remote
//! core, [if it is still the one](Relay::go_on) that the journal speaks of. The guests' rings come last, from the
//! front-ends' sessions as they are replayed; until then nothing is taken from the remote, which would have to be dropped
//! for VMs that are about to be back.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use log::Level;

use super::counters::Reason;
use super::fairness::BRIDGE_OWNER;
use super::handover::Handover;
use super::held::Held;
use super::journal::{Saved, SavedDevice, SavedVm};
use super::life::Parked;
use super::policy::{Overflow, VmPolicy};
use super::relay::Relay;
use super::vm::Vm;
use crate::remote::attach::RpmsgVdev;
use crate::remote::resume::{InUse, Place};
use crate::rpmsg::address::{Session, Slot};

/// How long the remote is kept waiting for the guests' rings to come back.
const PATIENCE: Duration = Duration::from_secs(5);

/// What is still to come back.
#[derive(Debug)]
pub(super) struct Recovered {
    /// The device, until the remote core says whether it is still the same.
    device: Option<SavedDevice>,
    /// VMs that have not been added yet.
    vms: BTreeMap<Slot, SavedVm>,
    /// Messages to and from each VM that were lost with the remote, and are to be counted once the VM is there.
    lost: BTreeMap<u8, u64>,
    /// Until when the guests' rings are waited for; `None` before all VMs are there.
    until: Option<Instant>,
}

impl Recovered {
    pub(super) fn until(&self) -> Option<Instant> {
        self.until
    }
}

impl Relay {
    /// All that there is to be remembered.
    pub(super) fn save(&self) -> Saved {
        let recovered = self.recovered.as_deref();
        let (services, last_change) = self.directory.save();
        let (aliases, free_aliases) = self.aliases.save();
        let present = self.vms.iter().flatten().map(|vm| (vm.account.slot(), vm.save()));
        let mut vms: BTreeMap<_, _> = present.collect();
        vms.extend(recovered.into_iter().flat_map(|recovered| recovered.vms.clone()));
        let numbers = (0..Slot::COUNT).filter_map(Slot::new).zip(&self.sessions);
        let sessions =
            numbers.filter(|(slot, session)| !vms.contains_key(slot) && **session != Session::default());
        let sessions = sessions.map(|(slot, session)| (slot, *session)).collect();
        Saved {
            device: self.save_device().or_else(|| recovered?.device.clone()),
            vms,
            sessions,
            services,
            rules: self.directory.rules_hash(),
            last_change,
            aliases,
            free_aliases,
            farewells: self.farewells.clone(),
            suspended: self.suspended.clone(),
            lost: recovered.map(|recovered| recovered.lost.clone()).unwrap_or_default(),
            strays: self.strays,
            programs: self.programs,
        }
    }

    fn save_device(&self) -> Option<SavedDevice> {
        let (device, parked) = match (&self.device, &self.parked) {
            (Some(device), _) => (device, None),
            (None, Some(Parked { device, owners })) => (device, Some(owners)),
            (None, None) => return None,
        };
        let mut owners = vec![None; device.outbound.count().into()];
        let number = |owner: usize| u8::try_from(owner).ok();
        match parked {
            Some(parked) => {
                parked.iter().for_each(|(buffer, owner)| owners[usize::from(*buffer)] = number(*owner));
            }
            None => {
                let taken = (0..).zip(&mut owners);
                taken.for_each(|(buffer, owner)| *owner = self.fairness.owner(buffer).and_then(number));
            }
        }
        Some(SavedDevice {
            attachment: device.attachment,
            is_parked: parked.is_some(),
            inbound: device.inbound.cursor(),
            outbound: device.outbound.cursor(),
            owners,
        })
    }

    /// Goes on with what was remembered.
    pub(super) fn restore(&mut self, saved: Saved, now: Instant) {
        self.directory.restore(saved.services, saved.last_change, saved.rules, now);
        self.aliases.restore(saved.aliases, saved.free_aliases);
        for (slot, session) in saved.sessions {
            self.sessions[usize::from(slot.number())] = session;
        }
        self.farewells = saved.farewells;
        self.suspended = saved.suspended;
        let (device, vms) = (saved.device, saved.vms);
        (self.strays, self.logged_strays) = (saved.strays, saved.strays);
        self.programs = saved.programs;
        self.recovered = Some(Box::new(Recovered { device, vms, lost: saved.lost, until: None }));
    }

    /// The remote core is still the one that was attached to at that time, and its device is at this place.
    pub(super) fn go_on(&mut self, place: Place, now: Instant) {
        let saved = self.recovered.as_mut().and_then(|recovered| recovered.device.take());
        let Some(saved) = saved.filter(|saved| saved.attachment == place.attachment()) else {
            // It was attached to, and nobody here has heard of it.
            let in_use = InUse::at_first(&place);
            return self.attached(place.resume(&in_use), now);
        };
        let count = place.inbound_buffers();
        for vm in self.recovered.iter_mut().flat_map(|recovered| recovered.vms.values_mut()) {
            vm.waiting.retain(|(buffer, _)| *buffer < count);
        }
        let vms = self.recovered.iter().flat_map(|recovered| recovered.vms.values());
        let held = vms.flat_map(|vm| &vm.waiting).map(|(buffer, _)| *buffer).collect();
        let sent = (0..)
            .zip(&saved.owners)
            .filter_map(|(buffer, owner)| owner.is_some().then_some(buffer))
            .collect();
        let device = place.resume(&InUse { inbound: saved.inbound, outbound: saved.outbound, held, sent });
        let owners =
            (0..).zip(&saved.owners).filter_map(|(buffer, owner)| Some((buffer, usize::from((*owner)?))));
        if saved.is_parked {
            self.parked = Some(Parked { device, owners: owners.collect() });
        } else {
            self.take_device(device, owners);
        }
        self.commit_all();
    }

    /// Goes on with a device, whose unconsumed buffers are these owners'.
    pub(super) fn take_device(&mut self, device: RpmsgVdev, owners: impl Iterator<Item = (u16, usize)>) {
        self.held = Held::new(device.inbound.count());
        self.fairness.reset(device.outbound.count(), device.inbound.count());
        for (buffer, owner) in owners {
            self.fairness.sent(owner, buffer, 0);
        }
        let unconsumed: Vec<_> = device.outbound.unconsumed().collect();
        self.device = Some(device);
        for service in self.directory.handed_over() {
            self.handovers.push(Handover::new(service, unconsumed.iter().copied()));
        }
        self.stalled = true;
    }

    /// The remote core that was attached to is not there any more, or is another one by now.
    pub(super) fn gone_meanwhile(&mut self, now: Instant) {
        let Some(recovered) = &mut self.recovered else { return };
        let Some(saved) = recovered.device.take() else { return };
        let owners = saved.owners.iter().flatten().filter(|owner| **owner != BRIDGE_OWNER);
        let before: u64 = recovered.lost.values().sum();
        owners.for_each(|owner| *recovered.lost.entry(*owner).or_default() += 1);
        let lost = recovered.lost.values().sum::<u64>() - before;
        if lost > 0 {
            let name = &self.name;
            let text = format_args!("remote {name}: {lost} messages that it had not consumed are lost");
            self.log.say(Level::Warn, text);
        }
        self.suspended.clear();
        self.withdraw_all();
        self.lost(now);
    }

    /// A message of a VM that has not been added yet is lost with the remote.
    pub(super) fn lost_of_absent(&mut self, owner: usize) {
        if let (Some(recovered), Ok(owner)) = (&mut self.recovered, u8::try_from(owner))
            && owner != BRIDGE_OWNER
        {
            *recovered.lost.entry(owner).or_default() += 1;
        }
    }

    /// The service of this number is another one from now on, also for VMs that have not been added yet.
    pub(super) fn forget_service_of_absent(&mut self, service: usize) {
        let vms = self.recovered.iter_mut().flat_map(|recovered| recovered.vms.values_mut());
        vms.for_each(|vm| vm.figures.forget(service));
    }

    /// What waits for VMs that have not been added yet is lost with the remote, in whose buffers it is.
    pub(super) fn forget_waiting_of_absent(&mut self) {
        let Some(recovered) = &mut self.recovered else { return };
        for (slot, vm) in &mut recovered.vms {
            let waiting = std::mem::take(&mut vm.waiting).len() as u64;
            if waiting > 0 {
                *recovered.lost.entry(slot.number()).or_default() += waiting;
            }
            vm.before_news = 0;
        }
    }

    /// Gives a VM what is remembered of it. Returns whether anything is.
    pub(super) fn take_up(&mut self, vm: &mut Vm) -> bool {
        let slot = vm.account.slot();
        let Some(recovered) = &mut self.recovered else { return false };
        let Some(mut saved) = recovered.vms.remove(&slot) else { return false };
        let lost = recovered.lost.remove(&slot.number()).unwrap_or(0);
        let undelivered = match self.device {
            Some(_) => 0,
            None => std::mem::take(&mut saved.waiting).len(),
        };
        vm.restore(saved, &mut self.held);
        if self.device.is_none() {
            vm.account.drop_waiting(Reason::RemoteLost, undelivered as u64);
        }
        let detail = &"messages of before that were with the remote core";
        vm.account.drop_messages(Reason::RemoteLost, None, lost, detail);
        self.attention.counted |= 1 << slot.number();
        if vm.account.is_in_session() {
            self.fairness.add_vm(slot.number().into(), &vm.account.policy);
        }
        true
    }

    /// All VMs that there are have been added: the sessions of the others are over. Messages pass from now on.
    pub(super) fn settle(&mut self, now: Instant) {
        let Some(recovered) = &mut self.recovered else { return };
        let rest: Vec<_> = recovered.vms.keys().copied().collect();
        for slot in rest {
            let name = format!("of slot {}", slot.number());
            if self.add_vm(Vm::new(name, slot, VmPolicy::unlimited(Overflow::Drop)), false) {
                self.remove_vm(slot);
            }
        }
        if let Some(recovered) = &mut self.recovered {
            recovered.until = Some(now + PATIENCE);
        }
        self.want_everything();
    }

    /// Whether messages may pass.
    #[inline]
    pub(super) fn is_settled(&self) -> bool {
        self.recovered.as_ref().is_none_or(|recovered| recovered.until.is_some())
    }

    /// Whether the rings of some guest are still to come back.
    #[inline]
    pub(super) fn awaits_queues(&mut self) -> bool {
        if self.recovered.is_some() && !self.vms.iter().flatten().any(|vm| vm.account.awaits_queues()) {
            self.recovered = None;
        }
        self.recovered.is_some()
    }

    /// Rings that have not come back by now may come later; nobody waits for them any more.
    pub(super) fn wait_no_longer(&mut self, now: Instant) {
        if self.recovered.as_ref().and_then(|recovered| recovered.until).is_some_and(|until| until <= now) {
            self.recovered = None;
            self.want_everything();
        }
    }
}
