//! The VMs that are being served: each has a thread that speaks vhost-user, and a place at its remote's bridge.
//!
//! There is one way for a VM to be served, whether it was configured or comes at run time: the keeper opens its socket, and
//! has its front-ends come in here. Removing it goes the same way back.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{Builder, JoinHandle, sleep};
use std::time::Duration;

use log::{Level, debug, error, info};
use serde_json::{Map, Value};
use thiserror::Error;

use super::config::{KeptSlot, KeyError, one_more_vm, service_rules};
use super::control::{Refusal, RemoteReport, RuleSet, RulesSet, VmReport};
use super::plan::{Plan, VmPlan};
use super::remotes::Remote;
use super::requests::to_toml;
use crate::bridge::{Bridge, SlotTaken, VmConfig};
use crate::causes::Causes;
use crate::guest::device::{ConnectionError, serve_one};
use crate::guest::gate::Gate;
use crate::guest::port::QueueOwner;
use crate::keeper::calls::{KeptRule, KeptVm};
use crate::keeper::channel::CallError;
use crate::keeper::home::{Home, HomeError, VmStart};
use crate::log_limit::LogLimit;

/// Before another connection is accepted where the last one could not be, for want of descriptors or threads.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// Why a VM cannot be served.
#[derive(Debug, Error)]
pub enum VmError {
    /// Its socket.
    #[error("vm {vm}")]
    Socket {
        /// The VM.
        vm: String,
        /// What is wrong with its socket.
        #[source]
        source: HomeError,
    },
    /// There is no VM of this name in the configuration.
    #[error("vm {vm}: expected the name of a configured VM, found none of this name")]
    Unknown {
        /// The VM.
        vm: String,
    },
    /// Its place at the remote.
    #[error("vm {vm}")]
    Slot {
        /// The VM.
        vm: String,
        /// What is wrong with its slot.
        #[source]
        source: SlotTaken,
    },
    /// Something that the system did not give.
    #[error("vm {vm}: cannot set up {what}")]
    System {
        /// The VM.
        vm: String,
        /// What.
        what: &'static str,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

/// Why a VM cannot be added.
#[derive(Debug, Error)]
pub enum AddError {
    /// What is said of it.
    #[error(transparent)]
    Keys(#[from] Box<KeyError>),
    /// What is said of it is not said in the terms of the configuration.
    #[error(transparent)]
    Terms(#[from] Refusal),
    /// Its socket cannot be opened.
    #[error(transparent)]
    Socket(#[from] CallError),
    /// What it takes.
    #[error(transparent)]
    Vm(#[from] VmError),
}

/// A VM that is being served.
struct Served {
    plan: VmPlan,
    gate: Arc<Gate>,
    thread: JoinHandle<()>,
}

/// All VMs that are being served, and the remotes that they talk to.
pub(super) struct Vms {
    /// What the program was started with.
    configured: Plan,
    home: Home,
    state: Mutex<State>,
}

struct State {
    /// As in the plan. None once the program ends.
    remotes: Vec<Remote>,
    served: Vec<Served>,
    /// Rules for services that were set at run time.
    rules: Vec<KeptRule>,
}

impl Vms {
    /// No VMs yet, in front of the remotes of the plan, at which these rules were set and hold.
    pub(super) fn new(configured: Plan, remotes: Vec<Remote>, rules: Vec<KeptRule>, home: Home) -> Self {
        Vms { configured, home, state: Mutex::new(State { remotes, served: Vec::new(), rules }) }
    }

    /// Serves a VM whose socket the keeper has opened, for this worker or for one before.
    pub(super) fn serve_again(&self, kept: KeptVm) -> Result<(), AddError> {
        let mut state = self.state();
        let plan = match kept.keys {
            // The keeper has not asked whose slot it is, either.
            Some(keys) => state.one_more(&self.configured, &keys, &[]),
            None => {
                let configured = self.configured.vms.iter().find(|vm| vm.name == kept.name);
                configured.cloned().ok_or(VmError::Unknown { vm: kept.name.clone() }.into())
            }
        };
        Ok(state.serve(plan?, &self.home)?)
    }

    /// All VMs are there that an earlier worker may have served.
    pub(super) fn settle(&self) {
        self.state().remotes.iter().for_each(|remote| remote.bridge.settle());
    }

    /// Serves one VM more, of which these keys are said.
    pub(super) fn add(&self, mut keys: Map<String, Value>) -> Result<VmReport, AddError> {
        let mut state = self.state();
        let plan = state.one_more(&self.configured, &keys, &state.kept(&self.configured))?;
        let report = self.report(&plan, false);
        // A later worker is to come to the same plan, whoever is there by then.
        keys.insert("slot".to_owned(), report.slot.into());
        keys.insert("remote".to_owned(), report.remote.as_str().into());
        self.home.add_vm(keys)?;
        if let Err(error) = state.serve(plan, &self.home) {
            self.close(&report.name);
            return Err(error.into());
        }
        info!("vm {}: added on {}", report.name, report.socket);
        Ok(report)
    }

    /// Shares services by a rule with these keys from now on.
    pub(super) fn set_service(&self, keys: &Map<String, Value>) -> Result<RulesSet, AddError> {
        let mut state = self.state();
        let served: Vec<_> = state.served.iter().map(|vm| vm.plan.clone()).collect();
        let mut remotes = Vec::new();
        for (remote, rule) in service_rules(to_toml(keys)?, &self.configured, &served)? {
            let name = self.configured.remotes[remote].name.clone();
            let meant = served.iter().filter(|vm| vm.remote == remote && rule.names(vm.slot));
            let vms = meant.map(|vm| (vm.slot, vm.name.clone())).collect();
            let kept = KeptRule { remote: name.clone(), rule: rule.clone(), vms };
            self.home.set_rule(kept.clone())?;
            state.rules.retain(|other| !kept.is_in_place_of(other));
            state.rules.push(kept);
            let services = state.remotes[remote].bridge.set_rule(rule);
            info!("remote {name}: a rule was set for services");
            remotes.push(RuleSet { name, services: services.iter().map(ToString::to_string).collect() });
        }
        Ok(RulesSet { remotes })
    }

    /// Serves the VM of this name no more, if there is one: its front-end is disconnected, and its socket is gone.
    pub(super) fn remove(&self, name: &str) -> Option<VmReport> {
        let mut state = self.state();
        let at = state.served.iter().position(|vm| vm.plan.name == name)?;
        let Served { plan, gate, thread } = state.served.remove(at);
        // Nobody new comes in, whoever is in goes, and when all that is over the bridge forgets the VM.
        self.close(name);
        gate.shut();
        if thread.join().is_err() {
            error!("vm {name}: its thread had panicked");
        }
        state.remotes[plan.remote].bridge.remove_vm(plan.slot);
        info!("vm {name}: removed");
        Some(self.report(&plan, false))
    }

    /// The VMs, in the order in which they were added.
    pub(super) fn list(&self) -> Vec<VmReport> {
        self.state().served.iter().map(|vm| self.report(&vm.plan, vm.gate.is_occupied())).collect()
    }

    /// The remotes, in the order of the configuration.
    pub(super) fn remotes(&self) -> Vec<RemoteReport> {
        self.each_remote(report)
    }

    /// Something about each remote, in the order of the configuration.
    pub(super) fn each_remote<T>(&self, about: impl Fn(&str, &Bridge) -> T) -> Vec<T> {
        let state = self.state();
        let bridges = state.remotes.iter().map(|remote| &remote.bridge);
        self.configured.remotes.iter().zip(bridges).map(|(plan, bridge)| about(&plan.name, bridge)).collect()
    }

    /// Has something done with the bridge of the remote of this name, if there is one.
    pub(super) fn with_remote<T>(&self, name: &str, act: impl FnOnce(&Bridge) -> T) -> Option<T> {
        let state = self.state();
        let index = self.configured.remotes.iter().position(|remote| remote.name == name)?;
        Some(act(&state.remotes.get(index)?.bridge))
    }

    /// Ends in the order that leaves everyone else in a good state: no new front-ends, then the remotes are let go of.
    pub(super) fn end(&self) {
        let mut state = self.state();
        state.served.clear();
        // Whoever counts on another remote stands behind it.
        for remote in state.remotes.drain(..).rev() {
            remote.bridge.stop();
        }
    }

    /// Has the program that is installed now take over.
    pub(super) fn upgrade(&self) -> Result<(), CallError> {
        self.home.upgrade()
    }

    /// Has the keeper close the socket of a VM.
    fn close(&self, name: &str) {
        if let Err(error) = self.home.remove_vm(name) {
            debug!("vm {name}: its socket: {}", Causes(&error));
        }
    }

    fn report(&self, plan: &VmPlan, connected: bool) -> VmReport {
        VmReport {
            name: plan.name.clone(),
            remote: self.configured.remotes[plan.remote].name.clone(),
            slot: plan.slot.number(),
            socket: plan.socket.to_string(),
            connected,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A remote as replies tell of it.
pub(super) fn report(name: &str, bridge: &Bridge) -> RemoteReport {
    let state = bridge.inspect().map_or("offline".to_owned(), |seen| seen.state.to_string());
    RemoteReport { name: name.to_owned(), state }
}

impl State {
    /// The plan of one VM more, of which these keys are said.
    fn one_more(
        &self,
        configured: &Plan,
        keys: &Map<String, Value>,
        kept: &[KeptSlot],
    ) -> Result<VmPlan, AddError> {
        let served: Vec<_> = self.served.iter().map(|vm| vm.plan.clone()).collect();
        Ok(one_more_vm(to_toml(keys)?, configured, &served, kept)?)
    }

    /// The slots of VMs that rules mean which were set at run time.
    fn kept(&self, configured: &Plan) -> Vec<KeptSlot> {
        let number = |name: &str| configured.remotes.iter().position(|remote| remote.name == name);
        let kept = self.rules.iter().filter_map(|kept| Some((number(&kept.remote)?, &kept.vms)));
        kept.flat_map(|(remote, vms)| vms.iter().map(move |(slot, vm)| (remote, *slot, vm.clone()))).collect()
    }

    fn serve(&mut self, plan: VmPlan, home: &Home) -> Result<(), VmError> {
        let start = home.vm(&plan.name).map_err(|source| VmError::Socket { vm: plan.name.clone(), source });
        let VmStart { listener, is_connected } = start?;
        let failed = |what| {
            let vm = plan.name.clone();
            move |source| VmError::System { vm, what, source }
        };
        let gate = Arc::new(Gate::new(listener).map_err(failed("an event descriptor"))?);
        let bridge = &self.remotes[plan.remote].bridge;
        let VmPlan { name, slot, device, policy, .. } = plan.clone();
        let owner = bridge
            .add_vm(VmConfig { name: name.clone(), slot, vdev: device, policy, goes_on: is_connected })
            .map_err(|source| VmError::Slot { vm: name.clone(), source })?;
        let inside = Arc::clone(&gate);
        let thread = Builder::new().name(format!("vm {name}")).spawn(move || {
            front_ends(&name, &inside, &owner);
        });
        match thread {
            Ok(thread) => {
                self.served.push(Served { plan, gate, thread });
                Ok(())
            }
            Err(source) => {
                bridge.remove_vm(slot);
                Err(VmError::System { vm: plan.name, what: "its thread", source })
            }
        }
    }
}

/// Serves the front-ends of one VM, one after the other, until its gate is shut.
fn front_ends(name: &str, gate: &Gate, owner: &Arc<dyn QueueOwner>) {
    let mut log = LogLimit::default();
    while !gate.is_shut() {
        if let Err(error) = serve_one(name, gate, owner, &mut log) {
            log.say(Level::Warn, format_args!("vm {name}: {}", Causes(&error)));
            if matches!(error, ConnectionError::Start(_)) {
                sleep(ACCEPT_RETRY);
            }
        }
    }
}
