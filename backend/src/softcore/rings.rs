//! One vring, device side, and the check of what the host has written about it.
//!
//! The ring itself is walked by `virtio_queue::Queue`; what it lacks for rpmsg is here: one descriptor per message,
//! `VRING_AVAIL_F_NO_INTERRUPT`, and noticing that the host has built the rings anew.

use std::sync::atomic::{Ordering, fence};

use thiserror::Error;
use virtio_queue::{Queue, QueueOwnedT, QueueT};
use vm_memory::guest_memory::Error as AccessError;
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};

use super::Layout;
use super::doorbell::bell;
use super::table::{ANY, VRINGS, Vdev, VringEntry, ring_len, used_offset};

/// `VRING_AVAIL_F_NO_INTERRUPT`: the host does not want to hear of used buffers.
const NO_INTERRUPT: u16 = 1;

/// Why a ring cannot be served any longer.
#[derive(Debug, Error)]
pub(super) enum RingError {
    /// The host has broken the ring.
    #[error("vring with notifyid {notifyid} is broken")]
    Broken {
        notifyid: u8,
        #[source]
        source: virtio_queue::Error,
    },
    /// The ring lies outside the memory, which was checked when it was attached.
    #[error("vring with notifyid {notifyid} cannot be accessed")]
    Access {
        notifyid: u8,
        #[source]
        source: AccessError,
    },
}

/// What is wrong with what the host has written into the vdev entry.
#[derive(Debug, Error, PartialEq, Eq)]
pub(super) enum AttachError {
    #[error("gfeatures {found:#x} contains bits that were not offered; expected a subset of {offered:#x}")]
    Features { found: u32, offered: u32 },
    #[error("vring{ring} num {found}; expected a power of two from 1 to {offered}")]
    Size { ring: usize, found: u32, offered: u16 },
    #[error("vring{ring} da {da:#x}; expected a multiple of {align}")]
    Alignment { ring: usize, da: u32, align: u32 },
    #[error("vring{ring} at {da:#x} with {len} bytes lies outside the pool {start:#x}..{end:#x}")]
    Outside { ring: usize, da: u32, len: u64, start: u64, end: u64 },
    #[error("vring0 at {first:#x} and vring1 at {second:#x} overlap; each is {len} bytes long")]
    Overlap { first: u32, second: u32, len: u64 },
    #[error("vring{ring} notifyid {found:#x}; expected one that a doorbell byte can carry, 0 to {max:#x}", max = bell::LAST_KICK)]
    NotifyId { ring: usize, found: u32 },
    #[error("both vrings have notifyid {found:#x}; expected different ones")]
    SameNotifyId { found: u8 },
    #[error("vring{ring} is not fresh: used.idx is {found}; expected 0 in rings that have just been made")]
    NotFresh { ring: usize, found: u16 },
}

/// A buffer of one descriptor that the host has made available.
#[derive(Clone, Copy, Debug)]
pub(super) struct Buffer {
    /// Index of its descriptor: what is given back.
    pub(super) head: u16,
    /// Device address.
    pub(super) address: GuestAddress,
    /// Length in bytes; 0 where the descriptor is not of the kind that the ring is for.
    pub(super) len: u32,
}

/// Device side of one vring.
#[derive(Debug)]
pub(super) struct Ring {
    queue: Queue,
    da: u32,
    notifyid: u8,
    /// What the descriptors are for: the core writes (vring 0) or reads (vring 1).
    writable: bool,
    /// Used elements have been added since the host was last told.
    untold: bool,
}

/// Checks the vdev entry and makes the two rings of it.
pub(super) fn attach(
    memory: &GuestMemoryMmap,
    layout: &Layout,
    vdev: &Vdev,
) -> Result<[Ring; VRINGS], AttachError> {
    let unknown = vdev.gfeatures & !layout.features();
    if unknown != 0 {
        return Err(AttachError::Features { found: vdev.gfeatures, offered: layout.features() });
    }
    let [first, second] = &vdev.vrings;
    let rings = [Ring::new(memory, layout, 0, first)?, Ring::new(memory, layout, 1, second)?];
    if rings[0].notifyid == rings[1].notifyid {
        return Err(AttachError::SameNotifyId { found: rings[0].notifyid });
    }
    let longest = rings.iter().map(|ring| ring_len(ring.queue.size(), layout.align())).max().unwrap_or(0);
    if u64::from(first.da.abs_diff(second.da)) < longest {
        return Err(AttachError::Overlap { first: first.da, second: second.da, len: longest });
    }
    Ok(rings)
}

impl Ring {
    fn new(
        memory: &GuestMemoryMmap,
        layout: &Layout,
        index: usize,
        entry: &VringEntry,
    ) -> Result<Self, AttachError> {
        let (da, align) = (entry.da, layout.align());
        let size_error = || AttachError::Size { ring: index, found: entry.num, offered: layout.buffers() };
        let num = u16::try_from(entry.num)
            .ok()
            .filter(|num| num.is_power_of_two() && *num <= layout.buffers())
            .ok_or_else(size_error)?;
        if da == ANY || !da.is_multiple_of(align) {
            return Err(AttachError::Alignment { ring: index, da, align });
        }
        let (start, len) = (u64::from(da), ring_len(num, align));
        let pool = layout.pool();
        if start < pool.start || start + len > pool.end {
            return Err(AttachError::Outside { ring: index, da, len, start: pool.start, end: pool.end });
        }
        let notifyid = u8::try_from(entry.notifyid)
            .ok()
            .filter(|id| *id <= bell::LAST_KICK)
            .ok_or(AttachError::NotifyId { ring: index, found: entry.notifyid })?;
        let mut queue = Queue::new(num).map_err(|_invalid_size| size_error())?;
        let misaligned = |_unaligned| AttachError::Alignment { ring: index, da, align };
        queue.try_set_desc_table_address(GuestAddress(start)).map_err(misaligned)?;
        queue.try_set_avail_ring_address(GuestAddress(start + 16 * u64::from(num))).map_err(misaligned)?;
        queue.try_set_used_ring_address(GuestAddress(start + used_offset(num, align))).map_err(misaligned)?;
        queue.set_ready(true);
        let ring = Ring { queue, da, notifyid, writable: index == 0, untold: false };
        match ring.host_used_index(memory) {
            Ok(0) => Ok(ring),
            Ok(found) => Err(AttachError::NotFresh { ring: index, found }),
            Err(_outside) => Err(AttachError::Alignment { ring: index, da, align }),
        }
    }

    /// Device address of the ring.
    pub(super) fn da(&self) -> u32 {
        self.da
    }

    /// The doorbell byte of this ring.
    pub(super) fn notifyid(&self) -> u8 {
        self.notifyid
    }

    /// Descriptors in the ring.
    pub(super) fn size(&self) -> u16 {
        self.queue.size()
    }

    /// Takes the next buffer that the host has made available. A descriptor that is not one single buffer of the
    /// right direction comes back with length 0.
    pub(super) fn pop(&mut self, memory: &GuestMemoryMmap) -> Result<Option<Buffer>, RingError> {
        let notifyid = self.notifyid;
        let mut available =
            self.queue.iter(memory).map_err(|source| RingError::Broken { notifyid, source })?;
        let Some(mut chain) = available.next() else {
            return Ok(None);
        };
        let head = chain.head_index();
        let unusable = Buffer { head, address: GuestAddress(0), len: 0 };
        let buffer = match chain.next() {
            Some(one) if one.is_write_only() == self.writable && !one.has_next() => {
                Buffer { head, address: one.addr(), len: one.len() }
            }
            _ => unusable,
        };
        Ok(Some(buffer))
    }

    /// Undoes the last [`Ring::pop`], for a buffer that cannot be dealt with yet.
    pub(super) fn unpop(&mut self) {
        self.queue.go_to_previous_position();
    }

    /// Gives a buffer back to the host. A head that is no descriptor of the ring cannot be given back, and is not.
    pub(super) fn give(&mut self, memory: &GuestMemoryMmap, head: u16, len: u32) -> Result<(), RingError> {
        if head >= self.queue.size() {
            return Ok(());
        }
        let notifyid = self.notifyid;
        self.queue.add_used(memory, head, len).map_err(|source| RingError::Broken { notifyid, source })?;
        self.untold = true;
        Ok(())
    }

    /// Whether the host is to be told of what was given back since the last time this was asked.
    pub(super) fn wants_kick(&mut self, memory: &GuestMemoryMmap) -> Result<bool, RingError> {
        if !std::mem::take(&mut self.untold) {
            return Ok(false);
        }
        // The used index must be out before the flags are read, or both sides wait for the other.
        fence(Ordering::SeqCst);
        let flags: u16 = memory
            .load(GuestAddress(self.queue.avail_ring()), Ordering::Relaxed)
            .map_err(|source| self.access(source))?;
        Ok(u16::from_le(flags) & NO_INTERRUPT == 0)
    }

    /// Asks the host not to ring for new buffers.
    pub(super) fn quieten(&mut self, memory: &GuestMemoryMmap) -> Result<(), RingError> {
        let notifyid = self.notifyid;
        self.queue.disable_notification(memory).map_err(|source| RingError::Broken { notifyid, source })
    }

    /// Asks the host to ring for new buffers; true if there are some already.
    pub(super) fn listen(&mut self, memory: &GuestMemoryMmap) -> Result<bool, RingError> {
        let notifyid = self.notifyid;
        self.queue.enable_notification(memory).map_err(|source| RingError::Broken { notifyid, source })
    }

    /// Whether the used index is no longer what the core wrote: the host has built the ring anew.
    pub(super) fn rebuilt(&self, memory: &GuestMemoryMmap) -> bool {
        self.host_used_index(memory).is_ok_and(|found| found != self.queue.next_used())
    }

    fn host_used_index(&self, memory: &GuestMemoryMmap) -> Result<u16, virtio_queue::Error> {
        self.queue.used_idx(memory, Ordering::Relaxed).map(|index| index.0)
    }

    fn access(&self, source: AccessError) -> RingError {
        RingError::Access { notifyid: self.notifyid, source }
    }
}
