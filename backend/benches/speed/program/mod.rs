//! The real program between guests and a remote core.
//!
//! | file | what is in it |
//! |---|---|
//! | `world` | the program and what it runs between, in this process |
//! | `round_trip` | one message there and back, and then the next one |
//! | `load` | as many messages as there can be, of one VM and of many |
//! | `idle` | nothing at all |
//!
//! The guests are the driver of the tests' harness, which checks every message and so takes its time; that is in the round
//! trips, and bounds the load.

mod idle;
mod load;
mod round_trip;
mod world;

use crate::report::Report;

/// The endpoint that each guest uses.
const HERE: u32 = 1024;

/// Measures it.
pub(crate) fn measure(report: &mut Report) {
    round_trip::measure(report);
    load::measure(report);
    idle::measure(report);
}
