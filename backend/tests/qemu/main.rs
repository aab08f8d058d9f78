//! Stock Linux guests in QEMU, the program, and a remote core in another process: what a user does, from end to end.
//!
//! | file | what it is |
//! |---|---|
//! | `vm` | one QEMU with one guest, and the commands given to it |
//! | `qmp` | QEMU's own control socket |
//! | `complaints` | what no guest's kernel may say |
//! | `house` | remote core, program and VMs together |
//! | `board` | the same with an emulated Cortex-M3 as remote core |
//! | `cortex_m3` | what that is to the program and to guests without a VMM |
//! | `cortex_m3_guests` | what it is to stock guests |
//! | `guests` | every kernel on every transport: everything a guest does |
//! | `neighbours` | one VM comes and goes while another one works |
//! | `crowd` | three VMs at once, one of which floods or all of which ask the same |
//! | `remote_life` | the remote core comes and goes |
//! | `vm_life` | a VM is paused and reset |
//! | `worker_life` | the worker process dies, or is replaced |
//! | `patched` | a guest with a kernel that bears all that, and that watches itself |
//! | `announcing` | services of the guests' own |
//! | `loopback` | the program alone, with its built-in core |
//!
//! They take QEMU and guests from `target/`, where `ci/setup test` puts them. Every wait is for an event, with a time-out
//! that only keeps a broken test from hanging; whoever owns a process ends it by its handle.
#![forbid(unsafe_code)]

mod announcing;
mod board;
mod complaints;
mod cortex_m3;
mod cortex_m3_guests;
mod crowd;
mod guests;
mod house;
mod loopback;
mod neighbours;
mod patched;
mod qmp;
mod remote_life;
mod vm;
mod vm_life;
mod worker_life;

#[path = "../harness/mod.rs"]
#[allow(dead_code, reason = "shared with the tests without a VMM, which use all of it")]
mod harness;

use harness::{driver, process, program, softcore};
