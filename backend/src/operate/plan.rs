//! What is to be started: remotes and the VMs in front of them, all checked to make sense together.

mod display;
mod host;

use std::{
    net::SocketAddr,
    os::fd::RawFd,
    path::{Path, PathBuf},
    time::Duration,
};

use crate::{
    bridge::policy::{Overflow, Policy, VmPolicy},
    operate::device_tree::Found,
    remote::{
        config::{BootConfig, HardwareMailbox, VringsConfig, WatchConfig},
        recovery::RecoveryConfig,
    },
    rpmsg::address::Slot,
};

/// Longest path of a unix socket in bytes: `sun_path` of `sockaddr_un`, less its NUL (unix(7)).
pub const MAX_SOCKET_PATH: usize = 107;

/// Everything the program is to serve.
///
/// Names are unique among remotes and among VMs, slots among the VMs of a remote, socket paths in all. There is at
/// least one remote, and one VM unless there is a control socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The unix socket for requests at run time, at most [`MAX_SOCKET_PATH`] bytes.
    pub control: Option<PathBuf>,
    /// Whom the process that talks to guests and remotes runs as, if it is said.
    pub user: Option<String>,
    /// The directory for what is to outlive the program.
    pub state: Option<PathBuf>,
    /// Where what was counted can be read.
    pub metrics: Option<MetricsPlan>,
    /// The remote cores.
    pub remotes: Vec<RemotePlan>,
    /// The VMs, in the order of their appearance.
    pub vms: Vec<VmPlan>,
}

/// Where metrics are to be had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MetricsPlan {
    /// A unix socket, at most [`MAX_SOCKET_PATH`] bytes.
    Socket(PathBuf),
    /// A loopback address.
    Address(SocketAddr),
}

/// A remote core.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemotePlan {
    /// What messages and the configuration call it.
    pub name: String,
    /// How it is reached.
    pub link: LinkPlan,
    /// How it is started and stopped, if that is for this program to do.
    pub boot: Option<BootConfig>,
    /// Remotes that are up as long as it is: indexes into [`Plan::remotes`] below its own.
    pub after: Vec<usize>,
    /// What is done when it has crashed.
    pub recovery: RecoveryConfig,
    /// How that is noticed.
    pub watch: WatchConfig,
    /// The directory for dumps of its memory.
    pub dump: Option<PathBuf>,
    /// How its services are shared. Slots in it are those of VMs in the plan.
    pub policy: Policy,
}

/// How a remote core is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LinkPlan {
    /// The built-in software core, in this process.
    Loopback,
    /// A mailbox and shared memory.
    Shared(SharedPlan),
}

/// A remote core behind a mailbox and shared memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SharedPlan {
    /// The mailbox.
    pub mailbox: MailboxPlan,
    /// Where the vrings are, or who says it: a table whose address is a multiple of 4 and at least the header of which
    /// lies in one region.
    pub vrings: VringsConfig,
    /// How long the remote may leave "state?" unanswered before it is attached by its table and status alone. `None`:
    /// for ever.
    pub attach_after: Option<Duration>,
    /// Its memory: at least one region, none overlapping another in device addresses, unless they are of a device tree.
    pub memory: Vec<MemoryPlan>,
    /// What was found in a device tree.
    pub found: Option<Box<Found>>,
}

/// The mailbox of a remote core.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MailboxPlan {
    /// The unix stream socket that the remote listens on, at most [`MAX_SOCKET_PATH`] bytes.
    Socket(PathBuf),
    /// Registers of the host's.
    Hardware(HardwareMailbox),
}

/// A region of a remote's memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemoryPlan {
    /// Where it is to be had.
    pub source: MemorySource,
    /// Size in bytes, at least 1. `device_address + size` is at most 2^32.
    pub size: u64,
    /// Where the remote core sees it: a multiple of 16.
    pub device_address: u32,
    /// Where descriptors say that it is.
    pub physical_address: u64,
    /// What it is for; `None` where anything may be placed.
    pub name: Option<String>,
    /// Whether it can be done without, where the host does not have it.
    pub is_optional: bool,
}

/// Where memory is to be had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MemorySource {
    /// A file to be mapped shared.
    File {
        /// The file.
        path: PathBuf,
        /// Where the region starts in it, in bytes: a multiple of the page size. With its size it fits a file.
        offset: u64,
    },
    /// The UIO device that maps its physical address.
    Uio,
}

/// A VM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VmPlan {
    /// What messages, `--fd` and the configuration call it.
    pub name: String,
    /// Where its VMM connects.
    pub socket: VmSocket,
    /// Permissions of the socket at a path, at most 0o777; `None`: as the umask leaves them.
    pub mode: Option<u32>,
    /// The group of the socket at a path; `None`: that of the program.
    pub group: Option<GroupPlan>,
    /// Its place in the remote's address space.
    pub slot: Slot,
    /// Its remote, an index into [`Plan::remotes`].
    pub remote: usize,
    /// Which of the remote's rpmsg devices it is in front of.
    pub device: usize,
    /// What it may do.
    pub policy: VmPolicy,
}

/// A group of users.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GroupPlan {
    /// By its name, which nobody has looked up yet.
    Name(String),
    /// By its number.
    Number(u32),
}

/// A vhost-user socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VmSocket {
    /// To be listened on at this path of at most [`MAX_SOCKET_PATH`] bytes.
    Path(PathBuf),
    /// Opened by whoever started the program. Its number only: nothing says yet that it is open.
    Fd(RawFd),
}

impl RemotePlan {
    /// How many rpmsg devices it has, where that is known beforehand.
    pub(super) fn devices(&self) -> Option<usize> {
        match &self.link {
            LinkPlan::Loopback => Some(1),
            LinkPlan::Shared(SharedPlan { vrings: VringsConfig::Static(layout), .. }) => {
                Some(layout.vdevs().into())
            }
            LinkPlan::Shared(_) => None,
        }
    }
}

impl Plan {
    /// The plan without a configuration: VMs `vm0`, `vm1`... in the slots of these numbers, in front of the loopback
    /// core. Sockets beyond the last slot are left out.
    pub(super) fn loopback(sockets: impl IntoIterator<Item = VmSocket>) -> Self {
        let sockets: Vec<_> = sockets.into_iter().collect();
        let overflow = if sockets.len() == 1 { Overflow::Block } else { Overflow::Drop };
        let slots = (0..Slot::COUNT).filter_map(Slot::new);
        Plan {
            control: None,
            user: None,
            state: None,
            metrics: None,
            remotes: vec![RemotePlan {
                name: "loopback".to_owned(),
                link: LinkPlan::Loopback,
                boot: None,
                after: Vec::new(),
                recovery: RecoveryConfig::default(),
                watch: WatchConfig::default(),
                dump: None,
                policy: Policy::default(),
            }],
            vms: slots
                .zip(sockets)
                .map(|(slot, socket)| VmPlan {
                    name: format!("vm{}", slot.number()),
                    socket,
                    mode: None,
                    group: None,
                    slot,
                    remote: 0,
                    device: 0,
                    policy: VmPolicy::unlimited(overflow),
                })
                .collect(),
        }
    }
}

/// Says what is wrong with the path of a unix socket, if anything is.
pub(super) fn socket_path_fault(path: &Path) -> Option<String> {
    let bytes = path.as_os_str().as_encoded_bytes();
    if bytes.is_empty() {
        Some("an empty one".to_owned())
    } else if bytes.contains(&0) {
        Some(format!("{path:?} with a NUL in it"))
    } else if bytes.len() > MAX_SOCKET_PATH {
        Some(format!("{} bytes: {}", bytes.len(), path.display()))
    } else {
        None
    }
}
