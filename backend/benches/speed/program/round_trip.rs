//! One message to the echo of the remote core and back, and then the next one.

use super::HERE;
use super::world::World;
use crate::cores::{FAR, NEAR, pin};
use crate::harness::rig::{Plan, Rig};
use crate::repeat::{Distribution, one_by_one};
use crate::report::Report;
use crate::stepped::ECHO;

/// What is sent: 16 bytes, as in the figures of the design.
const PAYLOAD: [u8; 16] = [7; 16];

pub(super) fn measure(report: &mut Report) {
    let what = "round trip, guest and remote spinning in one process";
    report.program("round_trip_spinning", what, &spinning(what));
    let what = "round trip, guest and remote blocking, a process each";
    report.program("round_trip_blocking", what, &blocking(what));
}

/// This process is guest and remote core in turn.
fn spinning(what: &str) -> Distribution {
    let mut world = World::new(1);
    let (guest, remote) = (&mut world.guests[0], &mut world.remote);
    one_by_one(what, || {
        assert!(guest.try_send(HERE, ECHO, &PAYLOAD), "a transmit buffer, of which one is in use");
        while guest.try_recv().is_none() {
            remote.step();
        }
    })
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
    one_by_one(what, || guest.echo(HERE, echo, &PAYLOAD))
}
