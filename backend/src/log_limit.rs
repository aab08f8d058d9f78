//! Log lines at a bounded rate: what guests, front-ends and remotes can trigger must not fill the log.

use std::fmt;
use std::time::{Duration, Instant};

use log::{Level, log};

/// What such lines are filtered by; where in the program they come from says nothing.
const TARGET: &str = "vhost_device_rpmsg";

/// Lets through a few lines per interval and says how many it kept back.
#[derive(Clone, Debug, Default)]
pub struct LogLimit {
    since: Option<Instant>,
    said: u32,
    kept_back: u64,
}

impl LogLimit {
    const INTERVAL: Duration = Duration::from_secs(10);
    const PER_INTERVAL: u32 = 10;

    /// Logs a line, unless there have been too many of late.
    pub fn say(&mut self, level: Level, text: fmt::Arguments<'_>) {
        if self.allows(Instant::now()) {
            log!(target: TARGET, level, "{text}");
        }
    }

    fn allows(&mut self, now: Instant) -> bool {
        if self.since.is_none_or(|since| now.duration_since(since) >= Self::INTERVAL) {
            if self.kept_back > 0 {
                log!(target: TARGET, Level::Warn, "{} further lines of this kind were left out", self.kept_back);
            }
            *self = LogLimit { since: Some(now), said: 0, kept_back: 0 };
        }
        if self.said < Self::PER_INTERVAL {
            self.said += 1;
            return true;
        }
        self.kept_back += 1;
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_cut_to_a_few_lines_per_interval() {
        let (mut limit, start) = (LogLimit::default(), Instant::now());
        let lines = (0..1000).filter(|_| limit.allows(start)).count();
        assert_eq!((lines, limit.kept_back), (10, 990));
        assert!(limit.allows(start + LogLimit::INTERVAL));
        assert_eq!(limit.kept_back, 0);
    }
}
