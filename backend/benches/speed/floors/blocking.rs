//! What passes between processes that sleep until they are rung for.

use std::time::Instant;

use crate::cores::{FAR, NEAR, pin};
use crate::peer::{Bell, Ears, Part, Peer};
use crate::repeat::{Samples, repeat};
use crate::report::Report;

/// Measures event fds and epoll.
pub(crate) fn measure(report: &mut Report) {
    pin(NEAR);
    let what = "event fd, there and back, across cores";
    report.floor("eventfd_round_trip", what, &round_trip(what));
    let what = "epoll relay, 4 hops, across cores";
    report.floor("epoll_relay_split", what, &relay(what, FAR));
    let what = "epoll relay, 4 hops, all on one core";
    report.floor("epoll_relay_one_core", what, &relay(what, NEAR));
}

/// The other process reads one event fd and writes another one.
fn round_trip(what: &str) -> Samples {
    let (mut there, mut back) = (Bell::new(), Bell::new());
    let _echo = Peer::start(Part::Echo, FAR, &[&there], &[&back]);
    repeat(what, |operations| {
        let start = Instant::now();
        for _ in 0..operations {
            there.ring();
            back.hear();
        }
        start.elapsed()
    })
}

/// This process is the guest, and another one beside it the remote; the one between them is on the core given.
fn relay(what: &str, core: usize) -> Samples {
    let (mut from_guest, to_remote) = (Bell::new(), Bell::new());
    let (from_remote, to_guest) = (Bell::new(), Bell::new());
    let _remote = Peer::start(Part::PollingEcho, NEAR, &[&to_remote], &[&from_remote]);
    let _relay = Peer::start(Part::Relay, core, &[&from_guest, &from_remote], &[&to_remote, &to_guest]);
    let mut ears = Ears::of(vec![to_guest]);
    repeat(what, |operations| {
        let start = Instant::now();
        for _ in 0..operations {
            from_guest.ring();
            ears.hear();
        }
        start.elapsed()
    })
}
