//! Noticing that a remote core is not well although it does not say so.
//!
//! - *Heartbeat*: it is asked now and then, and an answer that has not come when the next question is due is missing.
//! - *Hang*: it has messages and has neither consumed one nor sent one for a while. That alone may be a core that is
//!   slow, or firmware that holds buffers back for its own use (OpenAMP's `rpmsg_hold_rx_buffer`). So it is asked, and
//!   hangs if it does not answer within the same time; where the mailbox has no word for that, it hangs only if every
//!   buffer of its is taken, and somebody waits for one.

use std::time::{Duration, Instant};

use super::config::WatchConfig;

/// What can be seen of a core from outside, over all its devices.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Messages consumed by the core and sent by it, wrapping.
    pub moved: u64,
    /// Messages that it has and has not consumed.
    pub in_flight: usize,
    /// Whether somebody waits for a buffer of its.
    pub is_waited_for: bool,
}

impl Traffic {
    /// Of several devices together.
    #[inline]
    #[must_use]
    pub fn and(self, other: Traffic) -> Traffic {
        Traffic {
            moved: self.moved.wrapping_add(other.moved),
            in_flight: self.in_flight + other.in_flight,
            is_waited_for: self.is_waited_for || other.is_waited_for,
        }
    }
}

/// What is amiss.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Finding {
    /// The core is to be asked whether it is well.
    Ask,
    /// It has not answered in time.
    Silent,
    /// It hangs: for this long nothing has moved.
    Hangs(Duration),
}

/// The watch over one core.
#[derive(Debug, Default)]
pub(super) struct Watch {
    heartbeat: Option<Duration>,
    hang_after: Option<Duration>,
    /// Whether the mailbox has a word for asking.
    can_ask: bool,
    /// When to ask next, or to look whether there was an answer.
    next_beat: Option<Instant>,
    is_unanswered: bool,
    traffic: Traffic,
    /// Since when nothing has moved although the core has messages.
    still_since: Option<Instant>,
    /// When that becomes a hang, or the question whether it is one.
    hang_at: Option<Instant>,
    /// Whether the question has been asked.
    asked_about_hang: bool,
}

impl Watch {
    pub(super) fn new(config: &WatchConfig) -> Self {
        Watch { heartbeat: config.heartbeat, hang_after: config.hang_after, ..Watch::default() }
    }

    /// The core is up from now on.
    pub(super) fn begin(&mut self, now: Instant) {
        self.can_ask = true;
        self.next_beat = self.heartbeat.map(|every| now + every);
        self.is_unanswered = false;
        self.traffic = Traffic::default();
        self.forget_stillness();
    }

    /// The core is not up any more.
    pub(super) fn end(&mut self) {
        self.next_beat = None;
        self.forget_stillness();
    }

    fn forget_stillness(&mut self) {
        self.still_since = None;
        self.hang_at = None;
        self.asked_about_hang = false;
    }

    /// The mailbox has no word for asking. Returns whether that matters.
    pub(super) fn cannot_ask(&mut self) -> bool {
        self.can_ask = false;
        self.is_unanswered = false;
        // Nothing was asked, so no answer is missing.
        self.asked_about_hang = false;
        self.next_beat.take().is_some()
    }

    /// Whether the mailbox has a word for asking, as far as is known.
    pub(super) fn can_ask(&self) -> bool {
        self.can_ask
    }

    /// The core has answered.
    pub(super) fn answered(&mut self) {
        self.is_unanswered = false;
        if self.asked_about_hang {
            // Slow, or holding buffers: it is looked at again later.
            self.forget_stillness();
        }
    }

    /// What can be seen now. While things move the time of the next look stays where it is, so that no timer is set anew
    /// for every message.
    #[inline]
    pub(super) fn see(&mut self, traffic: Traffic, now: Instant) {
        let Some(after) = self.hang_after else { return };
        if traffic.in_flight == 0 {
            self.still_since = None;
        } else if traffic.moved != self.traffic.moved || self.still_since.is_none() {
            self.still_since = Some(now);
            self.asked_about_hang = false;
            self.hang_at.get_or_insert(now + after);
        }
        self.traffic = traffic;
    }

    /// When [`look`](Self::look) is due.
    pub(super) fn due(&self) -> Option<Instant> {
        [self.next_beat, self.hang_at].into_iter().flatten().min()
    }

    /// What is amiss now, if anything.
    pub(super) fn look(&mut self, now: Instant) -> Option<Finding> {
        if let Some(after) = self.hang_after
            && self.hang_at.is_some_and(|at| now >= at)
        {
            self.hang_at = self.still_since.map(|since| since + after);
            if let Some(since) = self.still_since.filter(|since| now >= *since + after) {
                if self.asked_about_hang || !self.can_ask && self.traffic.is_waited_for {
                    return Some(Finding::Hangs(now.duration_since(since)));
                }
                self.hang_at = Some(now + after);
                if self.can_ask {
                    self.asked_about_hang = true;
                    return Some(Finding::Ask);
                }
            }
        }
        if let (Some(at), Some(every)) = (self.next_beat, self.heartbeat)
            && now >= at
        {
            if self.is_unanswered {
                return Some(Finding::Silent);
            }
            self.is_unanswered = true;
            self.next_beat = Some(now + every);
            return Some(Finding::Ask);
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn watch(heartbeat: Option<Duration>, hang_after: Option<Duration>, now: Instant) -> Watch {
        let mut watch = Watch::new(&WatchConfig { heartbeat, hang_after, watchdog: None });
        watch.begin(now);
        watch
    }

    fn busy(moved: u64) -> Traffic {
        Traffic { moved, in_flight: 3, is_waited_for: false }
    }

    #[test]
    fn a_core_that_answers_every_heartbeat_is_well_and_one_that_misses_one_is_silent() {
        let mut now = Instant::now();
        let mut watch = watch(Some(SECOND), None, now);
        for _ in 0..10 {
            assert_eq!(watch.look(now), None);
            now = watch.due().unwrap();
            assert_eq!(watch.look(now), Some(Finding::Ask));
            watch.answered();
        }
        now = watch.due().unwrap();
        assert_eq!(watch.look(now), Some(Finding::Ask));
        now = watch.due().unwrap();
        assert_eq!(watch.look(now), Some(Finding::Silent));
    }

    #[test]
    fn a_core_that_consumes_however_slowly_does_not_hang() {
        let mut now = Instant::now();
        let mut watch = watch(None, Some(SECOND), now);
        for moved in 0..10 {
            watch.see(busy(moved), now);
            now += SECOND * 9 / 10;
            assert_eq!(watch.look(now), None);
        }
    }

    #[test]
    fn a_core_that_holds_messages_back_but_answers_does_not_hang_and_one_that_does_not_answer_does() {
        let mut now = Instant::now();
        let mut watch = watch(None, Some(SECOND), now);
        for _ in 0..3 {
            watch.see(busy(7), now);
            now = watch.due().unwrap();
            assert_eq!(watch.look(now), Some(Finding::Ask));
            watch.answered();
        }
        watch.see(busy(7), now);
        now = watch.due().unwrap();
        assert_eq!(watch.look(now), Some(Finding::Ask));
        now = watch.due().unwrap();
        assert_eq!(watch.look(now), Some(Finding::Hangs(2 * SECOND)));
    }

    #[test]
    fn a_core_that_cannot_be_asked_hangs_only_if_all_its_buffers_are_taken() {
        let mut now = Instant::now();
        let mut watch = watch(None, Some(SECOND), now);
        assert!(!watch.cannot_ask());
        watch.see(busy(7), now);
        for _ in 0..3 {
            now = watch.due().unwrap();
            assert_eq!(watch.look(now), None);
        }
        watch.see(Traffic { is_waited_for: true, ..busy(7) }, now);
        now = watch.due().unwrap();
        assert!(matches!(watch.look(now), Some(Finding::Hangs(_))));
    }

    #[test]
    fn a_question_that_could_not_be_asked_is_not_unanswered() {
        let mut now = Instant::now();
        let mut watch = watch(None, Some(SECOND), now);
        watch.see(busy(7), now);
        now = watch.due().unwrap();
        assert_eq!(watch.look(now), Some(Finding::Ask));
        watch.cannot_ask();
        for _ in 0..3 {
            now = watch.due().unwrap();
            assert_eq!(watch.look(now), None);
        }
    }

    #[test]
    fn a_core_without_messages_is_left_in_peace() {
        let now = Instant::now();
        let mut watch = watch(None, Some(SECOND), now);
        watch.see(busy(1), now);
        watch.see(Traffic { in_flight: 0, ..busy(1) }, now);
        assert_eq!(watch.look(now + SECOND), None, "one look, and then none any more");
        assert_eq!(watch.due(), None);
    }
}
