//! What should not happen: notifications and system calls while there is much to do, and wake-ups while there is nothing.

use std::thread;
use std::time::Duration;

use nix::errno::Errno;

use super::calls;
use super::sides::Messages;
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
    idle_vms(report);
}

/// Of an echo, each of the four ways, with both sides wanting to be told of everything.
fn notifications(report: &mut Report) {
    let world = World::new(1);
    let mut sides = world.sides(Notifications::Wanted);
    let mut so_far = || {
        sides.stream(Messages::echo(LARGE), COUNTED);
        let [kicks, calls] = sides.guests[0].notifications();
        let [rung, heard] = sides.remote.bells();
        [kicks, heard, rung, calls]
    };
    let mut last = so_far();
    let counts: Vec<_> = (0..TIMES)
        .map(|_| {
            let now = so_far();
            let before = std::mem::replace(&mut last, now);
            std::array::from_fn::<_, 4, _>(|way| (now[way] - before[way]) as f64 / f64::from(COUNTED))
        })
        .collect();
    for (way, (name, ends)) in [
        ("from_guest", "guest to program"),
        ("to_remote", "program to remote"),
        ("from_remote", "remote to program"),
        ("to_guest", "program to guest"),
    ]
    .into_iter()
    .enumerate()
    {
        let samples = Samples::new(counts.iter().map(|count| count[way]).collect(), COUNTED);
        let what = format!("notifications of an echo, {ends}");
        report.figure(&format!("notifications_{name}"), &what, Unit::Number, &samples, None);
    }
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
/// twice at least.
fn idle_vms(report: &mut Report) {
    let alone = {
        let world = World::new(1);
        let mut sides = world.sides(Notifications::Unwanted);
        repeat("round trip alone", |operations| sides.round_trips(SMALL, operations)).median()
    };
    let world = World::new(1 + IDLE_VMS);
    let mut sides = world.sides(Notifications::Unwanted);
    // Each of them has sent something once.
    for guest in &mut sides.guests {
        Messages::one_way(SMALL).put(guest, 0);
        guest.publish();
    }
    sides.settle();
    let what = "round trip of 16 bytes, 63 idle VMs beside it";
    let among = repeat(what, |operations| sides.round_trips(SMALL, operations));
    report.figure("round_trip_63_idle", what, Unit::Nanoseconds, &among, None);
    let what = "what an idle VM costs a sweep";
    let each = among.map(|nanoseconds| (nanoseconds - alone) / f64::from(IDLE_VMS) / 2.0);
    report.figure("idle_vm", what, Unit::Nanoseconds, &each, None);
}
