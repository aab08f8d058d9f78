//! Running the program: the command line, the configuration, and the plan that both resolve to.
//!
//! Here ends what a person has typed: whatever leaves this room as a [`plan::Plan`] has been checked. The keeper process
//! ([`keep`]) holds the sockets that it names, and the worker process ([`work`]) starts what it says.
//!
//! | module | what is in it |
//! |---|---|
//! | [`cli`] | command line to [`cli::Action`] |
//! | [`config`] | TOML file to [`plan::Plan`]; the reference of its keys is `backend/docs/configuration.md` |
//! | [`device_tree`] | what a board's device tree says about its remote core |
//! | [`control`] | the control socket: its protocol, the program's side and the side of `vm add` |
//! | [`capture`] | captures of messages: their format, the program's side and the side of `capture` |
//! | [`plan`] | remotes, their memory, VMs, their sockets and slots; prints itself for `check`, and what of it is not on the host |
//! | [`keep`] | what the keeper process does: sockets, and the worker's requests |
//! | [`work`] | what the worker process does: starts what the plan says, waits for the end, and ends it in order |
//! | [`remotes`] | the remotes that are being served |
//! | [`vms`] | the VMs that are being served; they come and go |
//! | `requests` | what the requests of the control socket do |
//! | `events` | the flight recorder: what has happened last, in memory that outlives the worker |
//! | `last_events` | the last of them written to a file where a worker has died |
//! | [`streams`] | a remote's trace as it is written, and its memory: both sides of what the control socket streams of them |
//! | `state_files` | the files and the memory for what outlives a worker, or the program |
//! | `metrics` | what was counted, for Prometheus |
//! | [`top`] | what is counted, live on a terminal: a client |
//! | [`sockets`] | the vhost-user sockets: made at a path, or inherited |
//! | [`activation`] | sockets that the service manager has opened |
//! | [`sandbox`] | what the process that talks to guests gives up: privileges, files, system calls |
#![forbid(unsafe_code)]

pub mod activation;
pub mod capture;
pub mod cli;
pub mod config;
pub mod control;
pub mod device_tree;
mod events;
pub mod keep;
mod last_events;
mod metrics;
pub mod plan;
pub mod remotes;
mod requests;
pub mod sandbox;
pub mod sockets;
mod state_files;
pub mod streams;
pub mod top;
pub mod vms;
pub mod work;
