//! Trace buffers written by a test in the firmware's place.

use proptest::prelude::*;

use super::super::memory::Access;
use super::super::memory::testing::carveouts;
use super::super::resource_table::{Resource, ResourceTable};
use super::*;
use crate::causes::Causes;

const ADDRESS: u32 = 0x2100_0100;

/// A resource table with one trace buffer.
fn table(da: u32, size: u32) -> ResourceTable {
    let mut words = vec![1, 1, 0, 0, 20, 2, da, size, 0];
    words.extend([u32::from_le_bytes(*b"log0"), 0, 0, 0, 0, 0, 0, 0]);
    let bytes: Vec<u8> = words.iter().flat_map(|word: &u32| word.to_le_bytes()).collect();
    let table = ResourceTable::parse(&bytes).unwrap();
    assert!(matches!(table.entries()[0].resource, Resource::Trace(_)));
    table
}

/// A buffer of `size` bytes, and the memory by which the firmware sees it.
fn buffer(size: usize, access: Access) -> (TraceBuffer, CarveoutSlice) {
    let carveouts = carveouts(0x20_0000, 0x2100_0000, access);
    let table = table(ADDRESS, u32::try_from(size).unwrap());
    let buffer = TraceBuffer::new(&carveouts, table.traces().next().unwrap()).unwrap().unwrap();
    (buffer, carveouts.slice(ADDRESS.into(), size, 1).unwrap())
}

/// Looks for news that go on where the last ones ended.
fn more(follower: &mut Follower) -> String {
    let news = follower.news();
    assert!(!news.is_rewritten, "{news:?}");
    news.text
}

#[test]
fn the_text_goes_up_to_the_first_nul_or_the_end() {
    for access in [Access::Normal, Access::Device] {
        let (buffer, firmware) = buffer(13, access);
        assert_eq!((buffer.name(), buffer.text().as_str()), ("log0", ""));
        firmware.write_bytes(0, b"up\xFF\tand\0old");
        assert_eq!(buffer.text(), "up\\xff\tand");
        firmware.write_bytes(0, b"thirteenbytes");
        assert_eq!(buffer.text(), "thirteenbytes");
    }
}

#[test]
fn every_byte_of_a_buffer_is_read_once() {
    let (buffer, firmware) = buffer(0x1000, Access::Device);
    firmware.write_bytes(0, b"text");
    assert_eq!(crate::copied::during(|| assert_eq!(buffer.text(), "text")), 0x1000);
}

#[test]
fn only_the_first_mebibyte_of_a_buffer_is_looked_at() {
    let (buffer, firmware) = buffer(MAX_LEN + 8, Access::Normal);
    firmware.write_bytes(0, &vec![b'.'; MAX_LEN + 8]);
    assert_eq!(buffer.text().len(), MAX_LEN);
}

#[test]
fn a_buffer_that_is_nowhere_or_elsewhere_is_none_or_refused() {
    let carveouts = carveouts(0x1000, 0x2100_0000, Access::Normal);
    let find = |da, size| TraceBuffer::new(&carveouts, table(da, size).traces().next().unwrap());
    assert!(find(0xFFFF_FFFF, 0x100).unwrap().is_none());
    let error = find(0x2100_0F01, 0x100).unwrap_err();
    let text = Causes(&error).to_string();
    assert!(text.contains("\"log0\"") && text.contains("0x21000000..0x21001000"), "{text}");
    assert_eq!(find(0x2100_0000, 0).unwrap().unwrap().text(), "");
}

#[test]
fn text_at_the_end_is_told_once() {
    let (buffer, firmware) = buffer(64, Access::Normal);
    firmware.write_bytes(0, b"boot\n");
    let mut follower = buffer.follow();
    assert_eq!((more(&mut follower).as_str(), more(&mut follower).as_str()), ("boot\n", ""));
    firmware.write_bytes(5, b"ready\n");
    assert_eq!((more(&mut follower).as_str(), more(&mut follower).as_str()), ("ready\n", ""));
    assert_eq!(follower.buffer().text(), "boot\nready\n");
}

#[test]
fn a_buffer_that_was_started_anew_is_told_as_such() {
    let (buffer, firmware) = buffer(64, Access::Normal);
    firmware.write_bytes(0, b"boot\nall is well");
    let mut follower = buffer.follow();
    follower.news();
    firmware.write_bytes(0, b"boot\0");
    assert_eq!(follower.news(), News { text: "boot".to_owned(), is_rewritten: true });
    firmware.write_bytes(0, b"BOOT\n\0");
    assert_eq!(follower.news(), News { text: "BOOT\n".to_owned(), is_rewritten: true });
    firmware.write_bytes(5, b"again\0");
    assert_eq!(more(&mut follower), "again");
    firmware.write_zeros(0, 64);
    assert_eq!(follower.news(), News { text: String::new(), is_rewritten: true });
    assert_eq!(follower.news(), News { text: String::new(), is_rewritten: false });
}

#[test]
fn a_full_buffer_that_is_not_a_ring_has_no_more_news() {
    let (buffer, firmware) = buffer(8, Access::Normal);
    firmware.write_bytes(0, b"1234567");
    let mut follower = buffer.follow();
    assert_eq!(more(&mut follower), "1234567");
    firmware.write_bytes(7, b"8");
    assert_eq!((more(&mut follower).as_str(), more(&mut follower).as_str()), ("8", ""));
}

proptest! {
    /// A ring of all the buffer, or of all but a last NUL. Every byte differs from those of the lap before.
    #[test]
    fn a_ring_is_followed_around_its_end(
        keeps_nul: bool,
        size in 2_usize..40,
        lens in proptest::collection::vec(any::<prop::sample::Index>(), 1..20),
    ) {
        let (buffer, firmware) = buffer(size + usize::from(keeps_nul), Access::Normal);
        let mut follower = buffer.follow();
        let (mut written, mut told) = (String::new(), String::new());
        for len in lens {
            for _ in 0..len.index(size) {
                let lap = u8::try_from(written.len() / size % 20).unwrap();
                firmware.write_u8(written.len() % size, b'a' + lap);
                written.push(char::from(b'a' + lap));
            }
            told += &more(&mut follower);
            prop_assert_eq!(&told, &written);
        }
    }
}
