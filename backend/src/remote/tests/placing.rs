//! Where vrings and buffers go, with tables that are made word by word.

use std::fs::File;

use super::super::attach::RpmsgVdev;
use super::*;

const ANY: u32 = 0xFFFF_FFFF;
/// Device address of the table, at the start of the first region.
const TABLE: u64 = 0x2000_0000;
/// Where a vdev entry has its status and its first vring, and how long a vring is.
const STATUS: usize = 24;
const VRINGS: usize = 28;
const VRING: usize = 20;

fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

fn name(name: &str) -> Vec<u8> {
    let mut bytes = name.as_bytes().to_vec();
    bytes.resize(32, 0);
    bytes
}

fn carveout(of: &str, da: u32, pa: u32, len: u32) -> Vec<u8> {
    [words(&[0, da, pa, len, 0, 0]), name(of)].concat()
}

fn devmem(da: u32, pa: u32) -> Vec<u8> {
    [words(&[1, da, pa, 0x1000, 0, 0]), name("uart")].concat()
}

/// A virtio device with two vrings of 16 descriptors where the host wants them.
fn vdev(id: u32) -> Vec<u8> {
    let vring = [ANY, 0x1000, 16, ANY, 0];
    [words(&[3, id, 0, 1, 0, 0, 0x200]), words(&vring), words(&vring)].concat()
}

fn table(entries: &[Vec<u8>]) -> Vec<u8> {
    let count = u32::try_from(entries.len()).unwrap();
    let mut offset = 16 + 4 * count;
    let mut head = words(&[1, count, 0, 0]);
    for entry in entries {
        head.extend(offset.to_le_bytes());
        offset += u32::try_from(entry.len()).unwrap();
    }
    [head, entries.concat()].concat()
}

/// Memory with a table in the first region.
struct Board {
    carveouts: Carveouts,
    files: Vec<File>,
    /// Where the entries of the table begin.
    entries: Vec<usize>,
    len: usize,
}

impl Board {
    /// Regions are of device address, physical address, size and name.
    fn new(entries: &[Vec<u8>], regions: &[(u64, u64, usize, Option<&str>)]) -> Self {
        let table = table(entries);
        let mut offset = 16 + 4 * entries.len();
        let starts = entries.iter().map(|entry| {
            offset += entry.len();
            offset - entry.len()
        });
        let entries = starts.collect();
        let mut files = Vec::new();
        let map = |&(da, pa, size, name): &(u64, u64, usize, Option<&str>)| {
            let file = tempfile::tempfile().unwrap();
            file.set_len(size as u64).unwrap();
            let region = Region::map(&file, 0, size, da, Access::Normal).unwrap().at_physical(pa);
            files.push(file);
            match name {
                Some(name) => region.named(name),
                None => region,
            }
        };
        let carveouts = Carveouts::new(regions.iter().map(map).collect());
        files[0].write_all_at(&table, 0).unwrap();
        Board { carveouts, files, entries, len: table.len() }
    }

    /// With 1 MiB in which anything may be placed.
    fn simple(entries: &[Vec<u8>]) -> Self {
        Self::new(entries, &[(TABLE, TABLE, 0x10_0000, None)])
    }

    fn attach(&self) -> Result<(Attachment, Vec<RpmsgVdev>), AttachError> {
        attach_once(&self.carveouts, &Layout::Table { address: TABLE })
    }

    fn refusal(&self) -> String {
        let before = self.table();
        let text = Causes(&self.attach().unwrap_err()).to_string();
        assert_eq!(self.table(), before, "nothing is written");
        text
    }

    fn table(&self) -> Vec<u8> {
        let mut bytes = vec![0; self.len];
        self.files[0].read_exact_at(&mut bytes, 0).unwrap();
        bytes
    }

    fn entry(&self, number: usize) -> Vec<u8> {
        let end = self.entries.get(number + 1).copied().unwrap_or(self.len);
        self.table()[self.entries[number]..end].to_vec()
    }

    /// The word at an offset of an entry.
    fn word(&self, number: usize, offset: usize) -> u32 {
        u32::from_le_bytes(self.entry(number)[offset..offset + 4].try_into().unwrap())
    }

    /// Device addresses of a device's vrings.
    fn vrings(&self, number: usize) -> [u32; 2] {
        [self.word(number, VRINGS), self.word(number, VRINGS + VRING)]
    }

    /// Address and length in the first descriptor of the vring at a device address.
    fn first_descriptor(&self, vring: u32) -> (u64, u32) {
        let vring = self.carveouts.slice(vring.into(), 16, 16).unwrap();
        (vring.read_u64(0), vring.read_u32(8))
    }
}

#[test]
fn every_rpmsg_device_of_a_table_gets_its_own_and_what_else_is_there_is_left_alone() {
    let others = [vdev(3), words(&[130, 1, 2]), words(&[77, 5])];
    let board = Board::simple(&[vdev(7), others[0].clone(), vdev(7), others[1].clone(), others[2].clone()]);
    let (attachment, mut devices) = board.attach().unwrap();
    assert_eq!(devices.len(), 2);
    let ids: Vec<_> = devices.iter().map(|one| (one.inbound.notifyid(), one.outbound.notifyid())).collect();
    assert_eq!(ids, [(0, 1), (4, 5)]);
    for (entry, ids) in [(0, [0, 1]), (2, [4, 5])] {
        assert_eq!(board.entry(entry)[STATUS], 7);
        assert_eq!([board.word(entry, VRINGS + 12), board.word(entry, VRINGS + VRING + 12)], ids);
    }
    for (entry, as_it_was) in [1, 3, 4].into_iter().zip(&others) {
        assert_eq!(board.entry(entry), *as_it_was);
    }
    assert_eq!(attachment.left_alone.len(), 3, "{:?}", attachment.left_alone);

    // A vring of 16 descriptors with this alignment takes two pages, less what lies behind the used ring.
    let rings = [0, 2].into_iter().flat_map(|entry| board.vrings(entry)).map(|da| (u64::from(da), 0x1086));
    let mut places: Vec<_> = rings.collect();
    for entry in [0, 2] {
        let [inbound, _] = board.vrings(entry);
        let (buffers, len) = board.first_descriptor(inbound);
        assert_eq!(len, 512);
        places.push((buffers, 2 * 16 * 512));
    }
    places.push((TABLE, board.len as u64));
    places.sort_unstable();
    assert!(places.windows(2).all(|pair| pair[0].0 + pair[0].1 <= pair[1].0), "{places:x?}");
    assert!(devices.iter_mut().all(|device| device.outbound.reserve().is_some()));

    attachment.detach();
    assert_eq!((board.entry(0), board.entry(2)), (vdev(7), vdev(7)));
}

#[test]
fn regions_that_are_named_for_something_hold_that_and_descriptors_say_physical_addresses() {
    let board = Board::new(
        &[vdev(7)],
        &[
            (TABLE, 0x9000_0000, 0x1000, None),
            (0x3000_0000, 0xA000_0000, 0x8_0000, Some("firmware")),
            (0x4000_0000, 0xB000_0000, 0x4000, Some("vdev0vring1")),
            (0x5000_0000, 0xC000_0000, 0x4000, Some("vdev0vring0")),
            (0x6000_0000, 0x8_D000_0000, 0x1_0000, Some("vdev0buffer")),
        ],
    );
    let (_, mut devices) = board.attach().unwrap();
    assert_eq!(board.vrings(0), [0x5000_0000, 0x4000_0000], "device addresses");
    assert_eq!(board.first_descriptor(0x5000_0000), (0x8_D000_0000, 512));
    assert_eq!(board.first_descriptor(0x4000_0000).0, 0x8_D000_0000 + 16 * 512);

    let buffer = devices[0].outbound.reserve().unwrap();
    assert_eq!(buffer.id(), 0);
    devices[0].outbound.write_payload(&buffer, b"hello");
    let at = board.carveouts.slice(0x6000_0000 + 16 * 512 + 16, 5, 1).unwrap();
    assert_eq!(at.read_bytes::<5>(0), *b"hello");
}

#[test]
fn nothing_is_placed_in_a_region_of_the_firmware() {
    let board = Board::new(
        &[vdev(7)],
        &[(TABLE, TABLE, 0x1000, None), (0x3000_0000, 0x3000_0000, 0x8_0000, Some("firmware"))],
    );
    let text = board.refusal();
    assert!(text.contains("no room for vdev0vring0 of 0x1086 bytes"), "{text}");
}

#[test]
fn a_region_that_is_too_small_for_what_it_is_named_for_is_not_replaced_by_another() {
    let board = Board::new(
        &[vdev(7)],
        &[(TABLE, TABLE, 0x10_0000, None), (0x3000_0000, 0x3000_0000, 0x1000, Some("vdev0buffer"))],
    );
    let text = board.refusal();
    assert!(text.contains("no room for vdev0buffer of 0x4000 bytes"), "{text}");
}

#[test]
fn carveouts_that_are_left_to_the_host_are_told_both_their_addresses() {
    let entries = [
        vdev(7),
        carveout("vdev0buffer", ANY, 0, 0x8000),
        carveout("heap", ANY, 0, 0x3000),
        carveout("fixed", 0x2000_8000, 0x1234, 0x1000),
    ];
    let board = Board::new(&entries, &[(TABLE, 0x9000_0000, 0x10_0000, None)]);
    board.attach().unwrap();
    for entry in [1, 2] {
        let (da, pa) = (board.word(entry, 4), board.word(entry, 8));
        assert!((0x2000_0000..0x2010_0000).contains(&da), "{da:#x}");
        assert_eq!(pa - 0x9000_0000, da - 0x2000_0000);
    }
    let [inbound, _] = board.vrings(0);
    assert_eq!(board.first_descriptor(inbound).0, u64::from(board.word(1, 8)), "the buffers are in theirs");
    assert_eq!(board.entry(3), entries[3], "one that has its address");

    let board = Board::new(&entries, &[(TABLE, 0x8_9000_0000, 0x10_0000, None)]);
    board.attach().unwrap();
    assert_ne!(board.word(2, 4), ANY);
    assert_eq!(board.word(2, 8), 0, "a word cannot say it");
}

#[test]
fn a_carveout_too_small_for_its_purpose_is_refused_with_both_sizes() {
    let text = Board::simple(&[vdev(7), carveout("vdev0buffer", ANY, 0, 0x3FFF)]).refusal();
    assert!(text.contains("vdev0buffer (carveout of 0x3fff bytes) of 0x4000 bytes"), "{text}");
}

#[test]
fn a_peripheral_is_left_where_it_is_and_refused_where_only_an_iommu_could_put_it() {
    let board = Board::simple(&[vdev(7), devmem(0x4000_0000, 0x4000_0000)]);
    board.attach().unwrap();
    assert_eq!(board.entry(1), devmem(0x4000_0000, 0x4000_0000));

    let text = Board::simple(&[vdev(7), devmem(0x1000_0000, 0x4000_0000)]).refusal();
    for part in ["\"uart\"", "0x40000000", "0x10000000", "IOMMU"] {
        assert!(text.contains(part), "{text}");
    }
}

#[test]
fn a_device_whose_vrings_no_doorbell_has_a_number_for_is_refused() {
    let no_vrings = words(&[3, 3, 0, 0, 0, 0, 0]);
    let with = |others: usize| [vec![no_vrings.clone(); others], vec![vdev(7)]].concat();
    let (_, devices) = Board::simple(&with(119)).attach().unwrap();
    assert_eq!(devices[0].outbound.notifyid(), 0xEF);
    let text = Board::simple(&with(120)).refusal();
    assert!(text.contains("vdev120") && text.contains("up to vdev119"), "{text}");
}
