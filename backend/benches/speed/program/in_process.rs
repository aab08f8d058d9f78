//! What a message costs the relay alone, with guest, relay and remote core on one core and in one process: nothing comes from
//! another core's cache.

use super::SMALL;
use crate::cores::{FAR, NEAR, pin};
use crate::relay::{Way, time};
use crate::repeat::a_few_times;
use crate::report::{Report, Unit};

/// Messages that are timed together.
const MESSAGES: u32 = 64_000;

pub(super) fn measure(report: &mut Report) {
    // Where the crate's queue was measured.
    pin(FAR);
    for (name, what, batch, limit) in [
        ("relay_batch_1", "relay alone, 16 bytes to the remote", 1, "virtqueue_pop_push"),
        (
            "relay_batch_32",
            "relay alone, 16 bytes to the remote, 32 at a time",
            32,
            "virtqueue_pop_push_batch_32",
        ),
    ] {
        let cost = a_few_times(what, || time(Way::ToRemote, batch, MESSAGES, &[7; SMALL]));
        report.figure(name, what, Unit::Nanoseconds, &cost, Some(limit));
    }
    pin(NEAR);
}
