//! Serves a connection that is already there.
//!
//! The daemon of vhost-user-backend accepts its connections itself. For `--fd` with a connected socket, messages and
//! the file descriptors in them are ferried between that socket and a connection which the daemon can accept. Only
//! the protocol goes this way; rings and doorbells do not.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::net::Shutdown;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::thread::Builder;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};

/// Most file descriptors in one vhost-user message: one per memory region of SET_MEM_TABLE.
const MAX_FDS: usize = 8;

/// Bytes that are moved at a time; longer than any vhost-user message but those with a large configuration space.
const CHUNK: usize = 4096;

/// A listener on which exactly the front-end behind `stream` connects.
///
/// # Errors
/// No private directory for the socket, no thread.
pub(super) fn listener_for(name: &str, stream: UnixStream) -> io::Result<UnixListener> {
    let directory = tempfile::tempdir()?;
    let path = directory.path().join("vhost-user");
    let listener = UnixListener::bind(&path)?;
    let inner = UnixStream::connect(&path)?;
    for (from, to) in [(stream.try_clone()?, inner.try_clone()?), (inner, stream)] {
        Builder::new().name(format!("ferry {name}")).spawn(move || {
            // Either end closing is the end of the connection; what the other end makes of it is its own.
            let _ = ferry(&from, &to);
            let _ = to.shutdown(Shutdown::Both);
            let _ = from.shutdown(Shutdown::Both);
        })?;
    }
    Ok(listener)
}

/// Moves what comes from one socket to the other, until one of them ends.
fn ferry(from: &UnixStream, to: &UnixStream) -> io::Result<()> {
    let mut bytes = [0; CHUNK];
    loop {
        let (count, fds) = receive(from, &mut bytes)?;
        if count == 0 {
            return Ok(());
        }
        send(to, &bytes[..count], &fds)?;
    }
}

fn receive(from: &UnixStream, bytes: &mut [u8]) -> io::Result<(usize, Vec<OwnedFd>)> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let message = rustix::io::retry_on_intr(|| {
        recvmsg(from, &mut [IoSliceMut::new(bytes)], &mut control, RecvFlags::CMSG_CLOEXEC)
    })?;
    let rights = control.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(fds) => Some(fds),
        _ => None,
    });
    Ok((message.bytes, rights.flatten().collect()))
}

/// Sends all bytes, the descriptors with the first of them.
fn send(to: &UnixStream, mut bytes: &[u8], fds: &[OwnedFd]) -> io::Result<()> {
    let borrowed: Vec<_> = fds.iter().map(AsFd::as_fd).collect();
    let mut rights = borrowed.as_slice();
    while !bytes.is_empty() {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !rights.is_empty() {
            control.push(SendAncillaryMessage::ScmRights(rights));
        }
        let sent = rustix::io::retry_on_intr(|| {
            sendmsg(to, &[IoSlice::new(bytes)], &mut control, SendFlags::NOSIGNAL)
        })?;
        bytes = &bytes[sent..];
        rights = &[];
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use super::*;

    #[test]
    fn bytes_and_descriptors_pass_and_the_end_is_passed_on() {
        let (front_end, backend) = UnixStream::pair().unwrap();
        let listener = listener_for("test", backend).unwrap();
        let (mut accepted, _) = listener.accept().unwrap();
        let (mut theirs, ours) = UnixStream::pair().unwrap();

        send(&front_end, b"hello", &[OwnedFd::from(ours)]).unwrap();
        let mut bytes = [0; 16];
        let (count, fds) = receive(&accepted, &mut bytes).unwrap();
        assert_eq!(&bytes[..count], b"hello");
        let mut passed = UnixStream::from(fds.into_iter().next().unwrap());
        passed.write_all(b"x").unwrap();
        theirs.read_exact(&mut bytes[..1]).unwrap();

        accepted.write_all(b"answer").unwrap();
        let (count, fds) = receive(&front_end, &mut bytes).unwrap();
        assert_eq!((&bytes[..count], fds.len()), (&b"answer"[..], 0));

        drop(front_end);
        assert_eq!(accepted.read(&mut bytes).unwrap(), 0);
    }
}
