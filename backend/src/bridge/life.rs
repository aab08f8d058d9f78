//! What happens when VMs, their drivers and the remote come and go.

use std::fs::File;
use std::time::Instant;

use log::Level;

use super::aliases::Alias;
use super::counters::Reason;
use super::directory::Withdrawn;
use super::fairness::BRIDGE;
use super::handover::Handover;
use super::held::Held;
use super::journal::Entry;
use super::parties::Route;
use super::relay::Relay;
use super::tap::Way;
use super::vm::Vm;
use crate::guest::Queue;
use crate::guest::port::QueueIndex;
use crate::remote::attach::RpmsgVdev;
use crate::remote::messages::Arrival;
use crate::rpmsg::address::{HostAddress, Slot, from_host};
use crate::rpmsg::{ANNOUNCEMENT_LEN, Announcement, AnnouncementKind};

/// A device whose remote cannot be reached.
pub(super) struct Parked {
    pub(super) device: RpmsgVdev,
    /// Buffers that the remote had not consumed, and whose messages are in them.
    pub(super) owners: Vec<(u16, usize)>,
}

impl Relay {
    /// A VM is served from now on. `goes_on`: its front-end has been connected all the time, to a program before this one.
    /// Returns false if its slot is taken.
    pub(super) fn add_vm(&mut self, mut vm: Vm, goes_on: bool) -> bool {
        let slot = vm.account.slot();
        let place = usize::from(slot.number());
        if self.vms[place].is_some() {
            return false;
        }
        vm.account.go_on_after(self.sessions[place]);
        let was_there = self.take_up(&mut vm);
        vm.account.counters.make_room(self.directory.len());
        self.vms[place] = Some(Box::new(vm));
        self.reserve_waiting();
        if was_there && !goes_on {
            self.end_session(slot);
        }
        self.commit_all();
        true
    }

    /// A VM is served no more; its queues have been taken back before.
    pub(super) fn remove_vm(&mut self, slot: Slot) {
        self.end_session(slot);
        let slot = usize::from(slot.number());
        if let Some(vm) = self.vms[slot].take() {
            self.sessions[slot] = vm.account.session();
        }
        self.commit_all();
    }

    /// The VM has given a queue.
    pub(super) fn give_queue(&mut self, slot: Slot, index: QueueIndex, queue: Queue) {
        let Some(vm) = self.vm(slot) else { return };
        if vm.give_queue(index, queue) {
            self.end_session(slot);
            if let Some(vm) = self.vms[usize::from(slot.number())].as_deref_mut() {
                vm.account.start_session();
                // Only VMs that are up have a share of the buffers.
                self.fairness.add_vm(slot.number().into(), &vm.account.policy);
            }
        }
        // Its memory may have been torn away on the way here.
        self.give_up_torn();
        self.attention.want(slot);
        // A session that has begun is remembered before anything is written into its rings, by which a new driver is known.
        self.commit_all();
    }

    /// The VM has one of its queues back.
    pub(super) fn take_queue(&mut self, slot: Slot, index: QueueIndex) -> Option<Queue> {
        // What the last of a core that was lost has brought may not have been published yet.
        self.commit_all();
        let vm = self.vm(slot)?;
        vm.publish(index);
        let queue = vm.take_queue(index)?;
        self.commit_all();
        Some(queue)
    }

    /// One of the VM's queues has another descriptor to interrupt the guest by.
    pub(super) fn call_by(&mut self, slot: Slot, index: QueueIndex, call: Option<File>) {
        let Some(vm) = self.vm(slot) else { return };
        vm.call_by(index, call);
        self.attention.want(slot);
    }

    /// The VM's session is over: what waits for it is discarded, its turns and services are free, what it has announced
    /// is withdrawn.
    pub(super) fn end_session(&mut self, slot: Slot) {
        let Some(vm) = self.vms[usize::from(slot.number())].as_deref_mut() else { return };
        self.journal.change();
        let account = &mut vm.account;
        let mut discarded = 0;
        while !account.waiting.is_empty() {
            if let (Some(id), Some(device)) = (self.held.pop(&mut account.waiting), &mut self.device) {
                device.inbound.release(id);
            }
            discarded += 1;
        }
        account.drop_waiting(Reason::SessionEnded, discarded);
        let mut rights_changed = false;
        for (service, left) in self.directory.leave(slot) {
            let requests = left.requests as u64;
            account.drop_messages(Reason::SessionEnded, Some(service), requests, &"waiting requests");
            rights_changed |= left.rights_changed;
            if left.hands_over
                && let Some(device) = &self.device
            {
                let fairness = &self.fairness;
                let is_its = |buffer: &u16| fairness.is_charged_to(slot.number().into(), *buffer);
                self.handovers.push(Handover::new(service, device.outbound.unconsumed().filter(is_its)));
            }
        }
        for service in account.end_session() {
            let host = account.host_address(&mut self.aliases, service.address).filter(|_| service.told);
            self.farewells.extend(host.map(|host| (service.name, host)));
        }
        self.aliases.forget(slot);
        self.fairness.remove_vm(slot.number().into());
        if rights_changed {
            self.news();
        }
        self.wake_waiting_for_turn();
    }

    /// Tells the remote of services of ended sessions, as far as there are buffers. Returns how many were told.
    pub(super) fn say_farewells(&mut self) -> usize {
        let Some(device) = &mut self.device else { return 0 };
        let mut moved = 0;
        while let Some((name, addr)) = self.farewells.last().copied() {
            let Some(buffer) = device.outbound.reserve() else {
                self.stalled = true;
                break;
            };
            self.fairness.sent(BRIDGE, buffer.id(), ANNOUNCEMENT_LEN);
            let announcement = Announcement { name, addr, kind: AnnouncementKind::Destroy };
            device.outbound.write_payload(&buffer, &announcement.to_bytes());
            device.outbound.send(buffer, announcement.header());
            if let (Some(tap), HostAddress::Guest { slot, session, .. }) = (&mut self.tap, from_host(addr)) {
                tap.show_announcement(Way::ToRemote, slot, session, announcement);
            }
            self.farewells.pop();
            self.journal.change();
            moved += 1;
        }
        moved
    }

    /// The remote is there, and nothing is known of its services yet.
    pub(super) fn attached(&mut self, device: RpmsgVdev, now: Instant) {
        self.lost(now);
        self.suspended.clear();
        self.farewells.clear();
        self.held = Held::new(device.inbound.count());
        self.fairness.reset(device.outbound.count(), device.inbound.count());
        self.device = Some(device);
        self.reserve_waiting();
        for vm in self.vms.iter_mut().flatten() {
            for service in &mut vm.account.services {
                service.told = false;
            }
        }
        for (name, addr) in self.static_services.clone() {
            self.announce(name, addr);
        }
        self.want_everything();
        self.commit_all();
    }

    /// The remote cannot be reached. It may go on later, with the vrings as they are.
    pub(super) fn cut_off(&mut self, now: Instant) {
        self.take_the_last(now);
        let Some(device) = self.device.take() else { return };
        let unconsumed = device.outbound.unconsumed();
        let owners =
            unconsumed.filter_map(|buffer| Some((buffer, self.fairness.returned(buffer)?))).collect();
        self.parked = Some(Parked { device, owners });
        let withdrawn = self.withdraw_all();
        self.suspended = withdrawn.into_iter().map(|service| (service.name, service.addr)).collect();
        self.commit_all();
    }

    /// The remote that was cut off goes on.
    pub(super) fn resumed(&mut self) {
        let Some(Parked { mut device, owners }) = self.parked.take() else { return };
        device.inbound.release_all();
        let unconsumed: Vec<_> = device.outbound.unconsumed().collect();
        self.take_device(device, owners.into_iter());
        for (name, addr) in std::mem::take(&mut self.suspended) {
            self.announce(name, addr);
        }
        let handover = |service| Handover::new(service, unconsumed.iter().copied());
        self.handovers.extend(self.directory.hand_over().into_iter().map(handover));
        self.want_everything();
        self.commit_all();
    }

    /// The remote is gone, and what it had not consumed is lost with it.
    pub(super) fn lost(&mut self, now: Instant) {
        self.cut_off(now);
        self.suspended.clear();
        let Some(Parked { mut device, owners }) = self.parked.take() else { return };
        self.count_late_messages(&mut device);
        // It may have gone on for a while after it was cut off. A vring with garbage in it says no more.
        let _ = device.outbound.reclaim(|_| {});
        let mut lost = 0;
        for (buffer, owner) in owners {
            if !device.outbound.vring().is_with_remote(buffer) {
                continue;
            }
            if owner != BRIDGE {
                lost += 1;
            }
            if let Some(vm) = self.vms.get_mut(owner).and_then(Option::as_deref_mut) {
                let detail = &"message that the remote core had not consumed";
                vm.account.drop_message(Reason::RemoteLost, None, detail);
            }
        }
        if lost > 0 {
            let text =
                format_args!("remote {}: {lost} messages that it had not consumed are lost", self.name);
            self.log.say(Level::Warn, text);
        }
        self.commit_all();
    }

    /// Takes what the remote has done so far: what it has sent is delivered, and what it has consumed is not lost. Signals
    /// overtake what is in the vrings.
    fn take_the_last(&mut self, now: Instant) {
        let Some(device) = &self.device else { return };
        let count = device.inbound.count();
        // A vring with garbage in it says no more.
        let _ = self.take_from_remote(now, count.into());
        self.serve_receivers();
        if let Some(device) = &mut self.device {
            let _ = device.outbound.reclaim(|buffer| {
                self.fairness.returned(buffer);
                self.journal.append(&Entry::Returned { buffer });
            });
        }
    }

    /// Counts what the remote has sent while it could not be reached: its services are gone, nobody takes it any more.
    fn count_late_messages(&mut self, device: &mut RpmsgVdev) {
        for _ in 0..device.inbound.count() {
            let Ok(Some(arrival)) = device.inbound.take() else { return };
            let Arrival::Message(message) = arrival else {
                self.count_malformed();
                continue;
            };
            let dst = message.header.dst;
            let slot = match (self.aliases.find(dst), from_host(dst)) {
                (Some(Alias::Endpoint { slot, .. }), _) | (None, HostAddress::Guest { slot, .. }) => {
                    Some(slot)
                }
                (None, HostAddress::NameService) => continue,
                _ => None,
            };
            match slot.and_then(|slot| self.vms[usize::from(slot.number())].as_deref_mut()) {
                Some(vm) => {
                    self.attention.counted |= 1 << vm.account.slot().number();
                    let detail = Route { src: message.header.src, dst };
                    vm.account.drop_message(Reason::RemoteLost, None, &detail);
                }
                None => self.count_misdirected(),
            }
        }
    }

    /// Takes every service back from the guests, with what waits for it.
    pub(super) fn withdraw_all(&mut self) -> Vec<Withdrawn> {
        let all = self.directory.withdraw_all();
        for withdrawn in &all {
            self.count_lost_requests(withdrawn);
        }
        for vm in self.vms.iter_mut().flatten() {
            let count = vm.account.waiting.clear();
            vm.account.drop_waiting(Reason::RemoteLost, count as u64);
        }
        self.held = Held::default();
        // The desks are closed, and open again when the services are back.
        self.handovers.clear();
        self.fairness.reset(0, 0);
        self.want_everything();
        all
    }

    /// Every VM may have to keep all of the remote's messages waiting.
    fn reserve_waiting(&mut self) {
        let Some(device) = &mut self.device else { return };
        let buffers = device.inbound.count();
        for vm in self.vms.iter_mut().flatten() {
            vm.account.waiting.reserve(buffers);
        }
    }
}
