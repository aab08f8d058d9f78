//! Reaching a remote core: its mailbox and its memory.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use log::debug;
use thiserror::Error;

use super::config::{HardwareMailbox, MailboxConfig, MemoryConfig, MemoryFile};
use super::mailbox::{
    HardwareError, ImxMu, Mailbox, OmapMailbox, SocketMailbox, Stm32Ipcc, UioDevices, UioError, ZynqmpIpi,
};
use super::memory::{CarveoutError, Carveouts, Region, open_uncached};
use crate::causes::Causes;

/// Why a remote core cannot be reached.
#[derive(Debug, Error)]
pub(super) enum LinkError {
    /// Its doorbell socket.
    #[error("cannot connect to its doorbell socket {path}", path = path.display())]
    Connect {
        /// The socket.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A doorbell connection that was given.
    #[error("cannot use its doorbell connection")]
    Stream(#[source] io::Error),
    /// Its mailbox.
    #[error("cannot use its mailbox")]
    Mailbox(#[from] HardwareError),
    /// The UIO device that should map its memory.
    #[error("cannot use its memory at physical address {address:#x}")]
    Uio {
        /// The address.
        address: u64,
        /// What is wrong.
        #[source]
        source: UioError,
    },
    /// A memory file.
    #[error("cannot open its memory {path}", path = path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// What is in a memory file.
    #[error("cannot use its memory {file}")]
    Memory {
        /// The file.
        file: String,
        /// What is wrong.
        #[source]
        source: CarveoutError,
    },
}

/// The memory of a remote core, mapped.
#[derive(Debug)]
pub(super) struct Mapped {
    pub(super) carveouts: Carveouts,
    /// Device and inode numbers of the files, and offsets: a new file is a new core.
    pub(super) identity: Vec<(u64, u64, u64)>,
}

/// Opens the mailbox.
pub(super) fn open_mailbox(config: &mut MailboxConfig) -> Result<Box<dyn Mailbox>, LinkError> {
    let devices = UioDevices::default();
    Ok(match config {
        MailboxConfig::Path(path) => Box::new(
            SocketMailbox::connect(path)
                .map_err(|source| LinkError::Connect { path: path.clone(), source })?,
        ),
        MailboxConfig::Stream(stream) => {
            let stream =
                stream.take().ok_or_else(|| LinkError::Stream(io::ErrorKind::NotConnected.into()))?;
            Box::new(SocketMailbox::new(stream).map_err(LinkError::Stream)?)
        }
        MailboxConfig::Hardware(HardwareMailbox::ImxMu { address, config }) => {
            Box::new(ImxMu::open(&devices, *address, *config)?)
        }
        MailboxConfig::Hardware(HardwareMailbox::Stm32Ipcc { address, nodes, config }) => {
            Box::new(Stm32Ipcc::open(&devices, *address, nodes, config.clone())?)
        }
        MailboxConfig::Hardware(HardwareMailbox::Omap { address, config }) => {
            Box::new(OmapMailbox::open(&devices, *address, *config)?)
        }
        MailboxConfig::Hardware(HardwareMailbox::ZynqmpIpi(config)) => {
            Box::new(ZynqmpIpi::open(&devices, *config)?)
        }
    })
}

/// A region's file, and where it starts there.
struct Source {
    file: File,
    /// What is to be given to `mmap`, in bytes.
    offset: u64,
    /// Bytes from there to the region.
    skipped: u64,
    /// The file, for people.
    name: String,
}

fn open_region(memory: &MemoryConfig) -> Result<Source, LinkError> {
    let offset = memory.offset;
    Ok(match &memory.file {
        MemoryFile::Path(path) => {
            Source { file: open(path)?, offset, skipped: 0, name: path.display().to_string() }
        }
        MemoryFile::Open(file) => {
            let file = file.try_clone().map_err(LinkError::Stream)?;
            Source { file, offset, skipped: 0, name: "(built in)".to_owned() }
        }
        MemoryFile::Uio => {
            let address = memory.physical_address;
            let uio = |source| LinkError::Uio { address, source };
            let map = UioDevices::default().find(address, memory.size as u64, None).map_err(uio)?;
            let file = map.open().map_err(uio)?;
            let name = map.device.display().to_string();
            Source { file, offset: map.file_offset(), skipped: map.offset, name }
        }
    })
}

/// Maps the memory, unless what is mapped already is still the same. Returns whether it is new.
pub(super) fn map(config: &[MemoryConfig], mapped: &mut Option<Mapped>) -> Result<bool, LinkError> {
    let mut files = Vec::new();
    for memory in config {
        match open_region(memory) {
            Ok(source) => files.push((memory, source)),
            Err(error) if memory.is_optional => debug!("done without: {}", Causes(&error)),
            Err(error) => return Err(error),
        }
    }
    let identity = files.iter().map(|(_, Source { file, offset, skipped, .. })| {
        let place = offset.saturating_add(*skipped);
        file.metadata().map_or((0, 0, place), |data| (data.dev(), data.ino(), place))
    });
    let identity: Vec<_> = identity.collect();
    if mapped.as_ref().is_some_and(|mapped| mapped.identity == identity) {
        return Ok(false);
    }
    let mut regions = Vec::new();
    for (memory, Source { file, offset, skipped, name }) in files {
        let device_address = memory.device_address;
        // What does not fit into the address space cannot be mapped either, and is refused there.
        let skipped = usize::try_from(skipped).unwrap_or(usize::MAX);
        let region = Region::map_behind(&file, offset, skipped, memory.size, device_address, memory.access)
            .map_err(|source| LinkError::Memory { file: name, source })?
            .at_physical(memory.physical_address);
        regions.push(match &memory.name {
            Some(name) => region.named(name),
            None => region,
        });
    }
    *mapped = Some(Mapped { carveouts: Carveouts::new(regions), identity });
    Ok(true)
}

fn open(path: &Path) -> Result<File, LinkError> {
    let file = open_uncached(path);
    file.map_err(|source| LinkError::Open { path: path.to_owned(), source })
}
