//! A program that looks for more before it sleeps, for as long as it is told.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use crate::harness::driver::{PATIENCE, TX};
use crate::harness::program::Program;
use crate::harness::rig::{Plan, Rig};

/// The guest's endpoint.
const HERE: u32 = 1024;
/// Messages of a test.
const MESSAGES: u64 = 200;

fn rig(poll_us: &str) -> Rig {
    let mut rig = Rig::prepare(Plan::default());
    rig.start_core();
    rig.start_program_with(&["--poll-us", poll_us]);
    rig
}

/// Waits until the bridge sleeps.
fn wait_asleep(program: &Program) {
    let worker = program.worker().expect("a worker").as_raw_nonzero();
    let begin = Instant::now();
    while bridge_state(worker.get()) != Some('S') {
        assert!(begin.elapsed() < PATIENCE, "stuck: the bridge does not go to sleep");
        thread::sleep(Duration::from_millis(1));
    }
}

/// The state of the bridge's thread, as `/proc` has it.
fn bridge_state(process: i32) -> Option<char> {
    let tasks = fs::read_dir(format!("/proc/{process}/task")).ok()?;
    tasks.flatten().find_map(|task| {
        let stat = fs::read_to_string(task.path().join("stat")).ok()?;
        let (name, rest) = stat.split_once('(')?.1.rsplit_once(") ")?;
        name.starts_with("bridge").then(|| rest.chars().next())?
    })
}

#[test]
fn a_program_sleeps_and_wakes_however_long_it_looks_for_more() {
    for poll_us in ["0", "50", "200000"] {
        let mut rig = rig(poll_us);
        let mut guest = rig.guest(0);
        let echo = guest.wait_service("rpmsg-raw");
        for _ in 0..3 {
            guest.echo(HERE, echo, b"wakes it");
            wait_asleep(rig.program());
        }
    }
}

#[test]
fn a_guest_whose_messages_are_looked_for_is_spared_its_kicks() {
    let rig = rig("1000000");
    let mut guest = rig.guest(0);
    let echo = guest.wait_service("rpmsg-raw");
    guest.echo(HERE, echo, b"wakes it");
    let before = guest.rings()[TX].kicks();

    (0..MESSAGES).for_each(|_| guest.echo(HERE, echo, b"is found"));

    let kicks = guest.rings()[TX].kicks() - before;
    assert!(kicks < MESSAGES / 2, "{kicks} kicks for {MESSAGES} messages");
}

#[test]
fn a_time_that_is_none_is_refused() {
    let said = Program::failing(["--poll-us", "1000001", "--socket-path", "unused"]);
    assert!(said.contains("1000001 is not in 0..=1000000"), "{said}");
}
