//! One sweep over all rings.
//!
//! A sweep takes what is there, in batches, until nothing is left, and only then asks for notifications again. Within
//! a batch everything is written first; then each index is published once and each peer notified at most once.

use std::time::Instant;

use log::{Level, warn};

use super::counters::Reason;
use super::directory::Directory;
use super::held::Held;
use super::to_guest::{self, Delivery, deliver};
use super::to_remote::{Taken, take_message, tell_remote};
use super::vm::Vm;
use crate::causes::Causes;
use crate::guest::Queue;
use crate::guest::port::QueueIndex;
use crate::log_limit::LogLimit;
use crate::remote::core::{Change, RemoteCore};
use crate::remote::messages::{Arrival, Message};
use crate::remote::vring::VringFault;
use crate::rpmsg::address::{HostAddress, Slot, from_host};
use crate::rpmsg::{Announcement, AnnouncementKind, Header, MAX_PAYLOAD, ServiceName};

/// Messages that one VM may send before it is the next one's turn.
const TURN: usize = 8;
/// Messages taken from the remote before the VMs have their turns.
const BATCH: usize = 32;
/// Batches before the event loop gets to look at everything else.
const ROUNDS: usize = 64;

/// No VM has this slot.
const NOBODY: u8 = u8::MAX;

/// Everything that messages pass through.
pub(super) struct Relay {
    pub(super) remote: RemoteCore,
    pub(super) vms: Vec<Vm>,
    by_slot: [u8; Slot::COUNT as usize],
    pub(super) directory: Directory,
    held: Held,
    /// Messages that one VM may have waiting in the remote's buffers.
    share: u16,
    /// VMs whose transmit queue may have something, one bit each.
    sending: u128,
    /// VM whose turn to send comes first.
    first_sender: usize,
    /// VMs for which something may wait, one bit each.
    receiving: u128,
    /// Whether a VM has something for which the remote has no buffer.
    pub(super) stalled: bool,
    /// Services of a remote whose line was cut.
    suspended: Vec<(ServiceName, u32)>,
    /// Messages from the remote that were no messages, or for nobody.
    pub(super) misdirected: u64,
    pub(super) malformed: u64,
    log: LogLimit,
}

impl Relay {
    pub(super) fn new(remote: RemoteCore, vms: Vec<Vm>) -> Self {
        let mut by_slot = [NOBODY; Slot::COUNT as usize];
        for (vm, index) in vms.iter().zip(0..) {
            by_slot[usize::from(vm.account.slot().number())] = index;
        }
        Relay {
            remote,
            vms,
            by_slot,
            directory: Directory::default(),
            held: Held::default(),
            share: 0,
            sending: 0,
            first_sender: 0,
            receiving: 0,
            stalled: false,
            suspended: Vec::new(),
            misdirected: 0,
            malformed: 0,
            log: LogLimit::default(),
        }
    }

    /// The VM has given a queue.
    pub(super) fn give_queue(&mut self, vm: usize, index: QueueIndex, queue: Queue) {
        if self.vms[vm].give_queue(index, queue) {
            self.end_session(vm);
            self.vms[vm].account.start_session();
        }
        self.sending |= 1 << vm;
        self.receiving |= 1 << vm;
    }

    /// The VM's session is over: what waits for it is discarded, what it has announced is withdrawn.
    pub(super) fn end_session(&mut self, vm: usize) {
        let account = &mut self.vms[vm].account;
        let mut discarded = 0;
        while let Some(message) = self.held.pop(&mut account.waiting) {
            if let Some((device, _)) = self.remote.attached() {
                device.inbound.release(message.id);
            }
            discarded += 1;
        }
        account.drop_waiting(Reason::SessionEnded, discarded);
        account.end_session();
        self.sending |= 1 << vm;
    }

    /// The guest has kicked one of its queues.
    #[inline]
    pub(super) fn kicked(&mut self, vm: usize, index: QueueIndex) {
        self.vms[vm].kicked(index);
        match index {
            QueueIndex::FromGuest => self.sending |= 1 << vm,
            QueueIndex::ToGuest => self.receiving |= 1 << vm,
        }
    }

    /// Something has become of the remote.
    pub(super) fn remote_changed(&mut self, change: Change) {
        let name = self.remote.name().to_owned();
        match change {
            Change::Attached => self.attached(),
            Change::Resumed => {
                if let Some((device, _)) = self.remote.attached() {
                    device.inbound.release_all();
                }
                for (name, addr) in std::mem::take(&mut self.suspended) {
                    self.announce(name, addr);
                }
                self.want_everything();
            }
            Change::Lost(loss) => {
                warn!("remote {name}: lost: {}", Causes(&loss));
                self.lost();
            }
            Change::Rebooted => {
                warn!("remote {name}: has booted anew");
                self.lost();
                self.attached();
            }
        }
    }

    fn attached(&mut self) {
        self.suspended.clear();
        if let Some((device, _)) = self.remote.attached() {
            let buffers = device.inbound.count();
            self.held = Held::new(buffers);
            // A single VM that takes nothing holds all buffers, so the remote waits for it; of several, each has its
            // share, and what comes beyond is dropped.
            self.share = (buffers / u16::try_from(self.vms.len()).unwrap_or(u16::MAX)).max(1);
        }
        for Vm { account, .. } in &mut self.vms {
            account.withdrawn.clear();
            for service in &mut account.services {
                service.told = false;
            }
        }
        self.want_everything();
    }

    fn lost(&mut self) {
        self.suspended = self.directory.withdraw_all();
        for Vm { account, .. } in &mut self.vms {
            let count = std::mem::take(&mut account.waiting).count();
            account.drop_waiting(Reason::RemoteLost, count.into());
        }
        self.want_everything();
    }

    /// Looks at every ring in the next sweep.
    fn want_everything(&mut self) {
        let all = u128::MAX >> (u128::BITS as usize - self.vms.len());
        self.sending = all;
        self.receiving = all;
    }

    /// Moves messages until nothing is left to do or it is time to look at other things. Returns whether there is
    /// more.
    pub(super) fn sweep(&mut self, now: Instant) -> bool {
        if let Some((device, _)) = self.remote.attached() {
            device.inbound.vring().want_interrupts(false);
        }
        for _ in 0..ROUNDS {
            let moved = match self.round() {
                Ok(moved) => moved,
                Err(fault) => {
                    if let Some(change) = self.remote.fault(now, fault) {
                        self.remote_changed(change);
                    }
                    true
                }
            };
            self.publish();
            if !moved && !self.rearm() {
                return false;
            }
        }
        true
    }

    /// One batch of everything. Returns whether anything moved.
    fn round(&mut self) -> Result<bool, VringFault> {
        let mut moved = self.take_from_remote()?;
        moved |= self.serve_receivers();
        if let Some((device, _)) = self.remote.attached() {
            device.outbound.reclaim()?;
        }
        self.stalled = false;
        // The VM that found no buffer last time is the first to get one.
        let before_first = (1 << self.first_sender) - 1;
        for index in bits(self.sending & !before_first).chain(bits(self.sending & before_first)) {
            moved |= self.take_from_guest(index);
            if self.stalled {
                self.first_sender = index;
                break;
            }
        }
        Ok(moved)
    }

    /// Makes visible what was written, and notifies those who want it.
    fn publish(&mut self) {
        if let Some((device, mailbox)) = self.remote.attached() {
            if device.outbound.vring().publish() {
                mailbox.kick(device.outbound.notifyid());
            }
            if device.inbound.vring().publish() {
                mailbox.kick(device.inbound.notifyid());
            }
        }
        for index in bits(self.sending | self.receiving) {
            let vm = &mut self.vms[index];
            for queue in [&mut vm.to_guest, &mut vm.from_guest].into_iter().flatten() {
                queue.publish();
            }
        }
    }

    /// Asks everyone to notify. Returns whether something came in meanwhile.
    fn rearm(&mut self) -> bool {
        let mut more = false;
        for index in bits(if self.stalled { 0 } else { self.sending }) {
            let queue = self.vms[index].running().map(|(_, from_guest)| from_guest);
            match queue.is_some_and(Queue::arm) {
                true => more = true,
                false => self.sending &= !(1 << index),
            }
        }
        for index in bits(self.receiving) {
            let vm = &mut self.vms[index];
            let waits = !vm.account.waiting.is_empty() || vm.account.view.is_behind(&self.directory);
            let queue = vm.running().filter(|_| waits).map(|(to_guest, _)| to_guest);
            match queue.is_some_and(Queue::arm) {
                true => more = true,
                false => self.receiving &= !(1 << index),
            }
        }
        if let Some((device, _)) = self.remote.attached() {
            device.outbound.vring().want_interrupts(self.stalled);
            device.inbound.vring().want_interrupts(true);
            more |= device.inbound.vring().has_used();
            more |= self.stalled && device.outbound.vring().has_used();
        }
        more
    }

    // From the remote to the guests.

    fn take_from_remote(&mut self) -> Result<bool, VringFault> {
        let mut moved = false;
        for _ in 0..BATCH {
            let Some((device, _)) = self.remote.attached() else {
                break;
            };
            match device.inbound.take()? {
                None => break,
                Some(Arrival::Message(message)) => self.route(message),
                Some(Arrival::Malformed(error)) => {
                    self.malformed += 1;
                    let name = self.remote.name();
                    self.log
                        .say(Level::Warn, format_args!("remote {name}: malformed message dropped: {error}"));
                }
            }
            moved = true;
        }
        Ok(moved)
    }

    fn route(&mut self, message: Message) {
        match from_host(message.header.dst) {
            HostAddress::NameService => self.announced(message),
            HostAddress::Guest { slot, session, .. } => {
                match usize::from(self.by_slot[usize::from(slot.number())]) {
                    vm if vm >= self.vms.len() => self.misdirect(message),
                    vm if self.vms[vm].account.accepts(session) => self.route_to(vm, message),
                    vm => {
                        let Header { src, dst, .. } = message.header;
                        let account = &mut self.vms[vm].account;
                        account
                            .drop_message(Reason::StaleSession, &format_args!("from {src:#x} to {dst:#x}"));
                        self.release(message.id);
                    }
                }
            }
            HostAddress::Nobody => self.misdirect(message),
        }
    }

    fn misdirect(&mut self, message: Message) {
        self.misdirected += 1;
        let Header { src, dst, .. } = message.header;
        let name = self.remote.name();
        self.log.say(
            Level::Warn,
            format_args!("remote {name}: message from {src:#x} to {dst:#x} dropped: no VM has this address"),
        );
        self.release(message.id);
    }

    /// Delivers a message to its VM, or lets it wait.
    fn route_to(&mut self, index: usize, message: Message) {
        let Some((device, _)) = self.remote.attached() else { return };
        let vm = &mut self.vms[index];
        self.receiving |= 1 << index;
        if vm.account.waiting.is_empty()
            && !vm.account.view.is_behind(&self.directory)
            && let Vm { to_guest: Some(queue), from_guest: Some(_), account } = vm
            && deliver(queue, account, &device.inbound, message) != Delivery::Later
        {
            return device.inbound.release(message.id);
        }
        let account = &mut vm.account;
        if account.waiting.count() < self.share {
            self.held.push(&mut account.waiting, message);
        } else {
            let Header { src, dst, .. } = message.header;
            account.drop_message(Reason::GuestTooSlow, &format_args!("from {src:#x} to {dst:#x}"));
            device.inbound.release(message.id);
        }
    }

    /// Gives waiting VMs what they have room for.
    fn serve_receivers(&mut self) -> bool {
        let mut moved = false;
        for index in bits(self.receiving) {
            while self.serve_receiver(index) {
                moved = true;
            }
        }
        moved
    }

    /// Delivers the next thing that waits for a VM. Returns whether something was delivered.
    fn serve_receiver(&mut self, index: usize) -> bool {
        let has_name_service = self.vms[index].has_name_service();
        let Vm { to_guest: Some(queue), from_guest: Some(_), account } = &mut self.vms[index] else {
            return false;
        };
        if account.before_news == 0 && account.view.is_behind(&self.directory) {
            if !has_name_service {
                account.view.skip_all(&self.directory);
            } else if let Some(announcement) = self.directory.next_for(&mut account.view) {
                if to_guest::announce(queue, account, announcement) == Delivery::Later {
                    return false;
                }
                self.directory.told(&mut account.view, announcement);
                return true;
            }
        }
        let (Some(message), Some((device, _))) = (self.held.first(account.waiting), self.remote.attached())
        else {
            return false;
        };
        if deliver(queue, account, &device.inbound, message) == Delivery::Later {
            return false;
        }
        self.held.pop(&mut account.waiting);
        account.before_news = account.before_news.saturating_sub(1);
        device.inbound.release(message.id);
        true
    }

    fn release(&mut self, id: u16) {
        if let Some((device, _)) = self.remote.attached() {
            device.inbound.release(id);
        }
    }

    // The remote's services.

    fn announced(&mut self, message: Message) {
        let Some((device, _)) = self.remote.attached() else {
            return;
        };
        let mut payload = [0; MAX_PAYLOAD];
        let payload = &mut payload[..message.header.payload_len()];
        device.inbound.read_payload(message.id, payload);
        device.inbound.release(message.id);
        match Announcement::from_bytes(payload) {
            Ok(Announcement { name, addr, kind: AnnouncementKind::Create }) => self.announce(name, addr),
            Ok(Announcement { name, addr, kind: AnnouncementKind::Destroy }) => {
                if self.directory.withdraw(name, addr) {
                    self.log.say(
                        Level::Info,
                        format_args!("remote {}: service {name} at {addr:#x} is gone", self.remote.name()),
                    );
                    self.news();
                }
            }
            Err(error) => {
                self.malformed += 1;
                self.log.say(
                    Level::Warn,
                    format_args!("remote {}: announcement dropped: {error}", self.remote.name()),
                );
            }
        }
    }

    fn announce(&mut self, name: ServiceName, addr: u32) {
        let views = self.vms.iter().map(|vm| &vm.account.view);
        match self.directory.announce(name, addr, &views) {
            Ok(true) => {
                self.log.say(
                    Level::Info,
                    format_args!("remote {}: service {name} at {addr:#x}", self.remote.name()),
                );
                self.news();
            }
            Ok(false) => {}
            Err(error) => {
                self.malformed += 1;
                self.log.say(
                    Level::Warn,
                    format_args!("remote {}: service {name} left out: {error}", self.remote.name()),
                );
            }
        }
    }

    /// The directory has changed: every VM is told, after the messages that came before.
    fn news(&mut self) {
        for Vm { account, .. } in &mut self.vms {
            account.before_news = account.waiting.count();
        }
        self.want_everything();
    }

    // From the guests to the remote.

    /// One VM's turn. Returns whether anything moved.
    fn take_from_guest(&mut self, index: usize) -> bool {
        let Vm { to_guest, from_guest, account } = &mut self.vms[index];
        let mut outbound = self.remote.attached().map(|(device, _)| &mut device.outbound);
        let mut moved = false;
        if let Some(outbound) = &mut outbound
            && !account.has_told_remote()
        {
            moved |= tell_remote(account, outbound);
            if !account.has_told_remote() {
                self.stalled = true;
                return moved;
            }
        }
        let (Some(_), Some(queue)) = (to_guest, from_guest) else { return moved };
        queue.disarm();
        for _ in 0..TURN {
            match take_message(queue, account, outbound.as_deref_mut()) {
                Taken::Done => moved = true,
                Taken::Nothing => break,
                Taken::Stalled => {
                    self.stalled = true;
                    break;
                }
            }
        }
        moved
    }
}

/// The numbers of the bits that are set, lowest first.
#[inline]
fn bits(mut mask: u128) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let lowest = (mask != 0).then(|| mask.trailing_zeros() as usize)?;
        mask &= mask - 1;
        Some(lowest)
    })
}
