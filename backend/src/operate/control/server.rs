//! The side of the control socket that answers.
//!
//! One thread serves all clients, one request at a time, so that requests take effect in an order. It reads no further
//! from a client that does not take its replies: what it holds for each is one line in and one line out at most.

use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use log::{debug, warn};
use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
use rustix::io::retry_on_intr;
use serde_json::Value;

use super::protocol::{Code, MAX_LINE, Refusal, Reply, Request};

/// Clients at a time; the next is told so and has to come again.
pub(super) const MAX_CLIENTS: usize = 64;
/// Bytes that are read at a time.
const CHUNK: usize = 4096;
/// Before another client is accepted where the last one could not be, for want of descriptors.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// What comes of a request.
pub(in crate::operate) type Outcome = Result<Done, Refusal>;

/// How a request was carried out.
pub(in crate::operate) enum Done {
    /// With this for a result.
    Reply(Value),
    /// With this for a result, and then more than a line: the connection goes to somebody else.
    Stream(Value, Stream),
}

/// Takes a connection over, and writes this line to it first.
pub(in crate::operate) type Stream = Box<dyn FnOnce(UnixStream, Vec<u8>)>;

/// A thread that answers on the control socket, until this is dropped.
#[derive(Debug)]
pub(in crate::operate) struct Control {
    /// Readable once the thread is to end.
    end: OwnedFd,
    thread: Option<JoinHandle<()>>,
}

impl Control {
    /// Starts the thread that has `handle` carry out what clients of `listener` ask for.
    pub(in crate::operate) fn start(
        listener: UnixListener,
        handle: impl Fn(Request) -> Outcome + Send + 'static,
    ) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        let end = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let ended = end.try_clone()?;
        let server = Server { listener, end: ended, handle, clients: Vec::new() };
        let thread = thread::Builder::new().name("control".to_owned()).spawn(move || server.run())?;
        Ok(Control { end, thread: Some(thread) })
    }
}

impl Drop for Control {
    /// Waits for the request that is being carried out.
    fn drop(&mut self) {
        if let Err(error) = rustix::io::write(&self.end, &1_u64.to_ne_bytes()) {
            debug!("control: {error}; it ends already");
        }
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            warn!("the control socket's thread had panicked");
        }
    }
}

struct Server<H> {
    listener: UnixListener,
    end: OwnedFd,
    handle: H,
    clients: Vec<Client>,
}

impl<H: Fn(Request) -> Outcome> Server<H> {
    fn run(mut self) {
        loop {
            match self.wait() {
                Ok(Ready { end: true, .. }) => return,
                Ok(Ready { clients, more, .. }) => {
                    for (client, ready) in self.clients.iter_mut().zip(clients) {
                        if ready {
                            client.serve(&self.handle);
                        }
                    }
                    self.clients.retain(|client| !client.gone);
                    if more {
                        self.accept();
                    }
                }
                Err(error) => {
                    warn!("control: cannot wait for clients: {error}");
                    thread::sleep(ACCEPT_RETRY);
                }
            }
        }
    }

    /// Waits until there is something to do.
    fn wait(&self) -> io::Result<Ready> {
        let mut waiting =
            vec![PollFd::new(&self.end, PollFlags::IN), PollFd::new(&self.listener, PollFlags::IN)];
        waiting.extend(self.clients.iter().map(|client| PollFd::new(&client.stream, client.waits_for())));
        retry_on_intr(|| poll(&mut waiting, None))?;
        let mut ready = waiting.iter().map(|fd| !fd.revents().is_empty());
        let mut next = || ready.next().unwrap_or_default();
        let (end, more) = (next(), next());
        Ok(Ready { end, more, clients: ready.collect() })
    }

    fn accept(&mut self) {
        match self.listener.accept().and_then(|(stream, _)| Client::new(stream)) {
            Ok(client) if self.clients.len() < MAX_CLIENTS => self.clients.push(client),
            Ok(mut client) => {
                let message =
                    format!("expected at most {MAX_CLIENTS} clients at a time, found one more; try again");
                client.reply(Err(Refusal::new(Code::Busy, message)));
                client.flush();
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => {
                warn!("control: cannot accept a client: {error}");
                thread::sleep(ACCEPT_RETRY);
            }
        }
    }
}

/// Where there is something to do.
struct Ready {
    end: bool,
    more: bool,
    clients: Vec<bool>,
}

/// A connection of a client.
struct Client {
    stream: UnixStream,
    /// What has come of lines that are not answered yet.
    input: Vec<u8>,
    /// What it has not taken yet of the reply.
    output: Vec<u8>,
    /// The rest of the line is to be skipped: it was too long.
    skipping: bool,
    /// There will be no more input.
    ended: bool,
    /// There is nothing more to do.
    gone: bool,
}

impl Client {
    fn new(stream: UnixStream) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        let (input, output) = (Vec::new(), Vec::new());
        Ok(Client { stream, input, output, skipping: false, ended: false, gone: false })
    }

    fn waits_for(&self) -> PollFlags {
        if self.output.is_empty() { PollFlags::IN } else { PollFlags::OUT }
    }

    /// Does what can be done without waiting.
    fn serve(&mut self, handle: &impl Fn(Request) -> Outcome) {
        self.flush();
        if self.output.is_empty() && !self.gone {
            self.read();
        }
        while self.output.is_empty() && !self.gone {
            let Some(outcome) = self.next(handle) else {
                self.gone = self.ended;
                return;
            };
            match outcome {
                Ok(Done::Reply(result)) => self.reply(Ok(result)),
                Ok(Done::Stream(result, stream)) => return self.hand_over(result, stream),
                Err(refusal) => self.reply(Err(refusal)),
            }
            self.flush();
        }
    }

    /// Reads what there is, up to a chunk.
    fn read(&mut self) {
        let mut chunk = [0; CHUNK];
        match self.stream.read(&mut chunk) {
            Ok(0) => self.ended = true,
            Ok(count) => self.input.extend(&chunk[..count]),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
            Err(error) => {
                debug!("control: a client is gone: {error}");
                self.gone = true;
            }
        }
    }

    /// The outcome of the next line, if there is one.
    fn next(&mut self, handle: &impl Fn(Request) -> Outcome) -> Option<Outcome> {
        let end = self.input.iter().position(|byte| *byte == b'\n');
        if self.skipping {
            self.input.drain(..end.map_or(self.input.len(), |end| end + 1));
            self.skipping = end.is_none();
            return if self.skipping { None } else { self.next(handle) };
        }
        match end {
            Some(end) if end <= MAX_LINE => {
                let line: Vec<_> = self.input.drain(..=end).collect();
                Some(Request::parse(&line[..end]).and_then(handle))
            }
            None if self.input.len() <= MAX_LINE && !self.ended => None,
            None if self.input.is_empty() => None,
            None if self.input.len() <= MAX_LINE => {
                self.input.clear();
                let message = "expected a newline behind the request, found the end of the connection";
                Some(Err(Refusal::new(Code::Syntax, message)))
            }
            _ => {
                self.skipping = true;
                let message = format!("expected a line of at most {MAX_LINE} bytes, found a longer one");
                Some(Err(Refusal::new(Code::TooLong, message)))
            }
        }
    }

    /// Gives the connection away.
    fn hand_over(&mut self, result: Value, stream: Stream) {
        self.gone = true;
        match self.stream.try_clone() {
            Ok(connection) => stream(connection, Reply::line(Ok(result))),
            Err(error) => warn!("control: no descriptor for a connection that streams: {error}"),
        }
    }

    fn reply(&mut self, outcome: Result<Value, Refusal>) {
        self.output = Reply::line(outcome);
    }

    /// Writes what the client takes.
    fn flush(&mut self) {
        while !self.output.is_empty() {
            match self.stream.write(&self.output) {
                Ok(count) => drop(self.output.drain(..count)),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) => {
                    debug!("control: a client is gone: {error}");
                    self.gone = true;
                    return;
                }
            }
        }
    }
}

#[cfg(fuzzing)]
pub mod fuzzing;
#[cfg(test)]
mod tests;
