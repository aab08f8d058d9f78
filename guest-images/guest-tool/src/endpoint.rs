//! One `/dev/rpmsgN`: messages to and from one remote address.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, bail};
use nix::errno::Errno;
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::channels::{self, ANY};
use crate::control::{self, Control};

/// What the kernel's blocking send gives when it has waited 15 s for a buffer: ERESTARTSYS, which is meant to
/// stay in the kernel, but comes out where no signal is pending (`rpmsg_send_offchannel_raw`).
const ERESTARTSYS: i32 = 512;

/// How long to sleep where the kernel has no buffer and cannot be waited for: Linux 6.1 has no POLLOUT for
/// rpmsg, 7.2 has.
const RETRY: Duration = Duration::from_millis(1);

/// An endpoint counts as empty once nothing has arrived for so long.
const QUIET: Duration = Duration::from_millis(50);

/// After so long something is feeding the endpoint all the time, and it will not become empty.
const QUIET_AT_LAST: Duration = Duration::from_secs(3);

/// Something that takes and gives data, whole messages or a run of bytes.
pub(crate) trait Link {
    /// What one transfer is called in a result.
    const UNIT: &'static str;

    /// Hands `data` to the kernel; waits for room as long as there is progress within `timeout`.
    fn send(&mut self, data: &[u8], timeout: Duration) -> anyhow::Result<()>;

    /// Receives the next message, whatever its length, or `expected` bytes where there are no messages. Gives
    /// None if nothing came in time.
    fn receive(
        &mut self,
        buffer: &mut [u8],
        expected: usize,
        timeout: Duration,
    ) -> anyhow::Result<Option<usize>>;
}

/// Which endpoint is meant.
pub(crate) enum Target {
    /// An existing device.
    Node(PathBuf),
    /// The remote address of the first channel of this name. The driver's own device is used where it has
    /// made one, and no other address of the guest's is asked for.
    Service { name: String, src: Option<u32> },
    /// Any remote address.
    Address { src: Option<u32>, dst: u32 },
}

/// An open endpoint.
pub(crate) struct Endpoint {
    file: File,
    node: PathBuf,
    /// Whether the device was made for this endpoint and goes with it.
    made: bool,
    blocking: bool,
}

impl Endpoint {
    /// Opens the endpoint, making it first where necessary, and empties it: Linux collects messages for a
    /// channel's own endpoint also while nobody has it open.
    pub(crate) fn open(target: &Target, blocking: bool) -> anyhow::Result<Self> {
        let (node, made) = match target {
            Target::Node(node) => (node.clone(), false),
            Target::Address { src, dst } => {
                (Control::open()?.create_endpoint(src.unwrap_or(ANY), *dst)?, true)
            }
            Target::Service { name, src } => {
                let channel = channels::find(name)?;
                // Another driver's node, a terminal say, is not an endpoint.
                let node = channel.node.filter(|_| channel.driver.as_deref() == Some("rpmsg_chrdev"));
                match (node, src) {
                    (Some(node), None) => (node, false),
                    (_, src) => (Control::open()?.create_endpoint(src.unwrap_or(ANY), channel.dst)?, true),
                }
            }
        };
        let mut options = OpenOptions::new();
        options.read(true).write(true);
        if !blocking {
            options.custom_flags(libc::O_NONBLOCK);
        }
        let file = options.open(&node).with_context(|| format!("cannot open {}", node.display()))?;
        let mut endpoint = Self { file, node, made, blocking };
        endpoint.empty()?;
        Ok(endpoint)
    }

    /// Throws away what arrives until nothing has for a while; gives the number of messages.
    pub(crate) fn empty(&mut self) -> anyhow::Result<u64> {
        let start = Instant::now();
        let mut buffer = [0; crate::MAX_PAYLOAD];
        let mut count = 0;
        while self.receive(&mut buffer, 0, QUIET)?.is_some() {
            count += 1;
            if start.elapsed() > QUIET_AT_LAST {
                bail!(
                    "{}: {count} messages arrived unasked within {QUIET_AT_LAST:?} and more follow",
                    self.node.display()
                );
            }
        }
        Ok(count)
    }

    fn explain(&self, doing: &str, error: &std::io::Error) -> anyhow::Error {
        let node = self.node.display();
        match error.raw_os_error() {
            Some(ERESTARTSYS) => {
                anyhow!("{node}: {doing}: the kernel waited 15 s for a buffer: the device takes no messages")
            }
            Some(libc::EPIPE | libc::ENETRESET) => {
                anyhow!("{node}: {doing}: the endpoint is gone: the channel was withdrawn")
            }
            Some(libc::ENODEV | libc::EIO) => anyhow!("{node}: {doing}: the device is gone: {error}"),
            Some(libc::EMSGSIZE) => anyhow!("{node}: {doing}: larger than a buffer of the device: {error}"),
            _ => anyhow!("{node}: {doing}: {error}"),
        }
    }
}

impl Link for Endpoint {
    const UNIT: &'static str = "messages";

    fn send(&mut self, data: &[u8], timeout: Duration) -> anyhow::Result<()> {
        let start = Instant::now();
        loop {
            match self.file.write(data) {
                Ok(written) if written == data.len() => return Ok(()),
                Ok(written) => {
                    bail!("{}: {written} of a message of {} bytes sent", self.node.display(), data.len())
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock && !self.blocking => {
                    if start.elapsed() >= timeout {
                        bail!(
                            "{}: no buffer for {:.1} s: the device takes no messages",
                            self.node.display(),
                            timeout.as_secs_f64()
                        );
                    }
                    wait(&self.file, PollFlags::POLLOUT, RETRY)?;
                }
                Err(error) => return Err(self.explain("send", &error)),
            }
        }
    }

    fn receive(&mut self, buffer: &mut [u8], _: usize, timeout: Duration) -> anyhow::Result<Option<usize>> {
        let start = Instant::now();
        loop {
            // Nobody else reads here (Linux lets an endpoint be opened once), so what is seen can be read
            // without waiting.
            if !wait(&self.file, PollFlags::POLLIN, timeout.saturating_sub(start.elapsed()))? {
                return Ok(None);
            }
            match self.file.read(buffer) {
                Ok(length) => return Ok(Some(length)),
                Err(error) if matches!(error.kind(), ErrorKind::Interrupted | ErrorKind::WouldBlock) => {}
                Err(error) => return Err(self.explain("receive", &error)),
            }
        }
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        if self.made
            && let Err(error) = control::destroy(&self.file)
        {
            eprintln!("guest-tool: {}: cannot remove the endpoint: {error}", self.node.display());
        }
    }
}

/// Waits for one of `events` or an error to report; false if there was none in time. A signal does not end
/// the wait.
pub(crate) fn wait(file: &impl AsFd, events: PollFlags, timeout: Duration) -> anyhow::Result<bool> {
    let start = Instant::now();
    loop {
        let left = timeout.saturating_sub(start.elapsed());
        // poll(2) counts milliseconds. Rounded up, or the last one would be spent turning in this loop.
        let left = PollTimeout::try_from(left + Duration::from_micros(999)).unwrap_or(PollTimeout::MAX);
        let left = if timeout.is_zero() { PollTimeout::ZERO } else { left };
        match poll(&mut [PollFd::new(file.as_fd(), events)], left) {
            Ok(0) if start.elapsed() < timeout => {}
            Ok(ready) => return Ok(ready > 0),
            Err(Errno::EINTR) => {}
            Err(error) => return Err(error).context("poll"),
        }
    }
}
