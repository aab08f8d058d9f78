//! Our device's side of a virtqueue held against the `virtio-queue` crate's, with the same guest.
//!
//! The guest does what it likes, sensible or wild, while the devices look away. Then both take all that is available, read or
//! fill it, give it back, decide whether to interrupt, and ask for a kick; after that the two guests' memories have to be the
//! same to the last byte. Ours may refuse a chain that the crate takes, since it promises more: a chain is in one direction,
//! within the guest's memory and not longer than a message can be. What it takes, it has to see as the crate does.

use std::fs::File;
use std::sync::Arc;

use libfuzzer_sys::arbitrary::{Result, Unstructured};
use rustix::event::{EventfdFlags, eventfd};
use vhost_device_rpmsg::guest::queue::QueueFault;
use vhost_device_rpmsg::guest::{Direction, Queue};
use virtio_queue::desc::split::Descriptor;
use virtio_queue::{Queue as Reference, QueueOwnedT, QueueT};
use vm_memory::{Bytes, GuestAddress, GuestMemoryBackend, GuestMemoryMmap, GuestMemoryRegion};

use crate::guest_queue::{AVAIL, BUFFERS, DESCRIPTORS, Guest, REGIONS, USED, setup};

/// `VIRTQ_AVAIL_F_NO_INTERRUPT`
const NO_INTERRUPT: u16 = 1;

/// The data are the steps.
pub fn run(data: &[u8]) {
    let _ended = steps(&mut Unstructured::new(data));
}

fn steps(data: &mut Unstructured<'_>) -> Result<()> {
    let mut both = Both::new(data)?;
    while !data.is_empty() {
        for _ in 0..data.int_in_range(1..=8)? {
            both.guest.step(data)?;
        }
        both.mirror();
        let direction = if data.arbitrary()? { Direction::ToGuest } else { Direction::FromGuest };
        if both.serve(direction, data.arbitrary()?).is_none() {
            return Ok(());
        }
        both.ask_for_kick();
        both.compare();
    }
    Ok(())
}

/// Both devices, each with a guest of its own.
struct Both {
    guest: Guest,
    ours: Queue,
    /// What ours interrupts the guest by.
    call: File,
    memory: GuestMemoryMmap,
    reference: Reference,
    event_idx: bool,
}

impl Both {
    fn new(data: &mut Unstructured<'_>) -> Result<Self> {
        let memory = Arc::new(GuestMemoryMmap::from_ranges(&REGIONS).expect("two regions"));
        let size = 1 << data.int_in_range(0..=6)?;
        let (index, event_idx): (u16, bool) = (data.arbitrary()?, data.arbitrary()?);
        for ring in [USED, AVAIL] {
            memory.write_obj(index, GuestAddress(ring + 2)).expect("mapped");
        }
        let call = File::from(eventfd(0, EventfdFlags::CLOEXEC).expect("an event fd"));
        let mut setup = setup(&memory, size, event_idx);
        setup.call = Some(call.try_clone().expect("the same event fd"));
        let mut ours = Queue::new(setup).expect("a sensible queue");
        // It interrupts the guest once in any case.
        ours.publish();

        let mut reference = Reference::new(size).expect("a size that can be");
        reference.try_set_desc_table_address(GuestAddress(DESCRIPTORS)).expect("aligned");
        reference.try_set_avail_ring_address(GuestAddress(AVAIL)).expect("aligned");
        reference.try_set_used_ring_address(GuestAddress(USED)).expect("aligned");
        reference.set_event_idx(event_idx);
        reference.set_next_avail(index);
        reference.set_next_used(index);
        reference.set_ready(true);

        let other = GuestMemoryMmap::from_ranges(&REGIONS).expect("two regions");
        let both = Both { guest: Guest::new(memory, size), ours, call, memory: other, reference, event_idx };
        both.was_called();
        Ok(both)
    }

    /// The other guest has done the same.
    fn mirror(&self) {
        for region in self.guest.memory().iter() {
            let mut bytes = vec![0; region.size()];
            self.guest.memory().read_slice(&mut bytes, region.start_addr()).expect("mapped");
            self.memory.write_slice(&bytes, region.start_addr()).expect("mapped");
        }
    }

    /// Takes all that is available and gives it back. `None` if the queue cannot be gone on with.
    fn serve(&mut self, direction: Direction, filling: u8) -> Option<()> {
        let mut served = 0;
        loop {
            let found = self.ours.peek(direction);
            let chain = self.reference.iter(&self.memory).map(|mut chains| chains.next());
            let (taken, chain) = match (found, chain) {
                (Ok(None), Ok(None)) => break,
                (Ok(Some(taken)), Ok(Some(chain))) => (taken, chain),
                (Err(QueueFault::IndexJump { .. }), Err(_)) => return None,
                (Err(QueueFault::Head { .. }), Ok(Some(chain))) => {
                    assert!(chain.head_index() >= self.reference.size(), "a descriptor of the table");
                    return None;
                }
                (ours, theirs) => panic!("found {ours:?}, but the crate has {theirs:?}"),
            };
            let head = chain.head_index();
            let descriptors: Vec<Descriptor> = chain.collect();
            let mut written = 0;
            if taken.is_ok() {
                assert!(
                    descriptors.iter().all(|one| one.is_write_only() == (direction == Direction::ToGuest))
                );
                written = self.work(direction, filling, &descriptors);
            }
            self.ours.complete(written);
            self.reference.add_used(&self.memory, head, written).expect("a descriptor of the table");
            served += 1;
        }
        self.ours.publish();
        let is_called = self.was_called();
        let flags: u16 = self.memory.read_obj(GuestAddress(AVAIL)).expect("mapped");
        let expected = match self.event_idx {
            true => self.reference.needs_notification(&self.memory).expect("mapped"),
            // The crate does not know the flag.
            false => served > 0 && flags & NO_INTERRUPT == 0,
        };
        assert_eq!(is_called, expected, "whether the guest is interrupted for {served} chains");
        Some(())
    }

    /// Reads or fills what both have found. Returns how many bytes were written.
    fn work(&self, direction: Direction, filling: u8, descriptors: &[Descriptor]) -> u32 {
        let len = descriptors.iter().map(|one| one.len() as usize).sum();
        assert_eq!(self.ours.chain_len(), len, "bytes of the chain");
        let mut bytes = vec![filling; len];
        if direction == Direction::FromGuest {
            assert_eq!(self.ours.read(0, &mut bytes), len);
            let mut others = bytes.as_mut_slice();
            for one in descriptors {
                let mut theirs = vec![0; one.len() as usize];
                self.memory.read_slice(&mut theirs, one.addr()).expect("ours has read it");
                let (mine, rest) = others.split_at_mut(theirs.len());
                assert!(*mine == *theirs, "bytes at {:#x}", one.addr().0);
                others = rest;
            }
            return 0;
        }
        // Where the buffer is the ring itself, it matters who writes what first.
        if descriptors.iter().any(|one| one.addr().0 < BUFFERS) {
            return 0;
        }
        assert_eq!(self.ours.write(0, &bytes), len);
        for one in descriptors {
            self.memory.write_slice(&bytes[..one.len() as usize], one.addr()).expect("ours has written it");
        }
        u32::try_from(len).expect("it fits the guest's memory")
    }

    /// Both ask for a kick, and find out whether it is too late for that.
    fn ask_for_kick(&mut self) {
        let ours = self.ours.arm();
        let theirs = self.reference.enable_notification(&self.memory).expect("mapped");
        assert_eq!(ours, theirs, "whether there is more");
        self.compare();
        self.ours.disarm();
        self.reference.disable_notification(&self.memory).expect("mapped");
    }

    /// Whether ours has interrupted the guest since the last time.
    fn was_called(&self) -> bool {
        rustix::io::read(&self.call, &mut [0_u8; 8]).is_ok()
    }

    /// What the two guests see is the same.
    fn compare(&self) {
        for region in self.memory.iter() {
            let [mut ours, mut theirs] = [(); 2].map(|()| vec![0; region.size()]);
            self.guest.memory().read_slice(&mut ours, region.start_addr()).expect("mapped");
            self.memory.read_slice(&mut theirs, region.start_addr()).expect("mapped");
            let differs = ours.iter().zip(&theirs).position(|(one, other)| one != other);
            assert_eq!(differs, None, "offset in the region at {:#x}", region.start_addr().0);
        }
    }
}
