//! Each exactly once, in order: the account of a numbered stream.

use std::collections::BTreeSet;
use std::fmt;

/// How many lost numbers are kept by name. Beyond that they are only counted, and one of them that still
/// comes counts as doubled: such a stream has failed either way.
const REMEMBERED: usize = 1 << 20;

/// What has arrived of a stream.
#[derive(Debug, Default)]
pub(crate) struct Order {
    next: u32,
    /// Passed over and not seen since.
    missing: BTreeSet<u32>,
    /// Passed over when `missing` was full.
    forgotten: u64,
    received: u64,
    doubled: Kind,
    reordered: Kind,
}

/// How often something went wrong, and where first.
#[derive(Debug, Default)]
struct Kind {
    count: u64,
    first: Option<u32>,
}

impl Kind {
    fn add(&mut self, number: u32) {
        self.count += 1;
        self.first.get_or_insert(number);
    }
}

impl Order {
    /// A stream that starts with `first`.
    pub(crate) fn starting_at(first: u32) -> Self {
        Self { next: first, ..Self::default() }
    }

    /// Takes note of the next arrival.
    pub(crate) fn arrived(&mut self, number: u32) {
        self.received += 1;
        if number >= self.next {
            self.pass_over(number);
            self.next = number.saturating_add(1);
        } else if self.missing.remove(&number) {
            self.reordered.add(number);
        } else {
            self.doubled.add(number);
        }
    }

    /// Takes note that the stream ends before `end`: what has not come by now is lost.
    pub(crate) fn ends_at(&mut self, end: u32) {
        self.pass_over(end);
        self.next = self.next.max(end);
    }

    fn pass_over(&mut self, end: u32) {
        for number in self.next..end {
            if self.missing.len() == REMEMBERED {
                self.forgotten += u64::from(end - number);
                return;
            }
            self.missing.insert(number);
        }
    }

    /// Messages that have arrived, doubled ones too.
    pub(crate) fn received(&self) -> u64 {
        self.received
    }

    /// Messages that have arrived at least once.
    pub(crate) fn distinct(&self) -> u64 {
        self.received - self.doubled.count
    }

    /// Messages that have not arrived although a later one has.
    pub(crate) fn lost(&self) -> u64 {
        u64::try_from(self.missing.len()).unwrap_or(u64::MAX).saturating_add(self.forgotten)
    }

    /// Whether nothing is lost, doubled or out of order.
    pub(crate) fn is_clean(&self) -> bool {
        self.lost() == 0 && self.doubled.count == 0 && self.reordered.count == 0
    }

    /// Where each kind of failure began.
    pub(crate) fn problems(&self) -> String {
        let kinds = [
            ("lost", self.lost(), self.missing.first().copied()),
            ("doubled", self.doubled.count, self.doubled.first),
            ("out of order", self.reordered.count, self.reordered.first),
        ];
        let named: Vec<_> = kinds
            .into_iter()
            .filter(|&(_, count, _)| count > 0)
            .map(|(kind, count, first)| match first {
                Some(first) => format!("{count} {kind}, the first of them number {first}"),
                None => format!("{count} {kind}"),
            })
            .collect();
        named.join("; ")
    }
}

impl fmt::Display for Order {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "received={} lost={} doubled={} reordered={}",
            self.received,
            self.lost(),
            self.doubled.count,
            self.reordered.count
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(numbers: &[u32], end: u32) -> Order {
        let mut order = Order::default();
        for &number in numbers {
            order.arrived(number);
        }
        order.ends_at(end);
        order
    }

    #[test]
    fn a_whole_stream_is_clean() {
        let order = after(&[0, 1, 2, 3], 4);
        assert!(order.is_clean());
        assert_eq!(order.to_string(), "received=4 lost=0 doubled=0 reordered=0");
        assert_eq!(order.problems(), "");
    }

    #[test]
    fn a_gap_is_a_loss() {
        let order = after(&[0, 1, 4], 5);
        assert_eq!(order.to_string(), "received=3 lost=2 doubled=0 reordered=0");
        assert_eq!(order.problems(), "2 lost, the first of them number 2");
    }

    #[test]
    fn a_missing_end_is_a_loss() {
        assert_eq!(after(&[0, 1], 4).problems(), "2 lost, the first of them number 2");
        assert_eq!(after(&[], 4).lost(), 4);
    }

    #[test]
    fn a_late_message_is_out_of_order_and_not_lost() {
        let order = after(&[0, 2, 1, 3], 4);
        assert_eq!(order.to_string(), "received=4 lost=0 doubled=0 reordered=1");
        assert!(!order.is_clean());
    }

    #[test]
    fn a_second_copy_is_doubled_also_when_it_was_late_before() {
        let order = after(&[0, 2, 1, 1, 2], 3);
        assert_eq!(order.to_string(), "received=5 lost=0 doubled=2 reordered=1");
        assert_eq!(order.distinct(), 3);
    }

    #[test]
    fn a_stream_may_start_anywhere() {
        let mut order = Order::starting_at(1000);
        order.arrived(1000);
        order.arrived(1002);
        assert_eq!(order.lost(), 1);
    }

    #[test]
    fn a_huge_gap_costs_no_memory() {
        let order = after(&[0, u32::MAX], u32::MAX);
        assert_eq!(order.lost(), u64::from(u32::MAX) - 1);
        assert!(order.missing.len() <= REMEMBERED);
    }
}
