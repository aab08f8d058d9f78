//! The vhost-user sockets: made at a path, or taken over from whoever started the program.

use std::io;
use std::os::fd::{OwnedFd, RawFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use log::debug;
use rustix::net::sockopt::{socket_acceptconn, socket_domain};
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, getpid, pidfd_getfd, pidfd_open};
use thiserror::Error;

use super::plan::VmSocket;

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
}

/// Where front-ends come from.
#[derive(Debug)]
pub enum VmListener {
    /// One after the other, without end.
    Listening(UnixListener, Option<SocketFile>),
    /// One that is there already; there will be no other.
    Connected(UnixStream),
}

/// The socket in the file system, removed when this is dropped.
#[derive(Debug)]
pub struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_file(&self.0) {
            debug!("socket {} was gone already: {error}", self.0.display());
        }
    }
}

/// Opens the socket of a VM.
///
/// # Errors
/// A path where somebody listens or another file lies, a file descriptor that is no unix socket.
pub fn open(socket: &VmSocket) -> Result<VmListener, SocketError> {
    match socket {
        VmSocket::Path(path) => {
            let listener = listen(path)?;
            Ok(VmListener::Listening(listener, Some(SocketFile(path.clone()))))
        }
        VmSocket::Fd(fd) => take_over(*fd),
    }
}

/// Listens at `path`. A socket that nobody listens on any more is replaced.
fn listen(path: &Path) -> Result<UnixListener, SocketError> {
    let failed = |source| SocketError::Listen { path: path.to_owned(), source };
    match UnixListener::bind(path) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
        result => return result.map_err(failed),
    }
    use std::os::unix::fs::FileTypeExt;
    let kind = std::fs::symlink_metadata(path).map_err(failed)?.file_type();
    if !kind.is_socket() {
        return Err(SocketError::NotASocket { path: path.to_owned() });
    }
    match UnixStream::connect(path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {}
        _ => return Err(SocketError::InUse { path: path.to_owned() }),
    }
    std::fs::remove_file(path).map_err(failed)?;
    UnixListener::bind(path).map_err(failed)
}

/// Takes over a socket that the parent process has opened. It is duplicated by its number, so that a number which is
/// not open, or is something else, is an error and no more.
fn take_over(fd: RawFd) -> Result<VmListener, SocketError> {
    let socket =
        duplicate(getpid(), fd).map_err(|errno| SocketError::NotOpen { fd, source: errno.into() })?;
    if socket_domain(&socket) != Ok(rustix::net::AddressFamily::UNIX) {
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
mod tests {
    use std::os::fd::AsRawFd;

    use super::*;

    #[test]
    fn a_socket_that_somebody_listens_on_is_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("s");
        let _first = listen(&path).unwrap();
        let error = listen(&path).unwrap_err();
        assert!(matches!(error, SocketError::InUse { .. }), "{error}");
        assert!(UnixStream::connect(&path).is_ok());
    }

    #[test]
    fn a_stale_socket_is_replaced_and_removed_in_the_end() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("s");
        drop(UnixListener::bind(&path).unwrap());
        drop(open(&VmSocket::Path(path.clone())).unwrap());
        assert!(!path.exists());
    }

    #[test]
    fn a_file_that_is_no_socket_is_never_removed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("s");
        std::fs::write(&path, "precious").unwrap();
        assert!(matches!(listen(&path), Err(SocketError::NotASocket { .. })));
        assert_eq!(std::fs::read(&path).unwrap(), b"precious");
    }

    #[test]
    fn inherited_descriptors_are_told_apart() {
        let directory = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(directory.path().join("s")).unwrap();
        let (stream, _peer) = UnixStream::pair().unwrap();
        let file = std::fs::File::open("/dev/null").unwrap();
        assert!(matches!(take_over(listener.as_raw_fd()), Ok(VmListener::Listening(_, None))));
        assert!(matches!(take_over(stream.as_raw_fd()), Ok(VmListener::Connected(_))));
        assert!(matches!(take_over(file.as_raw_fd()), Err(SocketError::NotUnix { .. })));
        assert!(matches!(take_over(12345), Err(SocketError::NotOpen { .. })));
    }
}
