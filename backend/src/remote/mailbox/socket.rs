//! The mailbox of the `socket` link: a stream socket, every byte of which is a doorbell.
//!
//! | byte | direction | meaning |
//! |---|---|---|
//! | `0x00..=0xEF` | both | the vring with this notifyid has news |
//! | `0xF0` | remote to host | ready: it has just come up, the resource table is in place; once per boot |
//! | `0xF1` | remote to host | crashed |
//! | `0xF2` | host to remote | shut down |
//! | `0xF3` | remote to host | shut down, done |
//! | `0xF4` | host to remote | echo request |
//! | `0xF5` | remote to host | echo reply |
//! | `0xF6` | host to remote | "state?" |
//! | `0xF7` | remote to host | running: the answer of a remote whose table is in place |
//!
//! Anything else is counted and ignored. The format is public: an emulated board's UART speaks it.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::time::Instant;

use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::net::{Shutdown, shutdown};

use super::{MAX_NOTIFYID, Mailbox, MailboxClosed, Request, Signals};

const READY: u8 = 0xF0;
const CRASHED: u8 = 0xF1;
const SHUT_DOWN: u8 = 0xF2;
const SHUT_DOWN_DONE: u8 = 0xF3;
const ECHO_REQUEST: u8 = 0xF4;
const ECHO_REPLY: u8 = 0xF5;
const STATE_QUERY: u8 = 0xF6;
const RUNNING: u8 = 0xF7;

/// Bytes read at a time. A remote that floods its doorbell gets no more than this per turn of the event loop.
const READ_CHUNK: usize = 4096;

/// The host's end of the doorbell socket.
#[derive(Debug)]
pub struct SocketMailbox {
    stream: UnixStream,
    /// One bit per byte that could not be sent yet because the socket was full.
    pending: [u64; 4],
}

impl SocketMailbox {
    /// Takes a connection and makes it non-blocking.
    ///
    /// # Errors
    /// A stream that cannot be made non-blocking.
    pub fn new(stream: UnixStream) -> io::Result<Self> {
        let flags = fcntl_getfl(&stream)?;
        fcntl_setfl(&stream, flags | OFlags::NONBLOCK)?;
        Ok(SocketMailbox { stream, pending: [0; 4] })
    }

    fn send(&mut self, byte: u8) {
        if self.wants_write() || self.stream.write(&[byte]).is_err() {
            self.pending[usize::from(byte / 64)] |= 1 << (byte % 64);
        }
    }
}

impl Mailbox for SocketMailbox {
    fn descriptor(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }

    fn wants_write(&self) -> bool {
        self.pending != [0; 4]
    }

    fn retry_at(&self) -> Option<Instant> {
        None
    }

    fn kick(&mut self, notifyid: u32) {
        let byte = u8::try_from(notifyid).ok().filter(|_| notifyid <= MAX_NOTIFYID);
        self.send(byte.expect("notifyids are given out below the control bytes"));
    }

    /// There is no word for [`Request::Detach`]: status 0 in the table and a kick say it.
    fn request(&mut self, request: Request) -> bool {
        self.send(match request {
            Request::State => STATE_QUERY,
            Request::Echo => ECHO_REQUEST,
            Request::ShutDown => SHUT_DOWN,
            Request::Detach => return false,
        });
        true
    }

    /// A broken socket is noticed by the next [`receive`](Self::receive).
    fn flush(&mut self, _now: Instant) {
        for (index, word) in self.pending.iter_mut().enumerate() {
            while *word != 0 {
                let bit = word.trailing_zeros();
                let byte = u8::try_from(index * 64 + bit as usize).expect("four words of 64 bits");
                if self.stream.write(&[byte]).is_err() {
                    return;
                }
                *word &= *word - 1;
            }
        }
    }

    fn receive(&mut self, signals: &mut Signals) -> Result<(), MailboxClosed> {
        let closed = |source| MailboxClosed { what: "other end of the doorbell socket", source };
        let mut bytes = [0; READ_CHUNK];
        match self.stream.read(&mut bytes) {
            Ok(0) => return Err(closed(None)),
            Ok(count) => {
                for byte in &bytes[..count] {
                    match *byte {
                        0..READY => signals.vring = true,
                        READY => signals.has_booted(),
                        CRASHED => signals.has_crashed(),
                        SHUT_DOWN_DONE => signals.shut_down = true,
                        ECHO_REPLY => signals.echo = true,
                        RUNNING => signals.running = true,
                        _ => signals.unknown += 1,
                    }
                }
            }
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
            Err(error) => return Err(closed(Some(error))),
        }
        Ok(())
    }

    /// The remote is to see the end now, even if somebody else keeps a duplicate of the descriptor.
    fn hang_up(&mut self) {
        // The one error is that the other side has done so before.
        let _ = shutdown(&self.stream, Shutdown::Both);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair() -> (SocketMailbox, UnixStream) {
        let (host, remote) = UnixStream::pair().unwrap();
        (SocketMailbox::new(host).unwrap(), remote)
    }

    #[test]
    fn signals_are_told_apart_and_garbage_is_counted() {
        let (mut mailbox, mut remote) = pair();
        remote.write_all(&[0x00, 0xEF, READY, 0xF8, 0xFF, STATE_QUERY]).unwrap();
        let mut signals = Signals::default();
        mailbox.receive(&mut signals).unwrap();
        assert_eq!(signals, Signals { vring: true, ready: true, unknown: 3, ..Signals::default() });
    }

    #[test]
    fn a_full_socket_keeps_one_kick_per_vring_and_loses_none() {
        let (mut mailbox, mut remote) = pair();
        while !mailbox.wants_write() {
            mailbox.kick(7);
        }
        for _ in 0..1000 {
            mailbox.kick(3);
            mailbox.kick(0xEF);
        }
        remote.set_nonblocking(true).unwrap();
        let mut received = Vec::new();
        for _ in 0..100 {
            let mut chunk = [0; 65536];
            while let Ok(count) = remote.read(&mut chunk) {
                received.extend_from_slice(&chunk[..count]);
            }
            mailbox.flush(Instant::now());
        }
        assert!(!mailbox.wants_write());
        assert_eq!(received.iter().filter(|byte| **byte == 3).count(), 1);
        assert_eq!(received.iter().filter(|byte| **byte == 0xEF).count(), 1);
        assert_eq!(received.last(), Some(&0xEF));
    }

    #[test]
    fn a_ready_after_a_crash_makes_up_for_it_and_a_crash_after_that_does_not() {
        let (mut mailbox, mut remote) = pair();
        remote.write_all(&[CRASHED, READY]).unwrap();
        let mut signals = Signals::default();
        mailbox.receive(&mut signals).unwrap();
        assert!(signals.ready && signals.recovered);
        remote.write_all(&[CRASHED]).unwrap();
        mailbox.receive(&mut signals).unwrap();
        assert!(signals.crashed && !signals.recovered);
    }

    #[test]
    fn who_hangs_up_is_gone_although_a_duplicate_is_kept() {
        let (mut mailbox, mut remote) = pair();
        let _kept = mailbox.stream.try_clone().unwrap();
        mailbox.kick(1);
        mailbox.hang_up();
        let mut heard = Vec::new();
        remote.read_to_end(&mut heard).unwrap();
        assert_eq!(heard, [1]);
        assert!(mailbox.receive(&mut Signals::default()).is_err());
    }

    #[test]
    fn a_closed_socket_is_reported() {
        let (mut mailbox, remote) = pair();
        drop(remote);
        mailbox.kick(1);
        assert!(mailbox.receive(&mut Signals::default()).is_err());
    }
}
