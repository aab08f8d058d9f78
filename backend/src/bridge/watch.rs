//! Notices a shared service whose firmware answers one client only.
//!
//! Most OpenAMP endpoints latch their first sender. Shared by several VMs, such a service works for the first and is
//! silent to the others, which nobody would understand without being told.

use std::time::{Duration, Instant};

use crate::rpmsg::address::Slot;

/// How long a VM's questions must have gone unanswered, while another's are answered.
const PATIENCE: Duration = Duration::from_secs(2);
/// How many questions these must be.
const QUESTIONS: u32 = 3;

/// What is known of one service.
#[derive(Clone, Debug, Default)]
pub(super) struct Watch {
    answered: u128,
    /// The first VM that has asked and was not answered: since when, and how often it has asked.
    unanswered: Option<(Slot, Instant, u32)>,
    done: bool,
}

impl Watch {
    /// A VM has sent to the service.
    #[inline]
    pub(super) fn asked(&mut self, slot: Slot, now: Instant) {
        if self.done || self.answered & 1 << slot.number() != 0 {
            return;
        }
        match &mut self.unanswered {
            None => self.unanswered = Some((slot, now, 1)),
            Some((asker, _, questions)) if *asker == slot => *questions += 1,
            Some(_) => {}
        }
    }

    /// The service has sent to a VM. Returns a VM that it does not answer, once this is certain.
    #[inline]
    pub(super) fn answered(&mut self, slot: Slot, now: Instant) -> Option<Slot> {
        if self.done {
            return None;
        }
        self.answered |= 1 << slot.number();
        let (asker, since, questions) = self.unanswered?;
        if asker == slot {
            self.unanswered = None;
            // It answers more than one: that is what was to be found out.
            self.done = self.answered.count_ones() > 1;
            return None;
        }
        let is_certain = questions >= QUESTIONS && now.duration_since(since) >= PATIENCE;
        self.done = is_certain;
        is_certain.then_some(asker)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slot(number: u8) -> Slot {
        Slot::new(number).unwrap()
    }

    #[test]
    fn a_service_that_answers_only_the_first_is_reported_once() {
        let (mut watch, start) = (Watch::default(), Instant::now());
        watch.asked(slot(1), start);
        assert_eq!(watch.answered(slot(1), start), None);
        for second in 0..5 {
            let now = start + Duration::from_secs(second);
            watch.asked(slot(2), now);
            watch.asked(slot(1), now);
            let report = watch.answered(slot(1), now);
            assert_eq!(report, (second == 2).then_some(slot(2)), "after {second} s");
        }
    }

    #[test]
    fn a_service_that_answers_all_is_never_reported() {
        let (mut watch, start) = (Watch::default(), Instant::now());
        for second in 0..20 {
            let now = start + Duration::from_secs(second);
            for vm in 1..4 {
                watch.asked(slot(vm), now);
            }
            for vm in 1..4 {
                assert_eq!(watch.answered(slot(vm), now), None);
            }
        }
    }
}
