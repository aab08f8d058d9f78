//! What a host keeps open, so that it outlives whoever has asked for it.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FileType, fstat, stat};

use super::MailboxPart;

/// Something that is kept open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Kept {
    Doorbell,
    Mailbox(MailboxPart),
    Memory(usize),
    Watchdog,
}

/// All that is kept open for one remote core.
#[derive(Debug, Default)]
pub(super) struct Held(Mutex<HashMap<Kept, OwnedFd>>);

impl Held {
    /// A duplicate of the connection that is kept, or of a new one if that has come to its end.
    pub(super) fn connection<E>(
        &self,
        connect: impl FnOnce() -> Result<OwnedFd, E>,
        failed: impl FnOnce(io::Error) -> E,
    ) -> Result<OwnedFd, E> {
        let mut held = self.lock();
        if let Some(stream) = held.get(&Kept::Doorbell).filter(|stream| stands(stream.as_fd())) {
            return stream.try_clone().map_err(failed);
        }
        // The old one is closed first: the remote may serve one at a time.
        held.remove(&Kept::Doorbell);
        let stream = connect()?;
        let duplicate = stream.try_clone().map_err(failed)?;
        held.insert(Kept::Doorbell, stream);
        Ok(duplicate)
    }

    /// A duplicate of the device that is kept, if it is still what is at `path`; otherwise of a new one. What is no device is
    /// opened and not kept.
    pub(super) fn device<E>(
        &self,
        kept: Kept,
        path: &Path,
        open: impl FnOnce() -> Result<OwnedFd, E>,
        failed: impl FnOnce(io::Error) -> E,
    ) -> Result<OwnedFd, E> {
        let mut held = self.lock();
        if let Some(device) = held.get(&kept).filter(|device| is_at(device.as_fd(), path)) {
            return device.try_clone().map_err(failed);
        }
        held.remove(&kept);
        let device = open()?;
        let is_device = fstat(&device)
            .is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice);
        if !is_device {
            return Ok(device);
        }
        let duplicate = device.try_clone().map_err(failed)?;
        held.insert(kept, device);
        Ok(duplicate)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Kept, OwnedFd>> {
        // What is in there is whole at any time.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether neither side of a connection has hung up.
fn stands(stream: BorrowedFd<'_>) -> bool {
    let mut state = [PollFd::from_borrowed_fd(stream, PollFlags::RDHUP)];
    matches!(poll(&mut state, Some(&Timespec::default())), Ok(0))
}

/// Whether a device is still the one with this node: one that was unbound and bound again has another node.
fn is_at(device: BorrowedFd<'_>, path: &Path) -> bool {
    matches!((fstat(device), stat(path)), (Ok(mine), Ok(there)) if mine.st_dev == there.st_dev && mine.st_ino == there.st_ino)
}
