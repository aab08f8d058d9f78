//! The life of the core: boot, waiting for a host, serving it, crash, shutdown.
//!
//! [`SoftCore`] does no I/O but in its memory: what is to be rung gathers in [`SoftCore::bells`], and time passes only
//! when somebody calls. [`super::Runner`] puts a socket and an event loop around it; a benchmark calls
//! [`SoftCore::serve_once`] by itself.

use std::time::Instant;

use thiserror::Error;
use vm_memory::guest_memory::Error as AccessError;

use super::desk::{AddressTaken, Desk, Totals};
use super::doorbell::{Bells, DoorbellError, bell};
use super::pass::{Around, Link, Served};
use super::rings::{self, RingError};
use super::service::{Service, ServiceSpec, Told};
use super::{Config, ConfigError, Layout, Memory, MemoryError};
use crate::rpmsg::VIRTIO_RPMSG_F_NS;

/// `VIRTIO_CONFIG_S_DRIVER_OK`.
const DRIVER_OK: u8 = 4;
/// `VIRTIO_CONFIG_S_NEEDS_RESET`: the host wants a reset, which firmware answers by writing 0 (OpenAMP).
const NEEDS_RESET: u8 = 0x40;
/// Why a core cannot start.
#[derive(Debug, Error)]
pub enum StartError {
    /// The configuration cannot work.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// There is no memory.
    #[error(transparent)]
    Memory(#[from] MemoryError),
    /// There is no doorbell.
    #[error(transparent)]
    Doorbell(#[from] DoorbellError),
    /// The memory does not hold the resource table.
    #[error("cannot write the resource table into the memory")]
    Table(
        /// What the access said.
        #[source]
        AccessError,
    ),
    /// Two services want the same address.
    #[error(transparent)]
    Address(#[from] AddressTaken),
    /// The system gives no thread, socket or event fd.
    #[error("cannot set up the event loop")]
    Loop(
        /// What the system said.
        #[source]
        std::io::Error,
    ),
}

/// Whether the firmware runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Running,
    /// Its main loop stands still; its doorbell is not answered.
    Hung,
    Crashed,
    ShutDown,
}

/// The two rings as the core sees them.
#[derive(Debug)]
enum LinkState {
    /// No driver yet.
    Waiting,
    /// In service.
    Up(Box<Link>),
    /// The host has broken a ring; nothing happens until it resets the link.
    Broken(Box<Link>),
}

/// A simulated coprocessor firmware.
#[derive(Debug)]
pub struct SoftCore {
    config: Config,
    layout: Layout,
    memory: Memory,
    bells: Bells,
    phase: Phase,
    link: LinkState,
    desk: Desk,
    /// What earlier boots have counted.
    earlier: Totals,
    boots: u64,
    links: u64,
    unknown_bells: u64,
    /// What was last said about a host that cannot be attached to: it is said once.
    complaint: Option<String>,
    trace: u32,
}

impl SoftCore {
    /// Boots the firmware: writes the resource table into `memory`, and has [`bell::READY`] waiting to be rung.
    ///
    /// # Errors
    /// The configuration cannot work, or the memory does not suit it.
    pub fn new(config: Config, memory: Memory) -> Result<Self, StartError> {
        let mut core = SoftCore {
            layout: config.layout()?,
            config,
            memory,
            bells: Bells::default(),
            phase: Phase::Running,
            link: LinkState::Waiting,
            desk: Desk::default(),
            earlier: Totals::default(),
            boots: 0,
            links: 0,
            unknown_bells: 0,
            complaint: None,
            trace: 0,
        };
        core.reboot()?;
        Ok(core)
    }

    /// Boots again: a fresh table, and nothing known of what was before. [`bell::READY`] is rung.
    ///
    /// # Errors
    /// The memory does not hold the table; two configured services want one address.
    pub fn reboot(&mut self) -> Result<(), StartError> {
        self.link = LinkState::Waiting;
        let Totals { received, sent, .. } = std::mem::take(&mut self.desk).totals;
        self.earlier.received += received;
        self.earlier.sent += sent;
        self.complaint = None;
        self.trace = 0;
        self.layout.write_table(self.memory.mapping()).map_err(StartError::Table)?;
        for spec in self.config.services.clone() {
            self.announce(spec)?;
        }
        self.phase = Phase::Running;
        self.boots += 1;
        self.bells.ring(bell::READY);
        self.note("ready, waiting for a host");
        Ok(())
    }

    /// Where everything lies in the memory.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// The memory.
    pub fn memory(&self) -> &Memory {
        &self.memory
    }

    /// What the core was told at the start.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// What is to be rung. Whoever carries it to the host takes it from here.
    pub fn bells(&mut self) -> &mut Bells {
        &mut self.bells
    }

    /// The bytes that are to be rung.
    pub(super) fn bells_waiting(&self) -> &[u8] {
        self.bells.waiting()
    }

    /// Takes a byte that the host has rung. Kicks need no more than a following [`SoftCore::serve_once`].
    pub fn hear(&mut self, byte: u8) {
        if self.phase != Phase::Running {
            return;
        }
        match byte {
            0..=bell::LAST_KICK => {}
            bell::SHUT_DOWN => {
                self.note("shut down by the host");
                self.link = LinkState::Waiting;
                self.phase = Phase::ShutDown;
                self.bells.ring(bell::SHUTDOWN_DONE);
            }
            bell::ECHO_REQUEST => self.bells.ring(bell::ECHO_REPLY),
            bell::STATE => self.bells.ring(bell::RUNNING),
            _ => {
                self.unknown_bells += 1;
                log::debug!("doorbell: unknown byte {byte:#04x} ignored");
            }
        }
    }

    /// Looks at the vdev status and serves a bounded number of messages. What is to be rung is in
    /// [`SoftCore::bells`] afterwards.
    pub fn serve_once(&mut self) -> Served {
        if self.phase != Phase::Running {
            return Served::default();
        }
        self.look();
        let LinkState::Up(link) = &mut self.link else {
            return Served::default();
        };
        let around = Around { memory: self.memory.mapping(), habits: &self.config.habits };
        let served = link.pass(&around, &mut self.desk, &mut self.bells);
        self.unless_broken(served).unwrap_or_default()
    }

    /// To be called before sleeping; true if there is something to do after all.
    pub fn rest(&mut self) -> bool {
        let LinkState::Up(link) = &mut self.link else {
            return false;
        };
        if self.phase != Phase::Running {
            return false;
        }
        let around = Around { memory: self.memory.mapping(), habits: &self.config.habits };
        let news = link.rest(&around);
        self.unless_broken(news).unwrap_or_default()
    }

    /// When [`SoftCore::serve_once`] has something to do without anybody ringing: the next message of a source with
    /// an interval.
    pub fn deadline(&self) -> Option<Instant> {
        match &self.link {
            LinkState::Up(link) if self.phase == Phase::Running && !link.starved() => {
                self.desk.asks.deadline()
            }
            _ => None,
        }
    }

    /// Whether a host is being served.
    pub fn is_attached(&self) -> bool {
        matches!(self.link, LinkState::Up(_))
    }

    /// Whether the firmware runs: not hung, crashed or shut down.
    pub fn is_running(&self) -> bool {
        self.phase == Phase::Running
    }

    /// Whether the firmware has been hung by [`SoftCore::hang`].
    pub fn is_hung(&self) -> bool {
        self.phase == Phase::Hung
    }

    /// Adds a service; the host is told of it. Returns its address.
    ///
    /// # Errors
    /// The address asked for is taken.
    pub fn announce(&mut self, spec: ServiceSpec) -> Result<u32, AddressTaken> {
        self.desk.add(spec)
    }

    /// Takes the services of this name away; the host is told so. Returns how many there were.
    pub fn withdraw(&mut self, name: &str) -> usize {
        self.desk.withdraw(name)
    }

    /// Sends a message from the service of this name to an address of the host, unless there is no such service,
    /// no host or no buffer.
    pub(super) fn say(&mut self, name: &str, dst: u32, text: &str) -> Result<(), &'static str> {
        let is_named =
            |service: &Service| service.name.as_bytes() == name.as_bytes() && service.told < Told::Leaving;
        let place = self.desk.services.iter().position(is_named).ok_or("no such service")?;
        let LinkState::Up(link) = &mut self.link else {
            return Err("no host is attached");
        };
        let around = Around { memory: self.memory.mapping(), habits: &self.config.habits };
        let said = link.say(&around, &mut self.desk, place, dst, text.as_bytes());
        match self.unless_broken(said) {
            Some(true) => Ok(()),
            Some(false) => Err("the host has no buffer free"),
            None => Err("the host has broken a vring"),
        }
    }

    /// Crashes: [`bell::CRASHED`] is rung, and nothing served until [`SoftCore::reboot`].
    pub fn crash(&mut self) {
        self.note("crashed by command");
        self.phase = Phase::Crashed;
        self.bells.ring(bell::CRASHED);
    }

    /// Stands still until [`SoftCore::resume`]; false if the firmware does not run.
    pub fn hang(&mut self) -> bool {
        let running = self.is_running();
        if running {
            self.phase = Phase::Hung;
        }
        running
    }

    /// Goes on after [`SoftCore::hang`]; false if it did not hang.
    pub fn resume(&mut self) -> bool {
        let hung = self.is_hung();
        if hung {
            self.phase = Phase::Running;
        }
        hung
    }

    /// All counters in one line, those of earlier boots apart:
    /// `state=up boots=1 ... | NAME addr=0x400 kind=... received=5 ... | ...`.
    pub fn stats(&self) -> String {
        let state = match (self.phase, &self.link) {
            (Phase::Hung, _) => "hung",
            (Phase::Crashed, _) => "crashed",
            (Phase::ShutDown, _) => "shut-down",
            (Phase::Running, LinkState::Waiting) => "waiting",
            (Phase::Running, LinkState::Up(_)) => "up",
            (Phase::Running, LinkState::Broken(_)) => "broken",
        };
        format!(
            "state={state} boots={} links={} unknown_bells={} earlier_received={} earlier_sent={} {}",
            self.boots, self.links, self.unknown_bells, self.earlier.received, self.earlier.sent, self.desk
        )
    }

    /// The services that the host has announced, one `NAME@ADDRESS` each.
    pub fn host_services(&self) -> Vec<String> {
        self.desk.host_services()
    }

    /// Looks at what the host has written into the vdev entry, and brings the link up or down accordingly.
    fn look(&mut self) {
        let Ok(status) = self.layout.status(self.memory.mapping()) else {
            return;
        };
        let driver_ok = status & DRIVER_OK != 0 && status & NEEDS_RESET == 0;
        match &self.link {
            LinkState::Up(link) | LinkState::Broken(link) if driver_ok && !self.is_renewed(link) => return,
            LinkState::Up(_) | LinkState::Broken(_) => {
                self.note("link is down");
                self.link = LinkState::Waiting;
                self.desk.reset_link();
            }
            LinkState::Waiting => {}
        }
        if status & NEEDS_RESET != 0 {
            // It was read a moment ago at the same place.
            let _ = self.layout.set_status(self.memory.mapping(), 0);
        }
        if driver_ok {
            self.attach();
        } else {
            self.complaint = None;
        }
    }

    fn attach(&mut self) {
        let Ok(vdev) = self.layout.vdev(self.memory.mapping()) else {
            return;
        };
        match rings::attach(self.memory.mapping(), &self.layout, &vdev) {
            Ok(rings) => {
                let name_service = vdev.gfeatures & 1 << VIRTIO_RPMSG_F_NS != 0;
                let sizes = [rings[0].size(), rings[1].size()];
                self.link = LinkState::Up(Box::new(Link::new(rings, name_service, &self.config.habits)));
                self.links += 1;
                self.desk.news = true;
                self.complaint = None;
                self.note(&format!("link is up: vrings of {sizes:?}, name service {name_service}"));
            }
            Err(error) => {
                let complaint = format!("not attached: {error}");
                if self.complaint.as_ref() != Some(&complaint) {
                    log::error!("{complaint}");
                    self.complaint = Some(complaint);
                }
            }
        }
    }

    /// Whether the host has reset the link faster than the core could see it in the status: the rings are elsewhere,
    /// or fresh.
    fn is_renewed(&self, link: &Link) -> bool {
        let memory = self.memory.mapping();
        let places = self.layout.ring_addresses(memory);
        link.rebuilt(memory) || places.is_ok_and(|places| places != link.places())
    }

    fn unless_broken<T>(&mut self, result: Result<T, RingError>) -> Option<T> {
        let error = match result {
            Ok(value) => return Some(value),
            Err(error) => error,
        };
        let cause = std::error::Error::source(&error).map(|source| format!(": {source}"));
        log::error!("{error}{}; waiting for a reset", cause.unwrap_or_default());
        self.desk.reset_link();
        if let LinkState::Up(link) = std::mem::replace(&mut self.link, LinkState::Waiting) {
            self.link = LinkState::Broken(link);
        }
        None
    }

    /// A line for the log and for the trace buffer.
    fn note(&mut self, text: &str) {
        log::info!("{text}");
        let line = format!("{text}\n");
        // The trace is a help for people; without it nothing is amiss.
        self.trace = self.layout.write_trace(self.memory.mapping(), self.trace, &line).unwrap_or(self.trace);
    }
}
