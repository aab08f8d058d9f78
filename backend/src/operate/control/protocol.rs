//! What a line of the control protocol says: requests in, results or refusals out.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use thiserror::Error;

/// Version of the protocol, in every request and reply.
pub(in crate::operate) const VERSION: u64 = 1;

/// Longest line in bytes, without its newline. It bounds what a client can make the program remember.
pub(in crate::operate) const MAX_LINE: usize = 64 * 1024;

/// What a client asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::operate) enum Request {
    /// `vm-add`: serve one VM more; its keys are those of a table `[[vm]]`.
    AddVm(Map<String, Value>),
    /// `service-set`: share services by a rule with these keys from now on.
    SetService(Map<String, Value>),
    /// `vm-remove`: serve a VM no more.
    RemoveVm(String),
    /// `vm-list`: say which VMs are served.
    ListVms,
    /// `remote-list`: say what the remotes are doing.
    ListRemotes,
    /// `ls`: say what is served: remotes, VMs, services, endpoints.
    List,
    /// `stats`: say what was counted.
    Stats,
    /// `events`: say what has happened last.
    Events,
    /// `upgrade`: let the program that is installed now take over.
    Upgrade,
    /// `capture`: stream messages.
    Capture(CaptureRequest),
    /// Something about one remote.
    Remote {
        /// Its name.
        name: String,
        /// What.
        order: RemoteRequest,
    },
}

/// What a client asks for about a remote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::operate) enum RemoteRequest {
    /// `remote-start`: switch it on, or look for it again.
    Start,
    /// `remote-stop`: switch it off, or let go of it.
    Stop,
    /// `remote-restart`: switch it off and on.
    Restart {
        /// An ELF file to be loaded from now on.
        firmware: Option<String>,
    },
    /// `remote-trace`: say what is in its trace buffers.
    Trace,
    /// `remote-follow`: stream what is written to them.
    Follow,
    /// `remote-dump`: stream its memory.
    Dump,
    /// `remote-table`: say what is in its resource table.
    Table,
}

/// What `capture` says.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub(in crate::operate) struct CaptureRequest {
    /// The remote; the only one where it is not said.
    pub(in crate::operate) remote: Option<String>,
    /// Names of the VMs; all where there are none.
    pub(in crate::operate) vms: Vec<String>,
    /// Names of the services; every message where there are none.
    pub(in crate::operate) services: Vec<String>,
    /// Most bytes of each message.
    pub(in crate::operate) snap_length: Option<u32>,
}

/// Every request by its name.
const REQUESTS: &str = "\"vm-add\", \"vm-remove\", \"vm-list\", \"remote-list\", \"remote-start\", \"remote-stop\", \
                        \"remote-restart\", \"remote-trace\", \"remote-follow\", \"remote-dump\", \"remote-table\", \"capture\", \"service-set\", \"ls\", \"stats\", \"events\" or \"upgrade\"";

/// Why a request is not carried out.
#[derive(Clone, Debug, Deserialize, Error, PartialEq, Eq, Serialize)]
#[error("{message}")]
pub struct Refusal {
    /// For programs.
    pub code: Code,
    /// For people.
    pub message: String,
}

/// Kinds of refusals.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Code {
    /// The line is no JSON object.
    Syntax,
    /// The line is too long.
    TooLong,
    /// Another version of the protocol.
    Version,
    /// A request that there is not, or that lacks something or has too much.
    Request,
    /// A key of the VM is wrong, or in use.
    Vm,
    /// A key of the service is wrong.
    Service,
    /// There is no such VM or remote.
    NotFound,
    /// The remote cannot do that, or has nothing of the kind.
    Remote,
    /// There are too many clients.
    Busy,
    /// The system did not give what it takes.
    Failed,
}

impl Refusal {
    pub(in crate::operate) fn new(code: Code, message: impl Into<String>) -> Self {
        Refusal { code, message: message.into() }
    }
}

/// A VM that is served, as replies tell of it.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub(in crate::operate) struct VmReport {
    /// Its name.
    pub(in crate::operate) name: String,
    /// The name of its remote.
    pub(in crate::operate) remote: String,
    /// Its place in the remote's address space.
    pub(in crate::operate) slot: u8,
    /// Its socket, for people.
    pub(in crate::operate) socket: String,
    /// Whether a front-end is connected.
    pub(in crate::operate) connected: bool,
}

/// The result of `vm-add` and `vm-remove`.
#[derive(Debug, Deserialize, Serialize)]
pub(in crate::operate) struct OneVm {
    /// The VM.
    pub(in crate::operate) vm: VmReport,
}

/// The result of `vm-list`.
#[derive(Debug, Deserialize, Serialize)]
pub(in crate::operate) struct AllVms {
    /// The VMs, in the order in which they were added.
    pub(in crate::operate) vms: Vec<VmReport>,
}

/// A remote, as replies tell of it.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub(in crate::operate) struct RemoteReport {
    /// Its name.
    pub(in crate::operate) name: String,
    /// What it is doing: `offline`, `booting`, `attached`, `running`, `crashed` or `detached`.
    pub(in crate::operate) state: String,
}

/// The result of `remote-start`, `remote-stop` and `remote-restart`: the remote as it was when the order was given.
#[derive(Debug, Deserialize, Serialize)]
pub(in crate::operate) struct OneRemote {
    /// The remote.
    pub(in crate::operate) remote: RemoteReport,
}

/// The result of `remote-list`.
#[derive(Debug, Deserialize, Serialize)]
pub(in crate::operate) struct AllRemotes {
    /// The remotes, in the order of the configuration.
    pub(in crate::operate) remotes: Vec<RemoteReport>,
}

/// The result of `service-set`.
#[derive(Debug, Deserialize, Serialize)]
pub(in crate::operate) struct RulesSet {
    /// The remotes at which it holds.
    pub(in crate::operate) remotes: Vec<RuleSet>,
}

/// A rule that holds at a remote.
#[derive(Debug, Deserialize, Serialize)]
pub(in crate::operate) struct RuleSet {
    /// The name of the remote.
    pub(in crate::operate) name: String,
    /// The services that it is for and that are there. Guests see them go and come back.
    pub(in crate::operate) services: Vec<String>,
}

/// The result of `remote-dump`, behind which the memory follows.
#[derive(Debug, Deserialize, Serialize)]
pub(in crate::operate) struct Dumped {
    /// The name of the remote.
    pub(in crate::operate) remote: String,
    /// Bytes that follow.
    pub(in crate::operate) size: u64,
}

/// The result of `capture` and of `remote-follow`, behind which what they are for follows.
#[derive(Debug, Deserialize, Serialize)]
pub(in crate::operate) struct Captured {
    /// The name of the remote.
    pub(in crate::operate) remote: String,
}

/// The result of `remote-trace`.
#[derive(Debug, Deserialize, Serialize)]
pub(in crate::operate) struct Traces {
    /// The trace buffers, in the order of the resource table.
    pub(in crate::operate) traces: Vec<TraceReport>,
}

/// One trace buffer.
#[derive(Debug, Deserialize, Serialize)]
pub(in crate::operate) struct TraceReport {
    /// Its name in the resource table.
    pub(in crate::operate) name: String,
    /// What is in it.
    pub(in crate::operate) text: String,
}

/// The result of `remote-table`.
#[derive(Debug, Deserialize, Serialize)]
pub(in crate::operate) struct TableReport {
    /// The table for people, a line per entry and vring.
    pub(in crate::operate) table: String,
}

/// A line from the program.
#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct Reply {
    version: u64,
    #[serde(flatten)]
    outcome: Outcome,
}

#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Outcome {
    Result(Value),
    Error(Refusal),
}

impl Reply {
    /// The line that answers a request, with its newline.
    pub(super) fn line(outcome: Result<Value, Refusal>) -> Vec<u8> {
        let outcome = match outcome {
            Ok(result) => Outcome::Result(result),
            Err(refusal) => Outcome::Error(refusal),
        };
        let mut line = serde_json::to_vec(&Reply { version: VERSION, outcome }).expect("texts and numbers");
        line.push(b'\n');
        line
    }

    /// What a line from the program says.
    pub(super) fn parse(line: &str) -> Result<Result<Value, Refusal>, serde_json::Error> {
        let reply: Reply = serde_json::from_str(line)?;
        Ok(match reply.outcome {
            Outcome::Result(result) => Ok(result),
            Outcome::Error(refusal) => Err(refusal),
        })
    }
}

/// What `vm-add` says.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AddVm {
    vm: Map<String, Value>,
}

/// What `service-set` says.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SetService {
    service: Map<String, Value>,
}

/// What `vm-remove` says.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RemoveVm {
    name: String,
}

/// What `vm-list`, `remote-list`, `ls`, `stats`, `events` and `upgrade` say.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

/// What requests about a remote say.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Named {
    name: String,
}

/// What `remote-restart` says.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Restart {
    name: String,
    firmware: Option<String>,
}

impl Request {
    /// Whether nothing is changed by it, so that it may be carried out twice.
    pub(super) fn only_looks(&self) -> bool {
        match self {
            Request::ListVms | Request::ListRemotes | Request::List | Request::Stats | Request::Events => {
                true
            }
            Request::Remote { order, .. } => matches!(order, RemoteRequest::Trace | RemoteRequest::Table),
            Request::AddVm(_)
            | Request::SetService(_)
            | Request::RemoveVm(_)
            | Request::Upgrade
            | Request::Capture(_) => false,
        }
    }

    /// Takes a line apart.
    pub(in crate::operate) fn parse(line: &[u8]) -> Result<Self, Refusal> {
        let mut members: Map<String, Value> = serde_json::from_slice(line).map_err(|error| {
            Refusal::new(
                Code::Syntax,
                format!("expected a JSON object in one line, found something else: {error}"),
            )
        })?;
        match members.remove("version") {
            Some(version) if version == VERSION => {}
            other => {
                let found = found(other.as_ref());
                let message = format!("key version: expected {VERSION}, found {found}");
                return Err(Refusal::new(Code::Version, message));
            }
        }
        let request = members.remove("request");
        match request.as_ref().and_then(Value::as_str) {
            Some("vm-add") => rest(members, "vm-add").map(|AddVm { vm }| Request::AddVm(vm)),
            Some("service-set") => {
                rest(members, "service-set").map(|SetService { service }| Request::SetService(service))
            }
            Some("vm-remove") => rest(members, "vm-remove").map(|RemoveVm { name }| Request::RemoveVm(name)),
            Some("vm-list") => rest(members, "vm-list").map(|Nothing {}| Request::ListVms),
            Some("remote-list") => rest(members, "remote-list").map(|Nothing {}| Request::ListRemotes),
            Some("ls") => rest(members, "ls").map(|Nothing {}| Request::List),
            Some("stats") => rest(members, "stats").map(|Nothing {}| Request::Stats),
            Some("events") => rest(members, "events").map(|Nothing {}| Request::Events),
            Some("upgrade") => rest(members, "upgrade").map(|Nothing {}| Request::Upgrade),
            Some("capture") => rest(members, "capture").map(Request::Capture),
            Some("remote-restart") => rest(members, "remote-restart").map(|Restart { name, firmware }| {
                Request::Remote { name, order: RemoteRequest::Restart { firmware } }
            }),
            Some("remote-start") => of_remote(members, "remote-start", RemoteRequest::Start),
            Some("remote-stop") => of_remote(members, "remote-stop", RemoteRequest::Stop),
            Some("remote-trace") => of_remote(members, "remote-trace", RemoteRequest::Trace),
            Some("remote-follow") => of_remote(members, "remote-follow", RemoteRequest::Follow),
            Some("remote-dump") => of_remote(members, "remote-dump", RemoteRequest::Dump),
            Some("remote-table") => of_remote(members, "remote-table", RemoteRequest::Table),
            _ => {
                let found = found(request.as_ref());
                let message = format!("key request: expected {REQUESTS}, found {found}");
                Err(Refusal::new(Code::Request, message))
            }
        }
    }

    /// The request as an object, without a newline.
    pub(in crate::operate) fn to_json(&self) -> String {
        let mut members = Map::from_iter([("version".to_owned(), VERSION.into())]);
        let mut say = |key: &str, value: Value| members.insert(key.to_owned(), value);
        match self {
            Request::AddVm(vm) => {
                say("request", "vm-add".into());
                say("vm", vm.clone().into());
            }
            Request::SetService(service) => {
                say("request", "service-set".into());
                say("service", service.clone().into());
            }
            Request::RemoveVm(name) => {
                say("request", "vm-remove".into());
                say("name", name.as_str().into());
            }
            Request::ListVms => {
                say("request", "vm-list".into());
            }
            Request::ListRemotes => {
                say("request", "remote-list".into());
            }
            Request::List => {
                say("request", "ls".into());
            }
            Request::Stats => {
                say("request", "stats".into());
            }
            Request::Events => {
                say("request", "events".into());
            }
            Request::Upgrade => {
                say("request", "upgrade".into());
            }
            Request::Capture(CaptureRequest { remote, vms, services, snap_length }) => {
                say("request", "capture".into());
                say("remote", remote.clone().into());
                say("vms", vms.clone().into());
                say("services", services.clone().into());
                say("snap-length", (*snap_length).into());
            }
            Request::Remote { name, order } => {
                let request = match order {
                    RemoteRequest::Start => "remote-start",
                    RemoteRequest::Stop => "remote-stop",
                    RemoteRequest::Restart { firmware } => {
                        if let Some(firmware) = firmware {
                            say("firmware", firmware.as_str().into());
                        }
                        "remote-restart"
                    }
                    RemoteRequest::Trace => "remote-trace",
                    RemoteRequest::Follow => "remote-follow",
                    RemoteRequest::Dump => "remote-dump",
                    RemoteRequest::Table => "remote-table",
                };
                say("request", request.into());
                say("name", name.as_str().into());
            }
        }
        Value::from(members).to_string()
    }
}

/// A request about a remote that says nothing but its name.
fn of_remote(members: Map<String, Value>, request: &str, order: RemoteRequest) -> Result<Request, Refusal> {
    rest(members, request).map(|Named { name }| Request::Remote { name, order })
}

/// What a request says beside its name.
fn rest<T: for<'de> Deserialize<'de>>(members: Map<String, Value>, request: &str) -> Result<T, Refusal> {
    serde_json::from_value(members.into())
        .map_err(|error| Refusal::new(Code::Request, format!("request {request}: {error}")))
}

/// A value as it was found, in short.
fn found(value: Option<&Value>) -> String {
    match value {
        None => "nothing".to_owned(),
        Some(Value::Object(_)) => "an object".to_owned(),
        Some(Value::Array(_)) => "an array".to_owned(),
        Some(Value::String(text)) => format!("{:?}", text.chars().take(64).collect::<String>()),
        Some(value) => value.to_string(),
    }
}

#[cfg(test)]
mod tests;
