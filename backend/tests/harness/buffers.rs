//! Where a guest's driver has its rings, its message buffers and their indirect tables.

use vhost_device_rpmsg::rpmsg::BUFFER_SIZE;

use super::ram::{MAIN_BASE, Ram};
use super::ring::{DESC_LEN, Place, Segment};

/// Most descriptors in one chain.
const MAX_SEGMENTS: usize = 8;

/// Where the buffers of one queue lie.
#[derive(Clone, Copy, Debug)]
pub struct Pool {
    ring: u64,
    buffers: u64,
    tables: u64,
}

/// The receive queue's part of guest RAM.
pub const RX_POOL: Pool =
    Pool { ring: MAIN_BASE + 0x1000, buffers: MAIN_BASE + 0x10_0000, tables: MAIN_BASE + 0x30_0000 };

/// The transmit queue's part of guest RAM.
pub const TX_POOL: Pool =
    Pool { ring: MAIN_BASE + 0x1_0000, buffers: MAIN_BASE + 0x20_0000, tables: MAIN_BASE + 0x40_0000 };

impl Pool {
    /// Where the queue's ring lies if it has so many entries.
    pub fn place(self, size: u16) -> Place {
        Place::at(self.ring, size)
    }

    /// Where the indirect table of a buffer lies.
    pub fn table(self, slot: u16) -> u64 {
        self.tables + u64::from(slot) * DESC_LEN * MAX_SEGMENTS as u64
    }

    /// The first `len` bytes of a buffer, cut into pieces of the given lengths of which the last takes the rest.
    pub fn cut(self, slot: u16, len: usize, cuts: &[u32]) -> Pieces {
        let base = self.buffers + u64::from(slot) * BUFFER_SIZE as u64;
        Pieces::cut(base, len, cuts)
    }

    /// Fills a whole buffer with one byte.
    pub fn fill(self, ram: &Ram, slot: u16, byte: u8) {
        let base = self.buffers + u64::from(slot) * BUFFER_SIZE as u64;
        ram.write(base, &[byte; BUFFER_SIZE]);
    }
}

/// A buffer in pieces, each of which becomes a descriptor. They lie in memory in reverse order, so that none continues
/// where the one before it ends.
#[derive(Clone, Copy, Debug)]
pub struct Pieces {
    segments: [Segment; MAX_SEGMENTS],
    count: usize,
}

impl Pieces {
    fn cut(base: u64, len: usize, cuts: &[u32]) -> Self {
        let mut pieces = Pieces { segments: [Segment { addr: base, len: 0 }; MAX_SEGMENTS], count: 0 };
        let mut left = u32::try_from(len).expect("a buffer of a few bytes");
        for wanted in cuts.iter().copied().chain([u32::MAX]) {
            let len = wanted.min(left);
            left -= len;
            pieces.segments[pieces.count] = Segment { addr: base + u64::from(left), len };
            pieces.count += 1;
            if left == 0 {
                break;
            }
        }
        pieces
    }

    /// The pieces in the order of the bytes they hold.
    pub fn segments(&self) -> &[Segment] {
        &self.segments[..self.count]
    }

    /// Writes bytes over the pieces.
    pub fn write(&self, ram: &Ram, mut bytes: &[u8]) {
        for segment in self.segments() {
            let (here, rest) = bytes.split_at(bytes.len().min(segment.len as usize));
            ram.write(segment.addr, here);
            bytes = rest;
        }
    }

    /// Reads bytes off the pieces.
    pub fn read(&self, ram: &Ram, mut bytes: &mut [u8]) {
        for segment in self.segments() {
            let (here, rest) = bytes.split_at_mut(bytes.len().min(segment.len as usize));
            ram.read(segment.addr, here);
            bytes = rest;
        }
    }
}
