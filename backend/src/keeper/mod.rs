//! The keeper: the process that a user starts, which holds what has to outlive the process that does the work.
//!
//! | module | what is in it |
//! |---|---|
//! | [`channel`] | calls between the two processes |
//! | [`calls`] | what either can ask of the other |
//! | `wire` | bytes and file descriptors over a socket |
#![forbid(unsafe_code)]

pub mod calls;
pub mod channel;
mod wire;
