//! Why a host does not carry out a request.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

use super::Told;
use crate::remote::dump::DumpError;
use crate::remote::firmware::FirmwareError;
use crate::remote::mailbox::UioError;
use crate::remote::memory::CarveoutError;
use crate::remote::power::PowerError;

/// Why a request was not carried out.
#[derive(Debug, Error)]
pub enum HostError {
    /// A request that the configuration does not foresee.
    #[error("the configuration of this remote core has no {what}; it cannot be asked for")]
    NotConfigured {
        /// What was asked for.
        what: &'static str,
    },
    /// The doorbell socket.
    #[error("cannot connect to its doorbell socket {path}", path = path.display())]
    Connect {
        /// The socket.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The mailbox's UIO device.
    #[error("cannot use its mailbox")]
    Mailbox(#[source] UioError),
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
    Memory {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The watchdog.
    #[error("cannot open its watchdog {path}", path = path.display())]
    Watchdog {
        /// The device.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The register cannot be opened.
    #[error(
        "cannot open {path} to read the register at {register:#x}, which has the address of the resource table",
        path = path.display()
    )]
    OpenRegister {
        /// Where registers are.
        path: PathBuf,
        /// Physical address of the register.
        register: u64,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The register cannot be mapped.
    #[error("cannot read the register at {register:#x}, which has the address of the resource table")]
    MapRegister {
        /// Physical address of the register.
        register: u64,
        /// Why.
        #[source]
        source: CarveoutError,
    },
    /// The firmware.
    #[error(transparent)]
    Firmware(#[from] FirmwareError),
    /// The switch.
    #[error(transparent)]
    Switch(#[from] PowerError),
    /// A dump.
    #[error(transparent)]
    Dump(#[from] DumpError),
    /// A file that is kept open cannot be handed over.
    #[error("cannot duplicate the descriptor of its {what}")]
    Duplicate {
        /// What it is.
        what: &'static str,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// What a host in another process has said, with all its causes.
    #[error("{0}")]
    Elsewhere(String),
    /// An answer to something else.
    #[error(
        "the host has answered with {told:?} and {} file, which is no answer to what was asked; are all parts of the program of \
         one version?",
        if *has_file { "a" } else { "no" }
    )]
    Unexpected {
        /// What it said.
        told: Told,
        /// Whether there was a file with it.
        has_file: bool,
    },
}
