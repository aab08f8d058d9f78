//! Every guest sends whenever it has a buffer, to the echo of the remote core or to its sink, and takes what comes back.
//!
//! What a message costs is the time that the program has had of its core for it: that does not depend on the guests, which are
//! the slower part.

use std::time::{Duration, Instant};

use vhost_device_rpmsg::rpmsg::MAX_PAYLOAD;

use super::HERE;
use super::world::World;
use crate::harness::driver::{RX, TX};
use crate::report::Report;
use crate::stepped::{ECHO, SINK};

/// Bytes of payload: few, so that it is the message that counts, and as many as there can be.
const SMALL: usize = 16;
const LARGE: usize = MAX_PAYLOAD;
/// How long the load is counted, after a quarter of that to warm up.
const WINDOW: Duration = Duration::from_secs(1);

pub(super) fn measure(report: &mut Report) {
    let one = Load::of(1, ECHO, SMALL);
    report.count("echo_rate_1_vm", "echoes a second, 1 VM", one.messages as f64 / WINDOW.as_secs_f64());
    let [kicks, calls, rung, heard] = one.notifications.map(|count| count as f64 / one.messages as f64);
    report.count("notifications_from_guest", "notifications of an echo: guest to program", kicks);
    report.count("notifications_to_remote", "notifications of an echo: program to remote", heard);
    report.count("notifications_from_remote", "notifications of an echo: remote to program", rung);
    report.count("notifications_to_guest", "notifications of an echo: program to guest", calls);
    for (name, what, vms, service, payload) in [
        ("echo_cost_64_vms", "program's time for an echo of 16 bytes, ns, 64 VMs", 64, ECHO, SMALL),
        ("echo_cost_8_vms", "program's time for an echo of 16 bytes, ns, 8 VMs", 8, ECHO, SMALL),
        ("echo_cost_1_vm", "program's time for an echo of 16 bytes, ns, 1 VM", 1, ECHO, SMALL),
        ("large_echo_cost_1_vm", "program's time for an echo of 496 bytes, ns, 1 VM", 1, ECHO, LARGE),
        ("one_way_cost_1_vm", "program's time for 16 bytes to the remote, ns, 1 VM", 1, SINK, SMALL),
        ("large_one_way_cost_1_vm", "program's time for 496 bytes to the remote, ns, 1 VM", 1, SINK, LARGE),
    ] {
        report.count(name, what, Load::of(vms, service, payload).cost());
    }
}

/// What has happened in the window.
struct Load {
    /// Messages that went to the sink, or to the echo and back.
    messages: u64,
    /// The time that the program has had of its core.
    time: Duration,
    /// Kicks of guests, calls to guests, doorbells of the core, and doorbells to the core.
    notifications: [u64; 4],
}

impl Load {
    /// Of so many VMs, for this service.
    fn of(vms: u8, service: u32, payload: usize) -> Self {
        let mut world = World::new(vms);
        let payload = &[7; LARGE][..payload];
        run(&mut world, service, payload, WINDOW / 4);
        let (notifications, time) = (notifications(&mut world), world.program_time());
        let messages = run(&mut world, service, payload, WINDOW);
        let time = world.program_time() - time;
        let mut now = self::notifications(&mut world);
        now.iter_mut().zip(notifications).for_each(|(now, before)| *now -= before);
        Load { messages, time, notifications: now }
    }

    /// Nanoseconds of the program for one message.
    fn cost(&self) -> f64 {
        self.time.as_secs_f64() * 1e9 / self.messages as f64
    }
}

/// Sends and receives for a while, and says how many messages have been sent. As many are under way before as after it.
fn run(world: &mut World, service: u32, payload: &[u8], window: Duration) -> u64 {
    let mut messages = 0;
    let start = Instant::now();
    while start.elapsed() < window {
        for guest in &mut world.guests {
            while guest.try_send(HERE, service, payload) {
                messages += 1;
            }
            while guest.try_recv().is_some() {}
        }
        world.remote.step();
    }
    messages
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
