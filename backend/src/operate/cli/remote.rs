//! The sub-commands about the remotes of a running program.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::Action;
use super::vm::{To, absolute};
use crate::operate::control::client::Call;
use crate::operate::control::{RemoteRequest, Request};
use crate::operate::streams::StreamCall;

/// What is to be done about remotes.
#[derive(Debug, Subcommand)]
pub(super) enum RemoteCommand {
    /// Say what the remotes are doing
    List {
        #[command(flatten)]
        to: To,
    },
    /// Switch a remote on, or look for it again
    Start(One),
    /// Switch a remote off, or let go of one that somebody else has started
    Stop(One),
    /// Switch a remote off and on
    Restart {
        #[command(flatten)]
        one: One,
        /// ELF file to be loaded from now on, for a remote whose firmware is loaded by the program
        #[arg(long, value_name = "PATH", value_parser = absolute)]
        firmware: Option<String>,
    },
    /// Print what the firmware has written to its trace buffers
    Trace {
        #[command(flatten)]
        one: One,
        /// Go on with what is written to them, until Ctrl-C
        #[arg(long, short, conflicts_with = "json")]
        follow: bool,
    },
    /// Write its memory to an ELF core file, for gdb or readelf. A remote that runs goes on changing it meanwhile
    Dump {
        /// Control socket of the running program
        #[arg(long, value_name = "PATH")]
        control: PathBuf,
        /// Its name
        name: String,
        /// The file, which must not be there yet
        file: PathBuf,
    },
    /// Print the resource table as it is now
    Table(One),
}

/// One remote.
#[derive(Debug, Args)]
pub(super) struct One {
    #[command(flatten)]
    to: To,
    /// Its name
    name: String,
}

impl From<RemoteCommand> for Action {
    fn from(command: RemoteCommand) -> Self {
        let of = |One { to, name }: One, order| (to, Request::Remote { name, order });
        let (to, request) = match command {
            RemoteCommand::List { to } => (to, Request::ListRemotes),
            RemoteCommand::Start(one) => of(one, RemoteRequest::Start),
            RemoteCommand::Stop(one) => of(one, RemoteRequest::Stop),
            RemoteCommand::Restart { one, firmware } => of(one, RemoteRequest::Restart { firmware }),
            RemoteCommand::Trace { one, follow: false } => of(one, RemoteRequest::Trace),
            RemoteCommand::Trace { one: One { to, name }, follow: true } => {
                let (control, json) = to.into();
                let request = Request::Remote { name, order: RemoteRequest::Follow };
                return Action::Stream(StreamCall { call: Call { control, request, json }, file: None });
            }
            RemoteCommand::Dump { control, name, file } => {
                let request = Request::Remote { name, order: RemoteRequest::Dump };
                let call = Call { control, request, json: false };
                return Action::Stream(StreamCall { call, file: Some(file) });
            }
            RemoteCommand::Table(one) => of(one, RemoteRequest::Table),
        };
        let (control, json): (PathBuf, bool) = to.into();
        Action::Call(Call { control, request, json })
    }
}
