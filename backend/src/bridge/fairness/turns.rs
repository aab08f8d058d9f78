//! Whose turn it is: deficit round robin over the VMs that have something to send.
//!
//! - A *turn* is at most [`TURN`] messages of one VM. Turns go round by slot number; a *pass* gives each VM at most
//!   one.
//! - A *round* gives each VM [`QUANTUM`] bytes, times its weight over the least weight of all VMs. A VM takes as many
//!   turns as it needs to send them, between those of the others. One that has sent them sits out until the others have
//!   sent theirs; then the next round begins. Where a pass finds that only such VMs can send, since the remote keeps the
//!   others' buffers, they do so on credit, as much as the next round gives; then that round begins all the same.
//! - A message costs its length, but [`LEAST_COST`] at least. While buffers are short, which is to say in a round that
//!   follows one in which a VM was left without a buffer, every message costs [`MOST_COST`]: a buffer is a buffer
//!   however little is in it. The first that is left without one ends the round, so that one price holds for all.
//! - The last message of a round may overdraw; the debt is paid from the next round. So a VM's turn never ends for
//!   want of a few bytes, nobody needs to know the next message's length, and in the long run nobody gains by it.
//! - What a VM leaves of a round is lost when the round ends: an idle VM saves nothing up.
//!
//! Turns are short whatever the weights and lengths, rounds are fair. With turns alone, weights would not count and a
//! VM with long messages would get more bytes; with a whole round in one turn, others would wait for hundreds of
//! messages of a heavy VM, or of one with short messages.
//!
//! Among VMs of equal weight, one that sends no more than one message between two turns of each of the others never has
//! to sit out: a round has room for eight of its messages, and the others are through with theirs after eight turns.
//!
//! Sets of VMs are bit masks, so that finding the next takes a few instructions with any number of VMs.

use super::SLOTS;
use crate::rpmsg::HEADER_LEN;

/// Messages in a turn.
pub(super) const TURN: u32 = 8;
/// What a message costs at most, in bytes: a whole buffer.
pub(super) const MOST_COST: i32 = 512;
/// What a message costs at least. A short one takes the bridge and the remote more time than its bytes say, so a
/// flood of empty messages must not count as next to nothing. No less than an eighth of the most, or a VM with long
/// messages would have to sit out for more than a turn of each other one.
pub(super) const LEAST_COST: i32 = 64;
/// What a round gives a VM of the least weight, in bytes.
pub(super) const QUANTUM: i32 = 8 * MOST_COST;

/// The turns of all VMs.
#[derive(Debug)]
pub(super) struct Turns {
    /// Slot from which the next VM is looked for.
    cursor: u32,
    /// Messages left in the turn.
    left_in_turn: u32,
    /// VM whose turn was broken off because nobody could have gone on, and what was left of it.
    stalled: Option<(usize, u32)>,
    /// What a message costs at least in this round: [`MOST_COST`] if buffers are short.
    least_cost: i32,
    /// Whether anyone was left without a buffer in this round.
    refused: bool,
    /// VM that had the first turn of this pass.
    first: Option<u32>,
    /// VMs that have had their turn in this pass.
    visited: u128,
    /// Whether a VM that has not sent what it may has moved anything in this pass.
    moved: bool,
    /// Whether this turn is one of a VM that has sent what it may in this round.
    overtime: bool,
    /// VMs that have sent what they may in this round.
    spent: u128,
    /// Those of them that owe as much as a round gives.
    deep_in_debt: u128,
    /// Number of the round.
    round: u64,
    vms: [Vm; SLOTS],
}

#[derive(Clone, Copy, Debug, Default)]
struct Vm {
    /// Round that `left` is for.
    round: u64,
    /// Bytes left in that round; below zero, a debt.
    left: i32,
    /// Bytes that each round gives.
    quantum: i32,
}

impl Default for Turns {
    fn default() -> Self {
        Turns {
            cursor: 0,
            left_in_turn: 0,
            stalled: None,
            least_cost: LEAST_COST,
            refused: false,
            first: None,
            visited: 0,
            moved: false,
            overtime: false,
            spent: 0,
            deep_in_debt: 0,
            round: 1,
            vms: [Vm::default(); SLOTS],
        }
    }
}

impl Turns {
    /// The VMs and their weights are now these; 0 stands for no VM.
    pub(super) fn set_weights(&mut self, weights: &[u8; SLOTS]) {
        let least = weights.iter().copied().filter(|weight| *weight > 0).min().unwrap_or(1);
        for (vm, weight) in self.vms.iter_mut().zip(weights) {
            vm.quantum = QUANTUM * i32::from(*weight) / i32::from(least);
        }
    }

    /// A VM comes or goes: nothing is left of what its slot has spent or owes.
    pub(super) fn forget(&mut self, slot: usize) {
        self.vms[slot] = Vm { quantum: self.vms[slot].quantum, ..Vm::default() };
        self.spent &= !(1 << slot);
        self.deep_in_debt &= !(1 << slot);
        self.stalled = self.stalled.filter(|(stalled, _)| *stalled != slot);
    }

    /// Begins a pass.
    #[inline]
    pub(super) fn begin_pass(&mut self) {
        self.first = None;
        self.visited = 0;
        self.moved = false;
        self.left_in_turn = 0;
    }

    /// Whether any of these VMs has not had its turn in this pass.
    #[inline]
    pub(super) fn is_left(&self, vms: u128) -> bool {
        vms & !self.visited != 0
    }

    /// Begins the turn of the next of the VMs that are able to send; some more may wait for a buffer. `None` ends the
    /// pass.
    #[inline]
    pub(super) fn next(&mut self, able: u128, waiting: u128) -> Option<usize> {
        loop {
            let mut candidates = able & !self.spent & !self.visited;
            self.overtime = false;
            if candidates == 0 {
                // Whoever could send has had its turn; or others have bytes left in this round, and will be able to
                // send them as things are moving.
                let others_have_bytes_left = waiting & !self.spent != 0;
                if able & !self.visited == 0 || self.moved && others_have_bytes_left {
                    return None;
                }
                candidates = able & !self.visited & !self.deep_in_debt;
                if !others_have_bytes_left || candidates == 0 {
                    self.new_round();
                    continue;
                }
                self.overtime = true;
            }
            let ahead = candidates & (u128::MAX << self.cursor);
            let bit = if ahead != 0 { ahead } else { candidates }.trailing_zeros();
            let slot = bit as usize;
            let vm = &mut self.vms[slot];
            if vm.round != self.round {
                vm.round = self.round;
                vm.left = vm.left.min(0) + vm.quantum;
            }
            if vm.left <= 0 && !self.overtime {
                self.spent |= 1 << slot;
                continue;
            }
            self.left_in_turn = match self.stalled.take() {
                Some((stalled, left)) if stalled == slot => left,
                _ => TURN,
            };
            self.visited |= 1 << slot;
            self.first.get_or_insert(bit);
            self.cursor = (bit + 1) % u128::BITS;
            return Some(slot);
        }
    }

    #[inline]
    fn new_round(&mut self) {
        self.spent = 0;
        self.deep_in_debt = 0;
        self.round += 1;
        self.least_cost = if self.refused { MOST_COST } else { LEAST_COST };
        self.refused = false;
    }

    /// Ends the pass; some VMs may be left without a buffer.
    ///
    /// If any of them has not had its turn, the next pass goes on there. If all have, it begins one VM further than
    /// this one did: being the first is an advantage where something is lent out.
    #[inline]
    pub(super) fn end_pass(&mut self, without_buffer: u128) {
        if without_buffer != 0 {
            self.refused = true;
            if self.least_cost != MOST_COST {
                self.new_round();
            }
        }
        if self.stalled.is_none()
            && without_buffer & !self.visited == 0
            && let Some(first) = self.first.take()
        {
            self.cursor = (first + 1) % u128::BITS;
        }
    }

    /// Whether the turn goes on.
    #[inline]
    pub(super) fn goes_on(&self) -> bool {
        self.left_in_turn > 0
    }

    /// The VM has sent a message, or one of its messages was dropped.
    #[inline]
    pub(super) fn charge(&mut self, slot: usize, payload: usize) {
        self.moved |= !self.overtime;
        self.left_in_turn = self.left_in_turn.saturating_sub(1);
        let vm = &mut self.vms[slot];
        vm.left -= i32::try_from(HEADER_LEN + payload).unwrap_or(MOST_COST).clamp(self.least_cost, MOST_COST);
        if vm.left <= 0 {
            self.spent |= 1 << slot;
            self.left_in_turn *= u32::from(self.overtime);
        }
        if vm.left <= -vm.quantum {
            vm.left = -vm.quantum;
            self.deep_in_debt |= 1 << slot;
            self.left_in_turn = 0;
        }
    }

    /// Ends the turn: the VM has nothing more that may go.
    #[inline]
    pub(super) fn end(&mut self) {
        self.left_in_turn = 0;
    }

    /// Breaks the turn off because nobody could go on. The VM is the first to go on, with what is left of its turn.
    #[cold]
    pub(super) fn stall(&mut self, slot: usize) {
        if self.left_in_turn > 0 {
            self.stalled = Some((slot, self.left_in_turn));
            self.cursor = u32::try_from(slot).unwrap_or(0);
            self.left_in_turn = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn turns(weights: &[u8]) -> Turns {
        let mut all = [0; SLOTS];
        all[..weights.len()].copy_from_slice(weights);
        let mut turns = Turns::default();
        turns.set_weights(&all);
        turns
    }

    /// One pass of VMs with endless messages of these sizes. Returns whose messages went, and how many.
    fn pass(turns: &mut Turns, able: u128, payloads: &[usize]) -> Vec<(usize, u32)> {
        let mut went = Vec::new();
        turns.begin_pass();
        while let Some(slot) = turns.next(able, able) {
            let mut count = 0;
            while turns.goes_on() {
                turns.charge(slot, payloads[slot]);
                count += 1;
            }
            went.push((slot, count));
        }
        turns.end_pass(0);
        went
    }

    #[test]
    fn vms_take_turns_of_eight_messages() {
        let mut turns = turns(&[1; 3]);
        assert_eq!(pass(&mut turns, 0b101, &[496; 3]), [(0, 8), (2, 8)]);
        assert_eq!(pass(&mut turns, 0b101, &[496; 3]), [(2, 8), (0, 8)]);
        assert_eq!(pass(&mut turns, 0b101, &[496; 3]), [(0, 8), (2, 8)]);
        assert_eq!(pass(&mut turns, 0b111, &[496; 3]), [(1, 8), (2, 8), (0, 8)]);
        assert_eq!(pass(&mut turns, 0, &[496; 3]), []);
    }

    #[test]
    fn a_vm_with_long_messages_sits_out_while_one_with_short_messages_sends_as_many_bytes() {
        let mut turns = turns(&[1; 2]);
        assert_eq!(pass(&mut turns, 0b11, &[496, 112]), [(0, 8), (1, 8)]);
        for _ in 0..2 {
            assert_eq!(pass(&mut turns, 0b11, &[496, 112]), [(1, 8)]);
        }
        assert_eq!(pass(&mut turns, 0b11, &[496, 112]), [(1, 8), (0, 8)]);
    }

    #[test]
    fn empty_messages_are_not_free() {
        let mut turns = turns(&[1; 2]);
        let short: u32 =
            (0..9).flat_map(|_| pass(&mut turns, 0b11, &[496, 0])).filter(|w| w.0 == 1).map(|w| w.1).sum();
        assert_eq!(short, 72, "64 in the first round, and the turn that begins the second");
    }

    #[test]
    fn a_heavy_vm_gets_more_turns_not_longer_ones() {
        let mut turns = turns(&[20, 60]);
        let went: Vec<_> = (0..6).flat_map(|_| pass(&mut turns, 0b11, &[496; 2])).collect();
        assert_eq!(went, [(0, 8), (1, 8), (1, 8), (1, 8), (0, 8), (1, 8), (1, 8), (1, 8), (0, 8)]);
    }

    #[test]
    fn a_debt_is_paid_from_the_next_round() {
        let mut turns = turns(&[1]);
        // Eleven messages of 384 bytes are 128 more than a round has.
        assert_eq!(pass(&mut turns, 1, &[368]), [(0, 8)]);
        assert_eq!(pass(&mut turns, 1, &[368]), [(0, 3)]);
        assert_eq!(turns.vms[0].left, -128);
        assert_eq!(pass(&mut turns, 1, &[368]), [(0, 8)]);
        assert_eq!(turns.vms[0].left, QUANTUM - 128 - 8 * 384);
    }

    #[test]
    fn whoever_is_stalled_goes_on_first_with_the_rest_of_its_turn() {
        let mut turns = turns(&[1; 3]);
        turns.begin_pass();
        assert_eq!(turns.next(0b111, 0b111), Some(0));
        turns.end();
        assert_eq!(turns.next(0b111, 0b111), Some(1));
        turns.charge(1, 0);
        turns.stall(1);
        assert!(!turns.goes_on());
        assert_eq!(turns.next(0, 0b111), None);
        turns.end_pass(0b111);
        assert_eq!(pass(&mut turns, 0b111, &[0; 3]), [(1, 7), (2, 8), (0, 8)]);
    }

    #[test]
    fn a_vm_that_is_back_after_a_long_time_has_saved_nothing_up() {
        let mut turns = turns(&[1; 2]);
        for _ in 0..100 {
            pass(&mut turns, 0b01, &[496; 2]);
        }
        // The first to go is the one that had not sent anything in the round that was going on.
        for _ in 0..3 {
            assert_eq!(pass(&mut turns, 0b11, &[496; 2]), [(1, 8), (0, 8)]);
        }
    }
}
