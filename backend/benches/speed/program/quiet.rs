//! What should not happen: notifications and system calls while there is much to do, and wake-ups while there is nothing.

use std::thread;
use std::time::Duration;

use nix::errno::Errno;

use super::calls;
use super::sides::{BURST, Messages, Sides};
use super::stepped::SERVICES;
use super::world::World;
use super::{LARGE, SMALL};
use crate::lean::Notifications;
use crate::repeat::{Samples, repeat};
use crate::report::{Report, Unit};

/// Messages of a stream in which something is counted.
const COUNTED: u32 = 200_000;
/// How often.
const TIMES: usize = 5;
/// How long nothing happens.
const IDLE: Duration = Duration::from_secs(2);
/// VMs that do nothing.
const IDLE_VMS: u8 = 63;

pub(super) fn measure(report: &mut Report) {
    notifications(report);
    system_calls(report);
    wake_ups(report);
}

/// The ways that a message and its answer take.
const WAYS: [(&str, &str); 4] = [
    ("from_guest", "guest to program"),
    ("to_remote", "program to remote"),
    ("from_remote", "remote to program"),
    ("to_guest", "program to guest"),
];

/// Of an echo, with both sides wanting to be told of everything. In a burst there is always more for the program to do; in a
/// stream it is faster than the two sides together, so that it often has little to do at a time.
fn notifications(report: &mut Report) {
    let world = World::new(1);
    let mut sides = world.sides(Notifications::Wanted);
    let counts = counted(&mut sides, |sides| {
        for number in 0..COUNTED / BURST {
            sides.burst(Messages::echo(LARGE), number * BURST);
        }
        COUNTED / BURST * BURST
    });
    for ((name, ends), samples) in WAYS.into_iter().zip(counts) {
        let what = format!("notifications of an echo in a burst, {ends}");
        report.figure(&format!("notifications_{name}"), &what, Unit::Number, &samples, None);
    }
    let counts = counted(&mut sides, |sides| {
        sides.stream(Messages::echo(LARGE), COUNTED);
        COUNTED
    });
    for ((name, ends), samples) in WAYS.into_iter().zip(counts) {
        let what = format!("notifications of an echo in a stream, {ends}");
        report.figure(&format!("stream_notifications_{name}"), &what, Unit::Number, &samples, None);
    }
}

/// Notifications of a message, each way, while `run` passes as many as it says.
fn counted(sides: &mut Sides<'_>, mut run: impl FnMut(&mut Sides<'_>) -> u32) -> [Samples; 4] {
    let mut count = || {
        let before = so_far(sides);
        let messages = f64::from(run(sides));
        let now = so_far(sides);
        std::array::from_fn::<_, 4, _>(|way| (now[way] - before[way]) as f64 / messages)
    };
    let counts: Vec<_> = (0..TIMES).map(|_| count()).collect();
    std::array::from_fn(|way| Samples::new(counts.iter().map(|count| count[way]).collect(), COUNTED))
}

fn so_far(sides: &mut Sides<'_>) -> [u64; 4] {
    let [kicks, calls] = sides.guests[0].notifications();
    let [rung, heard] = sides.remote.bells();
    [kicks, heard, rung, calls]
}

/// Of an echo, with both sides looking by themselves.
fn system_calls(report: &mut Report) {
    let world = World::new(1);
    let mut sides = world.sides(Notifications::Unwanted);
    sides.stream(Messages::echo(SMALL), COUNTED);
    let bell = world.kick_fd();
    let mut count = || {
        let stream = || sides.stream(Messages::echo(SMALL), COUNTED);
        let calls = calls::count(world.worker(), stream, || bell.write(1).expect("kick"))?;
        Ok(calls as f64 / f64::from(COUNTED))
    };
    let counts: Result<Vec<_>, Errno> = (0..TIMES).map(|_| count()).collect();
    match counts {
        Ok(counts) => {
            let what = "system calls of an echo while polling";
            let samples = Samples::new(counts, COUNTED);
            report.figure("system_calls", what, Unit::Number, &samples, None);
        }
        Err(error) => println!("system calls are not counted: {error}"),
    }
}

fn wake_ups(report: &mut Report) {
    let world = World::new(8);
    // What the start has left to do is done by then.
    thread::sleep(IDLE / 4);
    let before = world.program_sleeps();
    thread::sleep(IDLE);
    let rate = (world.program_sleeps() - before) as f64 / IDLE.as_secs_f64();
    let what = "wake-ups, 8 idle VMs";
    report.figure("idle_wake_ups", what, Unit::PerSecond, &Samples::one(rate), None);
}

/// What VMs that do nothing cost one that does something: while its message goes to the remote and back, every ring is swept
/// twice at least. Those that have done something not long ago are looked at in each sweep, the others are parked.
pub(super) fn idle_vms(report: &mut Report) {
    // What is called not long ago is as long as it can be, so that nobody is parked while it is measured.
    let all_watched = ["--poll-us", "1000000"];
    for (name, what, arguments) in
        [("idle_vm", "an idle VM", &all_watched[..]), ("parked_vm", "a VM that is parked", &[])]
    {
        let time = |idle_vms: u8, what: &str| {
            let world = World::with(1 + idle_vms, SERVICES, arguments);
            let mut sides = world.sides(Notifications::Unwanted);
            repeat(what, |operations| {
                for guest in &mut sides.guests {
                    Messages::one_way(SMALL).put(guest, 0);
                    guest.publish();
                }
                sides.settle();
                // And those that are to be parked are by then.
                sides.round_trips(SMALL, operations / 8);
                sides.round_trips(SMALL, operations)
            })
        };
        let alone = time(0, "round trip alone").typical();
        let among = time(IDLE_VMS, "round trip beside VMs that do nothing");
        let what = format!("what {what} costs a sweep, at most");
        let each = among.map(|nanoseconds| (nanoseconds - alone) / f64::from(IDLE_VMS) / 2.0);
        report.figure(name, &what, Unit::Nanoseconds, &each, None);
    }
}
