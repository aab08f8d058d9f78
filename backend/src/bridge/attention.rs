//! Whose rings are looked at, and who is asked to notify instead.
//!
//! As long as messages pass, the VMs that take part are *watched*: their rings are looked at in every sweep, and their drivers are
//! spared the kicks. A VM that has been idle for a while is [parked](Relay::park): it is asked to kick, and costs nothing until
//! it does. When all are parked, and the remote has been asked to ring, the bridge may sleep.

use super::fairness::{Fairness, bits};
use super::relay::Relay;
use super::to_guest::has_buffer;
use super::vm::Vm;
use crate::guest::Queue;
use crate::guest::port::QueueIndex;
use crate::rpmsg::address::Slot;

/// Sets of VMs, one bit per slot.
#[derive(Debug, Default)]
pub(super) struct Attention {
    /// Those whose transmit queue is looked at in every sweep.
    watched: u128,
    /// Those that have something there, or may have. While nothing of it can go now, nobody looks whether there is more.
    pub(super) sending: u128,
    /// Those for which something waits, or may wait, and whose receive queue is looked at for buffers.
    pub(super) receiving: u128,
    /// Those that have had to do with a message since the last [`park_idle`](Relay::park_idle).
    active: u128,
    /// Those in whose queues something was completed that they do not see yet, or who are to be interrupted in any case.
    pub(super) written: u128,
    /// Those for which something was counted that may have left no trace in their queues.
    pub(super) counted: u128,
    /// Those whose next receive buffer was not looked for since the last message to them.
    unprepared: u128,
}

impl Attention {
    /// Everything of a VM is to be looked at.
    pub(super) fn want(&mut self, slot: Slot) {
        self.want_all(1 << slot.number());
    }

    fn want_all(&mut self, vms: u128) {
        self.watched |= vms;
        self.sending |= vms;
        self.receiving |= vms;
        self.active |= vms;
        self.written |= vms;
    }

    /// A VM may have something to send.
    #[inline]
    pub(super) fn may_send(&mut self, slot: usize) {
        self.watched |= 1 << slot;
        self.sending |= 1 << slot;
    }

    /// A VM has nothing to send now.
    #[inline]
    pub(super) fn emptied(&mut self, slot: usize) {
        self.sending &= !(1 << slot);
    }

    /// What a VM has to send cannot go before somebody says [`may_send`](Self::may_send).
    #[inline]
    pub(super) fn waits(&mut self, slot: usize) {
        self.sending &= !(1 << slot);
        self.watched &= !(1 << slot);
    }

    /// Messages of a VM have gone.
    #[inline]
    pub(super) fn took(&mut self, slot: usize) {
        self.written |= 1 << slot;
        self.active |= 1 << slot;
    }

    /// A VM has been given a message.
    #[inline]
    pub(super) fn gave(&mut self, slot: usize) {
        self.took(slot);
        self.unprepared |= 1 << slot;
    }
}

impl Relay {
    /// Looks at every ring in the next sweep.
    pub(super) fn want_everything(&mut self) {
        let present = (0..).zip(&self.vms).filter(|(_, vm)| vm.is_some());
        let all = present.fold(0, |mask, (slot, _): (u32, _)| mask | 1_u128 << slot);
        self.attention.want_all(all);
    }

    /// The guest has kicked one of its queues.
    #[inline]
    pub(super) fn kicked(&mut self, slot: Slot, index: QueueIndex) {
        if let Some(vm) = self.vm(slot) {
            vm.kicked(index);
        }
        let slot = usize::from(slot.number());
        match index {
            QueueIndex::FromGuest => self.attention.may_send(slot),
            QueueIndex::ToGuest => self.attention.receiving |= 1 << slot,
        }
        self.attention.active |= 1 << slot;
    }

    /// Looks who of the watched has something to send.
    #[inline]
    pub(super) fn look_at_watched(&mut self) {
        for index in bits(self.attention.watched & !self.attention.sending) {
            if self.vms[index].as_deref().is_some_and(Vm::has_something) {
                found(&mut self.attention, &mut self.fairness, index);
            }
        }
    }

    /// Looks for the next receive buffer of each VM that has used one, as long as there is nothing else to do: when a message
    /// comes, it is known where it goes.
    #[inline]
    pub(super) fn prepare(&mut self) {
        for index in bits(self.attention.unprepared) {
            let vm = self.vms[index].as_deref_mut();
            let is_ready = vm.is_none_or(|vm| {
                let Vm { to_guest, account, .. } = vm;
                to_guest.as_mut().is_none_or(|queue| has_buffer(queue, account))
            });
            self.attention.unprepared &= !(u128::from(is_ready) << index);
        }
    }

    /// Looks at those who were asked to kick, too: while others keep the bridge awake, that is sooner than their kick is heard.
    pub(super) fn look_at_parked(&mut self) {
        let Relay { attention, fairness, vms, directory, .. } = self;
        for (index, vm) in vms.iter().enumerate() {
            let Some(vm) = vm.as_deref().filter(|vm| !vm.account.waits_for_turn) else { continue };
            if attention.watched & 1 << index == 0 && vm.has_something() {
                found(attention, fairness, index);
            }
            if vm.account.awaits_something(directory) {
                attention.receiving |= 1 << index;
            }
        }
    }

    /// Asks those to kick who have had nothing to do with a message since the last time.
    pub(super) fn park_idle(&mut self) {
        let active = std::mem::take(&mut self.attention.active);
        self.park(!active);
    }

    /// Asks everyone to notify. Returns whether something came in meanwhile.
    pub(super) fn rearm(&mut self) -> bool {
        if !self.is_settled() {
            return false;
        }
        self.commit();
        let mut more = self.park(u128::MAX);
        if let Some(device) = &mut self.device {
            device.outbound.vring().want_interrupts(self.stalled);
            device.inbound.vring().want_interrupts(true);
            more |= self.recovered.is_none() && device.inbound.vring().has_used();
            more |= self.stalled && device.outbound.vring().has_used();
        }
        more
    }

    /// Asks these VMs to kick when they have something to send, or buffers for what waits. Returns whether one has.
    fn park(&mut self, idle: u128) -> bool {
        let Relay { attention, fairness, vms, directory, .. } = self;
        attention.unprepared &= !idle;
        let mut more = false;
        // Who has a message that must not go yet has nothing to tell.
        for index in bits(attention.watched & !attention.sending & idle) {
            if arm(vms[index].as_deref_mut(), |(_, from_guest)| from_guest) {
                found(attention, fairness, index);
                more = true;
            } else {
                attention.watched &= !(1 << index);
            }
        }
        for index in bits(attention.receiving & idle) {
            let vm = vms[index].as_deref_mut().filter(|vm| vm.account.awaits_something(directory));
            if arm(vm, |(to_guest, _)| to_guest) {
                more = true;
            } else {
                attention.receiving &= !(1 << index);
            }
        }
        more
    }
}

/// A VM has something to send.
#[inline]
fn found(attention: &mut Attention, fairness: &mut Fairness, index: usize) {
    attention.may_send(index);
    attention.active |= 1 << index;
    fairness.found(index);
}

/// Arms one of the queues of a VM, if they are there. Returns whether there is something in it.
fn arm<'a>(vm: Option<&'a mut Vm>, queue: fn((&'a mut Queue, &'a mut Queue)) -> &'a mut Queue) -> bool {
    vm.and_then(Vm::running).map(queue).is_some_and(Queue::arm)
}
