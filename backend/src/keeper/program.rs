//! The program's own executable, from which workers are started.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::fs::{CWD, Mode, OFlags, openat};

/// The argument by which the program knows that it is to be a worker. Its channel is its standard input.
pub const WORKER: &str = "--worker-of-this-keeper";

/// The executable, held open: a worker that is started after a crash is of the same version, whatever has been installed
/// meanwhile.
#[derive(Debug)]
pub(super) struct Program {
    path: PathBuf,
    file: OwnedFd,
    /// What was used before, until a worker of the new one serves.
    previous: Option<OwnedFd>,
}

impl Program {
    /// The program that runs.
    pub(super) fn running() -> io::Result<Self> {
        Ok(Program {
            path: std::env::current_exe()?,
            file: open(Path::new("/proc/self/exe"))?,
            previous: None,
        })
    }

    /// Where it is installed.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Takes the one that is installed now.
    pub(super) fn reopen(&mut self) -> io::Result<()> {
        let file = open(&self.path)?;
        self.previous = Some(std::mem::replace(&mut self.file, file));
        Ok(())
    }

    /// It serves: what was used before is not needed any more.
    pub(super) fn is_good(&mut self) {
        self.previous = None;
    }

    /// Takes what was used before, unless what is used now has served once. Returns whether there is another.
    pub(super) fn go_back(&mut self) -> bool {
        let Some(previous) = self.previous.take() else { return false };
        self.file = previous;
        true
    }

    /// Starts a worker.
    pub(super) fn spawn(&self, channel: OwnedFd) -> io::Result<Child> {
        Command::new(format!("/proc/self/fd/{}", self.file.as_raw_fd()))
            .arg0(&self.path)
            .arg(WORKER)
            .stdin(Stdio::from(channel))
            .spawn()
    }
}

/// The file itself, whatever its name comes to mean. It need not be readable.
fn open(path: &Path) -> io::Result<OwnedFd> {
    Ok(openat(CWD, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?)
}
