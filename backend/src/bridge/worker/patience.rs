//! How long the bridge looks for more before it sleeps: as long as it is told, but less where others want the core.
//!
//! A look at the rings takes a fraction of a microsecond. If the clock has gone on for much longer between two looks, the system has
//! given the core to somebody else meanwhile: to a guest, perhaps, that is about to send what the bridge is looking for. To
//! sleep is what helps most then.

use std::time::{Duration, Instant};

/// Between two looks at the clock, what says that the core was taken away. Some messages take a hundredth of that.
const TAKEN_AWAY: Duration = Duration::from_micros(500);
/// For how long that must not happen before it is looked for twice as long again.
const CALM: Duration = Duration::from_millis(100);
/// What it is not worth while to look for.
const LEAST: Duration = Duration::from_micros(4);

/// How long to look.
#[derive(Debug)]
pub(super) struct Patience {
    most: Duration,
    now: Duration,
    /// When that was changed.
    since: Instant,
}

impl Patience {
    pub(super) fn new(most: Duration, now: Instant) -> Self {
        Patience { most, now: most, since: now }
    }

    /// What was asked for.
    pub(super) fn most(&self) -> Duration {
        self.most
    }

    /// What is right now.
    pub(super) fn now(&self) -> Duration {
        self.now
    }

    /// The clock was looked at, and the last time was `before`.
    #[inline]
    pub(super) fn at(&mut self, before: Instant, now: Instant) {
        if now.duration_since(before) >= TAKEN_AWAY {
            self.now = if self.now < 2 * LEAST { Duration::ZERO } else { self.now / 2 };
            self.since = now;
        } else if self.now != self.most && now.duration_since(self.since) >= CALM {
            self.now = self.most.min((self.now * 2).max(LEAST));
            self.since = now;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOST: Duration = Duration::from_micros(50);

    /// Looks at the clock again after each of these.
    fn after(patience: &mut Patience, now: &mut Instant, steps: &[Duration]) {
        for step in steps {
            let before = *now;
            *now += *step;
            patience.at(before, *now);
        }
    }

    #[test]
    fn who_loses_the_core_again_and_again_sleeps_at_once_and_looks_again_when_it_is_calm() {
        let mut now = Instant::now();
        let mut patience = Patience::new(MOST, now);
        assert_eq!(patience.now(), MOST);
        after(&mut patience, &mut now, &[TAKEN_AWAY]);
        assert_eq!(patience.now(), MOST / 2);
        after(&mut patience, &mut now, &[TAKEN_AWAY; 4]);
        assert_eq!(patience.now(), Duration::ZERO);
        let step = TAKEN_AWAY / 10;
        after(&mut patience, &mut now, &vec![step; 1999]);
        assert_eq!(patience.now(), Duration::ZERO, "not yet");
        after(&mut patience, &mut now, &[step]);
        assert_eq!(patience.now(), LEAST);
        after(&mut patience, &mut now, &vec![step; 4 * 2000]);
        assert_eq!(patience.now(), MOST, "and no longer than it is told");
    }

    #[test]
    fn who_is_to_sleep_at_once_does_so() {
        let mut now = Instant::now();
        let mut patience = Patience::new(Duration::ZERO, now);
        after(&mut patience, &mut now, &[TAKEN_AWAY, CALM, CALM / 100, CALM]);
        assert_eq!(patience.now(), Duration::ZERO);
    }
}
