//! The program on its core, and guests and a remote core that this process plays in turn, without sleeping.

use std::fs;
use std::time::{Duration, Instant};

use crate::cores::{FAR, NEAR, pin};
use crate::harness::driver::PATIENCE;
use crate::harness::guest::Guest;
use crate::harness::rig::{Plan, Rig};
use crate::stepped::{SERVICES, Stepped};

/// All that takes part.
pub(super) struct World {
    pub(super) remote: Stepped,
    pub(super) guests: Vec<Guest>,
    /// Ends the program when it is dropped.
    rig: Rig,
}

impl World {
    /// With so many VMs, each of which knows the services.
    pub(super) fn new(vms: u8) -> Self {
        let mut rig = Rig::prepare(Plan { vms, ..Plan::default() });
        pin(NEAR);
        let mut remote = Stepped::start(&rig);
        // What is started is pinned as who has started it.
        pin(FAR);
        rig.start_program();
        pin(NEAR);
        let mut guests: Vec<_> = (0..vms).map(|vm| rig.guest(vm)).collect();
        let start = Instant::now();
        while guests.iter().any(|guest| guest.news().len() < SERVICES) {
            assert!(start.elapsed() < PATIENCE, "stuck: a guest does not know the {SERVICES} services");
            remote.step();
            guests.iter_mut().for_each(|guest| guest.drain());
        }
        World { remote, guests, rig }
    }

    /// The time that the program has had of its core so far.
    pub(super) fn program_time(&mut self) -> Duration {
        let nanoseconds = self.of_threads("schedstat", |text| text.split(' ').next()?.parse().ok());
        Duration::from_nanos(nanoseconds)
    }

    /// How often the program's threads have gone to sleep so far, and so have been woken.
    pub(super) fn program_sleeps(&mut self) -> u64 {
        let sleeps = |line: &str| line.strip_prefix("voluntary_ctxt_switches:")?.trim().parse().ok();
        self.of_threads("status", |text| text.lines().find_map(sleeps))
    }

    /// The sum of a number that Linux keeps for each thread.
    fn of_threads(&mut self, file: &str, number: impl Fn(&str) -> Option<u64>) -> u64 {
        let threads = format!("/proc/{}/task", self.rig.program().id());
        fs::read_dir(threads)
            .expect("threads of a running program")
            .map(|thread| {
                let path = thread.expect("a thread").path().join(file);
                let text =
                    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
                number(&text).unwrap_or_else(|| panic!("no number in {}: {text}", path.display()))
            })
            .sum()
    }
}
