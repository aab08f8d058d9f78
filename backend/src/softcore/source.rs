//! What the `source` services owe: messages that hosts have asked for.
//!
//! A request is `{count: u32, size: u32[, interval: u32]}`, little-endian: so many messages of so many bytes of
//! payload (4 to 496; others are taken as the nearest of these), no two closer than so many microseconds. They go to
//! the asker, as [`pattern`] says. A new request of the same asker to the same service takes the place of the one
//! before; a count of 0 thus ends it.

use std::time::{Duration, Instant};

use crate::rpmsg::MAX_PAYLOAD;

/// How many askers are served at once; further requests are refused.
const MAX_ASKS: usize = 1024;

/// Fills `payload` with message number `sequence` of a source: the number as a little-endian u32, then at each place
/// `i` the byte `sequence + i`, both modulo 256.
pub fn pattern(sequence: u32, payload: &mut [u8]) {
    let [start, ..] = sequence.to_le_bytes();
    let mut next = start;
    for byte in payload.iter_mut() {
        *byte = next;
        next = next.wrapping_add(1);
    }
    for (byte, number) in payload.iter_mut().zip(sequence.to_le_bytes()) {
        *byte = number;
    }
}

/// One request that is being served.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ask {
    /// Address of the source service.
    pub(super) src: u32,
    /// Address of the asker.
    pub(super) dst: u32,
    /// Number of the next message.
    pub(super) sequence: u32,
    /// Payload bytes of each.
    pub(super) size: usize,
    count: u32,
    interval: Duration,
    due: Option<Instant>,
}

/// All requests that are being served, in turn.
#[derive(Debug, Default)]
pub(super) struct Asks {
    asks: Vec<Ask>,
    turn: usize,
}

impl Asks {
    /// Takes a request; false if it is none, or there are too many.
    pub(super) fn ask(&mut self, src: u32, dst: u32, request: &[u8]) -> bool {
        let word = |at: usize| request.get(at..at + 4)?.first_chunk().map(|word| u32::from_le_bytes(*word));
        let (Some(count), Some(size)) = (word(0), word(4)) else {
            return false;
        };
        let interval = Duration::from_micros(word(8).unwrap_or(0).into());
        self.retain(|ask| (ask.src, ask.dst) != (src, dst));
        if count == 0 {
            return true;
        }
        if self.asks.len() >= MAX_ASKS {
            return false;
        }
        self.asks.push(Ask {
            src,
            dst,
            sequence: 0,
            size: usize::try_from(size).unwrap_or(MAX_PAYLOAD).clamp(4, MAX_PAYLOAD),
            count,
            interval,
            due: (!interval.is_zero()).then(Instant::now),
        });
        true
    }

    /// Forgets the requests that are not to be kept.
    pub(super) fn retain(&mut self, keep: impl FnMut(&Ask) -> bool) {
        self.asks.retain(keep);
    }

    /// The request whose turn it is, if one is due.
    pub(super) fn next(&mut self) -> Option<Ask> {
        let count = self.asks.len();
        let mut now = None;
        for step in 0..count {
            let at = (self.turn + step) % count;
            let ask = self.asks[at];
            if ask.due.is_none_or(|due| due <= *now.get_or_insert_with(Instant::now)) {
                self.turn = at;
                return Some(ask);
            }
        }
        None
    }

    /// The message that [`Asks::next`] named has been sent.
    pub(super) fn sent(&mut self) {
        let ask = &mut self.asks[self.turn];
        ask.sequence += 1;
        if let Some(due) = &mut ask.due {
            *due = (*due + ask.interval).max(Instant::now());
        }
        if ask.sequence == ask.count {
            self.asks.remove(self.turn);
        } else {
            self.turn += 1;
        }
    }

    /// When the next message falls due, where none is due now.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.asks.iter().filter_map(|ask| ask.due).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(words: &[u32]) -> Vec<u8> {
        words.iter().flat_map(|word| word.to_le_bytes()).collect()
    }

    fn drain(asks: &mut Asks) -> Vec<(u32, u32)> {
        std::iter::from_fn(|| {
            let ask = asks.next()?;
            asks.sent();
            Some((ask.dst, ask.sequence))
        })
        .collect()
    }

    #[test]
    fn askers_are_served_in_turn() {
        let mut asks = Asks::default();
        assert!(asks.ask(0x400, 1, &request(&[2, 16])) && asks.ask(0x400, 2, &request(&[3, 16])));
        assert_eq!(drain(&mut asks), [(1, 0), (2, 0), (1, 1), (2, 1), (2, 2)]);
    }

    #[test]
    fn a_new_request_takes_the_place_of_the_one_before() {
        let mut asks = Asks::default();
        assert!(asks.ask(0x400, 1, &request(&[5, 16])) && asks.ask(0x400, 1, &request(&[2, 16])));
        assert_eq!(drain(&mut asks), [(1, 0), (1, 1)]);
        assert!(asks.ask(0x400, 1, &request(&[5, 16])) && asks.ask(0x400, 1, &request(&[0, 16])));
        assert!(asks.next().is_none());
    }

    #[test]
    fn a_message_does_not_come_before_its_interval() {
        let mut asks = Asks::default();
        assert!(asks.ask(0x400, 1, &request(&[2, 16, 3_600_000_000])));
        assert!(asks.next().is_some());
        asks.sent();
        assert!(asks.next().is_none());
        assert!(asks.deadline().unwrap() > Instant::now() + Duration::from_secs(3000));
    }

    #[test]
    fn a_request_that_is_none_is_refused_and_sizes_are_bounded() {
        let mut asks = Asks::default();
        assert!(!asks.ask(0x400, 1, &request(&[5])));
        assert!(asks.ask(0x400, 1, &request(&[1, u32::MAX])));
        assert_eq!(asks.next().unwrap().size, MAX_PAYLOAD);
        assert!(asks.ask(0x400, 1, &request(&[1, 0])));
        assert_eq!(asks.next().unwrap().size, 4);
    }

    #[test]
    fn the_pattern_begins_with_the_number_and_runs_on_from_it() {
        let mut payload = [0; 300];
        pattern(0x0102_03FE, &mut payload);
        assert_eq!(payload[..6], [0xFE, 3, 2, 1, 2, 3]);
        assert_eq!(payload[299], 0xFEu8.wrapping_add(43));
    }
}
