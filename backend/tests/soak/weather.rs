//! What happens to the VMs, the core and the program: the storm, the calm in between, and the forecast.

use std::sync::atomic::Ordering;
use std::sync::mpsc::{Sender, channel};
use std::thread::{ScopedJoinHandle, scope, sleep};
use std::time::{Duration, Instant};

use crate::account::{Events, Holding, Outcome};
use crate::harness::rig::{Plan, Rig};
use crate::harness::softcore::Softcore;
use crate::vm::{Order, Pace, live};

/// How many VMs there are.
const VMS: u8 = 8;
/// Part of what the machine carries that the VMs send, in percent.
const LOAD: u64 = 80;
/// From one line about how it goes to the next.
const LINE: Duration = Duration::from_secs(10);
/// Longest measurement of what the machine carries.
const LONGEST: Duration = Duration::from_secs(5);
/// Time in which everything is put away that has gone before.
const CALM: Duration = Duration::from_millis(500);
/// Milliseconds from one event to the next, at most.
const PAUSE: u64 = 300;
/// Milliseconds that the core is away, at most.
const AWAY: u64 = 60;

/// More messages than may have come back and not been counted yet: twice what all VMs may have under way.
const UNDER_WAY: u64 = 512;

/// A VM in a thread of its own.
struct Hand<'scope> {
    orders: Sender<Order>,
    thread: ScopedJoinHandle<'scope, Outcome>,
}

/// Soaks for so long, and prints how it goes. Panics if anything has been lost without a reason, or has grown.
pub(crate) fn soak(length: Duration) {
    let rig = Rig::start(Plan::with_sessions(VMS));
    let sockets: Vec<_> = (0..VMS).map(|vm| rig.socket(vm)).collect();
    let pace = Pace::default();
    scope(|scope| {
        let vms = sockets.iter().zip(0..).map(|(socket, number)| {
            let (orders, taken) = channel();
            let pace = &pace;
            Hand { orders, thread: scope.spawn(move || live(socket, number, &taken, pace)) }
        });
        let now = Instant::now();
        let weather = Weather {
            rig,
            vms: vms.collect(),
            pace: &pace,
            dice: 1,
            events: Events::default(),
            consumed: 0,
            received_at_kill: 0,
            begun: now,
            line: (now, 0),
        };
        weather.go_through(length);
    });
}

/// The world and what has happened to it.
struct Weather<'scope> {
    rig: Rig,
    vms: Vec<Hand<'scope>>,
    pace: &'scope Pace,
    dice: u64,
    events: Events,
    /// Messages consumed by cores that are gone.
    consumed: u64,
    /// Messages that had come back when the last worker was killed.
    received_at_kill: u64,
    begun: Instant,
    /// When the last line was printed, and how many messages had come back by then.
    line: (Instant, u64),
}

impl Weather<'_> {
    fn go_through(mut self, length: Duration) {
        let carried = self.measure(LONGEST.min(length / 10));
        let wanted = carried * LOAD / 100;
        self.pace.interval.store(1_000_000_000 * u64::from(VMS) / wanted.max(1), Ordering::Relaxed);
        println!("{VMS} VMs: {carried} messages/s at most, {wanted} messages/s from now on");

        self.storm(length / 4, true);
        let warm = self.hold_after(length / 8);
        self.storm(length / 4, true);
        let later = self.hold_after(length / 8);
        self.storm(length / 8, false);
        let old = self.hold();

        let Weather { mut rig, vms, events, begun, consumed: earlier, .. } = self;
        let mut outcome = Outcome::default();
        for Hand { orders, thread } in vms {
            drop(orders);
            outcome += thread.join().expect("a VM without a fault");
        }
        let consumed = earlier + consumed(rig.core());
        println!("after {} s: {events}\n{outcome}", begun.elapsed().as_secs());
        println!("{consumed} messages were consumed by the core");
        println!(
            "held after warming up: {warm}\nby a later worker:     {later}\nby that when older:    {old}"
        );
        assert!(outcome.is_clean(), "a message is lost without a reason: {outcome:?}");
        assert!(later.is_flat_since(&warm) && old.is_flat_since(&later), "something grows");
        // The core answers all that it consumes; only the VM that has asked may miss the answer.
        let received = outcome.tally.messages;
        assert!(
            (received..=received + outcome.with_vm).contains(&consumed),
            "an answer is lost without a reason"
        );
    }

    /// How many messages come back to all VMs in a second if they are as fast as they can.
    fn measure(&self, time: Duration) -> u64 {
        // They have to come up first.
        self.settle();
        self.go_on();
        let (begun, before) = (Instant::now(), self.received());
        sleep(time);
        let micros = u64::try_from(begun.elapsed().as_micros()).expect("a few seconds");
        (self.received() - before) * 1_000_000 / micros
    }

    fn received(&self) -> u64 {
        self.pace.received.load(Ordering::Relaxed)
    }

    /// Everything happens for a while; of workers, only where told so, one dies.
    fn storm(&mut self, time: Duration, kills: bool) {
        let end = Instant::now() + time;
        while Instant::now() < end {
            self.sleep(PAUSE);
            match self.below(10) {
                0..=4 if kills => self.kill_worker(),
                0..=5 => self.crash_core(kills),
                6 => self.restart_core(kills),
                7 | 8 => self.reset_vm(),
                _ => self.reconnect_vm(),
            }
            self.say_how_it_goes();
        }
    }

    fn say_how_it_goes(&mut self) {
        let (last, before) = self.line;
        let now = Instant::now();
        if now - last < LINE {
            return;
        }
        let received = self.received();
        let rate =
            (received - before) * 1000 / u64::try_from((now - last).as_millis()).expect("not for ever");
        self.line = (now, received);
        println!("{:5} s: {rate:7} messages/s; {}", self.begun.elapsed().as_secs(), self.events);
    }

    /// What the program holds when its worker has been through a storm of this length, and no other.
    fn hold_after(&mut self, storm: Duration) -> Holding {
        self.kill_worker();
        self.storm(storm, false);
        self.hold()
    }

    /// What the program holds after a calm, with nothing under way.
    fn hold(&mut self) -> Holding {
        sleep(CALM);
        self.settle();
        let holding = Holding::of(self.rig.program());
        self.go_on();
        holding
    }

    /// Waits until nothing is under way.
    fn settle(&self) {
        let (settled, all) = channel();
        for vm in &self.vms {
            order(vm, Order::Settle(settled.clone()));
        }
        for _ in &self.vms {
            all.recv().expect("a VM without a fault");
        }
    }

    fn go_on(&self) {
        self.vms.iter().for_each(|vm| order(vm, Order::GoOn));
    }

    // ----- events

    /// Kills the worker, unless it has not relayed anything yet: of workers that die before they serve, the keeper takes only
    /// so many.
    fn kill_worker(&mut self) {
        let received = self.received();
        if received > self.received_at_kill + UNDER_WAY {
            self.rig.program().kill_worker();
            self.received_at_kill = self.received();
            self.events.workers += 1;
        }
    }

    fn crash_core(&mut self, kills: bool) {
        self.rig.core().command("crash");
        self.while_the_core_is_away(kills);
        self.rig.core().command("reboot");
        self.events.crashes += 1;
    }

    fn restart_core(&mut self, kills: bool) {
        // Standing still, so that what it has counted is all that it has done.
        self.rig.core().command("hang");
        self.consumed += consumed(self.rig.core());
        self.rig.kill_core();
        self.while_the_core_is_away(kills);
        self.rig.start_core();
        self.events.restarts += 1;
    }

    /// More may happen meanwhile.
    fn while_the_core_is_away(&mut self, kills: bool) {
        self.sleep(AWAY);
        match self.below(6) {
            0 if kills => self.kill_worker(),
            1 => self.reset_vm(),
            2 => self.reconnect_vm(),
            _ => {}
        }
        self.sleep(AWAY);
    }

    fn reset_vm(&mut self) {
        self.order_one(Order::Reset);
        self.events.resets += 1;
    }

    fn reconnect_vm(&mut self) {
        self.order_one(Order::Reconnect);
        self.events.reconnects += 1;
    }

    fn order_one(&mut self, what: Order) {
        let vm = usize::try_from(self.below(u64::from(VMS))).expect("a few");
        order(&self.vms[vm], what);
    }

    // ----- chance

    fn sleep(&mut self, most: u64) {
        sleep(Duration::from_millis(self.below(most)));
    }

    /// A number that looks as if it was drawn (Knuth's MMIX generator).
    fn below(&mut self, limit: u64) -> u64 {
        self.dice = self.dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.dice >> 33) % limit
    }
}

/// Messages that a core has consumed, in this boot and in earlier ones.
fn consumed(core: &mut Softcore) -> u64 {
    core.total("received") + core.total("earlier_received")
}

fn order(vm: &Hand<'_>, what: Order) {
    vm.orders.send(what).expect("a VM without a fault");
}
