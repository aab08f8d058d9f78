//! One sweep over all rings.
//!
//! A sweep takes what is there, in batches, until nothing is left, and only then asks for notifications again. Within
//! a batch everything is written first; then each index is published once and each peer notified at most once.
//!
//! The relay's parts are in files of their own: `from_remote` takes messages out of the remote's vring and finds whose
//! they are, `to_guest` and `to_remote` carry one message over, `services` keeps the directory and the desks, `life`
//! is what happens when VMs and remotes come and go.

use std::time::Instant;

use super::aliases::Aliases;
use super::directory::{Directory, Withdrawn};
use super::held::Held;
use super::policy::Policy;
use super::to_remote::{Passage, Taken};
use super::vm::Vm;
use crate::guest::Queue;
use crate::log_limit::LogLimit;
use crate::remote::core::RemoteCore;
use crate::remote::vring::VringFault;
use crate::rpmsg::ServiceName;
use crate::rpmsg::address::Slot;

/// Messages that one VM may send before it is the next one's turn.
const TURN: usize = 8;
/// Messages taken from the remote before the VMs have their turns.
const BATCH: usize = 32;
/// Batches before the event loop gets to look at everything else.
const ROUNDS: usize = 64;

/// Everything that messages pass through.
pub(super) struct Relay {
    pub(super) remote: RemoteCore,
    /// The VMs, by slot.
    pub(super) vms: Vec<Option<Box<Vm>>>,
    pub(super) directory: Directory,
    pub(super) aliases: Aliases,
    pub(super) static_services: Vec<(ServiceName, u32)>,
    pub(super) held: Held,
    /// Services of ended sessions, by host address, that the remote must still be told to forget.
    pub(super) farewells: Vec<(ServiceName, u32)>,
    /// Services of a remote whose line was cut.
    pub(super) suspended: Vec<Withdrawn>,
    /// VMs whose transmit queue may have something, one bit per slot.
    pub(super) sending: u128,
    /// VMs for which something may wait, one bit per slot.
    pub(super) receiving: u128,
    /// VM whose turn to send comes first.
    first_sender: usize,
    /// Whether somebody has something for which the remote has no buffer.
    pub(super) stalled: bool,
    /// Messages from the remote that were for nobody.
    pub(super) misdirected: u64,
    /// Messages from the remote that were none.
    pub(super) malformed: u64,
    pub(super) log: LogLimit,
}

impl Relay {
    pub(super) fn new(remote: RemoteCore, policy: Policy) -> Self {
        Relay {
            remote,
            vms: (0..Slot::COUNT).map(|_| None).collect(),
            directory: Directory::new(policy.rules),
            aliases: Aliases::new(policy.address_bits),
            static_services: policy.static_services,
            held: Held::default(),
            farewells: Vec::new(),
            suspended: Vec::new(),
            sending: 0,
            receiving: 0,
            first_sender: 0,
            stalled: false,
            misdirected: 0,
            malformed: 0,
            log: LogLimit::default(),
        }
    }

    /// The VM in this slot.
    pub(super) fn vm(&mut self, slot: Slot) -> Option<&mut Vm> {
        self.vms[usize::from(slot.number())].as_deref_mut()
    }

    /// When [`on_timer`](Self::on_timer) is due.
    pub(super) fn timer(&self) -> Option<Instant> {
        [self.remote.timer(), self.directory.deadline()].into_iter().flatten().min()
    }

    /// Does what is due at the remote and at the desks.
    pub(super) fn on_timer(&mut self, now: Instant) {
        self.tick_desks(now);
        if let Some(change) = self.remote.on_timer(now) {
            self.remote_changed(change);
        }
    }

    /// Looks at every ring in the next sweep.
    pub(super) fn want_everything(&mut self) {
        let present = (0..).zip(&self.vms).filter(|(_, vm)| vm.is_some());
        let all = present.fold(0, |mask, (slot, _): (u32, _)| mask | 1_u128 << slot);
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
            let moved = match self.round(now) {
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
    fn round(&mut self, now: Instant) -> Result<bool, VringFault> {
        let mut moved = self.take_from_remote(now, BATCH)?;
        moved |= self.serve_receivers();
        if let Some((device, _)) = self.remote.attached() {
            device.outbound.reclaim()?;
        }
        self.stalled = false;
        moved |= self.say_farewells();
        moved |= self.serve_desks(now);
        // The VM that found no buffer last time is the first to get one.
        let before_first = (1 << self.first_sender) - 1;
        for index in bits(self.sending & !before_first).chain(bits(self.sending & before_first)) {
            if self.stalled {
                self.first_sender = index;
                break;
            }
            moved |= self.take_from_guest(index, now);
            if self.stalled {
                self.first_sender = index;
            }
        }
        Ok(moved)
    }

    /// One VM's turn. Returns whether anything moved.
    fn take_from_guest(&mut self, index: usize, now: Instant) -> bool {
        let Some(vm) = self.vms[index].as_deref_mut() else { return false };
        let outbound = self.remote.attached().map(|(device, _)| &mut device.outbound);
        let mut passage = Passage {
            outbound,
            directory: &mut self.directory,
            aliases: &mut self.aliases,
            now,
            rights_changed: false,
        };
        let mut moved = false;
        let Vm { to_guest: Some(_), from_guest: Some(queue), account } = vm else { return false };
        if !account.has_told_remote() {
            moved |= passage.tell_remote(account);
            if passage.outbound.is_some() && !account.has_told_remote() {
                self.stalled = true;
                return moved;
            }
        }
        queue.disarm();
        account.waits_for_turn = false;
        for _ in 0..TURN {
            match passage.take_message(queue, account) {
                Taken::Done => moved = true,
                Taken::Nothing => break,
                Taken::Stalled => {
                    self.stalled = true;
                    break;
                }
                Taken::NotItsTurn => {
                    account.waits_for_turn = true;
                    break;
                }
            }
        }
        if passage.rights_changed {
            self.news();
        }
        moved
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
            if let Some(vm) = &mut self.vms[index] {
                for queue in [&mut vm.to_guest, &mut vm.from_guest].into_iter().flatten() {
                    queue.publish();
                }
            }
        }
    }

    /// Asks everyone to notify. Returns whether something came in meanwhile.
    fn rearm(&mut self) -> bool {
        let mut more = false;
        for index in bits(if self.stalled { 0 } else { self.sending }) {
            let vm = self.vms[index].as_deref_mut().filter(|vm| !vm.account.waits_for_turn);
            let queue = vm.and_then(|vm| vm.running()).map(|(_, from_guest)| from_guest);
            match queue.is_some_and(Queue::arm) {
                true => more = true,
                false => self.sending &= !(1 << index),
            }
        }
        for index in bits(self.receiving) {
            let directory = &self.directory;
            let waits = |vm: &&mut Vm| !vm.account.waiting.is_empty() || vm.account.view.is_behind(directory);
            let vm = self.vms[index].as_deref_mut().filter(waits);
            let queue = vm.and_then(|vm| vm.running()).map(|(to_guest, _)| to_guest);
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
}

/// The numbers of the bits that are set, lowest first.
#[inline]
pub(super) fn bits(mut mask: u128) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let lowest = (mask != 0).then(|| mask.trailing_zeros() as usize)?;
        mask &= mask - 1;
        Some(lowest)
    })
}
