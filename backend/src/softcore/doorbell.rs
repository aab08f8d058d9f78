//! The doorbell: a stream socket on which every byte is one.
//!
//! The format is public (an emulated board's UART speaks it); [`bell`] names its bytes.

use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use thiserror::Error;

/// The bytes on the socket.
pub mod bell {
    /// 0 to this: the vring with this notifyid has news. Both ways.
    pub const LAST_KICK: u8 = 0xEF;
    /// Remote to host: has just come up, the resource table is in place. Once per boot.
    pub const READY: u8 = 0xF0;
    /// Remote to host: has crashed.
    pub const CRASHED: u8 = 0xF1;
    /// Host to remote: shut down.
    pub const SHUT_DOWN: u8 = 0xF2;
    /// Remote to host: has shut down.
    pub const SHUTDOWN_DONE: u8 = 0xF3;
    /// Host to remote: answer with [`ECHO_REPLY`].
    pub const ECHO_REQUEST: u8 = 0xF4;
    /// Remote to host: the answer to [`ECHO_REQUEST`].
    pub const ECHO_REPLY: u8 = 0xF5;
    /// Host to remote: answer with [`RUNNING`] if the resource table is in place.
    pub const STATE: u8 = 0xF6;
    /// Remote to host: the answer to [`STATE`].
    pub const RUNNING: u8 = 0xF7;
}

/// Bytes that wait to be sent, in order, each at most once: a full socket costs no more than one pending kick per
/// vring.
#[derive(Debug)]
pub struct Bells(Vec<u8>);

impl Default for Bells {
    /// No byte; room for all that there can be.
    fn default() -> Self {
        Bells(Vec::with_capacity(256))
    }
}

impl Bells {
    /// Adds a byte. A kick that waits already stays where it is; any other byte moves to the end, so that the last
    /// word of the core is what the host hears last.
    pub fn ring(&mut self, byte: u8) {
        let waiting = self.0.iter().position(|other| *other == byte);
        match waiting {
            Some(_) if byte <= bell::LAST_KICK => return,
            Some(at) => drop(self.0.remove(at)),
            None => {}
        }
        self.0.push(byte);
    }

    /// The bytes that wait, first to last.
    pub fn waiting(&self) -> &[u8] {
        &self.0
    }

    /// Forgets all bytes that wait.
    pub fn clear(&mut self) {
        self.0.clear();
    }
}

/// A core's end of the doorbell: at most one host is connected at a time.
#[derive(Debug)]
pub struct Doorbell {
    listener: Option<UnixListener>,
    host: Option<UnixStream>,
    /// The host takes no bytes any more; what it has rung before is still to be read.
    deaf: bool,
    path: Option<PathBuf>,
}

/// Why there is no doorbell.
#[derive(Debug, Error)]
pub enum DoorbellError {
    /// Somebody answers on that socket.
    #[error("doorbell socket {path} is in use by a live process; end that one or name another socket")]
    InUse {
        /// The socket.
        path: PathBuf,
    },
    /// There is something of that name that is no socket.
    #[error("{path} is no socket; expected the name of a doorbell socket that may be created")]
    NotASocket {
        /// What is there.
        path: PathBuf,
    },
    /// The socket cannot be made.
    #[error("cannot listen on the doorbell socket {path}")]
    Listen {
        /// The socket.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

/// What became of an attempt to read.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Heard {
    /// So many bytes.
    Bytes(usize),
    /// Nothing now.
    Nothing,
    /// The host is gone.
    Gone,
}

impl Doorbell {
    /// Listens on `path`; a socket there that nobody listens on any more is replaced. It is removed when this value
    /// is dropped.
    ///
    /// # Errors
    /// The path is in use by a live process, is no socket, or cannot be listened on.
    pub fn listen(path: &Path) -> Result<Self, DoorbellError> {
        let failed = |source| DoorbellError::Listen { path: path.to_owned(), source };
        match path.symlink_metadata() {
            Ok(found) if !found.file_type().is_socket() => {
                return Err(DoorbellError::NotASocket { path: path.to_owned() });
            }
            Ok(_) => match UnixStream::connect(path) {
                Ok(_) => {
                    return Err(DoorbellError::InUse { path: path.to_owned() });
                }
                Err(_nobody_listens) => std::fs::remove_file(path).map_err(failed)?,
            },
            Err(_nothing_there) => {}
        }
        let listener = UnixListener::bind(path).map_err(failed)?;
        let mut doorbell = Self::listener(listener).map_err(failed)?;
        doorbell.path = Some(path.to_owned());
        Ok(doorbell)
    }

    /// Takes hosts from a socket that listens already.
    ///
    /// # Errors
    /// The socket cannot be made non-blocking.
    pub fn listener(listener: UnixListener) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        Ok(Doorbell { listener: Some(listener), host: None, deaf: false, path: None })
    }

    /// Talks to one host that is connected already. When it goes, no other comes.
    ///
    /// # Errors
    /// The socket cannot be made non-blocking.
    pub fn connected(host: UnixStream) -> io::Result<Self> {
        host.set_nonblocking(true)?;
        Ok(Doorbell { listener: None, host: Some(host), deaf: false, path: None })
    }

    /// Whether a host is connected.
    pub fn is_connected(&self) -> bool {
        self.host.is_some()
    }

    /// What to wait for: the host that is connected, else the next one. `None` if there never will be one.
    pub(super) fn source(&self) -> Option<BorrowedFd<'_>> {
        let host = self.host.as_ref().map(AsFd::as_fd);
        host.or_else(|| self.listener.as_ref().map(AsFd::as_fd))
    }

    /// Takes the next host if one waits, and none is connected.
    pub(super) fn accept(&mut self) {
        let Some(listener) = self.listener.as_ref().filter(|_| self.host.is_none()) else {
            return;
        };
        match listener.accept().and_then(|(host, _)| host.set_nonblocking(true).map(|()| host)) {
            Ok(host) => {
                log::debug!("doorbell: a host has connected");
                self.host = Some(host);
            }
            Err(error) if is_transient(&error) => {}
            Err(error) => log::warn!("doorbell: cannot accept a host: {error}"),
        }
    }

    /// Reads what the host has rung. After [`Heard::Gone`] no host is connected.
    pub(super) fn read(&mut self, bytes: &mut [u8]) -> Heard {
        let Some(host) = self.host.as_mut() else {
            return Heard::Nothing;
        };
        match host.read(bytes) {
            Ok(0) => self.hang_up(),
            Ok(count) => Heard::Bytes(count),
            Err(error) if is_transient(&error) && !self.deaf => Heard::Nothing,
            Err(error) => {
                log::info!("doorbell: connection lost: {error}");
                self.hang_up()
            }
        }
    }

    /// Closes the connection to the host.
    pub(super) fn hang_up(&mut self) -> Heard {
        self.host = None;
        self.deaf = false;
        Heard::Gone
    }

    /// Sends what the socket takes without waiting; the rest stays, if need be for the next host. With nobody connected
    /// all of it is lost, as on a serial line; a host that has connected and was not taken yet counts, since it may be
    /// at work already.
    pub(super) fn send(&mut self, bells: &mut Bells) {
        while !bells.0.is_empty() {
            self.accept();
            let Some(host) = self.host.as_mut() else {
                bells.clear();
                return;
            };
            match host.write(&bells.0) {
                Ok(count) => drop(bells.0.drain(..count)),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(_gone) => {
                    self.deaf = true;
                    return;
                }
            }
        }
    }
}

impl Drop for Doorbell {
    fn drop(&mut self) {
        if let Some(path) = self.path.take()
            && let Err(error) = std::fs::remove_file(&path)
        {
            log::warn!("cannot remove the doorbell socket {}: {error}", path.display());
        }
    }
}

fn is_transient(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kick_waits_once_however_often_it_is_rung() {
        let mut bells = Bells::default();
        for byte in [1, 0, 1, 1, 0] {
            bells.ring(byte);
        }
        assert_eq!(bells.waiting(), [1, 0]);
    }

    #[test]
    fn the_last_word_of_the_core_is_heard_last() {
        let mut bells = Bells::default();
        for byte in [bell::CRASHED, bell::READY, bell::CRASHED] {
            bells.ring(byte);
        }
        assert_eq!(bells.waiting(), [bell::READY, bell::CRASHED]);
    }

    #[test]
    fn a_full_socket_loses_no_kick_and_never_blocks() {
        let (core, mut host) = UnixStream::pair().unwrap();
        let mut doorbell = Doorbell::connected(core).unwrap();
        let mut bells = Bells::default();
        let mut sent = 0u32;
        while bells.waiting().is_empty() {
            bells.ring(7);
            doorbell.send(&mut bells);
            sent += 1;
            assert!(sent < 10_000_000);
        }
        for byte in [7, 9, 7, 9] {
            bells.ring(byte);
            doorbell.send(&mut bells);
        }
        assert_eq!(bells.waiting(), [7, 9]);

        let mut drained = vec![0; 65536];
        while !bells.waiting().is_empty() {
            assert!(host.read(&mut drained).unwrap() > 0);
            doorbell.send(&mut bells);
        }
        host.set_nonblocking(true).unwrap();
        let mut last = 0;
        while let Ok(count) = host.read(&mut drained) {
            last = drained[count - 1];
        }
        assert_eq!(last, 9);
    }

    #[test]
    fn with_nobody_connected_a_byte_is_lost() {
        let (core, host) = UnixStream::pair().unwrap();
        let mut doorbell = Doorbell::connected(core).unwrap();
        drop(host);
        assert_eq!(doorbell.read(&mut [0; 8]), Heard::Gone);
        let mut bells = Bells::default();
        bells.ring(bell::READY);
        doorbell.send(&mut bells);
        assert!(bells.waiting().is_empty() && !doorbell.is_connected());
    }

    #[test]
    fn what_a_host_that_has_gone_cannot_take_goes_to_the_next() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("bell");
        let mut doorbell = Doorbell::listen(&path).unwrap();
        let mut first = UnixStream::connect(&path).unwrap();
        doorbell.accept();
        first.write_all(&[bell::SHUT_DOWN]).unwrap();
        drop(first);
        let mut second = UnixStream::connect(&path).unwrap();
        let mut bells = Bells::default();
        bells.ring(3);
        doorbell.send(&mut bells);
        assert_eq!(doorbell.read(&mut [0; 8]), Heard::Bytes(1), "what it rang last");
        assert_eq!(doorbell.read(&mut [0; 8]), Heard::Gone);
        doorbell.send(&mut bells);
        let mut byte = [0];
        second.read_exact(&mut byte).unwrap();
        assert_eq!(byte, [3]);
    }

    #[test]
    fn a_stale_socket_is_replaced_and_a_live_one_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("bell");
        drop(UnixListener::bind(&path).unwrap());
        let live = Doorbell::listen(&path).unwrap();
        assert!(matches!(Doorbell::listen(&path), Err(DoorbellError::InUse { .. })));
        drop(live);
        assert!(!path.exists());
        std::fs::write(&path, "text").unwrap();
        assert!(matches!(Doorbell::listen(&path), Err(DoorbellError::NotASocket { .. })));
    }
}
