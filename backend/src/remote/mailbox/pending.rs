//! What a mailbox keeps while the hardware does not take it.

use std::collections::VecDeque;

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
}
