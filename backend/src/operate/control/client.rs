//! Asking a running program for something, and printing what it says.

use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;
use thiserror::Error;

use super::figures::{self, Events, Listing, Stats};
use super::protocol::{
    AllRemotes, AllVms, MAX_LINE, OneRemote, OneVm, Refusal, RemoteReport, RemoteRequest, Reply, Request,
    RuleSet, RulesSet, TableReport, TraceReport, Traces, VmReport,
};

/// Longest wait for a reply: the program answers one client after the other, and removing a VM waits for its end.
const PATIENCE: Duration = Duration::from_secs(60);
/// How many workers are asked, one after the other.
const ATTEMPTS: u32 = 3;
/// Longest reply in bytes that is read: for each remote at most 127 VMs, each with its figures of 1024 services in some 140 bytes.
const MAX_REPLY: u64 = 256 * 1024 * 1024;

/// A request to a running program.
#[derive(Debug, PartialEq, Eq)]
pub struct Call {
    /// Its control socket.
    pub(in crate::operate) control: PathBuf,
    /// What is asked for.
    pub(in crate::operate) request: Request,
    /// Whether the reply is printed as it comes.
    pub(in crate::operate) json: bool,
}

/// Why a request came to nothing.
#[derive(Debug, Error)]
pub enum CallError {
    /// Nobody answers there.
    #[error("cannot connect to control socket {}; is the program running, with this path as `control` in its configuration?", path.display())]
    Connect {
        /// The path.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The connection broke, or there was no reply in time.
    #[error("control socket {}: cannot {what}", path.display())]
    Broken {
        /// The path.
        path: PathBuf,
        /// What could not be done.
        what: &'static str,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The connection ended without a word.
    #[error(
        "control socket {}: expected a reply, found the end of the connection: the worker was replaced or has ended before it \
         answered. What was asked for may have been done; look, and ask again where it was not", path.display()
    )]
    Unanswered {
        /// The path.
        path: PathBuf,
    },
    /// The reply is none.
    #[error("control socket {}: expected a reply in JSON, found {found:?}", path.display())]
    NotAReply {
        /// The path.
        path: PathBuf,
        /// The beginning of what came.
        found: String,
        /// What is wrong with it.
        #[source]
        source: serde_json::Error,
    },
    /// The program says no.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The reply cannot be printed.
    #[error("cannot print the reply")]
    Print(#[source] io::Error),
}

impl Call {
    /// Sends the request, waits for the reply and prints it.
    ///
    /// # Errors
    /// Nobody who answers, and a refusal. The latter is printed before where the reply is wanted as it comes.
    pub fn run(&self, output: &mut impl Write) -> Result<(), CallError> {
        let line = self.exchange()?;
        if self.json {
            output.write_all(line.as_bytes()).map_err(CallError::Print)?;
        }
        let result = Reply::parse(&line).map_err(self.not_a_reply(&line))??;
        if self.json {
            return Ok(());
        }
        let text = match &self.request {
            Request::AddVm(_) => added(&self.result::<OneVm>(result, &line)?.vm),
            Request::SetService(_) => rules_set(&self.result::<RulesSet>(result, &line)?.remotes),
            Request::RemoveVm(_) => {
                format!("VM {} is served no more\n", self.result::<OneVm>(result, &line)?.vm.name)
            }
            Request::ListVms => table(&self.result::<AllVms>(result, &line)?.vms),
            Request::Upgrade => "the program that is installed now takes over\n".to_owned(),
            Request::List => figures::listing(&self.result::<Listing>(result, &line)?),
            Request::Stats => figures::stats(&self.result::<Stats>(result, &line)?),
            Request::Events => figures::events(&self.result::<Events>(result, &line)?),
            // What follows it is for whoever takes it as a stream.
            Request::Capture(_)
            | Request::Remote { order: RemoteRequest::Follow | RemoteRequest::Dump, .. } => String::new(),
            Request::ListRemotes => remotes(&self.result::<AllRemotes>(result, &line)?.remotes),
            Request::Remote { order: RemoteRequest::Trace, .. } => {
                traces(&self.result::<Traces>(result, &line)?.traces)
            }
            Request::Remote { order: RemoteRequest::Table, .. } => {
                self.result::<TableReport>(result, &line)?.table + "\n"
            }
            Request::Remote { .. } => {
                let RemoteReport { name, state } = self.result::<OneRemote>(result, &line)?.remote;
                format!("remote {name}: the order is given, it is {state} now\n")
            }
        };
        output.write_all(text.as_bytes()).map_err(CallError::Print)
    }

    /// Sends the request and returns its result.
    pub(in crate::operate) fn ask<T: for<'de> Deserialize<'de>>(&self) -> Result<T, CallError> {
        let line = self.exchange()?;
        let result = Reply::parse(&line).map_err(self.not_a_reply(&line))??;
        self.result(result, &line)
    }

    /// Sends the request, waits for the reply, and returns it and the connection with what follows.
    ///
    /// # Errors
    /// Nobody who answers, and a refusal.
    pub(in crate::operate) fn stream(&self) -> Result<(Value, UnixStream), CallError> {
        let mut stream = self.send()?;
        let mut line = Vec::new();
        while line.last() != Some(&b'\n') && line.len() < MAX_LINE {
            // What is behind the line is not to be taken with it.
            let mut byte = [0];
            stream.read_exact(&mut byte).map_err(self.broken("read the reply"))?;
            line.extend(byte);
        }
        let line = String::from_utf8_lossy(&line);
        let result = Reply::parse(&line).map_err(self.not_a_reply(&line))??;
        stream.set_read_timeout(None).map_err(self.broken("wait for more"))?;
        Ok((result, stream))
    }

    /// What is said in a result.
    pub(in crate::operate) fn understand<T: for<'de> Deserialize<'de>>(
        &self,
        result: Value,
    ) -> Result<T, CallError> {
        let line = result.to_string();
        self.result(result, &line)
    }

    /// Sends the request and returns the line that comes back. A worker that is replaced may leave the request without an
    /// answer; its successor is asked too, where that does no harm.
    fn exchange(&self) -> Result<String, CallError> {
        let attempts = if self.request.only_looks() { ATTEMPTS } else { 1 };
        for _ in 0..attempts {
            let stream = self.send()?;
            let mut line = String::new();
            match BufReader::new(stream.take(MAX_REPLY)).read_line(&mut line) {
                Ok(0) => {}
                Ok(_) => return Ok(line),
                Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
                Err(error) => return Err(self.broken("read the reply")(error)),
            }
        }
        Err(CallError::Unanswered { path: self.control.clone() })
    }

    fn broken(&self, what: &'static str) -> impl FnOnce(io::Error) -> CallError {
        let path = self.control.clone();
        move |source| CallError::Broken { path, what, source }
    }

    fn send(&self) -> Result<UnixStream, CallError> {
        let connect = |source| CallError::Connect { path: self.control.clone(), source };
        let mut stream = UnixStream::connect(&self.control).map_err(connect)?;
        stream.set_read_timeout(Some(PATIENCE)).map_err(self.broken("limit the wait for a reply"))?;
        let sent = stream.write_all(format!("{}\n", self.request.to_json()).as_bytes());
        match sent {
            // Whoever turns us away may have said why.
            Err(error) if error.kind() != ErrorKind::BrokenPipe => {
                return Err(self.broken("send the request")(error));
            }
            _ => {}
        }
        Ok(stream)
    }

    fn result<T: for<'de> Deserialize<'de>>(&self, result: Value, line: &str) -> Result<T, CallError> {
        serde_json::from_value(result).map_err(self.not_a_reply(line))
    }

    fn not_a_reply(&self, line: &str) -> impl FnOnce(serde_json::Error) -> CallError {
        let (path, found) = (self.control.clone(), line.trim_end().chars().take(64).collect());
        move |source| CallError::NotAReply { path, found, source }
    }
}

fn added(vm: &VmReport) -> String {
    let VmReport { name, remote, slot, socket, connected: _ } = vm;
    format!("VM {name} is served on {socket}, at remote {remote} in slot {slot}\n")
}

fn rules_set(remotes: &[RuleSet]) -> String {
    let line = |RuleSet { name, services }: &RuleSet| match services.as_slice() {
        [] => format!("remote {name}: the rule holds; none of the services that are there is one of its\n"),
        _ => format!("remote {name}: the rule holds; announced anew: {}\n", services.join(", ")),
    };
    remotes.iter().map(line).collect()
}

fn remotes(remotes: &[RemoteReport]) -> String {
    let width = remotes.iter().map(|remote| remote.name.len()).max().unwrap_or(0).max("NAME".len());
    let row = |name: &str, state: &str| format!("{name:width$}  {state}\n");
    let rows = remotes.iter().map(|remote| row(&remote.name, &remote.state));
    [row("NAME", "STATE")].into_iter().chain(rows).collect()
}

fn traces(traces: &[TraceReport]) -> String {
    if traces.is_empty() {
        return "the resource table names no trace buffer\n".to_owned();
    }
    let buffer = |trace: &TraceReport| format!("--- {}\n{}\n", trace.name, trace.text.trim_end());
    traces.iter().map(buffer).collect()
}

/// The VMs as a table with columns as wide as they have to be.
fn table(vms: &[VmReport]) -> String {
    let rows: Vec<[String; 5]> = [["NAME", "REMOTE", "SLOT", "FRONT-END", "SOCKET"].map(str::to_owned)]
        .into_iter()
        .chain(vms.iter().map(|vm| {
            let front_end = if vm.connected { "connected" } else { "-" };
            [&vm.name, &vm.remote, &vm.slot.to_string(), front_end, &vm.socket].map(str::to_owned)
        }))
        .collect();
    let width = |column: usize| rows.iter().map(|row| row[column].len()).max().unwrap_or(0);
    let widths = [0, 1, 2, 3].map(width);
    rows.iter()
        .map(|[name, remote, slot, front_end, socket]| {
            let [a, b, c, d] = widths;
            format!("{name:a$}  {remote:b$}  {slot:c$}  {front_end:d$}  {socket}\n")
        })
        .collect()
}

#[cfg(test)]
mod tests;
