//! Fairness: whose message goes next, and who may hold how many of the remote's buffers.
//!
//! Pure bookkeeping: no I/O, no clock, no allocation while messages pass, and nothing on a message's way takes longer
//! with more VMs. VMs are known by their slots, sets of VMs are bit masks of slots. Three rules, each in its own file:
//!
//! | file | rule |
//! |---|---|
//! | `turns` | VMs send in turns of at most 8 messages; over a round of turns each gets bytes by its weight |
//! | `shares` | each holds at most its share of the remote's buffers; what nobody claims is lent out |
//! | `rate` | none sends more messages or bytes per second than configured |
//!
//! # The relay's loop
//!
//! ```text
//! while let Some(used) = vring.take_used() { fairness.returned(used.id); }
//! fairness.begin(ready, now);
//! while let Some(slot) = fairness.next() {
//!     while fairness.turn_goes_on() {
//!         match look_at_next_message_of(slot) {
//!             Nothing => fairness.emptied(slot),
//!             Bad => { give_it_back(); fairness.dropped(slot) }
//!             Good(message) => match fairness.may_send(slot, message.len()) {
//!                 Verdict::Send => fairness.sent(slot, send(message), message.len()),
//!                 _ => {}           // the turn has ended; the message stays where it is
//!             }
//!         }
//!     }
//! }
//! ```
//!
//! A pass (from one `begin` to the next) gives each VM one turn, so that what was written is soon published; where few VMs
//! send, the relay has several passes before it publishes. If a pass has moved nothing, nobody can send: VMs in
//! [`Fairness::without_buffer`] go on when the remote returns a buffer, those over their rate at [`Fairness::next_look`].
//! Neither is to be asked for a kick meanwhile: its message is already there.
//!
//! # What a victim of flooders can rely on
//!
//! A VM that has a message, and has neither used up its bytes of the round nor its share of the buffers, sees at most
//! one turn, that is 8 messages, of every other VM before its own goes, whatever weights and lengths the others have.
//! So it waits for VMs x 8 messages at most, counted from the pass that begins with it among the ready:
//!
//! - Turns go round by slot number, and nothing skips a VM that may send or sets another in its place. A VM whose turn
//!   stalls because no buffer is free goes on with the rest of that turn, not with a new one.
//! - It finds a buffer when it is its turn. If it has none, one was kept for it, or (fewer than two buffers per VM) the
//!   pass stops there and the next buffer is its own. If it has some and others have borrowed the rest, they
//!   get none any more from the moment on that it waits.
//! - Among equal weights, a VM that sends now and then, or asks and waits for the answer, does not use up its bytes
//!   before the flooders do. One that does waits until they have: 8 full messages of each, times its weight over the
//!   least one.
//!
//! In the remote's ring, at most `N - 1` messages are before it, and no more than its share from each VM once all are
//! busy.
//!
//! Bytes are shared out by weight while there are buffers for everyone. Once a VM is left without one, buffers are
//! what is scarce, and they, that is messages, are shared out by weight, whatever their length. As each VM has one
//! buffer at least, a weight below an `N`-th of all counts as that.

mod rate;
mod shares;
#[cfg(test)]
mod tests;
mod turns;

use std::time::Instant;

use self::rate::{Rate, Rates};
use self::shares::{Shares, portions};
use self::turns::Turns;
use super::policy::VmPolicy;

/// Slots: 0..=126 for VMs, 127 for what the bridge itself may have to send.
pub(super) const SLOTS: usize = 128;

/// The slot that the bridge's own messages are charged to.
pub(super) const BRIDGE: usize = BRIDGE_OWNER as usize;
/// The same as the journal has it.
pub(super) const BRIDGE_OWNER: u8 = 127;

/// Whether a VM's next message may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It may.
    Send,
    /// The VM's turn is over.
    TurnOver,
    /// There is no buffer that the VM may take.
    NoBuffer,
    /// The VM has sent as much as it may until then.
    RateLimited(Instant),
}

/// The scheduler of one remote.
#[derive(Debug)]
pub(super) struct Fairness {
    turns: Turns,
    shares: Shares,
    rates: Rates,
    /// Weights by slot; 0 where no VM is.
    weights: [u8; SLOTS],
    /// Messages that may wait for each VM in the remote's receive buffers.
    held_shares: [u16; SLOTS],
    inbound_buffers: u16,
    /// VMs that may have something to send.
    ready: u128,
    /// Those of them that had nothing when they were last looked at.
    emptied: u128,
}

impl Fairness {
    /// No VMs and no remote. No time that is passed in is earlier than `start`.
    pub(super) fn new(start: Instant) -> Self {
        Fairness {
            turns: Turns::default(),
            shares: Shares::default(),
            rates: Rates::new(start),
            weights: [0; SLOTS],
            held_shares: [0; SLOTS],
            inbound_buffers: 0,
            ready: 0,
            emptied: 0,
        }
    }

    /// A remote with this many buffers for messages to it and from it; all are free. Without a remote (0) nobody is
    /// held back: messages are only dropped.
    pub(super) fn reset(&mut self, outbound: u16, inbound: u16) {
        self.inbound_buffers = inbound;
        self.shares.reset(outbound, &self.weights);
        self.held_shares = held_shares(inbound, &self.weights);
    }

    /// A VM begins to take part, or its limits have changed. What is still charged to its slot stays charged.
    pub(super) fn add_vm(&mut self, slot: usize, policy: &VmPolicy) {
        if self.weights[slot] == 0 {
            self.turns.forget(slot);
        }
        self.weights[slot] = policy.weight.max(1);
        self.rates.set(slot, Rate::new(policy.messages_per_second, policy.bytes_per_second));
        self.weights_changed();
    }

    /// A VM no longer takes part. Its buffers stay charged to its slot until the remote returns them.
    pub(super) fn remove_vm(&mut self, slot: usize) {
        self.weights[slot] = 0;
        self.turns.forget(slot);
        self.rates.set(slot, Rate::default());
        self.ready &= !(1 << slot);
        self.weights_changed();
    }

    fn weights_changed(&mut self) {
        self.turns.set_weights(&self.weights);
        self.shares.set_weights(&self.weights);
        self.held_shares = held_shares(self.inbound_buffers, &self.weights);
    }

    /// Messages that may wait for a VM in the remote's receive buffers.
    #[inline]
    pub(super) fn held_share(&self, slot: usize) -> u16 {
        self.held_shares[slot]
    }

    /// The share of the remote's buffers that a VM has, and how many are charged to it.
    pub(super) fn holding(&self, slot: usize) -> (u16, u16) {
        self.shares.holding(slot)
    }

    /// Begins a pass over the VMs that may have something to send.
    #[inline]
    pub(super) fn begin(&mut self, ready: u128, now: Instant) {
        let ready = ready & self.shares.present();
        self.ready = ready;
        // Whoever is ready anew counts as having something until it has been looked at.
        self.emptied &= ready;
        self.rates.set_now(now, ready);
        self.shares.set_all_waiting(ready & !self.emptied & !self.rates.waiting());
        self.turns.begin_pass();
    }

    /// Begins the turn of the next VM. `None` ends the pass.
    #[inline]
    pub(super) fn next(&mut self) -> Option<usize> {
        let next = if self.turns.is_left(self.ready) {
            let able = self.ready & !self.rates.waiting() & self.shares.able();
            self.turns.next(able, self.shares.waiting())
        } else {
            None
        };
        if next.is_none() {
            self.turns.end_pass(self.without_buffer());
        }
        next
    }

    /// Whether the turn goes on.
    #[inline]
    pub(super) fn turn_goes_on(&self) -> bool {
        self.turns.goes_on()
    }

    /// Whether the next message of the VM whose turn it is may go. If not, its turn is over.
    #[inline]
    pub(super) fn may_send(&mut self, slot: usize, payload: usize) -> Verdict {
        if !self.turns.goes_on() {
            return Verdict::TurnOver;
        }
        if let Err(until) = self.rates.allow(slot, payload) {
            // It claims no buffers while it waits.
            self.shares.set_waiting(slot, false);
            self.turns.end();
            return Verdict::RateLimited(until);
        }
        if !self.shares.waits(slot) {
            self.emptied &= !(1 << slot);
            self.shares.set_waiting(slot, true);
        }
        if !self.shares.may_take(slot) {
            // Who has its share and wanted more has no claim to be the first next time: it would be lent more again.
            match self.shares.any_free() || !self.shares.is_below_share(slot) {
                true => self.turns.end(),
                false => self.turns.stall(slot),
            }
            return Verdict::NoBuffer;
        }
        Verdict::Send
    }

    /// The VM has sent a message in this buffer.
    #[inline]
    pub(super) fn sent(&mut self, slot: usize, buffer: u16, payload: usize) {
        self.turns.charge(slot, payload);
        self.shares.take(slot, buffer);
        self.rates.spend(slot, payload);
    }

    /// A message of the VM was dropped. It needed no buffer, but the bridge's time.
    #[inline]
    pub(super) fn dropped(&mut self, slot: usize) {
        self.turns.charge(slot, 0);
    }

    /// The VM has nothing to send, or nothing that could go now whatever buffers there were. It claims no buffers
    /// until something is found, and is looked at again in the next pass if it is still ready.
    #[inline]
    pub(super) fn emptied(&mut self, slot: usize) {
        self.emptied |= 1 << slot;
        self.shares.set_waiting(slot, false);
        self.turns.end();
    }

    /// The VM has something to send after all. If there is no buffer that it may take, it is from the next pass on among
    /// those [`without_buffer`](Self::without_buffer).
    #[inline]
    pub(super) fn found(&mut self, slot: usize) {
        self.emptied &= !(1 << slot);
    }

    /// Whether a message may be sent on behalf of this VM outside its turns.
    #[inline]
    pub(super) fn may_take(&self, slot: usize) -> bool {
        self.shares.may_take(slot)
    }

    /// The remote has returned a buffer. Returns to whom it was charged, if to anyone.
    #[inline]
    pub(super) fn returned(&mut self, buffer: u16) -> Option<usize> {
        self.shares.returned(buffer)
    }

    /// To whom a buffer is charged, if to anyone.
    pub(super) fn owner(&self, buffer: u16) -> Option<usize> {
        self.shares.owner(buffer)
    }

    /// Whether a buffer is with the remote on account of this VM, or of one that was in its slot before.
    pub(super) fn is_charged_to(&self, slot: usize, buffer: u16) -> bool {
        self.shares.owner(buffer) == Some(slot)
    }

    /// Whether the last pass began with any VM.
    #[inline]
    pub(super) fn is_occupied(&self) -> bool {
        self.ready != 0
    }

    /// VMs that wait for a buffer.
    #[inline]
    pub(super) fn without_buffer(&self) -> u128 {
        let waiting = self.ready & !self.emptied & !self.rates.waiting();
        if waiting == 0 { 0 } else { waiting & !self.shares.able() }
    }

    /// VMs that have a message but must not send it yet.
    #[cfg(test)]
    pub(super) fn rate_limited(&self) -> u128 {
        self.rates.waiting()
    }

    /// When to begin a pass for the sake of those, if there are any.
    #[inline]
    pub(super) fn next_look(&self) -> Option<Instant> {
        self.rates.next_look()
    }
}

/// How many messages may wait for each VM. One buffer is nobody's: however slow all VMs are, the remote goes on, and what is
/// too much is dropped.
fn held_shares(buffers: u16, weights: &[u8; SLOTS]) -> [u16; SLOTS] {
    portions(buffers.saturating_sub(1).max(1), weights)
}

/// The numbers of the bits that are set, lowest first.
#[inline]
pub(super) fn bits(mask: u128) -> Bits {
    let [low, high] = halves(mask);
    Bits { low, high }
}

/// See [`bits`]. In halves, as processors have no wider words: most masks are empty, and most slots are low ones.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bits {
    low: u64,
    high: u64,
}

impl Iterator for Bits {
    type Item = usize;

    #[inline]
    fn next(&mut self) -> Option<usize> {
        if self.low != 0 {
            let lowest = self.low.trailing_zeros();
            self.low &= self.low - 1;
            return Some(lowest as usize);
        }
        if self.high != 0 {
            let lowest = self.high.trailing_zeros();
            self.high &= self.high - 1;
            return Some((u64::BITS + lowest) as usize);
        }
        None
    }
}

#[inline]
#[expect(clippy::cast_possible_truncation, reason = "takes it apart")]
fn halves(mask: u128) -> [u64; 2] {
    [mask as u64, (mask >> 64) as u64]
}
