//! What a decision costs. Prints figures; run it with `--release -- --ignored --nocapture`.

use std::hint::black_box;

use super::*;

/// Everything that the scheduler is asked and told of a message: turns, verdict, charge, return. The median of many
/// short runs, so that it is not the machine's other work that is measured.
fn nanos_per_message(vms: usize, buffers: u16, returned: usize, limited: bool) -> f64 {
    const RUNS: usize = 1001;
    const MESSAGES: u32 = 2000;
    let start = Instant::now();
    let mut fairness = Fairness::new(start);
    fairness.reset(buffers, buffers);
    let messages_per_second = limited.then_some(u32::MAX);
    let bytes_per_second = limited.then_some(1 << 40);
    for slot in 0..vms {
        fairness.add_vm(slot, &VmPolicy { messages_per_second, bytes_per_second, ..policy(1) });
    }
    let ready = u128::MAX >> (SLOTS - vms);
    let mut free: Vec<u16> = (0..buffers).collect();
    let mut remote = VecDeque::with_capacity(buffers.into());
    let mut nanos = Vec::with_capacity(RUNS);
    for _ in 0..RUNS {
        let (begin, mut sent) = (Instant::now(), 0);
        while sent < MESSAGES {
            fairness.begin(black_box(ready), black_box(start));
            while let Some(slot) = fairness.next() {
                while fairness.turn_goes_on() {
                    if fairness.may_send(black_box(slot), black_box(496)) == Verdict::Send {
                        let buffer = free.pop().expect("whoever may send finds a buffer");
                        fairness.sent(slot, buffer, black_box(496));
                        remote.push_back(buffer);
                        sent += 1;
                    }
                }
            }
            for buffer in remote.drain(..returned.min(remote.len())) {
                black_box(fairness.returned(buffer));
                free.push(buffer);
            }
        }
        nanos.push(begin.elapsed().as_secs_f64() * 1e9 / f64::from(sent));
    }
    nanos.sort_by(f64::total_cmp);
    nanos[RUNS / 2]
}

#[test]
#[ignore = "prints figures"]
fn a_decision_takes_a_few_nanoseconds_with_any_number_of_vms() {
    for (vms, buffers, returned) in [
        (1, 256, 256),
        (8, 256, 256),
        (64, 256, 256),
        (127, 256, 256),
        (64, 256, 32),
        (64, 256, 1),
        (64, 8, 8),
    ] {
        let [free, limited] = [false, true].map(|limited| nanos_per_message(vms, buffers, returned, limited));
        println!(
            "{vms:3} VMs, {buffers:3} buffers, {returned:3} returned per pass: {free:5.1} ns per message, \
             {limited:5.1} ns with rate limits"
        );
    }
}
