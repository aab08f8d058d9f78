//! The way in for the front-ends of a VM, which another thread can shut.

use std::fmt;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::sync::Mutex;

use log::debug;
use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
use rustix::io::retry_on_intr;
use vhost::vhost_user::Listener;
use vhost_user_backend::ShutdownHandle;

use super::ring::lock;

/// Where the front-ends of one VM connect, one after the other, until it is shut.
pub struct Gate {
    listener: UnixListener,
    /// Readable once the gate is shut, and from then on.
    shut: OwnedFd,
    inside: Mutex<Inside>,
}

/// The connection of one front-end, by which it can be disconnected.
#[derive(Default)]
pub struct Line(Mutex<Option<ShutdownHandle>>);

impl Line {
    /// The connection is there.
    pub(super) fn connect(&self, front_end: ShutdownHandle) {
        *lock(&self.0) = Some(front_end);
    }

    /// Disconnects the front-end.
    pub(super) fn hang_up(&self) {
        if let Some(front_end) = &*lock(&self.0) {
            front_end.shutdown();
        }
    }
}

impl fmt::Debug for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Line").finish_non_exhaustive()
    }
}

#[derive(Default)]
struct Inside {
    shut: bool,
    front_end: Option<ShutdownHandle>,
}

impl Gate {
    /// A gate for those who connect to `listener`.
    ///
    /// # Errors
    /// No event descriptor to be had.
    pub fn new(listener: UnixListener) -> io::Result<Self> {
        let shut = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Gate { listener, shut, inside: Mutex::default() })
    }

    /// Shuts the gate for good: the front-end that is inside is disconnected, and no other comes in.
    pub fn shut(&self) {
        let mut inside = lock(&self.inside);
        inside.shut = true;
        if let Some(front_end) = &inside.front_end {
            front_end.shutdown();
        }
        if let Err(error) = rustix::io::write(&self.shut, &1_u64.to_ne_bytes()) {
            debug!("shutting a gate: {error}; it is shut already");
        }
    }

    /// Whether it has been shut.
    pub fn is_shut(&self) -> bool {
        lock(&self.inside).shut
    }

    /// Whether a front-end is connected.
    pub fn is_occupied(&self) -> bool {
        lock(&self.inside).front_end.is_some()
    }

    /// Waits until a front-end is there to be accepted. `None` where the gate is shut instead.
    pub(super) fn wait(&self) -> io::Result<Option<Listener>> {
        let mut waiting =
            [PollFd::new(&self.listener, PollFlags::IN), PollFd::new(&self.shut, PollFlags::IN)];
        retry_on_intr(|| poll(&mut waiting, None))?;
        if self.is_shut() {
            return Ok(None);
        }
        Ok(Some(Listener::from(self.listener.try_clone()?)))
    }

    /// A front-end has come in. It is shown out at once where the gate has been shut meanwhile.
    pub(super) fn enter(&self, front_end: ShutdownHandle) {
        let mut inside = lock(&self.inside);
        if inside.shut {
            front_end.shutdown();
        }
        inside.front_end = Some(front_end);
    }

    /// The front-end is gone.
    pub(super) fn leave(&self) {
        lock(&self.inside).front_end = None;
    }
}

impl fmt::Debug for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gate").field("listener", &self.listener).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::unix::net::UnixStream;
    use std::path::PathBuf;
    use std::sync::Arc;
    use std::sync::mpsc::{Receiver, channel};
    use std::thread::{JoinHandle, spawn};
    use std::time::Duration;

    use super::*;
    use crate::guest::Queue;
    use crate::guest::device::serve_one;
    use crate::guest::port::{QueueIndex, QueueOwner};
    use crate::log_limit::LogLimit;
    use std::fs::File;

    const LONG: Duration = Duration::from_secs(10);

    /// Counts the front-ends that have gone.
    struct Owner(std::sync::mpsc::Sender<()>);

    impl QueueOwner for Owner {
        fn take(&self, _: QueueIndex, _: Queue) {}
        fn release(&self, _: QueueIndex) -> Option<u16> {
            None
        }
        fn call_by(&self, _: QueueIndex, _: Option<File>) {}

        fn disconnected(&self) {
            self.0.send(()).unwrap();
        }
    }

    struct Bench {
        _folder: tempfile::TempDir,
        path: PathBuf,
        gate: Arc<Gate>,
        gone: Receiver<()>,
        thread: JoinHandle<()>,
    }

    /// A thread that serves front-ends until the gate is shut.
    fn serving() -> Bench {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        let gate = Arc::new(Gate::new(UnixListener::bind(&path).unwrap()).unwrap());
        let (sender, gone) = channel();
        let own = Arc::clone(&gate);
        let thread = spawn(move || {
            let owner: Arc<dyn QueueOwner> = Arc::new(Owner(sender));
            while !own.is_shut() {
                serve_one("a", &own, &owner, &mut LogLimit::default()).unwrap();
            }
        });
        Bench { _folder: folder, path, gate, gone, thread }
    }

    fn wait_for(gate: &Gate, occupied: bool) {
        let start = std::time::Instant::now();
        while gate.is_occupied() != occupied {
            assert!(start.elapsed() < LONG);
            std::thread::yield_now();
        }
    }

    #[test]
    fn a_gate_that_is_shut_ends_the_wait_for_a_front_end() {
        let bench = serving();
        bench.gate.shut();
        bench.thread.join().unwrap();
        assert!(!bench.gate.is_occupied());
        assert!(bench.gone.try_recv().is_err());
    }

    #[test]
    fn a_gate_that_is_shut_disconnects_the_front_end_inside() {
        let bench = serving();
        let mut front_end = UnixStream::connect(&bench.path).unwrap();
        wait_for(&bench.gate, true);
        bench.gate.shut();
        front_end.set_read_timeout(Some(LONG)).unwrap();
        assert_eq!(front_end.read(&mut [0]).unwrap(), 0);
        bench.thread.join().unwrap();
        bench.gone.recv_timeout(LONG).unwrap();
        assert!(!bench.gate.is_occupied());
    }

    #[test]
    fn a_front_end_that_leaves_makes_room_for_the_next() {
        let bench = serving();
        for _ in 0..3 {
            let front_end = UnixStream::connect(&bench.path).unwrap();
            wait_for(&bench.gate, true);
            drop(front_end);
            bench.gone.recv_timeout(LONG).unwrap();
            wait_for(&bench.gate, false);
        }
        bench.gate.shut();
        bench.gate.shut();
        bench.thread.join().unwrap();
    }
}
