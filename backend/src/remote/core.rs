//! The life of a remote core: from "nobody there" to two working vrings, and back.
//!
//! | state | mailbox | device | next step |
//! |---|---|---|---|
//! | offline | none | none, or cut off | connect again by timer |
//! | waiting | connected | none, or cut off | ask "state?" by timer until ready or running comes |
//! | attached | connected | there | doorbells |
//!
//! *Ready* means that the remote has just booted: whatever was attached is gone, and its table is read afresh.
//! *Running* attaches where nothing is attached. A closed socket is a core that is gone; should the same core answer
//! on a new connection with its table untouched, only the line was cut, and the vrings go on where they were.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use log::{debug, info, warn};
use thiserror::Error;

use super::attach::{Attachment, RpmsgVdev, attach};
use super::layout::Layout;
use super::mailbox::{Mailbox, Request, Signals, SocketMailbox};
use super::memory::{Access, CarveoutError, Carveouts, Region};
use super::vring::VringFault;
use crate::causes::Causes;

/// Between two attempts to reach a remote core that is not there.
const RETRY: Duration = Duration::from_millis(100);
/// Between two attempts once the first ones have failed.
const SLOW_RETRY: Duration = Duration::from_secs(1);
/// Attempts before the slow interval.
const FAST_ATTEMPTS: u32 = 20;

/// Where a remote core is and how to reach it.
#[derive(Debug)]
pub struct RemoteConfig {
    /// Its name, for people.
    pub name: String,
    /// Its mailbox.
    pub doorbell: Doorbell,
    /// Its memory.
    pub memory: Vec<MemoryConfig>,
    /// Where its vrings are.
    pub layout: Layout,
    /// Attach by table and status alone when the remote answers nothing for this long.
    pub attach_after: Option<Duration>,
}

/// The doorbell socket of a remote core.
#[derive(Debug)]
pub enum Doorbell {
    /// The socket that it listens on.
    Path(PathBuf),
    /// A connection that is already there. When it closes, the core is gone for good.
    Stream(Option<UnixStream>),
}

/// A stretch of a remote core's memory.
#[derive(Debug)]
pub struct MemoryConfig {
    /// The file that holds it.
    pub file: MemoryFile,
    /// Where in the file it starts, in bytes.
    pub offset: u64,
    /// Its size in bytes.
    pub size: usize,
    /// Where the remote core sees it.
    pub device_address: u64,
    /// What it is for, if not for anything.
    pub name: Option<String>,
}

/// A file with a remote core's memory.
#[derive(Debug)]
pub enum MemoryFile {
    /// By its path; opened when the core is there.
    Path(PathBuf),
    /// Open already.
    Open(File),
}

/// What has become of a remote core.
#[derive(Debug)]
pub enum Change {
    /// It has been attached to; nothing is known of its services yet. These are its rpmsg devices.
    Attached(Vec<RpmsgVdev>),
    /// It cannot be reached, but may go on where it was.
    CutOff(Loss),
    /// It can be reached again, and goes on as if nothing had been.
    Resumed,
    /// It is not there any more.
    Lost(Loss),
    /// It is not there any more, but its successor is attached already.
    Rebooted(Vec<RpmsgVdev>),
}

/// How a remote core was lost.
#[derive(Debug, Error)]
pub enum Loss {
    /// The doorbell socket was closed.
    #[error("its doorbell socket was closed")]
    Closed,
    /// It said so.
    #[error("it reports a crash")]
    Crashed,
    /// A vring is unusable.
    #[error("a vring is unusable")]
    Fault(#[source] VringFault),
    /// It has booted anew and cannot be attached to.
    #[error("it has booted anew, but cannot be attached to")]
    Rebooted,
}

#[derive(Debug, Error)]
enum StartError {
    #[error("cannot connect to its doorbell socket {path}", path = path.display())]
    Connect {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("cannot use its doorbell connection")]
    Stream(#[source] io::Error),
    #[error("cannot open its memory {path}", path = path.display())]
    Open {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("cannot use its memory {file}")]
    Memory {
        file: String,
        #[source]
        source: CarveoutError,
    },
}

/// A remote core and what the host knows of it.
#[derive(Debug)]
pub struct RemoteCore {
    config: RemoteConfig,
    mailbox: Option<Box<dyn Mailbox>>,
    /// A closed mailbox whose descriptor somebody may still be waiting for.
    retired: Option<Box<dyn Mailbox>>,
    carveouts: Option<Carveouts>,
    /// Device and inode numbers of the memory files that are mapped: a new file is a new core.
    identity: Vec<(u64, u64)>,
    attachment: Option<Attachment>,
    /// Whether the line to a core that is attached has been cut.
    is_cut_off: bool,
    /// When to try again or ask again; `None` while attached.
    timer: Option<Instant>,
    attempts: u32,
    connected_at: Instant,
    last_trouble: String,
    last_left_alone: Vec<String>,
    unknown_signals: u64,
}

impl RemoteCore {
    /// A core that nobody has looked for yet: the first [`on_timer`](Self::on_timer) does.
    pub fn new(config: RemoteConfig, now: Instant) -> Self {
        RemoteCore {
            config,
            mailbox: None,
            retired: None,
            carveouts: None,
            identity: Vec::new(),
            attachment: None,
            is_cut_off: false,
            timer: Some(now),
            attempts: 0,
            connected_at: now,
            last_trouble: String::new(),
            last_left_alone: Vec::new(),
            unknown_signals: 0,
        }
    }

    /// Its name, for people.
    pub fn name(&self) -> &str {
        &self.config.name
    }

    /// The mailbox, to wait for its signals; another one after every new connection.
    pub fn mailbox(&self) -> Option<&dyn Mailbox> {
        self.mailbox.as_deref()
    }

    /// The mailbox that was closed, to stop waiting for it before its descriptor is closed too.
    pub fn take_retired_mailbox(&mut self) -> Option<Box<dyn Mailbox>> {
        self.retired.take()
    }

    /// The mailbox to kick, while the core is attached.
    #[inline]
    pub fn bell(&mut self) -> Option<&mut dyn Mailbox> {
        let mailbox = self.mailbox.as_mut().filter(|_| self.attachment.is_some() && !self.is_cut_off)?;
        Some(mailbox.as_mut())
    }

    /// When [`on_timer`](Self::on_timer) is due.
    pub fn timer(&self) -> Option<Instant> {
        self.timer
    }

    /// Signals without a meaning that were received and ignored.
    pub fn unknown_signals(&self) -> u64 {
        self.unknown_signals
    }

    /// Takes what the mailbox has received, and sends what waits for the socket.
    pub fn on_mailbox(&mut self, now: Instant) -> Option<Change> {
        let mailbox = self.mailbox.as_mut()?;
        let mut signals = Signals::default();
        mailbox.flush(now);
        let received = mailbox.receive(&mut signals);
        self.unknown_signals += signals.unknown;
        if let Err(error) = received {
            debug!("remote {}: {error}", self.config.name);
            self.retired = self.mailbox.take();
            self.retry(now, 0);
            if self.attachment.is_none() || self.is_cut_off {
                return None;
            }
            if matches!(self.config.doorbell, Doorbell::Stream(_)) {
                self.forget();
                return Some(Change::Lost(Loss::Closed));
            }
            self.is_cut_off = true;
            return Some(Change::CutOff(Loss::Closed));
        }
        if signals.ready {
            let had = self.forget();
            return match (had, self.attach(now)) {
                (true, Some(devices)) => Some(Change::Rebooted(devices)),
                (true, None) => Some(Change::Lost(Loss::Rebooted)),
                (false, devices) => devices.map(Change::Attached),
            };
        }
        if signals.crashed {
            return self.lose(now, Loss::Crashed);
        }
        if signals.running && (self.attachment.is_none() || self.is_cut_off) {
            return self.attach_running(now);
        }
        None
    }

    /// Does what is due: connects, asks, or attaches to a core that does not answer.
    pub fn on_timer(&mut self, now: Instant) -> Option<Change> {
        if self.timer.is_none_or(|due| now < due) {
            return None;
        }
        if self.mailbox.is_none() {
            match self.connect() {
                Ok(mailbox) => {
                    self.mailbox = Some(Box::new(mailbox));
                    self.connected_at = now;
                    self.attempts = 0;
                }
                Err(error) => {
                    self.trouble(&error);
                    self.retry(now, self.attempts.saturating_add(1));
                    return None;
                }
            }
        }
        let silent = now.duration_since(self.connected_at);
        if self.config.attach_after.is_some_and(|limit| silent >= limit) {
            return self.attach_running(now);
        }
        if let Some(mailbox) = &mut self.mailbox {
            mailbox.request(Request::State);
        }
        self.retry(now, self.attempts.saturating_add(1));
        None
    }

    /// Gives the device up because of what was found in a vring. Only a reboot of the core brings it back.
    pub fn fault(&mut self, now: Instant, fault: VringFault) -> Option<Change> {
        self.lose(now, Loss::Fault(fault))
    }

    /// Lets go of the core, so that another host can have it.
    pub fn detach(&mut self) {
        let Some(attachment) = self.attachment.take() else { return };
        let notifyid = attachment.notifyid();
        attachment.detach();
        if let Some(mailbox) = &mut self.mailbox {
            mailbox.kick(notifyid);
        }
        info!("remote {}: detached", self.config.name);
    }

    /// Forgets what was attached. Returns whether something was.
    fn forget(&mut self) -> bool {
        self.is_cut_off = false;
        self.attachment.take().is_some()
    }

    fn lose(&mut self, now: Instant, loss: Loss) -> Option<Change> {
        // Its successor announces itself with "ready"; one that we missed is found by asking.
        self.retry(now, FAST_ATTEMPTS);
        self.forget().then_some(Change::Lost(loss))
    }

    /// Attaches to a core that has been up before: one that we know, or one that is new to us.
    fn attach_running(&mut self, now: Instant) -> Option<Change> {
        if self.attachment.as_ref().is_some_and(Attachment::is_untouched) {
            info!("remote {}: its doorbell is back, going on", self.config.name);
            self.is_cut_off = false;
            self.timer = None;
            return Some(Change::Resumed);
        }
        match (self.forget(), self.attach(now)) {
            (true, None) => Some(Change::Lost(Loss::Rebooted)),
            (_, devices) => devices.map(Change::Attached),
        }
    }

    fn attach(&mut self, now: Instant) -> Option<Vec<RpmsgVdev>> {
        match attach(self.carveouts.as_ref()?, &self.config.layout) {
            Ok((attachment, devices)) => {
                let mailbox = self.mailbox.as_mut().expect("attaching needs a mailbox");
                for device in &devices {
                    mailbox.kick(device.inbound.notifyid());
                }
                for entry in &attachment.left_alone {
                    if !self.last_left_alone.contains(entry) {
                        info!("remote {}: resource table entry {entry}: left alone", self.config.name);
                    }
                }
                self.last_left_alone.clone_from(&attachment.left_alone);
                info!("remote {}: attached", self.config.name);
                self.last_trouble.clear();
                self.attachment = Some(attachment);
                self.timer = None;
                Some(devices)
            }
            Err(error) => {
                self.trouble(&error);
                self.retry(now, FAST_ATTEMPTS);
                None
            }
        }
    }

    fn connect(&mut self) -> Result<SocketMailbox, StartError> {
        let mailbox = match &mut self.config.doorbell {
            Doorbell::Path(path) => SocketMailbox::connect(path)
                .map_err(|source| StartError::Connect { path: path.clone(), source })?,
            Doorbell::Stream(stream) => {
                let stream =
                    stream.take().ok_or_else(|| StartError::Stream(io::ErrorKind::NotConnected.into()))?;
                SocketMailbox::new(stream).map_err(StartError::Stream)?
            }
        };
        self.map_memory()?;
        Ok(mailbox)
    }

    /// Maps the memory, unless it is mapped already and still the same.
    fn map_memory(&mut self) -> Result<(), StartError> {
        let mut files = Vec::new();
        for memory in &self.config.memory {
            files.push(match &memory.file {
                MemoryFile::Path(path) => open(path)?,
                MemoryFile::Open(file) => file.try_clone().map_err(StartError::Stream)?,
            });
        }
        let identity: Vec<_> = files
            .iter()
            .map(|file| file.metadata().map_or((0, 0), |data| (data.dev(), data.ino())))
            .collect();
        if self.carveouts.is_some() && identity == self.identity {
            return Ok(());
        }
        if let Some(attachment) = &mut self.attachment {
            attachment.forsake();
        }
        self.carveouts = None;
        let mut regions = Vec::new();
        for (memory, file) in self.config.memory.iter().zip(files) {
            let region = Region::map(file, memory.offset, memory.size, memory.device_address, Access::Normal);
            let region =
                region.map_err(|source| StartError::Memory { file: memory.file.describe(), source })?;
            regions.push(match &memory.name {
                Some(name) => region.named(name),
                None => region,
            });
        }
        self.carveouts = Some(Carveouts::new(regions));
        self.identity = identity;
        Ok(())
    }

    fn retry(&mut self, now: Instant, attempts: u32) {
        self.attempts = attempts;
        self.timer = Some(now + if attempts < FAST_ATTEMPTS { RETRY } else { SLOW_RETRY });
    }

    /// Says what stands in the way; the same thing only once.
    fn trouble(&mut self, error: &dyn std::error::Error) {
        let text = Causes(error).to_string();
        if text != self.last_trouble {
            warn!("remote {}: waiting for it: {text}", self.config.name);
            self.last_trouble = text;
        }
    }
}

impl MemoryFile {
    fn describe(&self) -> String {
        match self {
            MemoryFile::Path(path) => path.display().to_string(),
            MemoryFile::Open(_) => "(built in)".to_owned(),
        }
    }
}

fn open(path: &Path) -> Result<File, StartError> {
    let file = File::options().read(true).write(true).open(path);
    file.map_err(|source| StartError::Open { path: path.to_owned(), source })
}
