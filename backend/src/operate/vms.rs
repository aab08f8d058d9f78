//! The VMs that are being served: each has a socket, a thread that speaks vhost-user, and a place at its remote's bridge.
//!
//! There is one way for a VM to be served, whether it was configured or comes at run time: its socket is
//! opened, and then it is served. Removing it goes the same way back.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{Builder, JoinHandle, sleep};
use std::time::Duration;

use log::{Level, error, info};
use thiserror::Error;

use super::config::{KeyError, one_more_vm};
use super::control::{RemoteReport, VmReport};
use super::ferry;
use super::plan::{Plan, VmPlan};
use super::remotes::Remote;
use super::serve::Going;
use super::sockets::{self, Rights, SocketError, SocketFile, VmListener};
use crate::bridge::{Bridge, SlotTaken, VmConfig};
use crate::causes::Causes;
use crate::guest::device::{ConnectionError, serve_one};
use crate::guest::gate::Gate;
use crate::guest::port::QueueOwner;
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
        source: SocketError,
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
pub(super) enum AddError {
    /// What is said of it.
    #[error(transparent)]
    Keys(#[from] Box<KeyError>),
    /// What it takes.
    #[error(transparent)]
    Vm(#[from] VmError),
}

/// A VM whose socket is open, but which nobody serves yet.
pub(super) struct Opened {
    plan: VmPlan,
    gate: Arc<Gate>,
    file: Option<SocketFile>,
    /// There will be one front-end only.
    once: bool,
}

impl Opened {
    /// Opens the socket of a VM.
    pub(super) fn open(plan: VmPlan) -> Result<Self, VmError> {
        let system = |what| {
            let vm = plan.name.clone();
            move |source| VmError::System { vm, what, source }
        };
        let rights = Rights { mode: plan.mode, group: plan.group.as_ref() };
        let socket = sockets::open(&plan.socket, rights)
            .map_err(|source| VmError::Socket { vm: plan.name.clone(), source })?;
        let (listener, file, once) = match socket {
            VmListener::Listening(listener, file) => (listener, file, false),
            VmListener::Connected(stream) => {
                let listener = ferry::listener_for(&plan.name, stream);
                (listener.map_err(system("the inherited connection"))?, None, true)
            }
        };
        let gate = Gate::new(listener).map_err(system("an event descriptor"))?;
        Ok(Opened { plan, gate: Arc::new(gate), file, once })
    }
}

/// A VM that is being served.
struct Served {
    plan: VmPlan,
    gate: Arc<Gate>,
    file: Option<SocketFile>,
    thread: JoinHandle<()>,
}

/// All VMs that are being served, and the remotes that they talk to.
pub(super) struct Vms {
    /// What the program was started with.
    configured: Plan,
    state: Mutex<State>,
}

struct State {
    /// As in the plan. None once the program ends.
    remotes: Vec<Remote>,
    served: Vec<Served>,
}

impl Vms {
    /// No VMs yet, in front of the remotes of the plan.
    pub(super) fn new(configured: Plan, remotes: Vec<Remote>) -> Self {
        Vms { configured, state: Mutex::new(State { remotes, served: Vec::new() }) }
    }

    /// Serves a VM until it is removed, or the only front-end that it can have is gone.
    pub(super) fn serve(&self, vm: Opened, going: &Arc<Going>) -> Result<(), VmError> {
        self.state().serve(vm, Arc::clone(going))
    }

    /// Serves one VM more, of which these keys are said.
    pub(super) fn add(&self, keys: toml::Table, going: &Arc<Going>) -> Result<VmReport, AddError> {
        let mut state = self.state();
        let served: Vec<_> = state.served.iter().map(|vm| vm.plan.clone()).collect();
        let plan = one_more_vm(keys, &self.configured, &served)?;
        let report = self.report(&plan, false);
        state.serve(Opened::open(plan)?, Arc::clone(going))?;
        info!("vm {}: added on {}", report.name, report.socket);
        Ok(report)
    }

    /// Serves the VM of this name no more, if there is one: its front-end is disconnected, and its socket is gone.
    pub(super) fn remove(&self, name: &str) -> Option<VmReport> {
        let mut state = self.state();
        let at = state.served.iter().position(|vm| vm.plan.name == name)?;
        let Served { plan, gate, file, thread } = state.served.remove(at);
        // Nobody new comes in, whoever is in goes, and when all that is over the bridge forgets the VM.
        drop(file);
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
        let state = self.state();
        let bridges = state.remotes.iter().map(|remote| &remote.bridge);
        self.configured.remotes.iter().zip(bridges).map(|(plan, bridge)| report(&plan.name, bridge)).collect()
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
    fn serve(&mut self, vm: Opened, going: Arc<Going>) -> Result<(), VmError> {
        let Opened { plan, gate, file, once } = vm;
        let bridge = &self.remotes[plan.remote].bridge;
        let VmPlan { name, slot, device, policy, .. } = plan.clone();
        let owner = bridge
            .add_vm(VmConfig { name: name.clone(), slot, vdev: device, policy, goes_on: false })
            .map_err(|source| VmError::Slot { vm: name.clone(), source })?;
        let inside = Arc::clone(&gate);
        let thread = Builder::new().name(format!("vm {name}")).spawn(move || {
            front_ends(&name, &inside, once, &owner);
            drop(going);
        });
        match thread {
            Ok(thread) => {
                self.served.push(Served { plan, gate, file, thread });
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
fn front_ends(name: &str, gate: &Gate, once: bool, owner: &Arc<dyn QueueOwner>) {
    let mut log = LogLimit::default();
    while !gate.is_shut() {
        if let Err(error) = serve_one(name, gate, owner, &mut log) {
            log.say(Level::Warn, format_args!("vm {name}: {}", Causes(&error)));
            if matches!(error, ConnectionError::Start(_)) {
                sleep(ACCEPT_RETRY);
            }
        }
        if once {
            return;
        }
    }
}
