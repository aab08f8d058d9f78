//! What the keeper process does: it opens the sockets, keeps a worker running, and carries out the worker's requests.

use std::fs::File;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::Builder;
use std::time::{Duration, Instant};

use log::{info, warn};
use serde_json::{Map, Value};
use signal_hook::consts::{SIGHUP, TERM_SIGNALS};
use signal_hook::iterator::Signals;
use thiserror::Error;

use super::activation::{ActivationError, Passed};
use super::config::{KeyError, one_more_vm};
use super::control::Refusal;
use super::events::{self, Rings, Who};
use super::last_events::{self, written_down};
use super::plan::{MetricsPlan, Plan, VmPlan};
use super::remotes::{self, RemoteError};
use super::requests::to_toml;
use super::sockets::{self, Rights, SocketError, SocketFile, VmListener};
use super::state_files::{events_file, state_file, state_memory};
use crate::bridge::State;
use crate::causes::Causes;
use crate::keeper::calls::{KeptRule, KeptVm, MAX_RULES, Reply, Request, VERSION};
use crate::keeper::channel::{Failure, Outcome};
use crate::keeper::handover::Handover;
use crate::keeper::supervise::{Event, Household, SuperviseError, supervise};
use crate::keeper::vm::{FrontEnds, Vm};
use crate::keeper::worker::Worker;
use crate::remote::host::{self, Direct, Host};

/// Permissions of the control socket: whoever may use it has the program make sockets wherever it can.
const CONTROL_MODE: u32 = 0o600;

/// How long a worker that is going to be replaced may take for the answers that it owes.
const SETTLE: Duration = Duration::from_secs(5);

/// Why the plan cannot be served.
#[derive(Debug, Error)]
pub enum KeepError {
    /// The socket of a VM.
    #[error("vm {vm}")]
    Vm {
        /// The VM.
        vm: String,
        /// What is wrong with its socket.
        #[source]
        source: SocketError,
    },
    /// The control socket.
    #[error("control")]
    Control(#[source] SocketError),
    /// The socket for metrics.
    #[error("metrics")]
    Metrics(#[source] SocketError),
    /// The address for metrics.
    #[error("metrics: cannot listen on {address}")]
    MetricsAddress {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Something that the system did not give.
    #[error("cannot set up {what}")]
    System {
        /// What.
        what: &'static str,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A file for what is to outlive the program.
    #[error(
        "state file {path}: expected one that can be created or opened, and that no other program has locked",
        path = path.display()
    )]
    StateFile {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Sockets of the service manager.
    #[error(transparent)]
    Activation(#[from] ActivationError),
    /// The keys of a VM that is to be added.
    #[error(transparent)]
    Keys(#[from] Box<KeyError>),
    /// The keys are none.
    #[error(transparent)]
    NoKeys(#[from] Refusal),
    /// A remote.
    #[error(transparent)]
    Remote(#[from] RemoteError),
    /// There are no workers any more.
    #[error(transparent)]
    Workers(#[from] SuperviseError),
}

impl KeepError {
    /// Whether a worker has said already what is wrong.
    pub fn is_said(&self) -> bool {
        matches!(self, KeepError::Workers(SuperviseError::AtStart))
    }
}

fn system(what: &'static str) -> impl Fn(io::Error) -> KeepError {
    move |source| KeepError::System { what, source }
}

/// Has the plan served until the program is told to end, or until every front-end it was started for has gone and none can
/// come. `handover` is how the program was started.
///
/// # Errors
/// Anything that keeps it from starting; workers that die again and again. Nothing that front-ends, guests or remotes do
/// later is an error here.
pub fn keep(plan: &Plan, handover: &Handover) -> Result<(), KeepError> {
    let (sender, events) = channel();
    let mut signals =
        Signals::new(TERM_SIGNALS.iter().chain(&[SIGHUP])).map_err(system("signal handling"))?;
    let told = sender.clone();
    let wait = move || signals.forever().try_for_each(|signal| told.send(Event::Signal(signal)));
    let waiting = Builder::new().name("signals".to_owned()).spawn(wait);
    waiting.map_err(system("the thread that waits for signals"))?;

    let passed = Passed::to_this_process(plan)?;
    let kept = Arc::new(Kept::open(plan, handover, passed, &sender)?);
    match Rings::open(&kept.recorder, Who::Keeper) {
        Ok(rings) => events::record_in(rings),
        Err(error) => warn!("nothing of this process is recorded: {}", Causes(&error)),
    }
    let events =
        written_down(events, last_events::directory(plan)).map_err(system("the thread for last events"))?;
    let household: Arc<dyn Household> = Arc::<Kept>::clone(&kept);
    let ended = supervise((&sender, &events), &household);
    kept.close();
    Ok(ended?)
}

/// A reason for the program to go on, shared by all who have one: when the last of them drops it, the program ends.
pub(super) struct Going(Sender<Event>);

impl Drop for Going {
    fn drop(&mut self) {
        let _ended_already = self.0.send(Event::Over);
    }
}

/// What the keeper holds.
pub(super) struct Kept {
    plan: Plan,
    handover: OwnedFd,
    /// State memory, by the remotes of the plan.
    states: Vec<OwnedFd>,
    /// What opens files and throws switches, by the remotes of the plan.
    hosts: Vec<Direct>,
    control: Option<OwnedFd>,
    metrics: Option<OwnedFd>,
    /// What happens is recorded here.
    recorder: File,
    events: Sender<Event>,
    held: Mutex<Held>,
}

struct Held {
    /// Rules for services that were set at run time, the last one first.
    rules: Vec<KeptRule>,
    vms: Vec<KeptOne>,
    control: Option<SocketFile>,
    metrics: Option<SocketFile>,
    /// Whoever can send requests keeps the program going.
    going: Option<Arc<Going>>,
}

/// A VM that is kept.
struct KeptOne {
    plan: VmPlan,
    /// Where it was added at run time.
    keys: Option<Map<String, Value>>,
    file: Option<SocketFile>,
    vm: Vm,
}

impl Kept {
    /// Opens everything that the plan names and that was not passed to the program. Sockets first: where another program
    /// serves them already, nothing is touched.
    pub(super) fn open(
        plan: &Plan,
        handover: &Handover,
        mut passed: Passed,
        events: &Sender<Event>,
    ) -> Result<Self, KeepError> {
        let (control, file) = match (passed.control(), &plan.control) {
            (Some(listener), _) => (Some(listener), None),
            (None, Some(path)) => {
                let rights = Rights { mode: Some(CONTROL_MODE), group: None };
                let (listener, file) = sockets::listen(path, rights).map_err(KeepError::Control)?;
                (Some(listener), Some(file))
            }
            (None, None) => (None, None),
        };
        let socket = |vm: &VmPlan| match passed.vm(&vm.name) {
            Some(listener) => Ok(VmListener::Listening(listener, None)),
            None => open(vm),
        };
        let sockets = plan.vms.iter().map(socket).collect::<Result<Vec<_>, _>>()?;
        let states = plan.remotes.iter().map(|remote| match &plan.state {
            Some(folder) => state_file(&folder.join(format!("{}.state", remote.name)), State::SIZE),
            None => state_memory(State::SIZE).map_err(system("state memory")),
        });
        let states = states.collect::<Result<Vec<_>, _>>()?;
        let recorder = match &plan.state {
            Some(folder) => events_file(&folder.join("events"))?,
            None => state_memory(events::SIZE).map_err(system("the memory for events"))?,
        };
        let (metrics, metrics_file) = plan.metrics.as_ref().map(open_metrics).transpose()?.unzip();
        let going = Arc::new(Going(events.clone()));
        let held = Held {
            vms: Vec::new(),
            rules: Vec::new(),
            going: control.is_some().then(|| Arc::clone(&going)),
            control: file,
            metrics: metrics_file.flatten(),
        };
        let kept = Kept {
            plan: plan.clone(),
            handover: handover.to_file().map_err(system("the handover to workers"))?.into(),
            states,
            hosts: remotes::hosts(&plan.remotes)?,
            control: control.map(OwnedFd::from),
            metrics,
            recorder: recorder.into(),
            events: events.clone(),
            held: Mutex::new(held),
        };
        for (plan, socket) in plan.vms.iter().zip(sockets) {
            kept.serve(plan.clone(), None, socket, &going)?;
        }
        Ok(kept)
    }

    /// Opens the socket of one VM more. The worker has looked at the keys, which is not to be relied on.
    fn add(&self, keys: Map<String, Value>) -> Result<(), KeepError> {
        let table = to_toml(&keys)?;
        let served: Vec<_> = self.held().vms.iter().map(|kept| kept.plan.clone()).collect();
        let plan = one_more_vm(table, &self.plan, &served, &[])?;
        let going = self.held().going.clone().unwrap_or_else(|| Arc::new(Going(self.events.clone())));
        let socket = open(&plan)?;
        self.serve(plan, Some(keys), socket, &going)
    }

    fn serve(
        &self,
        plan: VmPlan,
        keys: Option<Map<String, Value>>,
        socket: VmListener,
        going: &Arc<Going>,
    ) -> Result<(), KeepError> {
        let (front_ends, file) = match socket {
            VmListener::Listening(listener, file) => (FrontEnds::Listening(listener), file),
            VmListener::Connected(stream) => (FrontEnds::Connected(stream), None),
        };
        let mut held = self.held();
        let vm = Vm::start(&plan.name, front_ends, Arc::clone(going));
        let vm = vm.map_err(system("the thread of a VM"))?;
        held.vms.push(KeptOne { plan, keys, file, vm });
        Ok(())
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Household for Kept {
    fn carry_out(&self, worker: &Arc<Worker>, request: Request) -> Outcome<Reply> {
        let done = |fd: Option<&OwnedFd>| {
            let fd = fd.map(OwnedFd::try_clone).transpose().map_err(|error| Failure::of(&error))?;
            Ok((Reply::Done, fd.into_iter().collect()))
        };
        let tell = |event| self.events.send(event).map_err(|_| Failure::new("the program is ending"));
        match request {
            Request::Start { version: VERSION } => done(Some(&self.handover)),
            Request::Start { version } => Err(Failure::new(format!(
                "expected a worker of version {VERSION}, found {version}; restart the program to run another version"
            ))),
            Request::Control => done(self.control.as_ref()),
            Request::Events => {
                let recorder = self.recorder.try_clone().map_err(|error| Failure::of(&error))?;
                Ok((Reply::Done, vec![recorder.into()]))
            }
            Request::Metrics => done(self.metrics.as_ref()),
            Request::Vms => {
                let entry = |kept: &KeptOne| KeptVm { name: kept.plan.name.clone(), keys: kept.keys.clone() };
                Ok((Reply::Vms(self.held().vms.iter().map(entry).collect()), Vec::new()))
            }
            Request::Vm { name } => {
                let held = self.held();
                let kept =
                    held.vms.iter().find(|kept| kept.plan.name == name).ok_or_else(|| unknown(&name))?;
                let joined = kept.vm.join_to(worker).map_err(|error| Failure::of(&error))?;
                Ok((Reply::Vm { is_connected: joined.1 }, vec![joined.0.into()]))
            }
            Request::AddVm { keys } => {
                self.add(keys).map_err(|error| Failure::of(&error))?;
                done(None)
            }
            Request::RemoveVm { name } => {
                let mut held = self.held();
                let at = held.vms.iter().position(|kept| kept.plan.name == name);
                let KeptOne { file, vm, .. } = held.vms.remove(at.ok_or_else(|| unknown(&name))?);
                drop(held);
                // Nobody new comes in, and whoever is in goes.
                drop(file);
                vm.stop();
                info!("vm {name}: its socket is closed");
                done(None)
            }
            Request::Rules => Ok((Reply::Rules(self.held().rules.clone()), Vec::new())),
            Request::SetRule { rule } => {
                let mut held = self.held();
                if !self.plan.remotes.iter().any(|remote| remote.name == rule.remote) {
                    return Err(unknown(&rule.remote));
                }
                let others = held.rules.iter().filter(|kept| !rule.is_in_place_of(kept)).cloned();
                let rules: Vec<_> = std::iter::once((*rule).clone()).chain(others).collect();
                // All of them are handed to the next worker at once.
                let size = serde_json::to_vec(&rules).map_or(usize::MAX, |bytes| bytes.len());
                if size > MAX_RULES {
                    return Err(Failure::new(format!(
                        "expected rules set at run time of at most {MAX_RULES} bytes in all, found {size}; set fewer, for more names each"
                    )));
                }
                held.rules = rules;
                done(None)
            }
            Request::State { remote } => {
                let at = self.plan.remotes.iter().position(|known| known.name == remote);
                done(Some(at.and_then(|at| self.states.get(at)).ok_or_else(|| unknown(&remote))?))
            }
            Request::Host { remote, request } => {
                let at = self.plan.remotes.iter().position(|known| known.name == remote);
                let host = at.and_then(|at| self.hosts.get(at)).ok_or_else(|| unknown(&remote))?;
                let host::Answer { told, file } = host.ask(&request).map_err(|error| Failure::of(&error))?;
                Ok((Reply::Host(told), file.into_iter().collect()))
            }
            Request::Serving => tell(Event::Serving(worker.number())).and_then(|()| done(None)),
            Request::Upgrade => tell(Event::Upgrade).and_then(|()| done(None)),
        }
    }

    fn settle(&self) {
        let settling: Vec<_> = self.held().vms.iter().map(|kept| kept.vm.settling()).collect();
        let until = Instant::now() + SETTLE;
        settling.into_iter().for_each(|settle| settle(until.saturating_duration_since(Instant::now())));
    }

    fn close(&self) {
        let mut held = self.held();
        held.control = None;
        held.metrics = None;
        for kept in &mut held.vms {
            kept.file = None;
        }
    }
}

fn unknown(name: &str) -> Failure {
    Failure::new(format!("expected the name of something that is served, found {name:?}"))
}

/// Opens the socket of a VM.
fn open(plan: &VmPlan) -> Result<VmListener, KeepError> {
    let rights = Rights { mode: plan.mode, group: plan.group.as_ref() };
    sockets::open(&plan.socket, rights).map_err(|source| KeepError::Vm { vm: plan.name.clone(), source })
}

/// Opens the socket for metrics, which clients are taken from without waiting.
fn open_metrics(plan: &MetricsPlan) -> Result<(OwnedFd, Option<SocketFile>), KeepError> {
    match plan {
        MetricsPlan::Socket(path) => {
            let (listener, file) = sockets::listen(path, Rights::default()).map_err(KeepError::Metrics)?;
            listener.set_nonblocking(true).map_err(system("the socket for metrics"))?;
            Ok((listener.into(), Some(file)))
        }
        MetricsPlan::Address(address) => {
            let listener = TcpListener::bind(address).and_then(|listener| {
                listener.set_nonblocking(true)?;
                Ok(listener)
            });
            let address = *address;
            Ok((listener.map_err(|source| KeepError::MetricsAddress { address, source })?.into(), None))
        }
    }
}
