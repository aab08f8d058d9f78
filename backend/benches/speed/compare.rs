//! This run beside an earlier one.
//!
//! What is comparable are ratios within a run: of each figure against the limit that the same machine had in the same minutes.
//! Where a figure has no limit, it is held against the time of a cache line there and back, so that a slower machine does not
//! look like a slower program. Marked is what has moved by more than the middle half of the repetitions is wide, in either run.

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
    fn figure(report: &Report, Figure { unit, limit, spread, distance, .. }: &Figure) -> Self {
        let (limit, doubt) = limit_of(report, limit.as_deref(), *distance);
        match unit {
            Unit::Nanoseconds => Held::new(spread, limit, doubt),
            // A rate is a time the other way round.
            Unit::PerSecond => Held::new(spread, 1e9 / limit, doubt),
            Unit::Number => Held::new(spread, 1.0, 0.0),
        }
    }

    fn round_trip(report: &Report, RoundTrip { limit, times, distance, .. }: &RoundTrip) -> Self {
        let (limit, doubt) = limit_of(report, limit.as_deref(), *distance);
        Held::new(&times.together, limit, doubt)
    }

    fn new(spread: &Spread, limit: f64, doubt: f64) -> Self {
        let ratio = spread.typical / limit;
        Held { typical: spread.typical, ratio, doubt: spread.width() / limit + ratio * doubt }
    }
}

/// The limit of this name, or else how far apart the cores were, and what part of it is in doubt.
fn limit_of(report: &Report, limit: Option<&str>, distance: f64) -> (f64, f64) {
    let limit = limit.and_then(|name| report.find(name)).map(|limit| limit.spread);
    limit.map_or((distance, 0.0), |limit| (limit.typical, limit.width() / limit.typical))
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
