//! The bridge: the only place that knows both the VMs and the remote core.
//!
//! One thread per remote core owns the remote's vrings and the virtqueues of every VM. A message goes from ring to
//! ring in one copy; there is no queue, no lock, no allocation and no other thread in between.
//!
//! | file | what is in it |
//! |---|---|
//! | [`thread`] | the event loop, and how queues reach it |
//! | `relay` | one sweep over all rings: the two directions of a message's way |
//! | `to_guest`, `to_remote` | one message of either direction, checked and copied |
//! | `vm` | what the bridge knows of one VM: queues, session, announcements |
//! | [`directory`] | what the remote has announced, and what each VM has been told of it |
//! | `held` | messages that wait in the remote's own buffers for a slow VM |
//! | [`policy`] | who may see which service, how it is shared, how much a VM may take |
//! | [`counters`] | what was relayed and what was dropped, and why |
#![forbid(unsafe_code)]

mod aliases;
pub mod counters;
mod desk;
pub mod directory;
mod held;
pub mod policy;
mod relay;
#[cfg(test)]
mod tests;
pub mod thread;
mod to_guest;
mod to_remote;
mod vm;

pub use thread::{Bridge, BridgeError, VmConfig};
