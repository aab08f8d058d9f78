//! Messages in the buffers of the two vrings: [`Inbound`] from the remote, [`Outbound`] to it.
//!
//! Descriptor `i` of a vring stands for buffer `i` for ever, as in virtio_rpmsg_bus. Buffers lie in carveout memory.

use vm_memory::VolatileSlice;

use super::memory::CarveoutSlice;
use super::vring::{Cursor, Vring, VringFault};
use crate::rpmsg::{BUFFER_SIZE, HEADER_LEN, Header, HeaderError};

/// [`BUFFER_SIZE`] as descriptors have it.
const BUFFER_LEN: u32 = 512;

/// The buffers of one direction.
#[derive(Debug)]
pub struct Buffers {
    memory: CarveoutSlice,
    physical_address: u64,
    count: u16,
}

impl Buffers {
    /// `count` buffers in `memory`, which descriptors name by `physical_address`.
    pub fn new(memory: CarveoutSlice, physical_address: u64, count: u16) -> Self {
        assert!(memory.len() >= usize::from(count) * BUFFER_SIZE, "memory for all buffers");
        Buffers { memory, physical_address, count }
    }

    /// How many there are.
    pub fn count(&self) -> u16 {
        self.count
    }

    fn address(&self, id: u16) -> u64 {
        self.physical_address + u64::from(id) * BUFFER_SIZE as u64
    }

    /// Offset of byte `at` of buffer `id`. Keeps accesses within the one buffer.
    #[inline]
    fn offset(&self, id: u16, at: usize, len: usize) -> usize {
        assert!(id < self.count && at + len <= BUFFER_SIZE, "access within one buffer");
        usize::from(id) * BUFFER_SIZE + at
    }
}

/// A message from the remote, in its buffer.
#[derive(Clone, Copy, Debug)]
pub struct Message {
    /// The buffer, which is the host's until it is [released](Inbound::release).
    pub id: u16,
    /// The header as it was when the message was taken. What it says of the length has been checked.
    pub header: Header,
}

/// What has come from the remote.
#[derive(Clone, Copy, Debug)]
pub enum Arrival {
    /// A well-formed message.
    Message(Message),
    /// Something that is none; its buffer went back to the remote.
    Malformed(HeaderError),
}

/// Messages from the remote to the host: vring 0.
#[derive(Debug)]
pub struct Inbound {
    vring: Vring,
    buffers: Buffers,
}

impl Inbound {
    /// Gives the remote all buffers to fill. It sees them once the vring is published.
    pub fn new(mut vring: Vring, buffers: Buffers) -> Self {
        for id in 0..buffers.count {
            vring.describe(id, buffers.address(id), BUFFER_LEN, true);
            vring.give(id);
        }
        Inbound { vring, buffers }
    }

    /// Goes on with buffers that were in use before.
    pub fn resume(vring: Vring, buffers: Buffers) -> Self {
        Inbound { vring, buffers }
    }

    /// Number of buffers.
    pub fn count(&self) -> u16 {
        self.buffers.count
    }

    /// What names the vring in the mailbox.
    pub fn notifyid(&self) -> u32 {
        self.vring.notifyid()
    }

    /// How far the driver has got with the vring.
    pub fn cursor(&self) -> Cursor {
        self.vring.cursor()
    }

    /// The vring, for its notifications and counts.
    pub fn vring(&mut self) -> &mut Vring {
        &mut self.vring
    }

    /// Takes what the remote has sent next, if anything.
    ///
    /// # Errors
    /// A vring that the remote has made unusable.
    #[inline]
    pub fn take(&mut self) -> Result<Option<Arrival>, VringFault> {
        let Some(used) = self.vring.take_used()? else {
            return Ok(None);
        };
        let header =
            Header::from_bytes(&self.buffers.memory.read_bytes(self.buffers.offset(used.id, 0, HEADER_LEN)));
        // OpenAMP says that it has used the whole buffer, rpmsg-lite what it has written; more is a lie.
        let len = if used.len <= BUFFER_LEN { used.len as usize } else { 0 };
        Ok(Some(match header.check(len) {
            Ok(()) => Arrival::Message(Message { id: used.id, header }),
            Err(error) => {
                self.release(used.id);
                Arrival::Malformed(error)
            }
        }))
    }

    /// The header in a buffer as it is now. For people to look at: what is to be relied on was [taken](Self::take) with the
    /// message.
    pub fn header_of(&self, id: u16) -> Header {
        Header::from_bytes(&self.buffers.memory.read_bytes(self.buffers.offset(id, 0, HEADER_LEN)))
    }

    /// Copies payload bytes from `start` on into the whole of `target`.
    #[inline]
    pub fn copy_payload(&self, id: u16, start: usize, target: &VolatileSlice<'_>) {
        let offset = self.buffers.offset(id, HEADER_LEN + start, target.len());
        self.buffers.memory.copy_to(offset, target);
    }

    /// Copies payload bytes from the start on into the whole of `target`.
    pub fn read_payload(&self, id: u16, target: &mut [u8]) {
        self.buffers.memory.read_into(self.buffers.offset(id, HEADER_LEN, target.len()), target);
    }

    /// Gives a buffer back to the remote, which sees it once the vring is published.
    #[inline]
    pub fn release(&mut self, id: u16) {
        self.vring.give(id);
    }

    /// Gives back every buffer that the host still has.
    pub fn release_all(&mut self) {
        for id in 0..self.buffers.count {
            if !self.vring.is_with_remote(id) {
                self.release(id);
            }
        }
    }
}

/// Messages from the host to the remote: vring 1.
#[derive(Debug)]
pub struct Outbound {
    vring: Vring,
    buffers: Buffers,
    free: Vec<u16>,
}

/// A buffer to be filled and [sent](Outbound::send).
#[derive(Debug)]
#[must_use]
pub struct Reserved {
    id: u16,
}

impl Reserved {
    /// Number of the buffer.
    #[inline]
    pub fn id(&self) -> u16 {
        self.id
    }
}

impl Outbound {
    /// Describes all buffers; all are free.
    pub fn new(mut vring: Vring, buffers: Buffers) -> Self {
        for id in 0..buffers.count {
            vring.describe(id, buffers.address(id), 0, false);
        }
        let free = (0..buffers.count).rev().collect();
        Outbound { vring, buffers, free }
    }

    /// Goes on with buffers that were in use before: those that the vring says are not with the remote are free.
    pub fn resume(vring: Vring, buffers: Buffers) -> Self {
        let free = (0..buffers.count).rev().filter(|id| !vring.is_with_remote(*id)).collect();
        Outbound { vring, buffers, free }
    }

    /// What names the vring in the mailbox.
    pub fn notifyid(&self) -> u32 {
        self.vring.notifyid()
    }

    /// The vring, for its notifications and counts.
    pub fn vring(&mut self) -> &mut Vring {
        &mut self.vring
    }

    /// How far the driver has got with the vring.
    pub fn cursor(&self) -> Cursor {
        self.vring.cursor()
    }

    /// Messages that the remote has not consumed yet.
    pub fn in_flight(&self) -> usize {
        usize::from(self.buffers.count) - self.free.len()
    }

    /// Number of buffers.
    pub fn count(&self) -> u16 {
        self.buffers.count
    }

    /// The buffers that the remote has not consumed yet.
    pub fn unconsumed(&self) -> impl Iterator<Item = u16> + '_ {
        (0..self.buffers.count).filter(|id| self.vring.is_with_remote(*id))
    }

    /// Takes back the buffers that the remote has consumed, and tells each to `returned`.
    ///
    /// # Errors
    /// A vring that the remote has made unusable.
    #[inline]
    pub fn reclaim(&mut self, mut returned: impl FnMut(u16)) -> Result<(), VringFault> {
        if !self.vring.has_used() {
            return Ok(());
        }
        while let Some(used) = self.vring.take_used()? {
            self.free.push(used.id);
            returned(used.id);
        }
        Ok(())
    }

    /// Takes a free buffer, if there is one.
    #[inline]
    pub fn reserve(&mut self) -> Option<Reserved> {
        self.free.pop().map(|id| Reserved { id })
    }

    /// Copies the whole of `source` to `start` of the payload.
    #[inline]
    pub fn copy_payload(&mut self, buffer: &Reserved, start: usize, source: &VolatileSlice<'_>) {
        let offset = self.buffers.offset(buffer.id, HEADER_LEN + start, source.len());
        self.buffers.memory.copy_from(offset, source);
    }

    /// Copies `source` to the start of the payload.
    pub fn write_payload(&mut self, buffer: &Reserved, source: &[u8]) {
        self.buffers.memory.write_bytes(self.buffers.offset(buffer.id, HEADER_LEN, source.len()), source);
    }

    /// Writes the header and hands the buffer to the remote, which sees it once the vring is published.
    #[inline]
    #[expect(clippy::needless_pass_by_value, reason = "a buffer is sent once")]
    pub fn send(&mut self, buffer: Reserved, header: Header) {
        let Reserved { id } = buffer;
        self.buffers.memory.write_bytes(self.buffers.offset(id, 0, HEADER_LEN), &header.to_bytes());
        self.vring.set_len(id, header.message_len());
        self.vring.give(id);
    }
}
