//! Reaching a remote core: its mailbox and its memory.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;

use log::debug;
use thiserror::Error;

use super::config::{HardwareMailbox, MailboxConfig, MemoryConfig, MemoryFile};
use super::host::{Host, HostError, MailboxPart, MemoryPlace};
use super::mailbox::{HardwareError, ImxMu, Mailbox, OmapMailbox, SocketMailbox, Stm32Ipcc, ZynqmpIpi};
use super::memory::{CarveoutError, Carveouts, Region};
use crate::causes::Causes;

/// Why a remote core cannot be reached.
#[derive(Debug, Error)]
pub(super) enum LinkError {
    /// The host does not give what is asked for.
    #[error(transparent)]
    Host(#[from] HostError),
    /// A doorbell connection that was given.
    #[error("cannot use its doorbell connection")]
    Stream(#[source] io::Error),
    /// Its mailbox.
    #[error("cannot use its mailbox")]
    Mailbox(#[from] HardwareError),
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
pub(super) fn open_mailbox(
    host: &dyn Host,
    config: &mut MailboxConfig,
) -> Result<Box<dyn Mailbox>, LinkError> {
    let hardware = match config {
        MailboxConfig::Path(_) => {
            let mailbox = SocketMailbox::new(host.doorbell()?);
            return Ok(Box::new(mailbox.map_err(LinkError::Stream)?));
        }
        MailboxConfig::Stream(stream) => {
            let stream =
                stream.take().ok_or_else(|| LinkError::Stream(io::ErrorKind::NotConnected.into()))?;
            return Ok(Box::new(SocketMailbox::new(stream).map_err(LinkError::Stream)?));
        }
        MailboxConfig::Hardware(hardware) => hardware,
    };
    let first = host.mailbox(MailboxPart::First)?;
    let second = hardware.registers(MailboxPart::Second).map(|_| host.mailbox(MailboxPart::Second));
    let second = second.transpose()?;
    Ok(match hardware {
        HardwareMailbox::ImxMu { config, .. } => Box::new(ImxMu::open(first, *config)?),
        HardwareMailbox::Stm32Ipcc { config, .. } => {
            Box::new(Stm32Ipcc::open(first, second, config.clone())?)
        }
        HardwareMailbox::Omap { config, .. } => Box::new(OmapMailbox::open(first, *config)?),
        HardwareMailbox::ZynqmpIpi(config) => {
            let buffer = second.expect("a part that this mailbox has");
            Box::new(ZynqmpIpi::open(first, &buffer, *config)?)
        }
    })
}

fn open_region(
    host: &dyn Host,
    index: usize,
    memory: &MemoryConfig,
) -> Result<(File, MemoryPlace), LinkError> {
    match &memory.file {
        MemoryFile::Path(_) | MemoryFile::Uio => Ok(host.memory(index)?),
        MemoryFile::Open(file) => {
            let file = file.try_clone().map_err(LinkError::Stream)?;
            Ok((file, MemoryPlace { offset: memory.offset, skipped: 0, name: "(built in)".to_owned() }))
        }
    }
}

/// Maps the memory, unless what is mapped already is still the same. Returns whether it is new.
pub(super) fn map(
    host: &dyn Host,
    config: &[MemoryConfig],
    mapped: &mut Option<Mapped>,
) -> Result<bool, LinkError> {
    let mut files = Vec::new();
    for (index, memory) in config.iter().enumerate() {
        match open_region(host, index, memory) {
            Ok((file, place)) => files.push((memory, file, place)),
            Err(error) if memory.is_optional => debug!("done without: {}", Causes(&error)),
            Err(error) => return Err(error),
        }
    }
    let identity = files.iter().map(|(_, file, MemoryPlace { offset, skipped, .. })| {
        let place = offset.saturating_add(*skipped);
        file.metadata().map_or((0, 0, place), |data| (data.dev(), data.ino(), place))
    });
    let identity: Vec<_> = identity.collect();
    if mapped.as_ref().is_some_and(|mapped| mapped.identity == identity) {
        return Ok(false);
    }
    let mut regions = Vec::new();
    for (memory, file, MemoryPlace { offset, skipped, name }) in files {
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
