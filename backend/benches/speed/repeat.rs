//! Measuring: how often, and what is shown meanwhile.

use std::io::{IsTerminal, Write, stderr};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

/// Times that a measurement is repeated.
const REPETITIONS: usize = 201;
/// How long one of them takes: long beside what the clock costs, and short beside the time for which the scheduler gives a core
/// to somebody else, so that there are some in which nobody else had it.
const LENGTH: Duration = Duration::from_millis(2);
/// Runs of each length while warming up.
const WARM_UPS: u32 = 3;
/// Operations that are timed one by one: 40 of them are beyond the 99.9th percentile.
const ONE_BY_ONE: usize = 200 * REPETITIONS;

/// What repeating a measurement has given.
pub(crate) struct Samples {
    /// What came out in each repetition, sorted; where nothing else is said, nanoseconds of one operation.
    values: Vec<f64>,
    typical: f64,
    /// Operations in each repetition.
    pub(crate) operations: u32,
}

/// How samples are spread.
///
/// The typical one is what is held against others. It is the lower quartile of times: other work on the machine only ever makes
/// them longer, and in some of the repetitions only.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Spread {
    pub(crate) minimum: f64,
    pub(crate) lower_quartile: f64,
    pub(crate) typical: f64,
    pub(crate) median: f64,
    pub(crate) upper_quartile: f64,
    pub(crate) maximum: f64,
    pub(crate) repetitions: usize,
}

impl Samples {
    /// Of these values, each of so many operations.
    pub(crate) fn new(mut values: Vec<f64>, operations: u32) -> Self {
        values.sort_by(f64::total_cmp);
        let mut samples = Samples { values, typical: 0.0, operations };
        samples.typical = samples.quartile(1);
        samples
    }

    /// Of one value.
    pub(crate) fn one(value: f64) -> Self {
        Samples::new(vec![value], 1)
    }

    /// The same with other values: a rate of a time, a part of a whole.
    pub(crate) fn map(&self, change: impl Fn(f64) -> f64) -> Self {
        let typical = change(self.typical);
        let changed = Samples::new(self.values.iter().copied().map(change).collect(), self.operations);
        Samples { typical, ..changed }
    }

    fn quartile(&self, number: usize) -> f64 {
        self.values[((self.values.len() - 1) * number + 2) / 4]
    }

    /// How they are spread.
    pub(crate) fn spread(&self) -> Spread {
        let [minimum, lower_quartile, median, upper_quartile, maximum] =
            [0, 1, 2, 3, 4].map(|number| self.quartile(number));
        let (typical, repetitions) = (self.typical, self.values.len());
        Spread { minimum, lower_quartile, typical, median, upper_quartile, maximum, repetitions }
    }

    /// See [`Spread`].
    pub(crate) fn typical(&self) -> f64 {
        self.typical
    }
}

impl Spread {
    /// How far apart the middle half of the repetitions is.
    pub(crate) fn width(&self) -> f64 {
        self.upper_quartile - self.lower_quartile
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
    let nanoseconds = (1..=REPETITIONS)
        .map(|number| {
            progress.show(number);
            run(operations).as_secs_f64() * 1e9 / f64::from(operations)
        })
        .collect();
    Samples::new(nanoseconds, operations)
}

/// Measures something that is no time of an operation, a few times.
pub(crate) fn a_few_times(what: &str, mut run: impl FnMut() -> f64) -> Samples {
    /// Each takes long.
    const TIMES: usize = 5;

    let progress = Progress::of(what);
    let value = |number| {
        progress.show(number * REPETITIONS / TIMES);
        run()
    };
    Samples::new((1..=TIMES).map(value).collect(), 1)
}

/// How long each of many operations took, in nanoseconds.
///
/// A floor is too short to be timed by itself. `together` is what is to be compared with one: where something else runs on the
/// same cores, it is far above the median, as the floor is.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Distribution {
    pub(crate) together: Spread,
    pub(crate) count: u64,
    pub(crate) median: f64,
    pub(crate) p99: f64,
    pub(crate) p999: f64,
    pub(crate) maximum: f64,
    /// Parts of the operations, and the time within which that part of them was done.
    pub(crate) curve: Vec<(f64, f64)>,
}

/// Times many operations together, as [`repeat`] does, and then each of [`ONE_BY_ONE`] of them.
pub(crate) fn one_by_one(what: &str, mut operation: impl FnMut()) -> Distribution {
    let together = repeat(what, |operations| {
        let start = Instant::now();
        (0..operations).for_each(|_| operation());
        start.elapsed()
    });
    let times = each(what, ONE_BY_ONE, || {
        let start = Instant::now();
        operation();
        start.elapsed()
    });
    Distribution { together: together.spread(), ..times }
}

/// Runs something so many times and says how the times that it tells of are distributed; `together` is that of all of them.
pub(crate) fn each(what: &str, count: usize, mut operation: impl FnMut() -> Duration) -> Distribution {
    /// Points of the curve for each time that the rest is divided by ten.
    const STEPS: i32 = 10;

    let progress = Progress::of(what);
    let share = count / REPETITIONS;
    let mut histogram = Histogram::<u64>::new(3).expect("three digits");
    let mut means = Vec::new();
    for number in 1..=REPETITIONS {
        progress.show(number);
        let mut sum = Duration::ZERO;
        for _ in 0..share {
            let time = operation();
            sum += time;
            let time = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
            histogram.record(time).expect("a histogram that grows");
        }
        means.push(sum.as_secs_f64() * 1e9 / share as f64);
    }
    let at = |quantile| histogram.value_at_quantile(quantile) as f64;
    let rest = |step: i32| 10_f64.powf(-f64::from(step) / f64::from(STEPS));
    let shown = (0..).map(rest).take_while(|rest| rest * histogram.len() as f64 >= 1.0);
    let curve = shown.map(|rest| (1.0 - rest, at(1.0 - rest))).collect();
    Distribution {
        together: Samples::new(means, u32::try_from(share).unwrap_or(u32::MAX)).spread(),
        count: histogram.len(),
        median: at(0.5),
        p99: at(0.99),
        p999: at(0.999),
        maximum: histogram.max() as f64,
        curve,
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
