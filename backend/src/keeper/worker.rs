//! A worker as the keeper has it.

use std::io;
use std::os::fd::OwnedFd;
use std::process::{Child, ExitStatus};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Sender;
use std::thread::Builder;
use std::time::Duration;

use log::{debug, error, warn};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use super::calls::{Order, ToWorker};
use super::channel;
use super::program::Program;
use super::supervise::{Event, Household};
use crate::causes::Causes;

/// How long a worker may live on that has closed its channel.
const LAST_BREATH: Duration = Duration::from_secs(10);

/// A worker, by which it can be spoken to.
#[derive(Debug)]
pub struct Worker {
    number: u64,
    channel: Arc<ToWorker>,
    is_ending: AtomicBool,
}

/// A worker that was started, by which it can be ended.
#[derive(Debug)]
pub(super) struct Running {
    pub(super) worker: Arc<Worker>,
    process: Arc<OwnedFd>,
}

impl Worker {
    /// The worker of this number at the other end of a channel.
    pub fn new(number: u64, channel: Arc<ToWorker>) -> Arc<Self> {
        Arc::new(Worker { number, channel, is_ending: AtomicBool::new(false) })
    }

    /// How many there were before.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Whether it was told to end.
    pub(super) fn is_ending(&self) -> bool {
        self.is_ending.load(Ordering::SeqCst)
    }

    /// Whether it lives and is to live on. Waits for its answer, or its end: where one of its connections is closed, that
    /// tells whether it has died.
    pub(super) fn is_there(&self) -> bool {
        !self.is_ending() && self.channel.call(&Order::Ping, &[]).is_ok() && !self.is_ending()
    }
}

impl Running {
    /// Starts a worker, whose requests are carried out in the household. Its end is told to `events`.
    pub(super) fn start(
        number: u64,
        program: &Program,
        household: &Arc<dyn Household>,
        events: Sender<Event>,
    ) -> io::Result<Self> {
        let (ours, theirs) = channel::pair()?;
        let worker = Worker::new(number, ToWorker::new(ours));
        let mut child = program.spawn(theirs)?;
        let process = match pidfd_open(Pid::from_child(&child), PidfdFlags::empty()) {
            Ok(process) => Arc::new(process),
            Err(errno) => {
                end_now(&mut child);
                return Err(errno.into());
            }
        };
        let (own, household, ended) = (Arc::clone(&worker), Arc::clone(household), Arc::clone(&process));
        Builder::new().name("worker".to_owned()).spawn(move || {
            let caller = Arc::clone(&own);
            if let Err(error) = own.channel.serve(move |request, _| household.carry_out(&caller, request)) {
                warn!("the worker is ended: {}", Causes(&error));
                kill(&ended);
            }
            let _nobody_waits_for_it_any_more =
                events.send(Event::Done { number, status: wait(&mut child, &ended) });
        })?;
        Ok(Running { worker, process })
    }

    /// Nothing new is asked of it from now on.
    pub(super) fn spare(&self) {
        self.worker.is_ending.store(true, Ordering::SeqCst);
    }

    /// Tells it to end in good order. Does not wait for it.
    pub(super) fn end(&self) {
        self.order(Order::End);
    }

    /// Tells it to make room for the next one. Does not wait for it.
    pub(super) fn leave(&self) {
        self.order(Order::Leave);
    }

    fn order(&self, order: Order) {
        self.spare();
        let channel = Arc::clone(&self.worker.channel);
        // Its answer may never come.
        let asked = Builder::new().name("end".to_owned()).spawn(move || {
            if let Err(error) = channel.call(&order, &[]) {
                debug!("ending the worker: {}", Causes(&error));
            }
        });
        if let Err(error) = asked {
            error!("cannot ask the worker to end: {error}");
            self.kill();
        }
    }

    /// Ends it without any warning.
    pub(super) fn kill(&self) {
        kill(&self.process);
    }
}

fn kill(process: &OwnedFd) {
    if let Err(error) = pidfd_send_signal(process, Signal::KILL) {
        debug!("killing the worker: {error}");
    }
}

/// Waits for the end of a worker whose channel is closed.
fn wait(child: &mut Child, process: &OwnedFd) -> Option<ExitStatus> {
    let limit = Timespec { tv_sec: LAST_BREATH.as_secs().cast_signed(), tv_nsec: 0 };
    let mut ended = [PollFd::new(process, PollFlags::IN)];
    match rustix::io::retry_on_intr(|| poll(&mut ended, Some(&limit))) {
        Ok(0) => {
            warn!("the worker has closed its channel and lives on; it is ended");
            end_now(child)
        }
        _ => child.wait().ok(),
    }
}

fn end_now(child: &mut Child) -> Option<ExitStatus> {
    if let Err(error) = child.kill() {
        debug!("killing the worker: {error}");
    }
    child.wait().ok()
}
