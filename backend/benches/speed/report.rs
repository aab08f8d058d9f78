//! What comes out: a table, line by line as it is measured, and a JSON file.
//!
//! The file is one object:
//!
//! | key | value |
//! |---|---|
//! | `format` | 1; another number if a key changes its meaning or goes |
//! | `machine` | `processor` and `kernel` as Linux names them, and `load`, the load average of the minute before the run: other work makes every figure worse |
//! | `floors`, `program`, `counts`, `goals` | lists, in the order of the tables |
//!
//! and each of the `floors` is
//!
//! | key | value |
//! |---|---|
//! | `name` | what is measured, as a word that does not change |
//! | `what` | the same for people |
//! | `operations`, `repetitions` | how many operations were timed together, and how often |
//! | `minimum`, `median`, `maximum` | nanoseconds of one operation, of all repetitions |
//! | `ratio` | the median against that of the first of the `floors` |
//!
//! Each of the `program`'s figures is
//!
//! | key | value |
//! |---|---|
//! | `name`, `what` | as above |
//! | `together` | nanoseconds of one of many operations that were timed together, the median of all repetitions, as for a floor |
//! | `count` | how many operations were timed each by itself |
//! | `median`, `p99`, `p999`, `maximum` | nanoseconds of these |
//!
//! each of the `counts`, which are figures of the program that are no distributions, is
//!
//! | key | value |
//! |---|---|
//! | `name`, `what` | as above; `what` says of what it is a count |
//! | `value` | the figure |
//!
//! and each of the `goals`, which are bounds for counts and for ratios, is
//!
//! | key | value |
//! |---|---|
//! | `goal` | its number in the design |
//! | `what` | what is counted, or what is divided by what |
//! | `at_most`, `measured` | the bound, and the figure |
//! | `met` | whether it is met |

use std::fs;
use std::io;
use std::path::Path;

use serde::Serialize;

use super::repeat::{Distribution, Samples};

/// The version of the file's format.
const FORMAT: u32 = 1;

/// A run and what it has found.
#[derive(Serialize)]
pub(crate) struct Report {
    format: u32,
    machine: Machine,
    floors: Vec<Figure>,
    program: Vec<Timed>,
    counts: Vec<Count>,
    goals: Vec<Goal>,
}

#[derive(Serialize)]
struct Machine {
    processor: String,
    kernel: String,
    load: f64,
}

#[derive(Serialize)]
struct Figure {
    name: &'static str,
    what: &'static str,
    operations: u32,
    repetitions: usize,
    minimum: f64,
    median: f64,
    maximum: f64,
    ratio: f64,
}

#[derive(Serialize)]
struct Timed {
    name: &'static str,
    what: &'static str,
    #[serde(flatten)]
    times: Distribution,
}

#[derive(Serialize)]
struct Count {
    name: &'static str,
    what: &'static str,
    value: f64,
}

#[derive(Serialize)]
struct Goal {
    goal: &'static str,
    what: &'static str,
    at_most: f64,
    measured: f64,
    met: bool,
}

impl Report {
    /// Begins, and prints the head of the table.
    pub(crate) fn new() -> Self {
        /// With more than this, something else runs.
        const IDLE: f64 = 0.3;

        let machine = Machine::here();
        println!("{}, Linux {}, load {}", machine.processor, machine.kernel, machine.load);
        if machine.load > IDLE {
            println!("Something else runs here: figures are worse than they could be.");
        }
        println!("\n{:58} {:>11} {:>11} {:>11} {:>9}", "floor", "minimum", "median", "maximum", "ratio");
        Report {
            format: FORMAT,
            machine,
            floors: Vec::new(),
            program: Vec::new(),
            counts: Vec::new(),
            goals: Vec::new(),
        }
    }

    /// Takes a floor, and prints its line.
    pub(crate) fn floor(&mut self, name: &'static str, what: &'static str, samples: &Samples) {
        let sorted = &samples.nanoseconds;
        let (minimum, median, maximum) = (sorted[0], samples.median(), sorted[sorted.len() - 1]);
        let ratio = median / self.floors.first().map_or(median, |first| first.median);
        println!(
            "{what:58} {:>11} {:>11} {:>11} {ratio:>9.2}",
            readable(minimum),
            readable(median),
            readable(maximum)
        );
        let (operations, repetitions) = (samples.operations, sorted.len());
        self.floors.push(Figure { name, what, operations, repetitions, minimum, median, maximum, ratio });
    }

    /// Takes a figure of the program, and prints its line.
    pub(crate) fn program(&mut self, name: &'static str, what: &'static str, times: &Distribution) {
        if self.program.is_empty() {
            let [together, median, p99] = ["together", "median", "p99"];
            println!(
                "\n{:58} {together:>11} {median:>11} {p99:>11} {:>11} {:>11}",
                "program", "p99.9", "maximum"
            );
        }
        let Distribution { together, median, p99, p999, maximum, .. } = *times;
        let [together, median, p99, p999, maximum] = [together, median, p99, p999, maximum].map(readable);
        println!("{what:58} {together:>11} {median:>11} {p99:>11} {p999:>11} {maximum:>11}");
        self.program.push(Timed { name, what, times: *times });
    }

    /// The median of a floor that was measured.
    pub(crate) fn median(&self, name: &str) -> f64 {
        self.floors.iter().find(|floor| floor.name == name).expect("a floor that was measured").median
    }

    /// A figure of the program that was measured.
    pub(crate) fn distribution(&self, name: &str) -> Distribution {
        self.program.iter().find(|timed| timed.name == name).expect("a figure that was measured").times
    }

    /// Takes another figure of the program, and prints its line.
    pub(crate) fn count(&mut self, name: &'static str, what: &'static str, value: f64) {
        if self.counts.is_empty() {
            println!("\n{:58} {:>11}", "program", "count");
        }
        println!("{what:58} {value:>11.2}");
        self.counts.push(Count { name, what, value });
    }

    /// A count that was taken.
    pub(crate) fn counted(&self, name: &str) -> f64 {
        self.counts.iter().find(|count| count.name == name).expect("a count that was taken").value
    }

    /// Takes a figure that has a bound, and prints its line.
    pub(crate) fn goal(&mut self, goal: &'static str, what: &'static str, measured: f64, at_most: f64) {
        if self.goals.is_empty() {
            println!("\n{:58} {:>11} {:>11}", "goal", "at most", "measured");
        }
        let met = measured <= at_most;
        let verdict = if met { "met" } else { "not met" };
        println!("{goal:4} {what:53} {at_most:>11.2} {measured:>11.2}  {verdict}");
        self.goals.push(Goal { goal, what, at_most, measured, met });
    }

    /// Writes the file.
    pub(crate) fn write(&self, path: &Path) -> io::Result<()> {
        let mut text = serde_json::to_string_pretty(self)?;
        text.push('\n');
        fs::write(path, text)
    }
}

impl Machine {
    fn here() -> Self {
        let read = |path| fs::read_to_string(path).unwrap_or_default();
        let processor = read("/proc/cpuinfo")
            .lines()
            .find_map(|line| {
                Some(line.strip_prefix("model name")?.trim_start_matches([' ', '\t', ':']).to_owned())
            })
            .unwrap_or_else(|| std::env::consts::ARCH.to_owned());
        let load = read("/proc/loadavg").split(' ').next().and_then(|word| word.parse().ok()).unwrap_or(0.0);
        Machine { processor, kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(), load }
    }
}

fn readable(nanoseconds: f64) -> String {
    if nanoseconds < 10_000.0 {
        format!("{nanoseconds:.1} ns")
    } else {
        format!("{:.1} us", nanoseconds / 1000.0)
    }
}
