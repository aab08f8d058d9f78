//! The switch of a remote core: how it is started and stopped.
//!
//! | switch | start | stop |
//! |---|---|---|
//! | [`Switch::Command`] | a command that has ended well | another one |
//! | [`Switch::Sysfs`] | Linux's remoteproc says `running` | it says `offline` |
//! | [`Switch::Register`] | the start bits are written | the stop bits are written |
//!
//! All of it blocks, at most for [`TIME_LIMIT`], and belongs on a service thread. Whether the firmware is really up is
//! for the mailbox to tell.
#![forbid(unsafe_code)]

mod command;
mod register;
mod sysfs;

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::memory::CarveoutError;

pub use register::Register;

/// How long a command may run, and how long remoteproc may take to come to another state.
pub const TIME_LIMIT: Duration = Duration::from_secs(30);

/// How a remote core is started and stopped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Switch {
    /// By commands: a program and its arguments each, without a shell. They have no standard input, and their output
    /// goes nowhere, but for the last line on standard error, which is told if they fail. What such a command leaves
    /// running is left alone, unless it exceeds its time.
    Command {
        /// Starts the core.
        start: Vec<String>,
        /// Stops it.
        stop: Vec<String>,
    },
    /// By Linux's remoteproc.
    Sysfs {
        /// `/sys/class/remoteproc/remoteprocN`.
        directory: PathBuf,
        /// Name of the firmware, relative to where the kernel looks for firmware; `None` for what is set there already.
        firmware: Option<String>,
    },
    /// By a register.
    Register(Register),
}

/// What was to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Step {
    /// Start the core.
    Start,
    /// Stop it.
    Stop,
}

/// Why a remote core could not be started or stopped.
#[derive(Debug, Error)]
pub enum PowerError {
    /// There is no command.
    #[error("the {step} command is empty, expected a program and its arguments; configure it")]
    NoCommand {
        /// What it was for.
        step: Step,
    },
    /// The command could not be run.
    #[error("cannot run the {step} command {command:?}")]
    Run {
        /// What it was for.
        step: Step,
        /// Program and arguments.
        command: Vec<String>,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The command did not end well.
    #[error(
        "the {step} command {command:?} ended with {status}, expected success; the last it said was \"{said}\""
    )]
    Failed {
        /// What it was for.
        step: Step,
        /// Program and arguments.
        command: Vec<String>,
        /// How it ended.
        status: ExitStatus,
        /// Its last line on standard error, escaped.
        said: String,
    },
    /// The command did not end in time, and was killed.
    #[error(
        "the {step} command {command:?} was killed because it had not ended after {} s; have it leave in the \
         background what takes longer; the last it said was \"{said}\"",
        limit.as_secs_f32()
    )]
    TimedOut {
        /// What it was for.
        step: Step,
        /// Program and arguments.
        command: Vec<String>,
        /// The time it had.
        limit: Duration,
        /// Its last line on standard error, escaped.
        said: String,
    },
    /// A file of remoteproc cannot be read.
    #[error("cannot read {path}; is it a remoteproc directory, `/sys/class/remoteproc/remoteprocN`?", path = path.display())]
    ReadAttribute {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A file of remoteproc cannot be written, or the kernel refuses what was written.
    #[error("cannot write {value:?} to {path}; the kernel's log may say more", path = path.display())]
    WriteAttribute {
        /// The file.
        path: PathBuf,
        /// What was written.
        value: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The core is in a state in which it cannot be started or stopped.
    #[error("cannot {step} the core while {path} says {found:?}, expected {expected}; {remedy}", path = path.display())]
    State {
        /// What was to be done.
        step: Step,
        /// The file with the state.
        path: PathBuf,
        /// The state that it is in.
        found: String,
        /// States in which it can be done.
        expected: &'static str,
        /// What to do about it.
        remedy: &'static str,
    },
    /// The core did not get into the state that it was told to in time.
    #[error(
        "the core was told to {step}, but after {} s {path} says {found:?}, expected {expected:?}; is it in use by \
         another driver of the kernel?",
        limit.as_secs_f32(), path = path.display()
    )]
    StateTimedOut {
        /// What was to be done.
        step: Step,
        /// The file with the state.
        path: PathBuf,
        /// The time it had.
        limit: Duration,
        /// The state that it is in.
        found: String,
        /// The state it should be in.
        expected: &'static str,
    },
    /// The core got into another state than it was told to.
    #[error(
        "the core was told to {step}, but {path} says {found:?}, expected {expected:?}; the kernel's log may say more",
        path = path.display()
    )]
    StateAfter {
        /// What was to be done.
        step: Step,
        /// The file with the state.
        path: PathBuf,
        /// The state that it is in.
        found: String,
        /// The state it should be in.
        expected: &'static str,
    },
    /// A value with bits that the mask leaves out.
    #[error(
        "the {step} value {value:#x} of the register at {address:#x} has bits outside its mask {mask:#x}; widen the \
         mask or clear the bits"
    )]
    OutsideMask {
        /// What it was for.
        step: Step,
        /// Physical address of the register.
        address: u64,
        /// The value.
        value: u32,
        /// The mask.
        mask: u32,
    },
    /// The file with the registers cannot be opened.
    #[error("cannot open {path} to reach the register at {address:#x}", path = path.display())]
    OpenRegister {
        /// The file.
        path: PathBuf,
        /// Physical address of the register.
        address: u64,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The register cannot be mapped.
    #[error("cannot reach the register at {address:#x} through {path}", path = path.display())]
    MapRegister {
        /// The file.
        path: PathBuf,
        /// Physical address of the register.
        address: u64,
        /// Why.
        #[source]
        source: CarveoutError,
    },
}

impl Switch {
    /// Starts the core.
    ///
    /// With remoteproc it must be offline, or crashed, which recovers it with the firmware that it had.
    ///
    /// # Errors
    /// A command that fails or takes too long, a kernel that refuses, a register that cannot be reached.
    pub fn start(&self) -> Result<(), PowerError> {
        self.turn(Step::Start)
    }

    /// Stops the core.
    ///
    /// With remoteproc, one that is offline or has crashed is left as it is.
    ///
    /// # Errors
    /// As of [`start`](Self::start).
    pub fn stop(&self) -> Result<(), PowerError> {
        self.turn(Step::Stop)
    }

    /// Starts or stops the core.
    ///
    /// # Errors
    /// As of [`start`](Self::start).
    pub fn turn(&self, step: Step) -> Result<(), PowerError> {
        match (self, step) {
            (Switch::Command { start: command, .. }, Step::Start)
            | (Switch::Command { stop: command, .. }, Step::Stop) => command::run(step, command, TIME_LIMIT),
            (Switch::Sysfs { directory, firmware }, Step::Start) => {
                sysfs::start(directory, firmware.as_deref(), TIME_LIMIT)
            }
            (Switch::Sysfs { directory, .. }, Step::Stop) => sysfs::stop(directory, TIME_LIMIT),
            (Switch::Register(register), _) => register.write(step),
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Step::Start => "start",
            Step::Stop => "stop",
        })
    }
}
