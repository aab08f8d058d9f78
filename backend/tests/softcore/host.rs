//! The driver side of rpmsg, written as plainly as can be: what a host does to a remote core.

use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{Ordering, fence};
use std::time::Duration;

use vhost_device_rpmsg::rpmsg::{Announcement, AnnouncementKind, HEADER_LEN, Header};
use vm_memory::{AtomicAccess, Bytes, FileOffset, GuestAddress, GuestMemoryMmap};

/// Longest time that a test waits for something that is to happen at once.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);
/// `FW_RSC_ADDR_ANY`.
pub(crate) const ANY: u32 = u32::MAX;

const WRITABLE: u16 = 2;

/// A message as it was received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Message {
    pub(crate) header: Header,
    pub(crate) payload: Vec<u8>,
    /// Length in the used element.
    pub(crate) used_len: u32,
}

/// Driver side of one vring with one buffer of 512 bytes per descriptor.
#[derive(Debug)]
pub(crate) struct DriverRing {
    pub(crate) da: u64,
    pub(crate) num: u16,
    align: u64,
    buffers: u64,
    avail: u16,
    pub(crate) used: u16,
    /// Descriptors that the host has.
    pub(crate) free: Vec<u16>,
}

/// A host with its view of the core's memory.
#[derive(Debug)]
pub(crate) struct Host {
    pub(crate) memory: GuestMemoryMmap,
    base: u64,
    pub(crate) vdev: u64,
    pub(crate) bell: Option<UnixStream>,
    /// What has been rung and was no kick.
    pub(crate) heard: Vec<u8>,
    /// How many kicks have come, by notifyid.
    pub(crate) kicks: [u64; 240],
    pub(crate) rx: DriverRing,
    pub(crate) tx: DriverRing,
}

/// The notifyids that this host gives to the vrings.
pub(crate) const NOTIFY_IDS: [u8; 2] = [6, 9];

impl DriverRing {
    fn new(da: u64, num: u16, align: u64, buffers: u64) -> Self {
        DriverRing { da, num, align, buffers, avail: 0, used: 0, free: (0..num).rev().collect() }
    }

    fn len(&self) -> u64 {
        self.used_at(0) + 4 + 8 * u64::from(self.num) + 2 - self.da
    }

    pub(crate) fn avail_at(&self, offset: u64) -> GuestAddress {
        GuestAddress(self.da + 16 * u64::from(self.num) + offset)
    }

    fn used_at(&self, offset: u64) -> u64 {
        (self.avail_at(6 + 2 * u64::from(self.num)).0).next_multiple_of(self.align) + offset
    }

    pub(crate) fn buffer(&self, head: u16) -> GuestAddress {
        GuestAddress(self.buffers + 512 * u64::from(head))
    }

    /// Makes a descriptor available.
    pub(crate) fn offer(&mut self, memory: &GuestMemoryMmap, head: u16, address: u64, len: u32, flags: u16) {
        let at = self.da + 16 * u64::from(head);
        memory.write_obj(address, GuestAddress(at)).unwrap();
        memory.write_obj(len, GuestAddress(at + 8)).unwrap();
        memory.write_obj(flags, GuestAddress(at + 12)).unwrap();
        let slot = 4 + 2 * u64::from(self.avail % self.num);
        memory.store(head, self.avail_at(slot), Ordering::Relaxed).unwrap();
        self.avail = self.avail.wrapping_add(1);
        memory.store(self.avail, self.avail_at(2), Ordering::Release).unwrap();
    }

    /// Takes the next used element: descriptor and length.
    pub(crate) fn take(&mut self, memory: &GuestMemoryMmap) -> Option<(u16, u32)> {
        let index: u16 = memory.load(GuestAddress(self.used_at(2)), Ordering::Acquire).unwrap();
        if index == self.used {
            return None;
        }
        let at = self.used_at(4 + 8 * u64::from(self.used % self.num));
        let head: u32 = memory.read_obj(GuestAddress(at)).unwrap();
        let len: u32 = memory.read_obj(GuestAddress(at + 4)).unwrap();
        self.used = self.used.wrapping_add(1);
        Some((u16::try_from(head).unwrap(), len))
    }

    /// Whether the core wants to be rung for.
    fn wants_kick(&self, memory: &GuestMemoryMmap) -> bool {
        fence(Ordering::SeqCst);
        let flags: u16 = memory.load(GuestAddress(self.used_at(0)), Ordering::Relaxed).unwrap();
        flags & 1 == 0
    }
}

impl Host {
    /// Maps the memory and reads the resource table; the vrings are laid out but not brought up.
    pub(crate) fn new(memory: File, size: u64, base: u32, bell: Option<UnixStream>) -> Self {
        let ranges =
            [(GuestAddress(base.into()), usize::try_from(size).unwrap(), Some(FileOffset::new(memory, 0)))];
        let memory = GuestMemoryMmap::from_ranges_with_files(ranges).unwrap();
        let base = u64::from(base);
        let word = |at: u64| memory.read_obj::<u32>(GuestAddress(at)).unwrap();
        assert_eq!(word(base), 1, "version of the resource table");
        let entries = (0..u64::from(word(base + 4))).map(|i| base + u64::from(word(base + 16 + 4 * i)));
        let vdev = entries.into_iter().find(|at| word(*at) == 3).expect("a vdev entry");
        assert_eq!(word(vdev + 4), 7, "virtio id");
        let align = u64::from(word(vdev + 28 + 4));
        let num = u16::try_from(word(vdev + 28 + 8)).unwrap();
        let (fixed0, fixed1) = (word(vdev + 28), word(vdev + 48));
        let ring = |index: u64, fixed: u32| {
            // Where the host may choose, it does so from the end of the memory.
            let place = base + size - (index + 1) * 0x20000;
            let da = if fixed == ANY { place } else { fixed.into() };
            DriverRing::new(da, num, align, base + size / 2 + index * 512 * u64::from(num))
        };
        if let Some(bell) = &bell {
            bell.set_read_timeout(Some(PATIENCE)).unwrap();
        }
        Host {
            rx: ring(0, fixed0),
            tx: ring(1, fixed1),
            memory,
            base,
            vdev,
            bell,
            heard: Vec::new(),
            kicks: [0; 240],
        }
    }

    pub(crate) fn write<T: AtomicAccess>(&self, at: u64, value: T) {
        self.memory.store(value, GuestAddress(at), Ordering::SeqCst).unwrap();
    }

    pub(crate) fn word(&self, at: u64) -> u32 {
        self.memory.load(GuestAddress(at), Ordering::SeqCst).unwrap()
    }

    /// Where the trace buffer is, by the resource table.
    pub(crate) fn trace(&self) -> GuestAddress {
        let entries = (0..self.word(self.base + 4)).map(|i| self.word(self.base + 16 + 4 * u64::from(i)));
        let mut places = entries.map(|offset| self.base + u64::from(offset));
        let entry = places.find(|at| self.word(*at) == 2).expect("a trace entry");
        GuestAddress(self.word(entry + 4).into())
    }

    pub(crate) fn status(&self) -> u8 {
        self.memory.load(GuestAddress(self.vdev + 24), Ordering::Acquire).unwrap()
    }

    pub(crate) fn set_status(&self, status: u8) {
        self.write(self.vdev + 24, status);
    }

    /// Writes ring addresses, notifyids and features; the status is left alone.
    pub(crate) fn prepare(&mut self, features: u32) {
        for (index, ring) in [&mut self.rx, &mut self.tx].into_iter().enumerate() {
            *ring = DriverRing::new(ring.da, ring.num, ring.align, ring.buffers);
            let len = usize::try_from(ring.len()).unwrap();
            self.memory.write_slice(&vec![0; len], GuestAddress(ring.da)).unwrap();
            let entry = GuestAddress(self.vdev + 28 + 20 * index as u64);
            let da = u32::try_from(ring.da).unwrap();
            self.memory.write_obj(da, entry).unwrap();
            self.memory.write_obj(u32::from(NOTIFY_IDS[index]), GuestAddress(entry.0 + 12)).unwrap();
        }
        self.write(self.vdev + 16, features);
    }

    /// Does what Linux does: rings, buffers, features, status 1, 3, 7, kick.
    pub(crate) fn bring_up(&mut self) {
        self.bring_up_with(1, usize::MAX);
    }

    /// The same with these features, and no more than so many receive buffers.
    pub(crate) fn bring_up_with(&mut self, features: u32, buffers: usize) {
        self.prepare(features);
        for status in [1, 3] {
            self.set_status(status);
        }
        self.post(buffers);
        self.set_status(7);
        self.kick(0);
    }

    /// Posts up to so many receive buffers, without a kick.
    pub(crate) fn post(&mut self, count: usize) {
        for _ in 0..count {
            let Some(head) = self.rx.free.pop() else { return };
            let address = self.rx.buffer(head).0;
            self.rx.offer(&self.memory, head, address, 512, WRITABLE);
        }
    }

    /// Rings for a vring, unless the core does not want that.
    pub(crate) fn kick(&mut self, vring: usize) {
        let ring = if vring == 0 { &self.rx } else { &self.tx };
        if ring.wants_kick(&self.memory) {
            self.ring(NOTIFY_IDS[vring]);
        }
    }

    pub(crate) fn ring(&mut self, byte: u8) {
        if let Some(bell) = &mut self.bell {
            bell.write_all(&[byte]).unwrap();
        }
    }

    /// Puts a message into the ring, without a kick; false if there is no buffer for it.
    pub(crate) fn put(&mut self, src: u32, dst: u32, payload: &[u8]) -> bool {
        self.reclaim();
        let Some(head) = self.tx.free.pop() else {
            return false;
        };
        let header = Header { src, dst, reserved: 0, len: u16::try_from(payload.len()).unwrap(), flags: 0 };
        let address = self.tx.buffer(head);
        self.memory.write_slice(&header.to_bytes(), address).unwrap();
        let place = GuestAddress(address.0 + HEADER_LEN as u64);
        self.memory.write_slice(payload, place).unwrap();
        let len = u32::try_from(HEADER_LEN + payload.len()).unwrap();
        self.tx.offer(&self.memory, head, address.0, len, 0);
        true
    }

    /// Sends a message; waits for a buffer if it must.
    pub(crate) fn send(&mut self, src: u32, dst: u32, payload: &[u8]) {
        while !self.put(src, dst, payload) {
            self.wait();
        }
        self.kick(1);
    }

    /// Takes back the transmit buffers that the core has returned: their descriptors.
    pub(crate) fn reclaim(&mut self) -> Vec<u16> {
        let returned: Vec<u16> =
            std::iter::from_fn(|| self.tx.take(&self.memory)).map(|(head, _)| head).collect();
        self.tx.free.extend(&returned);
        returned
    }

    /// The next message, if one is there. Its buffer is posted again.
    pub(crate) fn try_receive(&mut self) -> Option<Message> {
        let message = self.try_receive_and_keep()?;
        self.post(1);
        self.kick(0);
        Some(message)
    }

    /// The next message, if one is there. Its buffer is kept.
    pub(crate) fn try_receive_and_keep(&mut self) -> Option<Message> {
        let (head, used_len) = self.rx.take(&self.memory)?;
        let address = self.rx.buffer(head);
        let header = Header::from_bytes(&self.memory.read_obj(address).unwrap());
        let mut payload = vec![0; header.payload_len()];
        let place = GuestAddress(address.0 + HEADER_LEN as u64);
        self.memory.read_slice(&mut payload, place).unwrap();
        self.rx.free.push(head);
        Some(Message { header, payload, used_len })
    }

    /// The next message; waits for it.
    pub(crate) fn receive(&mut self) -> Message {
        loop {
            if let Some(message) = self.try_receive() {
                return message;
            }
            self.wait();
        }
    }

    /// The next message, which is to be an announcement.
    pub(crate) fn announcement(&mut self) -> (String, u32, AnnouncementKind) {
        let message = self.receive();
        assert_eq!(message.header.dst, 53, "{message:?}");
        let announcement = Announcement::from_bytes(&message.payload).unwrap();
        assert_eq!(message.header.src, announcement.addr);
        (announcement.name.to_string(), announcement.addr, announcement.kind)
    }

    /// Sends a message and returns the payload of the answer.
    pub(crate) fn ask(&mut self, src: u32, dst: u32, payload: &[u8]) -> Vec<u8> {
        self.send(src, dst, payload);
        let answer = self.receive();
        assert_eq!((answer.header.src, answer.header.dst), (dst, src), "{answer:?}");
        answer.payload
    }

    /// Waits until something is rung.
    pub(crate) fn wait(&mut self) {
        let mut bytes = [0; 256];
        let bell = self.bell.as_mut().expect("a doorbell to wait for");
        // A machine that is stopped and goes on interrupts a read with a time limit.
        let read = std::iter::repeat_with(|| bell.read(&mut bytes))
            .find(|read| !read.as_ref().is_err_and(|error| error.kind() == ErrorKind::Interrupted));
        let count = match read.expect("an endless iterator") {
            Ok(0) => panic!("the core has hung up"),
            Ok(count) => count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => panic!("the core does not ring"),
            Err(error) => panic!("doorbell: {error}"),
        };
        for byte in &bytes[..count] {
            match self.kicks.get_mut(usize::from(*byte)) {
                Some(kicks) => *kicks += 1,
                None => self.heard.push(*byte),
            }
        }
    }

    /// Waits until this byte, which is no kick, is rung.
    pub(crate) fn wait_for(&mut self, byte: u8) {
        while !self.heard.contains(&byte) {
            self.wait();
        }
        self.heard.retain(|other| *other != byte);
    }

    /// Writes `bytes` anywhere, as a host that has gone mad.
    pub(crate) fn scribble(&self, offset: u64, bytes: &[u8]) {
        self.memory.write_slice(bytes, GuestAddress(self.base + offset)).unwrap();
    }
}
