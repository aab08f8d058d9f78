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

fn rig(vms: u8, poll_us: &str) -> Rig {
    let mut rig = Rig::prepare(Plan { vms, ..Plan::default() });
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
        let mut rig = rig(1, poll_us);
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
    let rig = rig(1, "1000000");
    let mut guest = rig.guest(0);
    let echo = guest.wait_service("rpmsg-raw");
    guest.echo(HERE, echo, b"wakes it");
    let before = guest.rings()[TX].kicks();

    (0..MESSAGES).for_each(|_| guest.echo(HERE, echo, b"is found"));

    let kicks = guest.rings()[TX].kicks() - before;
    assert!(kicks < MESSAGES / 2, "{kicks} kicks for {MESSAGES} messages");
}

#[test]
fn a_guest_that_is_idle_is_asked_to_kick_while_another_keeps_the_program_awake() {
    // Longer than the program goes without a look at its descriptors.
    let rig = rig(2, "5000");
    let [mut busy, mut idle] = [0, 1].map(|vm| rig.guest(vm));
    let echo = busy.wait_service("rpmsg-raw");
    idle.wait_service("rpmsg-raw");
    idle.echo(HERE, echo, b"the last for now");

    let begin = Instant::now();
    while !idle.rings()[TX].is_asked_to_kick() {
        busy.echo(HERE, echo, b"keeps it awake");
        assert!(begin.elapsed() < PATIENCE, "stuck: the idle guest is never asked to kick");
    }
    idle.echo(HERE, echo, b"after a kick");
}

#[test]
fn a_time_that_is_none_is_refused() {
    let said = Program::failing(["--poll-us", "1000001", "--socket-path", "unused"]);
    assert!(said.contains("1000001 is not in 0..=1000000"), "{said}");
}
