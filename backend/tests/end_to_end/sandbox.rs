//! The worker has nothing to work with but what the keeper has given it. That it does everything all the same is what the
//! other tests here show: system calls that it does not need kill it in all of them.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs;

use rustix::process::{Pid, geteuid};
use tempfile::TempDir;

use crate::harness::guest::Guest;
use crate::harness::options::GuestOptions;
use crate::harness::program::Program;
use crate::harness::rig::{Plan, Rig};

const HERE: u32 = 1024;
/// The mode of a thread that has a seccomp filter (`SECCOMP_MODE_FILTER`).
const FILTERED: &str = "2";
const UNFILTERED: &str = "0";

/// What the system says about each thread of a process.
fn threads_of(process: Pid) -> Vec<HashMap<String, String>> {
    let tasks = fs::read_dir(format!("/proc/{}/task", process.as_raw_nonzero())).unwrap();
    let status = tasks.filter_map(|task| fs::read_to_string(task.unwrap().path().join("status")).ok());
    let field =
        |line: &str| line.split_once(':').map(|(key, value)| (key.to_owned(), value.trim().to_owned()));
    status.map(|text| text.lines().filter_map(field).collect()).collect()
}

fn started(args: &[&str]) -> (Program, TempDir) {
    let folder = TempDir::new().unwrap();
    let socket = folder.path().join("vm");
    let program = Program::spawn(
        [OsStr::new("--socket-path"), socket.as_os_str()].into_iter().chain(args.iter().map(OsStr::new)),
    );
    program.wait_ready();
    (program, folder)
}

#[test]
fn every_thread_of_the_worker_is_in_the_sandbox_and_those_of_a_later_one_too() {
    let (program, folder) = started(&[]);
    for nth in 2..4 {
        let mut guest = Guest::connect(&folder.path().join("vm"), GuestOptions::default());
        let raw = guest.wait_service("rpmsg-raw");
        guest.echo(HERE, raw, b"hello");
        let worker = program.worker().unwrap();
        let threads = threads_of(worker);
        assert!(threads.len() >= 3, "{threads:?}");
        for thread in threads {
            for set in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
                assert_eq!(thread[set].trim_start_matches('0'), "", "{set}: {thread:?}");
            }
            assert_eq!((thread["NoNewPrivs"].as_str(), thread["Seccomp"].as_str()), ("1", FILTERED));
            if geteuid().is_root() {
                assert_eq!((thread["CapBnd"].trim_start_matches('0'), thread["Groups"].as_str()), ("", ""));
                let is_root = thread["Uid"].split_whitespace().any(|user| user == "0");
                assert!(!is_root, "{}", thread["Uid"]);
            }
        }
        program.kill_worker();
        program.wait_other_worker(worker, nth);
    }
}

#[test]
fn without_a_filter_the_rest_of_the_sandbox_is_there() {
    let (program, _folder) = started(&["--seccomp", "none"]);
    for thread in threads_of(program.worker().unwrap()) {
        assert_eq!((thread["NoNewPrivs"].as_str(), thread["Seccomp"].as_str()), ("1", UNFILTERED));
    }
    assert!(program.stderr().contains("system calls are not restricted"));
}

#[test]
fn a_user_that_does_not_exist_keeps_the_program_from_starting() {
    let folder = TempDir::new().unwrap();
    let (config, socket) = (folder.path().join("config.toml"), folder.path().join("a.sock"));
    let text = format!(
        "user = \"no-such-user\"\n[[remote]]\nname = \"core\"\nlink = \"loopback\"\n[[vm]]\nname = \"a\"\nsocket = {socket:?}\n"
    );
    fs::write(&config, text).unwrap();
    let said = Program::failing([OsStr::new("--config"), config.as_os_str()]);
    assert!(said.contains("expected a user of this host for `user`, found \"no-such-user\""), "{said}");
    assert!(!socket.exists());
}

#[test]
fn the_doorbell_of_a_core_stays_connected_when_the_worker_is_killed() {
    let mut rig = Rig::prepare(Plan::with_sessions(1));
    let wire = rig.start_core_behind_a_wire();
    rig.start_program();
    let mut guest = rig.guest(0);
    let raw = guest.wait_service("rpmsg-raw");
    rig.program().kill_worker();
    guest.echo(0x400, raw, b"there");
    assert_eq!(wire.connections(), 1);
}
