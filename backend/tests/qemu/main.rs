//! Stock Linux guests in QEMU, the program, and a remote core in another process: what a user does, from end to end.
//!
//! | file | what it is |
//! |---|---|
//! | `vm` | one QEMU with one guest, and the commands given to it |
//! | `qmp` | QEMU's own control socket |
//! | `complaints` | what no guest's kernel may say |
//! | `house` | remote core, program and VMs together |
//! | `guests` | every kernel on every transport: everything a guest does |
//! | `neighbours` | one VM comes and goes while another one works |
//! | `crowd` | three VMs at once, one of which floods or all of which ask the same |
//! | `remote_life` | the remote core comes and goes |
//! | `vm_life` | a VM is paused and reset |
//! | `announcing` | services of the guests' own |
//! | `loopback` | the program alone, with its built-in core |
//!
//! They take QEMU and guests from `target/`, where `ci/setup test` puts them. Every wait is for an event, with a time-out
//! that only keeps a broken test from hanging; whoever owns a process ends it by its handle.
#![forbid(unsafe_code)]

mod announcing;
mod complaints;
mod crowd;
mod guests;
mod house;
mod loopback;
mod neighbours;
mod qmp;
mod remote_life;
mod vm;
mod vm_life;

#[path = "../harness/process.rs"]
#[allow(dead_code, unreachable_pub, reason = "shared with the tests without a VMM, which use all of it")]
mod process;

#[path = "../harness/program.rs"]
#[allow(dead_code, unreachable_pub, reason = "shared with the tests without a VMM, which use all of it")]
mod program;

#[path = "../harness/softcore.rs"]
#[allow(dead_code, unreachable_pub, reason = "shared with the tests without a VMM, which use all of it")]
mod softcore;

/// Where the shared files look for it.
mod driver {
    use std::time::Duration;

    /// How long anything may take before the test counts as stuck: a guest without KVM, on a machine with other work.
    pub(super) const PATIENCE: Duration = Duration::from_secs(120);
}
