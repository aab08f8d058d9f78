//! The control socket: requests at run time.
//!
//! | module | what is in it |
//! |---|---|
//! | `protocol` | what a line says; the reference of the protocol is `backend/docs/control.md` |
//! | `figures` | the results of `ls`, `stats` and `events`, and how they are printed |
//! | `server` | the program's side: a thread that answers, one request at a time |
//! | [`client`] | the side of `vhost-device-rpmsg vm`, `remote`, `ls`, `stats`, `events` and `top` |
//!
//! What the requests do is not known here: the server is given a function that carries them out.

pub mod client;
mod figures;
mod protocol;
mod server;

#[cfg(fuzzing)]
pub use self::server::fuzzing;
pub(super) use self::{
    figures::{
        Events, Latencies, Listing, Percentiles, RemoteListing, RemoteStats, Stats, events as printed, time,
    },
    protocol::{
        AllRemotes, AllVms, CaptureRequest, Captured, Code, Dumped, OneRemote, OneVm, Refusal, RemoteReport,
        RemoteRequest, Request, RuleSet, RulesSet, TableReport, TraceReport, Traces, VmReport,
    },
    server::{Control, Done, Outcome, Stream},
};
