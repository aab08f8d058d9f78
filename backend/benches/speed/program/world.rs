//! The program on its core, and guests and a remote core that this process plays in turn, without sleeping.

use std::fs;
use std::time::{Duration, Instant};

use vmm_sys_util::eventfd::EventFd;

use super::sides::Sides;
use super::stepped::{ECHO, SERVICES, Stepped};
use crate::cores::{FAR, NEAR, pin};
use crate::harness::driver::{PATIENCE, TX};
use crate::harness::guest::Guest;
use crate::harness::rig::{Plan, Rig};
use crate::lean::{self, Notifications};

/// All that takes part.
pub(super) struct World {
    remote: Stepped,
    guests: Vec<Guest>,
    services: usize,
    /// The keeper and its worker.
    processes: [i32; 2],
    /// Ends the program when it is dropped.
    _rig: Rig,
}

impl World {
    /// With so many VMs, each of which knows the default services.
    pub(super) fn new(vms: u8) -> Self {
        World::with(vms, SERVICES, &[])
    }

    /// With so many VMs and services, and a program that is told more.
    pub(super) fn with(vms: u8, services: usize, arguments: &[&str]) -> Self {
        let mut rig = Rig::prepare(Plan { vms, ..Plan::default() });
        pin(NEAR);
        let remote = Stepped::start(&rig, services);
        // What is started is pinned as who has started it, and so are all threads of the program and of its worker.
        pin(FAR);
        rig.start_program_with(arguments);
        pin(NEAR);
        let keeper = i32::try_from(rig.program().id()).expect("the number of a process");
        let worker = rig.program().worker().expect("a worker").as_raw_nonzero().get();
        let guests = (0..vms).map(|vm| rig.guest(vm)).collect();
        let mut world = World { remote, guests, services, processes: [keeper, worker], _rig: rig };
        world.wait_services();
        world
    }

    /// Connects another guest as VM number `vm`, and says how long it took from its boot until it knew all services.
    pub(super) fn time_replay(&mut self, vm: usize) -> Duration {
        let guest = &mut self.guests[vm];
        guest.pause();
        let start = Instant::now();
        guest.reset_driver();
        self.wait_services();
        start.elapsed()
    }

    fn wait_services(&mut self) {
        let start = Instant::now();
        while self.guests.iter().any(|guest| guest.news().len() < self.services) {
            assert!(
                start.elapsed() < PATIENCE,
                "stuck: a guest does not know the {} services",
                self.services
            );
            self.remote.step();
            self.guests.iter_mut().for_each(|guest| guest.drain());
        }
    }

    /// Takes over the rings of all guests and of the remote core.
    pub(super) fn sides(&self, notifications: Notifications) -> Sides<'_> {
        let guests = self.guests.iter().map(|guest| lean::Guest::take_over(guest, notifications)).collect();
        let (memory, doorbell) = (self.remote.memory(), self.remote.doorbell());
        Sides { guests, remote: lean::Remote::take_over(memory, doorbell, ECHO, notifications) }
    }

    /// By which the first guest wakes the program.
    pub(super) fn kick_fd(&self) -> &EventFd {
        self.guests[0].rings()[TX].kick_fd()
    }

    /// The process that moves messages.
    pub(super) fn worker(&self) -> i32 {
        self.processes[1]
    }

    /// The time that the program has had of its core so far.
    pub(super) fn program_time(&self) -> Duration {
        let nanoseconds = self.of_threads("schedstat", |text| text.split(' ').next()?.parse().ok());
        Duration::from_nanos(nanoseconds)
    }

    /// How often the program's threads have gone to sleep so far, and so have been woken.
    pub(super) fn program_sleeps(&self) -> u64 {
        let sleeps = |line: &str| line.strip_prefix("voluntary_ctxt_switches:")?.trim().parse().ok();
        self.of_threads("status", |text| text.lines().find_map(sleeps))
    }

    /// The sum of a number that Linux keeps for each thread, over all threads of keeper and worker.
    fn of_threads(&self, file: &str, number: impl Fn(&str) -> Option<u64>) -> u64 {
        let threads = |process| {
            fs::read_dir(format!("/proc/{process}/task")).expect("threads of a running program").map(
                |thread| {
                    let path = thread.expect("a thread").path().join(file);
                    let text = fs::read_to_string(&path)
                        .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
                    number(&text).unwrap_or_else(|| panic!("no number in {}: {text}", path.display()))
                },
            )
        };
        self.processes.iter().flat_map(threads).sum()
    }
}
