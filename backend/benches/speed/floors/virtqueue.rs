//! What it costs to take chains off a virtqueue and to give them back with the virtio-queue crate, on one core.

use std::hint::black_box;
use std::time::{Duration, Instant};

use virtio_queue::desc::split::Descriptor;
use virtio_queue::{Queue, QueueOwnedT, QueueT};
use vm_memory::{Address, Bytes, GuestAddress, GuestMemoryMmap};

use crate::cores::{FAR, pin};
use crate::repeat::{Samples, repeat};
use crate::report::Report;

/// Entries of the queue: as many as Linux uses.
const SIZE: u16 = 256;
/// Chains that are taken before they are given back, where that is more than one.
const BATCH: usize = 32;
/// Bytes of a chain's one buffer.
const BUFFER: u32 = 512;

const DESCRIPTORS: GuestAddress = GuestAddress(0x1000);
const AVAILABLE: GuestAddress = GuestAddress(0x3000);
const USED: GuestAddress = GuestAddress(0x4000);
const BUFFERS: GuestAddress = GuestAddress(0x1_0000);
const MEMORY: usize = 0x4_0000;

/// Measures a queue of the crate.
pub(crate) fn measure(report: &mut Report) {
    pin(FAR);
    let mut device = Device::new();
    let what = "virtio-queue crate, pop and push";
    report.floor("virtqueue_pop_push", what, &device.laps(what, Device::one_by_one));
    let what = "virtio-queue crate, pop and push, 32 at a time";
    report.floor("virtqueue_pop_push_batch_32", what, &device.laps(what, Device::in_batches));
}

struct Device {
    memory: GuestMemoryMmap,
    queue: Queue,
    available: u16,
}

impl Device {
    fn new() -> Self {
        let memory = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), MEMORY)]).expect("memory");
        for index in 0..SIZE {
            let number = u64::from(index);
            let buffer = BUFFERS.unchecked_add(number * u64::from(BUFFER));
            let descriptor = Descriptor::new(buffer.raw_value(), BUFFER, 0, 0);
            memory.write_obj(descriptor, DESCRIPTORS.unchecked_add(16 * number)).expect("descriptor");
            memory.write_obj(index, AVAILABLE.unchecked_add(4 + 2 * number)).expect("available entry");
        }
        let mut queue = Queue::new(SIZE).expect("queue");
        queue.try_set_desc_table_address(DESCRIPTORS).expect("descriptor table");
        queue.try_set_avail_ring_address(AVAILABLE).expect("available ring");
        queue.try_set_used_ring_address(USED).expect("used ring");
        queue.set_ready(true);
        assert!(queue.is_valid(&memory), "a queue in its memory");
        Device { memory, queue, available: 0 }
    }

    /// Whole rings of chains, taken and given back by `lap`.
    fn laps(&mut self, what: &str, mut lap: impl FnMut(&mut Self)) -> Samples {
        repeat(what, |operations| {
            let mut time = Duration::ZERO;
            for _ in 0..operations / u32::from(SIZE) {
                self.available = self.available.wrapping_add(SIZE);
                self.memory.write_obj(self.available, AVAILABLE.unchecked_add(2)).expect("available index");
                let start = Instant::now();
                lap(self);
                time += start.elapsed();
            }
            time
        })
    }

    fn one_by_one(&mut self) {
        while let Some(mut chain) = self.queue.pop_descriptor_chain(&self.memory) {
            black_box(chain.next().expect("one descriptor"));
            self.queue.add_used(&self.memory, chain.head_index(), 0).expect("used");
        }
    }

    fn in_batches(&mut self) {
        let mut heads = [0; BATCH];
        for _ in 0..usize::from(SIZE) / BATCH {
            let chains = self.queue.iter(&self.memory).expect("available chains");
            for (head, mut chain) in heads.iter_mut().zip(chains) {
                black_box(chain.next().expect("one descriptor"));
                *head = chain.head_index();
            }
            for head in heads {
                self.queue.add_used(&self.memory, head, 0).expect("used");
            }
        }
    }
}
