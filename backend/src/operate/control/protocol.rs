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
    /// `vm-remove`: serve a VM no more.
    RemoveVm(String),
    /// `vm-list`: say which VMs are served.
    ListVms,
}

/// Every request by its name.
const REQUESTS: &str = "\"vm-add\", \"vm-remove\" or \"vm-list\"";

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
    /// There is no such VM.
    NotFound,
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

/// What `vm-remove` says.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RemoveVm {
    name: String,
}

/// What `vm-list` says.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ListVms {}

impl Request {
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
            Some("vm-remove") => rest(members, "vm-remove").map(|RemoveVm { name }| Request::RemoveVm(name)),
            Some("vm-list") => rest(members, "vm-list").map(|ListVms {}| Request::ListVms),
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
            Request::RemoveVm(name) => {
                say("request", "vm-remove".into());
                say("name", name.as_str().into());
            }
            Request::ListVms => {
                say("request", "vm-list".into());
            }
        }
        Value::from(members).to_string()
    }
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
mod tests {
    use super::*;

    fn refused(line: &str) -> (Code, String) {
        let refusal = Request::parse(line.as_bytes()).unwrap_err();
        (refusal.code, refusal.message)
    }

    #[test]
    fn every_request_is_read_as_it_is_written() {
        let vm = Map::from_iter([("name".to_owned(), "d".into()), ("weight".to_owned(), 3.into())]);
        for request in [Request::AddVm(vm), Request::RemoveVm("a".to_owned()), Request::ListVms] {
            assert_eq!(Request::parse(request.to_json().as_bytes()), Ok(request));
        }
    }

    #[test]
    fn a_line_that_is_no_object_is_refused() {
        for line in ["", "vm-list", "{", "[]", "1", "{\"version\":1} x"] {
            let (code, message) = refused(line);
            assert_eq!(code, Code::Syntax, "{line}");
            assert!(
                message.starts_with("expected a JSON object in one line, found something else: "),
                "{message}"
            );
        }
        assert_eq!(Request::parse(b"\xff").unwrap_err().code, Code::Syntax);
        assert_eq!(refused(&"[".repeat(10_000)).0, Code::Syntax);
    }

    #[test]
    fn another_version_is_refused_with_the_one_there_is() {
        for (version, found) in [("\"version\":2,", "2"), ("\"version\":\"1\",", "\"1\""), ("", "nothing")] {
            assert_eq!(
                refused(&format!("{{{version}\"request\":\"vm-list\"}}")),
                (Code::Version, format!("key version: expected 1, found {found}"))
            );
        }
    }

    #[test]
    fn a_request_that_there_is_not_is_refused_with_those_there_are() {
        for (request, found) in
            [(",\"request\":\"reboot\"", "\"reboot\""), ("", "nothing"), (",\"request\":[]", "an array")]
        {
            assert_eq!(
                refused(&format!("{{\"version\":1{request}}}")),
                (
                    Code::Request,
                    format!("key request: expected \"vm-add\", \"vm-remove\" or \"vm-list\", found {found}")
                )
            );
        }
    }

    #[test]
    fn keys_that_a_request_lacks_or_does_not_have_are_refused() {
        for (rest, message) in [
            ("\"vm-remove\"", "request vm-remove: missing field `name`"),
            ("\"vm-remove\",\"name\":3", "request vm-remove: invalid type: integer `3`, expected a string"),
            ("\"vm-list\",\"name\":\"a\"", "request vm-list: unknown field `name`, there are no fields"),
            ("\"vm-add\",\"vm\":{},\"name\":\"a\"", "request vm-add: unknown field `name`, expected `vm`"),
            ("\"vm-add\",\"vm\":\"a\"", "request vm-add: invalid type: string \"a\", expected a map"),
        ] {
            assert_eq!(
                refused(&format!("{{\"version\":1,\"request\":{rest}}}")),
                (Code::Request, message.to_owned())
            );
        }
    }

    #[test]
    fn replies_are_lines_that_say_version_and_result_or_error() {
        let line = |outcome| String::from_utf8(Reply::line(outcome)).unwrap();
        assert_eq!(line(Ok(serde_json::json!({"vms": []}))), "{\"version\":1,\"result\":{\"vms\":[]}}\n");
        let refusal = Refusal::new(Code::NotFound, "no\nline");
        let error = line(Err(refusal.clone()));
        assert_eq!(error, "{\"version\":1,\"error\":{\"code\":\"not-found\",\"message\":\"no\\nline\"}}\n");
        assert_eq!(Reply::parse(&error).unwrap(), Err(refusal));
        assert!(Reply::parse("{\"version\":1}").is_err());
    }

    #[test]
    fn the_lines_of_the_reference_are_requests_and_replies() {
        let reference = include_str!("../../../docs/control.md");
        let lines: Vec<_> = reference.lines().filter(|line| line.starts_with('{')).collect();
        assert_eq!(lines.len(), 7);
        for line in lines {
            match line.contains("\"request\"") {
                true => drop(Request::parse(line.as_bytes()).unwrap()),
                false => drop(Reply::parse(line).unwrap()),
            }
        }
        let codes = [
            Code::Syntax,
            Code::TooLong,
            Code::Version,
            Code::Request,
            Code::Vm,
            Code::NotFound,
            Code::Busy,
            Code::Failed,
        ];
        for code in codes {
            let code = serde_json::to_value(code).unwrap();
            assert!(reference.contains(&format!("| `{}` |", code.as_str().unwrap())), "{code}");
        }
        assert!(reference.contains(&format!("at most {MAX_LINE} bytes")));
    }
}
