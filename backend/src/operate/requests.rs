//! What the requests of the control socket do.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::control::{AllVms, Code, OneVm, Outcome, Refusal, Request};
use super::serve::Going;
use super::vms::{AddError, Vms};
use crate::causes::Causes;

/// Carries out a request. `going`: whoever can send requests keeps the program going.
pub(super) fn handle(vms: &Vms, going: &Arc<Going>, request: Request) -> Outcome {
    match request {
        Request::AddVm(keys) => match vms.add(to_toml(keys)?, going) {
            Ok(vm) => result(&OneVm { vm }),
            Err(AddError::Keys(error)) => Err(Refusal::new(Code::Vm, error.to_string())),
            Err(AddError::Vm(error)) => Err(Refusal::new(Code::Failed, Causes(&error).to_string())),
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
    }
}

fn result(result: &impl Serialize) -> Outcome {
    serde_json::to_value(result).map_err(|error| Refusal::new(Code::Failed, error.to_string()))
}

/// The keys of a VM as they would stand in a file. A null is as if it was not there.
fn to_toml(mut keys: Map<String, Value>) -> Result<toml::Table, Refusal> {
    keys.retain(|_, value| !value.is_null());
    toml::Table::deserialize(Value::from(keys)).map_err(|error| {
        let message = format!("key vm: expected values that TOML has too, found another; {error}");
        Refusal::new(Code::Vm, message)
    })
}

#[cfg(test)]
mod tests;
