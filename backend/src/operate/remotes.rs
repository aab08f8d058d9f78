//! Starting the remote cores that a plan names, and ending what was started.

use std::io;
use std::num::TryFromIntError;
use std::sync::Arc;
use std::time::{Duration, Instant};

use thiserror::Error;

use super::plan::{LinkPlan, MailboxPlan, MemoryPlan, MemorySource, Plan, RemotePlan, SharedPlan};
use crate::bridge::{Bridge, BridgeError, State};
use crate::keeper::home::{Home, HomeError};
use crate::remote::config::{MailboxConfig, MemoryConfig, MemoryFile, RemoteConfig, VringsConfig};
use crate::remote::core::RemoteCore;
use crate::remote::host::Direct;
use crate::remote::memory::Access;
use crate::remote::presence::Presence;
use crate::softcore::{self, CoreThread, PreparedLoopback};

/// Why a remote cannot be served.
#[derive(Debug, Error)]
pub enum RemoteError {
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
    /// No event descriptor.
    #[error("remote {remote}: cannot create an event descriptor")]
    Presence {
        /// The remote.
        remote: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// No memory that outlives this process.
    #[error("remote {remote}: its state memory")]
    State {
        /// The remote.
        remote: String,
        /// What is wrong.
        #[source]
        source: HomeError,
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
}

/// A remote that is being served. The built-in core, if it is one, outlives the bridge to it.
pub(super) struct Remote {
    pub(super) bridge: Bridge,
    _softcore: Option<CoreThread>,
}

/// Who opens files and throws switches for each remote, in this process.
pub(super) fn hosts(plans: &[RemotePlan]) -> Result<Vec<Direct>, RemoteError> {
    let host = |plan: &RemotePlan| {
        let config = match &plan.link {
            // Its memory and doorbell are where it runs.
            LinkPlan::Loopback => RemoteConfig::attached(
                &plan.name,
                MailboxConfig::Stream(None),
                Vec::new(),
                VringsConfig::TableOfFirmware,
            ),
            LinkPlan::Shared(shared) => shared_link(&plan.name, shared)?,
        };
        Ok(Direct::new(&with_life(config, plan)))
    };
    plans.iter().map(host).collect()
}

/// Makes the remotes that are built in, which takes more than a bridge may have; their threads come later.
pub(super) fn prepare(plans: &[RemotePlan]) -> Result<Vec<Option<PreparedLoopback>>, RemoteError> {
    let prepare = |plan: &RemotePlan| match &plan.link {
        LinkPlan::Shared(_) => Ok(None),
        LinkPlan::Loopback => {
            let config = softcore::Config { status_poll: false, ..softcore::Config::default() };
            let failed = |source| RemoteError::Softcore { remote: plan.name.clone(), source };
            PreparedLoopback::new(config).map(Some).map_err(failed)
        }
    };
    plans.iter().map(prepare).collect()
}

/// Starts the bridges to all remotes, and those remotes that are `prepared` because they are built in. What takes a file
/// system or privileges is asked of the keeper, at `home`. There are no VMs yet.
pub(super) fn start(
    plan: &Plan,
    prepared: Vec<Option<PreparedLoopback>>,
    home: &Home,
    poll: Duration,
) -> Result<Vec<Remote>, RemoteError> {
    let Plan { remotes: plans, state, .. } = plan;
    let all = Common { home, is_remembered: state.is_some(), poll };
    let presence = |plan: &RemotePlan| match Presence::new(&plan.name) {
        Ok(presence) => Ok(Arc::new(presence)),
        Err(source) => Err(RemoteError::Presence { remote: plan.name.clone(), source }),
    };
    let presences = plans.iter().map(presence).collect::<Result<Vec<_>, _>>()?;
    let parts = plans.iter().zip(prepared).zip(&presences);
    parts.map(|((plan, prepared), own)| start_one(plan, prepared, own, &presences, &all)).collect()
}

/// What holds for all remotes.
struct Common<'a> {
    home: &'a Home,
    is_remembered: bool,
    poll: Duration,
}

fn start_one(
    plan: &RemotePlan,
    prepared: Option<PreparedLoopback>,
    own: &Arc<Presence>,
    presences: &[Arc<Presence>],
    &Common { home, is_remembered, poll }: &Common<'_>,
) -> Result<Remote, RemoteError> {
    let (config, softcore) = match (&plan.link, prepared) {
        (LinkPlan::Shared(shared), _) => (shared_link(&plan.name, shared)?, None),
        (LinkPlan::Loopback, prepared) => loopback(&plan.name, prepared.expect("every built-in core is"))?,
    };
    let after = plan.after.iter().map(|index| Arc::clone(&presences[*index])).collect();
    let config = RemoteConfig { after, is_remembered, ..with_life(config, plan) };
    let core = RemoteCore::new(config, Instant::now()).known_by(Arc::clone(own));
    let core = core.served_by(home.host(&plan.name));
    let state = home.state(&plan.name);
    let state = state.map_err(|source| RemoteError::State { remote: plan.name.clone(), source })?;
    let bridge = Bridge::start(core, plan.policy.clone(), State::new(state), poll)
        .map_err(|source| RemoteError::Bridge { remote: plan.name.clone(), source })?;
    Ok(Remote { bridge, _softcore: softcore })
}

/// The same, with what the plan says about the remote's life.
fn with_life(config: RemoteConfig, plan: &RemotePlan) -> RemoteConfig {
    RemoteConfig {
        boot: plan.boot.clone(),
        recovery: plan.recovery.clone(),
        watch: plan.watch.clone(),
        dump: plan.dump.clone(),
        ..config
    }
}

/// The built-in core: the same link as any other, with both ends in this process.
fn loopback(
    name: &str,
    prepared: PreparedLoopback,
) -> Result<(RemoteConfig, Option<CoreThread>), RemoteError> {
    let failed = |source| RemoteError::Softcore { remote: name.to_owned(), source };
    let core = prepared.start().map_err(failed)?;
    let memory = MemoryConfig::whole(core.memory, mappable(name, core.size)?, core.device_address.into());
    let mailbox = MailboxConfig::Stream(Some(core.doorbell));
    let vrings = VringsConfig::Table(core.table_address.into());
    Ok((RemoteConfig::attached(name, mailbox, vec![memory], vrings), Some(core.thread)))
}

fn shared_link(name: &str, plan: &SharedPlan) -> Result<RemoteConfig, RemoteError> {
    let memory = plan.memory.iter().map(|region| self::memory(name, region)).collect::<Result<_, _>>()?;
    let mailbox = match &plan.mailbox {
        MailboxPlan::Socket(path) => MailboxConfig::Path(path.clone()),
        MailboxPlan::Hardware(mailbox) => MailboxConfig::Hardware(mailbox.clone()),
    };
    let config = RemoteConfig::attached(name, mailbox, memory, plan.vrings);
    Ok(RemoteConfig { attach_after: plan.attach_after, ..config })
}

fn memory(remote: &str, plan: &MemoryPlan) -> Result<MemoryConfig, RemoteError> {
    // Device memory bears only some kinds of access; a plain file bears any.
    let (file, offset, access) = match &plan.source {
        MemorySource::Uio => (MemoryFile::Uio, 0, Access::Device),
        MemorySource::File { path, offset } if path.starts_with("/dev") && !path.starts_with("/dev/shm") => {
            (MemoryFile::Path(path.clone()), *offset, Access::Device)
        }
        MemorySource::File { path, offset } => (MemoryFile::Path(path.clone()), *offset, Access::Normal),
    };
    Ok(MemoryConfig {
        file,
        offset,
        size: mappable(remote, plan.size)?,
        device_address: plan.device_address.into(),
        physical_address: plan.physical_address,
        access,
        name: plan.name.clone(),
        is_optional: plan.is_optional,
    })
}

fn mappable(remote: &str, size: u64) -> Result<usize, RemoteError> {
    usize::try_from(size).map_err(|source| RemoteError::Size { remote: remote.to_owned(), size, source })
}
