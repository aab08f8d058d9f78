//! Every guest sends to the echo of the remote core whenever it has a buffer, and takes what comes back.

use std::time::{Duration, Instant};

use super::HERE;
use super::world::World;
use crate::harness::driver::{RX, TX};
use crate::report::Report;
use crate::stepped::ECHO;

/// Bytes of payload.
const PAYLOAD: usize = 64;
/// How long the load is counted, after a quarter of that to warm up.
const WINDOW: Duration = Duration::from_secs(1);

pub(super) fn measure(report: &mut Report) {
    let one = Load::of(1);
    report.count("echo_rate_1_vm", "echoes a second, 1 VM", one.echoes as f64 / WINDOW.as_secs_f64());
    let [kicks, calls, rung, heard] = one.notifications.map(|count| count as f64 / one.echoes as f64);
    report.count("notifications_from_guest", "notifications of an echo: guest to program", kicks);
    report.count("notifications_to_remote", "notifications of an echo: program to remote", heard);
    report.count("notifications_from_remote", "notifications of an echo: remote to program", rung);
    report.count("notifications_to_guest", "notifications of an echo: program to guest", calls);
    report.count("cost_1_vm", "the program's time for an echo, ns, 1 VM", one.cost());
    report.count("cost_8_vms", "the program's time for an echo, ns, 8 VMs", Load::of(8).cost());
    report.count("cost_64_vms", "the program's time for an echo, ns, 64 VMs", Load::of(64).cost());
}

/// What has happened in the window.
struct Load {
    /// Messages that went there and back.
    echoes: u64,
    /// The time that the program has had of its core.
    time: Duration,
    /// Kicks of guests, calls to guests, doorbells of the core, and doorbells to the core.
    notifications: [u64; 4],
}

impl Load {
    /// Of so many VMs.
    fn of(vms: u8) -> Self {
        let mut world = World::new(vms);
        run(&mut world, WINDOW / 4);
        let (notifications, time) = (notifications(&mut world), world.program_time());
        let echoes = run(&mut world, WINDOW);
        let time = world.program_time() - time;
        let mut now = self::notifications(&mut world);
        now.iter_mut().zip(notifications).for_each(|(now, before)| *now -= before);
        Load { echoes, time, notifications: now }
    }

    /// Nanoseconds of the program for one message there and back.
    fn cost(&self) -> f64 {
        self.time.as_secs_f64() * 1e9 / self.echoes as f64
    }
}

/// Sends and receives for a while, and says how many messages have come back.
fn run(world: &mut World, window: Duration) -> u64 {
    let mut echoes = 0;
    let start = Instant::now();
    while start.elapsed() < window {
        for guest in &mut world.guests {
            while guest.try_send(HERE, ECHO, &[7; PAYLOAD]) {}
            while guest.try_recv().is_some() {
                echoes += 1;
            }
        }
        world.remote.step();
    }
    echoes
}

/// Notifications so far.
fn notifications(world: &mut World) -> [u64; 4] {
    let [mut kicks, mut calls] = [0; 2];
    for guest in &world.guests {
        for queue in [RX, TX] {
            let ring = guest.rings()[queue];
            kicks += ring.kicks();
            // Nothing is there to read where there was no call.
            calls += ring.call_fd().read().unwrap_or(0);
        }
    }
    let [rung, heard] = world.remote.bells();
    [kicks, calls, rung, heard]
}
