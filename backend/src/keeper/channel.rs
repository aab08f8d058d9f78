//! Calls between the keeper and the worker: a socket for packets, each a message in JSON with file descriptors.
//!
//! Either side may have any number of calls under way, from any of its threads. Each call that comes in is carried out on
//! a thread of its own, so one that takes long keeps no other waiting. The lists of calls are in [`calls`](super::calls).

use std::collections::HashMap;
use std::fmt::Debug;
use std::io;
use std::marker::PhantomData;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::Builder;

use log::debug;
use rustix::net::{AddressFamily, Shutdown, SocketFlags, SocketType, shutdown, socketpair};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::wire;
use crate::causes::Causes;

/// Longest packet in bytes: the keys of a VM in one line of the control socket, and something around them. What is
/// larger goes as a file.
const MAX_PACKET: usize = 160 * 1024;
/// Most calls of one side that the other carries out at a time.
const MAX_CALLS: usize = 64;

/// Something that one side asks of the other.
pub trait Call: Debug + Serialize + DeserializeOwned + Send + 'static {
    /// What comes of it.
    type Reply: Debug + Serialize + DeserializeOwned + Send + 'static;
}

/// What comes of a call: a reply, and the file descriptors that go with it.
pub type Outcome<R> = Result<(R, Vec<OwnedFd>), Failure>;

/// Why a call came to nothing, as the other side says it.
#[derive(Clone, Debug, Deserialize, Error, PartialEq, Eq, Serialize)]
#[error("{message}")]
pub struct Failure {
    /// For people: all that caused it.
    pub message: String,
    /// The number of what the system said, if it was the system.
    pub errno: Option<i32>,
}

impl Failure {
    /// A failure for which an error is the reason.
    pub fn of(error: &(dyn std::error::Error + 'static)) -> Self {
        let chain = std::iter::successors(Some(error), |error| error.source());
        let errno =
            chain.filter_map(|error| error.downcast_ref::<io::Error>()).find_map(io::Error::raw_os_error);
        Failure { message: Causes(error).to_string(), errno }
    }

    /// A failure that is not the system's.
    pub fn new(message: impl Into<String>) -> Self {
        Failure { message: message.into(), errno: None }
    }
}

/// Why a call came to nothing.
#[derive(Debug, Error)]
pub enum CallError {
    /// The other side refuses, or has failed.
    #[error(transparent)]
    Failed(#[from] Failure),
    /// The other side is gone.
    #[error("the process on the other side of the channel is gone")]
    Gone,
    /// The call cannot be sent.
    #[error("cannot send a call to the other process")]
    Send(#[source] io::Error),
    /// The call cannot be put into words.
    #[error("cannot put a call to the other process into words")]
    Words(#[source] serde_json::Error),
    /// The call, or what came of it, is too long.
    #[error("expected a message of at most {MAX_PACKET} bytes between the processes, found {found}")]
    TooLong {
        /// Its length in bytes.
        found: usize,
    },
    /// The channel is of no use any more.
    #[error(transparent)]
    Channel(#[from] ChannelError),
    /// The reply is to another kind of call.
    #[error("expected the reply to a call, found {found}, which is none to it")]
    OtherReply {
        /// The reply.
        found: String,
    },
}

/// Why nothing more comes over a channel that the other side has not closed.
#[derive(Debug, Error)]
pub enum ChannelError {
    /// The system says no.
    #[error("cannot receive from the other process")]
    Receive(#[source] io::Error),
    /// A packet that is too long, or has too many descriptors.
    #[error(
        "expected a message of at most {MAX_PACKET} bytes with at most {} descriptors, found more",
        wire::MAX_FDS
    )]
    TooLong,
    /// A packet that says nothing.
    #[error("expected a call or a reply from the other process, found something else")]
    Words(#[source] serde_json::Error),
}

/// What a packet says. `C`: calls of whoever sends it, `R`: replies to the calls of whoever gets it.
#[derive(Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Packet<C, R> {
    Call { id: u64, call: C },
    Reply { id: u64, outcome: Result<R, Failure> },
}

/// One end of a channel: sends calls `Out` and carries out calls `In`.
#[derive(Debug)]
pub struct Peer<Out: Call, In: Call> {
    socket: OwnedFd,
    waiting: Mutex<Waiting<Out::Reply>>,
    /// Calls that came in before anybody carried them out.
    early: Mutex<Vec<(u64, In, Vec<OwnedFd>)>>,
    _carries_out: PhantomData<fn() -> In>,
}

/// The calls under way.
#[derive(Debug)]
struct Waiting<R> {
    next: u64,
    is_gone: bool,
    calls: HashMap<u64, Sender<Outcome<R>>>,
}

/// The two sockets of a channel.
///
/// # Errors
/// No sockets to be had.
pub fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?)
}

impl<Out: Call, In: Call> Peer<Out, In> {
    /// The end of a channel that `socket` is. Nothing comes of calls until [`Peer::serve`] runs.
    pub fn new(socket: OwnedFd) -> Arc<Self> {
        let waiting = Waiting { next: 0, is_gone: false, calls: HashMap::new() };
        let (waiting, early) = (Mutex::new(waiting), Mutex::default());
        Arc::new(Peer { socket, waiting, early, _carries_out: PhantomData })
    }

    /// Has the other side do something, and waits until it is done or the other side is gone.
    ///
    /// # Errors
    /// A refusal, and another side that is gone.
    pub fn call(&self, call: &Out, fds: &[BorrowedFd<'_>]) -> Result<(Out::Reply, Vec<OwnedFd>), CallError> {
        let outcome = self.begin(call, fds)?;
        Ok(outcome.recv().map_err(|_| CallError::Gone)??)
    }

    /// Like [`Peer::call`], before anybody serves this end: the reply is received on this thread. What the other side asks
    /// meanwhile is carried out when [`Peer::serve`] runs.
    ///
    /// # Errors
    /// As of [`Peer::call`], and another side that sends what makes no sense.
    pub fn call_alone(&self, call: &Out) -> Result<(Out::Reply, Vec<OwnedFd>), CallError> {
        let outcome = self.begin(call, &[])?;
        loop {
            match self.receive()?.ok_or(CallError::Gone)? {
                (Packet::Call { id, call }, fds) => self.early().push((id, call, fds)),
                (Packet::Reply { id, outcome }, fds) => self.take(id, outcome, fds),
            }
            if let Ok(outcome) = outcome.try_recv() {
                return Ok(outcome?);
            }
        }
    }

    /// Sends a call. What comes of it will be in the receiver.
    fn begin(&self, call: &Out, fds: &[BorrowedFd<'_>]) -> Result<Receiver<Outcome<Out::Reply>>, CallError> {
        let (sender, outcome) = channel();
        let id = {
            let mut waiting = self.waiting();
            if waiting.is_gone {
                return Err(CallError::Gone);
            }
            let id = waiting.next;
            waiting.next += 1;
            waiting.calls.insert(id, sender);
            id
        };
        if let Err(error) = self.send(&Packet::<&Out, In::Reply>::Call { id, call }, fds) {
            self.waiting().calls.remove(&id);
            return Err(error);
        }
        Ok(outcome)
    }

    /// Hands what came of a call to whoever waits for it. Nobody waits for a reply that comes twice, or to nothing.
    fn take(&self, id: u64, outcome: Result<Out::Reply, Failure>, fds: Vec<OwnedFd>) {
        if let Some(caller) = self.waiting().calls.remove(&id) {
            let _caller_is_gone = caller.send(outcome.map(|reply| (reply, fds)));
        }
    }

    /// Carries out the calls of the other side by `handle`, and takes what it replies to ours, until it is gone.
    ///
    /// # Errors
    /// Another side that sends what makes no sense; the channel is of no use any more.
    pub fn serve(
        self: &Arc<Self>,
        handle: impl Fn(In, Vec<OwnedFd>) -> Outcome<In::Reply> + Send + Sync + 'static,
    ) -> Result<(), ChannelError> {
        let handle = Arc::new(handle);
        let under_way = Arc::new(AtomicUsize::new(0));
        let early = std::mem::take(&mut *self.early());
        for (id, call, fds) in early {
            self.carry_out(id, call, fds, &handle, &under_way);
        }
        let ended = loop {
            match self.receive() {
                Ok(Some((Packet::Call { id, call }, fds))) => {
                    self.carry_out(id, call, fds, &handle, &under_way);
                }
                Ok(Some((Packet::Reply { id, outcome }, fds))) => self.take(id, outcome, fds),
                Ok(None) => break Ok(()),
                Err(error) => break Err(error),
            }
        };
        let mut waiting = self.waiting();
        waiting.is_gone = true;
        waiting.calls.clear();
        ended
    }

    /// Closes the channel for both sides.
    pub fn close(&self) {
        if let Err(error) = shutdown(&self.socket, Shutdown::Both) {
            debug!("closing the channel between the processes: {error}");
        }
    }

    fn carry_out(
        self: &Arc<Self>,
        id: u64,
        call: In,
        fds: Vec<OwnedFd>,
        handle: &Arc<impl Fn(In, Vec<OwnedFd>) -> Outcome<In::Reply> + Send + Sync + 'static>,
        under_way: &Arc<AtomicUsize>,
    ) {
        if under_way.fetch_add(1, Ordering::Relaxed) >= MAX_CALLS {
            under_way.fetch_sub(1, Ordering::Relaxed);
            let message = format!("expected at most {MAX_CALLS} calls at a time, found one more: {call:?}");
            return self.reply(id, Err(Failure::new(message)));
        }
        let (peer, handle, counted) = (Arc::clone(self), Arc::clone(handle), Arc::clone(under_way));
        let spawned = Builder::new().name("call".to_owned()).spawn(move || {
            peer.reply(id, handle(call, fds));
            counted.fetch_sub(1, Ordering::Relaxed);
        });
        if let Err(error) = spawned {
            under_way.fetch_sub(1, Ordering::Relaxed);
            self.reply(id, Err(Failure::of(&error)));
        }
    }

    fn reply(&self, id: u64, outcome: Outcome<In::Reply>) {
        let (outcome, fds) = match outcome {
            Ok((reply, fds)) => (Ok(reply), fds),
            Err(failure) => (Err(failure), Vec::new()),
        };
        let fds: Vec<_> = fds.iter().map(AsFd::as_fd).collect();
        match self.send(&Packet::<&Out, In::Reply>::Reply { id, outcome }, &fds) {
            Ok(()) => {}
            Err(CallError::Send(error)) => debug!("nobody takes the reply to call {id}: {error}"),
            Err(error) => {
                let outcome = Err(Failure::of(&error));
                if let Err(error) = self.send(&Packet::<&Out, In::Reply>::Reply { id, outcome }, &[]) {
                    debug!("nobody takes the reply to call {id}: {}", Causes(&error));
                }
            }
        }
    }

    fn send(&self, packet: &Packet<&Out, In::Reply>, fds: &[BorrowedFd<'_>]) -> Result<(), CallError> {
        let bytes = serde_json::to_vec(packet).map_err(CallError::Words)?;
        if bytes.len() > MAX_PACKET {
            return Err(CallError::TooLong { found: bytes.len() });
        }
        wire::send(&self.socket, &bytes, fds).map_err(|error| match error.kind() {
            io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => CallError::Gone,
            _ => CallError::Send(error),
        })
    }

    /// The next packet. `None`: the other side is gone.
    #[expect(clippy::type_complexity, reason = "used once, and the parts have names")]
    fn receive(&self) -> Result<Option<(Packet<In, Out::Reply>, Vec<OwnedFd>)>, ChannelError> {
        let mut bytes = vec![0; MAX_PACKET];
        let received = match wire::receive(&self.socket, &mut bytes) {
            Ok(received) => received,
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Ok(None),
            Err(error) => return Err(ChannelError::Receive(error)),
        };
        if received.is_cut {
            return Err(ChannelError::TooLong);
        }
        if received.count == 0 {
            return Ok(None);
        }
        let packet = serde_json::from_slice(&bytes[..received.count]).map_err(ChannelError::Words)?;
        Ok(Some((packet, received.fds)))
    }

    fn early(&self) -> MutexGuard<'_, Vec<(u64, In, Vec<OwnedFd>)>> {
        self.early.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting<Out::Reply>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
