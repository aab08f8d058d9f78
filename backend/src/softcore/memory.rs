//! The carveout: memory that core and host both map.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, MemfdFlags, flock, memfd_create};
use rustix::io::Errno;
use thiserror::Error;
use vm_memory::mmap::FromRangesError;
use vm_memory::{FileOffset, GuestAddress, GuestMemoryMmap};

use super::Layout;

/// Memory of a soft core, mapped shared. Inside the process its "guest addresses" are device addresses.
#[derive(Debug)]
pub struct Memory {
    file: File,
    mapping: GuestMemoryMmap,
    size: u64,
    device_address: u32,
}

/// Why there is no memory.
#[derive(Debug, Error)]
pub enum MemoryError {
    /// The memory file cannot be made or opened.
    #[error("cannot create the memory file {path}")]
    Create {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// There is something of that name that is no file.
    #[error("{path} is no regular file; expected the name of a memory file that may be created")]
    NotAFile {
        /// What is there.
        path: PathBuf,
    },
    /// Another core has the file.
    #[error("memory file {path} is in use by another soft core; end that one or name another file")]
    InUse {
        /// The file.
        path: PathBuf,
    },
    /// The system gives no anonymous memory.
    #[error("cannot create {size} bytes of anonymous memory")]
    Anonymous {
        /// Size in bytes.
        size: u64,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The memory cannot be mapped.
    #[error("cannot map {size} bytes of memory")]
    Map {
        /// Size in bytes.
        size: u64,
        /// What the mapping said.
        #[source]
        source: FromRangesError,
    },
}

impl Memory {
    /// Creates the memory file at `path`. A file that is there already is used again, so that whoever maps it still
    /// shares it with the new core; it is made longer where needed, never shorter. It stays locked as long as this
    /// value lives, and is left behind.
    ///
    /// # Errors
    /// The file cannot be created, locked or mapped, or is no regular file.
    pub fn create_file(path: &Path, layout: &Layout) -> Result<Self, MemoryError> {
        let failed = |source: io::Error| MemoryError::Create { path: path.to_owned(), source };
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path)
            .map_err(failed)?;
        let found = file.metadata().map_err(failed)?;
        if !found.is_file() {
            return Err(MemoryError::NotAFile { path: path.to_owned() });
        }
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Err(Errno::WOULDBLOCK) => {
                return Err(MemoryError::InUse { path: path.to_owned() });
            }
            other => other.map_err(|errno| failed(errno.into()))?,
        }
        if found.len() < layout.size() {
            file.set_len(layout.size()).map_err(failed)?;
        }
        Self::map(file, layout)
    }

    /// Creates anonymous memory.
    ///
    /// # Errors
    /// The memory cannot be created or mapped.
    pub fn memfd(layout: &Layout) -> Result<Self, MemoryError> {
        let size = layout.size();
        let create = || {
            let file = File::from(memfd_create("rpmsg-softcore", MemfdFlags::CLOEXEC)?);
            file.set_len(size)?;
            Ok(file)
        };
        Self::map(create().map_err(|source| MemoryError::Anonymous { size, source })?, layout)
    }

    fn map(file: File, layout: &Layout) -> Result<Self, MemoryError> {
        let (size, device_address) = (layout.size(), layout.device_address());
        let failed = |source| MemoryError::Map { size, source };
        let shared = file.try_clone().map_err(|error| MemoryError::Anonymous { size, source: error })?;
        let length = usize::try_from(size).unwrap_or(usize::MAX);
        let base = GuestAddress(device_address.into());
        let mapping =
            GuestMemoryMmap::from_ranges_with_files([(base, length, Some(FileOffset::new(shared, 0)))])
                .map_err(failed)?;
        Ok(Memory { file, mapping, size, device_address })
    }

    /// The file behind the memory, for a host to map; the memory begins at its first byte.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Size in bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Device address of the first byte.
    pub fn device_address(&self) -> u32 {
        self.device_address
    }

    /// The mapping, by device address.
    pub(super) fn mapping(&self) -> &GuestMemoryMmap {
        &self.mapping
    }
}
