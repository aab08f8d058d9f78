//! A stretch of a file mapped into this process.

use std::fs::File;
use std::io;
use std::ptr::{NonNull, null_mut};

use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

use crate::torn::Guard;

/// Bytes of a file, shared with whoever else has mapped them.
#[derive(Debug)]
pub(super) struct Mapping {
    guard: Guard,
    start: NonNull<u8>,
    /// Bytes at the start that are mapped, and are not what is wanted.
    skipped: usize,
    size: usize,
}

// SAFETY: the mapping belongs to this value alone and lives as long; whoever makes accesses through its pointer answers
// for them.
unsafe impl Send for Mapping {}
// SAFETY: as above; nothing here changes.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Maps `size` bytes from `skipped` bytes behind `offset` on, which must be a multiple of the page size.
    ///
    /// # Errors
    /// Whatever `mmap` says.
    pub(super) fn new(file: &File, offset: u64, skipped: usize, size: usize) -> io::Result<Self> {
        let len = skipped.checked_add(size).ok_or(io::ErrorKind::InvalidInput)?;
        // SAFETY: the kernel chooses the address, so nothing that exists is replaced, and no reference into the mapping is
        // ever made, so that others may change it.
        let start = unsafe {
            mmap(null_mut(), len, ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED, file, offset)?
        };
        let start = NonNull::new(start.cast()).ok_or(io::ErrorKind::InvalidInput)?;
        let guard = Guard::new(start.as_ptr(), len);
        Ok(Mapping { guard, start, skipped, size })
    }

    /// Where it starts.
    pub(super) fn as_ptr(&self) -> *mut u8 {
        // SAFETY: so many bytes were mapped, and more behind them.
        unsafe { self.start.as_ptr().add(self.skipped) }
    }

    /// Whether whoever else has the file has torn some of it away.
    #[inline]
    pub(super) fn is_torn(&self) -> bool {
        self.guard.is_torn()
    }

    /// Its size in bytes.
    pub(super) fn size(&self) -> usize {
        self.size
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: this is the range that was mapped, and with this value everything is gone that pointed into it.
        if let Err(error) = unsafe { munmap(self.start.as_ptr().cast(), self.skipped + self.size) } {
            log::error!("cannot unmap carveout memory: {error}");
        }
    }
}
