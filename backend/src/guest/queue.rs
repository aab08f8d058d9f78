//! The device's side of one virtqueue in guest memory.
//!
//! Source: virtio 1.3 section 2.7 (split virtqueues). A queue starts at its used index, whatever the front-end
//! says in SET_VRING_BASE, and completes strictly in order; that is right with every front-end and after
//! a crash, since nothing is ever in flight between two batches.
//!
//! | file | what is in it |
//! |---|---|
//! | `queue.rs` | taking, completing, publishing, notifications |
//! | `chain.rs` | walking a descriptor chain |
//!
//! Everything in the ring is the guest's and may change while it is read: each field is read once and the copy
//! is checked. What the guest does wrong is either a [`ChainError`], which costs it this one message, or a
//! [`QueueFault`], after which its queue is left alone until its driver sets it up anew.

use std::fs::File;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{Ordering, fence};

use thiserror::Error;
use vm_memory::VolatileSlice;

use super::chain::{Chain, ChainError, Direction};
use super::gate::Line;
use super::memory::{GuestMemory, Table};

/// Largest queue that is offered, in entries.
pub const MAX_QUEUE_SIZE: u16 = 1024;

/// Avail flag of a driver that wants no interrupts (`VIRTQ_AVAIL_F_NO_INTERRUPT`).
const AVAIL_NO_INTERRUPT: u16 = 1;
/// Used flag of a device that wants no kicks (`VIRTQ_USED_F_NO_NOTIFY`).
const USED_NO_NOTIFY: u16 = 1;

/// Everything that a queue is made of, as the vhost-user protocol gives it.
#[derive(Debug)]
pub struct QueueSetup {
    /// The memory generation that the addresses are in.
    pub memory: Arc<GuestMemory>,
    /// Number of entries.
    pub size: u16,
    /// Guest physical address of the descriptor table.
    pub descriptors: u64,
    /// Guest physical address of the available ring.
    pub avail: u64,
    /// Guest physical address of the used ring.
    pub used: u64,
    /// Whether VIRTIO_RING_F_EVENT_IDX was negotiated.
    pub event_idx: bool,
    /// Feature bits that the driver has accepted.
    pub features: u64,
    /// The guest's doorbell: readable when it has kicked.
    pub kick: File,
    /// Where to write to interrupt the guest; `None` if it polls.
    pub call: Option<File>,
    /// The front-end's connection.
    pub line: Arc<Line>,
}

/// Why a queue cannot be set up.
#[derive(Debug, Error)]
pub enum QueueSetupError {
    /// The number of entries.
    #[error("queue of {found} entries, expected a power of two up to {MAX_QUEUE_SIZE}")]
    Size {
        /// Entries found.
        found: u16,
    },
    /// A part of the ring is not in guest memory or not aligned.
    #[error(
        "{part} at guest address {address:#x} is not aligned or not within one region of the guest's memory"
    )]
    Address {
        /// Which part of the ring.
        part: &'static str,
        /// Where it is said to be.
        address: u64,
    },
    /// A file descriptor of the front-end's that cannot be used.
    #[error("cannot make the front-end's {part} file descriptor non-blocking")]
    Descriptor {
        /// Kick or call.
        part: &'static str,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
}

/// What makes a queue unusable until the guest's driver sets it up anew.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum QueueFault {
    /// More entries available than the queue has.
    #[error("available index {found} is more than {size} ahead of {next}")]
    IndexJump {
        /// Index of the next entry to be taken.
        next: u16,
        /// Index found.
        found: u16,
        /// Entries of the queue.
        size: u16,
    },
    /// A chain that starts at a descriptor which does not exist, so that it cannot even be returned.
    #[error("available entry names descriptor {found} of a queue of {size}")]
    Head {
        /// Descriptor named.
        found: u16,
        /// Entries of the queue.
        size: u16,
    },
    /// Memory that is not there any more.
    #[error("the front-end has truncated the memory that it had shared, and is disconnected")]
    MemoryTorn,
    /// A receive buffer that cannot be used. It cannot be returned either: a used length below that of a
    /// header is something a guest must never be given.
    #[error("unusable receive buffer")]
    ReceiveBuffer(#[source] ChainError),
}

/// A virtqueue that the device works on.
#[derive(Debug)]
pub struct Queue {
    size: u16,
    descriptors: Table<[u64; 2]>,
    avail: Table<u16>,
    /// Flags and index of the used ring, and behind the elements the available event.
    used: Table<u16>,
    used_elements: Table<[u32; 2]>,
    event_idx: bool,
    features: u64,
    kick: File,
    call: Option<File>,
    /// Index of the next entry to be taken, and of the next used entry.
    next: u16,
    /// Used index that the guest knows.
    published: u16,
    /// Available index as last read.
    seen: u16,
    /// Descriptor of the chain that `peek` has found.
    head: u16,
    chain: Chain,
    /// Whether that is the next one, and good in this direction.
    found: Option<Direction>,
    /// Interrupt the guest with the next publish, whatever it says.
    signal_once: bool,
    /// Whether the guest was told to kick.
    armed: bool,
    /// A fault was found: nothing is taken any more.
    broken: bool,
    /// The front-end's connection, unless it was given up for what it has done to its memory.
    line: Option<Arc<Line>>,
}

impl Queue {
    /// Validates the rings' addresses and takes the queue up at its used index.
    ///
    /// # Errors
    /// A size that is no power of two or too large, an address that is misaligned or outside the guest's memory,
    /// a file descriptor that cannot be used without blocking.
    pub fn new(setup: QueueSetup) -> Result<Self, QueueSetupError> {
        let QueueSetup { memory, size, descriptors, avail, used, event_idx, features, kick, call, line } =
            setup;
        if !size.is_power_of_two() || size > MAX_QUEUE_SIZE {
            return Err(QueueSetupError::Size { found: size });
        }
        set_nonblocking(&kick, "kick")?;
        call.as_ref().map_or(Ok(()), |call| set_nonblocking(call, "call"))?;
        let outside = |part, address| move || QueueSetupError::Address { part, address };
        let entries = usize::from(size);
        let used_table = memory.table(used, 2 + 4 * entries + 1).ok_or_else(outside("used ring", used))?;
        let next = used_table.load(1);
        Ok(Queue {
            size,
            descriptors: memory
                .table(descriptors, entries)
                .ok_or_else(outside("descriptor table", descriptors))?,
            avail: memory.table(avail, 2 + entries + 1).ok_or_else(outside("available ring", avail))?,
            used: used_table,
            used_elements: memory
                .table(used.wrapping_add(4), entries)
                .ok_or_else(outside("used ring", used))?,
            event_idx,
            features,
            kick,
            call,
            next,
            published: next,
            seen: next,
            head: 0,
            chain: Chain::default(),
            found: None,
            signal_once: true,
            armed: false,
            broken: false,
            line: Some(line),
        })
    }

    /// Goes on at this used index, which is what a program before this one had settled on; it was killed before or after it
    /// could tell the guest. An index that cannot be of this ring is passed over.
    pub fn resume(&mut self, used: u16) {
        if used.wrapping_sub(self.next) <= self.size {
            self.next = used;
            self.seen = used;
            self.found = None;
            self.publish();
        }
    }

    /// Interrupts the guest by another descriptor from now on, and once with the next [`publish`](Self::publish) in any
    /// case.
    ///
    /// # Errors
    /// A descriptor that cannot be used without blocking; the queue is left without any.
    pub fn call_by(&mut self, call: Option<File>) -> Result<(), QueueSetupError> {
        self.signal_once = true;
        self.call = None;
        call.as_ref().map_or(Ok(()), |call| set_nonblocking(call, "call"))?;
        self.call = call;
        Ok(())
    }

    /// Feature bits that the driver has accepted.
    pub fn features(&self) -> u64 {
        self.features
    }

    /// Whether something has been completed that is not published.
    #[inline]
    pub fn is_behind(&self) -> bool {
        self.next != self.published
    }

    /// Index of the next entry to be taken: what GET_VRING_BASE is answered with.
    pub fn next_index(&self) -> u16 {
        self.next
    }

    /// Whether the driver has set the ring up anew: nothing was ever returned in it. Without the look at the last
    /// element, a ring that has just wrapped to index 0 would be taken for a new one.
    pub fn is_fresh(&self) -> bool {
        self.next == 0 && self.used_elements.read(usize::from(self.size) - 1) == [0, 0]
    }

    /// Whether the guest has made something available that was not taken yet.
    #[inline]
    pub fn has_available(&self) -> bool {
        !self.broken && self.avail.load(1) != self.next
    }

    /// Looks at the next chain without taking it; its bytes can then be read or written. `Ok(None)` if there is none. A good
    /// one is looked at once: whoever looks before there is use for it finds it faster when there is.
    /// A bad chain is reported in the inner result; it is still the next one, to be [completed](Self::complete).
    ///
    /// # Errors
    /// A ring in a state from which no chain can be taken. It is reported once; from then on the queue is empty.
    #[inline]
    pub fn peek(&mut self, direction: Direction) -> Result<Option<Result<(), ChainError>>, QueueFault> {
        if self.found == Some(direction) {
            return Ok(Some(Ok(())));
        }
        if self.broken {
            return Ok(None);
        }
        if self.next == self.seen {
            let found = self.avail.load(1);
            if found == self.next {
                return Ok(None);
            }
            if found.wrapping_sub(self.next) > self.size {
                return Err(self.broken_by(QueueFault::IndexJump {
                    next: self.next,
                    found,
                    size: self.size,
                }));
            }
            self.seen = found;
        }
        let head = u16::from_le(self.avail.read(2 + self.entry()));
        if head >= self.size {
            return Err(self.broken_by(QueueFault::Head { found: head, size: self.size }));
        }
        self.head = head;
        let chain = self.chain.walk(&self.descriptors, head, self.size, direction);
        self.found = chain.is_ok().then_some(direction);
        Ok(Some(chain))
    }

    /// Entry of the rings that comes next.
    #[inline]
    fn entry(&self) -> usize {
        // The size is a power of two.
        usize::from(self.next & (self.size - 1))
    }

    /// Takes nothing any more until the driver sets the queue up anew.
    pub fn broken_by(&mut self, fault: QueueFault) -> QueueFault {
        self.broken = true;
        self.found = None;
        fault
    }

    /// Gives the front-end up if it has torn memory away that it had shared. That is reported once.
    #[inline]
    pub fn give_up_torn(&mut self) -> Option<QueueFault> {
        if !self.used.memory().is_torn() {
            return None;
        }
        self.line.take()?.hang_up();
        Some(self.broken_by(QueueFault::MemoryTorn))
    }

    /// Bytes in the chain that [`peek`](Self::peek) has found.
    #[inline]
    pub fn chain_len(&self) -> usize {
        self.chain.len()
    }

    /// The pieces of guest memory that hold the chain's bytes from `start` on, `len` bytes in all (fewer if the
    /// chain ends before).
    #[inline]
    pub fn pieces(&self, start: usize, len: usize) -> impl Iterator<Item = VolatileSlice<'_>> {
        let memory = self.descriptors.memory();
        self.chain.pieces(start, len).map(|fragment| memory.bytes(&fragment))
    }

    /// Calls `copy` with each of these pieces, and where in the `len` bytes it begins. Nearly always there is one.
    #[inline]
    pub fn for_each_piece(&self, start: usize, len: usize, mut copy: impl FnMut(usize, &VolatileSlice<'_>)) {
        if let Some(piece) = self.chain.only(start, len) {
            if len > 0 {
                copy(0, &self.descriptors.memory().bytes(&piece));
            }
            return;
        }
        let mut done = 0;
        for piece in self.pieces(start, len) {
            copy(done, &piece);
            done += piece.len();
        }
    }

    /// The chain's first 16 bytes, each read once; zeros where it has fewer.
    #[inline]
    pub fn read_head(&self) -> [u8; 16] {
        let head = match self.chain.first(16) {
            Some(first) => {
                #[cfg(test)]
                crate::copied::add(16);
                self.descriptors.memory().read_head(first)
            }
            None => self.gather_head(),
        };
        head.to_le_bytes()
    }

    #[cold]
    fn gather_head(&self) -> u128 {
        let mut bytes = [0; 16];
        self.read(0, &mut bytes);
        u128::from_le_bytes(bytes)
    }

    /// Writes the chain's first 16 bytes, for as many of which there must be room.
    #[inline]
    pub fn write_head(&self, bytes: [u8; 16]) {
        let Some(first) = self.chain.first(16) else {
            self.write(0, &bytes);
            return;
        };
        #[cfg(test)]
        {
            crate::crash::point();
            crate::copied::add(16);
        }
        self.descriptors.memory().write_head(first, bytes);
    }

    /// Copies the chain's bytes from `start` on, each read once. Returns how many there were.
    #[inline]
    pub fn read(&self, start: usize, target: &mut [u8]) -> usize {
        let mut done = 0;
        for piece in self.pieces(start, target.len()) {
            done += piece.copy_to(&mut target[done..]);
        }
        #[cfg(test)]
        crate::copied::add(done);
        done
    }

    /// Copies `source` into the chain's buffers from `start` on. Returns how many bytes there was room for.
    #[inline]
    pub fn write(&self, start: usize, source: &[u8]) -> usize {
        let mut done = 0;
        for piece in self.pieces(start, source.len()) {
            #[cfg(test)]
            crate::crash::point();
            piece.copy_from(&source[done..]);
            done += piece.len();
        }
        #[cfg(test)]
        crate::copied::add(done);
        done
    }

    /// Returns the chain that [`peek`](Self::peek) has found with `written` bytes in it. The guest sees it with the
    /// next [`publish`](Self::publish).
    #[inline]
    pub fn complete(&mut self, written: u32) {
        debug_assert_ne!(self.next, self.seen, "a chain was found");
        let element = [u32::from(self.head).to_le(), written.to_le()];
        self.used_elements.write(self.entry(), element);
        self.next = self.next.wrapping_add(1);
        self.found = None;
    }

    /// Makes everything completed visible to the guest and interrupts it if it wants that.
    #[inline]
    pub fn publish(&mut self) {
        let (old, new) = (self.published, self.next);
        if old != new {
            self.used.store(1, new);
            self.published = new;
        }
        if self.signal_once || old != new && self.wants_interrupt(old, new) {
            self.signal_once = false;
            self.interrupt();
        }
    }

    #[inline]
    fn wants_interrupt(&self, old: u16, new: u16) -> bool {
        fence(Ordering::SeqCst);
        if self.event_idx {
            need_event(self.avail.load(2 + usize::from(self.size)), old, new)
        } else {
            self.avail.load(0) & AVAIL_NO_INTERRUPT == 0
        }
    }

    fn interrupt(&self) {
        #[cfg(test)]
        crate::crash::point();
        // A full counter means that an interrupt is pending already; a broken descriptor is the front-end's own loss.
        if let Some(call) = &self.call {
            let _ = rustix::io::write(call, &1_u64.to_ne_bytes());
        }
    }

    /// Asks the guest to kick when it makes something available. Returns whether there is something already, which
    /// may not have been kicked for.
    #[inline]
    pub fn arm(&mut self) -> bool {
        if self.broken {
            return false;
        }
        self.armed = true;
        if self.event_idx {
            self.used.store(2 + 4 * usize::from(self.size), self.next);
        } else {
            self.used.store(0, 0);
        }
        fence(Ordering::SeqCst);
        self.avail.load(1) != self.next
    }

    /// Spares the guest its kicks. With the event index there is nothing to do: it is not moved on, so no kick comes
    /// before the ring has wrapped.
    #[inline]
    pub fn disarm(&mut self) {
        if std::mem::take(&mut self.armed) && !self.event_idx {
            self.used.store(0, USED_NO_NOTIFY);
        }
    }

    /// Takes the kick, so that the descriptor is no longer readable.
    pub fn drain_kick(&self) {
        let mut count = [0; 8];
        let _ = rustix::io::read(&self.kick, &mut count);
    }
}

impl AsRawFd for Queue {
    /// The kick's file descriptor, readable when the guest has kicked.
    fn as_raw_fd(&self) -> RawFd {
        self.kick.as_raw_fd()
    }
}

/// Whether the index `event` lies in what was just published, from `old` up to before `new` (`vring_need_event`).
#[inline]
fn need_event(event: u16, old: u16, new: u16) -> bool {
    new.wrapping_sub(event).wrapping_sub(1) < new.wrapping_sub(old)
}

/// A front-end's descriptor is shared with it and could be anything; neither reading nor writing it may block.
fn set_nonblocking(file: &File, part: &'static str) -> Result<(), QueueSetupError> {
    rustix::io::ioctl_fionbio(file, true)
        .map_err(|errno| QueueSetupError::Descriptor { part, source: errno.into() })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All event indexes and batches there are: an interrupt is due exactly when the entry that the driver named was
    /// published.
    #[test]
    fn an_interrupt_is_due_exactly_when_the_named_entry_was_published() {
        for old in [0, 1, 0x7FFF, 0xFFF0, 0xFFFF_u16] {
            for batch in 0..=MAX_QUEUE_SIZE {
                for ahead in 0..=u16::MAX {
                    let (event, new) = (old.wrapping_add(ahead), old.wrapping_add(batch));
                    assert_eq!(need_event(event, old, new), ahead < batch, "{event} {old} {new}");
                }
            }
        }
    }
}
