//! How long a message is in this program's hands, by samples.
//!
//! What is measured is one sweep that has moved something: from the moment the bridge begins to look at the rings until all
//! that was there has been copied and published, and whoever wants it has been notified, system calls included. So it is
//! what the bridge adds to each message of that batch once it looks, at most; how long it has slept or done something else
//! before it looked is not in it.
//!
//! The clock is read at the begin of some sweeps anyway: of the first after a wake-up, and once in some 64 messages.
//! These are the samples, at the cost of one more look at the clock.

use std::time::Duration;

use hdrhistogram::Histogram;

/// Longer ones count as this.
const LONGEST: Duration = Duration::from_secs(1);
/// Decimal digits.
const DIGITS: u8 = 2;

/// The samples of a remote's bridge, in nanoseconds, since this process has served it.
#[derive(Clone, Debug)]
pub struct Latency {
    /// Of sweeps in which messages have gone to the remote.
    pub to_remote: Histogram<u64>,
    /// Of sweeps in which messages have come from the remote.
    pub to_guest: Histogram<u64>,
}

impl Latency {
    pub(super) fn new() -> Self {
        let longest = u64::try_from(LONGEST.as_nanos()).unwrap_or(u64::MAX);
        let histogram = || Histogram::new_with_bounds(1, longest, DIGITS).expect("bounds that are in order");
        Latency { to_remote: histogram(), to_guest: histogram() }
    }

    /// A sweep took this long. Nothing is allocated.
    pub(super) fn add(&mut self, took: Duration, to_remote: bool, to_guest: bool) {
        let took = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        if to_remote {
            self.to_remote.saturating_record(took);
        }
        if to_guest {
            self.to_guest.saturating_record(took);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_of_any_length_are_recorded_by_direction_without_allocating() {
        let mut latency = Latency::new();
        let allocated = allocation_counter::measure(|| {
            latency.add(Duration::ZERO, true, false);
            latency.add(Duration::from_micros(3), true, true);
            latency.add(Duration::from_secs(1_000_000), false, true);
        });
        assert_eq!(allocated.count_total, 0);
        assert_eq!((latency.to_remote.len(), latency.to_guest.len()), (2, 2));
        assert!(latency.to_guest.max() >= 1_000_000_000);
        assert!((2970..3030).contains(&latency.to_remote.value_at_quantile(1.0)));
    }
}
