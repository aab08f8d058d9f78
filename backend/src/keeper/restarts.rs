//! How soon a worker that has died is followed by the next, and when that is given up.

use std::time::{Duration, Instant};

/// A worker that has served for so long has not died of its start.
const SERVED_WELL: Duration = Duration::from_secs(30);
/// So many deaths in a row are followed by the next worker at once.
const AT_ONCE: u32 = 4;
/// The wait after the first death that is not, doubled with each that follows, and its limit.
const FIRST_WAIT: Duration = Duration::from_millis(250);
const LONGEST_WAIT: Duration = Duration::from_secs(5);
/// So many deaths in a row, and no other worker is started.
pub(super) const LAST: u32 = 10;

/// The deaths of workers in a row, none of which had served for long.
#[derive(Debug, Default)]
pub(super) struct Restarts {
    in_a_row: u32,
}

impl Restarts {
    /// A worker has died at `now` that had served since `serving`, if it had. Returns the wait before the next one is
    /// started; `None`: it is given up.
    pub(super) fn next(&mut self, now: Instant, serving: Option<Instant>) -> Option<Duration> {
        self.killed(now, serving);
        self.in_a_row += 1;
        match self.in_a_row {
            LAST.. => None,
            ..=AT_ONCE => Some(Duration::ZERO),
            more => Some((FIRST_WAIT * 2_u32.pow(more - AT_ONCE - 1)).min(LONGEST_WAIT)),
        }
    }

    /// A worker was killed at `now` that had served since `serving`, if it had. That is no death of its own; and if it had
    /// served for long, those before were in another row.
    pub(super) fn killed(&mut self, now: Instant, serving: Option<Instant>) {
        if serving.is_some_and(|since| now.saturating_duration_since(since) >= SERVED_WELL) {
            self.in_a_row = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_that_dies_again_and_again_is_waited_for_longer_and_given_up() {
        let mut restarts = Restarts::default();
        let now = Instant::now();
        let waits: Vec<_> = (0..LAST).map(|_| restarts.next(now, Some(now))).collect();
        let millis = |wait: &Option<Duration>| wait.map(|wait| wait.as_millis());
        let waits: Vec<_> = waits.iter().map(millis).collect();
        let expected = [0, 0, 0, 0, 250, 500, 1000, 2000, 4000].map(Some);
        assert_eq!(waits[..9], expected);
        assert_eq!(waits[9], None);
    }

    #[test]
    fn a_worker_that_has_served_for_long_makes_up_for_those_before() {
        let mut restarts = Restarts::default();
        let start = Instant::now();
        for _ in 0..8 {
            assert!(restarts.next(start, None).is_some());
        }
        assert_eq!(restarts.next(start + SERVED_WELL, Some(start)), Some(Duration::ZERO));
        assert_eq!(restarts.next(start + SERVED_WELL, Some(start + SERVED_WELL / 2)), Some(Duration::ZERO));
    }

    #[test]
    fn a_worker_that_has_served_for_long_makes_up_for_those_before_also_if_it_is_killed() {
        let mut restarts = Restarts::default();
        let start = Instant::now();
        for _ in 0..9 {
            assert!(restarts.next(start, None).is_some());
        }
        restarts.killed(start + SERVED_WELL, Some(start));
        assert_eq!(restarts.next(start + SERVED_WELL, None), Some(Duration::ZERO));
        for _ in 0..8 {
            restarts.killed(start + SERVED_WELL, Some(start + SERVED_WELL / 2));
            assert!(restarts.next(start + SERVED_WELL, None).is_some());
        }
        assert_eq!(restarts.next(start + SERVED_WELL, None), None);
    }
}
