//! One message to the echo of the remote core and back, and then the next one.

use super::sides::HERE;
use super::world::World;
use super::{LARGE, SMALL};
use crate::cores::{FAR, NEAR, pin};
use crate::harness::rig::{Plan, Rig};
use crate::lean::Notifications;
use crate::repeat::one_by_one;
use crate::report::Report;

/// This process is guest and remote core in turn.
pub(super) fn spinning(report: &mut Report) {
    for (name, what, payload) in [
        ("round_trip_spinning", "round trip of 16 bytes, guest and remote spinning", SMALL),
        ("large_round_trip_spinning", "round trip of 496 bytes, guest and remote spinning", LARGE),
    ] {
        let world = World::new(1);
        let mut sides = world.sides(Notifications::Unwanted);
        let times = one_by_one(what, || sides.round_trip(payload));
        report.round_trip(name, what, times, Some("spinning_relay"));
    }
}

/// This process is the guest, and another one on the same core the remote core.
pub(super) fn blocking(report: &mut Report) {
    let what = "round trip of 16 bytes, guest and remote blocking";
    let mut rig = Rig::prepare(Plan::default());
    pin(NEAR);
    rig.start_core();
    pin(FAR);
    rig.start_program();
    pin(NEAR);
    let mut guest = rig.guest(0);
    let echo = guest.wait_service("rpmsg-raw");
    let times = one_by_one(what, || guest.echo(HERE, echo, &[7; SMALL]));
    report.round_trip("round_trip_blocking", what, times, Some("epoll_relay_split"));
}
