//! Walking a descriptor chain.

use thiserror::Error;

use super::memory::{Fragment, GuestMemory, Table};

/// Most pieces that one message may be in. A driver uses one or two; the bound is what keeps a guest from making
/// the bridge walk in circles.
pub(super) const MAX_FRAGMENTS: usize = 16;

/// `VIRTQ_DESC_F_NEXT`
const FLAG_NEXT: u16 = 1;
/// `VIRTQ_DESC_F_WRITE`
const FLAG_WRITE: u16 = 2;
/// `VIRTQ_DESC_F_INDIRECT`
const FLAG_INDIRECT: u16 = 4;
/// Bytes of one descriptor.
const DESCRIPTOR_LEN: u32 = 16;

/// Who writes into the buffers of a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// The guest has written, the device reads: a message to the remote.
    FromGuest,
    /// The device writes, the guest reads: a buffer for a message from the remote.
    ToGuest,
}

/// Why a chain cannot be used.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum ChainError {
    /// A descriptor number that is not in its table.
    #[error("descriptor {found} of a table of {len}")]
    Index {
        /// Number found.
        found: u16,
        /// Entries of the table.
        len: usize,
    },
    /// Longer than any sensible message, or circular.
    #[error("more than {MAX_FRAGMENTS} descriptors for one message")]
    TooMany,
    /// A buffer outside the guest's memory.
    #[error("buffer of {len} bytes at {address:#x} is not within one region of the guest's memory")]
    Address {
        /// Guest physical address.
        address: u64,
        /// Length in bytes.
        len: u32,
    },
    /// A buffer that is writable where it should be readable, or the other way round.
    #[error("buffer in the wrong direction, expected one {0:?}")]
    Direction(Direction),
    /// An indirect table within an indirect table, one that is not a whole number of descriptors, or one that is
    /// followed by another descriptor.
    #[error("malformed indirect table of {len} bytes")]
    Indirect {
        /// Length of the table in bytes.
        len: u32,
    },
}

/// One descriptor, copied out of its table.
#[derive(Clone, Copy, Debug)]
struct Descriptor {
    address: u64,
    len: u32,
    flags: u16,
    next: u16,
}

impl Descriptor {
    fn read(table: &Table<[u64; 2]>, index: u16) -> Self {
        Self::from_words(table.read(usize::from(index)).map(u64::from_le))
    }

    #[expect(clippy::cast_possible_truncation, reason = "takes the word apart")]
    fn from_words([address, rest]: [u64; 2]) -> Self {
        Descriptor { address, len: rest as u32, flags: (rest >> 32) as u16, next: (rest >> 48) as u16 }
    }
}

/// The buffers of one chain, in order, all in the same direction.
#[derive(Debug)]
pub(super) struct Chain {
    fragments: [Fragment; MAX_FRAGMENTS],
    count: usize,
    len: u32,
}

impl Default for Chain {
    fn default() -> Self {
        Chain { fragments: [Fragment::EMPTY; MAX_FRAGMENTS], count: 0, len: 0 }
    }
}

impl Chain {
    /// Collects the chain that starts at `head`, which is below `size`, of a table of `size` descriptors.
    #[inline]
    pub(super) fn walk(
        &mut self,
        table: &Table<[u64; 2]>,
        head: u16,
        size: u16,
        direction: Direction,
    ) -> Result<(), ChainError> {
        let first = Descriptor::read(table, head);
        self.count = 0;
        self.len = 0;
        if first.flags & (FLAG_NEXT | FLAG_INDIRECT) == 0 {
            return self.push(table.memory(), first, direction);
        }
        self.walk_on(table, first, size, direction)
    }

    /// The same from the first descriptor on, which is not the only one.
    fn walk_on(
        &mut self,
        table: &Table<[u64; 2]>,
        mut descriptor: Descriptor,
        size: u16,
        direction: Direction,
    ) -> Result<(), ChainError> {
        let memory = table.memory();
        loop {
            if descriptor.flags & FLAG_INDIRECT != 0 {
                return self.walk_indirect(memory, descriptor, direction);
            }
            self.push(memory, descriptor, direction)?;
            if descriptor.flags & FLAG_NEXT == 0 {
                return Ok(());
            }
            let index = descriptor.next;
            if index >= size {
                return Err(ChainError::Index { found: index, len: usize::from(size) });
            }
            descriptor = Descriptor::read(table, index);
        }
    }

    /// Collects the chain of an indirect table, which is the last thing of any chain.
    fn walk_indirect(
        &mut self,
        memory: &std::sync::Arc<GuestMemory>,
        outer: Descriptor,
        direction: Direction,
    ) -> Result<(), ChainError> {
        let malformed = ChainError::Indirect { len: outer.len };
        if outer.flags & FLAG_NEXT != 0 || outer.len == 0 || !outer.len.is_multiple_of(DESCRIPTOR_LEN) {
            return Err(malformed);
        }
        let entries = (outer.len / DESCRIPTOR_LEN) as usize;
        // Tables need no alignment (virtio 1.3 section 2.7.5.3), so descriptors are copied out byte by byte.
        let table = memory
            .fragment(outer.address, outer.len)
            .ok_or(ChainError::Address { address: outer.address, len: outer.len })?;
        let mut index = 0_u16;
        loop {
            if usize::from(index) >= entries {
                return Err(ChainError::Index { found: index, len: entries });
            }
            let mut bytes = [0_u8; 16];
            memory
                .bytes(&table.skip(u32::from(index) * DESCRIPTOR_LEN).truncate(DESCRIPTOR_LEN))
                .copy_to(&mut bytes);
            let words = u128::from_le_bytes(bytes);
            #[expect(clippy::cast_possible_truncation, reason = "takes the bytes apart")]
            let descriptor = Descriptor::from_words([words as u64, (words >> 64) as u64]);
            if descriptor.flags & FLAG_INDIRECT != 0 {
                return Err(malformed);
            }
            self.push(memory, descriptor, direction)?;
            if descriptor.flags & FLAG_NEXT == 0 {
                return Ok(());
            }
            index = descriptor.next;
        }
    }

    #[inline]
    fn push(
        &mut self,
        memory: &GuestMemory,
        descriptor: Descriptor,
        direction: Direction,
    ) -> Result<(), ChainError> {
        let Descriptor { address, len, flags, .. } = descriptor;
        let writable = flags & FLAG_WRITE != 0;
        if writable != (direction == Direction::ToGuest) {
            return Err(ChainError::Direction(direction));
        }
        let slot = self.fragments.get_mut(self.count).ok_or(ChainError::TooMany)?;
        *slot = memory.fragment(address, len).ok_or(ChainError::Address { address, len })?;
        self.count += 1;
        self.len = self.len.saturating_add(len);
        Ok(())
    }

    /// The first buffer, if it has so many bytes.
    #[inline]
    pub(super) fn first(&self, len: usize) -> Option<&Fragment> {
        self.fragments[..self.count].first().filter(|first| first.len() as usize >= len)
    }

    /// The piece that holds the bytes from `start` on, `len` of them, if they are all in the first buffer.
    #[inline]
    pub(super) fn only(&self, start: usize, len: usize) -> Option<Fragment> {
        let first = self.first(start.checked_add(len)?)?;
        Some(first.skip(u32::try_from(start).ok()?).truncate(u32::try_from(len).ok()?))
    }

    /// Length of all buffers together, in bytes.
    #[inline]
    pub(super) fn len(&self) -> usize {
        self.len as usize
    }

    /// The pieces that hold the bytes from `start` on, `len` bytes in all (fewer if the chain ends before).
    #[inline]
    pub(super) fn pieces(&self, start: usize, len: usize) -> impl Iterator<Item = Fragment> + '_ {
        let clamp = |value: usize| u32::try_from(value).unwrap_or(u32::MAX);
        let (mut skip, mut left) = (clamp(start), clamp(len));
        self.fragments[..self.count].iter().filter_map(move |fragment| {
            let piece = fragment.skip(skip).truncate(left);
            skip = skip.saturating_sub(fragment.len());
            left -= piece.len();
            (!piece.is_empty()).then_some(piece)
        })
    }
}
