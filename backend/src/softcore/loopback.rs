//! A core on a thread of this process: memory that is no file, doorbell that is a socket pair.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::thread::JoinHandle;

use rustix::event::{EventfdFlags, eventfd};

use super::{Config, Control, Doorbell, Memory, Runner, SoftCore, StartError};

/// The host's ends of a core that runs on a thread of this process.
#[derive(Debug)]
pub struct Loopback {
    /// The core's memory, to be mapped shared.
    pub memory: File,
    /// Its size in bytes.
    pub size: u64,
    /// Device address of its first byte.
    pub device_address: u32,
    /// Device address of the resource table.
    pub table_address: u32,
    /// Device address of the pool for vrings and buffers, which extends to the end of the memory.
    pub pool_address: u32,
    /// The host's end of the doorbell.
    pub doorbell: UnixStream,
    /// The commands of [`super::Control`]; to be dropped where they are not wanted.
    pub control: UnixStream,
    /// The thread. Dropping it ends the core.
    pub thread: CoreThread,
}

/// The thread that a core runs on; it is stopped and waited for when this is dropped.
#[derive(Debug)]
pub struct CoreThread {
    stop: OwnedFd,
    handle: Option<JoinHandle<()>>,
}

/// Starts a core on a thread of this process.
///
/// Where the process is to sleep when there is nothing to do, set [`Config::status_poll`] to false, and ring a kick
/// after each change of the vdev status (after `DRIVER_OK` Linux does so anyway, to tell of its empty buffers).
///
/// # Errors
/// The configuration cannot work, or the system gives no memory, socket pair or thread.
pub fn spawn_loopback(config: Config) -> Result<Loopback, StartError> {
    PreparedLoopback::new(config)?.start()
}

/// A core with all that it needs but a thread.
#[derive(Debug)]
pub struct PreparedLoopback {
    core: SoftCore,
    shared: File,
    doorbell: (UnixStream, UnixStream),
    control: (UnixStream, UnixStream),
    stop: OwnedFd,
}

impl PreparedLoopback {
    /// Makes the core and its memory.
    ///
    /// # Errors
    /// As of [`spawn_loopback`], but for the thread.
    pub fn new(config: Config) -> Result<Self, StartError> {
        let memory = Memory::memfd(&config.layout()?)?;
        let shared = memory.file().try_clone().map_err(StartError::Loop)?;
        let core = SoftCore::new(config, memory)?;
        let pair = || UnixStream::pair().map_err(StartError::Loop);
        let stop = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK);
        let stop = stop.map_err(|error| StartError::Loop(error.into()))?;
        Ok(PreparedLoopback { core, shared, doorbell: pair()?, control: pair()?, stop })
    }

    /// Starts the thread.
    ///
    /// # Errors
    /// The system gives none.
    pub fn start(self) -> Result<Loopback, StartError> {
        let layout = self.core.layout().clone();
        let (doorbell, control) = (self.doorbell.0, self.control.0);
        let thread = run(self.core, self.doorbell.1, self.control.1, self.stop).map_err(StartError::Loop)?;
        Ok(Loopback {
            memory: self.shared,
            size: layout.size(),
            device_address: layout.device_address(),
            table_address: layout.table_address(),
            pool_address: layout.pool_address(),
            doorbell,
            control,
            thread,
        })
    }
}

fn run(core: SoftCore, doorbell: UnixStream, control: UnixStream, stop: OwnedFd) -> io::Result<CoreThread> {
    let answers = control.try_clone()?;
    let control = Control::new(control.into(), answers.into());
    let mut runner = Runner::new(core, Doorbell::connected(doorbell)?, Some(control), stop.try_clone()?);
    let handle = std::thread::Builder::new().name("softcore".to_owned()).spawn(move || {
        if let Err(error) = runner.run() {
            log::error!("the loopback core has ended: {error}");
        }
    })?;
    Ok(CoreThread { stop, handle: Some(handle) })
}

impl Drop for CoreThread {
    fn drop(&mut self) {
        // An event fd of ours that is not full takes a 1.
        let _ = rustix::io::write(&self.stop, &1u64.to_ne_bytes());
        if let Some(handle) = self.handle.take()
            && handle.join().is_err()
        {
            log::error!("the loopback core has panicked");
        }
    }
}
