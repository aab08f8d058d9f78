//! A VM as the keeper has it: where its front-ends come in, and the worker that they are joined to.

use std::any::Any;
use std::io::{self, ErrorKind};
use std::net::Shutdown;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{Builder, JoinHandle, sleep};
use std::time::Duration;

use log::{Level, debug, error, warn};
use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
use rustix::fs::{CWD, Mode, OFlags, openat};

use super::proxy::{Proxy, ProxyError};
use super::worker::Worker;
use crate::causes::Causes;
use crate::log_limit::LogLimit;

/// Before another connection is accepted where the last one could not be, for want of descriptors.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// Where the front-ends of a VM come from.
#[derive(Debug)]
pub enum FrontEnds {
    /// One after the other, without end.
    Listening(UnixListener),
    /// One that is there already; there will be no other.
    Connected(UnixStream),
}

/// A VM with a thread that joins its front-ends to the worker.
#[derive(Debug)]
pub struct Vm {
    door: Arc<Door>,
    thread: JoinHandle<()>,
}

/// What the thread of a VM and everybody else know of it.
#[derive(Debug)]
pub(super) struct Door {
    pub(super) name: String,
    /// Readable when something has changed.
    pub(super) wake: OwnedFd,
    state: Mutex<State>,
    settled: Condvar,
}

#[derive(Debug, Default)]
struct State {
    is_shut: bool,
    link: Option<Arc<Link>>,
    front_end: Option<Arc<UnixStream>>,
    /// Some worker has known this front-end: what a journal says of the VM is about its session.
    is_known: bool,
    /// The connection to the worker.
    inner: Option<(Arc<Link>, Arc<UnixStream>)>,
    /// A request is under way to the worker, or its answer.
    is_busy: bool,
}

/// Where a worker listens for the front-ends of a VM.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) worker: Arc<Worker>,
    /// The socket's file, which has no name any more.
    file: OwnedFd,
}

impl Link {
    /// A connection to where the worker listens.
    pub(super) fn connect(&self) -> io::Result<UnixStream> {
        UnixStream::connect(format!("/proc/self/fd/{}", self.file.as_raw_fd()))
    }
}

/// A socket that nobody but this process can connect to: its file loses its name at once, and was out of everybody's reach
/// before.
fn private_listener() -> io::Result<(UnixListener, OwnedFd)> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("socket");
    let listener = UnixListener::bind(&path)?;
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok((listener, openat(CWD, &path, flags, Mode::empty())?))
}

impl Vm {
    /// Serves the front-ends of a VM. `kept` is dropped when no front-end can come any more.
    ///
    /// # Errors
    /// No event descriptor, or no thread.
    pub fn start(name: &str, front_ends: FrontEnds, kept: impl Any + Send) -> io::Result<Self> {
        let wake = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let door =
            Arc::new(Door { name: name.to_owned(), wake, state: Mutex::default(), settled: Condvar::new() });
        let own = Arc::clone(&door);
        let thread = Builder::new().name(format!("vm {name}")).spawn(move || {
            own.serve(front_ends);
            drop(kept);
        })?;
        Ok(Vm { door, thread })
    }

    /// Joins the front-ends to this worker from now on. Returns the socket that they come to there, and whether one is
    /// connected, whose session is going to be replayed.
    ///
    /// # Errors
    /// No socket to be had.
    pub fn join_to(&self, worker: &Arc<Worker>) -> io::Result<(UnixListener, bool)> {
        let (listener, file) = private_listener()?;
        let link = Arc::new(Link { worker: Arc::clone(worker), file });
        let mut state = self.door.state();
        state.link = Some(link);
        let is_connected = state.front_end.is_some() && state.is_known;
        drop(state);
        self.door.wake();
        Ok((listener, is_connected))
    }

    /// What waits until nothing is under way between the front-end and the worker, for so long at most.
    pub fn settling(&self) -> impl FnOnce(Duration) + use<> {
        let door = Arc::clone(&self.door);
        move |limit| {
            let waited = door.settled.wait_timeout_while(door.state(), limit, |state| state.is_busy);
            if waited.is_ok_and(|(_, waited)| waited.timed_out()) {
                warn!("vm {}: the worker owes an answer, and is ended nevertheless", door.name);
            }
        }
    }

    /// Disconnects the front-end and lets no other in. Returns when that is done.
    pub fn stop(self) {
        let mut state = self.door.state();
        state.is_shut = true;
        let inner = state.inner.as_ref().map(|(_, stream)| stream);
        for stream in [state.front_end.as_ref(), inner].into_iter().flatten() {
            // Wherever the thread waits for either, it goes on.
            let _gone_already = stream.shutdown(Shutdown::Both);
        }
        drop(state);
        self.door.wake();
        if self.thread.join().is_err() {
            error!("vm {}: its thread had panicked", self.door.name);
        }
    }
}

impl Door {
    fn serve(&self, front_ends: FrontEnds) {
        let mut log = LogLimit::default();
        match front_ends {
            FrontEnds::Connected(stream) => self.join(stream, &mut log),
            FrontEnds::Listening(listener) => loop {
                match self.accept(&listener) {
                    Ok(Some(stream)) => self.join(stream, &mut log),
                    Ok(None) => return,
                    Err(error) => {
                        let name = &self.name;
                        log.say(Level::Warn, format_args!("vm {name}: cannot accept a front-end: {error}"));
                        sleep(ACCEPT_RETRY);
                    }
                }
            },
        }
    }

    /// The next front-end. `None` once the door is shut.
    fn accept(&self, listener: &UnixListener) -> io::Result<Option<UnixStream>> {
        loop {
            if self.is_shut() {
                return Ok(None);
            }
            let mut waiting = [PollFd::new(listener, PollFlags::IN), PollFd::new(&self.wake, PollFlags::IN)];
            rustix::io::retry_on_intr(|| poll(&mut waiting, None))?;
            let is_quiet = waiting[0].revents().is_empty();
            self.awake();
            if is_quiet {
                continue;
            }
            match listener.accept() {
                Ok((stream, _)) => return Ok(Some(stream)),
                // Whoever shares the socket may have been faster, and may have made it non-blocking.
                Err(error)
                    if matches!(
                        error.kind(),
                        ErrorKind::WouldBlock | ErrorKind::ConnectionAborted | ErrorKind::Interrupted
                    ) => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Joins a front-end to the worker until it is gone.
    fn join(&self, stream: UnixStream, log: &mut LogLimit) {
        let stream = Arc::new(stream);
        {
            let mut state = self.state();
            if state.is_shut {
                return;
            }
            state.front_end = Some(Arc::clone(&stream));
            state.is_known = false;
        }
        let ended = stream.set_nonblocking(false).map_err(Into::into);
        let ended = ended.and_then(|()| Proxy::new(self, &stream).run());
        let mut state = self.state();
        state.front_end = None;
        let is_shut = state.is_shut;
        let was_joined_to = state.inner.take().map(|(link, _)| link);
        let is_another = |link: &Arc<Link>| !was_joined_to.is_some_and(|former| Arc::ptr_eq(&former, link));
        let link = state.link.clone().filter(is_another);
        drop(state);
        if let Some(link) = link {
            // The worker may have been told of a front-end, which it would wait for: it comes, and is gone.
            if let Err(error) = link.connect() {
                debug!("vm {}: the worker is gone too: {error}", self.name);
            }
        }
        if let Err(error) = ended
            && !is_shut
        {
            // A worker says for itself why it ends a connection.
            let level = if matches!(error, ProxyError::Refused) { Level::Debug } else { Level::Warn };
            let (name, causes) = (&self.name, Causes(&error));
            log.say(
                level,
                format_args!("vm {name}: the vhost-user connection ended in the middle: {causes}"),
            );
        }
        // Whoever has started the program may have the socket too.
        let _gone_already = stream.shutdown(Shutdown::Both);
    }

    /// Where the worker listens, if there is one.
    pub(super) fn link(&self) -> Option<Arc<Link>> {
        self.state().link.clone()
    }

    /// This worker is gone.
    pub(super) fn forget(&self, link: &Arc<Link>) {
        let mut state = self.state();
        if state.link.as_ref().is_some_and(|known| Arc::ptr_eq(known, link)) {
            state.link = None;
        }
    }

    /// What the front-end is connected to at the worker. Refused once the door is shut.
    pub(super) fn joined(&self, inner: Option<(&Arc<Link>, &Arc<UnixStream>)>) -> bool {
        let mut state = self.state();
        state.is_known |= inner.is_some();
        state.inner = inner.map(|(link, stream)| (Arc::clone(link), Arc::clone(stream)));
        !state.is_shut
    }

    /// Asks for leave to send a request to a worker: not to one that is going to end.
    pub(super) fn begin(&self, worker: &Worker) -> bool {
        let mut state = self.state();
        state.is_busy = !worker.is_ending();
        state.is_busy
    }

    /// The request has been sent, and answered where it is answered.
    pub(super) fn finish(&self) {
        self.state().is_busy = false;
        self.settled.notify_all();
    }

    pub(super) fn is_shut(&self) -> bool {
        self.state().is_shut
    }

    fn wake(&self) {
        if let Err(error) = rustix::io::write(&self.wake, &1_u64.to_ne_bytes()) {
            debug!("vm {}: {error}; it is awake already", self.name);
        }
    }

    /// What there was to wake up for has been seen.
    pub(super) fn awake(&self) {
        let _nothing_to_take = rustix::io::read(&self.wake, &mut [0; 8]);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
