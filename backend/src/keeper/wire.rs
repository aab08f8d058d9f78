//! Bytes and the file descriptors with them, over a unix socket.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};

/// Most file descriptors that are taken or given at a time: as many as the `vhost` crate takes in one message
/// (`MAX_ATTACHED_FD_ENTRIES`).
pub(super) const MAX_FDS: usize = 32;

/// What has come over a socket.
#[derive(Debug)]
pub(super) struct Received {
    /// How many bytes; 0 is the end of the connection.
    pub(super) count: usize,
    pub(super) fds: Vec<OwnedFd>,
    /// There was more, bytes of a packet or descriptors, and it is gone.
    pub(super) is_cut: bool,
}

/// Takes what there is, up to the length of `bytes`. Waits for something.
pub(super) fn receive(socket: impl AsFd, bytes: &mut [u8]) -> io::Result<Received> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let message = rustix::io::retry_on_intr(|| {
        recvmsg(&socket, &mut [IoSliceMut::new(bytes)], &mut control, RecvFlags::CMSG_CLOEXEC)
    })?;
    let rights = control.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(fds) => Some(fds),
        _ => None,
    });
    let fds = rights.flatten().collect();
    let is_cut = message.flags.intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC);
    Ok(Received { count: message.bytes, fds, is_cut })
}

/// Gives all bytes, the descriptors with the first of them: at most [`MAX_FDS`].
pub(super) fn send(socket: impl AsFd, mut bytes: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut rights = fds;
    while !bytes.is_empty() {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !rights.is_empty() && !control.push(SendAncillaryMessage::ScmRights(rights)) {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "too many file descriptors at a time"));
        }
        let sent = rustix::io::retry_on_intr(|| {
            sendmsg(&socket, &[IoSlice::new(bytes)], &mut control, SendFlags::NOSIGNAL)
        })?;
        bytes = &bytes[sent..];
        rights = &[];
    }
    Ok(())
}
