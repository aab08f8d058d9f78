//! What one relayed message costs the relay itself: the guest and the remote core are in this thread too, and what they do is not
//! counted.
//!
//! `cargo bench --features bench --bench relay` prints nanoseconds. `ci/instructions` has valgrind count what is done in
//! [`Bench::poll`] instead, and compares it with bounds: instructions do not depend on what else the machine does.
#![forbid(unsafe_code)]

use std::hint::black_box;
use std::time::{Duration, Instant};

use clap::{Parser, ValueEnum};
use vhost_device_rpmsg::bridge::bench::Bench;
use vhost_device_rpmsg::guest::port::QueueIndex;
use vhost_device_rpmsg::softcore::{Config, Habits};

/// `VIRTQ_AVAIL_F_NO_INTERRUPT`
const AVAIL_NO_INTERRUPT: u16 = 1;
/// Times that a measurement is repeated.
const REPETITIONS: usize = 9;
/// The guest's endpoint.
const HERE: u32 = 1024;

/// Measures the relay
#[derive(Parser)]
struct Arguments {
    /// Only messages that go this way, once, without the clock
    #[arg(long, requires = "batch")]
    count: Option<Way>,
    /// Messages that are there at a time
    #[arg(long)]
    batch: Option<u32>,
    /// Messages in all
    #[arg(long, default_value_t = 64_000)]
    messages: u32,
    /// What `cargo bench` passes to every benchmark
    #[arg(long, hide = true)]
    bench: bool,
}

/// What there is for the relay to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Way {
    /// To the sink of the remote core
    ToRemote,
    /// To the echo of the remote core and back
    Echo,
    /// Nothing: it looks, and finds that out
    Idle,
}

/// A guest and a remote core that look at their rings all the time, and want no notification.
fn awake() -> Bench {
    let habits = Habits { suppress_kicks: true, ..Habits::default() };
    let mut bench = Bench::new(Config { habits, ..Config::default() }, &[0]);
    bench.guests[0].announcements();
    bench.settle();
    for queue in QueueIndex::ALL {
        let flags = bench.guests[0].ring_of(queue).available();
        bench.guests[0].write(AVAIL_NO_INTERRUPT, flags);
    }
    bench.kick();
    bench.poll_core();
    bench
}

/// Relays so many batches of messages. `poll` has the relay do its part.
fn relay(
    bench: &mut Bench,
    way: Way,
    batch: u32,
    batches: u32,
    payload: &[u8],
    mut poll: impl FnMut(&mut Bench),
) {
    let service = bench.service(if way == Way::Echo { "rpmsg-raw" } else { "sink" });
    for _ in 0..batches {
        if way == Way::Idle {
            (0..batch).for_each(|_| poll(bench));
            continue;
        }
        for _ in 0..batch {
            assert!(bench.guests[0].send(HERE, service, payload), "a transmit buffer");
        }
        poll(bench);
        bench.poll_core();
        if way == Way::Echo {
            poll(bench);
            for _ in 0..batch {
                bench.guests[0].receive().expect("an echo");
            }
        }
    }
}

/// Nanoseconds of the relay for one message, there or there and back.
pub(crate) fn time(way: Way, batch: u32, messages: u32, payload: &[u8]) -> f64 {
    let clock = clock();
    let mut bench = awake();
    let mut figures: Vec<_> = (0..REPETITIONS)
        .map(|_| {
            let mut spent = Duration::ZERO;
            relay(&mut bench, way, batch, messages / batch, payload, |bench| {
                let start = Instant::now();
                bench.poll();
                spent += start.elapsed().saturating_sub(clock);
            });
            spent.as_secs_f64() * 1e9 / f64::from(messages / batch * batch)
        })
        .collect();
    figures.sort_by(f64::total_cmp);
    figures[REPETITIONS / 2]
}

/// What looking at the clock twice takes.
fn clock() -> Duration {
    let mut times: Vec<_> = (0..1001).map(|_| black_box(Instant::now()).elapsed()).collect();
    times.sort();
    times[times.len() / 2]
}

fn main() {
    let Arguments { count, batch, messages, .. } = Arguments::parse();
    if let (Some(way), Some(batch)) = (count, batch) {
        return relay(&mut awake(), way, batch, messages / batch, &[7; 16], Bench::poll);
    }
    println!("{:>5} {:>8} {:>14} {:>14}", "batch", "bytes", "to the remote", "and back");
    for batch in batch.map_or(vec![1, 8, 32], |batch| vec![batch]) {
        for len in [16, 496] {
            let [there, both] =
                [Way::ToRemote, Way::Echo].map(|way| time(way, batch, messages, &vec![7; len]));
            println!("{batch:>5} {len:>8} {there:>11.1} ns {both:>11.1} ns");
        }
    }
}
