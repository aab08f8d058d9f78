//! The host's physical memory, as `/dev/mem` and UIO devices give it.

use std::fs::File;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::fs::OFlags;
use rustix::param::page_size;

use super::{Access, CarveoutError, CarveoutSlice, Carveouts, Region};

/// Opens a file whose memory is shared with a remote core. By O_SYNC, `/dev/mem` knows that it must not be cached; to files
/// in memory it means nothing.
///
/// # Errors
/// Whatever the system says.
pub fn open_uncached(path: &Path) -> io::Result<File> {
    File::options().read(true).write(true).custom_flags(OFlags::SYNC.bits().cast_signed()).open(path)
}

/// A 32-bit register at its physical address in such a file.
///
/// # Errors
/// An address that is not a multiple of 4, or where the file has no memory.
pub fn register(file: &File, address: u64) -> Result<CarveoutSlice, CarveoutError> {
    let page = page_size();
    let start = address - address % page as u64;
    let region = Region::map(file, start, page, start, Access::Device)?;
    Carveouts::new(vec![region]).slice(address, size_of::<u32>(), 4)
}
