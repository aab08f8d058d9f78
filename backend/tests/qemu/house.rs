//! A remote core, the program and VMs together.

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Condvar, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::driver::PATIENCE;
use super::harness::rig::remote_tables;
use super::program::Program;
use super::softcore::{CorePlace, DEVICE_ADDRESS, MEMORY_SIZE, Softcore};
use super::vm::{Kind, Vm};

/// Another echo like `rpmsg-raw`, for one VM alone: what has come there has come from that VM.
pub(crate) const PRIVATE: &str = "private";

/// Everything that the core has to offer, in the order of their announcements.
pub(crate) const SERVICES: [&str; 7] =
    ["rpmsg-client-sample", "rpmsg-tty", "rpmsg-raw", "sink", "source", "latching-echo", PRIVATE];

/// Those for which no driver makes a device node.
pub(crate) const SERVICES_WITHOUT_NODES: [&str; 5] =
    ["rpmsg-client-sample", "sink", "source", "latching-echo", PRIVATE];

/// Core, program and where everything lies. Dropped in the order of its fields.
pub(crate) struct House {
    program: Option<Program>,
    core: Option<Softcore>,
    dir: TempDir,
    _room: Room,
}

impl House {
    /// Makes room for VMs of these names, in slots from 1 on, where sessions are told apart. Starts nothing.
    pub(crate) fn prepare(vms: &[&str]) -> Self {
        House::prepare_with(vms, "")
    }

    /// The same with tables `[[service]]` for the configuration.
    fn prepare_with(vms: &[&str], services: &str) -> Self {
        let room = Room::take(vms.len());
        let house =
            House { program: None, core: None, dir: TempDir::new().expect("temporary folder"), _room: room };
        let CorePlace { memory, doorbell } = CorePlace::within(house.dir.path());
        let remote = remote_tables(&doorbell, DEVICE_ADDRESS, &memory, MEMORY_SIZE);
        configure(house.dir.path(), &(remote + services), vms);
        house
    }

    /// With program and core running, which has all services.
    pub(crate) fn start(vms: &[&str]) -> Self {
        House::start_with(vms, "")
    }

    /// The same with tables `[[service]]` for the configuration.
    pub(crate) fn start_with(vms: &[&str], services: &str) -> Self {
        let mut house = House::prepare_with(vms, services);
        house.start_core(&SERVICES);
        house.start_program();
        house
    }

    /// Starts the core with these services.
    pub(crate) fn start_core(&mut self, services: &[&str]) {
        assert!(self.core.is_none(), "the core is running");
        let mut arguments = Vec::new();
        for &service in services {
            arguments.extend(["--service", if service == PRIVATE { "rpmsg-raw:private" } else { service }]);
        }
        self.core = Some(Softcore::start(&CorePlace::within(self.dir.path()), &arguments));
    }

    /// Kills the core.
    pub(crate) fn kill_core(&mut self) {
        self.core.take().expect("the core is running").kill();
    }

    /// The running core.
    pub(crate) fn core(&mut self) -> &mut Softcore {
        self.core.as_mut().expect("the core is running")
    }

    /// The running program.
    pub(crate) fn program(&self) -> &Program {
        self.program.as_ref().expect("the program is running")
    }

    /// Waits until the VM that uses the service [`PRIVATE`] has sent so many messages.
    pub(crate) fn wait_for_private_messages(&mut self, count: u64) {
        wait_until(self.core(), &format!("{count} messages for {PRIVATE}"), |core| {
            core.counter(PRIVATE, "received") >= count
        });
    }

    /// Starts the program and waits until its sockets listen.
    pub(crate) fn start_program(&mut self) {
        self.program = Some(Program::serving(&self.path("config.toml")));
    }

    /// Starts the VM of this name.
    pub(crate) fn vm(&self, name: &str, kind: Kind) -> Vm {
        Vm::start(kind, &self.path(&format!("{name}.sock")), self.path(&format!("{name}.qmp")))
    }

    /// Starts the VM of this name and waits until its guest is up.
    pub(crate) fn boot(&self, name: &str, kind: Kind) -> Vm {
        let mut vm = self.vm(name, kind);
        vm.wait_ready();
        vm
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }
}

/// Writes `config.toml` in this folder: the tables given, and VMs of these names in slots from 1 on.
pub(crate) fn configure(dir: &Path, tables: &str, vms: &[&str]) {
    let mut text = tables.to_owned();
    for (slot, name) in (1..).zip(vms) {
        let socket = dir.join(format!("{name}.sock"));
        write!(text, "[[vm]]\nname = \"{name}\"\nsocket = {socket:?}\nslot = {slot}\n")
            .expect("a String takes everything");
    }
    fs::write(dir.join("config.toml"), text).expect("configuration written");
}

/// Asks the core until it says what is waited for: it has no way to tell by itself.
pub(crate) fn wait_until<T>(core: &mut T, what: &str, mut done: impl FnMut(&mut T) -> bool) {
    const PAUSE: Duration = Duration::from_millis(2);

    let start = Instant::now();
    while !done(core) {
        assert!(start.elapsed() < PATIENCE, "stuck: not {what} within {PATIENCE:?}");
        thread::sleep(PAUSE);
    }
}

/// A part of what this machine can run at a time. Under TCG a VM takes a core for itself while it boots; tests with more
/// VMs than that together would only wait for each other. A test with more than that by itself runs alone.
pub(crate) struct Room(usize);

static TAKEN: Mutex<usize> = Mutex::new(0);
static GIVEN_BACK: Condvar = Condvar::new();

impl Room {
    /// Waits until there is room for so many VMs.
    pub(crate) fn take(vms: usize) -> Self {
        let all = thread::available_parallelism().map_or(2, usize::from).max(2);
        let vms = vms.min(all);
        let taken = TAKEN.lock().unwrap_or_else(PoisonError::into_inner);
        let fits = |taken: &mut usize| *taken + vms > all;
        *GIVEN_BACK.wait_while(taken, fits).unwrap_or_else(PoisonError::into_inner) += vms;
        Room(vms)
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        *TAKEN.lock().unwrap_or_else(PoisonError::into_inner) -= self.0;
        GIVEN_BACK.notify_all();
    }
}
