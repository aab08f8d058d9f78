//! Everybody but the program: guests and the remote core. They go on at any time, and check what they get.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::time::{Duration, Instant};

use super::Dice;
use crate::bridge::bench::Guest;
use crate::bridge::journal::State;
use crate::bridge::policy::{Mode, Pattern, Policy, Reply, Rule, Slots, Turns, Unsolicited};
use crate::guest::port::QueueIndex;
use crate::rpmsg::address::Slot;
use crate::rpmsg::{Announcement, AnnouncementKind, NAME_SERVICE_ADDRESS, ServiceName};
use crate::softcore::{Config, Habits, Kind, Memory, ServiceSpec, SoftCore, UsedLength};

/// How the remote core treats its buffers, and what becomes of VMs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Habit {
    Orderly,
    /// It holds buffers and returns them in another order.
    Shuffling,
    /// VMs are reset again and again.
    Resetting,
    Both,
    /// It boots anew again and again, which loses what is under way.
    Rebooting,
}

impl Habit {
    pub(super) const ALL: [Habit; 5] =
        [Habit::Orderly, Habit::Shuffling, Habit::Resetting, Habit::Both, Habit::Rebooting];
}

/// A way of sharing a service: each has an echo of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Way {
    Shared,
    Serialized,
    Exclusive,
    Broadcast,
}

impl Way {
    const ALL: [Way; 4] = [Way::Shared, Way::Serialized, Way::Exclusive, Way::Broadcast];

    fn name(self) -> &'static str {
        match self {
            Way::Shared => "shared",
            Way::Serialized => "serialized",
            Way::Exclusive => "exclusive",
            Way::Broadcast => "broadcast",
        }
    }

    /// The guests' endpoint that talks to it.
    fn endpoint(self) -> u32 {
        1024 + self as u32
    }
}

/// What a VM has asked and been answered, in one way since its last reset.
#[derive(Clone, Copy, Debug, Default)]
struct Stream {
    asked: u32,
    answered: u32,
}

/// What a VM's front-end wants of the program, or has been told that it is so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum RingState {
    Stopped,
    /// The request is under way.
    Starting,
    Started,
    Stopping,
}

pub(super) struct World {
    pub(super) guests: Vec<Guest>,
    pub(super) slots: Vec<Slot>,
    core: SoftCore,
    doorbell: UnixStream,
    /// The program's end of the doorbell, which outlives the program.
    pub(super) host: UnixStream,
    pub(super) state: State,
    pub(super) policy: Policy,
    pub(super) now: Instant,
    dice: Dice,
    resets: bool,
    reboots: bool,
    /// Whether a core that has booted may have lost something.
    is_lossy: bool,
    is_asking: bool,
    rings: Vec<[RingState; 2]>,
    epochs: Vec<u32>,
    streams: Vec<HashMap<Way, Stream>>,
    /// Services as each guest knows them.
    known: Vec<HashMap<ServiceName, u32>>,
    /// What a subscriber of the broadcast is to get next: epoch of the owner, number.
    next_broadcast: Vec<Option<(u32, u32)>>,
    /// Messages that each guest has sent and received.
    pub(super) passed: Vec<(u64, u64)>,
    messages: u64,
    wrong: u64,
    is_broken: bool,
}

const VMS: u8 = 3;
/// What subscribes a VM to the broadcast.
const SUBSCRIPTION: &[u8] = b"subscribe";
/// The owner of the broadcast, and of the exclusive service.
const OWNER: usize = 1;

fn name(text: &str) -> ServiceName {
    ServiceName::new(text).unwrap()
}

impl World {
    pub(super) fn new(seed: u64, habit: Habit) -> Self {
        let shuffles = matches!(habit, Habit::Shuffling | Habit::Both);
        let habits = Habits {
            shuffle: if shuffles { 6 } else { 0 },
            used_length: if shuffles { UsedLength::Buffer } else { UsedLength::Exact },
            seed,
            ..Habits::default()
        };
        let services =
            Way::ALL.map(|way| ServiceSpec { kind: Kind::Raw, name: name(way.name()), address: None });
        let config =
            Config { buffers: 16, align: 16, services: services.into(), habits, ..Config::default() };
        let memory = Memory::memfd(&config.layout().unwrap()).unwrap();
        let (host, doorbell) = UnixStream::pair().unwrap();
        doorbell.set_nonblocking(true).unwrap();
        host.set_nonblocking(true).unwrap();
        let slots: Vec<_> = (0..VMS).map(|slot| Slot::new(slot).unwrap()).collect();
        let turns = Turns {
            reply: Reply::One,
            time_out: Duration::from_secs(3600),
            quarantine: Duration::from_secs(3600),
            unsolicited: Unsolicited::Drop,
        };
        let rule = |way: Way, mode| Rule { pattern: Pattern::new(way.name()), visible_to: Slots::ALL, mode };
        let rules = vec![
            rule(Way::Serialized, Mode::Serialized(turns)),
            rule(Way::Exclusive, Mode::Exclusive { owner: Some(slots[OWNER]) }),
            rule(Way::Broadcast, Mode::Broadcast { owner: Some(slots[OWNER]) }),
        ];
        let vms = usize::from(VMS);
        World {
            guests: slots.iter().map(|_| Guest::default()).collect(),
            core: SoftCore::new(config, memory).unwrap(),
            doorbell,
            host,
            state: State::forgetful().unwrap(),
            policy: Policy { rules, ..Policy::default() },
            now: Instant::now(),
            dice: Dice::new(seed ^ 0x5EED),
            resets: matches!(habit, Habit::Resetting | Habit::Both),
            reboots: habit == Habit::Rebooting,
            is_lossy: false,
            is_asking: true,
            rings: vec![[RingState::Starting; 2]; vms],
            epochs: vec![0; vms],
            streams: vec![HashMap::new(); vms],
            known: vec![HashMap::new(); vms],
            next_broadcast: vec![None; vms],
            passed: vec![(0, 0); vms],
            messages: 0,
            wrong: 0,
            is_broken: false,
            slots,
        }
    }

    /// The remote's memory: file, size, device address of the memory and of the table.
    pub(super) fn memory(&self) -> (File, usize, u64, u64) {
        let memory = self.core.memory();
        let file = memory.file().try_clone().unwrap();
        let table = self.core.layout().table_address();
        (file, usize::try_from(memory.size()).unwrap(), memory.device_address().into(), table.into())
    }

    /// Queues that a front-end has started, or is starting: what is replayed.
    pub(super) fn started(world: &Rc<RefCell<Self>>) -> Vec<(usize, QueueIndex)> {
        let world = world.borrow();
        let rings = world.rings.iter().enumerate();
        let rings = rings.flat_map(|(vm, rings)| {
            rings.iter().zip(QueueIndex::ALL).map(move |(state, index)| (vm, index, *state))
        });
        rings.filter(|(.., state)| *state != RingState::Stopped).map(|(vm, index, _)| (vm, index)).collect()
    }

    /// A request of a front-end that has not been answered: VM, queue, whether it is to be started.
    pub(super) fn wanted(world: &Rc<RefCell<Self>>) -> Option<(usize, QueueIndex, bool)> {
        let world = world.borrow();
        let mut rings = world.rings.iter().enumerate();
        rings.find_map(|(vm, rings)| {
            let waiting = |state: &RingState| matches!(state, RingState::Starting | RingState::Stopping);
            let index = rings.iter().position(waiting)?;
            Some((vm, QueueIndex::ALL[index], rings[index] == RingState::Starting))
        })
    }

    /// The program has answered it.
    pub(super) fn answered(world: &Rc<RefCell<Self>>, vm: usize, index: QueueIndex, starts: bool) {
        let mut world = world.borrow_mut();
        world.rings[vm][index as usize] = if starts { RingState::Started } else { RingState::Stopped };
        if world.rings[vm] == [RingState::Stopped; 2] {
            // The driver comes up anew.
            world.guests[vm].reset();
            world.rings[vm] = [RingState::Starting; 2];
            world.epochs[vm] += 1;
            world.streams[vm].clear();
            world.known[vm].clear();
            world.next_broadcast[vm] = None;
        }
    }

    /// At a point where the program could be killed, others may do something.
    pub(super) fn at_a_point(&mut self) {
        match self.dice.below(24) {
            0 | 1 => self.step_core(),
            2 | 3 => {
                let vm = self.any_vm();
                self.receive(vm, 3);
            }
            4 | 5 => {
                let vm = self.any_vm();
                self.ask(vm);
            }
            _ => {}
        }
    }

    /// Between two turns of the program.
    pub(super) fn between_turns(&mut self) {
        for _ in 0..6 {
            let vm = self.any_vm();
            self.ask(vm);
            self.step_core();
            self.receive(vm, 64);
        }
        if self.reboots && self.dice.below(20) == 0 {
            // A crash leaves its table as it is.
            match self.core.is_running() && self.dice.below(2) == 0 {
                true => self.core.crash(),
                false => self.core.reboot().unwrap(),
            }
            self.is_lossy = true;
        }
        if self.resets && self.dice.below(12) == 0 {
            let vm = self.any_vm();
            if self.rings[vm] == [RingState::Started; 2] {
                self.rings[vm] = [RingState::Stopping; 2];
            }
        }
    }

    pub(super) fn stop_asking(&mut self) {
        self.is_asking = false;
        self.resets = false;
        self.reboots = false;
        if !self.core.is_running() {
            self.core.reboot().unwrap();
        }
    }

    /// Everybody goes on. Returns whether anything is still to come.
    pub(super) fn go_on(&mut self) -> bool {
        for _ in 0..20 {
            self.step_core();
        }
        for vm in 0..self.guests.len() {
            self.receive(vm, 64);
        }
        let waiting =
            self.streams.iter().flat_map(HashMap::values).any(|stream| stream.answered < stream.asked);
        waiting || self.rings.iter().flatten().any(|state| *state != RingState::Started)
    }

    /// How often drivers have come up anew.
    pub(super) fn resets(&self) -> u64 {
        self.epochs.iter().map(|epoch| u64::from(*epoch)).sum()
    }

    pub(super) fn messages(&self) -> u64 {
        self.messages
    }

    /// What was lost, doubled, or came in another order.
    pub(super) fn wrong(&self) -> u64 {
        if self.is_lossy {
            return self.wrong;
        }
        let missing =
            self.streams.iter().flat_map(HashMap::values).map(|stream| stream.asked - stream.answered);
        self.wrong + missing.map(u64::from).sum::<u64>()
    }

    /// The program says that a vring is unusable, and nobody but the program can have done that.
    pub(super) fn vring_broke(&mut self) {
        self.wrong += 1;
        self.is_broken = true;
    }

    /// Whether a trial need not go on.
    pub(super) fn is_broken(&self) -> bool {
        self.is_broken
    }

    fn any_vm(&mut self) -> usize {
        usize::try_from(self.dice.below(u64::from(VMS))).unwrap()
    }

    fn step_core(&mut self) {
        let mut bytes = [0; 256];
        while let Ok(count) = self.doorbell.read(&mut bytes) {
            bytes[..count].iter().for_each(|byte| self.core.hear(*byte));
        }
        self.core.serve_once();
        self.core.rest();
        let bells = self.core.bells().waiting().to_vec();
        self.core.bells().clear();
        self.doorbell.write_all(&bells).unwrap();
    }

    /// A VM asks something, in any way.
    fn ask(&mut self, vm: usize) {
        let way = Way::ALL[usize::try_from(self.dice.below(4)).unwrap()];
        let Some(addr) = self.known[vm].get(&name(way.name())).copied() else { return };
        if !self.is_asking || way == Way::Exclusive && vm != OWNER {
            return;
        }
        if way == Way::Broadcast && vm != OWNER {
            // That subscribes it.
            if self.next_broadcast[vm].is_none() && self.guests[vm].send(way.endpoint(), addr, SUBSCRIPTION) {
                self.passed[vm].0 += 1;
            }
            return;
        }
        for _ in 0..=self.dice.below(6) {
            let stream = self.streams[vm].entry(way).or_default();
            let mut payload = Vec::new();
            for number in [u32::try_from(vm).unwrap(), self.epochs[vm], stream.asked] {
                payload.extend(number.to_le_bytes());
            }
            payload.resize(12 + usize::try_from(self.dice.below(40)).unwrap(), 0xA5);
            if self.guests[vm].send(way.endpoint(), addr, &payload) {
                self.streams[vm].entry(way).or_default().asked += 1;
                self.passed[vm].0 += 1;
            }
        }
    }

    fn receive(&mut self, vm: usize, most: usize) {
        if self.rings[vm].contains(&RingState::Stopped) {
            return;
        }
        for _ in 0..most {
            let Some((header, payload)) = self.guests[vm].receive() else { return };
            if header.dst == NAME_SERVICE_ADDRESS {
                self.told(vm, &payload);
                continue;
            }
            self.messages += 1;
            self.passed[vm].1 += 1;
            // Behind a core that has just booted the address is nobody's, to which anybody may send.
            if self.is_lossy && payload == SUBSCRIPTION {
                continue;
            }
            let way = Way::ALL.iter().find(|way| way.endpoint() == header.dst);
            let numbers: Vec<_> =
                payload.as_chunks::<4>().0.iter().take(3).map(|bytes| u32::from_le_bytes(*bytes)).collect();
            let (Some(way), [of, epoch, number]) = (way, &numbers[..]) else {
                self.wrong += 1;
                continue;
            };
            self.check(vm, *way, *of as usize, *epoch, *number);
        }
    }

    fn check(&mut self, vm: usize, way: Way, of: usize, epoch: u32, number: u32) {
        if way == Way::Broadcast && vm != OWNER {
            let expected = self.next_broadcast[vm];
            // Numbers begin anew with the owner's sessions; what was under way then may be gone.
            let is_right = of == OWNER
                && expected.is_none_or(|(last, next)| {
                    epoch > last || epoch == last && (number == next || self.is_lossy && number > next)
                });
            self.wrong += u64::from(!is_right);
            self.next_broadcast[vm] = Some((epoch, number + 1));
            return;
        }
        let stream = self.streams[vm].entry(way).or_default();
        if of != vm {
            self.wrong += 1;
        } else if epoch != self.epochs[vm] {
            // In slot 0, the identity, and behind one stable address, answers of the last session may come late.
            let may_be = vm == 0 && way == Way::Shared;
            self.wrong += u64::from(!may_be);
        } else if number == stream.answered || self.is_lossy && number > stream.answered {
            stream.answered = number + 1;
        } else {
            self.wrong += 1;
            stream.answered = stream.answered.max(number + 1);
        }
    }

    /// A guest is told of a service.
    fn told(&mut self, vm: usize, payload: &[u8]) {
        let Ok(Announcement { name, addr, kind }) = Announcement::from_bytes(payload) else {
            self.wrong += 1;
            return;
        };
        let known = self.known[vm].contains_key(&name);
        match kind {
            AnnouncementKind::Create => {
                self.wrong += u64::from(known);
                self.known[vm].insert(name, addr);
            }
            AnnouncementKind::Destroy => {
                // Nothing is ever withdrawn but with a core that boots anew.
                self.wrong += u64::from(!self.is_lossy || !known);
                self.known[vm].remove(&name);
            }
        }
    }
}
