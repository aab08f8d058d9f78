//! Cores that the program starts and stops by commands, and a program in front of them.
//!
//! A core's standard input is a pipe that the test holds, by which it is made to do things, as on a bench.

use std::fmt::Write as _;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FileType, FlockOperation, Mode, flock, mknodat};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::harness::guest::Guest;
use crate::harness::options::GuestOptions;
use crate::harness::program::Program;
use crate::harness::rig::remote_tables;
use crate::harness::softcore::{DEVICE_ADDRESS, MEMORY_SIZE};

/// What is said of a core in the configuration besides where it is.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Said<'a> {
    /// Keys of `[[remote]]`.
    pub(crate) remote: &'a str,
    /// Keys of `[remote.boot]` besides the commands.
    pub(crate) boot: &'a str,
    /// Keys of `[remote.recovery]`.
    pub(crate) recovery: &'a str,
}

/// A core that is started and stopped by scripts, and its commands.
struct Core {
    name: &'static str,
    dir: PathBuf,
    commands: File,
}

/// Cores, program and where everything lies. Dropped in the order of its fields.
pub(crate) struct House {
    program: Program,
    cores: Vec<Core>,
    dir: TempDir,
}

impl House {
    /// Starts the program in front of these cores, each with two VMs called after it, and waits until it serves.
    pub(crate) fn start(cores: &[(&'static str, Said<'_>)]) -> Self {
        let dir = TempDir::new().expect("temporary directory");
        write_scripts(dir.path());
        let mut config = String::new();
        let mut made = Vec::new();
        for (name, said) in cores {
            config += &tables(dir.path(), name, *said);
            made.push(Core::prepare(dir.path(), name));
        }
        for core in &made {
            for vm in 0..2 {
                let name = format!("{}{vm}", core.name);
                let socket = dir.path().join(format!("{name}.sock"));
                write!(
                    config,
                    "[[vm]]\nname = \"{name}\"\nsocket = {socket:?}\nremote = \"{}\"\n",
                    core.name
                )
                .expect("a String takes everything");
            }
        }
        let path = dir.path().join("config.toml");
        fs::write(&path, config).expect("configuration written");
        House { program: Program::serving(&path), cores: made, dir }
    }

    /// The program.
    pub(crate) fn program(&mut self) -> &mut Program {
        &mut self.program
    }

    /// Connects a guest as VM number `vm` in front of a core. Its driver is not up yet.
    pub(crate) fn plug(&self, core: &str, vm: u8) -> Guest {
        Guest::connect_only(&self.dir.path().join(format!("{core}{vm}.sock")), GuestOptions::default())
    }

    /// Boots a guest as VM number `vm` in front of a core.
    pub(crate) fn guest(&self, core: &str, vm: u8) -> Guest {
        let mut guest = self.plug(core, vm);
        guest.boot();
        guest
    }

    /// Has a core do something. Its answer goes to a file that nobody reads.
    pub(crate) fn command(&mut self, core: &str, command: &str) {
        let core = self.cores.iter_mut().find(|one| one.name == core).expect("there is such a core");
        writeln!(core.commands, "{command}").expect("the core takes a command");
    }

    /// Which commands the program has run so far, such as "start core".
    pub(crate) fn journal(&self) -> Vec<String> {
        let journal = fs::read_to_string(self.dir.path().join("journal")).unwrap_or_default();
        journal.lines().map(str::to_owned).collect()
    }

    /// Whether this core's process is alive.
    pub(crate) fn is_alive(&self, core: &str) -> bool {
        self.cores.iter().find(|one| one.name == core).expect("there is such a core").is_alive()
    }

    /// Ends the program as a service manager does.
    pub(crate) fn end(&mut self) {
        self.program.terminate();
        let status = self.program.wait_exit();
        assert!(status.success(), "{status}: {}", self.program.stderr());
    }
}

impl Core {
    fn prepare(dir: &Path, name: &'static str) -> Self {
        let pipe = dir.join(format!("{name}.commands"));
        mknodat(CWD, &pipe, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).expect("pipe made");
        // Open for both, nobody waits for the other end.
        let commands = OpenOptions::new().read(true).write(true).open(&pipe).expect("pipe opened");
        Core { name, dir: dir.to_owned(), commands }
    }

    /// The memory file, which a living core has locked.
    fn memory(&self) -> Option<File> {
        File::open(self.dir.join(format!("{}.memory", self.name))).ok()
    }

    fn is_alive(&self) -> bool {
        self.memory().is_some_and(|memory| flock(&memory, FlockOperation::NonBlockingLockExclusive).is_err())
    }
}

impl Drop for Core {
    /// Ends what the program has left running, which it does only where it was killed.
    fn drop(&mut self) {
        if !self.is_alive() {
            return;
        }
        let pid = fs::read_to_string(self.dir.join(format!("{}.pid", self.name))).ok();
        let pid = pid.and_then(|pid| Pid::from_raw(pid.trim().parse().ok()?));
        if let (Some(pid), Some(memory)) = (pid, self.memory()) {
            let _gone_already = kill_process(pid, Signal::KILL);
            let _unlocked = flock(&memory, FlockOperation::LockExclusive);
        }
    }
}

fn write_scripts(dir: &Path) {
    let softcore = env!("CARGO_BIN_EXE_rpmsg-softcore");
    let start = format!(
        "#!/bin/sh\nset -e\ncd {dir:?}\necho \"start $1\" >>journal\n\
         {softcore:?} --memory $1.memory --memory-size {MEMORY_SIZE} --device-address {DEVICE_ADDRESS:#x} \
         --doorbell $1.doorbell <$1.commands >$1.answers 2>$1.stderr &\n\
         echo $! >$1.pid\n"
    );
    // A dead core has let go of its memory when the lock can be had.
    let stop = format!(
        "#!/bin/sh\nset -e\ncd {dir:?}\necho \"stop $1\" >>journal\n\
         if [ -f $1.pid ]; then kill -9 $(cat $1.pid) || true; flock $1.memory rm $1.pid; fi\n"
    );
    for (name, script) in [("start", start), ("stop", stop)] {
        let path = dir.join(name);
        fs::write(&path, script).expect("script written");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).expect("script made executable");
    }
}

/// The tables of the configuration for one core.
fn tables(dir: &Path, name: &str, said: Said<'_>) -> String {
    let file = |end: &str| dir.join(format!("{name}.{end}"));
    let tables = remote_tables(&file("doorbell"), DEVICE_ADDRESS, &file("memory"), MEMORY_SIZE);
    let tables = tables.replacen("name = \"core\"\n", &format!("name = \"{name}\"\n{}\n", said.remote), 1);
    let (start, stop) = (dir.join("start"), dir.join("stop"));
    format!(
        "{tables}[remote.boot]\nstart = [{start:?}, {name:?}]\nstop = [{stop:?}, {name:?}]\n{}\n\
         [remote.recovery]\n{}\n",
        said.boot, said.recovery
    )
}
