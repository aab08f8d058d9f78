//! Measuring: how often, and what is shown meanwhile.

use std::io::{IsTerminal, Write, stderr};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use serde::Serialize;

/// Times that a measurement is repeated.
const REPETITIONS: usize = 21;
/// How long one of them takes: long beside a tick of the scheduler, and short beside what else a machine has to do now and
/// then.
const LENGTH: Duration = Duration::from_millis(40);
/// Runs of each length while warming up.
const WARM_UPS: u32 = 3;
/// Operations that are timed one by one: 42 of them are beyond the 99.9th percentile.
const ONE_BY_ONE: usize = 2000 * REPETITIONS;

/// What repeating a measurement has given.
pub(crate) struct Samples {
    /// Nanoseconds of one operation in each repetition, sorted.
    pub(crate) nanoseconds: Vec<f64>,
    /// Operations in each repetition.
    pub(crate) operations: u32,
}

impl Samples {
    /// The one in the middle.
    pub(crate) fn median(&self) -> f64 {
        self.nanoseconds[self.nanoseconds.len() / 2]
    }
}

/// Repeats a measurement. `run` does so many operations and says how long they took; the first runs warm up and find out how
/// many operations there are to a repetition.
pub(crate) fn repeat(what: &str, mut run: impl FnMut(u32) -> Duration) -> Samples {
    let progress = Progress::of(what);
    let mut operations = 256;
    // The best of some runs: what else this machine does must not make a repetition shorter.
    while (0..WARM_UPS).map(|_| run(operations)).min() < Some(LENGTH / 2) {
        operations *= 2;
    }
    let mut nanoseconds: Vec<_> = (1..=REPETITIONS)
        .map(|number| {
            progress.show(number);
            run(operations).as_secs_f64() * 1e9 / f64::from(operations)
        })
        .collect();
    nanoseconds.sort_by(f64::total_cmp);
    Samples { nanoseconds, operations }
}

/// How long each of many operations took, in nanoseconds.
///
/// A floor is too short to be timed by itself. `together` is what is to be compared with one: where something else runs on the
/// same cores, it is far above the median, as the floor is.
#[derive(Clone, Copy, Serialize)]
pub(crate) struct Distribution {
    pub(crate) together: f64,
    pub(crate) count: u64,
    pub(crate) median: f64,
    pub(crate) p99: f64,
    pub(crate) p999: f64,
    pub(crate) maximum: f64,
}

/// Times many operations together, as [`repeat`] does, and then each of [`ONE_BY_ONE`] of them.
pub(crate) fn one_by_one(what: &str, mut operation: impl FnMut()) -> Distribution {
    let together = repeat(what, |operations| {
        let start = Instant::now();
        (0..operations).for_each(|_| operation());
        start.elapsed()
    });
    let progress = Progress::of(what);
    let share = ONE_BY_ONE / REPETITIONS;
    let mut histogram = Histogram::<u64>::new(3).expect("three digits");
    for number in 1..=REPETITIONS {
        progress.show(number);
        for _ in 0..share {
            let start = Instant::now();
            operation();
            let time = u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX);
            histogram.record(time).expect("a histogram that grows");
        }
    }
    let at = |quantile| histogram.value_at_quantile(quantile) as f64;
    Distribution {
        together: together.median(),
        count: histogram.len(),
        median: at(0.5),
        p99: at(0.99),
        p999: at(0.999),
        maximum: histogram.max() as f64,
    }
}

/// A line that says how far a measurement is, where somebody looks.
struct Progress<'a> {
    what: &'a str,
    seen: bool,
}

impl<'a> Progress<'a> {
    fn of(what: &'a str) -> Self {
        let progress = Progress { what, seen: stderr().is_terminal() };
        progress.show(0);
        progress
    }

    fn show(&self, number: usize) {
        if self.seen {
            eprint!("\r{:58} {number:3}/{REPETITIONS}", self.what);
            // Nothing is lost with a progress that is not seen.
            let _ = stderr().flush();
        }
    }
}

impl Drop for Progress<'_> {
    fn drop(&mut self) {
        if self.seen {
            eprint!("\r{:70}\r", "");
        }
    }
}
