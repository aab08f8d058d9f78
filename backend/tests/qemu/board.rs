//! An emulated Cortex-M3 as remote core, the program and VMs together.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;
use vhost_device_rpmsg::remote::resource_table::ResourceTable;
use vhost_device_rpmsg::rpmsg::AnnouncementKind;

use super::harness::guest::Guest;
use super::harness::options::GuestOptions;
use super::harness::rig::remote_tables;
use super::house::{Room, configure};
use super::process::Process;
use super::program::Program;
use super::qmp;
use super::softcore::{CorePlace, DEVICE_ADDRESS, counter_of};
use super::vm::{Kind, Vm, built};

/// Everything that the firmware has to offer, in the order of its announcements (`guest-images/firmware/services.c`).
pub(crate) const SERVICES: [&str; 7] =
    ["rpmsg-client-sample", "rpmsg-tty", "rpmsg-raw", "echo", "sink", "source", CONTROL];

const CONTROL: &str = "control";

/// Name and socket of the VM that is none: a driver in the test, beside all others.
const LAB: &str = "lab";

/// The memory of the board that the host sees, all of which it may use (`guest-images/firmware/link.ld`).
const MEMORY_SIZE: u64 = 16 << 20;
const TABLE: u32 = DEVICE_ADDRESS + 0x48010;
const TRACE: u32 = DEVICE_ADDRESS + 0x49000;
const TRACE_SIZE: usize = 4096;

/// QEMU's model of an Arm board with a Cortex-M3, and our firmware in it.
pub(crate) struct CortexM3 {
    qemu: Process,
    memory: PathBuf,
}

impl CortexM3 {
    /// Starts QEMU and waits until all its sockets are there; the firmware comes up meanwhile. `doorbell` is what QEMU is
    /// told about the serial line whose bytes are doorbells.
    pub(crate) fn start(memory: &Path, doorbell: &str) -> Self {
        let mut command = Command::new(built("qemu/bin/qemu-system-arm"));
        command
            .args(["-machine", "mps2-an385,memory-backend=ram", "-nic", "none", "-display", "none"])
            .args([
                "-object",
                &format!("memory-backend-file,id=ram,size=16M,mem-path={},share=on", memory.display()),
            ])
            .arg("-kernel")
            .arg(built("firmware/cortex-m3.elf"))
            .args(["-serial", "null", "-serial", doorbell, "-qmp", "stdio"]);
        let mut qemu = Process::spawn("QEMU with the Cortex-M3", Stdio::piped(), command);
        qmp::greet(&mut qemu);
        CortexM3 { qemu, memory: memory.to_owned() }
    }

    /// Resets the board, as its button does.
    pub(crate) fn reset(&mut self) {
        qmp::execute(&mut self.qemu, "system_reset");
    }

    /// What the firmware has written into its trace buffer since its boot.
    pub(crate) fn trace(&self) -> String {
        let mut bytes = self.read(TRACE, TRACE_SIZE);
        bytes.truncate(bytes.iter().position(|byte| *byte == 0).expect("text ended by NUL"));
        String::from_utf8(bytes).expect("text")
    }

    /// Its resource table, as firmware and host have left it.
    pub(crate) fn table(&self) -> ResourceTable {
        ResourceTable::parse(&self.read(TABLE, 4096)).expect("a resource table")
    }

    fn read(&self, address: u32, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        let file = File::open(&self.memory).expect("memory of the board");
        file.read_exact_at(&mut bytes, (address - DEVICE_ADDRESS).into()).expect("memory of the board");
        bytes
    }
}

/// Core, program and where everything lies. Dropped in the order of its fields.
pub(crate) struct Board {
    program: Program,
    core: CortexM3,
    dir: TempDir,
    _room: Room,
}

impl Board {
    /// Starts core and program, for VMs of these names and the lab, and with tables `[[service]]` for the configuration.
    pub(crate) fn start(vms: &[&str], services: &str) -> Self {
        let room = Room::take(vms.len());
        let dir = TempDir::new().expect("temporary folder");
        let CorePlace { memory, doorbell } = CorePlace::within(dir.path());
        let vms = [vms, &[LAB]].concat();
        configure(dir.path(), &(remote_tables(&doorbell, TABLE, &memory, MEMORY_SIZE) + services), &vms);
        let core = CortexM3::start(&memory, &format!("unix:{},server=on,wait=off", doorbell.display()));
        let program = Program::serving(&dir.path().join("config.toml"));
        Board { program, core, dir, _room: room }
    }

    /// The core.
    pub(crate) fn core(&mut self) -> &mut CortexM3 {
        &mut self.core
    }

    /// The program.
    pub(crate) fn program(&self) -> &Program {
        &self.program
    }

    /// Starts the VM of this name.
    pub(crate) fn vm(&self, name: &str, kind: Kind) -> Vm {
        Vm::start(kind, &self.path(&format!("{name}.sock")), self.path(&format!("{name}.qmp")))
    }

    /// Comes up as a driver beside the VMs, and waits until it knows all services.
    pub(crate) fn lab(&self) -> Lab {
        let mut guest = Guest::connect(&self.path(&format!("{LAB}.sock")), GuestOptions::default());
        let control = guest.wait_service(CONTROL);
        let heard = guest.news().len();
        assert_eq!(heard, SERVICES.len(), "announcements: {:?}", guest.news());
        Lab { guest, control, heard }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }
}

/// A driver that can tell the firmware what to do.
pub(crate) struct Lab {
    pub(crate) guest: Guest,
    control: u32,
    /// Announcements that were looked at.
    heard: usize,
}

impl Lab {
    /// The endpoint that talks to the control service.
    const HERE: u32 = 300;

    /// Gives a command that is not answered: `hard-fault`, `hang` or `reset`.
    pub(crate) fn command(&mut self, command: &str) {
        self.guest.send(Self::HERE, self.control, command.as_bytes());
    }

    /// All counters of the firmware.
    pub(crate) fn stats(&mut self) -> String {
        self.command("stats");
        let answer = self.guest.recv();
        assert_eq!((answer.src, answer.dst), (self.control, Self::HERE), "addresses of the statistics");
        String::from_utf8(answer.payload).expect("text")
    }

    /// A counter of one of its services.
    pub(crate) fn counter(&mut self, service: &str, counter: &str) -> u64 {
        counter_of(&self.stats(), service, counter)
    }

    /// Waits until every service has been withdrawn and announced anew, which must be once each.
    pub(crate) fn wait_for_services_anew(&mut self) {
        let since = self.heard;
        self.guest.until("end and return of all services", |guest| {
            guest.drain();
            guest.news().len() >= since + 2 * SERVICES.len()
        });
        let news = &self.guest.news()[since..];
        for service in SERVICES {
            let of_service = news.iter().filter(|news| news.name.as_bytes() == service.as_bytes());
            let kinds: Vec<_> = of_service.map(|news| news.kind).collect();
            assert_eq!(kinds, [AnnouncementKind::Destroy, AnnouncementKind::Create], "{service}");
        }
        self.heard += news.len();
    }
}
