//! A controller's registers, and the mapped window in which hardware has them.
//!
//! Mailbox registers are 32 bits wide and are touched by aligned 32-bit accesses only. They go through one small trait, so
//! that a model of a controller can stand where the hardware does. The mapped window is a volatile pointer of our own: what
//! crates for typed register blocks add, a type per register, a table of byte offsets that differ by version cannot use.

use std::fmt::Debug;
use std::fs::File;
use std::io;
use std::ptr::{NonNull, null_mut};

use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};
use rustix::param::page_size;

use crate::remote::memory::{after_observe, before_kick};

/// The registers of one controller. Offsets are in bytes from its first register and are multiples of 4.
///
/// An offset outside the window, or a misaligned one, is a mistake of the program and panics.
pub trait Registers: Debug + Send {
    /// Reads a register once. Memory that is read after that is at least as new as what the register told of.
    fn read32(&self, offset: usize) -> u32;

    /// Writes a register once, after everything that was written to memory before has become visible to the remote.
    fn write32(&self, offset: usize, value: u32);
}

/// Registers in a mapped file: a UIO device, as a rule.
#[derive(Debug)]
pub struct MappedRegisters {
    mapping: NonNull<u8>,
    mapped: usize,
    /// Of the first register in the mapping, in bytes.
    start: usize,
    len: usize,
}

// SAFETY: the mapping belongs to this value alone and lives as long; all accesses are volatile and make no claim about who
// else accesses it, so any one thread may do them.
unsafe impl Send for MappedRegisters {}

impl MappedRegisters {
    /// Maps the `len` bytes of registers that start `start` bytes into the page at `file_offset`, which must be a
    /// multiple of the page size. `start` must be a multiple of 4.
    ///
    /// # Errors
    /// Whatever `mmap` says.
    pub fn map(file: &File, file_offset: u64, start: usize, len: usize) -> io::Result<Self> {
        assert!(start.is_multiple_of(4), "registers are aligned to 4 bytes");
        let mapped = start.checked_add(len).and_then(|end| end.checked_next_multiple_of(page_size()));
        let mapped = mapped.ok_or(io::ErrorKind::InvalidInput)?;
        // SAFETY: the kernel chooses the address, so nothing that exists is replaced; no reference to the mapping is ever
        // made, so that others may change it.
        let mapping = unsafe {
            mmap(null_mut(), mapped, ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED, file, file_offset)?
        };
        let mapping = NonNull::new(mapping.cast()).ok_or(io::ErrorKind::InvalidInput)?;
        Ok(MappedRegisters { mapping, mapped, start, len })
    }

    fn at(&self, offset: usize) -> *mut u32 {
        assert!(
            offset.is_multiple_of(4) && offset < self.len && self.len - offset >= 4,
            "register in window"
        );
        // SAFETY: the offset was just checked to lie in the window, which `map` has made part of the mapping.
        let at = unsafe { self.mapping.add(self.start + offset) };
        at.cast().as_ptr()
    }
}

impl Registers for MappedRegisters {
    fn read32(&self, offset: usize) -> u32 {
        let at = self.at(offset);
        // SAFETY: `at` lies in the mapping and is aligned: pages, the start and the offset are multiples of 4.
        let value = u32::from_le(unsafe { at.read_volatile() });
        after_observe();
        value
    }

    fn write32(&self, offset: usize, value: u32) {
        before_kick();
        let at = self.at(offset);
        // SAFETY: as in `read32`.
        unsafe { at.write_volatile(value.to_le()) };
    }
}

impl Drop for MappedRegisters {
    fn drop(&mut self) {
        // SAFETY: this is the whole of the mapping that `map` has made, and nobody has a pointer into it any more.
        if let Err(error) = unsafe { munmap(self.mapping.as_ptr().cast(), self.mapped) } {
            log::error!("cannot unmap {:#x} bytes of registers: {error}", self.mapped);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt;

    use super::*;

    fn two_pages() -> File {
        let file = tempfile::tempfile().unwrap();
        file.set_len(2 * page_size() as u64).unwrap();
        file
    }

    #[test]
    fn a_register_is_found_by_page_start_and_offset() {
        let (file, page) = (two_pages(), page_size() as u64);
        let registers = MappedRegisters::map(&file, page, 0x100, 0x28).unwrap();
        registers.write32(0x24, 0x0403_0201);
        let mut bytes = [0; 4];
        file.read_exact_at(&mut bytes, page + 0x124).unwrap();
        assert_eq!(bytes, [1, 2, 3, 4]);
        file.write_all_at(&[5, 0, 0, 0], page + 0x100).unwrap();
        assert_eq!(registers.read32(0), 5);
    }

    #[test]
    fn an_offset_that_is_no_multiple_of_the_page_is_refused() {
        assert!(MappedRegisters::map(&two_pages(), 4, 0, 4).is_err());
    }

    #[test]
    #[should_panic(expected = "register in window")]
    fn a_register_beyond_the_window_is_caught() {
        MappedRegisters::map(&two_pages(), 0, 0, 0x28).unwrap().read32(0x28);
    }

    #[test]
    #[should_panic(expected = "register in window")]
    fn a_misaligned_register_is_caught() {
        MappedRegisters::map(&two_pages(), 0, 0, 0x28).unwrap().write32(2, 0);
    }
}
