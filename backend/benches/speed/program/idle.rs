//! Nothing to do: the program must sleep.

use std::thread;
use std::time::Duration;

use super::world::World;
use crate::report::Report;

/// How long nothing happens.
const IDLE: Duration = Duration::from_secs(2);

pub(super) fn measure(report: &mut Report) {
    let mut world = World::new(8);
    // What the start has left to do is done by then.
    thread::sleep(IDLE / 4);
    let before = world.program_sleeps();
    thread::sleep(IDLE);
    let sleeps = world.program_sleeps() - before;
    report.count("idle_wake_ups", "wake-ups a second, 8 idle VMs", sleeps as f64 / IDLE.as_secs_f64());
}
