//! Loading ELF files that are made byte by byte.

use std::io::Write;

use proptest::prelude::*;

use super::super::memory::testing::carveouts;
use super::super::memory::{Access, Region};
use super::*;
use crate::causes::Causes;

/// A program header and what the file holds of it.
#[derive(Clone)]
struct Part {
    kind: u32,
    address: u64,
    content: Vec<u8>,
    memory_size: u64,
}

fn load(address: u64, content: &[u8], memory_size: u64) -> Part {
    Part { kind: 1, address, content: content.to_vec(), memory_size }
}

/// An ELF file in the making. Fields that differ in width are as wide as the class says.
struct Elf {
    is_wide: bool,
    bytes: Vec<u8>,
}

impl Elf {
    /// An executable with these parts, starting at 0x1001. `table` is a section: type, offset from the end of the
    /// headers, and length.
    fn make(is_wide: bool, parts: &[Part], table: Option<(u32, u64, u64)>) -> Vec<u8> {
        let (header, program, section) = if is_wide { (64, 56, 64) } else { (52, 32, 40) };
        let names = b"\0.shstrtab\0.resource_table\0";
        let content_at = header + program * parts.len() as u64;
        let content_len: u64 = parts.iter().map(|part| part.content.len() as u64).sum();
        let names_at = content_at + content_len;
        let sections_at = names_at + names.len() as u64;
        let mut elf = Elf { is_wide, bytes: vec![0x7F, b'E', b'L', b'F', 1 + u8::from(is_wide), 1, 1] };
        elf.bytes.resize(16, 0);
        elf.halves(&[2, 40]);
        elf.word(1);
        elf.address(0x1001);
        elf.address(header);
        elf.address(sections_at);
        elf.word(0);
        elf.halves(&[header, program, parts.len() as u64, section, 2 + u64::from(table.is_some()), 1]);
        let mut offset = content_at;
        for part in parts {
            elf.program_header(part, offset);
            offset += part.content.len() as u64;
        }
        for part in parts {
            elf.bytes.extend_from_slice(&part.content);
        }
        elf.bytes.extend_from_slice(names);
        elf.section_header(0, 0, 0, 0);
        elf.section_header(1, 3, names_at, names.len() as u64);
        if let Some((kind, offset, len)) = table {
            elf.section_header(11, kind, content_at + offset, len);
        }
        elf.bytes
    }

    fn program_header(&mut self, part: &Part, offset: u64) {
        let flags = 7;
        self.word(part.kind);
        if self.is_wide {
            self.word(flags);
        }
        self.address(offset);
        // The virtual address has no part in it.
        self.address(0xC000_0000);
        self.address(part.address);
        self.address(part.content.len() as u64);
        self.address(part.memory_size);
        if !self.is_wide {
            self.word(flags);
        }
        self.address(1);
    }

    fn section_header(&mut self, name: u32, kind: u32, offset: u64, len: u64) {
        self.word(name);
        self.word(kind);
        for value in [0, 0xC000_0000, offset, len] {
            self.address(value);
        }
        self.word(0);
        self.word(0);
        self.address(1);
        self.address(0);
    }

    fn halves(&mut self, values: &[u64]) {
        for value in values {
            self.bytes.extend_from_slice(&u16::try_from(*value).unwrap().to_le_bytes());
        }
    }

    fn word(&mut self, value: u32) {
        self.bytes.extend_from_slice(&value.to_le_bytes());
    }

    fn address(&mut self, value: u64) {
        if self.is_wide {
            self.bytes.extend_from_slice(&value.to_le_bytes());
        } else {
            self.word(u32::try_from(value).unwrap());
        }
    }
}

fn parse(bytes: Vec<u8>) -> Result<Firmware, FirmwareError> {
    Firmware::parse(Path::new("m4.elf"), bytes)
}

/// Why a file is refused, in one line.
fn refusal(bytes: Vec<u8>) -> String {
    Causes(&parse(bytes).unwrap_err()).to_string()
}

/// All of a carveout.
fn content(carveouts: &Carveouts) -> Vec<u8> {
    let region = carveouts.regions().next().unwrap();
    let mut bytes = vec![0; region.size()];
    carveouts.slice(region.device_address(), bytes.len(), 1).unwrap().read_into(0, &mut bytes);
    bytes
}

/// A carveout at 0x1000 with no zero byte in it.
fn filled(access: Access) -> Carveouts {
    let carveouts = carveouts(0x1000, 0x1000, access);
    carveouts.slice(0x1000, 0x1000, 1).unwrap().write_bytes(0, &[0xFF; 0x1000]);
    carveouts
}

#[test]
fn segments_go_to_their_physical_addresses_and_the_rest_of_them_is_cleared() {
    for (is_wide, access) in [(false, Access::Normal), (false, Access::Device), (true, Access::Device)] {
        let parts = [load(0x1003, b"text", 4), load(0x1101, b"data", 0x21), load(0x1200, b"", 0x10)];
        let firmware = parse(Elf::make(is_wide, &parts, Some((1, 5, 2)))).unwrap();
        let carveouts = filled(access);
        let loaded = firmware.load(&carveouts).unwrap();

        let mut expected = [0xFF; 0x1000];
        expected[3..7].copy_from_slice(b"text");
        expected[0x101..0x122].fill(0);
        expected[0x101..0x105].copy_from_slice(b"data");
        expected[0x200..0x210].fill(0);
        assert!(content(&carveouts) == expected);
        assert_eq!(loaded.entry, 0x1001);
        assert_eq!(loaded.table, Some(TablePlace { address: 0x1102, len: 2 }));
        assert_eq!(firmware.resource_table(), loaded.table);
    }
}

#[test]
fn other_headers_and_empty_segments_are_passed_over() {
    let note = Part { kind: 4, ..load(0xDEAD_0000, b"note", 0xFFFF) };
    let parts = [note, load(0xDEAD_0000, b"", 0), load(0x1000, b"text", 4)];
    let firmware = parse(Elf::make(false, &parts, None)).unwrap();
    assert_eq!(firmware.load(&filled(Access::Normal)).unwrap().table, None);
}

#[test]
fn a_table_that_is_not_loaded_is_none() {
    let parts = [load(0x1000, b"text", 0x100)];
    let place = |table| parse(Elf::make(true, &parts, Some(table))).unwrap().resource_table();
    assert_eq!(place((1, 0, 4)), Some(TablePlace { address: 0x1000, len: 4 }));
    assert_eq!(place((1, 0, 5)), None, "it ends beyond what is loaded");
    assert_eq!(place((1, 4, 4)), None, "it is elsewhere in the file");
    assert_eq!(place((8, 0, 4)), None, "it has no bytes in the file");
    assert_eq!(place((1, 0, 0)), None, "it is empty");
    assert_eq!(place((1, u64::MAX - 0x200, 0x300)), None, "its end wraps");
}

#[test]
fn a_segment_outside_the_memory_is_refused_with_the_regions_and_nothing_is_written() {
    for (address, size) in [(0x1FFD, 4), (0xFFF, 4), (0x1000, 0x1001), (u64::MAX - 1, 4), (0x1000, u64::MAX)]
    {
        let firmware =
            parse(Elf::make(true, &[load(0x1000, b"text", 4), load(address, b"data", size)], None));
        let carveouts = filled(Access::Normal);
        let error = firmware.unwrap().load(&carveouts).unwrap_err();
        let text = Causes(&error).to_string();
        assert!(
            text.contains("segment 1")
                && text.contains(&format!("{address:#x}.."))
                && text.contains("0x1000..0x2000"),
            "{text}"
        );
        assert!(content(&carveouts).iter().all(|byte| *byte == 0xFF));
    }
}

#[test]
fn segments_may_go_to_different_regions_but_not_across_their_border() {
    let region = |address| {
        let file = tempfile::tempfile().unwrap();
        file.set_len(0x1000).unwrap();
        Region::map(&file, 0, 0x1000, address, Access::Normal).unwrap()
    };
    let both = Carveouts::new(vec![region(0x1000), region(0x2000)]);
    parse(Elf::make(false, &[load(0x1000, b"a", 1), load(0x2000, b"b", 1)], None))
        .unwrap()
        .load(&both)
        .unwrap();
    assert_eq!(both.slice(0x2000, 1, 1).unwrap().read_u8(0), b'b');
    parse(Elf::make(false, &[load(0x1FFF, b"ab", 2)], None)).unwrap().load(&both).unwrap_err();
}

#[test]
fn segments_that_are_not_whole_are_refused() {
    let text = refusal(Elf::make(false, &[load(0x1000, b"text", 3)], None));
    assert!(text.contains("segment 0") && text.contains("has 0x4 bytes in the file"), "{text}");

    let mut cut = Elf::make(true, &[load(0x1000, b"text", 4), load(0x1010, &[7; 0x200], 0x200)], None);
    cut[0x28..0x30].fill(0); // no section headers, which would be missing too
    cut.truncate(0x100);
    let text = refusal(cut);
    assert!(text.contains("segment 1") && text.contains("the file ends at 0x100"), "{text}");
}

#[test]
fn what_is_no_elf_file_for_a_little_endian_core_is_refused() {
    assert!(refusal(b"\x27\x05\x19\x56 a boot loader's image".to_vec()).contains("\\'\\x05\\x19V"));
    assert!(refusal(Vec::new()).contains("starts with \"\""));
    assert!(refusal(b"\x7fELF\x01\x01\x01\0\0\0\0\0\0\0\0\0".to_vec()).contains("header size"));
    let mut big = Elf::make(false, &[load(0x1000, b"text", 4)], None);
    big[5] = 2;
    assert!(refusal(big).contains("Unsupported ELF endian"));
    let text = refusal(Elf::make(false, &[Part { kind: 4, ..load(0, b"note", 4) }], None));
    assert!(text.contains("none of its 1 program headers"), "{text}");
}

#[test]
fn files_are_read_up_to_their_limit() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("m4.elf");
    let bytes = Elf::make(false, &[load(0x1000, b"text", 4)], None);
    std::fs::File::create(&path).unwrap().write_all(&bytes).unwrap();
    let read = || Firmware::read(&path, &std::fs::File::open(&path).unwrap());
    assert_eq!(read().unwrap().bytes, bytes);

    std::fs::File::options().write(true).open(&path).unwrap().set_len(MAX_FILE + 1).unwrap();
    assert!(matches!(read(), Err(FirmwareError::TooLarge { .. })));
}

proptest! {
    /// Any damage is refused, or ends in memory of this core; a refusal leaves it as it was.
    #[test]
    fn damaged_files_never_panic_and_are_loaded_whole_or_not_at_all(
        is_wide: bool,
        damage in proptest::collection::vec(
            (any::<prop::sample::Index>(), prop_oneof![
                any::<u8>().prop_map(|byte| vec![byte]),
                prop::sample::select(vec![0, 1, 0x1000, 0x7FFF_FFFF, u32::MAX, u32::MAX - 3])
                    .prop_map(|word: u32| word.to_le_bytes().to_vec()),
                Just(vec![0xFF; 8]),
            ]),
            1..6,
        ),
        len in proptest::option::of(any::<prop::sample::Index>()),
    ) {
        let parts = [load(0x1000, b"text", 4), load(0x1100, &[1; 24], 0x40)];
        let mut bytes = Elf::make(is_wide, &parts, Some((1, 4, 24)));
        for (at, value) in damage {
            let at = at.index(bytes.len());
            let end = bytes.len().min(at + value.len());
            bytes[at..end].copy_from_slice(&value[..end - at]);
        }
        if let Some(len) = len {
            bytes.truncate(len.index(bytes.len()));
        }
        if let Ok(firmware) = parse(bytes) {
            let carveouts = filled(Access::Normal);
            match firmware.load(&carveouts) {
                Ok(loaded) => {
                    let last = firmware.segments.last().unwrap();
                    let held = content(&carveouts);
                    let at = usize::try_from(last.address - 0x1000).unwrap();
                    prop_assert_eq!(&held[at..at + last.file.len()], &firmware.bytes[last.file.clone()]);
                    if let Some(table) = loaded.table {
                        let len = usize::try_from(table.len).unwrap();
                        prop_assert!(carveouts.slice(table.address, len, 1).is_ok());
                    }
                }
                Err(_) => prop_assert!(content(&carveouts).iter().all(|byte| *byte == 0xFF)),
            }
        }
    }
}
