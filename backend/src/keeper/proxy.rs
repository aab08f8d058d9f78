//! One connection of a front-end, joined to whichever worker there is.
//!
//! Requests go on in their order, each with its descriptors, and replies come back. When the worker dies, the next one gets
//! the session replayed, and then the request that was not answered; what comes while there is none waits. A worker that
//! lives and closes the connection means it: then the front-end's is closed too.
//!
//! Rings and doorbells do not come this way.

use std::io;
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use log::{debug, info};
use rustix::event::{PollFd, PollFlags, poll};
use thiserror::Error;
use vhost::vhost_user::message::FrontendReq;

use super::message::{Change, Message, MessageError};
use super::session::Session;
use super::vm::{Door, Link};

/// Most regions of memory of a front-end: as many as the daemon of `vhost-user-backend` says that it has room for. Each takes a
/// descriptor of the keeper's.
const MAX_REGIONS: usize = 509;

/// Why a connection has ended otherwise than by the front-end.
#[derive(Debug, Error)]
pub(super) enum ProxyError {
    /// The front-end breaks the protocol.
    #[error("the front-end")]
    FrontEnd(#[from] MessageError),
    /// The front-end shares too much.
    #[error("expected at most {MAX_REGIONS} regions of memory, found one more")]
    Memory,
    /// The worker sends what is no answer.
    #[error("expected the worker's answer to {request:?}, found something else")]
    Answer { request: FrontendReq },
    /// The worker has refused something.
    #[error("the worker has ended it")]
    Refused,
    /// The worker cannot be reached though it is there.
    #[error("cannot connect to the worker")]
    Connect(#[source] io::Error),
    /// The system says no.
    #[error("cannot wait for messages")]
    Wait(#[from] io::Error),
}

/// A front-end that is gone, or a door that is shut, is `None` in these.
type Went<T> = Result<Option<T>, ProxyError>;

/// A connection under way.
pub(super) struct Proxy<'a> {
    door: &'a Door,
    front_end: &'a UnixStream,
    session: Session,
    worker: Option<Joined>,
}

/// The connection to a worker.
struct Joined {
    link: Arc<Link>,
    stream: Arc<UnixStream>,
}

/// What there is to do.
struct Ready {
    front_end: bool,
    worker: bool,
}

impl<'a> Proxy<'a> {
    pub(super) fn new(door: &'a Door, front_end: &'a UnixStream) -> Self {
        Proxy { door, front_end, session: Session::default(), worker: None }
    }

    /// Serves the front-end until it is gone, or the door is shut.
    pub(super) fn run(mut self) -> Result<(), ProxyError> {
        loop {
            self.join_again()?;
            let Some(ready) = self.wait()? else { return Ok(()) };
            if ready.worker {
                // Nothing comes unasked but the end.
                self.lost()?;
            } else if ready.front_end {
                let Some(message) = Message::receive(self.front_end)? else { return Ok(()) };
                if self.carry(message)?.is_none() {
                    return Ok(());
                }
            }
        }
    }

    /// Waits until there is something to do. Without a worker, the front-end's requests are left where they are.
    fn wait(&self) -> Went<Ready> {
        let wants = if self.worker.is_some() { PollFlags::IN } else { PollFlags::empty() };
        let mut waiting =
            vec![PollFd::new(&self.door.wake, PollFlags::IN), PollFd::new(self.front_end, wants)];
        waiting.extend(self.worker.iter().map(|joined| PollFd::new(&joined.stream, PollFlags::IN)));
        rustix::io::retry_on_intr(|| poll(&mut waiting, None)).map_err(io::Error::from)?;
        let seen = |at: usize| waiting.get(at).map_or(PollFlags::empty(), PollFd::revents);
        let (front_end, worker) = (seen(1), !seen(2).is_empty());
        self.door.awake();
        let is_gone = self.worker.is_none() && !front_end.is_empty();
        if self.door.is_shut() || is_gone {
            return Ok(None);
        }
        Ok(Some(Ready { front_end: !front_end.is_empty(), worker }))
    }

    /// Has a request carried out, by as many workers as it takes.
    fn carry(&mut self, message: Message) -> Went<()> {
        let change = message.change()?;
        if matches!(change, Change::Add(_)) && self.session.regions() >= MAX_REGIONS {
            return Err(ProxyError::Memory);
        }
        let expects_reply = self.session.expects_reply(&message, &change);
        let reply = loop {
            self.join_again()?;
            let Some(joined) = &self.worker else {
                if self.wait()?.is_none() {
                    return Ok(None);
                }
                continue;
            };
            if !self.door.begin(&joined.link.worker) {
                // Its rings stay as they are until it is gone.
                if self.wait_for_end(&joined.stream)?.is_none() {
                    return Ok(None);
                }
                self.lost()?;
                continue;
            }
            let exchanged = exchange(&joined.stream, &message, expects_reply);
            self.door.finish();
            match exchanged {
                Ok(reply) => break reply,
                Err(error) => {
                    debug!("vm {}: {:?}: {error}", self.door.name, message.request);
                    self.lost()?;
                }
            }
        };
        if reply.as_ref().is_some_and(|reply| !reply.is_reply_to(message.request)) {
            return Err(ProxyError::Answer { request: message.request });
        }
        let is_memory = matches!(change, Change::Table(_) | Change::Add(_));
        self.session.apply(change, message.fds, reply.as_ref());
        if is_memory {
            self.say_what_is_overdue()?;
        }
        // A front-end that takes no answer is gone.
        Ok(reply.is_none_or(|reply| reply.send(self.front_end).is_ok()).then_some(()))
    }

    /// Waits until a worker that is going to end has ended.
    fn wait_for_end(&self, worker: &UnixStream) -> Went<()> {
        loop {
            let mut waiting = [
                PollFd::new(worker, PollFlags::IN),
                PollFd::new(self.front_end, PollFlags::empty()),
                PollFd::new(&self.door.wake, PollFlags::IN),
            ];
            rustix::io::retry_on_intr(|| poll(&mut waiting, None)).map_err(io::Error::from)?;
            let [ended, left, _] = waiting.map(|fd| !fd.revents().is_empty());
            self.door.awake();
            if left || self.door.is_shut() {
                return Ok(None);
            }
            if ended {
                return Ok(Some(()));
            }
        }
    }

    /// Joins the front-end to the worker, where there is one that it is not joined to yet.
    fn join_again(&mut self) -> Result<(), ProxyError> {
        while self.worker.is_none()
            && let Some(link) = self.door.link()
        {
            let stream = match link.connect() {
                Ok(stream) => Arc::new(stream),
                Err(error) if link.worker.is_there() => return Err(ProxyError::Connect(error)),
                Err(error) => {
                    debug!("vm {}: the worker is gone: {error}", self.door.name);
                    self.door.forget(&link);
                    continue;
                }
            };
            if !self.door.joined(Some((&link, &stream))) {
                return Ok(());
            }
            let replayed = replay(&mut self.session, &stream);
            self.worker = Some(Joined { link, stream });
            match replayed {
                Ok(0) => {}
                Ok(count) => info!("vm {}: session handed on in {count} messages", self.door.name),
                Err(error) => {
                    debug!("vm {}: while the session was replayed: {error}", self.door.name);
                    self.lost()?;
                }
            }
        }
        Ok(())
    }

    fn say_what_is_overdue(&mut self) -> Result<(), ProxyError> {
        for message in self.session.overdue() {
            let sent = self.worker.as_ref().map(|joined| message.send(&joined.stream));
            if let Some(Err(error)) = sent {
                debug!("vm {}: {error}", self.door.name);
                // The next worker gets all of it replayed.
                return self.lost();
            }
        }
        Ok(())
    }

    /// The connection to the worker is over: with the worker, or because it wants so.
    fn lost(&mut self) -> Result<(), ProxyError> {
        let Some(Joined { link, .. }) = self.worker.take() else { return Ok(()) };
        self.door.joined(None);
        if link.worker.is_there() {
            return Err(ProxyError::Refused);
        }
        self.door.forget(&link);
        Ok(())
    }
}

/// Sends a request, and waits for the answer where there is one.
fn exchange(worker: &UnixStream, message: &Message, expects_reply: bool) -> io::Result<Option<Message>> {
    message.send(worker)?;
    expects_reply.then(|| answer(worker)).transpose()
}

/// Brings a fresh worker to the state of a session, and waits until it is there. Returns the number of messages.
fn replay(session: &mut Session, worker: &UnixStream) -> io::Result<usize> {
    if session.is_fresh() {
        return Ok(0);
    }
    let messages = session.replay();
    for (message, fds) in &messages {
        message.send_with(worker, fds)?;
        if message.is_question() {
            answer(worker)?;
        }
    }
    // An answer that comes behind all of them; it changes nothing.
    exchange(worker, &Message::new(FrontendReq::GET_PROTOCOL_FEATURES, Vec::new()), true)?;
    Ok(messages.len())
}

fn answer(worker: &UnixStream) -> io::Result<Message> {
    match Message::receive(worker) {
        Ok(Some(answer)) => Ok(answer),
        Ok(None) => Err(io::ErrorKind::UnexpectedEof.into()),
        Err(error) => Err(io::Error::other(error)),
    }
}
