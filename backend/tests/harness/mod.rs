//! The integration harness: guests without a VMM, the real program, a remote core in another process.
//!
//! | file | what it is |
//! |---|---|
//! | `ram` | guest RAM, a memfd |
//! | `ring` | the driver's side of a virtqueue |
//! | `buffers` | where a driver has rings and buffers in guest RAM |
//! | `directory` | what a guest has been told of services |
//! | `driver` | the guest's rpmsg driver, and the invariants it holds the device to |
//! | `vmm` | vhost-user messages as QEMU and Cloud Hypervisor send them |
//! | `options` | what can be chosen about a guest |
//! | `rogue` | a remote core that does as the test likes |
//! | `guest` | driver and VMM together: boot, pause, reset |
//!
//! Every wait is for an event, with a time-out that only keeps a broken test from hanging. Whoever owns a process ends it
//! by its handle.
#![allow(unreachable_pub, reason = "written as a library for the test binaries that take it in")]

pub mod buffers;
pub mod directory;
pub mod doorbell;
pub mod driver;
pub mod guest;
pub mod options;
pub mod process;
pub mod program;
pub mod ram;
pub mod rig;
pub mod ring;
pub mod rogue;
pub mod softcore;
pub mod stream;
pub mod vmm;
