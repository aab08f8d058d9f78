//! A relay, a remote and VMs without any I/O, and what the scheduler makes of them.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::*;
use crate::bridge::policy::{Overflow, VmPolicy};

mod properties;
mod speed;

/// VMs and the remote around a scheduler, which is checked against the rules at every step.
struct World {
    fairness: Fairness,
    now: Instant,
    /// Messages that wait in each VM's transmit queue, by length of payload.
    queues: Vec<VecDeque<usize>>,
    /// VMs that have kicked. The relay forgets it when it has found nothing and a pass has moved nothing.
    ready: u128,
    free: Vec<u16>,
    /// Buffers that the remote has, oldest first.
    remote: VecDeque<u16>,
    /// Messages that went, in order: VM and length of payload.
    went: Vec<(usize, usize)>,
}

fn policy(weight: u8) -> VmPolicy {
    VmPolicy { weight, ..VmPolicy::unlimited(Overflow::Drop) }
}

impl World {
    /// VMs of these weights in the slots from 0 on.
    fn new(buffers: u16, weights: &[u8]) -> Self {
        let now = Instant::now();
        let mut fairness = Fairness::new(now);
        fairness.reset(buffers, buffers);
        for (slot, weight) in weights.iter().enumerate() {
            fairness.add_vm(slot, &policy(*weight));
        }
        World {
            fairness,
            now,
            queues: vec![VecDeque::new(); SLOTS],
            ready: 0,
            free: (0..buffers).collect(),
            remote: VecDeque::new(),
            went: Vec::new(),
        }
    }

    /// A guest has queued messages and kicks.
    fn arrive(&mut self, slot: usize, count: usize, payload: usize) {
        self.queues[slot].extend(std::iter::repeat_n(payload, count));
        self.ready |= 1 << slot;
    }

    /// The remote consumes the message that is this many places behind the oldest.
    fn consume(&mut self, place: usize) -> Option<usize> {
        let buffer = self.remote.remove(place % self.remote.len().max(1))?;
        self.free.push(buffer);
        let owner = self.fairness.returned(buffer);
        assert!(owner.is_some());
        owner
    }

    /// One pass of the relay. Returns how many messages moved.
    fn pass(&mut self) -> usize {
        let before = self.went.len();
        self.fairness.begin(self.ready, self.now);
        self.fairness.shares.check();
        while let Some(slot) = self.fairness.next() {
            let mut sent = 0;
            while self.fairness.turn_goes_on() {
                let Some(payload) = self.queues[slot].front().copied() else {
                    self.fairness.emptied(slot);
                    break;
                };
                match self.fairness.may_send(slot, payload) {
                    Verdict::Send => self.send(slot, payload),
                    verdict => {
                        assert_ne!(verdict, Verdict::TurnOver);
                        assert!(!self.fairness.turn_goes_on());
                        break;
                    }
                }
                sent += 1;
            }
            assert!(sent <= 8);
        }
        if self.went.len() == before {
            self.nobody_could_have_sent();
            let queues = &self.queues;
            self.ready =
                bits(self.ready).filter(|slot| !queues[*slot].is_empty()).map(|slot| 1 << slot).sum();
        }
        self.went.len() - before
    }

    fn send(&mut self, slot: usize, payload: usize) {
        self.check_share(slot);
        let buffer = self.free.pop().expect("whoever may send finds a buffer");
        self.fairness.sent(slot, buffer, payload);
        self.fairness.shares.check();
        self.queues[slot].pop_front();
        self.remote.push_back(buffer);
        self.went.push((slot, payload));
    }

    /// The rules of `shares`, told in another way: whether the VM may take a buffer, and if it has none, is below its
    /// share or beyond.
    fn permitted(&self, slot: usize) -> bool {
        let shares = &self.fairness.shares;
        let present = bits(u128::MAX).filter(|slot| self.fairness.weights[*slot] > 0);
        let (mut for_empty_handed, mut for_claims, mut for_silent) = (0, 0, 0);
        for other in present.filter(|other| *other != slot) {
            let (share, held) = shares.of(other);
            for_empty_handed += u32::from(held == 0);
            match shares.waiting() & (1 << other) != 0 {
                true => for_claims += share.saturating_sub(held),
                false => for_silent += u32::from(held == 0),
            }
        }
        let half = u32::try_from(self.free.len() + self.remote.len()).unwrap() / 2;
        let left = u32::try_from(self.free.len()).unwrap().checked_sub(1);
        let (share, held) = shares.of(slot);
        left.is_some_and(|left| {
            held == 0
                || held < share && left >= for_empty_handed.min(half)
                || left >= for_claims + for_silent.min(half)
        })
    }

    fn check_share(&self, slot: usize) {
        assert!(self.permitted(slot), "VM {slot} takes a buffer that it must not");
    }

    /// Work is conserved: a pass moves something if anyone may send.
    fn nobody_could_have_sent(&self) {
        let present = |slot: &usize| self.fairness.weights[*slot] > 0;
        for slot in bits(self.ready & !self.fairness.rate_limited()).filter(present) {
            assert!(
                self.queues[slot].is_empty() || !self.permitted(slot),
                "VM {slot} has a message and may send it, but nothing moves"
            );
        }
    }

    /// Bytes that each VM has sent since that many messages had gone, by its weight.
    fn bytes_by_weight(&self, since: usize, vms: usize) -> Vec<f64> {
        let mut bytes = vec![0.0; vms];
        for (slot, payload) in &self.went[since..] {
            #[expect(clippy::cast_precision_loss, reason = "messages are short")]
            let more = (16 + payload) as f64;
            bytes[*slot] += more / f64::from(self.fairness.weights[*slot]);
        }
        bytes
    }
}

/// How equal these are: 1 if they all are, 1 / n if one has everything.
fn jain(parts: &[f64]) -> f64 {
    let (sum, squares) =
        parts.iter().fold((0.0, 0.0), |(sum, squares), part| (sum + part, squares + part * part));
    #[expect(clippy::cast_precision_loss, reason = "few VMs")]
    let count = parts.len() as f64;
    sum * sum / (count * squares)
}

#[test]
fn a_remote_that_consumes_slowly_is_shared_out_equally() {
    let mut world = World::new(16, &[1; 4]);
    for slot in 0..4 {
        world.arrive(slot, 1000, 496);
    }
    // The remote consumes three messages in the time of a pass.
    for _ in 0..400 {
        world.pass();
        for _ in 0..3 {
            world.consume(0);
        }
    }
    let sent = world.queues[..4].iter().map(|queue| 1000 - queue.len()).collect::<Vec<_>>();
    assert!(sent.iter().all(|sent| (300..=308).contains(sent)), "{sent:?}");
}

#[test]
fn a_victim_among_63_flooders_waits_for_one_turn_of_each_at_most() {
    for (buffers, consumed, payload) in
        [(256, 256, 496), (256, 256, 0), (256, 3, 0), (64, 64, 100), (8, 8, 0), (2, 1, 0)]
    {
        let mut world = World::new(buffers, &[1; 64]);
        let mut longest = 0;
        for round in 0..100 {
            for slot in 0..63 {
                let missing = 64 - world.queues[slot].len();
                world.arrive(slot, missing, payload);
            }
            if round % 10 == 9 {
                world.arrive(63, 1, 496);
                let before = world.went.len();
                while !world.queues[63].is_empty() {
                    world.pass();
                    for _ in 0..consumed {
                        world.consume(0);
                    }
                }
                longest = longest.max(world.went[before..].iter().position(|(slot, _)| *slot == 63).unwrap());
            }
            world.pass();
            for _ in 0..consumed {
                world.consume(0);
            }
        }
        println!(
            "{buffers} buffers, {consumed} consumed per pass, {payload} bytes: after {longest} messages of others"
        );
        assert!(longest <= 63 * 8);
    }
}

#[test]
fn a_vm_whose_buffers_the_remote_never_returns_costs_the_others_no_more_than_what_it_had_borrowed() {
    let mut world = World::new(16, &[1; 4]);
    world.arrive(0, 100, 496);
    world.pass();
    world.pass();
    assert_eq!(world.remote.len(), 13, "one stays for each of the others");
    world.remote.clear();
    for slot in 1..4 {
        world.arrive(slot, 100, 496);
    }
    while world.queues[1..4].iter().any(|queue| !queue.is_empty()) {
        assert_eq!(world.pass(), 3);
        while world.consume(0).is_some() {}
    }
}

#[test]
fn a_vm_with_a_rate_limit_sends_when_its_time_comes_and_claims_no_buffers_meanwhile() {
    let mut world = World::new(16, &[1; 2]);
    world.fairness.add_vm(1, &VmPolicy { messages_per_second: Some(20), ..policy(1) });
    world.arrive(1, 100, 0);
    assert_eq!(world.pass(), 2, "100 ms worth");
    assert_eq!(world.pass(), 0);
    assert_eq!((world.fairness.rate_limited(), world.fairness.without_buffer()), (0b10, 0));
    assert_eq!(world.fairness.next_look(), Some(world.now + Duration::from_millis(50)));
    world.arrive(0, 100, 0);
    while world.pass() > 0 {}
    assert_eq!(world.fairness.shares.of(0), (8, 14));
    assert_eq!(world.fairness.without_buffer(), 0b01);
    while world.consume(0).is_some() {}
    world.queues[0].clear();
    for _ in 0..10 {
        world.now = world.fairness.next_look().unwrap();
        assert_eq!(world.pass(), 1);
        assert_eq!(world.pass(), 0);
    }
    // A guest that is gone is not waited for.
    world.ready = 0;
    world.pass();
    assert_eq!((world.fairness.rate_limited(), world.fairness.next_look()), (0, None));
}

#[test]
fn a_queue_that_is_polled_claims_nothing_while_it_is_empty() {
    let mut world = World::new(16, &[1; 2]);
    world.arrive(0, 100, 496);
    world.ready |= 0b10;
    world.pass();
    world.pass();
    assert_eq!(world.fairness.shares.of(0), (8, 15), "slot 1 was found empty in the first pass");
    // It is found to have something without a kick, and gets its share.
    world.queues[1].extend([0; 20]);
    world.pass();
    world.consume(0);
    world.pass();
    assert_eq!(world.fairness.shares.of(1), (8, 2));
}

#[test]
fn without_a_remote_everyone_has_turns_in_which_messages_are_dropped() {
    let mut world = World::new(0, &[1; 3]);
    let mut turns = Vec::new();
    for _ in 0..2 {
        world.fairness.begin(0b1101, world.now);
        while let Some(slot) = world.fairness.next() {
            let mut count = 0;
            while world.fairness.turn_goes_on() {
                world.fairness.dropped(slot);
                count += 1;
            }
            turns.push((slot, count));
        }
    }
    assert_eq!(turns, [(0, 8), (2, 8), (2, 8), (0, 8)], "slot 3 is nobody's");
}

#[test]
fn what_a_worker_before_had_sent_is_charged_until_it_comes_back() {
    let mut world = World::new(4, &[1; 2]);
    for buffer in 0..3 {
        world.fairness.sent(0, buffer, 0);
    }
    assert!(!world.fairness.may_take(0) && world.fairness.may_take(1));
    assert_eq!((world.fairness.returned(1), world.fairness.returned(1)), (Some(0), None));
    assert_eq!((world.fairness.held_share(0), world.fairness.held_share(2)), (1, 0));
    world.fairness.remove_vm(1);
    assert_eq!((world.fairness.held_share(0), world.fairness.held_share(1)), (3, 0));
}
