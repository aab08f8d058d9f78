//! The sub-commands about the remotes of a running program.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::vm::{To, absolute};
use crate::operate::control::client::Call;
use crate::operate::control::{RemoteRequest, Request};

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
    Trace(One),
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

impl From<RemoteCommand> for Call {
    fn from(command: RemoteCommand) -> Self {
        let of = |One { to, name }: One, order| (to, Request::Remote { name, order });
        let (to, request) = match command {
            RemoteCommand::List { to } => (to, Request::ListRemotes),
            RemoteCommand::Start(one) => of(one, RemoteRequest::Start),
            RemoteCommand::Stop(one) => of(one, RemoteRequest::Stop),
            RemoteCommand::Restart { one, firmware } => of(one, RemoteRequest::Restart { firmware }),
            RemoteCommand::Trace(one) => of(one, RemoteRequest::Trace),
            RemoteCommand::Table(one) => of(one, RemoteRequest::Table),
        };
        let (control, json): (PathBuf, bool) = to.into();
        Call { control, request, json }
    }
}
