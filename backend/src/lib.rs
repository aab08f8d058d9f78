//! Lets virtual machines share a physical coprocessor over rpmsg.
//!
//! See the repository's `README.md` for what the program does; this is the map of the house. Arrows of dependency
//! point downwards; [`guest`] and [`remote`] never name each other.
//!
//! | room | what is in it |
//! |---|---|
//! | [`operate`] | command line, configuration, and the plan they resolve to |
//! | [`guest`] | the VM: vhost-user device, virtqueues in guest memory |
//! | [`remote`] | the coprocessor: carveouts, resource table, driver's side of the vrings, mailbox, life |
//! | [`rpmsg`] | what rpmsg is: header, name service, addresses. No I/O, no `unsafe`, no virtio |

pub mod guest;
pub mod operate;
pub mod remote;
pub mod rpmsg;
