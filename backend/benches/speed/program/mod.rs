//! The real program between a guest and a remote core.
//!
//! The guest is the driver of the tests' harness, which checks every message and so takes its time; that is in the figures.

mod round_trip;

use crate::report::Report;

/// The endpoint that the guest uses.
const HERE: u32 = 1024;

/// Measures it.
pub(crate) fn measure(report: &mut Report) {
    round_trip::measure(report);
}
