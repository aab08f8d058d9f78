//! The services of the remote as the relay keeps them: the directory, and the desks whose turn it is.

use std::time::Instant;

use log::{Level, warn};

use super::counters::Reason;
use super::desk::Desk;
use super::directory::Withdrawn;
use super::handover::Handover;
use super::journal::Entry;
use super::policy::Rule;
use super::relay::Relay;
use super::tap::{Seen, Way};
use super::vm::Vm;
use crate::remote::messages::Message;
use crate::rpmsg::address::Slot;
use crate::rpmsg::{Announcement, AnnouncementKind, Header, MAX_PAYLOAD, ServiceName};

impl Relay {
    /// A message to the name service.
    pub(super) fn announced(&mut self, message: Message) {
        let Some(device) = &mut self.device else { return };
        let mut payload = [0; MAX_PAYLOAD];
        let payload = &mut payload[..message.header.payload_len()];
        device.inbound.read_payload(message.id, payload);
        device.inbound.release(message.id);
        match Announcement::from_bytes(payload) {
            Ok(Announcement { name, addr, kind: AnnouncementKind::Create }) => self.announce(name, addr),
            Ok(Announcement { name, addr, kind: AnnouncementKind::Destroy }) => {
                if self.withdraw(name, addr) {
                    let remote = &self.name;
                    let text = format_args!("remote {remote}: service {name} at {addr:#x} is gone");
                    self.log.say(Level::Info, text);
                }
            }
            Err(error) => {
                self.count_malformed();
                let remote = &self.name;
                self.log.say(Level::Warn, format_args!("remote {remote}: announcement dropped: {error}"));
            }
        }
    }

    /// A service is there no more. Returns whether it was.
    fn withdraw(&mut self, name: ServiceName, addr: u32) -> bool {
        let Some(withdrawn) = self.directory.withdraw(name, addr) else { return false };
        self.count_lost_requests(&withdrawn);
        self.news();
        true
    }

    /// Services are shared by this rule from now on. To guests those that it is for go, and come back. Returns which these are.
    pub(super) fn set_rule(&mut self, rule: &Rule) -> Vec<ServiceName> {
        let matching = self.directory.services().filter(|(name, _)| rule.pattern.matches(*name));
        let matching: Vec<_> = matching.collect();
        for (name, addr) in &matching {
            self.withdraw(*name, *addr);
        }
        let directory = &self.directory;
        let is_other = |service| directory.name(service).is_none_or(|(name, _)| !rule.pattern.matches(name));
        self.handovers.retain(|handover| is_other(handover.service()));
        self.directory.set_rule(rule);
        for (name, addr) in &matching {
            self.announce(*name, *addr);
            // Whatever the firmware still answers under its one address is to somebody from before.
            if let Some(service) = self.directory.at(*addr)
                && let Some(device) = &self.device
                && self.directory.desk(service).is_some_and(Desk::hand_over)
            {
                self.handovers.push(Handover::new(service, device.outbound.unconsumed()));
            }
        }
        self.commit_all();
        matching.into_iter().map(|(name, _)| name).collect()
    }

    /// The remote has a service.
    pub(super) fn announce(&mut self, name: ServiceName, addr: u32) {
        let views = self.vms.iter().flatten().map(|vm| &vm.account.view);
        let before = self.directory.len();
        let announced = self.directory.announce(name, addr, &views);
        if announced.is_err() {
            self.count_malformed();
        }
        let remote = &self.name;
        match announced {
            Ok(true) => {
                self.log.say(Level::Info, format_args!("remote {remote}: service {name} at {addr:#x}"));
                if let Some(service) = self.directory.at(addr)
                    && self.directory.is_in_place_of_another(service, before)
                {
                    for Vm { account, .. } in self.vms.iter_mut().flatten().map(Box::as_mut) {
                        account.counters.forget(account.slot(), service, &mut self.journal);
                    }
                    self.forget_service_of_absent(service);
                    self.journal.change();
                }
                self.news();
            }
            Ok(false) => {}
            Err(error) => {
                let text = format_args!("remote {remote}: service {name} left out: {error}");
                self.log.say(Level::Warn, text);
            }
        }
    }

    /// Requests that were kept for a service go with it.
    pub(super) fn count_lost_requests(&mut self, withdrawn: &Withdrawn) {
        for slot in &withdrawn.waiting {
            self.attention.counted |= 1 << slot.number();
            if let Some(vm) = self.vm(*slot) {
                let detail = format_args!("request to {}", withdrawn.name);
                vm.account.drop_message(Reason::RemoteNotRunning, Some(withdrawn.service), &detail);
            }
        }
        if !withdrawn.waiting.is_empty() {
            self.wake_waiting_for_turn();
        }
    }

    /// The directory has changed: every VM is told, after the messages that came before.
    pub(super) fn news(&mut self) {
        self.journal.change();
        for vm in self.vms.iter_mut().flatten() {
            vm.account.before_news = vm.account.waiting.count();
            vm.account.counters.make_room(self.directory.len());
        }
        self.want_everything();
    }

    /// Sends the requests whose turn it is. Returns how many there were.
    pub(super) fn serve_desks(&mut self, now: Instant) -> usize {
        let mut moved = 0;
        for number in 0..self.directory.timed().len() {
            let service = self.directory.timed()[number];
            moved += self.serve_desk(service, now);
        }
        if moved > 0 {
            self.wake_waiting_for_turn();
        }
        moved
    }

    fn serve_desk(&mut self, service: usize, now: Instant) -> usize {
        let Some(device) = &mut self.device else { return 0 };
        let src = self.aliases.client_of(service);
        let Some((name, dst)) = self.directory.name(service) else { return 0 };
        let Some(desk) = self.directory.desk(service) else { return 0 };
        let mut moved = 0;
        while let Some(request) = desk.next_request() {
            let (payload, slot) = (request.payload(), request.client.slot);
            let index = usize::from(slot.number());
            let buffer = self.fairness.may_take(index).then(|| device.outbound.reserve()).flatten();
            let Some(buffer) = buffer else {
                self.stalled = true;
                break;
            };
            self.fairness.sent(index, buffer.id(), payload.len());
            self.journal.append(&Entry::Sent { owner: slot.number(), buffer: buffer.id() });
            device.outbound.write_payload(&buffer, payload);
            let len = u16::try_from(payload.len()).unwrap_or(0);
            let bytes = payload.len();
            let header = Header { src, dst, reserved: 0, len, flags: request.flags };
            device.outbound.send(buffer, header);
            if let Some(tap) = &mut self.tap {
                let (header, session) =
                    (Header { src: request.client.address, ..header }, request.client.session);
                let (way, service) = (Way::ToRemote, Some(name));
                tap.show(Seen { way, slot, session, host: src, header, service, dropped: None }, |target| {
                    target.copy_from_slice(&payload[..target.len()]);
                });
            }
            desk.request_sent(now);
            if let Some(vm) = self.vms[usize::from(slot.number())].as_deref_mut() {
                vm.account.counters.sent(Some(service), bytes);
                self.attention.counted |= 1 << index;
            }
            moved += 1;
        }
        moved
    }

    /// Time has passed for the desks.
    pub(super) fn tick_desks(&mut self, now: Instant) {
        let mut freed = false;
        for number in 0..self.directory.timed().len() {
            let service = self.directory.timed()[number];
            let Some(desk) = self.directory.desk(service) else { continue };
            let (unanswered, is_free) = desk.tick(now);
            freed |= is_free;
            if let Some(client) = unanswered
                && let Some((name, addr)) = self.directory.name(service)
                && let Some(vm) = self.vms[usize::from(client.slot.number())].as_deref_mut()
            {
                self.attention.counted |= 1 << client.slot.number();
                vm.account.counters.timed_out();
                let text = format_args!("service {name} at {addr:#x} has not answered in time");
                vm.account.say(Level::Warn, text);
            }
        }
        if freed {
            self.wake_waiting_for_turn();
        }
    }

    /// A turn has ended: whoever waits for one looks again.
    pub(super) fn wake_waiting_for_turn(&mut self) {
        for (slot, vm) in self.vms.iter().enumerate() {
            if vm.as_ref().is_some_and(|vm| vm.account.waits_for_turn) {
                self.attention.may_send(slot);
            }
        }
    }

    /// A shared service answers one VM and not another.
    pub(super) fn report_one_sided(&mut self, service: usize, answered: Slot, unanswered: Slot) {
        let Some((name, addr)) = self.directory.name(service) else { return };
        let remote = &self.name;
        let names = [answered, unanswered]
            .map(|slot| self.vms[usize::from(slot.number())].as_ref().map_or("?", |vm| &vm.account.name));
        warn!(
            "remote {remote}: service {name} at {addr:#x} answers vm {} but not vm {}: its firmware seems to have one \
             client; configure it as mode = \"serialized\" or \"exclusive\"",
            names[0], names[1]
        );
    }
}
