//! A guest's driver and a remote's firmware that do no more than they must, so that what is measured is what is between them.
//!
//! | file | what is in it |
//! |---|---|
//! | `ring` | a split ring in shared memory, for whoever is at either end |
//! | `guest` | the driver in the guest, as Linux does it |
//! | `remote` | the firmware: takes messages, and sends back those to the echo |
//!
//! Both take over rings that the tests' harness has set up, when every guest has been told of the services. They keep what is
//! in the rings to what a stock peer does: descriptors, entries and indexes are written anew for each message, every byte of a
//! payload is written by its sender and read by its receiver, and after each publication they look whether the other side wants
//! to be notified. Each message carries a number, and each receiver checks it. What they leave out is what a bench does not
//! need: nothing is allocated, there is one endpoint's worth of state, and what cannot be is a panic.

mod guest;
mod remote;
mod ring;

use std::time::Instant;

pub(crate) use guest::Guest;
pub(crate) use remote::Remote;

use crate::harness::driver::PATIENCE;

/// Whether the lean sides want to be notified, as peers do that sleep or work by interrupts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Notifications {
    /// They look by themselves, and say so in their rings.
    Unwanted,
    /// They ask to be notified of whatever comes next, as Linux and OpenAMP do.
    Wanted,
}

/// Where the number of a message stands in its buffer: at the beginning of the payload.
const NUMBER: std::ops::Range<usize> = 16..20;

/// Looks again and again until it is so, without sleeping.
#[inline]
pub(crate) fn spin_until(what: &str, mut done: impl FnMut() -> bool) {
    /// Looks between two looks at the clock.
    const LOOKS: u32 = 1 << 20;

    let mut begin = None;
    loop {
        for _ in 0..LOOKS {
            if done() {
                return;
            }
        }
        let begin = *begin.get_or_insert_with(Instant::now);
        assert!(begin.elapsed() < PATIENCE, "stuck: no {what} within {PATIENCE:?}");
    }
}
