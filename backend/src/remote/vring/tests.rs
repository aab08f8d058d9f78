use super::super::memory::Access;
use super::super::memory::testing::carveouts;
use super::*;

mod exhaustive;

/// Used ring of the remote, written by hand.
struct Remote {
    memory: CarveoutSlice,
    layout: VringLayout,
    index: u16,
}

impl Remote {
    fn use_entry(&mut self, id: u32, len: u32) {
        let entry = self.layout.used + 4 + 8 * usize::from(self.index % self.layout.num);
        self.memory.write_u32(entry, id);
        self.memory.write_u32(entry + 4, len);
        self.set_index(self.index.wrapping_add(1));
    }

    fn set_index(&mut self, index: u16) {
        self.index = index;
        self.memory.write_u16(self.layout.used + 2, index);
    }
}

fn vring(num: u32) -> (Vring, Remote) {
    let layout = VringLayout::new(num, 16).unwrap();
    let memory = carveouts(0x10000, 0x1000, Access::Device).slice(0x1000, layout.size(), 16).unwrap();
    let vring = Vring::new(memory.clone(), layout, 0);
    (vring, Remote { memory, layout, index: 0 })
}

#[test]
fn the_layout_is_that_of_vring_init() {
    let layout = VringLayout::new(256, 4096).unwrap();
    assert_eq!((layout.avail, layout.used, layout.size()), (4096, 8192, 8192 + 6 + 2048));
    let layout = VringLayout::new(2, 4).unwrap();
    assert_eq!((layout.avail, layout.used, layout.size()), (32, 44, 44 + 22));
}

#[test]
fn impossible_geometries_are_refused() {
    for num in [0, 1, 3, 65536, u32::MAX] {
        assert_eq!(VringLayout::new(num, 16), Err(VringLayoutError::Entries { found: num }));
    }
    for align in [0, 2, 24, 1 << 17] {
        assert_eq!(VringLayout::new(256, align), Err(VringLayoutError::Align { found: align }));
    }
}

#[test]
fn what_is_given_is_seen_by_the_remote_only_once_published() {
    let (mut vring, remote) = vring(4);
    vring.describe(3, 0xABCD, 512, true);
    vring.give(3);
    assert_eq!(remote.memory.read_u16(remote.layout.avail + 2), 0);
    assert!(vring.publish());
    assert_eq!(remote.memory.read_u16(remote.layout.avail + 2), 1);
    assert_eq!(remote.memory.read_u16(remote.layout.avail + 4), 3);
    assert_eq!(remote.memory.read_u64(3 * 16), 0xABCD);
    assert!(!vring.publish(), "nothing new, nothing to kick");
}

#[test]
fn a_remote_that_wants_no_kick_gets_none() {
    let (mut vring, remote) = vring(4);
    remote.memory.write_u16(remote.layout.used, USED_NO_NOTIFY);
    vring.give(0);
    assert!(!vring.publish());
}

#[test]
fn buffers_come_back_in_any_order_through_many_rounds() {
    let (mut vring, mut remote) = vring(4);
    for round in 0..50_000_u32 {
        for id in 0..4 {
            vring.give(id);
        }
        vring.publish();
        for id in [2, 0, 3, 1] {
            remote.use_entry(id, round);
        }
        for id in [2, 0, 3, 1] {
            assert_eq!(vring.take_used(), Ok(Some(Used { id, len: round })));
        }
        assert_eq!(vring.take_used(), Ok(None));
    }
    assert_eq!(vring.bogus_used(), 0);
}

#[test]
fn used_entries_that_name_no_buffer_of_the_remote_are_counted_and_passed_over() {
    let (mut vring, mut remote) = vring(8);
    for id in 0..6 {
        vring.give(id);
    }
    vring.publish();
    for id in [1, 1, 7, 8, 0x1_0002, 5] {
        remote.use_entry(id, 0);
    }
    assert_eq!(vring.take_used(), Ok(Some(Used { id: 1, len: 0 })));
    assert_eq!(vring.take_used(), Ok(Some(Used { id: 5, len: 0 })));
    assert_eq!(vring.take_used(), Ok(None));
    assert_eq!(vring.bogus_used(), 4);
}

#[test]
fn an_index_beyond_what_was_given_is_a_fault() {
    let (mut vring, mut remote) = vring(8);
    vring.give(0);
    vring.publish();
    remote.set_index(2);
    assert_eq!(vring.take_used(), Err(VringFault::IndexJump { from: 0, to: 2, held: 1 }));
    remote.set_index(0xFFFF);
    assert_eq!(vring.take_used(), Err(VringFault::IndexJump { from: 0, to: 0xFFFF, held: 1 }));
}
