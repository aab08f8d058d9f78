//! One message to the echo of the remote core and back, and then the next one.

use super::world::World;
use super::{LARGE, SMALL};
use crate::cores::{FAR, NEAR, pin};
use crate::harness::rig::{Plan, Rig};
use crate::lean::Notifications;
use crate::repeat::{Distribution, one_by_one};
use crate::report::Report;

pub(super) fn measure(report: &mut Report) {
    for (name, what, payload) in [
        ("round_trip_spinning", "round trip of 16 bytes, guest and remote spinning", SMALL),
        ("large_round_trip_spinning", "round trip of 496 bytes, guest and remote spinning", LARGE),
    ] {
        report.round_trip(name, what, spinning(what, payload), Some("spinning_relay"));
    }
    let what = "round trip of 16 bytes, guest and remote blocking";
    report.round_trip("round_trip_blocking", what, blocking(what), Some("epoll_relay_split"));
}

/// This process is guest and remote core in turn.
fn spinning(what: &str, payload: usize) -> Distribution {
    let world = World::new(1);
    let mut sides = world.sides(Notifications::Unwanted);
    one_by_one(what, || sides.round_trip(payload))
}

/// This process is the guest, and another one on the same core the remote core.
fn blocking(what: &str) -> Distribution {
    let mut rig = Rig::prepare(Plan::default());
    pin(NEAR);
    rig.start_core();
    pin(FAR);
    rig.start_program();
    pin(NEAR);
    let mut guest = rig.guest(0);
    let echo = guest.wait_service("rpmsg-raw");
    one_by_one(what, || guest.echo(super::sides::HERE, echo, &[7; SMALL]))
}
