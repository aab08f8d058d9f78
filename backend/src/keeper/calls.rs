//! The calls between the two processes: all that either can ask of the other.
//!
//! The worker may have been taken over by whoever it serves. So its list is fixed and typed, names things by the
//! configuration and not by paths, and the keeper checks each call against the plan.

use std::os::fd::OwnedFd;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::channel::{Call, CallError, Peer};
use crate::bridge::policy::Rule;
use crate::remote::host;
use crate::rpmsg::address::Slot;

/// What the worker asks of the keeper.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Request {
    /// How the program was started: [`Reply::Done`] with a file.
    Start {
        /// The version of these calls that the worker speaks: [`VERSION`].
        version: u32,
    },
    /// The socket for requests at run time: [`Reply::Done`] with a listener, or without one where there is none.
    Control,
    /// The socket for metrics: [`Reply::Done`] with a listener, or without one where there is none.
    Metrics,
    /// The memory for what happens, which outlives the worker: [`Reply::Done`] with a file.
    Events,
    /// The VMs that are served: [`Reply::Vms`].
    Vms,
    /// The front-ends of a VM come in at this worker from now on: [`Reply::Vm`] with a listener.
    Vm {
        /// Its name.
        name: String,
    },
    /// Serve one VM more, and open its socket: [`Reply::Done`].
    AddVm {
        /// Its keys, those of a table `[[vm]]`, with its remote and slot.
        keys: Map<String, Value>,
    },
    /// Serve a VM no more: its front-end is disconnected, and its socket gone. [`Reply::Done`].
    RemoveVm {
        /// Its name.
        name: String,
    },
    /// The rules that were set for services at run time: [`Reply::Rules`].
    Rules,
    /// Keep this rule for workers to come, in the place of one for the same names: [`Reply::Done`].
    SetRule {
        /// The rule.
        rule: Box<KeptRule>,
    },
    /// The memory that outlives workers: [`Reply::Done`] with a memfd.
    State {
        /// The name of the remote that it is about.
        remote: String,
    },
    /// Something that takes a file system or privileges, for a remote core: [`Reply::Host`], with a file where one was asked
    /// for.
    Host {
        /// The name of the remote.
        remote: String,
        /// What is asked for.
        request: host::Request,
    },
    /// Everything that was configured is being served: [`Reply::Done`].
    Serving,
    /// Put the program that is installed now in the place of this worker: [`Reply::Done`] once it is going to be done.
    Upgrade,
}

/// What comes of a [`Request`].
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reply {
    /// It is done; what there is to say is in the descriptors.
    Done,
    /// The VMs, in the order in which they were added.
    Vms(Vec<KeptVm>),
    /// The rules, those that were set last first.
    Rules(Vec<KeptRule>),
    /// What the host says.
    Host(host::Told),
    /// A VM.
    Vm {
        /// The front-end that the last worker knew is still connected, and its session is going to be replayed.
        is_connected: bool,
    },
}

/// A VM that the keeper keeps.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub struct KeptVm {
    /// Its name.
    pub name: String,
    /// Its keys where it was added at run time; those of the others are in the configuration.
    pub keys: Option<Map<String, Value>>,
}

/// A rule for services that was set at run time. The keeper knows nothing of it but whose names it is for.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub struct KeptRule {
    /// The name of the remote.
    pub remote: String,
    /// The rule.
    pub rule: Rule,
    /// The VMs that it means in particular: nobody else is to come into their rights.
    pub vms: Vec<(Slot, String)>,
}

impl KeptRule {
    /// Whether it is for the same names at the same remote.
    pub fn is_in_place_of(&self, other: &KeptRule) -> bool {
        (&self.remote, &self.rule.pattern) == (&other.remote, &other.rule.pattern)
    }
}

/// Most bytes of the rules that are kept, as they are written between the processes: some 256 rules that each name a few VMs.
pub const MAX_RULES: usize = 64 * 1024;

/// What the keeper asks of the worker.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Order {
    /// Say that you are there.
    Ping,
    /// End in good order. The reply comes at once, the end when it comes.
    End,
    /// Make room for another worker, which goes on where this one ends: everything is left as it is.
    Leave,
}

/// What comes of an [`Order`].
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Answer {
    /// It is done, or is going to be.
    Done,
}

/// Version of these lists. A worker of another version than the keeper's does not start.
pub const VERSION: u32 = 3;

impl Call for Request {
    type Reply = Reply;
}

impl Call for Order {
    type Reply = Answer;
}

/// The keeper's end of a channel.
pub type ToWorker = Peer<Order, Request>;

/// The worker's end of a channel.
pub type ToKeeper = Peer<Request, Order>;

impl ToKeeper {
    /// A request to which [`Reply::Done`] comes, perhaps with one descriptor.
    ///
    /// # Errors
    /// A refusal, and a keeper that is gone.
    pub fn request(&self, request: &Request) -> Result<Option<OwnedFd>, CallError> {
        match self.call(request, &[])? {
            (Reply::Done, fds) => Ok(fds.into_iter().next()),
            (other, _) => Err(CallError::OtherReply { found: format!("{other:?}") }),
        }
    }
}
