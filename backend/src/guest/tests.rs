//! The device's side of a virtqueue, with the virtio-queue crate as the reference.

use std::fs::File;
use std::io::Read;
use std::sync::Arc;

use proptest::prelude::*;
use rustix::event::{EventfdFlags, eventfd};
use virtio_queue::{Queue as ReferenceQueue, QueueT};
use vm_memory::{ByteValued, Bytes, FileOffset, GuestAddress, GuestMemoryMmap};

use super::chain::{ChainError, Direction, MAX_FRAGMENTS};
use super::memory::{GuestMemory, check_files};
use super::queue::{Queue, QueueFault, QueueSetup, QueueSetupError};

const SIZE: u16 = 16;
const DESCRIPTORS: u64 = 0x1000;
const AVAIL: u64 = 0x2000;
const USED: u64 = 0x3000;
const INDIRECT: u64 = 0x4000;
const BUFFERS: u64 = 0x10000;
const END: u64 = 0x20000;

const NEXT: u16 = 1;
const WRITE: u16 = 2;
const INDIRECT_FLAG: u16 = 4;

struct Ram {
    mappings: Arc<GuestMemoryMmap>,
    call: File,
}

impl Ram {
    fn new() -> Self {
        let mappings =
            GuestMemoryMmap::from_ranges(&[(GuestAddress(0), usize::try_from(END).unwrap())]).unwrap();
        Ram { mappings: Arc::new(mappings), call: event() }
    }

    fn write<T: ByteValued>(&self, value: T, address: u64) {
        self.mappings.write_obj(value, GuestAddress(address)).unwrap();
    }

    fn read<T: ByteValued>(&self, address: u64) -> T {
        self.mappings.read_obj(GuestAddress(address)).unwrap()
    }

    fn descriptor(&self, table: u64, id: u16, address: u64, len: u32, flags: u16, next: u16) {
        let at = table + 16 * u64::from(id);
        self.write(address, at);
        self.write(len, at + 8);
        self.write(flags, at + 12);
        self.write(next, at + 14);
    }

    fn make_available(&self, heads: &[u16]) {
        let index: u16 = self.read(AVAIL + 2);
        for (head, at) in heads.iter().zip(index..) {
            self.write(*head, AVAIL + 4 + 2 * u64::from(at % SIZE));
        }
        self.write(index.wrapping_add(u16::try_from(heads.len()).unwrap()), AVAIL + 2);
    }

    fn setup(&self, event_idx: bool) -> QueueSetup {
        QueueSetup {
            memory: GuestMemory::new(Arc::clone(&self.mappings)),
            size: SIZE,
            descriptors: DESCRIPTORS,
            avail: AVAIL,
            used: USED,
            event_idx,
            features: 0,
            kick: event(),
            call: Some(self.call.try_clone().unwrap()),
            line: Arc::default(),
        }
    }

    fn queue(&self, event_idx: bool) -> Queue {
        Queue::new(self.setup(event_idx)).unwrap()
    }

    /// Interrupts since the last look.
    fn interrupts(&mut self) -> u64 {
        let mut count = [0; 8];
        self.call.read_exact(&mut count).map_or(0, |()| u64::from_ne_bytes(count))
    }
}

fn event() -> File {
    File::from(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).unwrap())
}

/// Takes everything that is available, and returns how many chains that was.
fn drain(queue: &mut Queue) -> usize {
    let mut count = 0;
    while let Some(chain) = queue.peek(Direction::FromGuest).unwrap() {
        chain.unwrap();
        queue.complete(0);
        count += 1;
    }
    count
}

#[test]
fn a_queue_goes_on_at_its_used_index_whatever_the_front_end_says() {
    let ram = Ram::new();
    ram.write(40_u16, USED + 2);
    ram.write(42_u16, AVAIL + 2);
    ram.descriptor(DESCRIPTORS, 0, BUFFERS, 16, 0, 0);
    let mut queue = ram.queue(false);
    assert_eq!((queue.next_index(), drain(&mut queue), queue.next_index()), (40, 2, 42));
}

#[test]
fn the_head_of_a_chain_is_read_and_written_wherever_it_is() {
    let bytes: [u8; 16] = std::array::from_fn(|at| u8::try_from(at + 1).unwrap());
    for (offset, first) in (0..9).flat_map(|offset| [(offset, 16), (offset, 5), (offset, 40)]) {
        let ram = Ram::new();
        let mut queue = ram.queue(false);
        for (head, flags) in [(0, 0), (2, WRITE)] {
            let start = BUFFERS + 0x1000 * u64::from(head) + offset;
            ram.descriptor(DESCRIPTORS, head, start, first, flags | NEXT, head + 1);
            ram.descriptor(DESCRIPTORS, head + 1, start + u64::from(first), 40, flags, 0);
        }
        ram.make_available(&[0, 2]);
        ram.write(bytes, BUFFERS + offset);

        queue.peek(Direction::FromGuest).unwrap().unwrap().unwrap();
        assert_eq!(queue.read_head(), bytes);
        queue.complete(0);
        queue.peek(Direction::ToGuest).unwrap().unwrap().unwrap();
        queue.write_head(bytes);

        assert_eq!(ram.read::<[u8; 16]>(BUFFERS + 0x2000 + offset), bytes);
        assert_eq!(ram.read::<u8>(BUFFERS + 0x2000 + offset + 16), 0);
    }
}

#[test]
fn a_good_chain_is_looked_at_once_and_a_bad_one_again() {
    let ram = Ram::new();
    let mut queue = ram.queue(false);
    ram.descriptor(DESCRIPTORS, 0, BUFFERS, 16, WRITE, 0);
    ram.descriptor(DESCRIPTORS, 1, END, 16, WRITE, 0);
    ram.make_available(&[0, 1]);
    let mut look = |direction| (queue.peek(direction).unwrap().unwrap().is_ok(), queue.chain_len());
    assert_eq!(look(Direction::ToGuest), (true, 16));
    ram.descriptor(DESCRIPTORS, 0, BUFFERS, 32, 0, 0);
    assert_eq!(look(Direction::ToGuest), (true, 16));
    assert_eq!(look(Direction::FromGuest), (true, 32));

    queue.complete(0);

    let mut look = || queue.peek(Direction::ToGuest).unwrap().unwrap().is_ok();
    assert!(!look());
    ram.descriptor(DESCRIPTORS, 1, BUFFERS, 16, WRITE, 0);
    assert!(look());
}

#[test]
fn a_ring_that_was_never_used_is_told_from_one_that_has_wrapped() {
    let ram = Ram::new();
    assert!(ram.queue(false).is_fresh());
    ram.write([3_u32, 56], USED + 4 + 8 * u64::from(SIZE - 1));
    assert!(!ram.queue(false).is_fresh());
}

#[test]
fn completions_go_back_in_order_and_are_seen_once_published() {
    let ram = Ram::new();
    let mut queue = ram.queue(false);
    (0..SIZE).for_each(|id| ram.descriptor(DESCRIPTORS, id, BUFFERS, 16, 0, 0));
    for round in 0..10_000_u16 {
        let heads = [round % SIZE, (round + 5) % SIZE];
        ram.make_available(&heads);
        assert_eq!(drain(&mut queue), 2);
        assert_eq!(ram.read::<u16>(USED + 2), round.wrapping_mul(2), "not yet");
        queue.publish();
        assert_eq!(ram.read::<u16>(USED + 2), round.wrapping_mul(2).wrapping_add(2));
        for (head, at) in heads.into_iter().zip(round.wrapping_mul(2)..) {
            assert_eq!(ram.read::<u32>(USED + 4 + 8 * u64::from(at % SIZE)), u32::from(head));
        }
    }
}

#[test]
fn the_guest_is_interrupted_once_at_the_start_and_then_as_it_wants() {
    let mut ram = Ram::new();
    (0..SIZE).for_each(|id| ram.descriptor(DESCRIPTORS, id, BUFFERS, 16, 0, 0));
    let mut queue = ram.queue(false);
    queue.publish();
    assert_eq!(ram.interrupts(), 1, "what happened before may not have been signalled");
    queue.publish();
    assert_eq!(ram.interrupts(), 0, "nothing new");
    ram.make_available(&[0, 1, 2]);
    drain(&mut queue);
    queue.publish();
    assert_eq!(ram.interrupts(), 1, "one for the batch");
    ram.write(1_u16, AVAIL);
    ram.make_available(&[0]);
    drain(&mut queue);
    queue.publish();
    assert_eq!(ram.interrupts(), 0, "it does not want any");
}

#[test]
fn with_the_event_index_the_guest_is_interrupted_when_its_event_is_reached() {
    let mut ram = Ram::new();
    (0..SIZE).for_each(|id| ram.descriptor(DESCRIPTORS, id, BUFFERS, 16, 0, 0));
    let mut queue = ram.queue(true);
    queue.publish();
    ram.interrupts();
    ram.write(3_u16, AVAIL + 4 + 2 * u64::from(SIZE));
    for (expected, heads) in [(0, &[0, 1][..]), (0, &[2]), (1, &[3]), (0, &[4, 5])] {
        ram.make_available(heads);
        drain(&mut queue);
        queue.publish();
        assert_eq!(ram.interrupts(), expected);
    }
}

#[test]
fn arming_asks_for_the_next_kick_and_sees_what_came_before_it() {
    for event_idx in [false, true] {
        let ram = Ram::new();
        ram.descriptor(DESCRIPTORS, 0, BUFFERS, 16, 0, 0);
        let mut queue = ram.queue(event_idx);
        assert!(!queue.arm());
        queue.disarm();
        ram.make_available(&[0]);
        assert!(queue.arm(), "it came in between");
        assert_eq!(drain(&mut queue), 1);
        assert!(!queue.arm());
        let (flags, event): (u16, u16) = (ram.read(USED), ram.read(USED + 4 + 8 * u64::from(SIZE)));
        assert_eq!((flags, event), (0, u16::from(event_idx)));
    }
}

#[test]
fn impossible_rings_are_refused_with_the_part_that_is_wrong() {
    let ram = Ram::new();
    type Change = fn(&mut QueueSetup);
    let cases: [(Change, &str); 6] = [
        (|setup| setup.size = 0, "queue of 0 entries"),
        (|setup| setup.size = 24, "queue of 24 entries"),
        (|setup| setup.size = 2048, "queue of 2048 entries"),
        (|setup| setup.descriptors = END - 16, "descriptor table at guest address 0x1fff0"),
        (|setup| setup.avail = u64::MAX - 1, "available ring"),
        (|setup| setup.used = USED + 1, "used ring at guest address 0x3001"),
    ];
    for (change, expected) in cases {
        let mut setup = ram.setup(false);
        change(&mut setup);
        let error: QueueSetupError = Queue::new(setup).unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
    }
}

#[test]
fn an_index_that_jumps_or_a_head_that_is_none_ends_the_queue_and_is_said_once() {
    let ram = Ram::new();
    let mut queue = ram.queue(false);
    ram.write(SIZE + 1, AVAIL + 2);
    let fault = queue.peek(Direction::FromGuest).unwrap_err();
    assert_eq!(fault, QueueFault::IndexJump { next: 0, found: SIZE + 1, size: SIZE });
    assert!(matches!(queue.peek(Direction::FromGuest), Ok(None)));
    assert!(!queue.arm());

    let ram = Ram::new();
    let mut queue = ram.queue(false);
    ram.make_available(&[SIZE]);
    assert_eq!(queue.peek(Direction::FromGuest).unwrap_err(), QueueFault::Head { found: SIZE, size: SIZE });
}

/// What peeking says of the chain that starts at descriptor 0.
fn peek(ram: &Ram, direction: Direction) -> Result<(), ChainError> {
    let mut queue = ram.queue(false);
    ram.make_available(&[0]);
    queue.peek(direction).unwrap().unwrap()
}

#[test]
fn hostile_chains_are_told_by_what_is_wrong_with_them() {
    let ram = Ram::new();
    ram.descriptor(DESCRIPTORS, 0, BUFFERS, 16, NEXT, 0);
    assert_eq!(peek(&ram, Direction::FromGuest), Err(ChainError::TooMany), "circular");
    ram.descriptor(DESCRIPTORS, 0, BUFFERS, 16, NEXT, SIZE);
    assert_eq!(peek(&ram, Direction::FromGuest), Err(ChainError::Index { found: SIZE, len: SIZE.into() }));
    ram.descriptor(DESCRIPTORS, 0, END - 15, 16, 0, 0);
    assert_eq!(peek(&ram, Direction::FromGuest), Err(ChainError::Address { address: END - 15, len: 16 }));
    ram.descriptor(DESCRIPTORS, 0, u64::MAX, u32::MAX, 0, 0);
    assert!(matches!(peek(&ram, Direction::FromGuest), Err(ChainError::Address { .. })));
    ram.descriptor(DESCRIPTORS, 0, BUFFERS, 16, WRITE, 0);
    assert_eq!(peek(&ram, Direction::FromGuest), Err(ChainError::Direction(Direction::FromGuest)));
    for len in [0, 15, 40] {
        ram.descriptor(DESCRIPTORS, 0, INDIRECT, len, INDIRECT_FLAG, 0);
        assert_eq!(peek(&ram, Direction::FromGuest), Err(ChainError::Indirect { len }));
    }
    ram.descriptor(DESCRIPTORS, 0, INDIRECT, 32, INDIRECT_FLAG | NEXT, 1);
    assert_eq!(
        peek(&ram, Direction::FromGuest),
        Err(ChainError::Indirect { len: 32 }),
        "followed by another"
    );
    ram.descriptor(DESCRIPTORS, 0, INDIRECT, 32, INDIRECT_FLAG, 0);
    ram.descriptor(INDIRECT, 0, INDIRECT, 32, INDIRECT_FLAG, 0);
    assert_eq!(peek(&ram, Direction::FromGuest), Err(ChainError::Indirect { len: 32 }), "nested");
    ram.descriptor(INDIRECT, 0, BUFFERS, 1, NEXT, 2);
    assert_eq!(peek(&ram, Direction::FromGuest), Err(ChainError::Index { found: 2, len: 2 }));
}

#[test]
fn a_message_in_many_pieces_is_read_and_written_as_one() {
    let ram = Ram::new();
    let lens = [1_u32, 15, 0, 3, 40, 7];
    for (id, len) in (0_u16..).zip(lens) {
        let next = if usize::from(id) + 1 < lens.len() { NEXT } else { 0 };
        ram.descriptor(DESCRIPTORS, id, BUFFERS + 0x100 * u64::from(id), len, next | WRITE, id + 1);
    }
    let mut queue = ram.queue(false);
    ram.make_available(&[0]);
    queue.peek(Direction::ToGuest).unwrap().unwrap().unwrap();
    let data: Vec<u8> = (0..66).collect();
    assert_eq!((queue.chain_len(), queue.write(0, &data)), (66, 66));
    let mut back = [0; 50];
    assert_eq!(queue.read(16, &mut back), 50);
    assert_eq!(back, data[16..]);
    assert_eq!(queue.pieces(10, 20).map(|piece| piece.len()).collect::<Vec<_>>(), [6, 3, 11]);
    assert_eq!(queue.write(60, &data), 6, "no more room");
}

#[test]
fn memory_that_is_longer_than_its_file_is_refused() {
    // In steps of the largest pages that there are.
    let file = tempfile::tempfile().unwrap();
    file.set_len(0x30000).unwrap();
    let check = |offset, len| {
        let backing = Some(FileOffset::new(file.try_clone().unwrap(), offset));
        let region = (GuestAddress(0x80000), len, backing);
        check_files(&GuestMemoryMmap::from_ranges_with_files([region]).unwrap())
    };
    check(0x10000, 0x20000).unwrap();
    let error = check(0x20000, 0x20000).unwrap_err().to_string();
    assert!(error.contains("0x20000 bytes at guest address 0x80000 in a file of 0x30000 bytes"), "{error}");
    assert!(error.contains("at least 0x40000"), "{error}");
}

proptest! {
    /// Whatever stands in the tables, a chain that is accepted is the one that the reference finds, and a chain
    /// of the reference's that a message can be is accepted.
    #[test]
    fn chains_are_those_of_the_reference(
        table in proptest::collection::vec((0..END / 16, 0u32..64, 0u16..8, 0..SIZE + 1), usize::from(SIZE)),
        indirect in proptest::collection::vec((0..END / 16, 0u32..64, 0u16..8, 0u16..5), 4),
        indirect_entries in 0u32..6,
        head in 0..SIZE,
        to_guest: bool,
    ) {
        let ram = Ram::new();
        for (id, (slot, len, flags, next)) in (0..).zip(table) {
            let (address, len) = if flags & INDIRECT_FLAG != 0 { (INDIRECT, 16 * indirect_entries) } else { (slot * 16, len) };
            ram.descriptor(DESCRIPTORS, id, address, len, flags, next);
        }
        for (id, (slot, len, flags, next)) in (0..).zip(indirect) {
            ram.descriptor(INDIRECT, id, slot * 16, len, flags, next);
        }
        let direction = if to_guest { Direction::ToGuest } else { Direction::FromGuest };
        let mut queue = ram.queue(false);
        let mut reference = ReferenceQueue::new(SIZE).unwrap();
        reference.set_size(SIZE);
        reference.try_set_desc_table_address(GuestAddress(DESCRIPTORS)).unwrap();
        reference.try_set_avail_ring_address(GuestAddress(AVAIL)).unwrap();
        reference.try_set_used_ring_address(GuestAddress(USED)).unwrap();
        reference.set_ready(true);
        ram.make_available(&[head]);

        let found = queue.peek(direction).unwrap().unwrap();
        let chain = reference.pop_descriptor_chain(&*ram.mappings).unwrap();
        prop_assert_eq!(chain.head_index(), head);
        let expected: Vec<_> = chain.take(64).collect();
        let lens: Vec<_> = queue.pieces(0, usize::MAX).map(|piece| piece.len()).collect();
        if found.is_ok() {
            let wanted: Vec<_> = expected.iter().map(|one| one.len() as usize).filter(|len| *len > 0).collect();
            prop_assert_eq!(lens, wanted);
            prop_assert!(expected.iter().all(|one| one.is_write_only() == to_guest));
        } else if let Some(last) = expected.last() {
            // The reference ends a chain without saying why; what it calls complete must be refused for a reason.
            let reasons = expected.len() > MAX_FRAGMENTS
                || last.has_next()
                || expected.iter().any(|one| one.is_write_only() != to_guest)
                || expected.iter().any(|one| one.addr().0 + u64::from(one.len()) > END)
                || found == Err(ChainError::Indirect { len: 16 * indirect_entries });
            prop_assert!(reasons, "refused without a reason: {:?}", found);
        }
    }
}
