//! Running the program: the command line, the configuration, and the plan that both resolve to.
//!
//! Here ends what a person has typed: whatever leaves this room as a [`plan::Plan`] has been checked, and the rest of
//! the program starts what it says. Nothing here opens, maps or connects to anything; the only file read is the
//! configuration.
//!
//! | module | what is in it |
//! |---|---|
//! | [`cli`] | command line to [`cli::Action`] |
//! | [`config`] | TOML file to [`plan::Plan`]; the reference of its keys is `backend/docs/configuration.md` |
//! | [`plan`] | remotes, their memory, VMs, their sockets and slots; prints itself for `check` |
#![forbid(unsafe_code)]

pub mod cli;
pub mod config;
pub mod plan;
