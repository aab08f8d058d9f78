//! What has come of a soak: of the messages, and of what the program holds.

use std::fmt;
use std::ops::AddAssign;

use crate::harness::program::{Footprint, Program};
use crate::ledger::Tally;

/// What became of the messages of VMs.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Outcome {
    /// All of them.
    pub(crate) tally: Tally,
    /// Lost, under way when the remote core was lost.
    pub(crate) with_core: u64,
    /// Lost, under way when the VM itself began anew.
    pub(crate) with_vm: u64,
}

impl Outcome {
    /// Whether each message came once, in order, as it was sent, or is known to be lost.
    pub(crate) fn is_clean(&self) -> bool {
        let Tally { lost, doubled, reordered, misdelivered, damaged, .. } = self.tally;
        lost == self.with_core + self.with_vm && [doubled, reordered, misdelivered, damaged] == [0; 4]
    }
}

impl AddAssign for Outcome {
    fn add_assign(&mut self, other: Self) {
        self.tally += other.tally;
        self.with_core += other.with_core;
        self.with_vm += other.with_vm;
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Tally { messages, lost, doubled, reordered, misdelivered, damaged } = self.tally;
        let Outcome { with_core, with_vm, .. } = self;
        write!(
            f,
            "{messages} messages; {lost} lost, of which {with_core} were under way when the core was lost and {with_vm} \
             when their VM began anew; {doubled} doubled, {reordered} reordered, {misdelivered} misdelivered, \
             {damaged} damaged"
        )
    }
}

/// How often something was done.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Events {
    pub(crate) workers: u64,
    pub(crate) crashes: u64,
    pub(crate) restarts: u64,
    pub(crate) resets: u64,
    pub(crate) reconnects: u64,
}

impl fmt::Display for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Events { workers, crashes, restarts, resets, reconnects } = self;
        write!(
            f,
            "{workers} workers killed, {crashes} crashes and {restarts} restarts of the core, {resets} resets and \
             {reconnects} disconnects of VMs"
        )
    }
}

/// What both processes of the program hold while nothing is under way.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Holding {
    keeper: Footprint,
    worker: Footprint,
}

impl Holding {
    /// What they hold now.
    pub(crate) fn of(program: &Program) -> Self {
        Holding { keeper: program.footprint_of_keeper(), worker: program.footprint_of_worker() }
    }

    /// Whether they hold no more than before.
    pub(crate) fn is_flat_since(&self, before: &Holding) -> bool {
        is_flat(before.keeper, self.keeper) && is_flat(before.worker, self.worker)
    }
}

/// Resident memory in KiB that may come and go, with the pages that happen to be touched.
const SLACK: usize = 512;
/// Mappings that may come and go: the C library keeps stacks and heaps of threads that have ended, a few of them.
const MAPPINGS: usize = 8;

fn is_flat(before: Footprint, after: Footprint) -> bool {
    (before.fds, before.threads) == (after.fds, after.threads)
        && after.mappings <= before.mappings + MAPPINGS
        && after.resident <= before.resident + SLACK
}

impl fmt::Display for Holding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, held) in [("keeper", self.keeper), ("; worker", self.worker)] {
            let Footprint { fds, threads, mappings, resident } = held;
            write!(f, "{name} {resident} KiB, {fds} descriptors, {threads} threads, {mappings} mappings")?;
        }
        Ok(())
    }
}
