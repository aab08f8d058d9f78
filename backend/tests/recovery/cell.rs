//! One cell of the crash matrix: the core is lost in one way, while so many VMs are idle or stream.
//!
//! Afterwards every message of every VM is accounted for, in two ways that know nothing of each other: what the VM has
//! not had an answer to is what the program has counted as dropped for it; and all that was sent was either consumed, as
//! the core counts, or dropped, as the program does.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

use vhost_device_rpmsg::remote::resource_table::ResourceTable;

use crate::harness::doorbell::Wire;
use crate::harness::rig::{Plan, Rig};
use crate::harness::softcore::DEVICE_ADDRESS;
use crate::ledger::Tally;
use crate::vm::Vm;

/// Messages that the core has room for.
const BUFFERS: u32 = 256;
/// Messages of each VM just before the event: fewer than its share of the core's buffers.
const UNDER_WAY: u32 = 64;
/// Messages that each streaming VM sends while the core is away.
const INTO_THE_VOID: u32 = 10;
/// How far the used index of a vring jumps: further than the vring is long.
const JUMP: u16 = 1000;
/// Room that the resource table has at the start of the core's memory, in bytes.
const TABLE_ROOM: usize = 1024;

/// How the core is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Event {
    /// It says that it has crashed, and boots.
    Crash,
    /// The line to its doorbell is cut while it goes on.
    Cut,
    /// Its process is killed, and another one started.
    Kill,
    /// It does nothing any more, until it is booted.
    Hang,
    /// It boots out of the blue with messages in its vrings.
    Reset,
    /// A used index is overwritten; then it boots.
    Garbage,
    /// It boots twice.
    ReadyTwice,
}

impl Event {
    /// All of them, in the order of the table.
    pub(crate) const ALL: [Event; 7] =
        [Event::Crash, Event::Cut, Event::Kill, Event::Hang, Event::Reset, Event::Garbage, Event::ReadyTwice];

    /// Whether it may cost messages of VMs that are idle: those that it takes itself, or that are sent in between.
    fn costs_messages(self) -> bool {
        matches!(self, Event::Reset | Event::Garbage | Event::ReadyTwice)
    }

    /// Whether the core stays away until it is brought back.
    fn stays_away(self) -> bool {
        !matches!(self, Event::Cut | Event::Reset | Event::ReadyTwice)
    }
}

/// What the VMs do when it happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Load {
    Idle,
    Streaming,
}

impl Load {
    pub(crate) const ALL: [Load; 2] = [Load::Idle, Load::Streaming];
}

/// What has become of all messages of a cell.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Outcome {
    /// Messages that the VMs have sent.
    pub(crate) sent: u64,
    /// Messages that the core has consumed.
    pub(crate) consumed: u64,
    /// Messages counted as lost with the core.
    pub(crate) lost: u64,
    /// Messages counted as dropped because the core was not running.
    pub(crate) not_running: u64,
    /// Messages of which nobody knows what has become, or that were counted and have arrived.
    pub(crate) unexplained: u64,
    /// What the VMs have received.
    pub(crate) received: Tally,
    /// From the moment the core was ready again, or its line cut, to the first answer to a VM.
    pub(crate) back_after: Duration,
}

impl Outcome {
    /// Whether everything is as it should be.
    pub(crate) fn is_clean(&self) -> bool {
        let Tally { doubled, reordered, misdelivered, damaged, .. } = self.received;
        self.unexplained == 0 && [doubled, reordered, misdelivered, damaged] == [0; 4]
    }
}

/// The world of one cell. Dropped in the order of its fields.
struct Cell {
    wire: Option<Wire>,
    rig: Rig,
    event: Event,
    load: Load,
    vms: Vec<Vm>,
    /// Messages consumed by cores that were killed.
    consumed: u64,
}

/// Plays a cell to its end.
pub(crate) fn play(event: Event, load: Load, count: u8) -> Outcome {
    let mut rig = Rig::prepare(Plan::with_sessions(count));
    let watch = match (event, load) {
        // Long enough for a core that lives to answer on a busy machine.
        (Event::Hang, Load::Idle) => "heartbeat = \"1s\"\n",
        (Event::Hang, Load::Streaming) => "hang-after = \"500ms\"\n",
        _ => "",
    };
    let head = "name = \"core\"\n";
    fs::write(rig.config_path(), rig.config().replacen(head, &format!("{head}{watch}"), 1)).unwrap();
    let wire = if event == Event::Cut {
        Some(rig.start_core_behind_a_wire())
    } else {
        rig.start_core();
        None
    };
    rig.start_program();
    let share = BUFFERS / u32::from(count);
    let vms = (0..count).map(|number| Vm::connect(&rig.socket(number), number, share)).collect();
    Cell { rig, wire, event, load, vms, consumed: 0 }.play()
}

impl Cell {
    fn play(mut self) -> Outcome {
        let lag = if self.load == Load::Streaming { UNDER_WAY } else { 0 };
        self.vms.iter_mut().for_each(|vm| vm.run(500, lag));
        if self.load == Load::Streaming {
            self.vms.iter_mut().for_each(|vm| vm.run(UNDER_WAY, UNDER_WAY));
        }

        let ready = self.happen();

        self.vms[0].run(1, 0);
        let back_after = ready.elapsed();
        for vm in &mut self.vms {
            vm.wait_told(2);
            vm.run(500, 0);
        }
        self.windows_are_full_again();
        self.account(back_after)
    }

    /// What the cell is about. When the core was ready again; for a line that was cut, when that was.
    fn happen(&mut self) -> Instant {
        match self.event {
            Event::Crash => drop(self.rig.core().command("crash")),
            Event::Cut => {
                let cut = Instant::now();
                self.wire.as_ref().expect("there is a wire").cut();
                self.vms.iter_mut().for_each(|vm| vm.wait_withdrawn(1));
                return cut;
            }
            Event::Kill => {
                // Standing still, so that what it has counted is all that it has done.
                self.rig.core().command("hang");
                self.consumed = self.rig.core().total("received");
                self.rig.kill_core();
            }
            Event::Hang => {
                self.rig.core().command("hang");
                if self.load == Load::Streaming {
                    self.vms.iter_mut().for_each(|vm| vm.send(UNDER_WAY));
                }
            }
            Event::Reset => {
                if self.load == Load::Idle {
                    self.rig.core().command("hang");
                    for vm in &mut self.vms {
                        vm.send(UNDER_WAY);
                        vm.flush();
                    }
                }
            }
            Event::Garbage => {
                self.rig.core().command("hang");
                // What the core has consumed is told by the index only: the program has to look at it before.
                self.vms[0].send(1);
                self.vms[0].flush();
                self.overwrite_used_index(if self.load == Load::Idle { 0 } else { 1 });
                // So that the program looks.
                self.vms[0].send(1);
            }
            Event::ReadyTwice => {}
        }
        if self.event.stays_away() {
            for vm in &mut self.vms {
                vm.wait_withdrawn(1);
                if self.load == Load::Streaming {
                    vm.send(INTO_THE_VOID);
                    vm.flush();
                }
            }
        }
        if self.event == Event::Kill {
            self.rig.start_core();
            return Instant::now();
        }
        let ready = Instant::now();
        self.rig.core().command("reboot");
        if self.event == Event::ReadyTwice {
            self.rig.core().command("reboot");
            // Answered when it has rung for the second time.
            self.rig.core().command("stats");
        }
        self.vms.iter_mut().for_each(|vm| vm.wait_withdrawn(1));
        ready
    }

    /// Has the used index of a vring jump.
    fn overwrite_used_index(&self, vring: usize) {
        let path = self.rig.place().memory;
        let bytes = fs::read(&path).unwrap();
        let table = ResourceTable::parse(&bytes[..TABLE_ROOM]).unwrap();
        let vring = &table.vdevs().next().unwrap().vrings[vring];
        let start = (vring.da.unwrap() - DEVICE_ADDRESS) as usize;
        // Behind descriptor table and available ring; its first word are flags (virtio 1.3, section 2.7).
        let num = vring.num as usize;
        let index = start + (16 * num + 2 * (3 + num)).next_multiple_of(vring.align as usize) + 2;
        let found = u16::from_le_bytes([bytes[index], bytes[index + 1]]);
        let file = File::options().write(true).open(&path).unwrap();
        file.write_all_at(&found.wrapping_add(JUMP).to_le_bytes(), index as u64).unwrap();
    }

    /// Every VM has its whole share of the core's buffers at a time.
    fn windows_are_full_again(&mut self) {
        let share = BUFFERS / u32::try_from(self.vms.len()).expect("a few VMs");
        // A core that is looked after may not stand still.
        let stands_still = self.event != Event::Hang;
        if stands_still {
            self.rig.core().command("hang");
        }
        for vm in &mut self.vms {
            vm.send(share);
            vm.flush();
        }
        if stands_still {
            self.rig.core().command("resume");
        }
        self.vms.iter_mut().for_each(|vm| vm.run(0, 0));
    }

    fn account(mut self, back_after: Duration) -> Outcome {
        let cycles: Vec<_> = self.vms.iter().map(Vm::cycles).collect();
        let allowed = if self.event == Event::ReadyTwice { 1..=2 } else { 1..=1 };
        assert!(cycles.iter().all(|cycles| allowed.contains(cycles)), "withdrawn and told again: {cycles:?}");
        let core = self.rig.core();
        let consumed = self.consumed + core.total("received") + core.total("earlier_received");
        let mut outcome = Outcome {
            sent: 0,
            consumed,
            lost: 0,
            not_running: 0,
            unexplained: 0,
            received: Tally::default(),
            back_after,
        };
        for (number, vm) in std::mem::take(&mut self.vms).into_iter().enumerate() {
            let (sent, received) = vm.finish();
            let mut dropped = self.rig.program().wait_dropped(&format!("vm{number}"), 1);
            let mut count = |reason| dropped.remove(reason).unwrap_or(0);
            let (lost, not_running) = (count("remote core lost"), count("remote core not running"));
            assert!(dropped.is_empty(), "vm{number} has lost messages for other reasons: {dropped:?}");
            outcome.sent += sent;
            outcome.received += received;
            outcome.lost += lost;
            outcome.not_running += not_running;
            outcome.unexplained += received.lost.abs_diff(lost + not_running);
        }
        outcome.unexplained += outcome.sent.abs_diff(consumed + outcome.lost + outcome.not_running);
        if self.load == Load::Idle && !self.event.costs_messages() {
            assert_eq!(outcome.lost + outcome.not_running, 0, "nothing was under way");
        }
        outcome
    }
}
