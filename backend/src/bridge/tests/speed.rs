//! What the journal costs a message, with the crash tests' points in it: an upper bound, for people.
//!
//! `cargo test --release --lib bridge::tests::speed -- --ignored --nocapture`

use std::time::{Duration, Instant};

use crate::bridge::bench::Bench;
use crate::bridge::journal::Journal;
use crate::softcore::Config;

const ROUNDS: u32 = 20_000;

/// Nanoseconds of the relay's time per message to the remote, in batches of so many.
fn cost(has_journal: bool, batch: u32) -> f64 {
    let mut bench = Bench::new(Config::default(), &[0]);
    bench.guests[0].announcements();
    if !has_journal {
        bench.relay.journal = Journal::open(None).0;
    }
    let sink = bench.service("sink");
    let mut spent = Duration::ZERO;
    for number in 0..ROUNDS {
        for _ in 0..batch {
            assert!(bench.guests[0].send(1024, sink, &number.to_le_bytes()));
        }
        let start = Instant::now();
        bench.sweep();
        spent += start.elapsed();
        while bench.step_core() {}
    }
    spent.as_secs_f64() * 1e9 / f64::from(ROUNDS * batch)
}

#[test]
#[ignore = "prints figures"]
fn what_the_journal_costs_a_message() {
    for batch in [1, 8, 32] {
        let mut figures: Vec<_> = (0..5).map(|_| (cost(false, batch), cost(true, batch))).collect();
        figures.sort_by(|a, b| (a.1 - a.0).total_cmp(&(b.1 - b.0)));
        let (without, with) = figures[2];
        println!("batches of {batch:2}: {without:6.1} ns a message without a journal, {with:6.1} with one");
    }
}
