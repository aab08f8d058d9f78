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
    for (name, what, messages) in [
        ("one_way", "16 bytes to the remote", Messages::one_way(SMALL)),
        ("large_one_way", "496 bytes to the remote", Messages::one_way(LARGE)),
        ("echo", "echo of 16 bytes", Messages::echo(SMALL)),
        ("large_echo", "echo of 496 bytes", Messages::echo(LARGE)),
    ] {
        let what_cost = format!("{what}, cost in a burst");
        let cost = burst(&what_cost, &mut sides, messages);
        report.figure(&format!("{name}_cost"), &what_cost, Unit::Nanoseconds, &cost, Some("copy_512"));
        let what_time = format!("{what}, time in a stream");
        let before = world.program_time();
        let mut total = 0_u64;
        let time = repeat(&what_time, |operations| {
            total += u64::from(operations);
            sides.stream(messages, operations)
        });
        sides.settle();
        report.figure(&format!("{name}_time"), &what_time, Unit::Nanoseconds, &time, Some("copy_512"));
        let used = (world.program_time() - before).as_secs_f64() * 1e9 / total as f64;
        let what = format!("{what}, the program's processor time in a stream");
        report.figure(
            &format!("{name}_cpu"),
            &what,
            Unit::Nanoseconds,
            &Samples::one(used),
            Some("copy_512"),
        );
    }
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
