//! The built-in remote core: a simulated coprocessor firmware, the *device* side of rpmsg.
//!
//! It is what a user gets without any hardware (`loopback`), and the peer that tests and benchmarks run the host
//! side against. So it is an implementation of its own: it may know [`crate::rpmsg`] and crates, and nothing of
//! the rooms that play the host. It shares nothing with a host but memory and a doorbell.
//!
//! | file | what is in it |
//! |---|---|
//! | `config.rs` | what can be chosen: memory, buffers, services, awkward habits |
//! | `memory.rs` | the carveout: a file or memfd, mapped shared at its device address |
//! | `table.rs` | where everything lies in it, and the resource table |
//! | `rings.rs` | one vring, and the check of what the host has written about it |
//! | `service.rs`, `source.rs` | what endpoints do with messages |
//! | `desk.rs` | what the core knows apart from the rings, and its counters |
//! | `pass.rs` | one bounded round over both rings |
//! | `core.rs` | [`SoftCore`]: the life cycle; no thread, no socket, no clock of its own |
//! | `doorbell.rs` | the socket whose bytes are doorbells |
//! | `control.rs` | the commands (`announce`, `crash`, `stats`, ...) |
//! | `runner.rs` | the event loop that drives a core with a doorbell and commands |
//! | `loopback.rs` | a core on a thread of this process |
//!
//! ```
//! use vhost_device_rpmsg::softcore::{Config, spawn_loopback};
//!
//! let loopback = spawn_loopback(Config::default())?;
//! // `loopback.memory` holds a resource table now; `loopback.doorbell` is the host's end of the doorbell.
//! assert_eq!(loopback.table_address, loopback.device_address);
//! # Ok::<(), vhost_device_rpmsg::softcore::StartError>(())
//! ```
//!
//! **Not supported:** EVENT_IDX, indirect descriptors as messages, buffers of more than one descriptor, more than
//! one vdev, big-endian hosts.
#![forbid(unsafe_code)]

mod config;
mod control;
mod core;
mod desk;
mod doorbell;
mod loopback;
mod memory;
mod pass;
mod rings;
mod runner;
mod service;
mod source;
mod table;

pub use config::{Config, ConfigError, Habits, UsedLength};
pub use control::Control;
pub use core::{SoftCore, StartError};
pub use desk::AddressTaken;
pub use doorbell::{Bells, Doorbell, DoorbellError, bell};
pub use loopback::{CoreThread, Loopback, PreparedLoopback, spawn_loopback};
pub use memory::{Memory, MemoryError};
pub use pass::Served;
pub use runner::Runner;
pub use service::{Counters, Kind, ServiceSpec, ServiceSpecError};
pub use source::pattern;
pub use table::Layout;
