//! How virtqueues change hands: from the thread that speaks vhost-user to whoever moves the messages.

use std::fs::File;

use super::Queue;

/// The two queues of the device (Linux `drivers/rpmsg/virtio_rpmsg_bus.c`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QueueIndex {
    /// Queue 0: the driver receives, the device fills the guest's buffers.
    ToGuest,
    /// Queue 1: the driver transmits, the device takes the guest's messages.
    FromGuest,
}

impl QueueIndex {
    /// Both queues, in the order of their numbers.
    pub const ALL: [QueueIndex; 2] = [QueueIndex::ToGuest, QueueIndex::FromGuest];
}

/// Whoever works on the queues of one VM. Every call is a hand-over: it returns when it is done, and the caller
/// changes nothing about a queue in between.
pub trait QueueOwner: Send + Sync {
    /// The queue is the owner's from now on. It looks at it at once and interrupts the guest once, since what
    /// happened before may not have been signalled.
    fn take(&self, index: QueueIndex, queue: Queue);

    /// The owner lets go of the queue: it touches neither ring nor buffers any more. Returns the index of the next
    /// entry, or `None` if it did not have the queue.
    fn release(&self, index: QueueIndex) -> Option<u16>;

    /// The guest is interrupted by another descriptor from now on, or not at all. The queue stays with its owner, which
    /// interrupts once, since what happened before may have gone to the old one.
    fn call_by(&self, index: QueueIndex, call: Option<File>);

    /// The front-end is gone; its queues have been released before.
    fn disconnected(&self);
}
