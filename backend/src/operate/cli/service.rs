//! The sub-commands about the services of a running program's remotes.

use clap::{Args, Subcommand};
use serde_json::{Map, Value};

use super::vm::To;
use crate::operate::control::Request;
use crate::operate::control::client::Call;

/// What is to be done about services.
#[derive(Debug, Subcommand)]
pub(super) enum ServiceCommand {
    /// Share services in another way from now on, until the program ends. Guests see them go and come back
    Set {
        #[command(flatten)]
        to: To,
        #[command(flatten)]
        rule: Box<Rule>,
    },
}

/// The keys of a service. The running program says what is wrong with their values.
#[derive(Debug, Args)]
pub(super) struct Rule {
    /// Its name, or a pattern of names with * and ?
    name: String,
    /// The remote whose services are meant, where there are several
    #[arg(long, value_name = "NAME")]
    remote: Option<String>,
    /// How VMs share it: shared, exclusive, serialized or broadcast
    #[arg(long)]
    mode: Option<String>,
    /// A VM that may see it; may be repeated. All may unless said
    #[arg(long = "vm", value_name = "NAME")]
    vms: Vec<String>,
    /// The VM that has the exclusive service, or whose messages reach the broadcast service
    #[arg(long, value_name = "VM")]
    owner: Option<String>,
    /// What ends a turn at a serialized service: one, several or none
    #[arg(long, value_name = "WHAT")]
    reply: Option<String>,
    /// Longest wait for an answer of a serialized service, such as "1 s"
    #[arg(long, value_name = "TIME")]
    time_out: Option<String>,
    /// How long late answers are dropped after that, such as "5 s"
    #[arg(long, value_name = "TIME")]
    quarantine: Option<String>,
    /// Who gets what nobody has asked a serialized service for: drop, all or a VM
    #[arg(long, value_name = "WHO")]
    unsolicited: Option<String>,
}

impl From<ServiceCommand> for Call {
    fn from(ServiceCommand::Set { to, rule }: ServiceCommand) -> Self {
        let (control, json) = to.into();
        Call { control, request: Request::SetService(rule.keys()), json }
    }
}

impl Rule {
    /// The keys that are said, as they would stand in a file.
    fn keys(self) -> Map<String, Value> {
        let keys: [(&str, Option<Value>); 9] = [
            ("name", Some(self.name.into())),
            ("remote", self.remote.map(Into::into)),
            ("mode", self.mode.map(Into::into)),
            ("vms", (!self.vms.is_empty()).then(|| self.vms.into())),
            ("owner", self.owner.map(Into::into)),
            ("reply", self.reply.map(Into::into)),
            ("time-out", self.time_out.map(Into::into)),
            ("quarantine", self.quarantine.map(Into::into)),
            ("unsolicited", self.unsolicited.map(Into::into)),
        ];
        keys.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?))).collect()
    }
}
