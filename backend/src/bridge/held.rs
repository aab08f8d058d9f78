//! Messages that wait in the remote's own buffers because their VM has no buffer for them.
//!
//! Nothing is queued in private memory: the payload stays where the remote has put it, and its buffer is not given
//! back before every VM that it waits for has taken it. What is kept here is the order per VM, and the headers as they
//! were checked and translated.

use std::collections::VecDeque;

use crate::remote::messages::Message;

/// How many VMs each of the remote's buffers waits for.
#[derive(Debug, Default)]
pub(super) struct Held {
    holders: Vec<u8>,
}

/// The messages held for one VM, oldest first.
#[derive(Debug, Default)]
pub(super) struct Waiting(VecDeque<Message>);

impl Held {
    /// For a remote with `buffers` buffers; nothing is held.
    pub(super) fn new(buffers: u16) -> Self {
        Held { holders: vec![0; usize::from(buffers)] }
    }

    /// Adds a message behind those that wait for a VM.
    pub(super) fn push(&mut self, waiting: &mut Waiting, message: Message) {
        self.holders[usize::from(message.id)] += 1;
        waiting.0.push_back(message);
    }

    /// Takes the oldest message away from a VM. Returns its buffer if it waits for nobody else.
    pub(super) fn pop(&mut self, waiting: &mut Waiting) -> Option<u16> {
        let Message { id, .. } = waiting.0.pop_front()?;
        let holders = &mut self.holders[usize::from(id)];
        *holders -= 1;
        (*holders == 0).then_some(id)
    }

    /// How many buffers wait for anybody.
    pub(super) fn count(&self) -> u16 {
        let held = self.holders.iter().filter(|holders| **holders > 0).count();
        u16::try_from(held).unwrap_or(u16::MAX)
    }

    /// Whether a buffer waits for anybody.
    pub(super) fn holds(&self, id: u16) -> bool {
        self.holders[usize::from(id)] > 0
    }
}

impl Waiting {
    /// Room for as many messages as the remote has buffers, so that none has to be made on a message's way.
    pub(super) fn reserve(&mut self, buffers: u16) {
        self.0.reserve(usize::from(buffers).saturating_sub(self.0.len()));
    }

    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    #[inline]
    pub(super) fn count(&self) -> usize {
        self.0.len()
    }

    /// The messages, oldest first.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Message> {
        self.0.iter()
    }

    /// The oldest message.
    #[inline]
    pub(super) fn first(&self) -> Option<Message> {
        self.0.front().copied()
    }

    /// Forgets everything; the buffers are gone with their remote. Returns how many messages that were.
    pub(super) fn clear(&mut self) -> usize {
        let count = self.0.len();
        self.0.clear();
        count
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rpmsg::Header;

    fn message(id: u16) -> Message {
        Message { id, header: Header { src: u32::from(id), dst: 0, reserved: 0, len: 0, flags: 0 } }
    }

    #[test]
    fn each_vm_gets_its_messages_in_the_order_they_came() {
        let mut held = Held::new(8);
        let mut vms = [Waiting::default(), Waiting::default()];
        for (id, vm) in [(3, 0), (1, 1), (7, 0), (0, 0), (5, 1)] {
            held.push(&mut vms[vm], message(id));
        }
        let mut drain = |vm: usize| std::iter::from_fn(|| held.pop(&mut vms[vm])).collect::<Vec<_>>();
        assert_eq!((drain(0), drain(1)), (vec![3, 7, 0], vec![1, 5]));
    }

    #[test]
    fn a_buffer_that_waits_for_several_is_free_when_the_last_has_taken_it() {
        let mut held = Held::new(8);
        let mut vms = [Waiting::default(), Waiting::default()];
        vms.iter_mut().for_each(|vm| held.push(vm, message(3)));
        assert!(held.holds(3));
        assert_eq!((held.pop(&mut vms[1]), held.pop(&mut vms[0])), (None, Some(3)));
        assert!(!held.holds(3));
    }
}
