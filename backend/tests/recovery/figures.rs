//! How soon a core that comes is of use: measured and printed, never asserted.
//!
//! `cargo test --release --test recovery -- --ignored` runs it.

use std::time::{Duration, Instant};

use crate::booted::{House, Said};
use crate::harness::rig::{Plan, Rig};
use crate::vm::{ECHO, Vm};

/// How often each is measured.
const RUNS: usize = 50;

/// Prints all figures.
pub(crate) fn print_all() {
    print("ready after a crash, to the first answer to a guest", &after_a_crash());
    print("ready after it was killed and started, to the first answer to a guest", &after_a_kill());
    print("start of a core's process, to all services in a waiting guest", &started_by_others());
    print("driver up, start command included, to all services in the guest", &started_on_demand());
}

fn print(what: &str, times: &[Duration]) {
    let mut times: Vec<_> = times.iter().map(|time| time.as_secs_f64() * 1e3).collect();
    times.sort_by(f64::total_cmp);
    let (p50, max) = (times[times.len() / 2], times[times.len() - 1]);
    println!("{what}: p50 {p50:.2} ms, max {max:.2} ms ({} runs)", times.len());
}

fn after_a_crash() -> Vec<Duration> {
    let mut rig = Rig::start(Plan::with_sessions(1));
    let mut vm = Vm::connect(&rig.socket(0), 0, 1);
    let run = |nth| {
        vm.run(10, 0);
        rig.core().command("crash");
        vm.wait_withdrawn(nth);
        let ready = Instant::now();
        rig.core().command("reboot");
        vm.run(1, 0);
        let taken = ready.elapsed();
        vm.wait_told(nth + 1);
        taken
    };
    (1..=RUNS).map(run).collect()
}

fn after_a_kill() -> Vec<Duration> {
    let mut rig = Rig::start(Plan::with_sessions(1));
    let mut vm = Vm::connect(&rig.socket(0), 0, 1);
    let run = |nth| {
        vm.run(10, 0);
        rig.kill_core();
        vm.wait_withdrawn(nth);
        rig.start_core();
        let ready = Instant::now();
        vm.run(1, 0);
        let taken = ready.elapsed();
        vm.wait_told(nth + 1);
        taken
    };
    (1..=RUNS).map(run).collect()
}

fn started_by_others() -> Vec<Duration> {
    let mut rig = Rig::start(Plan::with_sessions(1));
    let mut vm = Vm::connect(&rig.socket(0), 0, 1);
    let run = |nth| {
        vm.wait_told(nth);
        rig.kill_core();
        vm.wait_withdrawn(nth);
        let start = Instant::now();
        rig.start_core();
        vm.wait_told(nth + 1);
        start.elapsed()
    };
    (1..=RUNS).map(run).collect()
}

fn started_on_demand() -> Vec<Duration> {
    let mut house = House::start(&[("core", Said { boot: "when = \"needed\"", ..Said::default() })]);
    let run = |nth| {
        let mut guest = house.plug("core", 0);
        let start = Instant::now();
        guest.boot();
        guest.wait_service(ECHO);
        let taken = start.elapsed();
        drop(guest);
        house.program().wait_log_again("remote core: stopped", nth);
        taken
    };
    (1..=RUNS).map(run).collect()
}
