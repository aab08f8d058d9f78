//! A guest's queue in memory that changes between any two steps of the device.
//!
//! The steps are taken from the data: the guest writes something sensible or something wild to its rings, the device
//! looks, reads, writes, completes, publishes, asks for kicks or takes the ring up anew. Checked are the bounds of all that
//! the device is given, and that what it returns stands in the used ring, in order.

use std::fs::File;
use std::sync::Arc;

use libfuzzer_sys::arbitrary::{Result, Unstructured};
use rustix::event::{EventfdFlags, eventfd};
use vhost_device_rpmsg::guest::memory::GuestMemory;
use vhost_device_rpmsg::guest::queue::QueueSetup;
use vhost_device_rpmsg::guest::{Direction, Queue};
use vm_memory::{Bytes, GuestAddress, GuestMemoryBackend, GuestMemoryMmap};

/// Two regions, the second far away.
pub(crate) const REGIONS: [(GuestAddress, usize); 2] =
    [(GuestAddress(0), 0x8000), (GuestAddress(0x1_0000_0000), 0x1000)];
pub(crate) const DESCRIPTORS: u64 = 0x1000;
pub(crate) const AVAIL: u64 = 0x2000;
pub(crate) const USED: u64 = 0x3000;
/// Where sensible indirect tables are; they need no alignment.
const INDIRECT: u64 = 0x4001;
/// Where sensible buffers are.
pub(crate) const BUFFERS: u64 = 0x5000;

/// The guest's side.
#[derive(Clone)]
pub(crate) struct Guest {
    memory: Arc<GuestMemoryMmap>,
    /// Entries of the queue.
    size: u16,
}

/// A guest and the device's view of its queue.
pub(crate) struct Rig {
    pub(crate) guest: Guest,
    pub(crate) queue: Queue,
}

impl Rig {
    /// A queue of 1 to 64 entries.
    pub(crate) fn new(data: &mut Unstructured<'_>) -> Result<Self> {
        let memory = Arc::new(GuestMemoryMmap::from_ranges(&REGIONS).expect("two regions"));
        let size = 1 << data.int_in_range(0..=6)?;
        // Any index to begin with.
        let index: u16 = data.arbitrary()?;
        memory.write_obj(index, GuestAddress(USED + 2)).expect("mapped");
        memory.write_obj(index, GuestAddress(AVAIL + 2)).expect("mapped");
        let setup = setup(&memory, size, data.arbitrary()?);
        let queue = Queue::new(setup).expect("a sensible queue");
        Ok(Rig { guest: Guest::new(memory, size), queue })
    }

    /// What the device may touch of the chain that it has found: all within the guest's memory, and as much as it says.
    pub(crate) fn check_pieces(&self) {
        let mut total = 0;
        for piece in self.queue.pieces(0, usize::MAX) {
            let start = piece.ptr_guard().as_ptr().addr();
            let is_inside = self.guest.memory.iter().any(|region| {
                let base = region.as_ptr().addr();
                start >= base && start + piece.len() <= base + region.size()
            });
            assert!(is_inside, "a piece of {} bytes outside of the guest's memory", piece.len());
            total += piece.len();
        }
        assert_eq!(total, self.queue.chain_len(), "length of the chain");
    }
}

impl Guest {
    /// A guest with a queue of so many entries.
    pub(crate) fn new(memory: Arc<GuestMemoryMmap>, size: u16) -> Self {
        Guest { memory, size }
    }

    /// Its memory.
    pub(crate) fn memory(&self) -> &GuestMemoryMmap {
        &self.memory
    }

    /// Does one thing.
    pub(crate) fn step(&self, data: &mut Unstructured<'_>) -> Result<()> {
        let entry = u64::from(data.arbitrary::<u16>()? % self.size);
        match data.int_in_range(0..=6)? {
            0 => self.write(DESCRIPTORS + 16 * entry, &descriptor(data)?),
            1 => self.write(INDIRECT + 16 * (entry % 8), &descriptor(data)?),
            2 => {
                self.write(AVAIL + 4 + 2 * entry, &(data.arbitrary::<u16>()? % (self.size + 1)).to_le_bytes())
            }
            3 => {
                // One or a few more, as a driver does.
                let index: u16 = self.memory.read_obj(GuestAddress(AVAIL + 2)).expect("mapped");
                let index = index.wrapping_add(data.int_in_range(1..=4)?);
                self.write(AVAIL + 2, &index.to_le_bytes());
            }
            4 => self.write(AVAIL, &data.arbitrary::<u16>()?.to_le_bytes()),
            5 => {
                // The guest wants to be interrupted about now.
                let used: u16 = self.memory.read_obj(GuestAddress(USED + 2)).expect("mapped");
                let event = used.wrapping_sub(2).wrapping_add(data.int_in_range(0..=7)?);
                self.write(AVAIL + 4 + 2 * u64::from(self.size), &event.to_le_bytes());
            }
            // Anything anywhere.
            _ => self.write(data.int_in_range(0..=0x7FF0)?, &data.arbitrary::<[u8; 8]>()?),
        }
        Ok(())
    }

    fn write(&self, at: u64, bytes: &[u8]) {
        self.memory.write_slice(bytes, GuestAddress(at)).expect("mapped");
    }
}

/// A queue with sensible addresses.
pub(crate) fn setup(memory: &Arc<GuestMemoryMmap>, size: u16, event_idx: bool) -> QueueSetup {
    let event = || File::from(eventfd(0, EventfdFlags::CLOEXEC).expect("an event fd"));
    QueueSetup {
        memory: GuestMemory::new(Arc::clone(memory)),
        size,
        descriptors: DESCRIPTORS,
        avail: AVAIL,
        used: USED,
        event_idx,
        features: 0,
        kick: event(),
        call: Some(event()),
        line: Arc::default(),
    }
}

/// A descriptor that is often sensible.
fn descriptor(data: &mut Unstructured<'_>) -> Result<[u8; 16]> {
    let flags: u8 = data.int_in_range(0..=7)?;
    let (address, len) = match data.int_in_range(0..=3)? {
        0 | 1 if flags & 4 != 0 => (INDIRECT, u32::from(data.int_in_range(0..=9_u8)?) * 16),
        0 => (BUFFERS + u64::from(data.arbitrary::<u8>()?) * 8, u32::from(data.arbitrary::<u8>()?)),
        // About the end of a region.
        1 => (0x8000 - u64::from(data.arbitrary::<u8>()?), u32::from(data.arbitrary::<u8>()?)),
        2 => (0x1_0000_0000 + u64::from(data.arbitrary::<u16>()?), u32::from(data.arbitrary::<u16>()?)),
        _ => (data.arbitrary()?, data.arbitrary()?),
    };
    let next: u16 = if data.ratio(15, 16)? { data.int_in_range(0..=64)? } else { data.arbitrary()? };
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&address.to_le_bytes());
    bytes[8..12].copy_from_slice(&len.to_le_bytes());
    bytes[12..14].copy_from_slice(&u16::from(flags).to_le_bytes());
    bytes[14..].copy_from_slice(&next.to_le_bytes());
    Ok(bytes)
}

/// The data are the steps.
pub fn run(data: &[u8]) {
    // Data that ends within a step ends the run, too.
    let _ended = steps(&mut Unstructured::new(data));
}

fn steps(data: &mut Unstructured<'_>) -> Result<()> {
    let mut rig = Rig::new(data)?;
    // Whether a chain was found that is not completed.
    let mut found = false;
    let mut next = rig.queue.next_index();
    while !data.is_empty() {
        match data.int_in_range(0..=9)? {
            0..=4 => rig.guest.step(data)?,
            5 | 6 => {
                let direction = if data.arbitrary()? { Direction::ToGuest } else { Direction::FromGuest };
                match rig.queue.peek(direction) {
                    Ok(Some(Ok(()))) => {
                        found = true;
                        rig.check_pieces();
                        work(&rig, direction, data)?;
                    }
                    Ok(Some(Err(_))) => found = true,
                    Ok(None) => found = false,
                    Err(_) => {
                        assert!(matches!(rig.queue.peek(direction), Ok(None)), "a fault is told once");
                        assert!(!rig.queue.arm(), "a broken queue has nothing");
                        return Ok(());
                    }
                }
            }
            7 if found => {
                let written: u32 = data.arbitrary()?;
                rig.queue.complete(written);
                let entry = USED + 4 + 8 * u64::from(next % rig.guest.size);
                let element: [u32; 2] = rig.guest.memory.read_obj(GuestAddress(entry)).expect("mapped");
                assert!(element[0] < u32::from(rig.guest.size), "a chain of the queue's");
                assert_eq!(element[1], written);
                next = next.wrapping_add(1);
                assert_eq!(rig.queue.next_index(), next, "in ring order");
                found = false;
            }
            7 | 8 => {
                let before: u16 = rig.guest.memory.read_obj(GuestAddress(USED + 2)).expect("mapped");
                rig.queue.publish();
                let after: u16 = rig.guest.memory.read_obj(GuestAddress(USED + 2)).expect("mapped");
                assert!(after == next || after == before, "what was completed, or nothing new");
            }
            _ => {
                if rig.queue.arm() {
                    rig.queue.disarm();
                }
                rig.queue.drain_kick();
                take_up_anew(&mut rig, data)?;
                next = rig.queue.next_index();
                found = false;
            }
        }
    }
    Ok(())
}

/// The device reads or writes a part of the chain.
fn work(rig: &Rig, direction: Direction, data: &mut Unstructured<'_>) -> Result<()> {
    let (start, len) = (usize::from(data.arbitrary::<u8>()?), usize::from(data.arbitrary::<u8>()?));
    let expected = rig.queue.chain_len().saturating_sub(start).min(len);
    let mut bytes = [0x5A; 256];
    let done = match direction {
        Direction::FromGuest => rig.queue.read(start, &mut bytes[..len]),
        // What is written may hit the rings themselves: the guest's own fault, and nobody else's.
        Direction::ToGuest => rig.queue.write(start, &bytes[..len]),
    };
    assert_eq!(done, expected, "bytes of the chain from {start} on, up to {len}");
    Ok(())
}

/// The front-end sets the ring up anew, at addresses that may be anything.
fn take_up_anew(rig: &mut Rig, data: &mut Unstructured<'_>) -> Result<()> {
    let mut wanted = setup(&rig.guest.memory, rig.guest.size, data.arbitrary()?);
    if data.arbitrary()? {
        wanted.size = data.arbitrary()?;
        for address in [&mut wanted.descriptors, &mut wanted.avail, &mut wanted.used] {
            *address = if data.arbitrary()? {
                0x7F00 + u64::from(data.arbitrary::<u8>()?)
            } else {
                data.arbitrary()?
            };
        }
        // It is only looked at: the checks here know the sensible places alone.
        if let Ok(mut queue) = Queue::new(wanted) {
            let _whatever = queue.peek(Direction::FromGuest);
            queue.publish();
        }
        wanted = setup(&rig.guest.memory, rig.guest.size, data.arbitrary()?);
    }
    rig.queue = Queue::new(wanted).expect("a sensible queue");
    Ok(())
}
