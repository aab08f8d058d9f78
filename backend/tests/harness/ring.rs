//! The driver's side of a split virtqueue, as Linux `drivers/virtio/virtio_ring.c` plays it.
//!
//! It publishes every chain at once, suppresses and asks for notifications as Linux does, and holds the device to
//! completing in ring order: a used entry out of order, of an unknown chain or beyond what was made available is an
//! invariant violation and panics. Hostile tests build chains of their own with
//! [`DriverRing::take_descriptor`], [`DriverRing::write_descriptor`] and [`DriverRing::hand_over`].

use std::collections::VecDeque;
use std::sync::atomic::{Ordering, fence};

use vhost::VringConfigData;
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use super::ram::Ram;

/// `VRING_DESC_F_NEXT`
pub const DESC_NEXT: u16 = 1;
/// `VRING_DESC_F_WRITE`
pub const DESC_WRITE: u16 = 2;
/// `VRING_DESC_F_INDIRECT`
pub const DESC_INDIRECT: u16 = 4;
/// `VRING_AVAIL_F_NO_INTERRUPT` and `VRING_USED_F_NO_NOTIFY`
const SUPPRESS: u16 = 1;

/// Bytes of one descriptor.
pub const DESC_LEN: u64 = 16;
/// What a chain is added with that the driver does not account for, because a test has made it by hand.
pub const BY_HAND: u16 = u16::MAX;

/// Where a ring lies in guest memory, and how many entries it has.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    /// Number of entries, a power of two.
    pub size: u16,
    /// Guest physical address of the descriptor table.
    pub desc: u64,
    /// Guest physical address of the available ring.
    pub avail: u64,
    /// Guest physical address of the used ring.
    pub used: u64,
}

impl Place {
    /// Lays the three parts one behind the other from `base` on, as a driver that allocates them together does.
    pub fn at(base: u64, size: u16) -> Self {
        let entries = u64::from(size);
        let avail = base + DESC_LEN * entries;
        let used = (avail + 6 + 2 * entries).next_multiple_of(4);
        Place { size, desc: base, avail, used }
    }
}

/// A descriptor as it stands in the table.
#[derive(Clone, Copy, Debug, Default)]
pub struct Descriptor {
    pub addr: u64,
    pub len: u32,
    pub flags: u16,
    pub next: u16,
}

impl Descriptor {
    /// The descriptor's bytes.
    pub fn to_bytes(self) -> [u8; 16] {
        let mut bytes = [0; 16];
        bytes[0..8].copy_from_slice(&self.addr.to_le_bytes());
        bytes[8..12].copy_from_slice(&self.len.to_le_bytes());
        bytes[12..14].copy_from_slice(&self.flags.to_le_bytes());
        bytes[14..16].copy_from_slice(&self.next.to_le_bytes());
        bytes
    }
}

/// A piece of guest memory that a chain is made of.
#[derive(Clone, Copy, Debug)]
pub struct Segment {
    pub addr: u64,
    pub len: u32,
}

/// Who may write to the segments of a chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    DeviceReads,
    DeviceWrites,
}

/// A chain that the device has given back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Used {
    /// What the chain was added with.
    pub token: u16,
    /// Bytes the device says it has written.
    pub len: u32,
}

/// A chain that the device has.
#[derive(Clone, Copy, Debug)]
struct InFlight {
    head: u16,
    descriptors: u16,
    token: u16,
}

/// The driver's side of one virtqueue.
pub struct DriverRing {
    name: &'static str,
    ram: Ram,
    place: Place,
    event_idx: bool,
    kick: EventFd,
    call: EventFd,
    /// Chains at the device, in the order they were made available.
    in_flight: VecDeque<InFlight>,
    /// Descriptors that are in no chain.
    free: VecDeque<u16>,
    avail_idx: u16,
    last_used: u16,
    /// Chains published since the last look whether to kick.
    added: u16,
    callbacks: bool,
    kicks: u64,
}

impl DriverRing {
    /// Clears the ring's memory and starts with nothing available.
    pub fn new(name: &'static str, ram: &Ram, place: Place, event_idx: bool) -> Self {
        assert!(place.size.is_power_of_two(), "{name} ring of {} entries", place.size);
        let mut ring = DriverRing {
            name,
            ram: ram.clone(),
            place,
            event_idx,
            kick: EventFd::new(EFD_NONBLOCK).expect("kick eventfd"),
            call: EventFd::new(EFD_NONBLOCK).expect("call eventfd"),
            in_flight: VecDeque::new(),
            free: VecDeque::new(),
            avail_idx: 0,
            last_used: 0,
            added: 0,
            callbacks: true,
            kicks: 0,
        };
        ring.reset(event_idx);
        ring
    }

    /// What a new driver does with the ring: clears its memory and begins at zero. The event fds stay, they are the VMM's.
    pub fn reset(&mut self, event_idx: bool) {
        let Place { size, desc, avail, used } = self.place;
        let entries = usize::from(size);
        self.ram.zero(desc, 16 * entries);
        self.ram.zero(avail, 6 + 2 * entries);
        self.ram.zero(used, 6 + 8 * entries);
        self.event_idx = event_idx;
        self.in_flight.clear();
        self.free = (0..self.place.size).collect();
        self.avail_idx = 0;
        self.last_used = 0;
        self.added = 0;
        self.callbacks = true;
    }

    /// Where the ring lies.
    pub fn place(&self) -> Place {
        self.place
    }

    /// The ring's addresses as the VMM passes them on.
    pub fn config(&self) -> VringConfigData {
        VringConfigData {
            queue_max_size: self.place.size,
            queue_size: self.place.size,
            flags: 0,
            desc_table_addr: self.ram.host_address(self.place.desc),
            used_ring_addr: self.ram.host_address(self.place.used),
            avail_ring_addr: self.ram.host_address(self.place.avail),
            log_addr: None,
        }
    }

    /// The event fd by which the driver tells of available chains.
    pub fn kick_fd(&self) -> &EventFd {
        &self.kick
    }

    /// The event fd by which the device tells of used chains.
    pub fn call_fd(&self) -> &EventFd {
        &self.call
    }

    /// Takes another event fd for the device to call, as QEMU does when an interrupt vector is masked and unmasked.
    /// The old one comes back.
    pub fn replace_call_fd(&mut self) -> EventFd {
        std::mem::replace(&mut self.call, EventFd::new(EFD_NONBLOCK).expect("call eventfd"))
    }

    /// Chains at the device.
    pub fn in_flight(&self) -> usize {
        self.in_flight.len()
    }

    /// How often the driver had to kick.
    pub fn kicks(&self) -> u64 {
        self.kicks
    }

    /// The driver's available index.
    pub fn avail_idx(&self) -> u16 {
        self.avail_idx
    }

    /// The device's used index, from memory.
    pub fn used_idx(&self) -> u16 {
        self.ram.load(self.place.used + 2, Ordering::Acquire)
    }

    /// Whether so many descriptors are free.
    pub fn has_room(&self, descriptors: usize) -> bool {
        self.free.len() >= descriptors
    }

    /// Makes a chain of segments available. `token` comes back with [`DriverRing::pop`].
    pub fn add(&mut self, segments: &[Segment], access: Access, token: u16) {
        assert!(!segments.is_empty() && self.has_room(segments.len()), "{} ring is full", self.name);
        let mut ids = self.free.drain(..segments.len()).peekable();
        let head = *ids.peek().expect("one segment at least");
        let mut descriptors = 0;
        for segment in segments {
            let id = ids.next().expect("room checked above");
            let entry = link(*segment, access, ids.peek().copied());
            write_descriptor(&self.ram, self.place, id, entry);
            descriptors += 1;
        }
        drop(ids);
        self.hand_over(head, descriptors, token);
    }

    /// The same by way of an indirect table at `table`, which takes one descriptor of the ring.
    pub fn add_indirect(&mut self, segments: &[Segment], access: Access, table: u64, token: u16) {
        assert!(self.has_room(1), "{} ring is full", self.name);
        let mut at = table;
        let mut left = segments.len();
        for (segment, id) in segments.iter().zip(1..) {
            left -= 1;
            let entry = link(*segment, access, (left > 0).then_some(id));
            self.ram.write(at, &entry.to_bytes());
            at += DESC_LEN;
        }
        let id = self.free.pop_front().expect("room checked above");
        let len = u32::try_from(at - table).expect("a short table");
        self.write_descriptor(id, Descriptor { addr: table, len, flags: DESC_INDIRECT, next: 0 });
        self.hand_over(id, 1, token);
    }

    /// Takes a descriptor that is in no chain, to build a chain by hand.
    pub fn take_descriptor(&mut self) -> u16 {
        self.free.pop_front().unwrap_or_else(|| panic!("{} ring is full", self.name))
    }

    /// Makes a chain available that begins at `head`. When the device gives it back, so many descriptors are free again,
    /// following the links in the table.
    pub fn hand_over(&mut self, head: u16, descriptors: u16, token: u16) {
        self.in_flight.push_back(InFlight { head, descriptors, token });
        self.publish(head);
    }

    /// Writes an entry of the descriptor table as it is.
    pub fn write_descriptor(&self, id: u16, descriptor: Descriptor) {
        write_descriptor(&self.ram, self.place, id, descriptor);
    }

    /// Puts `head` into the available ring and publishes the new index, whatever `head` is.
    pub fn publish(&mut self, head: u16) {
        let slot = self.avail_idx % self.place.size;
        self.ram.store(self.place.avail + 4 + 2 * u64::from(slot), head, Ordering::Relaxed);
        self.avail_idx = self.avail_idx.wrapping_add(1);
        self.added = self.added.wrapping_add(1);
        self.ram.store(self.place.avail + 2, self.avail_idx, Ordering::Release);
    }

    /// Kicks the device if it wants to hear of what was published since the last time.
    pub fn kick(&mut self) {
        fence(Ordering::SeqCst);
        let old = self.avail_idx.wrapping_sub(self.added);
        let added = std::mem::take(&mut self.added);
        let wanted = if self.event_idx {
            let avail_event = self.avail_event();
            // vring_need_event() of include/uapi/linux/virtio_ring.h
            self.avail_idx.wrapping_sub(avail_event).wrapping_sub(1) < added && self.avail_idx != old
        } else {
            self.ram.load(self.place.used, Ordering::Relaxed) & SUPPRESS == 0
        };
        if wanted {
            self.force_kick();
        }
    }

    /// Whether the device wants to hear of the next chain.
    pub fn is_asked_to_kick(&self) -> bool {
        if self.event_idx {
            self.avail_event() == self.avail_idx
        } else {
            self.ram.load(self.place.used, Ordering::Relaxed) & SUPPRESS == 0
        }
    }

    fn avail_event(&self) -> u16 {
        self.ram.load(self.place.used + 4 + 8 * u64::from(self.place.size), Ordering::Relaxed)
    }

    /// Kicks the device whether it wants to hear or not.
    pub fn force_kick(&mut self) {
        self.kicks += 1;
        self.kick.write(1).expect("kick");
    }

    /// Whether the device has given back a chain that was not taken yet.
    pub fn has_used(&self) -> bool {
        self.used_idx() != self.last_used
    }

    /// Takes the next chain that the device has given back.
    pub fn pop(&mut self) -> Option<Used> {
        let used_idx = self.used_idx();
        if used_idx == self.last_used {
            return None;
        }
        let ahead = used_idx.wrapping_sub(self.last_used);
        let Some(expected) = self.in_flight.pop_front() else {
            panic!("INVARIANT VIOLATION: {} ring: {ahead} chains used with none at the device", self.name);
        };
        let slot = u64::from(self.last_used % self.place.size);
        let [a, b, c, d, e, f, g, h] = self.ram.read_array(self.place.used + 4 + 8 * slot);
        let (id, len) = (u32::from_le_bytes([a, b, c, d]), u32::from_le_bytes([e, f, g, h]));
        assert_eq!(
            id,
            u32::from(expected.head),
            "INVARIANT VIOLATION: {} ring: used entry {} out of ring order",
            self.name,
            self.last_used
        );
        assert!(
            usize::from(ahead) <= self.in_flight.len() + 1,
            "INVARIANT VIOLATION: {} ring: {ahead} chains used of {} at the device",
            self.name,
            self.in_flight.len() + 1
        );
        self.last_used = self.last_used.wrapping_add(1);
        self.release(expected);
        if self.callbacks && self.event_idx {
            self.ask_for_call();
        }
        Some(Used { token: expected.token, len })
    }

    /// Gives the descriptors of a chain back to the free ones; their ids are read off the table again.
    fn release(&mut self, chain: InFlight) {
        let mut id = chain.head;
        for left in (0..chain.descriptors).rev() {
            self.free.push_back(id);
            if left > 0 {
                id = self.ram.load(self.place.desc + DESC_LEN * u64::from(id) + 14, Ordering::Relaxed);
            }
        }
    }

    /// `virtqueue_disable_cb()`: the device may keep quiet about used chains.
    pub fn disable_callbacks(&mut self) {
        self.callbacks = false;
        if self.event_idx {
            self.ram.store(self.used_event(), 0, Ordering::Relaxed);
        } else {
            self.ram.store(self.place.avail, SUPPRESS, Ordering::Relaxed);
        }
    }

    /// `virtqueue_enable_cb()`: the device is to tell of the next used chain. Whoever sleeps looks at
    /// [`DriverRing::has_used`] once more afterwards.
    pub fn enable_callbacks(&mut self) {
        self.callbacks = true;
        if !self.event_idx {
            self.ram.store(self.place.avail, 0, Ordering::Relaxed);
        }
        self.ask_for_call();
    }

    fn ask_for_call(&self) {
        self.ram.store(self.used_event(), self.last_used, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    fn used_event(&self) -> u64 {
        self.place.avail + 4 + 2 * u64::from(self.place.size)
    }
}

fn write_descriptor(ram: &Ram, place: Place, id: u16, descriptor: Descriptor) {
    ram.write(place.desc + DESC_LEN * u64::from(id), &descriptor.to_bytes());
}

fn link(segment: Segment, access: Access, next: Option<u16>) -> Descriptor {
    let write = if access == Access::DeviceWrites { DESC_WRITE } else { 0 };
    let more = if next.is_some() { DESC_NEXT } else { 0 };
    Descriptor { addr: segment.addr, len: segment.len, flags: write | more, next: next.unwrap_or(0) }
}
