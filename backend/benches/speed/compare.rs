//! This run beside an earlier one.
//!
//! What is comparable are ratios within a run: of each figure against the limit that the same machine had in the same minutes.
//! Where a figure has no limit, it is held against the first of the floors, so that a slower machine does not look like a slower
//! program. Marked is what has moved by more than the middle half of the repetitions is wide, in either run.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use thiserror::Error;

use super::repeat::Spread;
use super::report::{FORMAT, Figure, Machine, Report, RoundTrip, Unit, readable_ratio};

/// Why there is nothing to compare with.
#[derive(Debug, Error)]
pub(crate) enum CompareError {
    /// The file is not there.
    #[error("cannot read {path}")]
    Read { path: PathBuf, source: io::Error },
    /// It is something else.
    #[error("{path} is no file of an earlier run")]
    Parse { path: PathBuf, source: serde_json::Error },
    /// It is from another version of the bench.
    #[error("{path} has format {found}, expected {FORMAT}: run that version of the bench again")]
    Format { path: PathBuf, found: u32 },
}

/// What of a file of any format can be told.
#[derive(Deserialize)]
struct Version {
    format: u32,
}

/// Reads the file of an earlier run.
pub(crate) fn read(path: &Path) -> Result<Report, CompareError> {
    let here = || path.to_owned();
    let text = fs::read(path).map_err(|source| CompareError::Read { path: here(), source })?;
    let parse = |source| CompareError::Parse { path: here(), source };
    let Version { format } = serde_json::from_slice(&text).map_err(parse)?;
    if format != FORMAT {
        return Err(CompareError::Format { path: here(), found: format });
    }
    serde_json::from_slice(&text).map_err(parse)
}

/// Prints both runs side by side.
pub(crate) fn print(old: &Report, new: &Report) {
    let name = |Machine { processor, kernel, load, .. }: &Machine| {
        format!("{processor}, Linux {kernel}, load {load}")
    };
    println!("\nbefore: {}\nnow:    {}", name(&old.machine), name(&new.machine));
    println!("{:66} {:>11} {:>11} {:>11} {:>11}", "", "before", "now", ": limit", ": limit");
    for figure in new.floors.iter().chain(&new.figures) {
        let before = old.find(&figure.name).map(|before| Held::figure(old, before));
        line(&figure.what, figure.unit, before.as_ref(), &Held::figure(new, figure));
    }
    for trip in &new.round_trips {
        let before = old.round_trips.iter().find(|other| other.name == trip.name);
        let before = before.map(|before| Held::round_trip(old, before));
        line(&trip.what, Unit::Nanoseconds, before.as_ref(), &Held::round_trip(new, trip));
    }
    println!("> and <: more and less than before, by more than the repetitions are apart");
}

/// A figure beside its limit.
struct Held {
    typical: f64,
    /// The typical against that of the limit.
    ratio: f64,
    /// How far that may be off.
    doubt: f64,
}

impl Held {
    fn figure(report: &Report, Figure { unit, limit, spread, .. }: &Figure) -> Self {
        let limit = limit_of(report, limit.as_deref());
        match (unit, limit) {
            (Unit::Nanoseconds, Some(limit)) => Held::new(spread, limit.typical, limit),
            // A rate is a time the other way round.
            (Unit::PerSecond, Some(limit)) => Held::new(spread, 1e9 / limit.typical, limit),
            (Unit::Number, _) | (_, None) => {
                Held { typical: spread.typical, ratio: spread.typical, doubt: spread.width() }
            }
        }
    }

    fn round_trip(report: &Report, RoundTrip { limit, times, .. }: &RoundTrip) -> Self {
        let spread = &times.together;
        match limit_of(report, limit.as_deref()) {
            Some(limit) => Held::new(spread, limit.typical, limit),
            None => Held { typical: spread.typical, ratio: spread.typical, doubt: spread.width() },
        }
    }

    fn new(spread: &Spread, unit: f64, limit: &Spread) -> Self {
        let ratio = spread.typical / unit;
        Held {
            typical: spread.typical,
            ratio,
            doubt: spread.width() / unit + ratio * limit.width() / limit.typical,
        }
    }
}

/// The limit of this name, or else the first of the floors.
fn limit_of<'r>(report: &'r Report, limit: Option<&str>) -> Option<&'r Spread> {
    let limit = limit.and_then(|name| report.find(name)).or(report.floors.first());
    limit.map(|limit| &limit.spread)
}

fn line(what: &str, unit: Unit, before: Option<&Held>, now: &Held) {
    let (mut old, mut old_ratio, mut mark) = (String::new(), None, "new");
    if let Some(before) = before {
        (old, old_ratio) = (unit.readable(before.typical), Some(before.ratio));
        let moved = now.ratio - before.ratio;
        mark = match moved.abs() > before.doubt.max(now.doubt) {
            true if moved > 0.0 => ">",
            true => "<",
            false => "",
        };
    }
    let (new, ratio) = (unit.readable(now.typical), Some(now.ratio));
    println!(
        "{what:66} {old:>11} {new:>11} {:>11} {:>11} {mark}",
        readable_ratio(old_ratio),
        readable_ratio(ratio)
    );
}
