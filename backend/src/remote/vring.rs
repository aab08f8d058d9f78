//! The driver's side of a split vring in carveout memory.
//!
//! Layout and protocol: virtio 1.3 section 2.7 (split virtqueues) in its legacy placement, where one block
//! holds descriptor table, available ring and, from the next multiple of the vring's alignment on, the used ring
//! (Linux `include/uapi/linux/virtio_ring.h`, `vring_init`).
//!
//! Every descriptor stands for one fixed buffer, as in virtio_rpmsg_bus. What the remote writes is not
//! trusted: a used entry that names no buffer of the remote's is counted and passed over, an index that runs
//! ahead of what was given out is a [`VringFault`], after which the ring cannot be used any more.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::memory::{CarveoutSlice, after_observe, before_publish, full};

/// Bytes of one entry of the descriptor table.
const DESCRIPTOR_LEN: usize = 16;
/// Descriptor flag: the device writes the buffer (`VRING_DESC_F_WRITE`).
const DESCRIPTOR_WRITE: u16 = 2;
/// Flag in the available ring: no interrupt wanted when buffers come back (`VRING_AVAIL_F_NO_INTERRUPT`).
const AVAIL_NO_INTERRUPT: u16 = 1;
/// Flag in the used ring: no kick wanted when buffers are given (`VRING_USED_F_NO_NOTIFY`).
const USED_NO_NOTIFY: u16 = 1;
/// Largest number of entries of a split virtqueue.
const MAX_ENTRIES: u32 = 32768;

/// Where the parts of a vring are within its block of memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VringLayout {
    num: u16,
    avail: usize,
    used: usize,
    size: usize,
}

/// Why a vring cannot have the given geometry.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum VringLayoutError {
    /// The number of entries.
    #[error("vring with {found} entries, expected a power of two from 2 to {MAX_ENTRIES}")]
    Entries {
        /// Entries found.
        found: u32,
    },
    /// The alignment of the used ring.
    #[error("vring with an alignment of {found} bytes, expected a power of two from 4 to 65536")]
    Align {
        /// Alignment found, in bytes.
        found: u32,
    },
}

impl VringLayout {
    /// Smallest alignment of a vring's start in bytes: that of the descriptor table.
    pub const MIN_ALIGN: u64 = 16;

    /// The layout of a vring of `num` entries whose used ring starts at a multiple of `align` bytes.
    ///
    /// # Errors
    /// Anything but powers of two in the ranges that the error names.
    pub fn new(num: u32, align: u32) -> Result<Self, VringLayoutError> {
        let entries = match u16::try_from(num) {
            Ok(entries) if num.is_power_of_two() && (2..=MAX_ENTRIES).contains(&num) => entries,
            _ => return Err(VringLayoutError::Entries { found: num }),
        };
        if !align.is_power_of_two() || !(4..=65536).contains(&align) {
            return Err(VringLayoutError::Align { found: align });
        }
        let count = usize::from(entries);
        let avail = DESCRIPTOR_LEN * count;
        let used = (avail + 2 * (3 + count)).next_multiple_of(align as usize);
        Ok(VringLayout { num: entries, avail, used, size: used + 6 + 8 * count })
    }

    /// Number of entries.
    pub fn num(self) -> u16 {
        self.num
    }

    /// Entry of a ring that an index stands for.
    #[inline]
    fn entry(self, index: u16) -> usize {
        // There are a power of two.
        usize::from(index & (self.num - 1))
    }

    /// Size of the whole block in bytes (`vring_size`).
    pub fn size(self) -> usize {
        self.size
    }
}

/// What makes a vring unusable: the remote has to be started anew.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum VringFault {
    /// The remote claims to have used more buffers than it was given.
    #[error(
        "used index jumped from {from} to {to} where the remote holds {held} buffers; the remote has crashed or its memory is overwritten"
    )]
    IndexJump {
        /// Index up to which entries were taken.
        from: u16,
        /// Index found.
        to: u16,
        /// Buffers that the remote holds.
        held: u16,
    },
}

/// A used entry, taken off the ring and checked against what the remote holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Used {
    /// The descriptor, which is the host's again.
    pub id: u16,
    /// What the remote says it has written, in bytes. Unchecked.
    pub len: u32,
}

/// How far a driver has got with a vring.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cursor {
    /// Index of the next entry of the available ring.
    pub avail: u16,
    /// Index of the next used entry to be taken.
    pub used: u16,
}

/// The driver's end of one vring.
#[derive(Debug)]
pub struct Vring {
    memory: CarveoutSlice,
    layout: VringLayout,
    notifyid: u32,
    /// Index of the next entry of the available ring to be written.
    next_avail: u16,
    /// Index that the remote knows.
    published: u16,
    /// Index of the next used entry to be taken.
    next_used: u16,
    /// Used index as last read.
    seen_used: u16,
    /// Per descriptor: whether the remote holds it.
    with_remote: Vec<bool>,
    held: u16,
    bogus_used: u64,
    /// What the remote was told last of whether a kick is wanted.
    wants_interrupts: Option<bool>,
}

impl Vring {
    /// Clears the block of memory and makes an empty vring of it. `memory` must be as long as the layout says;
    /// `notifyid` is what names this vring in the mailbox.
    pub fn new(memory: CarveoutSlice, layout: VringLayout, notifyid: u32) -> Self {
        assert_eq!(memory.len(), layout.size(), "vring memory as long as its layout");
        for offset in (0..layout.size() - 1).step_by(2) {
            memory.write_u16(offset, 0);
        }
        let num = usize::from(layout.num);
        Vring {
            memory,
            layout,
            notifyid,
            next_avail: 0,
            published: 0,
            next_used: 0,
            seen_used: 0,
            with_remote: vec![false; num],
            held: 0,
            bogus_used: 0,
            wants_interrupts: None,
        }
    }

    /// Goes on with a vring that was in use before: `cursor` is as it was saved, and `with_remote` says of each descriptor
    /// whether the remote holds it. The index is published once more, since that may be what was not done any more.
    pub fn resume(
        memory: CarveoutSlice,
        layout: VringLayout,
        notifyid: u32,
        cursor: Cursor,
        with_remote: Vec<bool>,
    ) -> Self {
        assert_eq!(memory.len(), layout.size(), "vring memory as long as its layout");
        assert_eq!(with_remote.len(), usize::from(layout.num), "one for each descriptor");
        before_publish();
        memory.write_u16(layout.avail + 2, cursor.avail);
        let held = with_remote.iter().map(|is_with_remote| u16::from(*is_with_remote)).sum();
        Vring {
            memory,
            layout,
            notifyid,
            next_avail: cursor.avail,
            published: cursor.avail,
            next_used: cursor.used,
            seen_used: cursor.used,
            with_remote,
            held,
            bogus_used: 0,
            wants_interrupts: None,
        }
    }

    /// How far both rings have got, with what is not published yet.
    #[inline]
    pub fn cursor(&self) -> Cursor {
        Cursor { avail: self.next_avail, used: self.next_used }
    }

    /// What names this vring in the mailbox.
    pub fn notifyid(&self) -> u32 {
        self.notifyid
    }

    /// Number of entries.
    pub fn num(&self) -> u16 {
        self.layout.num
    }

    /// Used entries that named no buffer of the remote's and were passed over.
    pub fn bogus_used(&self) -> u64 {
        self.bogus_used
    }

    /// Writes descriptor `id`: a buffer of `len` bytes at device address `address`.
    pub fn describe(&mut self, id: u16, address: u64, len: u32, writable: bool) {
        let at = DESCRIPTOR_LEN * usize::from(id);
        self.memory.write_u64(at, address);
        self.memory.write_u32(at + 8, len);
        self.memory.write_u16(at + 12, if writable { DESCRIPTOR_WRITE } else { 0 });
        self.memory.write_u16(at + 14, 0);
    }

    /// Writes the length of descriptor `id` anew, in bytes.
    #[inline]
    pub fn set_len(&mut self, id: u16, len: u32) {
        self.memory.write_u32(DESCRIPTOR_LEN * usize::from(id) + 8, len);
    }

    /// Puts descriptor `id`, which must be the host's, into the available ring. The remote sees it with the next
    /// [`publish`](Self::publish).
    #[inline]
    pub fn give(&mut self, id: u16) {
        let with_remote = &mut self.with_remote[usize::from(id)];
        assert!(!*with_remote, "descriptor given twice");
        *with_remote = true;
        self.held += 1;
        let entry = self.layout.entry(self.next_avail);
        self.memory.write_u16(self.layout.avail + 4 + 2 * entry, id);
        self.next_avail = self.next_avail.wrapping_add(1);
    }

    /// Whether something was given that the remote does not see yet.
    #[inline]
    pub fn is_behind(&self) -> bool {
        self.published != self.next_avail
    }

    /// Makes everything given visible to the remote. Returns whether it wants a kick for it.
    #[inline]
    pub fn publish(&mut self) -> bool {
        if !self.is_behind() {
            return false;
        }
        before_publish();
        self.memory.write_u16(self.layout.avail + 2, self.next_avail);
        self.published = self.next_avail;
        full();
        self.memory.read_u16(self.layout.used) & USED_NO_NOTIFY == 0
    }

    /// Takes the next used entry, if there is one.
    ///
    /// # Errors
    /// A used index beyond what the remote was given.
    #[inline]
    pub fn take_used(&mut self) -> Result<Option<Used>, VringFault> {
        loop {
            if self.next_used == self.seen_used {
                let index = self.memory.read_u16(self.layout.used + 2);
                if index == self.next_used {
                    return Ok(None);
                }
                let held = self.held;
                if index.wrapping_sub(self.next_used) > held {
                    return Err(VringFault::IndexJump { from: self.next_used, to: index, held });
                }
                after_observe();
                self.seen_used = index;
            }
            let entry = self.layout.used + 4 + 8 * self.layout.entry(self.next_used);
            let (id, len) = (self.memory.read_u32(entry), self.memory.read_u32(entry + 4));
            self.next_used = self.next_used.wrapping_add(1);
            if let Ok(id) = u16::try_from(id)
                && let Some(with_remote) = self.with_remote.get_mut(usize::from(id))
                && std::mem::take(with_remote)
            {
                self.held -= 1;
                return Ok(Some(Used { id, len }));
            }
            self.bogus_used += 1;
        }
    }

    /// Index of the next used entry to be taken: changes whenever the remote has done something.
    #[inline]
    pub fn progress(&self) -> u16 {
        self.next_used
    }

    /// Whether the remote holds descriptor `id`.
    pub fn is_with_remote(&self, id: u16) -> bool {
        self.with_remote[usize::from(id)]
    }

    /// Whether there is something for [`take_used`](Self::take_used).
    #[inline]
    pub fn has_used(&self) -> bool {
        self.memory.read_u16(self.layout.used + 2) != self.next_used
    }

    /// Tells the remote whether a kick is wanted when it has used buffers. After switching it on, look at the ring
    /// once more: what came in between was not signalled.
    #[inline]
    pub fn want_interrupts(&mut self, wanted: bool) {
        if self.wants_interrupts.replace(wanted) == Some(wanted) {
            return;
        }
        self.memory.write_u16(self.layout.avail, if wanted { 0 } else { AVAIL_NO_INTERRUPT });
        full();
    }
}

#[cfg(test)]
mod tests;
