//! The program under test in two processes of its own: the keeper, and the worker that it starts.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::ops::{Deref, DerefMut};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open, pidfd_send_signal};

use super::driver::PATIENCE;
use super::process::{Process, has_ended};

/// What processes hold that must not grow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Footprint {
    /// Open file descriptors.
    pub fds: usize,
    /// Threads.
    pub threads: usize,
    /// Memory mappings.
    pub mappings: usize,
    /// Resident memory in KiB.
    pub resident: usize,
}

/// The program.
pub const EXECUTABLE: &str = env!("CARGO_BIN_EXE_vhost-device-rpmsg");

/// A running `vhost-device-rpmsg`.
pub struct Program(Process);

impl Program {
    /// Starts the program.
    pub fn spawn(args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Self {
        Program::spawn_with_stdin(Stdio::null(), args)
    }

    /// Starts the program with something as its file descriptor 0.
    pub fn spawn_with_stdin(stdin: Stdio, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Self {
        Program::spawn_from(Path::new(EXECUTABLE), stdin, args)
    }

    /// Starts a copy of [`EXECUTABLE`].
    pub fn spawn_from(
        executable: &Path,
        stdin: Stdio,
        args: impl IntoIterator<Item = impl AsRef<OsStr>>,
    ) -> Self {
        let mut command = Command::new(executable);
        command.args(args).env_remove("RUST_LOG").env("RUST_BACKTRACE", "1");
        Program(Process::spawn("vhost-device-rpmsg", stdin, command))
    }

    /// Runs the program to its end, which has to be a failure, and returns what it says about it.
    pub fn failing(args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> String {
        let mut program = Program::spawn(args);
        let status = program.wait_exit();
        let said = program.stderr();
        assert!(status.code().is_some_and(|code| code != 0), "expected a failure, found {status}: {said}");
        said
    }

    /// Starts the program with a configuration file and waits until it serves.
    pub fn serving(config: &Path) -> Self {
        Program::serving_with(config, &[])
    }

    /// The same with more arguments.
    pub fn serving_with(config: &Path, arguments: &[&str]) -> Self {
        let arguments = arguments.iter().map(OsStr::new);
        let program =
            Program::spawn([OsStr::new("--config"), config.as_os_str()].into_iter().chain(arguments));
        program.wait_ready();
        program
    }

    /// Waits until all sockets listen.
    pub fn wait_ready(&self) {
        self.wait_log(READY);
    }

    /// What it has counted for a VM so far when its front-end is gone for the `nth` time, from 1: by reason, the messages
    /// that were dropped.
    pub fn wait_dropped(&self, vm: &str, nth: usize) -> BTreeMap<String, u64> {
        let line = self.wait_log_again(&format!("vm {vm}: front-end gone; so far "), nth);
        let reasons = line.split("; ").filter_map(|part| part.split_once(": "));
        reasons.filter_map(|(count, reason)| Some((reason.to_owned(), count.parse().ok()?))).collect()
    }

    /// The process of its worker, if there is one.
    pub fn worker(&self) -> Option<Pid> {
        self.children().first().copied()
    }

    /// Waits until it has a worker: between the death of one and the start of the next it has none, and the list of a
    /// process's children may lack one while its threads come and go.
    fn wait_worker(&self) -> Pid {
        let begin = Instant::now();
        loop {
            if let Some(worker) = self.worker() {
                return worker;
            }
            assert!(begin.elapsed() < PATIENCE, "stuck: no worker within {PATIENCE:?}");
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// Kills its worker without any warning, and waits until that is gone. Returns which one it was.
    pub fn kill_worker(&self) -> Pid {
        self.end_worker(Signal::KILL)
    }

    /// Has its worker die as if by a fault of its own.
    pub fn crash_worker(&self) -> Pid {
        self.end_worker(Signal::ABORT)
    }

    fn end_worker(&self, signal: Signal) -> Pid {
        let worker = self.wait_worker();
        let process = pidfd_open(worker, PidfdFlags::empty()).expect("a live worker");
        pidfd_send_signal(&process, signal).expect("a signal sent");
        assert!(has_ended(&process, PATIENCE), "stuck: a killed worker does not end");
        worker
    }

    /// Waits until another worker than this one serves.
    pub fn wait_other_worker(&self, than: Pid, nth: usize) -> Pid {
        self.wait_log_again(READY, nth);
        let worker = self.worker().expect("a worker");
        assert_ne!(worker, than);
        worker
    }

    /// Ends both processes without any warning.
    pub fn kill(&mut self) {
        // The keeper is not to start another worker, nor the worker to see it go.
        kill_process(Pid::from_raw(self.id().cast_signed()).expect("not 0"), Signal::STOP)
            .expect("SIGSTOP sent");
        self.kill_worker();
        self.0.kill();
    }

    /// What the keeper holds now.
    pub fn footprint_of_keeper(&self) -> Footprint {
        Footprint::of(self.id())
    }

    /// What the worker holds now.
    pub fn footprint_of_worker(&self) -> Footprint {
        Footprint::of(self.wait_worker().as_raw_nonzero().get().cast_unsigned())
    }

    /// What both processes hold now.
    pub fn footprint(&self) -> Footprint {
        let (keeper, worker) = (self.footprint_of_keeper(), self.footprint_of_worker());
        Footprint {
            fds: keeper.fds + worker.fds,
            threads: keeper.threads + worker.threads,
            mappings: keeper.mappings + worker.mappings,
            resident: keeper.resident + worker.resident,
        }
    }
}

impl Footprint {
    /// What a process holds now.
    fn of(process: u32) -> Self {
        let proc = format!("/proc/{process}");
        let count =
            |what: &str| fs::read_dir(format!("{proc}/{what}")).expect("directory of a live process").count();
        let status = fs::read_to_string(format!("{proc}/status")).expect("status of a live process");
        let resident = status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:"))
            .and_then(|rest| rest.trim().strip_suffix(" kB"))
            .and_then(|number| number.trim().parse().ok())
            .expect("VmRSS in the status");
        let maps = fs::read_to_string(format!("{proc}/maps")).expect("mappings of a live process");
        Footprint { fds: count("fd"), threads: count("task"), mappings: maps.lines().count(), resident }
    }
}

/// What the program logs when all sockets listen.
const READY: &str = "serving ";

impl Deref for Program {
    type Target = Process;
    fn deref(&self) -> &Process {
        &self.0
    }
}

impl DerefMut for Program {
    fn deref_mut(&mut self) -> &mut Process {
        &mut self.0
    }
}
