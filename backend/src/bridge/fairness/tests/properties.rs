//! What holds whatever the VMs and the remote do.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

/// Something that happens.
#[derive(Clone, Debug)]
enum Event {
    Arrival {
        slot: usize,
        count: usize,
        payload: usize,
    },
    /// A kick without a message.
    Kick {
        slot: usize,
    },
    /// Messages appear without a kick.
    Quietly {
        slot: usize,
        count: usize,
    },
    Consumed {
        place: usize,
        count: usize,
    },
    Passes(usize),
    Added {
        slot: usize,
        weight: u8,
        limit: Option<u32>,
    },
    Removed {
        slot: usize,
    },
    Later(u64),
    Reset(u16),
}

const SOME_SLOTS: [usize; 8] = [0, 1, 2, 7, 63, 64, 100, 126];

fn slot() -> impl Strategy<Value = usize> {
    prop::sample::select(&SOME_SLOTS)
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        8 => (slot(), 1..40_usize, 0..=496_usize)
            .prop_map(|(slot, count, payload)| Event::Arrival { slot, count, payload }),
        1 => slot().prop_map(|slot| Event::Kick { slot }),
        1 => (slot(), 1..4_usize).prop_map(|(slot, count)| Event::Quietly { slot, count }),
        6 => (any::<usize>(), 1..20_usize).prop_map(|(place, count)| Event::Consumed { place, count }),
        8 => (1..6_usize).prop_map(Event::Passes),
        2 => (slot(), 1..=100_u8, prop::option::weighted(0.2, 1..5000_u32))
            .prop_map(|(slot, weight, limit)| Event::Added { slot, weight, limit }),
        1 => slot().prop_map(|slot| Event::Removed { slot }),
        2 => (0..20_000_000_u64).prop_map(Event::Later),
        1 => (2..=256_u16).prop_map(Event::Reset),
    ]
}

fn happen(world: &mut World, event: &Event) {
    match *event {
        Event::Arrival { slot, count, payload } => world.arrive(slot, count, payload),
        Event::Kick { slot } => world.ready |= 1 << slot,
        Event::Quietly { slot, count } => world.queues[slot].extend(std::iter::repeat_n(0, count)),
        Event::Consumed { place, count } => {
            for _ in 0..count {
                world.consume(place);
            }
        }
        Event::Passes(count) => {
            for _ in 0..count {
                world.pass();
            }
        }
        Event::Added { slot, weight, limit } => {
            world.fairness.add_vm(slot, &VmPolicy { messages_per_second: limit, ..policy(weight) });
        }
        Event::Removed { slot } => {
            world.fairness.remove_vm(slot);
            world.queues[slot].clear();
            world.ready &= !(1 << slot);
        }
        Event::Later(nanos) => world.now += Duration::from_nanos(nanos),
        Event::Reset(buffers) => {
            world.fairness.reset(buffers, buffers);
            world.free = (0..buffers).collect();
            world.remote.clear();
        }
    }
    world.fairness.shares.check();
}

/// Keeps everyone busy while the remote consumes at its rate, until that many messages have gone. There are up to
/// `passes` passes before it consumes.
fn flood(
    world: &mut World,
    passes: usize,
    messages: usize,
    consumed: usize,
    mut payload: impl FnMut(usize) -> usize,
) {
    let vms = world.fairness.weights.iter().filter(|weight| **weight > 0).count();
    flood_but(world, passes, vms, vms, messages, consumed, &mut payload);
}

/// Keeps all VMs but one busy. `payload` gives the length of a VM's next message.
fn flood_but(
    world: &mut World,
    passes: usize,
    victim: usize,
    vms: usize,
    messages: usize,
    consumed: usize,
    payload: &mut dyn FnMut(usize) -> usize,
) {
    let until = world.went.len() + messages;
    while world.went.len() < until {
        for slot in (0..vms).filter(|slot| *slot != victim) {
            while world.queues[slot].len() < 64 {
                let payload = payload(slot);
                world.arrive(slot, 1, payload);
            }
        }
        // A sweep makes passes until nobody can send any more, or until it has to look at other things.
        for _ in 0..passes {
            if world.pass() == 0 {
                break;
            }
        }
        for _ in 0..consumed {
            world.consume(0);
        }
    }
}

/// Numbers that look random enough.
fn random(mut seed: u64) -> impl FnMut(usize) -> usize {
    move |below| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(seed >> 33).unwrap() % below
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    /// The world checks every step: sum of charges and free buffers, shares and lending, work conserved.
    #[test]
    fn charges_and_shares_hold_and_nothing_idles_whatever_happens(
        buffers in 2..=256_u16,
        weights in vec(1..=100_u8, SOME_SLOTS.len()),
        events in vec(event(), 1..100),
    ) {
        let mut world = World::new(buffers, &[]);
        for (slot, weight) in SOME_SLOTS.into_iter().zip(weights) {
            world.fairness.add_vm(slot, &policy(weight));
        }
        for event in &events {
            happen(&mut world, event);
        }
        // Whatever has happened, all that is left goes in the end.
        for _ in 0..20_000 {
            world.now += Duration::from_secs(1);
            let has_messages = |slot: &usize| world.fairness.weights[*slot] > 0 && !world.queues[*slot].is_empty();
            world.ready = bits(u128::MAX).filter(has_messages).map(|slot| 1 << slot).sum();
            if world.ready == 0 {
                break;
            }
            world.pass();
            world.consume(0);
        }
        prop_assert_eq!(world.ready, 0);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn equal_vms_get_equal_bytes_however_fast_the_remote_is(
        buffers in 2..=256_u16, vms in 2..=64_usize, passes in 1..20_usize,
        consumed in 1..=256_usize, seed: u64, longest in 0..=496_usize,
    ) {
        let mut world = World::new(buffers, &vec![1; vms]);
        let mut random = random(seed);
        flood(&mut world, passes, vms * 500, consumed, |_| random(longest + 1));
        let index = jain(&world.bytes_by_weight(0, vms));
        prop_assert!(index >= 0.99, "{index} {:?}", world.bytes_by_weight(0, vms));
    }

    #[test]
    fn vms_with_messages_of_any_length_get_bytes_by_weight_while_there_are_buffers_for_everyone(
        weights in vec(1..=10_u8, 2..4), seed: u64, lengths in vec(48..=496_usize, 4),
    ) {
        let vms = weights.len();
        let mut world = World::new(256, &weights);
        let mut random = random(seed);
        flood(&mut world, 1, vms * 8000, 256, |slot| lengths[slot] - random(lengths[slot] - 47));
        let index = jain(&world.bytes_by_weight(0, vms));
        prop_assert!(index >= 0.99, "{index} {:?}", world.bytes_by_weight(0, vms));
    }

    /// The remote's buffers are what is scarce then, whatever is in them; so all messages are of one length.
    #[test]
    fn vms_get_a_slow_remote_by_weight(weights in vec(1..=4_u8, 2..8), consumed in 1..64_usize, payload in 1..=496_usize) {
        let vms = weights.len();
        let mut world = World::new(256, &weights);
        flood(&mut world, usize::MAX, 1000, consumed, |_| payload);
        let since = world.went.len();
        flood(&mut world, usize::MAX, vms * 1000, consumed, |_| payload);
        let index = jain(&world.bytes_by_weight(since, vms));
        prop_assert!(index >= 0.99, "{index} {:?}", world.bytes_by_weight(0, vms));
    }

    #[test]
    fn a_message_of_a_vm_that_was_idle_goes_after_one_turn_of_each_other_vm_at_most(
        buffers in 2..=256_u16, weights in vec(1..=100_u8, 2..=64), consumed in 1..=256_usize, seed: u64, victim: u8,
    ) {
        let vms = weights.len();
        let victim = usize::from(victim) % vms;
        let mut world = World::new(buffers, &weights);
        let mut random = random(seed);
        let before = random(2000);
        flood_but(&mut world, 1, victim, vms, before, consumed, &mut |_| random(497));
        world.arrive(victim, 1, 496);
        let since = world.went.len();
        while !world.queues[victim].is_empty() {
            flood_but(&mut world, 1, victim, vms, 1, consumed, &mut |_| random(497));
        }
        let others = world.went[since..].iter().position(|(slot, _)| *slot == victim).unwrap();
        prop_assert!(others <= (vms - 1) * 8, "{others} of {vms} VMs");
    }

    #[test]
    fn a_victim_that_asks_and_waits_for_the_answer_never_waits_longer_than_one_turn_of_each(
        buffers in 2..=256_u16,
        vms in 2..=64_usize,
        consumed in 1..=256_usize,
        payload in 0..=496_usize,
        victims in 0..=496_usize,
    ) {
        let mut world = World::new(buffers, &vec![1; vms]);
        for _ in 0..50 {
            world.arrive(0, 1, victims);
            let since = world.went.len();
            while !world.queues[0].is_empty() {
                flood_but(&mut world, 1, 0, vms, 1, consumed, &mut |_| payload);
            }
            let others = world.went[since..].iter().position(|(slot, _)| *slot == 0).unwrap();
            prop_assert!(others <= (vms - 1) * 8, "{others}");
            while world.fairness.shares.of(0).1 > 0 {
                flood_but(&mut world, 1, 0, vms, 1, consumed, &mut |_| payload);
            }
        }
    }

    #[test]
    fn no_vm_starves(
        buffers in 2..=256_u16, weights in vec(1..=100_u8, 2..=127), consumed in 1..=256_usize, seed: u64,
    ) {
        let vms = weights.len();
        let mut world = World::new(buffers, &weights);
        let mut random = random(seed);
        // Two rounds, unless they are very long; then as far as every VM's first turn.
        let lightest = usize::from(*weights.iter().min().unwrap());
        let round = weights.iter().map(|weight| 64 * usize::from(*weight)).sum::<usize>() / lightest;
        flood(&mut world, 1, (2 * round).min(20_000), consumed, |_| random(497));
        let bytes = world.bytes_by_weight(0, vms);
        prop_assert!(bytes.iter().all(|bytes| *bytes > 0.0), "{bytes:?}");
    }

    #[test]
    fn rate_limits_hold_among_flooders_and_are_used_to_the_full(rate in 100..20_000_u32, step in 1..5_000_000_u64) {
        let mut world = World::new(64, &[1; 3]);
        world.fairness.add_vm(1, &VmPolicy { messages_per_second: Some(rate), ..policy(1) });
        let (start, mut steps) = (world.now, 0_u64);
        let mut went = 0;
        while steps < 2000 {
            flood(&mut world, 1, 1, 64, |_| 0);
            world.now = start + Duration::from_nanos(step * steps);
            steps += 1;
            went = world.went.iter().filter(|(slot, _)| *slot == 1).count();
        }
        let nanos = u128::from(step * (steps - 1));
        let (rate, went, second) = (u128::from(rate), went as u128, 1_000_000_000);
        let burst = rate.div_ceil(10);
        prop_assert!(went * second <= burst * second + rate * nanos);
        // Eight messages in each pass are the most that a turn has room for.
        if rate * u128::from(step) < 4 * second {
            prop_assert!((went + burst + 8) * second >= rate * nanos, "{went}");
        }
    }
}
