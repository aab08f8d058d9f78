//! The service thread of a remote core: what may block is done there, one thing after the other, and the bridge's
//! thread takes the results.

use std::fmt;
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::Builder;

use thiserror::Error;
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use super::dump::DumpError;
use super::firmware::{FirmwareError, Loaded};
use super::host::HostError;

/// Something to be done.
pub(super) type Chore = Box<dyn FnOnce() -> Done + Send>;

/// What has become of it.
pub(super) enum Done {
    /// Firmware is in the core's memory.
    Loaded(Result<Loaded, LoadError>),
    /// The core has been started.
    Started(Result<(), HostError>),
    /// The core has been stopped.
    Stopped(Result<(), HostError>),
    /// The core's memory is in this file.
    Dumped(Result<PathBuf, DumpError>),
}

/// Why firmware is not in the core's memory.
#[derive(Debug, Error)]
pub(super) enum LoadError {
    /// It cannot be had.
    #[error(transparent)]
    Host(#[from] HostError),
    /// It cannot be loaded.
    #[error(transparent)]
    Firmware(#[from] FirmwareError),
}

/// The thread, as seen by the bridge's. It ends when this is dropped, after what it is doing.
pub(super) struct Chores {
    chores: Sender<Chore>,
    done: Receiver<Done>,
    /// How many are being done or wait for it.
    pending: usize,
    wake: Arc<EventFd>,
}

impl Chores {
    /// Starts the thread.
    ///
    /// # Errors
    /// No thread or event descriptor to be had.
    pub(super) fn new(remote: &str) -> io::Result<Self> {
        let wake = Arc::new(EventFd::new(EFD_NONBLOCK)?);
        let (chores, receiver) = channel::<Chore>();
        let (sender, done) = channel();
        let wakes = Arc::clone(&wake);
        Builder::new().name(format!("service {remote}")).spawn(move || {
            for chore in receiver {
                if sender.send(chore()).is_err() {
                    return;
                }
                // A counter that cannot take more is readable already.
                let _ = wakes.write(1);
            }
        })?;
        Ok(Chores { chores, done, pending: 0, wake })
    }

    /// Has something done.
    pub(super) fn give(&mut self, chore: Chore) {
        self.pending += 1;
        self.chores.send(chore).expect("the thread lives as long as this");
    }

    /// What has been done, if anything has.
    pub(super) fn take(&mut self) -> Option<Done> {
        let done = self.done.try_recv().ok()?;
        self.pending -= 1;
        Some(done)
    }

    /// Waits until everything has been done. What came last, if anything was to be done.
    pub(super) fn finish(&mut self) -> Option<Done> {
        let mut last = None;
        for _ in 0..std::mem::take(&mut self.pending) {
            last = self.done.recv().ok();
        }
        last
    }

    /// Stops [`descriptor`](Self::descriptor) from being readable until something more is done.
    pub(super) fn acknowledge(&self) {
        // Empty already where the wake-up was taken before.
        let _ = self.wake.read();
    }

    /// Becomes readable when something has been done.
    pub(super) fn descriptor(&self) -> RawFd {
        self.wake.as_raw_fd()
    }
}

impl fmt::Debug for Chores {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Chores").finish_non_exhaustive()
    }
}
