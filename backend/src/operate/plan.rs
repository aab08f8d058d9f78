//! What is to be started: remotes and the VMs in front of them, all checked to make sense together.

use std::{
    fmt,
    os::fd::RawFd,
    path::{Path, PathBuf},
    time::Duration,
};

use crate::rpmsg::address::Slot;

/// Longest path of a unix socket in bytes: `sun_path` of `sockaddr_un`, less its NUL (unix(7)).
pub const MAX_SOCKET_PATH: usize = 107;

/// Everything the program is to serve.
///
/// Names are unique among remotes and among VMs, slots among the VMs of a remote, socket paths in all. There is at
/// least one remote and one VM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The remote cores.
    pub remotes: Vec<RemotePlan>,
    /// The VMs, in the order of their appearance.
    pub vms: Vec<VmPlan>,
}

/// A remote core.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemotePlan {
    /// What messages and the configuration call it.
    pub name: String,
    /// How it is reached.
    pub link: LinkPlan,
}

/// How a remote core is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LinkPlan {
    /// The built-in software core, in this process.
    Loopback,
    /// Shared memory and a stream socket as doorbell.
    Socket(SocketPlan),
}

/// A remote core behind shared memory and a doorbell socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SocketPlan {
    /// The unix stream socket that the remote listens on, at most [`MAX_SOCKET_PATH`] bytes.
    pub doorbell: PathBuf,
    /// Device address of the resource table: a multiple of 4, and at least its header lies in one region.
    pub resource_table: u32,
    /// How long the remote may leave "state?" unanswered before it is attached by its table and status alone. `None`:
    /// for ever.
    pub attach_after: Option<Duration>,
    /// Its memory: at least one region, none overlapping another in device addresses.
    pub memory: Vec<MemoryPlan>,
}

/// A region of a remote's memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemoryPlan {
    /// The file to be mapped shared.
    pub path: PathBuf,
    /// Where the region starts in the file, in bytes: a multiple of the page size.
    pub offset: u64,
    /// Size in bytes, at least 1. `offset + size` fits a file, `device_address + size` is at most 2^32.
    pub size: u64,
    /// Where the remote core sees it: a multiple of 16.
    pub device_address: u32,
}

/// A VM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VmPlan {
    /// What messages, `--fd` and the configuration call it.
    pub name: String,
    /// Where its VMM connects.
    pub socket: VmSocket,
    /// Its place in the remote's address space.
    pub slot: Slot,
    /// Its remote, an index into [`Plan::remotes`].
    pub remote: usize,
}

/// A vhost-user socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VmSocket {
    /// To be listened on at this path of at most [`MAX_SOCKET_PATH`] bytes.
    Path(PathBuf),
    /// Opened by whoever started the program. Its number only: nothing says yet that it is open.
    Fd(RawFd),
}

impl Plan {
    /// The plan without a configuration: VMs `vm0`, `vm1`... in the slots of these numbers, in front of the loopback
    /// core. Sockets beyond the last slot are left out.
    pub(super) fn loopback(sockets: impl IntoIterator<Item = VmSocket>) -> Self {
        let slots = (0..Slot::COUNT).filter_map(Slot::new);
        Plan {
            remotes: vec![RemotePlan { name: "loopback".to_owned(), link: LinkPlan::Loopback }],
            vms: slots
                .zip(sockets)
                .map(|(slot, socket)| VmPlan {
                    name: format!("vm{}", slot.number()),
                    socket,
                    slot,
                    remote: 0,
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

impl fmt::Display for Plan {
    /// What `check` prints.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for remote in &self.remotes {
            writeln!(f, "remote {}", remote.name)?;
            match &remote.link {
                LinkPlan::Loopback => writeln!(f, "  link            loopback, the built-in core")?,
                LinkPlan::Socket(link) => write!(f, "{link}")?,
            }
        }
        for vm in &self.vms {
            let slot = vm.slot.number();
            let first = u32::from(slot) << 24;
            writeln!(f, "vm {}", vm.name)?;
            writeln!(f, "  socket          {}", vm.socket)?;
            writeln!(f, "  remote          {}", self.remotes[vm.remote].name)?;
            writeln!(
                f,
                "  slot            {slot}, host addresses {first:#010x}..={:#010x}",
                first | 0xFF_FFFF
            )?;
        }
        Ok(())
    }
}

impl fmt::Display for SocketPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "  link            socket {}", self.doorbell.display())?;
        writeln!(f, "  resource table  {:#010x}", self.resource_table)?;
        match self.attach_after {
            Some(time) => {
                writeln!(f, "  attach          when ready or running, or after {time:?} of silence")?;
            }
            None => writeln!(f, "  attach          when ready or running")?,
        }
        for memory in &self.memory {
            writeln!(f, "  memory          {memory}")?;
        }
        Ok(())
    }
}

impl fmt::Display for MemoryPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let last = u64::from(self.device_address) + (self.size - 1);
        write!(
            f,
            "{:#010x}..={last:#010x} in {} at offset {:#x}, {:#x} bytes",
            self.device_address,
            self.path.display(),
            self.offset,
            self.size
        )
    }
}

impl fmt::Display for VmSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            VmSocket::Path(path) => write!(f, "{}", path.display()),
            VmSocket::Fd(fd) => write!(f, "file descriptor {fd}"),
        }
    }
}
