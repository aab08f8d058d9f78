//! What a decision costs. Prints figures; run it with `--release -- --ignored --nocapture`.

use std::hint::black_box;

use super::*;

/// Everything that the scheduler is asked and told of a message: turns, verdict, charge, return.
fn nanos_per_message(vms: usize, buffers: u16, consumed: usize, limited: bool) -> (f64, f64) {
    const MESSAGES: u32 = 4_000_000;
    let start = Instant::now();
    let mut fairness = Fairness::new(start);
    fairness.reset(buffers, buffers);
    for slot in 0..vms {
        let rates = (limited.then_some(u32::MAX), limited.then_some(1 << 40));
        let (messages_per_second, bytes_per_second) = rates;
        fairness.add_vm(slot, &VmPolicy { messages_per_second, bytes_per_second, ..policy(1) });
    }
    let ready = u128::MAX >> (128 - vms);
    let mut remote = VecDeque::with_capacity(buffers.into());
    let mut free: VecDeque<u16> = (0..buffers).collect();
    let (mut sent, mut passes) = (0_u32, 0_u32);
    let begin = Instant::now();
    while sent < MESSAGES {
        fairness.begin(black_box(ready), black_box(start));
        while let Some(slot) = fairness.next() {
            while fairness.turn_goes_on() {
                if fairness.may_send(black_box(slot), black_box(496)) == Verdict::Send {
                    let buffer = free.pop_front().unwrap();
                    fairness.sent(slot, buffer, black_box(496));
                    remote.push_back(buffer);
                    sent += 1;
                }
            }
        }
        for _ in 0..consumed.min(remote.len()) {
            let buffer = remote.pop_front().unwrap();
            black_box(fairness.returned(buffer));
            free.push_back(buffer);
        }
        passes += 1;
    }
    (begin.elapsed().as_secs_f64() * 1e9 / f64::from(sent), f64::from(sent) / f64::from(passes))
}

#[test]
#[ignore = "prints figures"]
fn a_decision_takes_a_few_nanoseconds_with_any_number_of_vms() {
    for limited in [false, true] {
        for (vms, buffers, consumed) in [
            (1, 256, 256),
            (8, 256, 256),
            (64, 256, 256),
            (127, 256, 256),
            (1, 256, 32),
            (64, 256, 32),
            (64, 256, 1),
            (64, 64, 64),
            (64, 8, 8),
        ] {
            let (nanos, per_pass) = nanos_per_message(vms, buffers, consumed, limited);
            println!(
                "{vms:3} VMs, {buffers:3} buffers, {consumed:3} returned per pass, limits: {limited:5}: \
                 {nanos:5.2} ns per message, {per_pass:5.1} messages per pass"
            );
        }
    }
}
