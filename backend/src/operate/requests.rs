//! What the requests of the control socket do.

use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::capture::stream;
use super::control::{
    AllRemotes, AllVms, CaptureRequest, Captured, Code, Done, Dumped, Events, Latencies, Listing, OneRemote,
    OneVm, Outcome, Refusal, RemoteListing, RemoteReport, RemoteRequest, RemoteStats, Request, Stats,
    TableReport, TraceReport, Traces,
};
use super::events;
use super::streams::{self, Place};
use super::vms::{AddError, Vms, report};
use crate::bridge::tap::Filter;
use crate::bridge::{Bridge, CaptureError};
use crate::causes::Causes;
use crate::remote::attach::read_table;
use crate::remote::core::Order;
use crate::remote::layout::Layout;
use crate::remote::memory::Carveouts;
use crate::remote::resource_table::ResourceTable;
use crate::remote::trace::TraceBuffer;
use crate::rpmsg::{BUFFER_SIZE, HEADER_LEN, ServiceName};

/// Carries out a request.
pub(super) fn handle(vms: &Vms, request: Request) -> Outcome {
    match request {
        Request::AddVm(keys) => match vms.add(keys) {
            Ok(vm) => result(&OneVm { vm }),
            Err(error) => Err(refused(error, Code::Vm)),
        },
        Request::RemoveVm(name) => match vms.remove(&name) {
            Some(vm) => result(&OneVm { vm }),
            None => {
                let known: Vec<_> = vms.list().into_iter().map(|vm| vm.name).collect();
                let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
                let message = format!(
                    "key name: expected the name of a VM, of which there are: {known}, found {name:?}"
                );
                Err(Refusal::new(Code::NotFound, message))
            }
        },
        Request::ListVms => result(&AllVms { vms: vms.list() }),
        Request::Upgrade => match vms.upgrade() {
            Ok(()) => result(&Map::new()),
            Err(error) => Err(Refusal::new(Code::Failed, Causes(&error).to_string())),
        },
        Request::SetService(keys) => match vms.set_service(&keys) {
            Ok(set) => result(&set),
            Err(error) => Err(refused(error, Code::Service)),
        },
        Request::List => result(&Listing { remotes: vms.each_remote(listing) }),
        Request::Stats => result(&stats(vms)),
        Request::Events => result(&Events { events: events::recorded() }),
        Request::ListRemotes => result(&AllRemotes { remotes: vms.remotes() }),
        Request::Capture(request) => capture(vms, request),
        Request::Remote { name, order } => vms
            .with_remote(&name, |bridge| remote(&name, bridge, order))
            .unwrap_or_else(|| Err(no_remote(vms, "name", &format!("{name:?}")))),
    }
}

/// Why something with these keys is not done; `keys` is the code for what is wrong with them.
fn refused(error: AddError, keys: Code) -> Refusal {
    match error {
        AddError::Keys(error) => Refusal::new(keys, error.to_string()),
        AddError::Terms(refusal) => refusal,
        AddError::Vm(_) | AddError::Socket(_) => Refusal::new(Code::Failed, Causes(&error).to_string()),
    }
}

/// Begins a capture.
fn capture(vms: &Vms, request: CaptureRequest) -> Outcome {
    let CaptureRequest { remote, vms: names, services, snap_length } = request;
    let remote = match (remote, &vms.remotes()[..]) {
        (Some(remote), _) => remote,
        (None, [only]) => only.name.clone(),
        (None, _) => return Err(no_remote(vms, "remote", "nothing")),
    };
    let mut slots = if names.is_empty() { u128::MAX } else { 0 };
    for name in names {
        let known = vms.list();
        let at_remote = known.iter().filter(|vm| vm.remote == remote);
        let Some(vm) = at_remote.clone().find(|vm| vm.name == name) else {
            let known: Vec<_> = at_remote.map(|vm| vm.name.as_str()).collect();
            let message = format!(
                "key vms: expected names of VMs at remote {remote}, of which there are: {}, found {name:?}",
                known.join(", ")
            );
            return Err(Refusal::new(Code::NotFound, message));
        };
        slots |= 1 << vm.slot;
    }
    let services = services.iter().map(|name| ServiceName::new(name)).collect::<Result<_, _>>();
    let services = services.map_err(|error| Refusal::new(Code::Request, format!("key services: {error}")))?;
    let snap_length = snap_length.and_then(|length| usize::try_from(length).ok()).unwrap_or(BUFFER_SIZE);
    let snap_length = snap_length.clamp(HEADER_LEN, BUFFER_SIZE);
    let filter = Filter { slots, services, snap_length };
    match vms.with_remote(&remote, |bridge| bridge.capture(filter)) {
        None => Err(no_remote(vms, "remote", &format!("{remote:?}"))),
        Some(Err(error)) => {
            let code = if matches!(error, CaptureError::Taken) { Code::Busy } else { Code::Failed };
            Err(Refusal::new(code, format!("remote {remote}: {}", Causes(&error))))
        }
        Some(Ok(capture)) => {
            let stream = stream(&remote, snap_length, capture);
            Ok(Done::Stream(value(&Captured { remote })?, stream))
        }
    }
}

fn listing(name: &str, bridge: &Bridge) -> RemoteListing {
    let RemoteReport { name, state } = report(name, bridge);
    RemoteListing { name, state, devices: bridge.list() }
}

/// What was counted at all remotes that are still served.
pub(super) fn stats(vms: &Vms) -> Stats {
    let stats = |name: &str, bridge: &Bridge| {
        let RemoteReport { name, state } = report(name, bridge);
        let figures = bridge.figures()?;
        let (monotonic_ns, latency) = (monotonic_ns(), Latencies::from(&figures.latency));
        let (doorbells_heard, devices) = (figures.heard, figures.devices);
        Some(RemoteStats { name, state, monotonic_ns, doorbells_heard, latency, devices })
    };
    Stats { remotes: vms.each_remote(stats).into_iter().flatten().collect() }
}

/// Now, by a clock that goes on whatever becomes of this process.
fn monotonic_ns() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    let nanoseconds = i128::from(now.tv_sec) * 1_000_000_000 + i128::from(now.tv_nsec);
    u64::try_from(nanoseconds).unwrap_or(u64::MAX)
}

fn no_remote(vms: &Vms, key: &str, found: &str) -> Refusal {
    let known: Vec<_> = vms.remotes().into_iter().map(|remote| remote.name).collect();
    let known = known.join(", ");
    let message =
        format!("key {key}: expected the name of a remote, of which there are: {known}, found {found}");
    Refusal::new(Code::NotFound, message)
}

/// Carries out a request about a remote.
fn remote(name: &str, bridge: &Bridge, order: RemoteRequest) -> Outcome {
    let refuse = |error: &dyn std::error::Error| {
        Refusal::new(Code::Remote, format!("remote {name}: {}", Causes(error)))
    };
    let order = match order {
        RemoteRequest::Start => Order::Start,
        RemoteRequest::Stop => Order::Stop,
        RemoteRequest::Restart { firmware } => Order::Restart(firmware.map(Into::into)),
        RemoteRequest::Trace => {
            let report =
                |buffer: TraceBuffer| TraceReport { name: buffer.name().to_owned(), text: buffer.text() };
            let traces = traces_of(name, bridge)?.into_iter().map(report).collect();
            return result(&Traces { traces });
        }
        RemoteRequest::Follow => {
            let buffers = traces_of(name, bridge)?;
            if buffers.is_empty() {
                let message = format!("remote {name}: its resource table names no trace buffer");
                return Err(Refusal::new(Code::Remote, message));
            }
            let stream = streams::trace(place()?, buffers);
            return Ok(Done::Stream(value(&Captured { remote: name.to_owned() })?, stream));
        }
        RemoteRequest::Dump => {
            let memory = bridge.inspect().and_then(|seen| seen.memory);
            let memory = memory.ok_or_else(|| {
                Refusal::new(Code::Remote, format!("remote {name}: its memory is not there yet"))
            })?;
            let (size, stream) = streams::memory(place()?, name, &memory).map_err(|error| refuse(&error))?;
            return Ok(Done::Stream(value(&Dumped { remote: name.to_owned(), size })?, stream));
        }
        RemoteRequest::Table => {
            let (table, _) = table_of(name, bridge)?;
            return result(&TableReport { table: table.to_string() });
        }
    };
    bridge.order(order).map_err(|error| refuse(&error))?;
    result(&OneRemote { remote: report(name, bridge) })
}

fn place() -> Result<Place, Refusal> {
    let message = "expected a few streams at a time, found too many; end one and try again";
    Place::take().ok_or_else(|| Refusal::new(Code::Busy, message))
}

/// The trace buffers that a remote's firmware has named.
fn traces_of(name: &str, bridge: &Bridge) -> Result<Vec<TraceBuffer>, Refusal> {
    let (table, memory) = table_of(name, bridge)?;
    let buffers = table.traces().filter_map(|trace| TraceBuffer::new(&memory, trace).transpose());
    buffers
        .collect::<Result<_, _>>()
        .map_err(|error| Refusal::new(Code::Remote, format!("remote {name}: {}", Causes(&error))))
}

/// The resource table of a remote as it is now, and the memory that it is about.
fn table_of(name: &str, bridge: &Bridge) -> Result<(ResourceTable, Carveouts), Refusal> {
    let refuse = |what: &str| Refusal::new(Code::Remote, format!("remote {name}: {what}"));
    let seen = bridge.inspect().ok_or_else(|| refuse("it is not served any more"))?;
    let memory = seen.memory.ok_or_else(|| refuse("its memory is not there yet"))?;
    let address = match seen.layout {
        Some(Layout::Table { address }) => address,
        Some(Layout::Static(_)) => return Err(refuse("its firmware has no resource table")),
        None => return Err(refuse("nothing says yet where its resource table is")),
    };
    match read_table(&memory, address) {
        Ok((table, ..)) => Ok((table, memory)),
        Err(error) => Err(refuse(&Causes(&error).to_string())),
    }
}

fn result(result: &impl Serialize) -> Outcome {
    value(result).map(Done::Reply)
}

fn value(result: &impl Serialize) -> Result<Value, Refusal> {
    serde_json::to_value(result).map_err(|error| Refusal::new(Code::Failed, error.to_string()))
}

/// The keys of a VM as they would stand in a file. A null is as if it was not there.
pub(super) fn to_toml(keys: &Map<String, Value>) -> Result<toml::Table, Refusal> {
    let mut keys = keys.clone();
    keys.retain(|_, value| !value.is_null());
    toml::Table::deserialize(Value::from(keys)).map_err(|error| {
        let message = format!("key vm: expected values that TOML has too, found another; {error}");
        Refusal::new(Code::Vm, message)
    })
}

#[cfg(test)]
mod tests;
