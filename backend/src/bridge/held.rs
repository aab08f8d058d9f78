//! Messages that wait in the remote's own buffers because their VM has no buffer for them.
//!
//! Nothing is queued in private memory: the payload stays where the remote has put it, and its buffer is not given
//! back. What is kept here is the order per VM, and the headers as they were checked.

use crate::remote::messages::Message;
use crate::rpmsg::Header;

/// End of a list.
const NONE: u16 = u16::MAX;

/// What is held, by buffer: a list per VM through one array.
#[derive(Debug, Default)]
pub(super) struct Held {
    slots: Vec<Slot>,
}

#[derive(Clone, Copy, Debug)]
struct Slot {
    header: Header,
    next: u16,
}

/// The messages held for one VM, oldest first.
#[derive(Clone, Copy, Debug)]
pub(super) struct Waiting {
    first: u16,
    last: u16,
    count: u16,
}

impl Default for Waiting {
    fn default() -> Self {
        Waiting { first: NONE, last: NONE, count: 0 }
    }
}

impl Waiting {
    #[inline]
    pub(super) fn is_empty(self) -> bool {
        self.count == 0
    }

    #[inline]
    pub(super) fn count(self) -> u16 {
        self.count
    }
}

impl Held {
    /// For a remote with `buffers` buffers; nothing is held.
    pub(super) fn new(buffers: u16) -> Self {
        let empty = Slot { header: Header { src: 0, dst: 0, reserved: 0, len: 0, flags: 0 }, next: NONE };
        Held { slots: vec![empty; usize::from(buffers)] }
    }

    /// Adds a message behind those that wait.
    pub(super) fn push(&mut self, waiting: &mut Waiting, message: Message) {
        let Message { id, header } = message;
        self.slots[usize::from(id)] = Slot { header, next: NONE };
        match waiting.last {
            NONE => waiting.first = id,
            last => self.slots[usize::from(last)].next = id,
        }
        waiting.last = id;
        waiting.count += 1;
    }

    /// The oldest message that waits.
    pub(super) fn first(&self, waiting: Waiting) -> Option<Message> {
        let slot = self.slots.get(usize::from(waiting.first))?;
        Some(Message { id: waiting.first, header: slot.header })
    }

    /// Takes the oldest message away.
    pub(super) fn pop(&mut self, waiting: &mut Waiting) -> Option<Message> {
        let message = self.first(*waiting)?;
        waiting.first = self.slots[usize::from(message.id)].next;
        waiting.count -= 1;
        if waiting.first == NONE {
            waiting.last = NONE;
        }
        Some(message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_vm_gets_its_messages_in_the_order_they_came() {
        let mut held = Held::new(8);
        let mut vms = [Waiting::default(), Waiting::default()];
        let message =
            |id| Message { id, header: Header { src: u32::from(id), dst: 0, reserved: 0, len: 0, flags: 0 } };
        for (id, vm) in [(3, 0), (1, 1), (7, 0), (0, 0), (5, 1)] {
            held.push(&mut vms[vm], message(id));
        }
        assert_eq!(vms.map(Waiting::count), [3, 2]);
        let mut drain = |vm: usize| {
            std::iter::from_fn(|| held.pop(&mut vms[vm])).map(|message| message.id).collect::<Vec<_>>()
        };
        assert_eq!(drain(0), [3, 7, 0]);
        assert_eq!(drain(1), [1, 5]);
        held.push(&mut vms[0], message(3));
        assert_eq!(held.first(vms[0]).map(|message| message.header.src), Some(3));
    }
}
