//! The firmware of a remote core: takes each message, and sends back those for its echo.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{Ordering, fence};

use vhost_device_rpmsg::remote::resource_table::ResourceTable;
use vhost_device_rpmsg::rpmsg::{BUFFER_SIZE, HEADER_LEN, Header};
use vm_memory::GuestMemoryMmap;

use super::ring::{Area, Ring, SUPPRESS};
use super::{NUMBER, Notifications};
use crate::harness::ring::Place;
use crate::harness::softcore::DEVICE_ADDRESS;

/// VMs are told apart by the upper bits of an address, their slot.
const SLOT_SHIFT: u32 = 24;
/// Bytes at the beginning of the memory that hold the resource table.
const TABLE_ROOM: usize = 0x400;

/// One direction, as the core sees it.
struct Direction<'m> {
    ring: Ring<'m>,
    notifyid: u8,
    /// Buffers of the host's taken up to here.
    taken: u16,
    /// And given back up to here, of which visible are those up to `published`.
    used: u16,
    published: u16,
}

impl Direction<'_> {
    /// Buffers that are there.
    #[inline]
    fn waiting(&self) -> u16 {
        self.ring.available_to().wrapping_sub(self.taken)
    }

    /// Takes the next one of those.
    #[inline]
    fn take(&mut self) -> (u16, u64, usize) {
        let id = self.ring.available(self.taken);
        self.taken = self.taken.wrapping_add(1);
        let descriptor = self.ring.descriptor(id);
        (id, descriptor.addr().0, usize::try_from(descriptor.len()).expect("a short buffer"))
    }

    /// Gives it back, which nobody sees yet.
    #[inline]
    fn give(&mut self, id: u16, len: u32) {
        self.ring.set_used(self.used, id, len);
        self.used = self.used.wrapping_add(1);
    }

    /// Makes visible what was given back. Returns whether the host wants to hear of that.
    #[inline]
    fn publish(&mut self) -> bool {
        if self.used == self.published {
            return false;
        }
        self.published = self.used;
        self.ring.used_index.store(self.used, Ordering::Release);
        fence(Ordering::SeqCst);
        self.ring.available_flags.load(Ordering::Relaxed) & SUPPRESS == 0
    }
}

/// A core whose vrings have been taken over.
pub(crate) struct Remote<'m> {
    area: Area<'m>,
    sending: Direction<'m>,
    receiving: Direction<'m>,
    doorbell: &'m UnixStream,
    notifications: Notifications,
    /// The address whose messages are sent back.
    echo: u32,
    /// Number of the next message of each slot.
    expected: Vec<u32>,
    message: [u8; BUFFER_SIZE],
    rung: u64,
    heard: u64,
}

impl<'m> Remote<'m> {
    /// Takes over the vrings that the host has placed in this memory, and in which nothing is under way.
    pub(crate) fn take_over(
        memory: &'m GuestMemoryMmap,
        doorbell: &'m UnixStream,
        echo: u32,
        notifications: Notifications,
    ) -> Self {
        let area = Area::around(memory, DEVICE_ADDRESS.into());
        let mut bytes = [0; TABLE_ROOM];
        area.read(DEVICE_ADDRESS.into(), &mut bytes);
        let table = ResourceTable::parse(&bytes).expect("the table of the soft core");
        let vdev = table.vdevs().next().expect("an rpmsg device");
        let direction = |number: usize| {
            let vring = &vdev.vrings[number];
            let size = u16::try_from(vring.num).expect("a vring of the soft core's");
            let desc = u64::from(vring.da.expect("the host has placed it"));
            let avail = desc + 16 * u64::from(size);
            let used = (avail + 2 * (3 + u64::from(size))).next_multiple_of(vring.align.into());
            let ring = Ring::at(area, Place { size, desc, avail, used });
            let flags = if notifications == Notifications::Wanted { 0 } else { SUPPRESS };
            ring.used_flags.store(flags, Ordering::Relaxed);
            let now = ring.used_to();
            let notifyid = u8::try_from(vring.notifyid).expect("a doorbell byte");
            Direction { ring, notifyid, taken: now, used: now, published: now }
        };
        Remote {
            area,
            sending: direction(0),
            receiving: direction(1),
            doorbell,
            notifications,
            echo,
            expected: vec![0; 128],
            message: [0; BUFFER_SIZE],
            rung: 0,
            heard: 0,
        }
    }

    /// Messages that have arrived.
    #[inline]
    pub(crate) fn waiting(&self) -> u16 {
        self.receiving.waiting()
    }

    /// Takes up to so many of the messages that have arrived, and writes an answer to each that is for the echo. Those for
    /// which there is no buffer wait. Nothing of that is visible yet. Returns how many were taken.
    #[inline]
    pub(crate) fn serve(&mut self, most: u16) -> u32 {
        let count = self.receiving.waiting().min(self.sending.waiting()).min(most);
        for _ in 0..count {
            let (id, address, len) = self.receiving.take();
            self.area.read(address, &mut self.message[..len]);
            let header = Header::from_bytes(self.message.first_chunk().expect("a buffer holds a header"));
            assert!(header.payload_len() + HEADER_LEN == len, "a message of {len} bytes says {header:?}");
            let number = u32::from_le_bytes(*self.message[NUMBER].first_chunk().expect("four bytes"));
            let expected = &mut self.expected[(header.src >> SLOT_SHIFT) as usize];
            assert!(number == *expected, "message {number} in place of {expected}");
            *expected = expected.wrapping_add(1);
            self.receiving.give(id, 0);
            if header.dst == self.echo {
                let answer = Header { src: header.dst, dst: header.src, ..header };
                self.message[..HEADER_LEN].copy_from_slice(&answer.to_bytes());
                let (id, address, _) = self.sending.take();
                self.area.write(address, &self.message[..len]);
                self.sending.give(id, header.message_len());
            }
        }
        count.into()
    }

    /// Makes visible what was given back and what was sent, and rings for those who want to hear of it.
    #[inline]
    pub(crate) fn publish(&mut self) {
        for direction in [&mut self.sending, &mut self.receiving] {
            if direction.publish() {
                // A full socket has a doorbell in it already.
                self.rung += self.doorbell.write(&[direction.notifyid]).unwrap_or(0) as u64;
            }
        }
    }

    /// Takes what the host has rung, where it was asked to.
    #[inline]
    pub(crate) fn hear(&mut self) {
        if self.notifications == Notifications::Wanted {
            self.heard += self.doorbell.read(&mut [0; 512]).unwrap_or(0) as u64;
        }
    }

    /// Messages of the VM in this slot so far.
    pub(crate) fn received(&self, slot: usize) -> u32 {
        self.expected[slot]
    }

    /// Doorbells so far: those that this core has rung, and those that it has heard.
    pub(crate) fn bells(&self) -> [u64; 2] {
        [self.rung, self.heard]
    }
}
