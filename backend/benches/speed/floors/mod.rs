//! The floors: what nothing on this machine can be faster than.
//!
//! | file | what is in it |
//! |---|---|
//! | `spinning` | two cores that look at each other's cache lines and never sleep |
//! | `blocking` | processes that sleep until they are rung for |
//! | `virtqueue` | the virtio-queue crate |

mod blocking;
mod spinning;
mod virtqueue;

use super::report::Report;

/// Measures them all.
pub(crate) fn measure(report: &mut Report) {
    spinning::measure(report);
    blocking::measure(report);
    virtqueue::measure(report);
}
