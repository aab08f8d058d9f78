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
use super::report::{FORMAT, Figure, Machine, Report, Unit, readable_ratio};

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
    let name = |Machine { processor, kernel, load }: &Machine| format!("{processor}, Linux {kernel}, load {load}");
    println!("\nbefore: {}\nnow:    {}", name(&old.machine), name(&new.machine));
    println!("{:62} {:>11} {:>11} {:>11} {:>11}", "", "before", "now", ": limit", ": limit");
    for figure in new.floors.iter().chain(&new.figures) {
        let Some(before) = old.find(&figure.name) else {
            line(&figure.what, figure.unit, None, &Held::figure(new, figure));
            continue;
        };
        line(&figure.what, figure.unit, Some(&Held::figure(old, before)), &Held::figure(new, figure));
    }
    for trip in &new.round_trips {
        let before = old.round_trips.iter().find(|other| other.name == trip.name);
        let held = |report, limit: &Option<String>, spread| Held::new(report, limit.as_deref(), spread);
        let before = before.map(|before| held(old, &before.limit, &before.times.together));
        line(&trip.what, Unit::Nanoseconds, before.as_ref(), &held(new, &trip.limit, &trip.times.together));
    }
    println!("> and <: more and less than before, by more than the repetitions are apart");
}

/// A figure, and its ratio to its limit.
struct Held {
    median: f64,
    ratio: Option<Spread>,
}

impl Held {
    fn figure(report: &Report, figure: &Figure) -> Self {
        match figure.unit {
            Unit::Nanoseconds => Held::new(report, figure.limit.as_deref(), &figure.spread),
            // A rate is a time the other way round, and a count is comparable as it is.
            Unit::PerSecond => Held::new_rate(report, &figure.spread),
            Unit::Number => Held { median: figure.spread.median, ratio: Some(figure.spread) },
        }
    }

    fn new(report: &Report, limit: Option<&str>, spread: &Spread) -> Self {
        let limit = limit.map_or_else(|| first(report), |limit| report.median(limit));
        Held { median: spread.median, ratio: Some(spread.per(limit)) }
    }

    fn new_rate(report: &Report, spread: &Spread) -> Self {
        Held { median: spread.median, ratio: Some(spread.per(1e9 / first(report))) }
    }
}

fn first(report: &Report) -> f64 {
    report.floors.first().map_or(1.0, |floor| floor.spread.median)
}

fn line(what: &str, unit: Unit, before: Option<&Held>, now: &Held) {
    let figure = |held: Option<&Held>| held.map_or_else(String::new, |held| unit.readable(held.median));
    let ratio = |held: Option<&Held>| readable_ratio(held.and_then(|held| held.ratio).map(|ratio| ratio.median));
    let mark = match (before.and_then(|before| before.ratio), now.ratio) {
        (Some(before), Some(now)) if (now.median - before.median).abs() > before.width().max(now.width()) => {
            if now.median > before.median { ">" } else { "<" }
        }
        _ => "",
    };
    let (old, new) = (figure(before), figure(Some(now)));
    println!("{what:62} {old:>11} {new:>11} {:>11} {:>11} {mark}", ratio(before), ratio(Some(now)));
}
