//! What guests do at a relay whose remote behaves, held against a simple model.
//!
//! The model: what a guest sends to an echo service comes back to the endpoint that sent it, unchanged, in order, once;
//! what does not come back has been counted as dropped; nobody gets anything else. Guests pause, reboot, keep their
//! buffers, go away; the remote reboots. Messages say whose they are, from which life of the guest, and their number.

use std::collections::VecDeque;
use std::time::Duration;

use libfuzzer_sys::arbitrary::{Result, Unstructured};
use vhost_device_rpmsg::bridge::bench::Bench;
use vhost_device_rpmsg::bridge::counters::Reason;
use vhost_device_rpmsg::bridge::policy::{
    AddressBits, Mode, Pattern, Policy, Reply, Rule, Slots, Turns, Unsolicited,
};
use vhost_device_rpmsg::guest::port::QueueIndex;
use vhost_device_rpmsg::rpmsg::{Announcement, Header, MAX_PAYLOAD, NAME_SERVICE_ADDRESS};
use vhost_device_rpmsg::softcore::{Config, Habits, Kind, ServiceSpec, UsedLength};

use crate::log_to_nobody;

/// Endpoints that each guest has.
const ENDPOINTS: u32 = 3;
/// Services that send each message back.
const ECHOES: [&str; 2] = ["rpmsg-raw", "rpmsg-tty"];
/// Length of a guest's receive buffers in bytes.
const BUFFER: u32 = 512;

/// The data are the arrangement and the steps.
pub fn run(data: &[u8]) {
    log_to_nobody();
    let _ended = steps(&mut Unstructured::new(data));
}

/// What the model knows of one guest.
#[derive(Default)]
struct Model {
    /// Messages that are to come back, by endpoint and service: the numbers, in order.
    expected: Vec<VecDeque<(u32, usize)>>,
    /// Number of the guest's life.
    life: u8,
    /// Messages sent so far.
    sent: u32,
    /// Messages that were skipped: the model has seen a later one.
    missing: u64,
    /// Receive buffers that the guest keeps.
    kept: Vec<u16>,
    paused: bool,
    /// Whether messages may have gone with a life or with the remote, of which there is no exact count.
    inexact: bool,
}

impl Model {
    fn new() -> Self {
        let pairs = ENDPOINTS as usize * ECHOES.len();
        Model { expected: vec![VecDeque::new(); pairs], ..Model::default() }
    }

    /// All that is on its way may be lost now, or come later.
    fn lose_track(&mut self) {
        self.inexact = true;
    }

    /// Checks what the guest was given.
    fn check(&mut self, vm: usize, header: Header, payload: &[u8], echoes: &[u32]) {
        if header.dst == NAME_SERVICE_ADDRESS {
            Announcement::from_bytes(payload).expect("an announcement");
            return;
        }
        assert_eq!(header.reserved, 0);
        assert!(
            (1024..1024 + ENDPOINTS).contains(&header.dst),
            "{:#x} is no endpoint of the guest's",
            header.dst
        );
        let service =
            echoes.iter().position(|echo| *echo == header.src).expect("from a service that was asked");
        let (number, rest) = payload.split_first_chunk().expect("our own message");
        assert_eq!(usize::from(rest[0]), vm, "another guest's message");
        assert_eq!(rest[1], self.life, "a message for a guest of an earlier life");
        assert!(rest[2..].iter().all(|byte| *byte == 0xE7), "payload of the message");
        let number = u32::from_le_bytes(*number);
        let expected = &mut self.expected[(header.dst - 1024) as usize * ECHOES.len() + service];
        loop {
            let (next, len) = expected.pop_front().expect("no message comes twice, or that was not sent");
            if next == number {
                assert_eq!(payload.len(), len);
                return;
            }
            assert!(next < number, "message {number} before {next}");
            self.missing += 1;
        }
    }
}

fn habits(data: &mut Unstructured<'_>) -> Result<Habits> {
    Ok(Habits {
        used_length: if data.arbitrary()? { UsedLength::Buffer } else { UsedLength::Exact },
        scribble_reserved: data.arbitrary()?,
        shuffle: data.int_in_range(0..=3)?,
        seed: data.arbitrary::<u8>()?.into(),
        silent_consume: data.arbitrary()?,
        suppress_kicks: data.arbitrary()?,
        ..Habits::default()
    })
}

fn policy(data: &mut Unstructured<'_>) -> Result<Policy> {
    let turns = Turns {
        reply: Reply::One,
        time_out: Duration::from_secs(1),
        quarantine: Duration::from_secs(1),
        unsolicited: Unsolicited::Drop,
    };
    let mode = match data.int_in_range(0..=2)? {
        0 => Mode::Shared,
        1 => Mode::Exclusive { owner: None },
        _ => Mode::Serialized(turns),
    };
    let rule = Rule { pattern: Pattern::new(ECHOES[1]), visible_to: Slots::ALL, mode };
    let address_bits = if data.ratio(1, 4)? { AddressBits::Low16 } else { AddressBits::All };
    Ok(Policy { rules: vec![rule], address_bits, ..Policy::default() })
}

fn steps(data: &mut Unstructured<'_>) -> Result<()> {
    let config = Config {
        buffers: 8 << data.int_in_range(0..=2)?,
        services: vec![ServiceSpec::of_kind(Kind::Raw), ServiceSpec::of_kind(Kind::Tty)],
        habits: habits(data)?,
        ..Config::default()
    };
    let slots: &[u8] = [&[1][..], &[1, 2], &[5, 126, 9]][data.int_in_range(0..=2_usize)?];
    let mut bench = Bench::with_policy(config, slots, policy(data)?);
    let echoes = ECHOES.map(|name| bench.service(name));
    let mut models: Vec<_> = slots.iter().map(|_| Model::new()).collect();
    while !data.is_empty() {
        let vm = data.int_in_range(0..=slots.len() - 1)?;
        let model = &mut models[vm];
        match data.int_in_range(0..=11)? {
            0..=3 => send(&mut bench, vm, model, &echoes, data)?,
            4 => {
                bench.hear();
                bench.sweep();
            }
            5 => {
                bench.step_core();
            }
            6 => {
                receive(&mut bench, vm, model, &echoes);
            }
            // Keeps a buffer.
            7 => {
                if let Some((id, header, payload)) = bench.guests[vm].receive_and_keep() {
                    model.check(vm, header, &payload, &echoes);
                    model.kept.push(id);
                }
            }
            8 => give_back(&mut bench, vm, model),
            9 => {
                if model.paused {
                    bench.start(vm)
                } else {
                    bench.stop(vm)
                }
                model.paused = !model.paused;
            }
            // A new driver: what is on its way to the old one must not reach it.
            10 if data.ratio(1, 4)? => {
                bench.stop(vm);
                let was_used = bench.guests[vm].next_used(QueueIndex::ToGuest).is_some() || model.sent > 0;
                bench.guests[vm].reset();
                bench.start(vm);
                // Rings that were never used look the same before and after, and it is no other life then.
                if was_used {
                    let life = model.life.wrapping_add(1);
                    *model = Model { life, sent: model.sent, inexact: true, ..Model::new() };
                }
                model.kept.clear();
                model.paused = false;
                // There are 16 numbers of sessions: what is on its way to one must not stay there until its number comes again.
                if model.life.is_multiple_of(8) {
                    bench.settle();
                }
            }
            10 => {
                let passed = Duration::from_millis(data.arbitrary::<u16>()?.into());
                bench.settle();
                // A remote that answers later than a time-out cannot be told from one that answers something else. It does
                // so where its only guest takes nothing, which blocks it.
                let is_alone = slots.len() == 1;
                if is_alone && (model.paused || !model.kept.is_empty()) {
                    continue;
                }
                if is_alone {
                    take_all(&mut bench, &mut models, &echoes);
                }
                bench.now += passed;
                bench.pass_time();
            }
            _ if data.ratio(1, 4)? => {
                bench.core.reboot().expect("the core's memory is its own");
                models.iter_mut().for_each(Model::lose_track);
            }
            _ => bench.settle(),
        }
    }
    finish(&mut bench, &mut models, &echoes);
    Ok(())
}

fn send(
    bench: &mut Bench,
    vm: usize,
    model: &mut Model,
    echoes: &[u32],
    data: &mut Unstructured<'_>,
) -> Result<()> {
    let service = data.int_in_range(0..=ECHOES.len() - 1)?;
    // An exclusive service answers the endpoint that its owner has sent from last.
    let endpoint = if service == 0 { data.int_in_range(0..=ENDPOINTS - 1)? } else { 0 };
    let len = usize::from(data.int_in_range(6..=MAX_PAYLOAD as u16)?);
    let mut payload = vec![0xE7; len];
    payload[..4].copy_from_slice(&model.sent.to_le_bytes());
    payload[4] = vm.try_into().expect("a few guests");
    payload[5] = model.life;
    if bench.guests[vm].send(1024 + endpoint, echoes[service], &payload) {
        model.expected[endpoint as usize * ECHOES.len() + service].push_back((model.sent, len));
        model.sent += 1;
    }
    Ok(())
}

/// Takes all that there is. Returns whether there was something.
fn receive(bench: &mut Bench, vm: usize, model: &mut Model, echoes: &[u32]) -> bool {
    let mut has_some = false;
    while let Some((header, payload)) = bench.guests[vm].receive() {
        model.check(vm, header, &payload, echoes);
        has_some = true;
    }
    has_some
}

/// What the remote has to say is said, and every guest has taken what is for it.
fn take_all(bench: &mut Bench, models: &mut [Model], echoes: &[u32]) {
    loop {
        bench.settle();
        let mut has_more = false;
        for (vm, model) in models.iter_mut().enumerate().filter(|(_, model)| !model.paused) {
            has_more |= receive(bench, vm, model, echoes);
        }
        if !has_more {
            return;
        }
    }
}

fn give_back(bench: &mut Bench, vm: usize, model: &mut Model) {
    for id in model.kept.drain(..) {
        bench.guests[vm].give(QueueIndex::ToGuest, id, BUFFER);
    }
}

/// Everyone is well again: all that is to come has come when there is nothing left to do.
fn finish(bench: &mut Bench, models: &mut [Model], echoes: &[u32]) {
    for _ in 0..64 {
        for (vm, model) in models.iter_mut().enumerate() {
            if std::mem::take(&mut model.paused) {
                bench.start(vm);
            }
            give_back(bench, vm, model);
        }
        take_all(bench, models, echoes);
        // Time-outs, quarantines, handovers.
        bench.now += Duration::from_secs(1);
        bench.pass_time();
    }
    take_all(bench, models, echoes);
    for (vm, model) in models.iter_mut().enumerate() {
        let left: usize = model.expected.iter().map(VecDeque::len).sum();
        let missing = model.missing + left as u64;
        let counters = bench.figures(vm);
        let dropped: u64 = Reason::ALL.iter().map(|reason| counters.dropped(*reason)).sum();
        // A late answer to a serialized service has been counted as a time-out.
        let accounted = dropped + counters.time_outs;
        assert!(
            model.inexact || missing == accounted,
            "{missing} missing, {accounted} accounted for: {counters}"
        );
    }
}
