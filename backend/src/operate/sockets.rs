//! The vhost-user sockets: made at a path, or taken over from whoever started the program.
//!
//! Whoever may write to a socket's file can connect. So a socket has its permissions and group before it listens:
//! until then a connection is refused to everyone.

use std::fs::{self, File, Permissions};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use log::debug;
use nix::unistd::Group;
use rustix::fs::{AtFlags, CWD, Gid, Mode, OFlags, chownat, openat};
use rustix::net::sockopt::{socket_acceptconn, socket_domain, socket_type};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, socket_with};
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, geteuid, getpid, pidfd_getfd, pidfd_open};
use thiserror::Error;

use super::plan::{GroupPlan, VmSocket};

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 128;

/// Why a socket cannot be had.
#[derive(Debug, Error)]
pub enum SocketError {
    /// Somebody listens there.
    #[error("socket {path} is in use: something is listening on it; stop that, or choose another path", path = path.display())]
    InUse {
        /// The path.
        path: PathBuf,
    },
    /// Something that is no socket is in the way.
    #[error("socket {path}: expected nothing there or a stale socket, found a file of another kind; remove it, or choose another path", path = path.display())]
    NotASocket {
        /// The path.
        path: PathBuf,
    },
    /// The system says no.
    #[error("cannot listen on socket {path}", path = path.display())]
    Listen {
        /// The path.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Somebody has put another file in the place of the socket.
    #[error("socket {path}: expected the socket that was just made there, found a file of somebody else; choose a folder that only trusted users can write to", path = path.display())]
    Replaced {
        /// The path.
        path: PathBuf,
    },
    /// There is no group of this name.
    #[error("socket {path}: expected a group of this host, found {name:?}, which is none", path = path.display())]
    NoSuchGroup {
        /// The path.
        path: PathBuf,
        /// The name.
        name: String,
    },
    /// The groups of the host cannot be read.
    #[error("socket {path}: cannot look up group {name:?}", path = path.display())]
    Groups {
        /// The path.
        path: PathBuf,
        /// The name.
        name: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The program may not give its files to the group.
    #[error("socket {path}: cannot give it to group {group}; the program has to be in it, or to run with CAP_CHOWN", path = path.display())]
    Group {
        /// The path.
        path: PathBuf,
        /// The group.
        group: GroupPlan,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The permissions cannot be set.
    #[error("socket {path}: cannot set its mode to {mode:04o}", path = path.display())]
    Mode {
        /// The path.
        path: PathBuf,
        /// The permissions.
        mode: u32,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The file descriptor is not open.
    #[error("file descriptor {fd}: expected an open unix stream socket")]
    NotOpen {
        /// Its number.
        fd: RawFd,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The file descriptor is something else.
    #[error("file descriptor {fd}: expected a unix stream socket, found something else")]
    NotUnix {
        /// Its number.
        fd: RawFd,
    },
    /// Nobody can come in by the file descriptor.
    #[error("file descriptor {fd}: expected a socket that listens, found one that does not")]
    NotListening {
        /// Its number.
        fd: RawFd,
    },
}

/// Where front-ends come from.
#[derive(Debug)]
pub enum VmListener {
    /// One after the other, without end.
    Listening(UnixListener, Option<SocketFile>),
    /// One that is there already; there will be no other.
    Connected(UnixStream),
}

/// The socket in the file system, removed when this is dropped, unless there is another in its place by then.
#[derive(Debug)]
pub struct SocketFile {
    path: PathBuf,
    /// The file itself, whatever it is called.
    file: File,
}

/// Who can connect to a socket at a path.
#[derive(Clone, Copy, Debug, Default)]
pub struct Rights<'a> {
    /// Its permissions; `None`: as the umask leaves them.
    pub mode: Option<u32>,
    /// Its group; `None`: that of the program.
    pub group: Option<&'a GroupPlan>,
}

/// Opens the socket of a VM. The rights are for one that is made.
///
/// # Errors
/// A path where somebody listens or another file lies, rights that cannot be given, a file descriptor that is no unix
/// socket.
pub fn open(socket: &VmSocket, rights: Rights<'_>) -> Result<VmListener, SocketError> {
    match socket {
        VmSocket::Path(path) => {
            let (listener, file) = listen(path, rights)?;
            Ok(VmListener::Listening(listener, Some(file)))
        }
        VmSocket::Fd(fd) => take_over(*fd),
    }
}

/// Listens at `path`. A socket that nobody listens on any more is replaced.
///
/// # Errors
/// A path where somebody listens or another file lies, rights that cannot be given.
pub fn listen(path: &Path, rights: Rights<'_>) -> Result<(UnixListener, SocketFile), SocketError> {
    let failed = |source| SocketError::Listen { path: path.to_owned(), source };
    let group = rights.group.map(|group| Ok((group, number_of(group, path)?))).transpose()?;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)
        .map_err(|errno| failed(errno.into()))?;
    let address = SocketAddrUnix::new(path).map_err(|errno| failed(errno.into()))?;
    if let Err(errno) = bind(&socket, &address) {
        if errno != rustix::io::Errno::ADDRINUSE {
            return Err(failed(errno.into()));
        }
        remove_stale(path)?;
        bind(&socket, &address).map_err(|errno| failed(errno.into()))?;
    }
    let file = SocketFile::at(path)?;
    if let Some((group, number)) = group {
        file.give_to(number).map_err(|source| {
            let (path, group) = (path.to_owned(), group.clone());
            SocketError::Group { path, group, source }
        })?;
    }
    if let Some(mode) = rights.mode {
        file.set_mode(mode).map_err(|source| SocketError::Mode { path: path.to_owned(), mode, source })?;
    }
    rustix::net::listen(&socket, BACKLOG).map_err(|errno| failed(errno.into()))?;
    Ok((socket.into(), file))
}

/// Removes a socket that nobody listens on.
fn remove_stale(path: &Path) -> Result<(), SocketError> {
    let failed = |source| SocketError::Listen { path: path.to_owned(), source };
    if !fs::symlink_metadata(path).map_err(failed)?.file_type().is_socket() {
        return Err(SocketError::NotASocket { path: path.to_owned() });
    }
    match UnixStream::connect(path) {
        Ok(_) => Err(SocketError::InUse { path: path.to_owned() }),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            fs::remove_file(path).map_err(failed)
        }
        Err(error) => Err(failed(error)),
    }
}

/// The number of a group.
fn number_of(group: &GroupPlan, path: &Path) -> Result<u32, SocketError> {
    let name = match group {
        GroupPlan::Number(number) => return Ok(*number),
        GroupPlan::Name(name) => name,
    };
    let (path, name) = (path.to_owned(), name.clone());
    match Group::from_name(&name) {
        Ok(Some(group)) => Ok(group.gid.as_raw()),
        Ok(None) => Err(SocketError::NoSuchGroup { path, name }),
        Err(errno) => Err(SocketError::Groups { path, name, source: errno.into() }),
    }
}

impl SocketFile {
    /// The socket that this process has just made.
    fn at(path: &Path) -> Result<Self, SocketError> {
        let failed = |source| SocketError::Listen { path: path.to_owned(), source };
        // O_PATH and O_NOFOLLOW: whatever is done to it is done to what is there now, never to what a link leads to.
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = openat(CWD, path, flags, Mode::empty()).map_err(|errno| failed(errno.into()))?;
        let file = File::from(file);
        let metadata = file.metadata().map_err(failed)?;
        if !metadata.file_type().is_socket() || metadata.uid() != geteuid().as_raw() {
            return Err(SocketError::Replaced { path: path.to_owned() });
        }
        Ok(SocketFile { path: path.to_owned(), file })
    }

    fn give_to(&self, group: u32) -> io::Result<()> {
        Ok(chownat(&self.file, "", None, Some(Gid::from_raw(group)), AtFlags::EMPTY_PATH)?)
    }

    fn set_mode(&self, mode: u32) -> io::Result<()> {
        // chmod has no form that takes such a descriptor before Linux 6.6; its name under /proc leads to the file.
        let name = format!("/proc/self/fd/{}", self.file.as_raw_fd());
        fs::set_permissions(name, Permissions::from_mode(mode))
    }

    /// Whether the path still leads to this file.
    fn is_there(&self) -> io::Result<bool> {
        let (mine, there) = (self.file.metadata()?, fs::symlink_metadata(&self.path)?);
        Ok((mine.dev(), mine.ino()) == (there.dev(), there.ino()))
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let path = self.path.display();
        match self.is_there() {
            Ok(true) => {
                if let Err(error) = fs::remove_file(&self.path) {
                    debug!("cannot remove socket {path}: {error}");
                }
            }
            Ok(false) => debug!("socket {path} has been replaced by another"),
            Err(error) => debug!("socket {path} was gone already: {error}"),
        }
    }
}

/// Takes over a socket on which the parent process has begun to listen.
///
/// # Errors
/// A file descriptor that is no unix socket, or does not listen.
pub fn take_over_listening(fd: RawFd) -> Result<UnixListener, SocketError> {
    match take_over(fd)? {
        VmListener::Listening(listener, _) => Ok(listener),
        VmListener::Connected(_) => Err(SocketError::NotListening { fd }),
    }
}

/// Takes over a socket that the parent process has opened. It is duplicated by its number, so that a number which is
/// not open, or is something else, is an error and no more.
fn take_over(fd: RawFd) -> Result<VmListener, SocketError> {
    let socket =
        duplicate(getpid(), fd).map_err(|errno| SocketError::NotOpen { fd, source: errno.into() })?;
    if (socket_domain(&socket), socket_type(&socket)) != (Ok(AddressFamily::UNIX), Ok(SocketType::STREAM)) {
        return Err(SocketError::NotUnix { fd });
    }
    match socket_acceptconn(&socket) {
        Ok(true) => Ok(VmListener::Listening(socket.into(), None)),
        _ => Ok(VmListener::Connected(socket.into())),
    }
}

fn duplicate(process: Pid, fd: RawFd) -> rustix::io::Result<OwnedFd> {
    let process = pidfd_open(process, PidfdFlags::empty())?;
    pidfd_getfd(process, fd, PidfdGetfdFlags::empty())
}

#[cfg(test)]
mod tests;
