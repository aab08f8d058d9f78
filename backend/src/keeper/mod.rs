//! The keeper: the process that a user starts, which holds what has to outlive the process that does the work.
//!
//! The program is two processes. The *keeper* reads the command line and the configuration, opens the sockets, and starts
//! the *worker*, which does all the rest. When the worker dies, another one takes its place, and no VMM notices: its
//! connection is the keeper's, and what it has said is said again to the new worker. The same way a newer version of the
//! program takes over. The keeper never touches data: rings and doorbells are shared by the worker and the VMs.
//!
//! The keeper is small and never panics whatever front-ends and workers send. What is in the configuration is not known
//! here: `operate` says which sockets there are and what becomes of the worker's requests.
//!
//! | module | what is in it |
//! |---|---|
//! | [`supervise`] | workers, one after the other, until the end |
//! | [`worker`] | a worker as the keeper has it |
//! | `program` | the executable from which workers are started |
//! | `service_manager` | what systemd is told |
//! | `restarts` | how soon a dead worker is followed by the next |
//! | [`vm`] | a VM as the keeper has it: where front-ends come in |
//! | `proxy` | one connection of a front-end, joined to whichever worker there is |
//! | `session` | what makes up a vhost-user session, and how it is replayed |
//! | `message` | messages of vhost-user |
//! | [`channel`] | calls between the two processes |
//! | [`calls`] | what either can ask of the other |
//! | [`home`] | the keeper as the worker has it |
//! | [`handover`] | how the program was started, for workers that come later |
//! | `wire` | bytes and file descriptors over a socket |
#![forbid(unsafe_code)]

pub mod calls;
pub mod channel;
#[cfg(fuzzing)]
pub mod fuzzing;
pub mod handover;
pub mod home;
mod message;
mod program;
mod proxy;
mod restarts;
mod service_manager;
mod session;
pub mod supervise;
pub mod vm;
mod wire;
pub mod worker;

pub use program::WORKER;
