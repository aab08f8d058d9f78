//! The one door through which a remote core's room reaches the host: files, devices, sockets of others, commands.
//!
//! Everything that takes a file system or privileges is a [`Request`], and a [`Host`] carries it out. A request names
//! things by what they are to the remote core in question, never by a path: which they are stands in the configuration.
//! So whoever can send nothing but requests can reach nothing but what the configuration names. The one exception is
//! firmware that is named at run time: a host opens it for reading only, and only if it is an ELF file that is no core
//! dump.
//!
//! | host | where |
//! |---|---|
//! | [`Direct`] | carries requests out in this process: the keeper's, and that of tests |
//! | [`Home::host`](crate::keeper::home::Home::host) | has the keeper carry them out: the worker's |
//!
//! A host keeps the connection to the doorbell and the UIO devices open, so that they outlive whoever has asked for them:
//! who asks again gets the same connection, as long as it stands. To be rid of it takes a `shutdown` of the socket, as
//! `SocketMailbox` does when it hangs up.
#![forbid(unsafe_code)]

mod direct;
mod error;
mod held;
#[cfg(test)]
mod tests;

use std::fmt::Debug;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::mailbox::{UioDevice, UioMap};
use super::power::Step;

pub use direct::Direct;
pub use error::HostError;

/// Something that takes a file system or privileges, for one remote core.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Request {
    /// A file with the region of memory of this number. Answered by [`Told::Memory`].
    Memory(usize),
    /// A connection to the doorbell.
    Doorbell,
    /// A UIO device of the mailbox. Answered by [`Told::Uio`].
    Mailbox(MailboxPart),
    /// The device that becomes readable when the watchdog has fired.
    Watchdog,
    /// What is in the register with the address of the resource table. Answered by [`Told::Value`], without a file.
    TableRegister,
    /// The firmware: what is configured, or an ELF file that was named at run time. Answered by [`Told::Path`].
    Firmware(Option<PathBuf>),
    /// Throw the switch. Answered without a file.
    Switch(Step),
    /// A file for a dump of the core's memory. One that was begun before and has not ended is removed.
    BeginDump,
    /// The dump is whole and is to get its name, or is not to be kept. Answered by [`Told::Path`] or [`Told::Done`], without
    /// a file.
    EndDump {
        /// Whether it is whole.
        is_whole: bool,
    },
}

/// Which of a mailbox's UIO devices.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum MailboxPart {
    /// The one with the registers and the interrupt of what comes in.
    First,
    /// The other one, where the family has two: message buffer, or the interrupt of what goes out.
    Second,
}

/// What a host says besides handing over a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Told {
    /// Nothing more.
    Done,
    /// Where a region is in its file.
    Memory(MemoryPlace),
    /// Where registers are in their file.
    Uio(UioMap),
    /// What a register holds.
    Value(u32),
    /// The name of a file.
    Path(PathBuf),
}

/// Where a region of memory is in its file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemoryPlace {
    /// What is to be given to `mmap`, in bytes.
    pub offset: u64,
    /// Bytes from there to the region.
    pub skipped: u64,
    /// The file, for people.
    pub name: String,
}

/// The answer to a request.
#[derive(Debug)]
pub struct Answer {
    /// What is said.
    pub told: Told,
    /// The file, where one was asked for.
    pub file: Option<OwnedFd>,
}

/// Whoever carries out requests for one remote core. It may be asked by several threads; switching and ending a dump take
/// their time, all else does not block.
pub trait Host: Debug + Send + Sync {
    /// Carries out a request.
    ///
    /// # Errors
    /// What stands in the way.
    fn ask(&self, request: &Request) -> Result<Answer, HostError>;
}

impl dyn Host + '_ {
    /// [`Request::Memory`].
    pub(super) fn memory(&self, region: usize) -> Result<(File, MemoryPlace), HostError> {
        match self.ask(&Request::Memory(region))? {
            Answer { told: Told::Memory(place), file: Some(file) } => Ok((file.into(), place)),
            other => Err(other.unexpected()),
        }
    }

    /// [`Request::Doorbell`].
    pub(super) fn doorbell(&self) -> Result<UnixStream, HostError> {
        Ok(self.file(&Request::Doorbell)?.into())
    }

    /// [`Request::Mailbox`].
    pub(super) fn mailbox(&self, part: MailboxPart) -> Result<UioDevice, HostError> {
        match self.ask(&Request::Mailbox(part))? {
            Answer { told: Told::Uio(map), file: Some(file) } => Ok(UioDevice { map, file: file.into() }),
            other => Err(other.unexpected()),
        }
    }

    /// [`Request::Watchdog`].
    pub(super) fn watchdog(&self) -> Result<File, HostError> {
        Ok(self.file(&Request::Watchdog)?.into())
    }

    /// [`Request::TableRegister`].
    pub(super) fn table_register(&self) -> Result<u32, HostError> {
        match self.ask(&Request::TableRegister)? {
            Answer { told: Told::Value(value), .. } => Ok(value),
            other => Err(other.unexpected()),
        }
    }

    /// [`Request::Firmware`].
    pub(super) fn firmware(&self, named: Option<PathBuf>) -> Result<(File, PathBuf), HostError> {
        match self.ask(&Request::Firmware(named))? {
            Answer { told: Told::Path(path), file: Some(file) } => Ok((file.into(), path)),
            other => Err(other.unexpected()),
        }
    }

    /// [`Request::Switch`].
    pub(super) fn switch(&self, step: Step) -> Result<(), HostError> {
        self.ask(&Request::Switch(step)).map(drop)
    }

    /// [`Request::BeginDump`].
    pub(super) fn begin_dump(&self) -> Result<File, HostError> {
        Ok(self.file(&Request::BeginDump)?.into())
    }

    /// [`Request::EndDump`] for a dump that is whole.
    pub(super) fn keep_dump(&self) -> Result<PathBuf, HostError> {
        match self.ask(&Request::EndDump { is_whole: true })? {
            Answer { told: Told::Path(path), .. } => Ok(path),
            other => Err(other.unexpected()),
        }
    }

    /// [`Request::EndDump`] for a dump that is not to be kept.
    pub(super) fn drop_dump(&self) -> Result<(), HostError> {
        self.ask(&Request::EndDump { is_whole: false }).map(drop)
    }

    fn file(&self, request: &Request) -> Result<OwnedFd, HostError> {
        let answer = self.ask(request)?;
        match answer.file {
            Some(file) => Ok(file),
            None => Err(answer.unexpected()),
        }
    }
}

impl Answer {
    fn unexpected(self) -> HostError {
        HostError::Unexpected { told: self.told, has_file: self.file.is_some() }
    }
}

impl From<Told> for Answer {
    fn from(told: Told) -> Self {
        Answer { told, file: None }
    }
}
