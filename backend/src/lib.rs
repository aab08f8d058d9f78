//! Lets virtual machines share a physical coprocessor over rpmsg.
//!
//! See the repository's `README.md` for what the program does; this is the map of the house. Arrows of dependency
//! point downwards; [`guest`] and [`remote`] never name each other.
//!
//! | room | what is in it |
//! |---|---|
//! | [`operate`] | running the program: command line, configuration, sockets, start and stop |
//! | [`keeper`] | holds what outlives a crash: sockets, connections of VMs, the process that does the work |
//! | [`bridge`] | the only place that knows both sides: relay, service directory, fairness, journal |
//! | [`guest`] | the VM: vhost-user device, virtqueues in guest memory |
//! | [`remote`] | the coprocessor: carveouts, resource table, driver's side of the vrings, mailbox, life |
//! | [`rpmsg`] | what rpmsg is: header, name service, addresses. No I/O, no `unsafe`, no virtio |
//! | [`causes`] | an error with everything that caused it, in one line |
//! | [`log_limit`] | log lines at a bounded rate |
//! | [`torn`] | shared memory that is torn away under us, and how to survive that |
//! | [`softcore`] | the built-in remote core: a simulated firmware, the embedded default and the tests' peer |

pub mod bridge;
pub mod causes;
#[cfg(test)]
mod copied;
#[cfg(test)]
mod crash;
pub mod guest;
pub mod keeper;
pub mod log_limit;
pub mod operate;
pub mod remote;
pub mod rpmsg;
pub mod softcore;
pub mod torn;
