//! What is done about a remote core that has crashed, how often, and how soon.

use std::time::{Duration, Instant};

/// A core that has been up for this long has recovered; what was before does not count any more.
const STEADY: Duration = Duration::from_secs(60);
/// Longest time between two attempts.
const LONGEST_BACK_OFF: Duration = Duration::from_secs(60);

/// What is to be done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RecoveryPolicy {
    /// Nothing, until somebody starts it.
    Off,
    /// Attach to it when it has booted anew by itself.
    #[default]
    Reattach,
    /// Stop it and start it anew.
    Reboot,
}

/// What is to be done, how often and how soon.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecoveryConfig {
    /// What is to be done.
    pub policy: RecoveryPolicy,
    /// Crashes in a row, none of them with a minute of good health before it, after which the core is given up; `None`
    /// for never.
    pub limit: Option<u32>,
    /// Time before the second reboot in a row. The first is immediate; from there on it doubles, to a minute at most.
    pub back_off: Duration,
}

impl RecoveryConfig {
    /// Back-off where nothing else is said.
    pub const BACK_OFF: Duration = Duration::from_millis(500);
}

impl Default for RecoveryConfig {
    fn default() -> Self {
        RecoveryConfig { policy: RecoveryPolicy::default(), limit: None, back_off: Self::BACK_OFF }
    }
}

/// What to do now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Leave it alone.
    Leave,
    /// It has crashed this often in a row, which is too often.
    GiveUp(u32),
    /// Wait for it to come back by itself.
    Reattach,
    /// Stop and start it, not before this time.
    Reboot(Instant),
}

/// Crashes so far.
#[derive(Debug, Default)]
pub(super) struct Crashes {
    in_a_row: u32,
    up_since: Option<Instant>,
}

impl Crashes {
    /// The core is up.
    pub(super) fn up(&mut self, now: Instant) {
        self.up_since = Some(now);
    }

    /// The core has crashed, or could not be started.
    pub(super) fn another(&mut self, config: &RecoveryConfig, now: Instant) -> Verdict {
        if self.up_since.take().is_some_and(|since| now.duration_since(since) >= STEADY) {
            self.in_a_row = 0;
        }
        self.in_a_row = self.in_a_row.saturating_add(1);
        if config.policy == RecoveryPolicy::Off {
            return Verdict::Leave;
        }
        if config.limit.is_some_and(|limit| self.in_a_row > limit) {
            return Verdict::GiveUp(self.in_a_row);
        }
        if config.policy == RecoveryPolicy::Reattach {
            return Verdict::Reattach;
        }
        let wait = match self.in_a_row.checked_sub(2) {
            None => Duration::ZERO,
            Some(doublings) => {
                config.back_off.saturating_mul(1_u32 << doublings.min(31)).min(LONGEST_BACK_OFF)
            }
        };
        Verdict::Reboot(now + wait)
    }

    /// Somebody starts it by hand: what was before is forgiven.
    pub(super) fn forgive(&mut self) {
        self.in_a_row = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(policy: RecoveryPolicy, limit: Option<u32>) -> RecoveryConfig {
        RecoveryConfig { policy, limit, back_off: Duration::from_secs(1) }
    }

    #[test]
    fn the_first_reboot_is_immediate_and_the_next_ones_wait_longer_and_longer_up_to_a_minute() {
        let (mut crashes, now) = (Crashes::default(), Instant::now());
        let config = config(RecoveryPolicy::Reboot, None);
        let waits: Vec<_> = (0..40)
            .map(|_| match crashes.another(&config, now) {
                Verdict::Reboot(at) => (at - now).as_secs(),
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(waits[..9], [0, 1, 2, 4, 8, 16, 32, 60, 60]);
        assert_eq!(waits[39], 60);
    }

    #[test]
    fn a_core_that_crashes_too_often_in_a_row_is_given_up() {
        for policy in [RecoveryPolicy::Reattach, RecoveryPolicy::Reboot] {
            let (mut crashes, mut now) = (Crashes::default(), Instant::now());
            let config = config(policy, Some(2));
            for _ in 0..2 {
                crashes.up(now);
                now += STEADY - Duration::from_secs(1);
                assert!(!matches!(crashes.another(&config, now), Verdict::GiveUp(_)));
            }
            assert_eq!(crashes.another(&config, now), Verdict::GiveUp(3));
            crashes.forgive();
            assert!(!matches!(crashes.another(&config, now), Verdict::GiveUp(_)));
        }
    }

    #[test]
    fn a_minute_of_good_health_makes_up_for_earlier_crashes() {
        let (mut crashes, mut now) = (Crashes::default(), Instant::now());
        for _ in 0..10 {
            crashes.up(now);
            now += STEADY;
            assert_eq!(crashes.another(&config(RecoveryPolicy::Reboot, Some(1)), now), Verdict::Reboot(now));
        }
    }

    #[test]
    fn without_a_policy_the_core_is_left_alone() {
        let verdict = Crashes::default().another(&config(RecoveryPolicy::Off, None), Instant::now());
        assert_eq!(verdict, Verdict::Leave);
    }
}
