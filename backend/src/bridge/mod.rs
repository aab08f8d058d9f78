//! The bridge: the only place that knows both the VMs and the remote core.
//!
//! One thread per remote core owns the remote's vrings and the virtqueues of every VM. A message goes from ring to
//! ring in one copy; there is no queue, no lock, no allocation and no other thread in between.
//!
//! | file | what is in it |
//! |---|---|
//! | [`thread`] | the bridge's thread as seen by others: how queues and orders reach it |
//! | `worker` | its event loop; in `worker/awake`, when it sleeps |
//! | `relay` | one sweep over all rings |
//! | `to_remote`, `to_guest` | one message of either direction, checked and copied |
//! | `from_remote` | whose a message from the remote is |
//! | `journal` | what makes a message pass exactly once although the program is killed |
//! | `recover` | going on where a program before this one was killed |
//! | [`tap`], [`capture`] | what somebody who captures sees of the messages |
//! | `attention` | whose rings are looked at, and who is asked to notify instead |
//! | `services` | the remote's services as the relay keeps them |
//! | `life` | VMs, drivers and remotes that come and go |
//! | `vm` | what the bridge knows of one VM: queues, session, announcements |
//! | [`directory`] | what the remote has announced, and what each VM has been told of it |
//! | `desk` | a service that VMs cannot simply share: whose turn it is, whose an answer is |
//! | `handover` | a service whose next answers are to requests of its last client |
//! | `watch` | notices a shared service that answers one client only |
//! | `aliases` | host addresses that arithmetic cannot give |
//! | `held` | messages that wait in the remote's own buffers for a slow VM |
//! | `fairness` | whose message goes next, and who may hold how many of the remote's buffers |
//! | `parties` | who talks to whom, as everybody here calls them |
//! | [`policy`] | who may see which service, how it is shared, how much a VM may take |
//! | [`counters`] | what was relayed and what was dropped, and why |
//! | [`latency`] | how long messages are in this program's hands |
//! | [`report`] | what is served and what was counted, for those who ask |
#![forbid(unsafe_code)]

mod aliases;
mod attention;
#[cfg(any(test, fuzzing, feature = "bench"))]
pub mod bench;
pub mod capture;
pub mod counters;
mod desk;
pub mod directory;
mod fairness;
mod from_remote;
mod handover;
mod held;
#[cfg(not(fuzzing))]
mod journal;
#[cfg(fuzzing)]
pub mod journal;
pub mod latency;
mod life;
mod parties;
pub mod policy;
mod recover;
mod relay;
pub mod report;
mod services;
pub mod tap;
#[cfg(test)]
mod tests;
pub mod thread;
mod to_guest;
mod to_remote;
mod vm;
mod watch;
mod worker;

pub use journal::{State, StateError};
pub use thread::{Bridge, BridgeError, CaptureError, Figures, SlotTaken, VmConfig};
