//! What comes out: tables, line by line as it is measured, and a JSON file.
//!
//! The file is one object:
//!
//! | key | value |
//! |---|---|
//! | `format` | 2; another number if a key changes its meaning or goes |
//! | `machine` | `processor` and `kernel` as Linux names them, and `load`, the load average of the minute before the run: other work makes every figure worse; `steady`, whether the cores were as far apart after each part of the run as before it |
//! | `floors`, `figures`, `round_trips`, `goals` | lists, in the order of the tables |
//!
//! Each of the `floors`, which are limits of the machine, and of the `figures`, which are the program's, is
//!
//! | key | value |
//! |---|---|
//! | `name` | what is measured, as a word that does not change |
//! | `what` | the same for people |
//! | `unit` | `"ns"`, `"1/s"` or `""` |
//! | `operations`, `repetitions` | how many operations were measured together, and how often |
//! | `minimum`, `lower_quartile`, `median`, `upper_quartile`, `maximum` | of all repetitions |
//! | `typical` | what is held against others: the lower quartile of times, the upper one of rates |
//! | `limit`, `ratio` | what of the machine's it is held against, by name, and the typical one against that of the limit; null if nothing |
//! | `distance` | nanoseconds of a cache line there and back between the two cores when that part of the run was begun |
//!
//! each of the `round_trips` is
//!
//! | key | value |
//! |---|---|
//! | `name`, `what`, `limit`, `ratio`, `distance` | as above |
//! | `together` | `minimum` to `maximum` as above: nanoseconds of one of many operations that were timed together |
//! | `count` | how many operations were timed each by itself |
//! | `median`, `p99`, `p999`, `maximum` | nanoseconds of these |
//! | `curve` | pairs: a part of the operations, and the nanoseconds within which each of that part was done |
//!
//! and each of the `goals` is
//!
//! | key | value |
//! |---|---|
//! | `goal` | its number in the design |
//! | `what` | what is counted, or what is divided by what |
//! | `at_most`, `measured` | the bound, and the figure |
//! | `ratio` | the figure against the bound; null where that is 0 |
//! | `met` | whether it is met |

use std::fs;
use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::repeat::{Distribution, Samples, Spread};

/// The version of the file's format.
pub(crate) const FORMAT: u32 = 2;

/// A run and what it has found.
#[derive(Serialize, Deserialize)]
pub(crate) struct Report {
    pub(crate) format: u32,
    pub(crate) machine: Machine,
    pub(crate) floors: Vec<Figure>,
    pub(crate) figures: Vec<Figure>,
    pub(crate) round_trips: Vec<RoundTrip>,
    goals: Vec<Goal>,
    /// The heading under which lines are being printed.
    #[serde(skip)]
    heading: Option<Heading>,
    /// How far apart the cores are, see `steady`.
    #[serde(skip)]
    distance: f64,
}

/// Tables have headings of their own.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Heading {
    Floors,
    Figures,
    RoundTrips,
    Goals,
}

/// Where it was measured.
#[derive(Serialize, Deserialize)]
pub(crate) struct Machine {
    pub(crate) processor: String,
    pub(crate) kernel: String,
    pub(crate) load: f64,
    steady: bool,
}

/// In what something is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Unit {
    #[serde(rename = "ns")]
    Nanoseconds,
    #[serde(rename = "1/s")]
    PerSecond,
    #[serde(rename = "")]
    Number,
}

/// Something that was measured.
#[derive(Serialize, Deserialize)]
pub(crate) struct Figure {
    pub(crate) name: String,
    pub(crate) what: String,
    pub(crate) unit: Unit,
    operations: u32,
    #[serde(flatten)]
    pub(crate) spread: Spread,
    pub(crate) limit: Option<String>,
    pub(crate) ratio: Option<f64>,
    pub(crate) distance: f64,
}

/// Something that was also timed one by one.
#[derive(Serialize, Deserialize)]
pub(crate) struct RoundTrip {
    pub(crate) name: String,
    pub(crate) what: String,
    #[serde(flatten)]
    pub(crate) times: Distribution,
    pub(crate) limit: Option<String>,
    pub(crate) ratio: Option<f64>,
    pub(crate) distance: f64,
}

#[derive(Serialize, Deserialize)]
struct Goal {
    goal: String,
    what: String,
    at_most: f64,
    measured: f64,
    ratio: Option<f64>,
    met: bool,
}

impl Report {
    /// Begins, and prints where it is measured.
    pub(crate) fn new() -> Self {
        /// With more than this, something else runs.
        const IDLE: f64 = 0.3;

        let machine = Machine::here();
        println!("{}, Linux {}, load {}", machine.processor, machine.kernel, machine.load);
        if machine.load > IDLE {
            println!("Something else runs here: figures are worse than they could be.");
        }
        Report {
            format: FORMAT,
            machine,
            floors: Vec::new(),
            figures: Vec::new(),
            round_trips: Vec::new(),
            goals: Vec::new(),
            heading: None,
            distance: 0.0,
        }
    }

    fn head(&mut self, heading: Heading) {
        if self.heading.replace(heading) == Some(heading) {
            return;
        }
        let (of, columns): (_, &[&str]) = match heading {
            Heading::Floors => {
                ("limits of this machine", &["minimum", "typical", "median", "maximum", ": first"])
            }
            Heading::Figures => ("program", &["minimum", "typical", "median", "maximum", ": limit"]),
            Heading::RoundTrips => ("program", &["together", "median", "p99", "p99.9", "maximum", ": limit"]),
            Heading::Goals => ("goal", &["at most", "measured", ": goal"]),
        };
        print!("\n{of:62}");
        columns.iter().for_each(|column| print!(" {column:>11}"));
        println!();
    }

    /// How much there is by now, for [`Report::forget_since`].
    pub(crate) fn mark(&self) -> [usize; 3] {
        [self.floors.len(), self.figures.len(), self.round_trips.len()]
    }

    /// Forgets what has been taken since.
    pub(crate) fn forget_since(&mut self, [floors, figures, round_trips]: [usize; 3]) {
        self.floors.truncate(floors);
        self.figures.truncate(figures);
        self.round_trips.truncate(round_trips);
        self.heading = None;
    }

    /// Says how far apart the cores are from now on.
    pub(crate) fn at_distance(&mut self, distance: f64) {
        self.distance = distance;
    }

    /// Notes that something was measured on cores that moved.
    pub(crate) fn is_unsteady(&mut self) {
        self.machine.steady = false;
    }

    /// Takes a floor, and prints its line.
    pub(crate) fn floor(&mut self, name: &str, what: &str, samples: &Samples) {
        self.head(Heading::Floors);
        let first = self.floors.first().map(|first| first.name.clone());
        let figure = self.figure_of(name, what, Unit::Nanoseconds, samples, first.as_deref());
        figure.print();
        self.floors.push(figure);
    }

    /// Takes a figure of the program, and prints its line. What is held against a limit is a time as the limit is.
    pub(crate) fn figure(
        &mut self,
        name: &str,
        what: &str,
        unit: Unit,
        samples: &Samples,
        limit: Option<&str>,
    ) {
        self.head(Heading::Figures);
        let figure = self.figure_of(name, what, unit, samples, limit);
        figure.print();
        self.figures.push(figure);
    }

    fn figure_of(
        &self,
        name: &str,
        what: &str,
        unit: Unit,
        samples: &Samples,
        limit: Option<&str>,
    ) -> Figure {
        let spread = samples.spread();
        let ratio = limit.map(|limit| spread.typical / self.typical(limit));
        Figure {
            name: name.to_owned(),
            what: what.to_owned(),
            unit,
            operations: samples.operations,
            spread,
            limit: limit.map(str::to_owned),
            ratio,
            distance: self.distance,
        }
    }

    /// Takes times of the program, and prints their line.
    pub(crate) fn round_trip(&mut self, name: &str, what: &str, times: Distribution, limit: Option<&str>) {
        self.head(Heading::RoundTrips);
        let ratio = limit.map(|limit| times.together.typical / self.typical(limit));
        let Distribution { together, median, p99, p999, maximum, .. } = &times;
        print!("{what:62}");
        for time in [together.typical, *median, *p99, *p999, *maximum] {
            print!(" {:>11}", Unit::Nanoseconds.readable(time));
        }
        println!(" {:>11}", readable_ratio(ratio));
        let (name, what, limit) = (name.to_owned(), what.to_owned(), limit.map(str::to_owned));
        let distance = self.distance;
        self.round_trips.push(RoundTrip { name, what, times, limit, ratio, distance });
    }

    /// What is typical of what was measured under this name.
    pub(crate) fn typical(&self, name: &str) -> f64 {
        self.find(name).unwrap_or_else(|| panic!("{name} has not been measured")).spread.typical
    }

    /// What was measured under this name, as a time of the machine's or as a figure of the program's.
    pub(crate) fn find(&self, name: &str) -> Option<&Figure> {
        self.floors.iter().chain(&self.figures).find(|figure| figure.name == name)
    }

    /// The times that were measured under this name.
    pub(crate) fn times(&self, name: &str) -> &Distribution {
        let found = self.round_trips.iter().find(|trip| trip.name == name);
        &found.unwrap_or_else(|| panic!("{name} has not been measured")).times
    }

    /// Takes a figure that has a bound, and prints its line.
    pub(crate) fn goal(&mut self, goal: &str, what: &str, measured: f64, at_most: f64) {
        self.head(Heading::Goals);
        let met = measured <= at_most;
        let verdict = if met { "met" } else { "not met" };
        let ratio = (at_most > 0.0).then_some(measured / at_most);
        let (bound, figure) = (Unit::Number.readable(at_most), Unit::Number.readable(measured));
        println!("{goal:4} {what:57} {bound:>11} {figure:>11} {:>11}  {verdict}", readable_ratio(ratio));
        self.goals.push(Goal { goal: goal.to_owned(), what: what.to_owned(), at_most, measured, ratio, met });
    }

    /// Prints a goal that is not measured here.
    pub(crate) fn elsewhere(&mut self, goal: &str, what: &str) {
        self.head(Heading::Goals);
        println!("{goal:4} {what}");
    }

    /// Writes the file.
    pub(crate) fn write(&self, path: &Path) -> io::Result<()> {
        let mut text = serde_json::to_string_pretty(self)?;
        text.push('\n');
        fs::write(path, text)
    }
}

impl Figure {
    fn print(&self) {
        let Spread { minimum, typical, median, maximum, .. } = self.spread;
        print!("{:62}", self.what);
        for value in [minimum, typical, median, maximum] {
            print!(" {:>11}", self.unit.readable(value));
        }
        println!(" {:>11}", readable_ratio(self.ratio));
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
        Machine {
            processor,
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            load,
            steady: true,
        }
    }
}

impl Unit {
    /// A value for people.
    pub(crate) fn readable(self, value: f64) -> String {
        match self {
            Unit::Nanoseconds if value < 10_000.0 => format!("{value:.1} ns"),
            Unit::Nanoseconds if value < 10_000_000.0 => format!("{:.1} us", value / 1e3),
            Unit::Nanoseconds => format!("{:.1} ms", value / 1e6),
            Unit::PerSecond if value < 10_000.0 => format!("{value:.0} /s"),
            Unit::PerSecond if value < 1e6 => format!("{:.1} k/s", value / 1e3),
            Unit::PerSecond => format!("{:.2} M/s", value / 1e6),
            Unit::Number => format!("{value:.4}"),
        }
    }
}

/// A ratio for people, if there is one.
pub(crate) fn readable_ratio(ratio: Option<f64>) -> String {
    ratio.map_or_else(String::new, |ratio| format!("{ratio:.2}"))
}
