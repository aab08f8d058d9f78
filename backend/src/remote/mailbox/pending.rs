//! What a mailbox keeps while the hardware does not take it: words, and when to try again.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Words that the hardware has not taken yet: each of them once, since kicks may be merged, and the oldest first, so
/// that a vring that is kicked all the time does not keep the others from being heard.
#[derive(Debug, Default)]
pub(super) struct Pending {
    words: VecDeque<u32>,
}

impl Pending {
    pub(super) fn add(&mut self, word: u32) {
        if !self.words.contains(&word) {
            self.words.push_back(word);
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.words.is_empty()
    }

    /// Hands words to `send`, which returns false when the hardware takes no more. Returns whether any was taken.
    pub(super) fn send(&mut self, mut send: impl FnMut(u32) -> bool) -> bool {
        let before = self.words.len();
        while self.words.front().is_some_and(|word| send(*word)) {
            self.words.pop_front();
        }
        self.words.len() < before
    }
}

/// When to look again at hardware that does not tell by an interrupt: soon at first, seldom once it seems dead.
#[derive(Debug)]
pub(super) struct Retry {
    at: Option<Instant>,
    delay: Duration,
}

impl Default for Retry {
    fn default() -> Self {
        Retry { at: None, delay: Self::FIRST }
    }
}

impl Retry {
    /// A remote's interrupt handler takes microseconds. Linux looks every 5 ms (`txpoll_period` of its ZynqMP driver).
    const FIRST: Duration = Duration::from_millis(1);
    /// A remote that has taken nothing for so long is held, or dead.
    const LONGEST: Duration = Duration::from_millis(128);

    pub(super) fn at(&self) -> Option<Instant> {
        self.at
    }

    /// Nothing is waited for.
    pub(super) fn stop(&mut self) {
        *self = Retry::default();
    }

    /// Something has moved, but more is waited for.
    pub(super) fn start_over(&mut self, now: Instant) {
        *self = Retry { at: Some(now + Self::FIRST), delay: Self::FIRST };
    }

    /// The hardware was looked at in vain.
    pub(super) fn in_vain(&mut self, now: Instant) {
        match self.at {
            None => self.start_over(now),
            Some(at) if now >= at => {
                self.delay = (self.delay * 2).min(Self::LONGEST);
                self.at = Some(now + self.delay);
            }
            Some(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_kept_once_and_sent_oldest_first() {
        let mut pending = Pending::default();
        for word in [7, 3, 7, 5] {
            pending.add(word);
        }
        let mut sent = Vec::new();
        assert!(pending.send(|word| {
            sent.push(word);
            sent.len() < 2
        }));
        assert_eq!(sent, [7, 3], "3 was offered, but not taken");
        pending.add(7);
        assert!(pending.send(|word| {
            sent.push(word);
            true
        }));
        assert_eq!(sent[2..], [3, 5, 7]);
        assert!(pending.is_empty());
        assert!(!pending.send(|_| true));
    }

    #[test]
    fn a_dead_remote_is_looked_at_ever_more_seldom_until_something_moves() {
        let (mut retry, mut now) = (Retry::default(), Instant::now());
        let mut delays = Vec::new();
        retry.in_vain(now);
        for _ in 0..9 {
            let at = retry.at().unwrap();
            retry.in_vain(now);
            assert_eq!(retry.at(), Some(at), "a look before its time changes nothing");
            delays.push((at - now).as_millis());
            now = at;
            retry.in_vain(now);
        }
        assert_eq!(delays, [1, 2, 4, 8, 16, 32, 64, 128, 128]);
        retry.start_over(now);
        assert_eq!(retry.at(), Some(now + Retry::FIRST));
        retry.stop();
        assert_eq!(retry.at(), None);
    }
}
