//! Attaching to a remote core and living with it, against the soft core's memory and a doorbell held by the test.

mod attaching;
mod booting;
mod commands;
mod fixed_places;
mod losing;
mod placing;

use std::io::{Read, Write};
use std::os::unix::fs::FileExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tempfile::TempDir;
use vmm_sys_util::epoll::{ControlOperation, Epoll, EpollEvent, EventSet};

use super::attach::{AttachError, Attachment, attach};
use super::config::{BootConfig, MailboxConfig, MemoryConfig, RemoteConfig, VringsConfig};
use super::core::{Change, Order, RemoteCore};
use super::layout::Layout;
use super::memory::{Access, Carveouts, Region};
use super::power::Switch;
use super::presence::Presence;
use super::recovery::{RecoveryConfig, RecoveryPolicy};
use crate::causes::Causes;
use crate::softcore::{Config, Memory, SoftCore};

/// A remote's memory with a table in it, and nobody behind it.
struct Still {
    core: SoftCore,
    config: Config,
}

impl Still {
    fn new(config: Config) -> Self {
        let memory = Memory::memfd(&config.layout().unwrap()).unwrap();
        Still { core: SoftCore::new(config.clone(), memory).unwrap(), config }
    }

    fn table_address(&self) -> u64 {
        self.config.layout().unwrap().table_address().into()
    }

    fn device_address(&self) -> u64 {
        self.core.memory().device_address().into()
    }

    fn carveouts(&self) -> Carveouts {
        self.carveouts_of(usize::try_from(self.core.memory().size()).unwrap())
    }

    fn carveouts_of(&self, size: usize) -> Carveouts {
        let file = self.core.memory().file().try_clone().unwrap();
        Carveouts::new(vec![Region::map(&file, 0, size, self.device_address(), Access::Normal).unwrap()])
    }

    fn table(&self) -> Vec<u8> {
        let mut bytes = vec![0; 1024];
        self.core
            .memory()
            .file()
            .read_exact_at(&mut bytes, self.table_address() - self.device_address())
            .unwrap();
        bytes
    }

    /// Offset of the vdev entry: type 3, id 7.
    fn vdev(&self) -> usize {
        self.vdev_of(7)
    }

    fn vdev_of(&self, id: u8) -> usize {
        let table = self.table();
        (0..table.len() - 8).find(|at| table[*at..*at + 8] == [3, 0, 0, 0, id, 0, 0, 0]).unwrap()
    }

    fn poke(&self, offset: usize, bytes: &[u8]) {
        let at = self.table_address() - self.device_address() + offset as u64;
        self.core.memory().file().write_all_at(bytes, at).unwrap();
    }

    fn layout(&self) -> Layout {
        Layout::Table { address: self.table_address() }
    }

    fn attach(&self) -> Result<Attachment, AttachError> {
        attach_once(&self.carveouts(), &self.layout()).map(|(attachment, _)| attachment)
    }

    /// Why attaching fails, in one line.
    fn refusal(&self) -> String {
        Causes(&self.attach().unwrap_err()).to_string()
    }
}

/// A remote core of which the test plays the part.
struct Played {
    host: RemoteCore,
    /// Its end of the doorbell.
    bell: UnixStream,
    still: Still,
    now: Instant,
    /// Its socket, what its switch has done, and whatever else a test needs.
    directory: TempDir,
    listener: UnixListener,
}

impl Played {
    fn new(attach_after: Option<Duration>) -> Self {
        Self::with(|config| RemoteConfig { attach_after, ..config })
    }

    /// With a configuration that is made of the usual one. There is one connection, which is there from the beginning.
    fn with(change: impl FnOnce(RemoteConfig) -> RemoteConfig) -> Self {
        let (host, bell) = UnixStream::pair().unwrap();
        bell.set_nonblocking(true).unwrap();
        let mailbox = MailboxConfig::Stream(Some(host));
        Played { bell, ..Self::made(|config, _| change(RemoteConfig { mailbox, ..config })) }
    }

    /// The host connects to it, again and again: [`accept`](Self::accept).
    fn listening(change: impl FnOnce(RemoteConfig, &Path) -> RemoteConfig) -> Self {
        Self::made(change)
    }

    /// One of the host's to boot, whose switch writes down what it is told.
    fn booted(change: impl FnOnce(RemoteConfig, &Path) -> RemoteConfig) -> Self {
        Self::made(|config, directory| {
            let told = |what: &str| {
                let log = directory.join("switch").to_str().unwrap().to_owned();
                ["sh", "-c", &format!("echo {what} >> \"$0\""), &log].map(str::to_owned).to_vec()
            };
            let switch = Switch::Command { start: told("start"), stop: told("stop") };
            let boot = Some(BootConfig { firmware: None, switch, on_demand: false });
            let recovery = RecoveryConfig { policy: RecoveryPolicy::Reboot, ..RecoveryConfig::default() };
            change(RemoteConfig { boot, recovery, ..config }, directory)
        })
    }

    fn made(change: impl FnOnce(RemoteConfig, &Path) -> RemoteConfig) -> Self {
        let still = Still::new(Config::default());
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("doorbell");
        let listener = UnixListener::bind(&path).unwrap();
        let now = Instant::now();
        let file = still.core.memory().file().try_clone().unwrap();
        let size = usize::try_from(still.core.memory().size()).unwrap();
        let config = RemoteConfig::attached(
            "played",
            MailboxConfig::Path(path),
            vec![MemoryConfig::whole(file, size, still.device_address())],
            VringsConfig::Table(still.table_address()),
        );
        let config = change(config, directory.path());
        let (bell, _) = UnixStream::pair().unwrap();
        Played { host: RemoteCore::new(config, now), bell, still, now, directory, listener }
    }

    fn known_by(self, presence: &Arc<Presence>) -> Self {
        Played { host: self.host.known_by(Arc::clone(presence)), ..self }
    }

    /// The host has connected.
    fn accept(&mut self) {
        self.bell = self.listener.accept().unwrap().0;
        self.bell.set_nonblocking(true).unwrap();
    }

    /// The connection is cut.
    fn hang_up(&mut self) -> Option<Change> {
        self.bell.shutdown(std::net::Shutdown::Both).unwrap();
        self.host.on_mailbox(self.now)
    }

    /// The service thread does what it has to do; returns what the host makes of it.
    fn work(&mut self) -> Option<Change> {
        let done = Epoll::new().unwrap();
        let descriptor = self.host.chores().unwrap();
        done.ctl(ControlOperation::Add, descriptor, EpollEvent::new(EventSet::IN, 0)).unwrap();
        assert_eq!(done.wait(60_000, &mut [EpollEvent::default()]).unwrap(), 1, "nothing is done");
        self.host.on_chores(self.now)
    }

    /// It is started, connected to, and attached to.
    fn boot(&mut self) {
        assert!(self.wait().is_none() && self.work().is_none());
        self.accept();
        assert!(matches!(self.ring(0xF0), Some(Change::Attached(_))));
        self.heard();
    }

    /// It is attached to.
    fn attach(&mut self) {
        assert!(self.wait().is_none());
        self.accept();
        assert!(matches!(self.ring(0xF7), Some(Change::Attached(_))));
        self.heard();
    }

    /// What the switch was told.
    fn switched(&self) -> String {
        std::fs::read_to_string(self.directory.path().join("switch")).unwrap_or_default().replace('\n', " ")
    }

    /// Time passes until the host's timer is due; returns what it makes of it.
    fn wait(&mut self) -> Option<Change> {
        self.now = self.host.timer().unwrap();
        self.host.on_timer(self.now)
    }

    /// Orders something.
    fn order(&mut self, order: &Order) -> Option<Change> {
        self.host.order(order, self.now).unwrap()
    }

    fn ring(&mut self, byte: u8) -> Option<Change> {
        self.ring_all(&[byte])
    }

    fn ring_all(&mut self, bytes: &[u8]) -> Option<Change> {
        self.bell.write_all(bytes).unwrap();
        self.host.on_mailbox(self.now)
    }

    /// Everything that the host has rung since the last look.
    fn heard(&mut self) -> Vec<u8> {
        let mut bytes = [0; 256];
        let count = self.bell.read(&mut bytes).unwrap_or(0);
        bytes[..count].to_vec()
    }
}

/// Attaches for the first time, and remembers nothing.
fn attach_once(
    memory: &Carveouts,
    layout: &Layout,
) -> Result<(Attachment, Vec<super::attach::RpmsgVdev>), AttachError> {
    attach(memory, layout, 1, &mut |_| {})
}
