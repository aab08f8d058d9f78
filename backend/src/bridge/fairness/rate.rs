//! Rate limits: token buckets, kept as the time at which they will be full again.
//!
//! A bucket holds what 100 ms bring, or one message if that is more. Time is counted in whole nanoseconds and a
//! fraction with the rate as its denominator, so nothing is ever rounded: over any window, what is let through is at
//! most the burst and what the window brings, to the byte; and a sender that always has something gets all of it.

use std::time::{Duration, Instant};

use super::{SLOTS, bits};
use crate::rpmsg::MAX_PAYLOAD;

/// Nanoseconds in a second.
const SECOND: u64 = 1_000_000_000;
/// A bucket is filled in a second divided by this.
const BURSTS_PER_SECOND: u64 = 10;
/// Highest rate that is told from none. It keeps products within 64 bits.
const MAX_RATE: u64 = 1 << 50;

/// Nanoseconds since some start.
type Nanos = u64;

/// `ns + part / rate` nanoseconds, with `part < rate`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Exact {
    ns: Nanos,
    part: u64,
}

/// One token bucket.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bucket {
    /// Tokens per second.
    rate: u64,
    /// Tokens in a full bucket.
    burst: u64,
    /// Time in which it fills up.
    depth: Exact,
    /// When it will be full.
    full: Exact,
}

impl Bucket {
    /// A full bucket that gets `rate` tokens per second and holds at least `least` tokens. No rate is below 1.
    pub(super) fn new(rate: u64, least: u64) -> Self {
        let rate = rate.clamp(1, MAX_RATE);
        let burst = rate.div_ceil(BURSTS_PER_SECOND).max(least);
        let fill = u128::from(burst) * u128::from(SECOND);
        let depth = |value: u128| u64::try_from(value).unwrap_or(u64::MAX);
        let depth = Exact { ns: depth(fill / u128::from(rate)), part: depth(fill % u128::from(rate)) };
        Bucket { rate, burst, depth, full: Exact::default() }
    }

    /// When the bucket will be full after these tokens are taken.
    #[inline]
    fn full_after(&self, now: Nanos, tokens: u32) -> Exact {
        let from = self.full.max(Exact { ns: now, part: 0 });
        let more = from.part + u64::from(tokens).min(self.burst) * SECOND;
        Exact { ns: from.ns + more / self.rate, part: more % self.rate }
    }

    /// Whether these tokens may be taken; if not, when.
    #[inline]
    pub(super) fn allow(&self, now: Nanos, tokens: u32) -> Result<(), Nanos> {
        let full = self.full_after(now, tokens);
        let Exact { ns, part } = self.depth;
        if full <= (Exact { ns: now + ns, part }) {
            return Ok(());
        }
        Err(full.ns - ns + u64::from(full.part > part))
    }

    /// Takes tokens.
    #[inline]
    pub(super) fn spend(&mut self, now: Nanos, tokens: u32) {
        self.full = self.full_after(now, tokens);
    }
}

/// What one VM may send.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Rate {
    messages: Option<Bucket>,
    bytes: Option<Bucket>,
}

impl Rate {
    /// A limit of messages and of payload bytes per second.
    pub(super) fn new(messages: Option<u32>, bytes: Option<u64>) -> Self {
        Rate {
            messages: messages.map(|rate| Bucket::new(rate.into(), 1)),
            bytes: bytes.map(|rate| Bucket::new(rate, MAX_PAYLOAD as u64)),
        }
    }

    /// Whether there is no limit.
    pub(super) fn is_unlimited(&self) -> bool {
        self.messages.is_none() && self.bytes.is_none()
    }

    /// Whether a message may go; if not, when.
    #[inline]
    pub(super) fn allow(&self, now: Nanos, payload: u32) -> Result<(), Nanos> {
        let messages = self.messages.map_or(Ok(()), |bucket| bucket.allow(now, 1));
        let bytes = self.bytes.map_or(Ok(()), |bucket| bucket.allow(now, payload));
        match (messages, bytes) {
            (Err(one), Err(other)) => Err(one.max(other)),
            (one, other) => one.and(other),
        }
    }

    /// A message has gone.
    #[inline]
    pub(super) fn spend(&mut self, now: Nanos, payload: u32) {
        if let Some(bucket) = &mut self.messages {
            bucket.spend(now, 1);
        }
        if let Some(bucket) = &mut self.bytes {
            bucket.spend(now, payload);
        }
    }
}

/// What all VMs may send, and who must wait.
#[derive(Debug)]
pub(super) struct Rates {
    /// What times are counted from.
    start: Instant,
    now: Nanos,
    rates: [Rate; SLOTS],
    /// VMs that have a limit.
    limited: u128,
    /// VMs that wait.
    waiting: u128,
    /// What they wait for.
    until: [Nanos; SLOTS],
    /// The first of these times, or earlier.
    next_look: Nanos,
}

impl Rates {
    /// Nobody has a limit. No time is earlier than `start`.
    pub(super) fn new(start: Instant) -> Self {
        Rates {
            start,
            now: 0,
            rates: [Rate::default(); SLOTS],
            limited: 0,
            waiting: 0,
            until: [0; SLOTS],
            next_look: Nanos::MAX,
        }
    }

    /// Sets the limit of a VM.
    pub(super) fn set(&mut self, slot: usize, rate: Rate) {
        self.rates[slot] = rate;
        self.limited &= !(1 << slot);
        self.limited |= u128::from(!rate.is_unlimited()) << slot;
        self.waiting &= !(1 << slot);
    }

    /// Time has gone on. Of the VMs that wait, those go on whose time has come; those that have nothing to send any
    /// more are forgotten.
    #[inline]
    pub(super) fn set_now(&mut self, now: Instant, ready: u128) {
        if self.limited == 0 {
            return;
        }
        let now = now.saturating_duration_since(self.start).as_nanos();
        self.now = Nanos::try_from(now).unwrap_or(Nanos::MAX);
        self.waiting &= ready;
        if self.waiting != 0 && self.next_look <= self.now {
            self.wake();
        }
    }

    fn wake(&mut self) {
        self.next_look = Nanos::MAX;
        for slot in bits(self.waiting) {
            match self.until[slot] {
                until if until <= self.now => self.waiting &= !(1 << slot),
                until => self.next_look = self.next_look.min(until),
            }
        }
    }

    #[inline]
    fn limits(&self, slot: usize) -> bool {
        self.limited != 0 && self.limited & (1 << slot) != 0
    }

    /// The VMs that wait.
    #[inline]
    pub(super) fn waiting(&self) -> u128 {
        self.waiting
    }

    /// When to look again, if anyone waits.
    pub(super) fn next_look(&self) -> Option<Instant> {
        (self.waiting != 0).then(|| self.start + Duration::from_nanos(self.next_look))
    }

    /// Whether a VM may send a message; if not, it waits until the time that is returned.
    #[inline]
    pub(super) fn allow(&mut self, slot: usize, payload: usize) -> Result<(), Instant> {
        if !self.limits(slot) {
            return Ok(());
        }
        let Err(until) = self.rates[slot].allow(self.now, tokens(payload)) else { return Ok(()) };
        if self.waiting == 0 {
            self.next_look = Nanos::MAX;
        }
        self.waiting |= 1 << slot;
        self.until[slot] = until;
        self.next_look = self.next_look.min(until);
        Err(self.start + Duration::from_nanos(until))
    }

    /// A VM has sent a message.
    #[inline]
    pub(super) fn spend(&mut self, slot: usize, payload: usize) {
        if self.limits(slot) {
            self.rates[slot].spend(self.now, tokens(payload));
        }
    }
}

fn tokens(payload: usize) -> u32 {
    u32::try_from(payload).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_let_through_is_never_more_than_burst_and_rate_and_in_the_long_run_no_less(
            rate in prop_oneof![1..2000_u64, 1..u64::MAX, Just(1 << 50)],
            least in prop_oneof![Just(1_u32), Just(496)],
            asks in proptest::collection::vec((0..2_000_000_u64, 0..=496_u32, any::<bool>()), 1..300),
        ) {
            let mut bucket = Bucket::new(rate, least.into());
            let (rate, burst) = (u128::from(bucket.rate), u128::from(bucket.burst));
            let second = u128::from(SECOND);
            let (mut now, mut went) = (1_u64 << 40, Vec::new());
            for (pause, tokens, greedy) in asks {
                let tokens = tokens.clamp(1, least);
                now += if greedy { 0 } else { pause };
                if let Err(until) = bucket.allow(now, tokens) {
                    prop_assert!(until > now);
                    prop_assert!(bucket.allow(until - 1, tokens).is_err());
                    if !greedy {
                        continue;
                    }
                    now = until;
                }
                prop_assert_eq!(bucket.allow(now, tokens), Ok(()));
                bucket.spend(now, tokens);
                went.push((now, u128::from(tokens)));
            }
            for first in 0..went.len() {
                let mut sum = 0;
                for (at, tokens) in &went[first..] {
                    sum += tokens;
                    let window = u128::from(at - went[first].0);
                    prop_assert!(sum * second <= burst * second + rate * window);
                }
            }
        }

        #[test]
        fn whoever_always_has_something_gets_all_of_the_rate(
            rate in 1..100_000_000_u64, sizes in proptest::collection::vec(1..=496_u32, 1..20),
        ) {
            let mut bucket = Bucket::new(rate, 496);
            let (start, mut now, mut sum) = (12345_u64, 12345_u64, 0_u128);
            for tokens in sizes.iter().cycle().take(2000) {
                if let Err(until) = bucket.allow(now, *tokens) {
                    now = until;
                }
                bucket.spend(now, *tokens);
                sum += u128::from(*tokens);
            }
            // At `now` the last message had only just become possible: all that had come in but it, and the
            // fraction that a nanosecond brings, was used.
            if now > start {
                let second = u128::from(SECOND);
                let brought = u128::from(bucket.burst) * second + u128::from(rate) * u128::from(now - start);
                prop_assert!(sum * second + u128::from(rate) > brought);
            }
        }
    }

    #[test]
    fn a_message_may_always_go_some_time() {
        let rate = Rate::new(Some(0), Some(1));
        assert_eq!(rate.allow(0, 496), Ok(()));
        let mut rate = rate;
        rate.spend(0, 496);
        assert_eq!(rate.allow(0, 0), Err(SECOND), "a message per second");
        assert_eq!(rate.allow(0, 496), Err(496 * SECOND), "a byte per second");
    }

    #[test]
    fn waiting_vms_go_on_when_their_time_comes() {
        let start = Instant::now();
        let mut rates = Rates::new(start);
        rates.set(3, Rate::new(Some(10), None));
        rates.set(5, Rate::new(Some(20), None));
        let ready = 0b10_1000;
        rates.set_now(start, ready);
        let millis = |millis| start + Duration::from_millis(millis);
        for (slot, burst, until) in [(3, 1, millis(100)), (5, 2, millis(50))] {
            for _ in 0..burst {
                assert_eq!(rates.allow(slot, 0), Ok(()));
                rates.spend(slot, 0);
            }
            assert_eq!(rates.allow(slot, 0), Err(until));
        }
        assert_eq!((rates.waiting(), rates.next_look()), (ready, Some(millis(50))));
        rates.set_now(millis(49), ready);
        assert_eq!(rates.waiting(), ready);
        rates.set_now(millis(50), ready);
        assert_eq!((rates.waiting(), rates.next_look()), (1 << 3, Some(millis(100))));
        rates.set_now(millis(51), 1 << 5);
        assert_eq!((rates.waiting(), rates.next_look()), (0, None));
    }
}
