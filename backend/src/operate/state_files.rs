//! The files and the memory for what outlives a worker, or with `state` in the configuration the program.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use nix::libc;
use rustix::fs::{
    FallocateFlags, FlockOperation, MemfdFlags, SealFlags, fallocate, fcntl_add_seals, flock, ftruncate,
    memfd_create,
};
use rustix::io::Errno;

use super::events;
use super::keep::KeepError;

/// A file in the directory for what outlives the program. It is nobody else's as long as this one runs.
pub(super) fn state_file(path: &Path, size: u64) -> Result<OwnedFd, KeepError> {
    let open = || {
        let mut options = File::options();
        options.read(true).write(true).create(true).truncate(false);
        let file = options.mode(0o600).custom_flags(libc::O_NOFOLLOW).open(path)?;
        flock(&file, FlockOperation::NonBlockingLockExclusive)?;
        if file.metadata()?.len() != size {
            file.set_len(0)?;
            file.set_len(size)?;
        }
        Ok(file.into())
    };
    open().map_err(|source| KeepError::StateFile { path: path.to_owned(), source })
}

/// The file of what has happened. This process writes to it like to memory: there has to be room for all of it now.
pub(super) fn events_file(path: &Path) -> Result<OwnedFd, KeepError> {
    let file = state_file(path, events::SIZE)?;
    match fallocate(&file, FallocateFlags::empty(), 0, events::SIZE) {
        Err(errno) if errno != Errno::OPNOTSUPP => {
            Err(KeepError::StateFile { path: path.to_owned(), source: errno.into() })
        }
        _ => Ok(file),
    }
}

/// Memory of a fixed size, all zero, that takes what is written to and no more.
pub(super) fn state_memory(size: u64) -> io::Result<OwnedFd> {
    let memfd = memfd_create("state", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
    ftruncate(&memfd, size)?;
    fcntl_add_seals(&memfd, SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL)?;
    Ok(memfd)
}
