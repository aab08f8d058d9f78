//! Starting the remote cores that a plan names, and ending what was started.

use std::num::TryFromIntError;
use std::time::Instant;

use thiserror::Error;

use super::plan::{LinkPlan, RemotePlan, SocketPlan};
use crate::bridge::{Bridge, BridgeError};
use crate::remote::core::{Doorbell, MemoryConfig, MemoryFile, RemoteConfig, RemoteCore};
use crate::remote::layout::Layout;
use crate::softcore::{self, CoreThread};

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

impl Remote {
    /// Starts the bridge to a remote, and the remote itself where it is built in. There are no VMs yet.
    pub(super) fn start(plan: &RemotePlan) -> Result<Self, RemoteError> {
        let (config, softcore) = match &plan.link {
            LinkPlan::Loopback => loopback(&plan.name)?,
            LinkPlan::Socket(socket) => (socket_link(&plan.name, socket)?, None),
        };
        let bridge = Bridge::start(RemoteCore::new(config, Instant::now()), plan.policy.clone())
            .map_err(|source| RemoteError::Bridge { remote: plan.name.clone(), source })?;
        Ok(Remote { bridge, _softcore: softcore })
    }
}

/// The built-in core: the same link as any other, with both ends in this process.
fn loopback(name: &str) -> Result<(RemoteConfig, Option<CoreThread>), RemoteError> {
    let failed = |source| RemoteError::Softcore { remote: name.to_owned(), source };
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
            name: None,
        }],
        layout: Layout::Table { address: core.table_address.into() },
        attach_after: None,
    };
    Ok((config, Some(core.thread)))
}

fn socket_link(name: &str, plan: &SocketPlan) -> Result<RemoteConfig, RemoteError> {
    let mut memory = Vec::new();
    for region in &plan.memory {
        memory.push(MemoryConfig {
            file: MemoryFile::Path(region.path.clone()),
            offset: region.offset,
            size: mappable(name, region.size)?,
            device_address: region.device_address.into(),
            name: None,
        });
    }
    Ok(RemoteConfig {
        name: name.to_owned(),
        doorbell: Doorbell::Path(plan.doorbell.clone()),
        memory,
        layout: Layout::Table { address: plan.resource_table.into() },
        attach_after: plan.attach_after,
    })
}

fn mappable(remote: &str, size: u64) -> Result<usize, RemoteError> {
    usize::try_from(size).map_err(|source| RemoteError::Size { remote: remote.to_owned(), size, source })
}
