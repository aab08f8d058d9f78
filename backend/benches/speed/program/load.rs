//! As many messages as there can be, of one VM.

use super::sides::{BURST, Messages, Sides};
use super::world::World;
use super::{LARGE, SMALL};
use crate::lean::Notifications;
use crate::repeat::{Samples, repeat};
use crate::report::{Report, Unit};

pub(super) fn measure(report: &mut Report) {
    let world = World::new(1);
    let mut sides = world.sides(Notifications::Unwanted);
    let limit = Some("copy_512");
    for (name, what, messages) in [
        ("one_way", "16 bytes to the remote", Messages::one_way(SMALL)),
        ("large_one_way", "496 bytes to the remote", Messages::one_way(LARGE)),
        ("echo", "echo of 16 bytes", Messages::echo(SMALL)),
        ("large_echo", "echo of 496 bytes", Messages::echo(LARGE)),
    ] {
        let what_cost = format!("{what}, in a burst");
        let cost = burst(&what_cost, &mut sides, messages);
        report.figure(&format!("{name}_cost"), &what_cost, Unit::Nanoseconds, &cost, limit);
        let what_time = format!("{what}, in a stream");
        let (time, used) = stream(&what_time, &world, &mut sides, messages);
        report.figure(&format!("{name}_time"), &what_time, Unit::Nanoseconds, &time, limit);
        let what_used = format!("{what}, in a stream, processor time");
        report.figure(&format!("{name}_cpu"), &what_used, Unit::Nanoseconds, &used, limit);
    }
}

/// What one message takes in a stream, and how much of that the program has had of its core.
pub(super) fn stream(
    what: &str,
    world: &World,
    sides: &mut Sides<'_>,
    messages: Messages,
) -> (Samples, Samples) {
    let (before, mut total) = (world.program_time(), 0_u64);
    let time = repeat(what, |operations| {
        total += u64::from(operations);
        sides.stream(messages, operations)
    });
    sides.settle();
    let used = (world.program_time() - before).as_secs_f64() * 1e9 / total as f64;
    (time, Samples::one(used))
}

/// What one message costs in a burst.
pub(super) fn burst(what: &str, sides: &mut Sides<'_>, messages: Messages) -> Samples {
    let mut first = 0_u32;
    repeat(what, |operations| {
        (0..operations / BURST)
            .map(|_| {
                first = first.wrapping_add(BURST);
                sides.burst(messages, first)
            })
            .sum()
    })
}
