//! Starting what the plan says, and ending it.

use std::num::TryFromIntError;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::Builder;
use std::time::{Duration, Instant};

use log::{Level, info};
use signal_hook::consts::TERM_SIGNALS;
use signal_hook::iterator::{Handle, Signals};
use thiserror::Error;

use super::ferry;
use super::plan::{LinkPlan, Plan, RemotePlan, SocketPlan};
use super::sockets::{self, Rights, SocketError, SocketFile, VmListener};
use crate::bridge::{Bridge, BridgeError, VmConfig};
use crate::causes::Causes;
use crate::guest::device::{ConnectionError, serve_one};
use crate::guest::gate::Gate;
use crate::guest::port::QueueOwner;
use crate::log_limit::LogLimit;
use crate::remote::core::{Doorbell, MemoryConfig, MemoryFile, RemoteConfig, RemoteCore};
use crate::softcore::{self, CoreThread};

/// Before another connection is accepted where the last one could not be, for want of descriptors or threads.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// Why the plan cannot be served.
#[derive(Debug, Error)]
pub enum ServeError {
    /// A VM's socket.
    #[error("vm {vm}")]
    Socket {
        /// The VM.
        vm: String,
        /// What is wrong with its socket.
        #[source]
        source: SocketError,
    },
    /// A memory region that this machine cannot address.
    #[error("remote {remote}: memory of {size:#x} bytes is more than this machine can map")]
    Size {
        /// The remote.
        remote: String,
        /// The size in bytes.
        size: u64,
        /// The reason.
        #[source]
        source: TryFromIntError,
    },
    /// The built-in core.
    #[error("remote {remote}: cannot start the built-in core")]
    Softcore {
        /// The remote.
        remote: String,
        /// What is wrong.
        #[source]
        source: softcore::StartError,
    },
    /// A bridge.
    #[error("remote {remote}")]
    Bridge {
        /// The remote.
        remote: String,
        /// What is wrong.
        #[source]
        source: BridgeError,
    },
    /// Something that the system did not give.
    #[error("cannot set up {what}")]
    System {
        /// What.
        what: String,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
}

/// A remote that is being served. The built-in core, if it is one, outlives the bridge to it.
struct Remote {
    bridge: Bridge,
    _softcore: Option<CoreThread>,
}

/// Serves the plan until the program is told to end, or until every front-end it was started for has gone.
///
/// # Errors
/// Anything that keeps it from starting. Nothing that front-ends, guests or remotes do later is an error here.
pub fn serve(plan: &Plan) -> Result<(), ServeError> {
    let system = |what: &str| {
        let what = what.to_owned();
        move |source| ServeError::System { what, source }
    };
    let mut signals = Signals::new(TERM_SIGNALS).map_err(system("signal handling"))?;
    let mut listeners = Vec::new();
    for vm in &plan.vms {
        let rights = Rights { mode: vm.mode, group: vm.group.as_ref() };
        let socket = sockets::open(&vm.socket, rights);
        listeners.push(socket.map_err(|source| ServeError::Socket { vm: vm.name.clone(), source })?);
    }
    let mut remotes = Vec::new();
    for remote in &plan.remotes {
        remotes.push(start_remote(remote)?);
    }

    let mut files = Vec::new();
    let serving = Arc::new(AtomicUsize::new(plan.vms.len()));
    for (vm, listener) in plan.vms.iter().zip(listeners) {
        let config = VmConfig { name: vm.name.clone(), slot: vm.slot, policy: vm.policy.clone() };
        let owner = remotes[vm.remote].bridge.add_vm(config).expect("slots are unique in a plan");
        let (listener, once) = match listener {
            VmListener::Listening(listener, file) => {
                files.extend(file);
                (listener, false)
            }
            VmListener::Connected(stream) => {
                (ferry::listener_for(&vm.name, stream).map_err(system("the inherited connection"))?, true)
            }
        };
        let end = OneLess { serving: Arc::clone(&serving), signals: signals.handle() };
        let name = vm.name.clone();
        let gate = Gate::new(listener).map_err(system("a VM's event descriptor"))?;
        Builder::new()
            .name(format!("vm {name}"))
            .spawn(move || serve_vm(&name, &gate, once, &owner, &end))
            .map_err(system("a VM's thread"))?;
    }
    info!("serving {} VMs on {} remotes", plan.vms.len(), plan.remotes.len());

    if let Some(signal) = signals.forever().next() {
        info!("ending on signal {signal}");
    }
    end(files, remotes);
    Ok(())
}

/// Ends in the order that leaves everyone else in a good state: no new front-ends, then the remotes are let go of.
fn end(files: Vec<SocketFile>, remotes: Vec<Remote>) {
    drop(files);
    for remote in remotes {
        remote.bridge.stop();
    }
}

/// Ends the program when the last VM that can have a front-end has ended.
struct OneLess {
    serving: Arc<AtomicUsize>,
    signals: Handle,
}

impl Drop for OneLess {
    fn drop(&mut self) {
        if self.serving.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.signals.close();
        }
    }
}

/// Serves the front-ends of one VM, one after the other.
fn serve_vm(name: &str, gate: &Gate, once: bool, owner: &Arc<dyn QueueOwner>, _end: &OneLess) {
    let mut log = LogLimit::default();
    loop {
        if let Err(error) = serve_one(name, gate, owner, &mut log) {
            log.say(Level::Warn, format_args!("vm {name}: {}", Causes(&error)));
            if matches!(error, ConnectionError::Start(_)) {
                std::thread::sleep(ACCEPT_RETRY);
            }
        }
        if once {
            return;
        }
    }
}

fn start_remote(plan: &RemotePlan) -> Result<Remote, ServeError> {
    let (config, softcore) = match &plan.link {
        LinkPlan::Loopback => loopback(&plan.name)?,
        LinkPlan::Socket(socket) => (socket_link(&plan.name, socket)?, None),
    };
    let bridge = Bridge::start(RemoteCore::new(config, Instant::now()), plan.policy.clone())
        .map_err(|source| ServeError::Bridge { remote: plan.name.clone(), source })?;
    Ok(Remote { bridge, _softcore: softcore })
}

/// The built-in core: the same link as any other, with both ends in this process.
fn loopback(name: &str) -> Result<(RemoteConfig, Option<CoreThread>), ServeError> {
    let failed = |source| ServeError::Softcore { remote: name.to_owned(), source };
    let core = softcore::Config { status_poll: false, ..softcore::Config::default() };
    let core = softcore::spawn_loopback(core).map_err(failed)?;
    let config = RemoteConfig {
        name: name.to_owned(),
        doorbell: Doorbell::Stream(Some(core.doorbell)),
        memory: vec![MemoryConfig {
            file: MemoryFile::Open(core.memory),
            offset: 0,
            size: mappable(name, core.size)?,
            device_address: core.device_address.into(),
        }],
        table_address: core.table_address.into(),
        attach_after: None,
    };
    Ok((config, Some(core.thread)))
}

fn socket_link(name: &str, plan: &SocketPlan) -> Result<RemoteConfig, ServeError> {
    let mut memory = Vec::new();
    for region in &plan.memory {
        memory.push(MemoryConfig {
            file: MemoryFile::Path(region.path.clone()),
            offset: region.offset,
            size: mappable(name, region.size)?,
            device_address: region.device_address.into(),
        });
    }
    Ok(RemoteConfig {
        name: name.to_owned(),
        doorbell: Doorbell::Path(plan.doorbell.clone()),
        memory,
        table_address: plan.resource_table.into(),
        attach_after: plan.attach_after,
    })
}

fn mappable(remote: &str, size: u64) -> Result<usize, ServeError> {
    usize::try_from(size).map_err(|source| ServeError::Size { remote: remote.to_owned(), size, source })
}
