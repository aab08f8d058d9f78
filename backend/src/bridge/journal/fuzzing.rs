//! For the fuzz target of the journal: an area of state memory with anything in it.

use super::{CoreRecord, Journal};
use crate::remote::memory::{Access, Carveouts, Region};

/// Bytes of the area.
const SIZE: usize = 1 << 18;

/// Opens a journal over these bytes. What is found is saved, and must be found again as it was.
///
/// # Panics
/// Where that is not so.
pub fn open(bytes: &[u8]) {
    let flags = rustix::fs::MemfdFlags::CLOEXEC;
    let file = rustix::fs::memfd_create("fuzz", flags).expect("a memfd").into();
    rustix::fs::ftruncate(&file, SIZE as u64).expect("a memfd of any size");
    let region = Region::map(&file, 0, SIZE, 0, Access::Normal).expect("a mapping");
    let memory = Carveouts::new(vec![region]).slice(0, SIZE, 8).expect("all of it");
    // What every area begins with, so that the fuzzer need not find that out.
    let bytes = &bytes[..bytes.len().min(SIZE - 12)];
    memory.write_bytes(0, b"RPMSGJNL\x02\0\0\0");
    memory.write_bytes(12, bytes);
    let _ = CoreRecord::open(memory.clone());
    let (mut journal, found) = Journal::open(Some(memory.clone()));
    if let Some(saved) = found {
        journal.save(&saved);
        assert_eq!(Journal::open(Some(memory)).1, Some(saved), "what was found is saved");
    }
}
