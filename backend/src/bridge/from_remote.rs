//! Messages from the remote: whose they are, and what becomes of those that nobody takes now.

use std::time::Instant;

use log::Level;

use super::aliases::Alias;
use super::counters::Reason;
use super::desk::Receiver;
use super::fairness::bits;
use super::journal::Entry;
use super::parties::{Client, Route};
use super::policy::Overflow;
use super::relay::Relay;
use super::tap::{Way, name_of};
use super::to_guest::{self, Delivery, deliver};
use super::vm::Vm;
use crate::remote::messages::{Arrival, Message};
use crate::remote::vring::VringFault;
use crate::rpmsg::address::{HostAddress, Slot, from_host};
use crate::rpmsg::{Header, NAME_SERVICE_ADDRESS};

impl Relay {
    /// Takes up to `most` messages out of the remote's vring. Returns how many there were.
    pub(super) fn take_from_remote(&mut self, now: Instant, most: usize) -> Result<usize, VringFault> {
        let mut moved = 0;
        if !self.device.as_mut().is_some_and(|device| device.inbound.vring().has_used()) {
            return Ok(0);
        }
        while moved < most {
            let Some(device) = &mut self.device else { break };
            match device.inbound.take()? {
                None => break,
                Some(Arrival::Message(message)) => self.route(message, now),
                Some(Arrival::Malformed(error)) => {
                    self.count_malformed();
                    let name = &self.name;
                    self.log
                        .say(Level::Warn, format_args!("remote {name}: malformed message dropped: {error}"));
                }
            }
            moved += 1;
        }
        Ok(moved)
    }

    fn route(&mut self, message: Message, now: Instant) {
        let Header { src, dst, .. } = message.header;
        match self.aliases.find(dst) {
            Some(Alias::Client { service }) => return self.route_to_desk(service, message, now),
            Some(Alias::Endpoint { slot, address }) => return self.route_to_vm(slot, address, message, now),
            None => {}
        }
        match from_host(dst) {
            HostAddress::NameService => self.announced(message),
            // A guest's name service hears what the directory has to say, and nothing else.
            HostAddress::Guest { address: NAME_SERVICE_ADDRESS, .. } => self.misdirect(message),
            HostAddress::Guest { slot, session, address } if !self.aliases.is_needed_for_all() => {
                let Some(vm) = self.vm(slot) else { return self.misdirect(message) };
                if !vm.account.accepts(session) {
                    let detail = Route { src, dst };
                    let service = self.directory.at(src);
                    self.attention.counted |= 1 << slot.number();
                    if let Some(vm) = self.vm(slot) {
                        vm.account.drop_message(Reason::StaleSession, service, &detail);
                    }
                    let header = Header { dst: address, ..message.header };
                    let dropped = Some(Reason::StaleSession);
                    self.show(slot, service, Message { header, ..message }, dropped);
                    return self.release(message.id);
                }
                self.route_to_vm(slot, address, message, now);
            }
            HostAddress::Guest { .. } | HostAddress::Nobody => self.misdirect(message),
        }
    }

    /// A message for one endpoint.
    fn route_to_vm(&mut self, slot: Slot, address: u32, mut message: Message, now: Instant) {
        let service = self.directory.at(message.header.src);
        if let Some(service) = service
            && let Some(unanswered) = self.directory.watch(service).answered(slot, now)
        {
            self.report_one_sided(service, slot, unanswered);
        }
        message.header.dst = address;
        self.hand_to(slot, service, message);
        if !self.held.holds(message.id) {
            self.release(message.id);
        }
    }

    /// A message for the one client that the firmware of a service sees.
    fn route_to_desk(&mut self, service: usize, mut message: Message, now: Instant) {
        let Header { src, dst, .. } = message.header;
        match self.directory.desk(service).map(|desk| desk.receive(now)) {
            Some(Receiver::One(client)) => {
                self.hand_to_client(service, client, &mut message);
                // That may have ended a turn.
                self.wake_waiting_for_turn();
            }
            Some(Receiver::All) => {
                let count = self.directory.desk(service).map_or(0, |desk| desk.subscribers().len());
                for number in 0..count {
                    let client =
                        self.directory.desk(service).and_then(|desk| desk.subscribers().get(number).copied());
                    if let Some(client) = client {
                        self.hand_to_client(service, client, &mut message);
                    }
                }
            }
            Some(Receiver::Late) => self.count_unwanted(service, "answer after its time-out", src, dst),
            Some(Receiver::Nobody) => self.count_unwanted(service, "message that nobody asked for", src, dst),
            None => return self.misdirect(message),
        }
        if !self.held.holds(message.id) {
            self.release(message.id);
        }
    }

    fn hand_to_client(&mut self, service: usize, client: Client, message: &mut Message) {
        let Client { slot, session, address } = client;
        let Header { src, dst, .. } = message.header;
        message.header.dst = address;
        self.attention.counted |= 1 << slot.number();
        match self.vm(slot) {
            Some(vm) if vm.account.is_in(session) => self.hand_to(slot, Some(service), *message),
            Some(vm) => {
                let detail = Route { src, dst };
                vm.account.drop_message(Reason::StaleSession, Some(service), &detail);
                self.show(slot, Some(service), *message, Some(Reason::StaleSession));
            }
            None => self.count_unwanted(service, "answer to a VM that was removed", src, dst),
        }
    }

    /// Delivers a message, whose destination is the guest's own address by now, or lets it wait. Its buffer is not
    /// released.
    fn hand_to(&mut self, slot: Slot, service: Option<usize>, message: Message) {
        let index = usize::from(slot.number());
        // News come first. A guest that has room for them has room for the message too, however many of them there are.
        while self.vms[index].as_ref().is_some_and(|vm| vm.account.view.is_behind(&self.directory))
            && self.serve_receiver(index)
        {}
        let Some(device) = &mut self.device else { return };
        let Some(vm) = self.vms[index].as_deref_mut() else { return };
        if vm.account.waiting.is_empty()
            && !vm.account.view.is_behind(&self.directory)
            && let Vm { to_guest: Some(queue), from_guest: Some(_), account } = vm
            && let delivery = deliver(queue, account, &device.inbound, service, message)
            && delivery != Delivery::Later
        {
            self.attention.gave(index);
            if self.tap.is_some() {
                self.show(slot, service, message, delivery.reason());
            }
            return;
        }
        self.attention.receiving |= 1 << index;
        let account = &mut vm.account;
        let most = match account.policy.overflow {
            Overflow::Block => usize::from(device.inbound.count()),
            Overflow::Drop => usize::from(self.fairness.held_share(slot.number().into())),
        };
        if account.waiting.count() < most {
            let header = message.header.to_bytes();
            self.journal.append(&Entry::Held { slot, buffer: message.id, header });
            self.held.push(&mut account.waiting, message);
        } else {
            let Header { src, dst, .. } = message.header;
            self.attention.counted |= 1 << index;
            account.drop_message(Reason::GuestTooSlow, service, &Route { src, dst });
            self.show(slot, service, message, Some(Reason::GuestTooSlow));
        }
    }

    /// Shows a message from the remote, whose destination is the guest's own address by now, to whoever captures.
    #[cold]
    fn show(&mut self, slot: Slot, service: Option<usize>, message: Message, dropped: Option<Reason>) {
        let vm = self.vms[usize::from(slot.number())].as_deref();
        let (Some(tap), Some(device), Some(vm)) = (&mut self.tap, &self.device, vm) else { return };
        let service = name_of(&self.directory, service);
        tap.show_inbound(&vm.account, &device.inbound, service, message, dropped);
    }

    /// Gives waiting VMs what they have room for. Returns how many messages that were.
    pub(super) fn serve_receivers(&mut self) -> usize {
        let mut moved = 0;
        for index in bits(self.attention.receiving) {
            while self.serve_receiver(index) {
                moved += 1;
            }
            if !self.vms[index].as_ref().is_some_and(|vm| vm.account.awaits_something(&self.directory)) {
                self.attention.receiving &= !(1 << index);
            }
        }
        moved
    }

    /// Delivers the next thing that waits for a VM. Returns whether something was delivered.
    fn serve_receiver(&mut self, index: usize) -> bool {
        let Some(vm) = self.vms[index].as_deref_mut() else { return false };
        let has_name_service = vm.has_name_service();
        let Vm { to_guest: Some(queue), from_guest: Some(_), account } = vm else { return false };
        if account.before_news == 0 && account.view.is_behind(&self.directory) {
            let slot = account.slot();
            if !has_name_service {
                account.view.skip_all(&self.directory);
            } else if let Some(announcement) = self.directory.next_for(slot, &mut account.view) {
                if to_guest::announce(queue, account, announcement) == Delivery::Later {
                    return false;
                }
                if let Some(tap) = &mut self.tap {
                    tap.show_announcement(Way::ToGuest, slot, account.session(), announcement);
                }
                self.attention.gave(index);
                if let Some((service, incarnation)) = self.directory.told(&mut account.view, announcement) {
                    self.journal.append(&Entry::Told { slot, service, incarnation });
                }
                return true;
            }
            self.journal.append(&Entry::Seen { slot, change: account.view.seen() });
        }
        let (Some(message), Some(device)) = (account.waiting.first(), &mut self.device) else {
            return false;
        };
        let service = self.directory.at(message.header.src);
        let delivery = deliver(queue, account, &device.inbound, service, message);
        if delivery == Delivery::Later {
            return false;
        }
        if let Some(tap) = &mut self.tap {
            let service = name_of(&self.directory, service);
            tap.show_inbound(account, &device.inbound, service, message, delivery.reason());
        }
        self.attention.gave(index);
        account.before_news = account.before_news.saturating_sub(1);
        self.journal.append(&Entry::Unheld { slot: account.slot() });
        if let Some(id) = self.held.pop(&mut account.waiting) {
            device.inbound.release(id);
        }
        true
    }

    fn misdirect(&mut self, message: Message) {
        self.count_misdirected();
        let Header { src, dst, .. } = message.header;
        let name = &self.name;
        self.log.say(
            Level::Warn,
            format_args!("remote {name}: message from {src:#x} to {dst:#x} dropped: no VM has this address"),
        );
        self.release(message.id);
    }

    /// Counts a message of a service that no VM gets.
    fn count_unwanted(&mut self, service: usize, what: &str, src: u32, dst: u32) {
        self.count_misdirected();
        let (remote, log) = (&self.name, &mut self.log);
        if let Some((name, _)) = self.directory.name(service) {
            let text =
                format_args!("remote {remote}: service {name}: {what}, from {src:#x} to {dst:#x}, dropped");
            log.say(Level::Warn, text);
        }
    }

    /// Gives a buffer back to the remote.
    pub(super) fn release(&mut self, id: u16) {
        if let Some(device) = &mut self.device {
            device.inbound.release(id);
        }
    }
}
