//! What became of every message of a stream: counted, not asserted, so that a table can be made of it.
//!
//! A message says whose it is (VM, endpoint, session of the stream) and which it is (sequence), and has a checksum. So a
//! message that is lost, doubled, out of order, somebody else's, of an earlier session or changed on its way all differ.

use std::collections::BTreeSet;
use std::ops::AddAssign;

use vhost_device_rpmsg::rpmsg::MAX_PAYLOAD;

/// Bytes of the words at the start of each message: VM, endpoint, session, sequence.
const LABEL_LEN: usize = 16;
/// Bytes of the checksum at its end.
const CHECKSUM_LEN: usize = 8;
/// Bytes of the shortest message.
const SHORTEST: usize = LABEL_LEN + CHECKSUM_LEN;

/// Whose messages these are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stream {
    /// The VM that sends them.
    pub(crate) vm: u8,
    /// Its endpoint.
    pub(crate) endpoint: u32,
    /// How often the VM's driver had come up when the stream began.
    pub(crate) session: u32,
}

impl Stream {
    /// Message `sequence` of the stream. Lengths go through all that there are.
    pub(crate) fn message(self, sequence: u32) -> Vec<u8> {
        let len = SHORTEST + sequence as usize * 37 % (MAX_PAYLOAD - SHORTEST + 1);
        let mut bytes = Vec::with_capacity(len);
        for word in [u32::from(self.vm), self.endpoint, self.session, sequence] {
            bytes.extend(word.to_le_bytes());
        }
        let mut filler = checksum(&bytes);
        while bytes.len() < len - CHECKSUM_LEN {
            filler = filler.wrapping_mul(0x5851_F42D_4C95_7F2D).wrapping_add(1);
            bytes.push(filler.to_be_bytes()[0]);
        }
        bytes.extend(checksum(&bytes).to_le_bytes());
        bytes
    }

    /// Whose message this is, and its sequence number; `None` if it was changed on its way.
    fn of(bytes: &[u8]) -> Option<(Stream, u32)> {
        let (body, sum) = bytes.split_last_chunk::<CHECKSUM_LEN>()?;
        let word = |at: usize| Some(u32::from_le_bytes(*body.get(at..)?.first_chunk()?));
        let stream = Stream { vm: u8::try_from(word(0)?).ok()?, endpoint: word(4)?, session: word(8)? };
        (u64::from_le_bytes(*sum) == checksum(body)).then_some((stream, word(12)?))
    }
}

/// FNV-1a of 64 bits.
fn checksum(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0xCBF2_9CE4_8422_2325, |sum, byte| (sum ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01B3))
}

/// What has become of messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    /// Received as they should be.
    pub(crate) messages: u64,
    /// Never received.
    pub(crate) lost: u64,
    /// Received once more.
    pub(crate) doubled: u64,
    /// Received after a later one.
    pub(crate) reordered: u64,
    /// Received by whom they are not for: another VM's, another endpoint's, those of an earlier session.
    pub(crate) misdelivered: u64,
    /// Received other than they were sent.
    pub(crate) damaged: u64,
}

impl Tally {
    /// Whether each message came to whom it was for, once, in order, as it was sent.
    pub(crate) fn is_clean(self) -> bool {
        self == Tally { messages: self.messages, ..Tally::default() }
    }
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.messages += other.messages;
        self.lost += other.lost;
        self.doubled += other.doubled;
        self.reordered += other.reordered;
        self.misdelivered += other.misdelivered;
        self.damaged += other.damaged;
    }
}

/// What an endpoint has received of the one stream that is for it.
#[derive(Clone, Debug)]
pub(crate) struct Ledger {
    stream: Stream,
    /// Messages sent so far.
    sent: u32,
    /// One above the highest number received.
    next: u32,
    /// Lower numbers that were not received.
    missing: BTreeSet<u32>,
    /// Until the first message: the highest number that it may have.
    joins_until: Option<u32>,
    tally: Tally,
}

impl Ledger {
    /// For a stream that has not begun.
    pub(crate) fn new(stream: Stream) -> Self {
        Ledger {
            stream,
            sent: 0,
            next: 0,
            missing: BTreeSet::new(),
            joins_until: None,
            tally: Tally::default(),
        }
    }

    /// For one who begins to listen to a stream of which `sent` messages were sent already: those may have gone by.
    pub(crate) fn joining(stream: Stream, sent: u32) -> Self {
        Ledger { sent, joins_until: Some(sent), ..Ledger::new(stream) }
    }

    /// Whose messages are expected.
    pub(crate) fn stream(&self) -> Stream {
        self.stream
    }

    /// Messages sent so far.
    pub(crate) fn sent(&self) -> u32 {
        self.sent
    }

    /// So many messages were sent by now.
    pub(crate) fn set_sent(&mut self, sent: u32) {
        self.sent = sent;
    }

    /// Messages that were sent and may still come.
    pub(crate) fn under_way(&self) -> u32 {
        self.sent - self.joins_until.unwrap_or(self.next)
    }

    /// One above the highest number received.
    pub(crate) fn next(&self) -> u32 {
        self.next
    }

    /// Lower numbers that were not received.
    pub(crate) fn missing(&self) -> impl Iterator<Item = u32> + '_ {
        self.missing.iter().copied()
    }

    /// Messages received as they should be.
    pub(crate) fn messages(&self) -> u64 {
        self.tally.messages
    }

    /// A message has come.
    pub(crate) fn receive(&mut self, bytes: &[u8]) {
        let Some((stream, sequence)) = Stream::of(bytes) else {
            self.tally.damaged += 1;
            return;
        };
        if stream != self.stream || sequence >= self.sent {
            self.tally.misdelivered += 1;
            return;
        }
        if let Some(until) = self.joins_until.take() {
            self.next = sequence.min(until);
        }
        if sequence >= self.next {
            self.missing.extend(self.next..sequence);
            self.next = sequence + 1;
            self.tally.messages += 1;
        } else if self.missing.remove(&sequence) {
            self.tally.reordered += 1;
        } else {
            self.tally.doubled += 1;
        }
    }

    /// A message has come to the VM at an address that no stream of its has.
    pub(crate) fn receive_misdirected(&mut self) {
        self.tally.misdelivered += 1;
    }

    /// What has become of a stream of which everything should have come.
    pub(crate) fn close(self) -> Tally {
        let under_way = self.under_way();
        let mut tally = self.abandon();
        tally.lost += u64::from(under_way);
        tally
    }

    /// The same where the receiver has died: what was under way may be gone.
    pub(crate) fn abandon(mut self) -> Tally {
        self.tally.lost += self.missing.len() as u64;
        self.tally
    }
}

/// The tests of the ledger itself: a fault of each kind is seen for what it is.
pub(crate) mod tests {
    use super::*;

    const MINE: Stream = Stream { vm: 3, endpoint: 1024, session: 2 };

    /// The tally of a ledger that expects ten messages and is given what becomes of them by `fault`.
    fn tally_of(fault: impl FnOnce(&mut Vec<Vec<u8>>)) -> Tally {
        let mut messages: Vec<_> = (0..10).map(|sequence| MINE.message(sequence)).collect();
        fault(&mut messages);
        let mut ledger = Ledger::new(MINE);
        ledger.set_sent(10);
        messages.iter().for_each(|message| ledger.receive(message));
        ledger.close()
    }

    pub(crate) fn a_stream_as_it_should_be_is_clean() {
        let tally = tally_of(|_| {});
        assert_eq!(tally, Tally { messages: 10, ..Tally::default() });
        assert!(tally.is_clean());
    }

    pub(crate) fn a_lost_message_is_seen_wherever_it_was() {
        for lost in 0..10 {
            let tally = tally_of(|messages| drop(messages.remove(lost)));
            assert_eq!(tally, Tally { messages: 9, lost: 1, ..Tally::default() });
            assert!(!tally.is_clean());
        }
    }

    pub(crate) fn a_doubled_message_is_seen_at_once_and_later() {
        for (what, place) in [(4, 4), (4, 9), (0, 10)] {
            let tally = tally_of(|messages| messages.insert(place, MINE.message(what)));
            assert_eq!(tally, Tally { messages: 10, doubled: 1, ..Tally::default() });
            assert!(!tally.is_clean());
        }
    }

    pub(crate) fn a_reordered_message_is_seen_and_not_taken_for_lost_or_doubled() {
        let tally = tally_of(|messages| messages.swap(4, 5));
        assert_eq!(tally, Tally { messages: 9, reordered: 1, ..Tally::default() });
        let tally = tally_of(|messages| messages.rotate_left(1));
        assert_eq!(tally, Tally { messages: 9, reordered: 1, ..Tally::default() });
        assert!(!tally.is_clean());
    }

    pub(crate) fn a_misdelivered_message_is_seen_whoever_it_was_for() {
        let others = [
            Stream { vm: 4, ..MINE },
            Stream { endpoint: 1025, ..MINE },
            Stream { session: 1, ..MINE },
            Stream { session: 3, ..MINE },
        ];
        for other in others {
            let tally = tally_of(|messages| messages.insert(5, other.message(5)));
            assert_eq!(tally, Tally { messages: 10, misdelivered: 1, ..Tally::default() });
            assert!(!tally.is_clean());
        }
        let never_sent = tally_of(|messages| messages.push(MINE.message(10)));
        assert_eq!(never_sent, Tally { messages: 10, misdelivered: 1, ..Tally::default() });
    }

    pub(crate) fn a_changed_byte_is_seen_wherever_it_is() {
        for place in 0..MINE.message(5).len() {
            let tally = tally_of(|messages| messages[5][place] ^= 0x20);
            assert_eq!(tally, Tally { messages: 9, lost: 1, damaged: 1, ..Tally::default() });
        }
        let short = tally_of(|messages| messages[5].truncate(SHORTEST - 1));
        assert_eq!(short, Tally { messages: 9, lost: 1, damaged: 1, ..Tally::default() });
    }

    pub(crate) fn a_listener_that_joins_late_may_miss_what_was_sent_before_and_nothing_else() {
        let joined_at = |first: u32| {
            let mut ledger = Ledger::joining(MINE, 5);
            ledger.set_sent(10);
            (first..10).for_each(|sequence| ledger.receive(&MINE.message(sequence)));
            ledger.close()
        };
        assert_eq!(joined_at(5), Tally { messages: 5, ..Tally::default() });
        assert_eq!(joined_at(3), Tally { messages: 7, ..Tally::default() });
        assert_eq!(joined_at(7), Tally { messages: 3, lost: 2, ..Tally::default() });
        assert_eq!(joined_at(10), Tally { lost: 5, ..Tally::default() });
    }

    pub(crate) fn what_was_under_way_to_a_vm_that_died_is_not_lost_but_a_gap_before_it_is() {
        let mut ledger = Ledger::new(MINE);
        ledger.set_sent(10);
        [0, 1, 3].iter().for_each(|sequence| ledger.receive(&MINE.message(*sequence)));
        assert_eq!(ledger.under_way(), 6);
        assert_eq!(ledger.abandon(), Tally { messages: 3, lost: 1, ..Tally::default() });
    }
}
