//! The sub-commands that ask a running program for something.

use std::io;
use std::num::ParseIntError;
use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde_json::{Map, Value};

use crate::operate::control::Request;
use crate::operate::control::client::Call;

/// What is to be done about VMs.
#[derive(Debug, Subcommand)]
pub(super) enum VmCommand {
    /// Serve one VM more; what the options mean is said in the reference of the configuration
    Add {
        #[command(flatten)]
        to: To,
        #[command(flatten)]
        vm: Box<Vm>,
    },
    /// Serve a VM no more: its front-end is disconnected, and its socket removed
    Remove {
        #[command(flatten)]
        to: To,
        /// Its name
        name: String,
    },
    /// Say which VMs are served
    List {
        #[command(flatten)]
        to: To,
    },
}

/// Who is asked, and how the reply is printed.
#[derive(Debug, Args)]
pub(super) struct To {
    /// Control socket of the running program
    #[arg(long, value_name = "PATH")]
    control: PathBuf,
    /// Print the reply as it comes, a line of JSON
    #[arg(long)]
    json: bool,
}

impl From<To> for (PathBuf, bool) {
    fn from(To { control, json }: To) -> Self {
        (control, json)
    }
}

/// The keys of a VM. The running program says what is wrong with their values.
#[derive(Debug, Args)]
pub(super) struct Vm {
    /// Its name
    name: String,
    /// vhost-user socket to listen on
    #[arg(long, value_name = "PATH", value_parser = absolute)]
    socket: String,
    /// Permissions of the socket, such as 0660
    #[arg(long)]
    mode: Option<String>,
    /// Group of the socket, by name or number
    #[arg(long)]
    group: Option<String>,
    /// Its place in the remote's address space, 0 to 126; the lowest that is free unless said
    #[arg(long, value_name = "N")]
    slot: Option<i64>,
    /// The remote that it talks to, where there are several
    #[arg(long, value_name = "NAME")]
    remote: Option<String>,
    /// Which of the remote's rpmsg devices it is in front of, counted from 0
    #[arg(long, value_name = "N")]
    device: Option<i64>,
    /// Remote address that it may send to without an announcement; may be repeated
    #[arg(long = "address", value_name = "ADDRESS", value_parser = number)]
    addresses: Vec<i64>,
    /// Let it send only to services that it sees and to these addresses
    #[arg(long)]
    strict: bool,
    /// What happens to messages that it does not take: block or drop
    #[arg(long, value_name = "WHAT")]
    overflow: Option<String>,
    /// Its weight where buffers and turns are shared out, 1 to 100
    #[arg(long, value_name = "N")]
    weight: Option<i64>,
    /// Messages that it may send per second
    #[arg(long, value_name = "N")]
    messages_per_second: Option<i64>,
    /// Bytes of payload that it may send per second
    #[arg(long, value_name = "N")]
    bytes_per_second: Option<i64>,
}

/// A path as the running program takes it too, which may work in another folder.
pub(super) fn absolute(path: &str) -> io::Result<String> {
    let path = std::path::absolute(path)?;
    path.into_os_string().into_string().map_err(|path| {
        io::Error::new(io::ErrorKind::InvalidInput, format!("expected a path in UTF-8, found {path:?}"))
    })
}

/// A number as the configuration takes it too: decimal, or hexadecimal behind 0x.
fn number(text: &str) -> Result<i64, ParseIntError> {
    text.strip_prefix("0x").map_or_else(|| text.parse(), |digits| i64::from_str_radix(digits, 16))
}

impl From<VmCommand> for Call {
    fn from(command: VmCommand) -> Self {
        let (to, request) = match command {
            VmCommand::Add { to, vm } => (to, Request::AddVm(vm.keys())),
            VmCommand::Remove { to, name } => (to, Request::RemoveVm(name)),
            VmCommand::List { to } => (to, Request::ListVms),
        };
        let (control, json) = to.into();
        Call { control, request, json }
    }
}

impl Vm {
    /// The keys that are said, as they would stand in a file.
    fn keys(self) -> Map<String, Value> {
        let keys: [(&str, Option<Value>); 13] = [
            ("name", Some(self.name.into())),
            ("socket", Some(self.socket.into())),
            ("mode", self.mode.map(Into::into)),
            ("group", self.group.map(Into::into)),
            ("slot", self.slot.map(Into::into)),
            ("remote", self.remote.map(Into::into)),
            ("device", self.device.map(Into::into)),
            ("addresses", (!self.addresses.is_empty()).then(|| self.addresses.into())),
            ("strict", self.strict.then_some(true.into())),
            ("overflow", self.overflow.map(Into::into)),
            ("weight", self.weight.map(Into::into)),
            ("messages-per-second", self.messages_per_second.map(Into::into)),
            ("bytes-per-second", self.bytes_per_second.map(Into::into)),
        ];
        keys.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?))).collect()
    }
}
