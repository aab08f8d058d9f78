//! How fairly VMs share one remote core, and what flooders cost a victim.

use std::ops::Range;
use std::time::{Duration, Instant};

use super::SMALL;
use super::sides::{Messages, Sides};
use super::world::World;
use crate::lean::Notifications;
use crate::repeat::{a_few_times, each, repeat};
use crate::report::{Report, Unit};

/// Payload of a flooder's message, in bytes.
const FLOOD: Messages = Messages { payload: 64, echo: false, endpoints: 1, services: 1 };
/// VMs, of which the first is the victim.
pub(crate) const VMS: u8 = 64;
/// Messages that the remote core takes before it gives their buffers back: an answer does not wait behind all the others.
const SERVED: u16 = 32;
/// Round trips of the victim.
const ROUND_TRIPS: usize = 8040;
/// Messages of which it is counted who has sent how many.
const SHARED: u32 = 2_000_000;

pub(super) fn measure(report: &mut Report) {
    let world = World::new(VMS);
    let mut sides = world.sides(Notifications::Unwanted);
    let flooders = 1..usize::from(VMS);
    for (name, what, flooders) in [
        ("victim_alone", "round trip of 16 bytes among 63 idle VMs", 1..1),
        ("victim_flooded", "round trip of 16 bytes among 63 flooders", flooders.clone()),
    ] {
        let mut next = flooders.clone().cycle();
        let times = each(what, ROUND_TRIPS, || victim(&mut sides, &mut next));
        report.round_trip(name, what, times, None);
    }
    let what = "63 flooders: cost of one message of 64 bytes";
    let cost = repeat(what, |operations| flood(&mut sides, &flooders, operations));
    report.figure("flood_cost", what, Unit::Nanoseconds, &cost, None);
    let what = "63 flooders: what their Jain index lacks of 1";
    let lack = a_few_times(what, || {
        let before = received(&sides, &flooders);
        flood(&mut sides, &flooders, SHARED);
        let now = received(&sides, &flooders);
        1.0 - jain(now.iter().zip(&before).map(|(now, before)| f64::from(now.wrapping_sub(*before))))
    });
    report.figure("flood_unfairness", what, Unit::Number, &lack, None);
    bad_receiver(report);
}

/// A round trip of the first guest's, while others keep their rings full.
fn victim(sides: &mut Sides<'_>, flooders: &mut impl Iterator<Item = usize>) -> Duration {
    let start = Instant::now();
    assert!(Messages::echo(SMALL).put(&mut sides.guests[0], 0), "a transmit buffer, of which one is in use");
    sides.guests[0].publish();
    while sides.guests[0].arrived() == 0 {
        flooders.next().into_iter().for_each(|flooder| fill(sides, flooder));
        sides.remote.serve(SERVED);
        sides.remote.publish();
    }
    let time = start.elapsed();
    sides.guests[0].drain();
    time
}

fn fill(sides: &mut Sides<'_>, flooder: usize) {
    let guest = &mut sides.guests[flooder];
    while FLOOD.put(guest, 0) {}
    guest.publish();
}

/// The flooders keep their rings full until so many messages have arrived. Returns how long that took.
fn flood(sides: &mut Sides<'_>, flooders: &Range<usize>, count: u32) -> Duration {
    let start = Instant::now();
    let mut done = 0;
    while done < count {
        flooders.clone().for_each(|flooder| fill(sides, flooder));
        done += sides.remote.serve(u16::MAX);
        sides.remote.publish();
    }
    start.elapsed()
}

/// Messages of each that have arrived so far. The VM's number is its slot.
fn received(sides: &Sides<'_>, flooders: &Range<usize>) -> Vec<u32> {
    flooders.clone().map(|flooder| sides.remote.received(flooder)).collect()
}

fn jain(shares: impl Iterator<Item = f64>) -> f64 {
    let (mut count, mut sum, mut squares) = (0.0, 0.0, 0.0);
    for share in shares {
        count += 1.0;
        sum += share;
        squares += share * share;
    }
    sum * sum / (count * squares)
}

/// A VM that takes nothing any more, and asks for more answers than its share of the buffers holds: what it takes off the
/// others' throughput.
fn bad_receiver(report: &mut Report) {
    /// Answers that it asks for.
    const ASKED: usize = 2000;

    let world = World::new(4);
    let mut sides = world.sides(Notifications::Unwanted);
    let cost =
        |sides: &mut Sides<'_>, what: &str| repeat(what, |operations| flood(sides, &(1..4), operations));
    let what = "3 flooders: cost of one message of 64 bytes";
    let without = cost(&mut sides, what);
    report.figure("three_flooders_cost", what, Unit::Nanoseconds, &without, None);
    let mut asked = 0;
    while asked < ASKED {
        asked += usize::from(Messages::echo(SMALL).put(&mut sides.guests[0], 0));
        sides.guests[0].publish();
        sides.remote.serve(SERVED);
        sides.remote.publish();
    }
    let what = "3 flooders: the same beside a VM that takes nothing";
    let with = cost(&mut sides, what);
    report.figure("three_flooders_cost_beside_bad_receiver", what, Unit::Nanoseconds, &with, None);
}
