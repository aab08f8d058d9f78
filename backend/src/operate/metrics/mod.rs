//! The metrics endpoint: what `stats` says, in the text format of Prometheus.
//!
//! A thread of the worker's answers `GET /metrics` on a socket that the keeper has opened. It asks the bridges as the control
//! socket does, and touches nothing of theirs. Clients are served one after the other, each for [`PATIENCE`] at most: what is
//! held for all of them together is one request in and one reply out.

mod exposition;
#[cfg(test)]
mod tests;

use std::io::{self, ErrorKind};
use std::os::fd::OwnedFd;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use log::{Level, debug, warn};
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::io::{Errno, retry_on_intr};
use rustix::net::{RecvFlags, SendFlags, SocketFlags, accept_with, recv, send};

use super::control::Stats;
use crate::log_limit::LogLimit;

/// Longest time for one client, which keeps the next waiting.
const PATIENCE: Duration = Duration::from_secs(2);
/// Longest request in bytes, with its headers.
const MAX_REQUEST: usize = 8 * 1024;
/// Before another client is accepted where the last one could not be, for want of descriptors.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// What the text format is called: that of OpenMetrics, which Prometheus reads.
const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// A thread that answers on the metrics socket, until this is dropped.
#[derive(Debug)]
pub(super) struct Metrics {
    /// Readable once the thread is to end.
    end: OwnedFd,
    thread: Option<JoinHandle<()>>,
}

impl Metrics {
    /// Starts the thread that answers clients of `listener`, a unix or TCP socket, with what `stats` says.
    pub(super) fn start(listener: OwnedFd, stats: impl Fn() -> Stats + Send + 'static) -> io::Result<Self> {
        let end = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let server = Server { listener, end: end.try_clone()?, stats, log: LogLimit::default() };
        let thread = thread::Builder::new().name("metrics".to_owned()).spawn(move || server.run())?;
        Ok(Metrics { end, thread: Some(thread) })
    }
}

impl Drop for Metrics {
    /// Waits for the client that is being served.
    fn drop(&mut self) {
        if let Err(error) = rustix::io::write(&self.end, &1_u64.to_ne_bytes()) {
            debug!("metrics: {error}; it ends already");
        }
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            warn!("the metrics socket's thread had panicked");
        }
    }
}

struct Server<S> {
    listener: OwnedFd,
    end: OwnedFd,
    stats: S,
    log: LogLimit,
}

/// Why a client gets no answer.
#[derive(Debug, thiserror::Error)]
enum Unserved {
    #[error("it took longer than {PATIENCE:?}")]
    Late,
    #[error("its request is longer than {MAX_REQUEST} bytes")]
    TooLong,
    #[error("it has left")]
    Left,
    #[error("the program ends")]
    Ending,
    #[error(transparent)]
    System(#[from] io::Error),
}

impl<S: Fn() -> Stats> Server<S> {
    fn run(mut self) {
        loop {
            match self.wait(&self.listener, PollFlags::IN, None) {
                Ok(()) => self.accept(),
                Err(Unserved::Ending) => return,
                Err(error) => {
                    self.log.say(Level::Warn, format_args!("metrics: cannot wait for clients: {error}"));
                    thread::sleep(ACCEPT_RETRY);
                }
            }
        }
    }

    fn accept(&mut self) {
        match accept_with(&self.listener, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK) {
            Ok(client) => {
                if let Err(why) = self.serve(&client) {
                    self.log.say(Level::Debug, format_args!("metrics: a client gets no answer: {why}"));
                }
            }
            Err(Errno::AGAIN | Errno::INTR | Errno::CONNABORTED) => {}
            Err(error) => {
                self.log.say(Level::Warn, format_args!("metrics: cannot accept a client: {error}"));
                thread::sleep(ACCEPT_RETRY);
            }
        }
    }

    /// Reads a request and answers it. The connection ends with that.
    fn serve(&self, client: &OwnedFd) -> Result<(), Unserved> {
        let until = Instant::now() + PATIENCE;
        let mut request = Vec::new();
        let mut chunk = [0; 1024];
        while !request.windows(4).any(|end| end == b"\r\n\r\n") {
            if request.len() > MAX_REQUEST {
                return Err(Unserved::TooLong);
            }
            self.wait(client, PollFlags::IN, Some(until))?;
            match recv(client, &mut chunk, RecvFlags::empty()).map_err(io::Error::from) {
                Ok((0, _)) => return Err(Unserved::Left),
                Ok((count, _)) => request.extend(&chunk[..count]),
                Err(error) if is_for_later(&error) => {}
                Err(error) => return Err(error.into()),
            }
        }
        let reply = reply(&request, &self.stats);
        // What the program takes for the answer is not the client's delay.
        let until = Instant::now() + PATIENCE;
        let mut rest = reply.as_slice();
        while !rest.is_empty() {
            self.wait(client, PollFlags::OUT, Some(until))?;
            match send(client, rest, SendFlags::NOSIGNAL).map_err(io::Error::from) {
                Ok(count) => rest = &rest[count..],
                Err(error) if is_for_later(&error) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Waits for a descriptor, as long as the program does not end, and until then at most.
    fn wait(&self, fd: &OwnedFd, events: PollFlags, until: Option<Instant>) -> Result<(), Unserved> {
        let mut waiting = [PollFd::new(&self.end, PollFlags::IN), PollFd::new(fd, events)];
        let ready = retry_on_intr(|| {
            let left = until.map(|until| until.saturating_duration_since(Instant::now()));
            let left = left.and_then(|left| Timespec::try_from(left).ok());
            poll(&mut waiting, left.as_ref())
        });
        match ready.map_err(io::Error::from)? {
            0 => Err(Unserved::Late),
            _ if !waiting[0].revents().is_empty() => Err(Unserved::Ending),
            _ => Ok(()),
        }
    }
}

fn is_for_later(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
}

/// The reply to a request, of which nothing but the first line counts.
fn reply(request: &[u8], stats: impl Fn() -> Stats) -> Vec<u8> {
    let line = request.split(|byte| *byte == b'\r').next().unwrap_or_default();
    let (status, kind, body) = match line.split(|byte| *byte == b' ').collect::<Vec<_>>()[..] {
        [b"GET", b"/metrics", b"HTTP/1.1" | b"HTTP/1.0"] => match exposition::text(&stats()) {
            Ok(text) => ("200 OK", CONTENT_TYPE, text),
            Err(error) => ("500 Internal Server Error", "text/plain", format!("{error}\n")),
        },
        [b"GET", ..] => ("404 Not Found", "text/plain", "expected GET /metrics\n".to_owned()),
        _ => ("400 Bad Request", "text/plain", "expected GET /metrics\n".to_owned()),
    };
    let len = body.len();
    format!(
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len}\r\nConnection: close\r\n\r\n{body}"
    )
    .into_bytes()
}
