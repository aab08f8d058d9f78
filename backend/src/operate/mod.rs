//! Running the program: the command line, the configuration, and the plan that both resolve to.
//!
//! Here ends what a person has typed: whatever leaves this room as a [`plan::Plan`] has been checked, and `serve`
//! starts what it says.
//!
//! | module | what is in it |
//! |---|---|
//! | [`cli`] | command line to [`cli::Action`] |
//! | [`config`] | TOML file to [`plan::Plan`]; the reference of its keys is `backend/docs/configuration.md` |
//! | [`plan`] | remotes, their memory, VMs, their sockets and slots; prints itself for `check` |
//! | [`serve`] | starts what the plan says, waits for the end, and ends it in order |
//! | [`sockets`] | the vhost-user sockets: made at a path, or inherited |
//! | `ferry` | serves an inherited socket that is connected already |
#![forbid(unsafe_code)]

pub mod cli;
pub mod config;
mod ferry;
pub mod plan;
pub mod serve;
pub mod sockets;
