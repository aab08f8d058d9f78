//! What the requests of the control socket do.

use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::control::{
    AllRemotes, AllVms, Code, Events, Latencies, Listing, OneRemote, OneVm, Outcome, Refusal, RemoteListing,
    RemoteReport, RemoteRequest, RemoteStats, Request, Stats, TableReport, TraceReport, Traces,
};
use super::events;
use super::vms::{AddError, Vms, report};
use crate::bridge::Bridge;
use crate::causes::Causes;
use crate::remote::attach::read_table;
use crate::remote::core::Order;
use crate::remote::layout::Layout;
use crate::remote::memory::Carveouts;
use crate::remote::resource_table::ResourceTable;
use crate::remote::trace::TraceBuffer;

/// Carries out a request.
pub(super) fn handle(vms: &Vms, request: Request) -> Outcome {
    match request {
        Request::AddVm(keys) => match vms.add(keys) {
            Ok(vm) => result(&OneVm { vm }),
            Err(AddError::Keys(error)) => Err(Refusal::new(Code::Vm, error.to_string())),
            Err(AddError::Terms(refusal)) => Err(refusal),
            Err(error @ (AddError::Vm(_) | AddError::Socket(_))) => {
                Err(Refusal::new(Code::Failed, Causes(&error).to_string()))
            }
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
        Request::List => result(&Listing { remotes: vms.each_remote(listing) }),
        Request::Stats => result(&stats(vms)),
        Request::Events => result(&Events { events: events::recorded() }),
        Request::ListRemotes => result(&AllRemotes { remotes: vms.remotes() }),
        Request::Remote { name, order } => {
            vms.with_remote(&name, |bridge| remote(&name, bridge, order)).unwrap_or_else(|| {
                let known: Vec<_> = vms.remotes().into_iter().map(|remote| remote.name).collect();
                let message = format!(
                    "key name: expected the name of a remote, of which there are: {}, found {name:?}",
                    known.join(", ")
                );
                Err(Refusal::new(Code::NotFound, message))
            })
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
            let (table, memory) = table_of(name, bridge)?;
            let mut traces = Vec::new();
            for trace in table.traces() {
                let buffer = TraceBuffer::new(&memory, trace).map_err(|error| refuse(&error))?;
                let report = |buffer: &TraceBuffer| TraceReport {
                    name: buffer.name().to_owned(),
                    text: buffer.text(),
                };
                traces.extend(buffer.as_ref().map(report));
            }
            return result(&Traces { traces });
        }
        RemoteRequest::Table => {
            let (table, _) = table_of(name, bridge)?;
            return result(&TableReport { table: table.to_string() });
        }
    };
    bridge.order(order).map_err(|error| refuse(&error))?;
    result(&OneRemote { remote: report(name, bridge) })
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
