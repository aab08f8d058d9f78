//! The sub-command that shows what a running program counts as it goes on.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use crate::operate::top::Top;

/// Shortest and longest time between two looks, in seconds.
const INTERVALS: std::ops::RangeInclusive<f64> = 0.1..=3600.0;

/// Whom to look at, and how often.
#[derive(Debug, Args)]
pub(super) struct TopArguments {
    /// Control socket of the running program
    #[arg(long, value_name = "PATH")]
    control: PathBuf,
    /// Time between two looks, in seconds, 0.1 to 3600
    #[arg(long, value_name = "SECONDS", default_value = "1", value_parser = interval)]
    interval: Duration,
}

fn interval(text: &str) -> Result<Duration, String> {
    match text.parse() {
        Ok(seconds) if INTERVALS.contains(&seconds) => Ok(Duration::from_secs_f64(seconds)),
        _ => Err(format!("expected a number of seconds from 0.1 to 3600, found {text:?}")),
    }
}

impl From<TopArguments> for Top {
    fn from(TopArguments { control, interval }: TopArguments) -> Self {
        Top { control, interval }
    }
}
