//! How fairly VMs share one remote core, and what flooders cost a victim (design section 12, P8).
//!
//! One process on core 0 plays all guests and the remote core in turn, without sleeping; the real program runs on
//! core 1. Printed are figures and whether they meet their goals; the exit code says whether all do.
//!
//! Run by `cargo bench --bench sharing`.

#[path = "../tests/harness/mod.rs"]
#[allow(dead_code, reason = "the bench needs only part of the harness")]
mod harness;

#[path = "common/stepped.rs"]
#[allow(dead_code, reason = "shared with other benches")]
mod stepped;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use harness::guest::Guest;
use harness::rig::{Plan, Rig};
use rustix::process::Pid;
use rustix::thread::{CpuSet, sched_setaffinity};
use stepped::{ECHO, SERVICES, SINK, Stepped};

/// Messages of a VM's turn (design section 12).
const TURN: u32 = 8;
/// Payload of a flooder's message, in bytes.
const FLOOD_PAYLOAD: usize = 64;
/// Round trips of the victim per measurement.
const ROUND_TRIPS: usize = 4000;
/// How long throughput is measured.
const WINDOW: Duration = Duration::from_secs(2);
/// The endpoint that every guest uses.
const HERE: u32 = 1024;

/// All that takes part, with the program on core 1.
struct World {
    remote: Stepped,
    guests: Vec<Guest>,
    /// Ends the program when it is dropped.
    _rig: Rig,
}

impl World {
    fn new(vms: u8) -> Self {
        let mut rig = Rig::prepare(Plan { vms, ..Plan::default() });
        let mut remote = Stepped::start(&rig);
        rig.start_program();
        pin(rig.program().worker(), 1);
        pin(None, 0);
        let mut guests: Vec<_> = (0..vms).map(|vm| rig.guest(vm)).collect();
        // Until every guest has been told of the services.
        let start = Instant::now();
        while guests.iter().any(|guest| guest.news().len() < SERVICES) {
            assert!(start.elapsed() < Duration::from_secs(20), "services in every guest");
            remote.step();
            guests.iter_mut().for_each(|guest| guest.drain());
        }
        guests.iter_mut().for_each(|guest| guest.open(HERE));
        World { remote, guests, _rig: rig }
    }

    /// The given guests fill their transmit rings. Returns how many messages each has got rid of.
    fn flood(&mut self, flooders: std::ops::Range<usize>, sent: &mut [u64]) {
        for vm in flooders {
            while self.guests[vm].try_send(HERE, SINK, &[0; FLOOD_PAYLOAD]) {
                sent[vm] += 1;
            }
        }
        self.remote.step();
    }

    /// Round trips of guest 0 while the others flood. Returns their times, sorted.
    fn round_trips(&mut self, flooders: std::ops::Range<usize>) -> Vec<Duration> {
        let mut sent = vec![0; self.guests.len()];
        let mut times = Vec::with_capacity(ROUND_TRIPS);
        for number in 0..ROUND_TRIPS + ROUND_TRIPS / 10 {
            let start = Instant::now();
            assert!(self.guests[0].try_send(HERE, ECHO, &[7; 16]));
            while self.guests[0].try_recv().is_none() {
                self.flood(flooders.clone(), &mut sent);
            }
            // The first tenth warms up.
            if number >= ROUND_TRIPS / 10 {
                times.push(start.elapsed());
            }
        }
        times.sort();
        times
    }

    /// Messages that each of the flooders has sent within the window.
    fn throughput(&mut self, flooders: std::ops::Range<usize>) -> Vec<u64> {
        let mut sent = vec![0; self.guests.len()];
        let start = Instant::now();
        while start.elapsed() < WINDOW / 4 {
            self.flood(flooders.clone(), &mut sent);
        }
        sent.fill(0);
        let start = Instant::now();
        while start.elapsed() < WINDOW {
            self.flood(flooders.clone(), &mut sent);
        }
        sent[flooders].to_vec()
    }
}

fn pin(process: Option<Pid>, core: usize) {
    let mut set = CpuSet::new();
    set.set(core);
    if let Err(error) = sched_setaffinity(process, &set) {
        println!("cannot pin to core {core}: {error}; figures are those of an unpinned run");
    }
}

fn percentile(sorted: &[Duration], percent: usize) -> Duration {
    sorted[(sorted.len() * percent / 100).min(sorted.len() - 1)]
}

fn jain(shares: &[u64]) -> f64 {
    let sum: f64 = shares.iter().map(|share| *share as f64).sum();
    let squares: f64 = shares.iter().map(|share| (*share as f64).powi(2)).sum();
    sum * sum / (shares.len() as f64 * squares)
}

fn main() -> ExitCode {
    let mut all_met = true;
    let mut report = |what: &str, measured: String, goal: String, met: bool| {
        println!("{what:58} {measured:>14} {goal:>20}   {}", if met { "met" } else { "NOT MET" });
        all_met &= met;
    };
    println!("{:58} {:>14} {:>20}", "figure", "measured", "goal");

    let mut world = World::new(64);
    let alone = world.round_trips(0..0);
    let flooded = world.round_trips(1..64);
    let shares = world.throughput(1..64);
    drop(world);
    let total: u64 = shares.iter().sum();
    let cost = WINDOW / u32::try_from(total).unwrap_or(u32::MAX);
    let goal = percentile(&alone, 99) + cost * 64 * TURN;
    let micros = |time: Duration| format!("{:.1} us", time.as_secs_f64() * 1e6);
    println!("{:58} {:>14}", "victim alone among 63 idle VMs, median", micros(percentile(&alone, 50)));
    println!("{:58} {:>14}", "victim alone among 63 idle VMs, p99", micros(percentile(&alone, 99)));
    println!("{:58} {:>14}", "63 flooders: cost of one message", micros(cost));
    println!("{:58} {:>14}", "63 flooders: victim, median", micros(percentile(&flooded, 50)));
    let p99 = percentile(&flooded, 99);
    report(
        "63 flooders: victim, p99 (alone + VMs x 8 x cost of one)",
        micros(p99),
        format!("<= {}", micros(goal)),
        p99 <= goal,
    );
    let index = jain(&shares);
    report(
        "63 flooders: Jain index of their messages",
        format!("{index:.5}"),
        ">= 0.99".to_owned(),
        index >= 0.99,
    );

    let mut world = World::new(4);
    let others = |world: &mut World| world.throughput(1..4).iter().sum::<u64>();
    let (mut without, mut with) = (Vec::new(), Vec::new());
    for _ in 0..3 {
        without.push(others(&mut world));
    }
    // Guest 0 takes nothing any more, and asks for more answers than its share of the buffers holds.
    world.guests[0].withhold();
    for _ in 0..2000 {
        world.guests[0].try_send(HERE, ECHO, &[1; 16]);
        world.remote.step();
        world.guests[0].drain();
    }
    for _ in 0..3 {
        with.push(others(&mut world));
    }
    without.sort_unstable();
    with.sort_unstable();
    let ratio = with[1] as f64 / without[1] as f64;
    report(
        "a VM that never takes its messages: the others' throughput",
        format!("{:.1} %", ratio * 100.0),
        ">= 95 %".to_owned(),
        ratio >= 0.95,
    );
    if all_met { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
