//! The usual arrangement: one core in a process, one program in another, and sockets for some VMs.

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::doorbell::Wire;
use super::guest::Guest;
use super::options::GuestOptions;
use super::program::Program;
use super::softcore::{CorePlace, DEVICE_ADDRESS, MEMORY_SIZE, Softcore};

/// The guest endpoint that [`Rig::settle`] uses.
const SETTLER: u32 = 0x7777;

/// A VM beside those of the plan, which only looks on.
const OBSERVER: &str = "observer";
const OBSERVER_SLOT: u8 = 126;

/// What to arrange.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Number of VMs.
    pub vms: u8,
    /// Slot of the first VM; the others follow. Slot 0 has no sessions, so whatever is about sessions starts at 1.
    pub first_slot: u8,
    /// Whether there is one more VM that only looks on, for [`Rig::settle_all`]. It makes a difference: with several VMs,
    /// messages for one that does not keep up are dropped beyond its share, where a single one makes the core wait.
    pub observer: bool,
    /// More arguments for the core: services other than the default ones, habits.
    pub core: Vec<&'static str>,
}

impl Default for Plan {
    fn default() -> Self {
        Plan { vms: 1, first_slot: 0, observer: false, core: Vec::new() }
    }
}

impl Plan {
    /// So many VMs in slots from 1 on, where sessions are told apart.
    pub fn with_sessions(vms: u8) -> Self {
        Plan { vms, first_slot: 1, ..Plan::default() }
    }

    /// The same with one more VM that only looks on.
    pub fn observed(self) -> Self {
        Plan { observer: true, ..self }
    }
}

/// Core, program and where everything lies. Dropped in the order of its fields.
pub struct Rig {
    plan: Plan,
    program: Option<Program>,
    core: Option<Softcore>,
    dir: TempDir,
}

impl Drop for Rig {
    /// Whatever happened, the core was never given anything malformed (design, section 3, invariant 2).
    fn drop(&mut self) {
        if let Some(core) = self.core.as_mut().filter(|_| !std::thread::panicking()) {
            for counter in ["malformed", "bad_buffers"] {
                assert_eq!(core.total(counter), 0, "INVARIANT VIOLATION: {counter} messages at the core");
            }
        }
    }
}

impl Rig {
    /// Arranges without starting anything.
    pub fn prepare(plan: Plan) -> Self {
        let rig = Rig { plan, program: None, core: None, dir: TempDir::new().expect("temporary directory") };
        fs::write(rig.config_path(), rig.config()).expect("configuration written");
        rig
    }

    /// Starts core and program.
    pub fn start(plan: Plan) -> Self {
        Rig::start_with(plan, |config| config)
    }

    /// Starts core and program with another configuration than the plan's.
    pub fn start_with(plan: Plan, change: impl FnOnce(String) -> String) -> Self {
        let mut rig = Rig::prepare(plan);
        fs::write(rig.config_path(), change(rig.config())).expect("configuration written");
        rig.start_core();
        rig.start_program();
        rig
    }

    /// Starts core and program, which takes requests at `control` in the rig's directory.
    pub fn start_with_control(plan: Plan) -> Self {
        Rig::start_with_keys(plan, |rig| format!("control = {:?}\n", rig.path("control")))
    }

    /// The same, where the program keeps what outlives it in `state` beside that.
    pub fn start_with_control_and_state(plan: Plan) -> Self {
        Rig::start_with_keys(plan, |rig| {
            let (control, state) = (rig.path("control"), rig.path("state"));
            fs::create_dir(&state).expect("a directory");
            format!("control = {control:?}\nstate = {state:?}\n")
        })
    }

    /// Starts core and program with these keys before those of the plan.
    fn start_with_keys(plan: Plan, keys: impl FnOnce(&Rig) -> String) -> Self {
        let mut rig = Rig::prepare(plan);
        let keys = keys(&rig);
        fs::write(rig.config_path(), keys + &rig.config()).expect("configuration written");
        rig.start_core();
        rig.start_program();
        rig
    }

    /// Starts the core.
    pub fn start_core(&mut self) {
        assert!(self.core.is_none(), "the core is running");
        self.core = Some(Softcore::start(&self.place(), &self.plan.core));
    }

    /// Starts the core behind a wire that can be cut and disturbed.
    pub fn start_core_behind_a_wire(&mut self) -> Wire {
        let place = self.place();
        let behind = CorePlace { doorbell: self.path("doorbell-behind-the-wire"), ..place.clone() };
        self.core = Some(Softcore::start(&behind, &self.plan.core));
        Wire::between(&place.doorbell, &behind.doorbell)
    }

    /// Starts the program with the configuration file as it stands.
    pub fn start_program(&mut self) {
        self.start_program_with(&[]);
    }

    /// The same with more arguments.
    pub fn start_program_with(&mut self, arguments: &[&str]) {
        self.program = Some(Program::serving_with(&self.config_path(), arguments));
    }

    /// Kills the core.
    pub fn kill_core(&mut self) {
        self.core.take().expect("the core is running").kill();
    }

    /// The running core.
    pub fn core(&mut self) -> &mut Softcore {
        self.core.as_mut().expect("the core is running")
    }

    /// The running program.
    pub fn program(&mut self) -> &mut Program {
        self.program.as_mut().expect("the program is running")
    }

    /// Waits until the core has seen everything that this guest has sent so far.
    pub fn settle(guest: &mut Guest) {
        let raw = guest.wait_service("rpmsg-raw");
        guest.echo(SETTLER, raw, b"settled?");
    }

    /// Waits until the core is attached to and everything under way between it and any VM has arrived, without the help
    /// of these VMs.
    pub fn settle_all(&self) {
        let socket = self.path(&format!("{OBSERVER}.sock"));
        Rig::settle(&mut Guest::connect(&socket, GuestOptions::default()));
    }

    /// Connects a guest as VM number `vm`.
    pub fn guest(&self, vm: u8) -> Guest {
        self.guest_with(vm, GuestOptions::default())
    }

    /// Connects a guest of some other kind as VM number `vm`.
    pub fn guest_with(&self, vm: u8, options: GuestOptions) -> Guest {
        Guest::connect(&self.socket(vm), options)
    }

    /// The socket of VM number `vm`.
    pub fn socket(&self, vm: u8) -> PathBuf {
        self.path(&format!("vm{vm}.sock"))
    }

    /// Where the core has its memory and doorbell.
    pub fn place(&self) -> CorePlace {
        CorePlace::within(self.dir.path())
    }

    /// A path in the rig's directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Where the program's configuration lies.
    pub fn config_path(&self) -> PathBuf {
        self.path("config.toml")
    }

    /// The program's configuration.
    pub fn config(&self) -> String {
        let CorePlace { memory, doorbell } = self.place();
        let mut text = remote_tables(&doorbell, DEVICE_ADDRESS, &memory, MEMORY_SIZE);
        let vms = (0..self.plan.vms).map(|vm| (format!("vm{vm}"), self.plan.first_slot + vm));
        let observer = self.plan.observer.then(|| (OBSERVER.to_owned(), OBSERVER_SLOT));
        for (name, slot) in vms.chain(observer) {
            let socket = self.path(&format!("{name}.sock"));
            write!(
                text,
                "[[vm]]\nname = \"{name}\"\nsocket = {socket:?}\nslot = {slot}\nremote = \"core\"\n"
            )
            .expect("a String takes everything");
        }
        text
    }
}

/// The tables of a configuration for a remote core behind a socket, whose memory begins at [`DEVICE_ADDRESS`].
pub fn remote_tables(doorbell: &Path, table: u32, memory: &Path, size: u64) -> String {
    format!(
        "[[remote]]\n\
         name = \"core\"\n\
         link = \"socket\"\n\
         doorbell = {doorbell:?}\n\
         resource-table = {table:#x}\n\
         [[remote.memory]]\n\
         path = {memory:?}\n\
         offset = 0\n\
         size = {size:#x}\n\
         device-address = {DEVICE_ADDRESS:#x}\n"
    )
}
