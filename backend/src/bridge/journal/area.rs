//! One area of state memory: a snapshot and a log behind it, twice, and the store that says which of it counts.
//!
//! | offset | in an area |
//! |---|---|
//! | 0 | [`MAGIC`], once there is something |
//! | 8 | [`VERSION`] of the format |
//! | 12 | the active half, 0 or 1 |
//! | 16, 20 | bytes of each half that count |
//! | 64 | half 0; half 1 follows |
//!
//! A half is the length of the snapshot in bytes, the snapshot, and the words of the log. All numbers are little-endian
//! words of 32 bits, but for the magic number. What is read is checked before it is used: an area that is damaged is as
//! good as none.

use std::sync::atomic::{Ordering, fence};

use crate::remote::memory::CarveoutSlice;

/// What an area begins with: "RPMSGJNL".
const MAGIC: u64 = u64::from_le_bytes(*b"RPMSGJNL");
/// Of everything that is written here. A program does not go on with what one of another version has left.
const VERSION: u32 = 2;

const AT_VERSION: usize = 8;
const AT_ACTIVE: usize = 12;
const AT_COMMITTED: [usize; 2] = [16, 20];
const AT_HALVES: usize = 64;

/// Bytes of a log up to which it is not worth while to begin another half: they stay in a processor's own cache, and a snapshot of
/// many VMs takes as long as hundreds of messages.
const SHORT_LOG: usize = 64 << 10;
/// How much longer than the snapshot the log of a long one may become.
const LOG_PER_SNAPSHOT: usize = 4;

/// A snapshot does not fit into an area.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{size} bytes of state do not fit into {room}")]
pub(super) struct TooLarge {
    size: usize,
    room: usize,
}

/// What was found in an area.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) snapshot: Vec<u8>,
    pub(super) log: Vec<u32>,
}

/// An area that is written to.
#[derive(Debug)]
pub(super) struct Area {
    memory: CarveoutSlice,
    half: usize,
    /// Where the active half begins.
    start: usize,
    /// Bytes of the active half that count.
    committed: usize,
    /// Bytes of it that are written.
    end: usize,
    /// Bytes at which another half is begun.
    limit: usize,
    /// Whether there is a snapshot at all.
    is_begun: bool,
}

impl Area {
    /// Opens an area, and finds out what is there. Nothing can be appended before a snapshot was [saved](Self::save).
    pub(super) fn open(memory: CarveoutSlice) -> (Self, Option<Found>) {
        let found = read(&memory);
        let half = found.as_ref().map_or(0, |(half, _)| *half);
        let (start, is_begun) = (start(&memory, half), found.is_some());
        let area = Area { memory, half, start, committed: 0, end: 0, limit: 0, is_begun };
        (area, found.map(|(_, found)| found))
    }

    /// Adds a word to the log. Returns whether there was room.
    #[inline]
    pub(super) fn append(&mut self, word: u32) -> bool {
        let fits = self.end < self.limit;
        if fits {
            self.memory.write_u32(self.start + self.end, word);
            self.end += 4;
        }
        fits
    }

    /// Whether something was appended that does not count yet.
    #[inline]
    pub(super) fn is_behind(&self) -> bool {
        self.end != self.committed
    }

    /// Makes everything count that was appended.
    #[inline]
    pub(super) fn commit(&mut self) {
        self.publish(AT_COMMITTED[self.half], self.end);
        self.committed = self.end;
    }

    /// Writes a snapshot into the other half, and goes on there with an empty log.
    pub(super) fn save(&mut self, snapshot: &[u8]) -> Result<(), TooLarge> {
        let log = 4 + snapshot.len().next_multiple_of(4);
        let room = room(&self.memory);
        if log + SHORT_LOG > room {
            return Err(TooLarge { size: snapshot.len(), room });
        }
        let half = 1 - self.half;
        let start = start(&self.memory, half);
        self.memory.write_u32(start, u32::try_from(snapshot.len()).unwrap_or(u32::MAX));
        self.memory.write_bytes(start + 4, snapshot);
        self.publish(AT_COMMITTED[half], log);
        self.publish(AT_ACTIVE, half);
        if !self.is_begun {
            self.memory.write_u32(AT_VERSION, VERSION);
            self.memory.write_u64(0, MAGIC);
            self.is_begun = true;
        }
        (self.half, self.start) = (half, start);
        self.committed = log;
        self.end = log;
        self.limit = (log + SHORT_LOG.max(LOG_PER_SNAPSHOT * log)).min(room);
        Ok(())
    }

    /// Forgets everything.
    pub(super) fn clear(&mut self) {
        self.memory.write_u64(0, 0);
        self.is_begun = false;
        self.limit = 0;
        self.end = self.committed;
    }

    /// Stores a number behind everything that was written before, and before everything that is written after. A processor
    /// finishes the stores of a program that is killed, in whatever order; what matters is that the compiler keeps to this one.
    #[inline]
    fn publish(&self, at: usize, value: usize) {
        fence(Ordering::Release);
        self.memory.write_u32(at, u32::try_from(value).unwrap_or(u32::MAX));
        fence(Ordering::Release);
    }
}

/// Where a half begins.
fn start(memory: &CarveoutSlice, half: usize) -> usize {
    AT_HALVES + half * room(memory)
}

/// Bytes in a half of this area.
fn room(memory: &CarveoutSlice) -> usize {
    (memory.len() - AT_HALVES) / 8 * 4
}

/// The active half, and what counts in it.
fn read(memory: &CarveoutSlice) -> Option<(usize, Found)> {
    if memory.read_u64(0) != MAGIC || memory.read_u32(AT_VERSION) != VERSION {
        return None;
    }
    let half = memory.read_u32(AT_ACTIVE) as usize;
    let committed = memory.read_u32(*AT_COMMITTED.get(half)?) as usize;
    if !(4..=room(memory)).contains(&committed) || !committed.is_multiple_of(4) {
        return None;
    }
    let mut bytes = vec![0; committed];
    memory.read_into(start(memory, half), &mut bytes);
    let (len, bytes) = bytes.split_first_chunk::<4>()?;
    let len = u32::from_le_bytes(*len) as usize;
    let log = bytes.get(len.checked_next_multiple_of(4)?..)?;
    let log = log.as_chunks::<4>().0.iter().map(|word| u32::from_le_bytes(*word)).collect();
    Some((half, Found { snapshot: bytes.get(..len)?.to_vec(), log }))
}

#[cfg(test)]
mod tests;
