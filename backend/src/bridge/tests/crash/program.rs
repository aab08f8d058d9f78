//! The program that is killed: a relay and a remote core, as the bridge's thread has them.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use super::world::World;
use crate::bridge::counters::Reason;
use crate::bridge::journal::{Journal, Saved};
use crate::bridge::policy::{Overflow, VmPolicy};
use crate::bridge::relay::Relay;
use crate::bridge::vm::Vm;
use crate::guest::port::QueueIndex;
use crate::remote::config::{MailboxConfig, MemoryConfig, RemoteConfig, VringsConfig};
use crate::remote::core::{Change, RemoteCore};

/// All that is private.
pub(super) struct Program {
    relay: Relay,
    remote: RemoteCore,
}

impl Program {
    /// Starts it, to go on where the last one was killed. Front-ends' sessions are replayed.
    pub(super) fn start(world: &Rc<RefCell<World>>) -> Self {
        let (now, config, policy, area, record, slots) = {
            let world = world.borrow();
            let (file, size, address, table) = world.memory();
            let config = RemoteConfig::attached(
                "core",
                MailboxConfig::Stream(Some(world.host.try_clone().unwrap())),
                vec![MemoryConfig::whole(file, size, address)],
                VringsConfig::Table(table),
            );
            let area = world.state.device(0);
            (world.now, config, world.policy.clone(), area, world.state.core().unwrap(), world.slots.clone())
        };
        let (mut record, saved) = record;
        let mut remote = RemoteCore::new(config, now).remembered_by(move |saved| record.keep(saved));
        let mut relay = Relay::new("core".to_owned(), policy, area, now);
        let recovered = saved.and_then(|saved| remote.go_on_from(saved, now));
        match recovered.and_then(|recovered| recovered.places.into_iter().next()) {
            Some(place) => relay.go_on(place, now),
            None => relay.gone_meanwhile(now),
        }
        for slot in slots {
            let vm = Vm::new(format!("vm{}", slot.number()), slot, VmPolicy::unlimited(Overflow::Block));
            assert!(relay.add_vm(vm, true));
        }
        relay.settle(now);
        let mut program = Program { relay, remote };
        for (vm, index) in World::started(world) {
            program.give(world, vm, index);
        }
        program
    }

    fn give(&mut self, world: &Rc<RefCell<World>>, vm: usize, index: QueueIndex) {
        let (slot, queue) = {
            let world = world.borrow();
            (world.slots[vm], world.guests[vm].queue(index))
        };
        self.relay.give_queue(slot, index, queue);
    }

    /// One turn of the event loop: what front-ends want, what the remote has to say, then all rings.
    pub(super) fn turn(&mut self, world: &Rc<RefCell<World>>) {
        world.borrow_mut().now += Duration::from_millis(25);
        while let Some((vm, index, starts)) = World::wanted(world) {
            let slot = world.borrow().slots[vm];
            self.relay.take_queue(slot, index);
            if starts {
                self.give(world, vm, index);
            }
            World::answered(world, vm, index, starts);
        }
        let now = world.borrow().now;
        self.relay.on_timer(now);
        let change = self.remote.on_timer(now);
        self.changed(change, world);
        let change = self.remote.on_mailbox(now);
        self.changed(change, world);
        for slot in world.borrow().slots.clone() {
            QueueIndex::ALL.iter().for_each(|index| self.relay.kicked(slot, *index));
        }
        loop {
            match self.relay.sweep(now, self.remote.bell()) {
                Ok(1..) => {}
                Ok(0) if self.relay.rearm() => {}
                Ok(0) => return,
                Err(_) => return world.borrow_mut().vring_broke(),
            }
        }
    }

    fn changed(&mut self, change: Option<Change>, world: &Rc<RefCell<World>>) {
        let now = world.borrow().now;
        self.remote.remember();
        match change {
            Some(Change::Attached(devices)) => {
                devices.into_iter().for_each(|device| self.relay.attached(device, now));
            }
            Some(Change::Lost(_)) => self.relay.lost(now),
            Some(change) => panic!("the line is never cut, but: {change:?}"),
            None => {}
        }
    }

    /// Messages of each VM, as they were counted: taken from it in any way, and given to it.
    pub(super) fn counted(&mut self, world: &Rc<RefCell<World>>) -> Vec<(u64, u64)> {
        let slots = world.borrow().slots.clone();
        let counted = |slot| {
            let counters = &self.relay.vm(slot)?.account.counters;
            let dropped: u64 = Reason::ALL.iter().map(|reason| counters.figures().dropped(*reason)).sum();
            let taken = counters.figures().to_remote().messages + counters.figures().subscriptions + dropped;
            Some((taken, counters.figures().to_guest().messages))
        };
        slots.into_iter().filter_map(counted).collect()
    }

    /// The journal knows all that the program knows.
    pub(super) fn check_journal(&mut self, world: &Rc<RefCell<World>>) {
        self.relay.commit();
        let (_, saved): (_, Option<Saved>) = Journal::open(world.borrow().state.device(0));
        assert_eq!(saved.unwrap(), self.relay.save());
    }
}
