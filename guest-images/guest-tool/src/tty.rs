//! One `/dev/ttyRPMSGN`: bytes, without messages' bounds.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use nix::libc;
use nix::poll::PollFlags;
use nix::sys::termios::{self, FlushArg, SetArg};

use crate::endpoint::{Link, wait};

/// How long to sleep where the driver had no buffer for a write: it reports that as ENOMEM and gives no event
/// for it.
const RETRY: Duration = Duration::from_millis(1);

/// A terminal counts as empty once nothing has arrived for so long.
const QUIET: Duration = Duration::from_millis(50);

/// After so long something is feeding the terminal all the time, and it will not become empty.
const QUIET_AT_LAST: Duration = Duration::from_secs(3);

/// An open terminal in raw mode.
pub(crate) struct Tty {
    file: File,
    node: PathBuf,
}

impl Tty {
    /// Opens the terminal, switches off every change that a terminal makes to what goes through it, and
    /// empties it.
    pub(crate) fn open(node: &Path) -> anyhow::Result<Self> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
            .open(node)
            .with_context(|| format!("cannot open {}", node.display()))?;
        let mut modes =
            termios::tcgetattr(&file).with_context(|| format!("{}: tcgetattr", node.display()))?;
        termios::cfmakeraw(&mut modes);
        termios::tcsetattr(&file, SetArg::TCSANOW, &modes)
            .with_context(|| format!("{}: tcsetattr", node.display()))?;
        termios::tcflush(&file, FlushArg::TCIOFLUSH)
            .with_context(|| format!("{}: tcflush", node.display()))?;
        let mut tty = Self { file, node: node.to_owned() };
        let (start, mut buffer) = (Instant::now(), [0]);
        while tty.receive(&mut buffer, 1, QUIET)?.is_some() {
            if start.elapsed() > QUIET_AT_LAST {
                bail!("{}: bytes arrived unasked for {QUIET_AT_LAST:?} and more follow", node.display());
            }
        }
        Ok(tty)
    }
}

impl Link for Tty {
    const UNIT: &'static str = "frames";

    fn send(&mut self, data: &[u8], timeout: Duration) -> anyhow::Result<()> {
        let mut progress = Instant::now();
        let mut rest = data;
        while !rest.is_empty() {
            match self.file.write(rest) {
                Ok(written) if written > 0 => {
                    rest = &rest[written..];
                    progress = Instant::now();
                    continue;
                }
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) if matches!(error.raw_os_error(), Some(libc::EAGAIN | libc::ENOMEM)) => {}
                Err(error) => {
                    return Err(error).with_context(|| format!("{}: write", self.node.display()));
                }
            }
            if progress.elapsed() >= timeout {
                bail!(
                    "{}: nothing written for {:.1} s: the device takes no messages",
                    self.node.display(),
                    timeout.as_secs_f64()
                );
            }
            std::thread::sleep(RETRY);
        }
        Ok(())
    }

    fn receive(
        &mut self,
        buffer: &mut [u8],
        expected: usize,
        timeout: Duration,
    ) -> anyhow::Result<Option<usize>> {
        let mut have = 0;
        let mut progress = Instant::now();
        while have < expected {
            if !wait(&self.file, PollFlags::POLLIN, timeout.saturating_sub(progress.elapsed()))? {
                if have == 0 {
                    return Ok(None);
                }
                bail!(
                    "{}: {have} of {expected} bytes, then nothing for {:.1} s",
                    self.node.display(),
                    timeout.as_secs_f64()
                );
            }
            match self.file.read(&mut buffer[have..expected]) {
                Ok(0) => bail!("{}: hung up: the channel was withdrawn", self.node.display()),
                Ok(read) => {
                    have += read;
                    progress = Instant::now();
                }
                Err(error) if matches!(error.kind(), ErrorKind::Interrupted | ErrorKind::WouldBlock) => {}
                Err(error) => return Err(error).with_context(|| format!("{}: read", self.node.display())),
            }
        }
        Ok(Some(have))
    }
}
