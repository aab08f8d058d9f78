//! The program under test in a process of its own.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::ops::{Deref, DerefMut};
use std::path::Path;
use std::process::{Command, Stdio};

use super::process::Process;

/// What a process holds that must not grow.
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

/// A running `vhost-device-rpmsg`.
pub struct Program(Process);

impl Program {
    /// Starts the program.
    pub fn spawn(args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Self {
        Program::spawn_with_stdin(Stdio::null(), args)
    }

    /// Starts the program with something as its file descriptor 0.
    pub fn spawn_with_stdin(stdin: Stdio, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_vhost-device-rpmsg"));
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
        let program = Program::spawn([OsStr::new("--config"), config.as_os_str()]);
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

    /// What it holds now.
    pub fn footprint(&self) -> Footprint {
        let proc = format!("/proc/{}", self.id());
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
