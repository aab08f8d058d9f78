//! Workers that are killed while messages pass: each arrives once and in order all the same.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{ScopedJoinHandle, scope, sleep};
use std::time::{Duration, Instant};

use crate::harness::guest::Guest;
use crate::harness::options::GuestOptions;
use crate::harness::rig::{Plan, Rig};
use crate::harness::stream::EchoStream;

const HERE: u32 = 1024;
/// Messages that a VM has under way, which is what it may have of the core's buffers in any case.
const WINDOW: u32 = 32;

/// Services of every mode, each with an echo of its own. An answer that waits for the next worker is not given up.
const RULES: &str = "[[service]]\nname = \"latching-echo\"\nmode = \"serialized\"\ntime-out = \"60min\"\n\
                     [[service]]\nname = \"exclusive\"\nmode = \"exclusive\"\nowner = \"vm2\"\n";
/// What each VM streams to.
const SERVICES: [&str; 4] = ["rpmsg-raw", "latching-echo", "exclusive", "latching-echo"];

fn rig() -> Rig {
    let core = ["rpmsg-raw", "latching-echo", "rpmsg-raw:exclusive"];
    let core = core.iter().flat_map(|service| ["--service", service]).collect();
    Rig::start_with(Plan { core, ..Plan::with_sessions(5) }, |config| config + RULES)
}

/// Streams until it is told to stop, and then until everything is back.
fn stream(guest: &mut Guest, number: u64, service: u32, is_over: &AtomicBool) -> u32 {
    let mut stream = EchoStream::new(number, HERE, service).window(WINDOW);
    while !is_over.load(Ordering::Relaxed) {
        let next = stream.sent() + 200;
        stream.run(guest, next, next.saturating_sub(WINDOW));
    }
    stream.finish(guest, 1);
    stream.received()
}

/// Kills the worker again and again while four VMs stream and a fifth asks. Returns how many messages were streamed, and how
/// long each answer took to a question that was asked at the moment of a kill.
fn killed(times: usize, mut pause: impl FnMut() -> Duration) -> (u32, Vec<Duration>) {
    let mut rig = rig();
    let mut guests: Vec<_> = (0..4).map(|vm| rig.guest_with(vm, GuestOptions::default())).collect();
    let services: Vec<_> =
        guests.iter_mut().zip(SERVICES).map(|(guest, service)| guest.wait_service(service)).collect();
    let mut asking = rig.guest(4);
    let raw = asking.wait_service("rpmsg-raw");
    let program = rig.program();
    let is_over = AtomicBool::new(false);
    let mut waits = Vec::new();
    let received = scope(|scope| {
        let streams: Vec<_> = (0..)
            .zip(guests.iter_mut().zip(services))
            .map(|(number, (guest, service))| {
                let is_over = &is_over;
                scope.spawn(move || stream(guest, number, service, is_over))
            })
            .collect();
        for _ in 0..times {
            sleep(pause());
            program.kill_worker();
            let killed = Instant::now();
            asking.echo(HERE, raw, b"is anybody there?");
            waits.push(killed.elapsed());
            if streams.iter().any(ScopedJoinHandle::is_finished) {
                break;
            }
        }
        is_over.store(true, Ordering::Relaxed);
        streams.into_iter().map(|stream| stream.join().expect("a stream without a fault")).sum()
    });
    assert_eq!(waits.len(), times);
    (received, waits)
}

#[test]
fn nothing_is_lost_doubled_or_reordered_while_workers_are_killed() {
    let mut millis = (0..).map(|round| Duration::from_millis(round * 7 % 40));
    let (received, _) = killed(12, || millis.next().expect("no end"));
    assert!(received > 500, "{received}");
}

/// As many kills as the variable `KILLS` says, for `ci/crash`.
#[test]
#[ignore = "takes as long as it is told"]
fn workers_are_killed_at_random_as_often_as_told() {
    let times: usize = std::env::var("KILLS").map_or(10_000, |text| text.parse().expect("a number"));
    let (mut state, mut kills) = (1_u64, 0);
    let (received, mut waits) = killed(times, || {
        if kills % (times / 10).max(1) == 0 {
            println!("{kills} of {times} workers killed");
        }
        kills += 1;
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        Duration::from_micros((state >> 33) % 15_000)
    });
    waits.sort_unstable();
    let at = |percent: usize| waits[(waits.len() * percent / 100).min(waits.len() - 1)].as_secs_f64() * 1e3;
    println!(
        "{times} workers killed at random times: {received} messages, 0 lost, doubled or reordered; from the kill to the first \
         relayed message p50 {:.1} ms, p99 {:.1} ms, max {:.1} ms",
        at(50),
        at(99),
        at(100)
    );
}
