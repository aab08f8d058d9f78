//! Starting workers one after the other, until the program is to end.

use std::fmt;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender};
use std::time::{Duration, Instant};

use log::{error, info, warn};
use signal_hook::consts::{SIGHUP, SIGKILL};
use thiserror::Error;

use super::calls::{Reply, Request};
use super::channel::Outcome;
use super::program::Program;
use super::restarts::{LAST, Restarts};
use super::service_manager::{News, tell};
use super::worker::{Running, Worker};
use crate::causes::Causes;

/// How long a worker may take to end in good order: remotes are detached from or stopped, by commands where so configured.
const PATIENCE: Duration = Duration::from_secs(60);

/// Something that the keeper has to do something about.
#[derive(Clone, Copy, Debug)]
pub enum Event {
    /// A signal: [`SIGHUP`] for an upgrade, any other to end.
    Signal(i32),
    /// The worker of this number serves.
    Serving(u64),
    /// The program that is installed now is to take over.
    Upgrade,
    /// Every front-end has gone, and none can come.
    Over,
    /// The worker of this number has ended.
    Done {
        /// Its number.
        number: u64,
        /// How it has ended, where the system says it.
        status: Option<ExitStatus>,
    },
}

/// Why there is no worker any more.
#[derive(Debug, Error)]
pub enum SuperviseError {
    /// No worker can be started.
    #[error("cannot start a worker process from {path}")]
    Start {
        /// The program.
        path: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The program's own file.
    #[error("cannot open the program's own executable")]
    Program(#[source] io::Error),
    /// The first one has not come as far as to serve, and has said why.
    #[error("the worker process has not started")]
    AtStart,
    /// The first one was ended before it served.
    #[error("the worker process has not started: {0}")]
    EndedAtStart(How),
    /// They die all the time.
    #[error(
        "the worker process has died {LAST} times without having served for long, the last time by {0}; given up, as \
         another one would die too: look at what was logged before"
    )]
    GivenUp(How),
    /// It does not end.
    #[error("the worker process has not ended in good order within {PATIENCE:?}, and was killed")]
    Stuck,
}

/// How a worker has ended.
#[derive(Clone, Copy, Debug)]
pub struct How(Option<ExitStatus>);

impl How {
    /// Whether somebody else has ended it: nothing that is wrong with a program ends it so, and the next one need not meet the
    /// same end.
    fn is_kill(self) -> bool {
        self.0.is_some_and(|status| status.signal() == Some(SIGKILL))
    }
}

impl fmt::Display for How {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(status) => status.fmt(f),
            None => f.write_str("unknown cause"),
        }
    }
}

/// What is going on.
enum State {
    /// A worker runs, and serves since then.
    Running { running: Running, serving: Option<Instant> },
    /// It was told to end, and is killed at this time. Then comes the next one, or the end.
    Ending { running: Running, until: Instant, is_last: bool },
    /// The next one is started at this time.
    Waiting { until: Instant },
}

/// What the workers serve.
pub trait Household: Send + Sync {
    /// Carries out what a worker asks for.
    fn carry_out(&self, worker: &Arc<Worker>, request: Request) -> Outcome<Reply>;

    /// Waits until nothing is under way between front-ends and a worker of which nothing new is asked.
    fn settle(&self);

    /// The end begins: nobody new is to find the program.
    fn close(&self);
}

/// Keeps a worker running until one of the events says that it is the end.
///
/// # Errors
/// A first worker that does not start, and workers that die all the time.
pub fn supervise(
    (sender, events): (&Sender<Event>, &Receiver<Event>),
    household: &Arc<dyn Household>,
) -> Result<(), SuperviseError> {
    let mut program = Program::running().map_err(SuperviseError::Program)?;
    let mut restarts = Restarts::default();
    let mut number = 0;
    let mut has_served = false;
    let mut start = |program: &Program| {
        let path = || program.path().display().to_string();
        let running = Running::start(number, program, household, sender.clone());
        number += 1;
        let running = running.map_err(|source| SuperviseError::Start { path: path(), source })?;
        Ok(State::Running { running, serving: None })
    };
    let mut state = start(&program)?;
    loop {
        let event = next_event(events, &state);
        state = match (state, event) {
            (State::Running { running, .. }, Some(Event::Serving(number))) => {
                has_served = true;
                program.is_good();
                let serving = (running.worker.number() == number).then(Instant::now);
                if serving.is_some() {
                    tell(News::Serving);
                }
                State::Running { running, serving }
            }
            (state, Some(Event::Signal(SIGHUP) | Event::Upgrade)) => {
                upgrade(&mut program, state, &**household)
            }
            (state, Some(event @ (Event::Signal(_) | Event::Over))) => {
                match event {
                    Event::Signal(signal) => info!("ending on signal {signal}"),
                    _ => info!("ending, as every front-end has gone and none can come"),
                }
                tell(News::Ending);
                household.close();
                match state {
                    State::Waiting { .. } => return Ok(()),
                    State::Running { running, .. } => {
                        running.end();
                        State::Ending { running, until: Instant::now() + PATIENCE, is_last: true }
                    }
                    State::Ending { running, until, .. } => State::Ending { running, until, is_last: true },
                }
            }
            (State::Ending { is_last: true, .. }, Some(Event::Done { .. })) => return Ok(()),
            (State::Ending { .. }, Some(Event::Done { .. })) => {
                again(start(&program), &mut program, &mut restarts)?
            }
            (State::Running { serving, .. }, Some(Event::Done { status, .. })) => {
                let how = How(status);
                if serving.is_none() && program.go_back() {
                    error!(
                        "the worker of the new program has died at its start ({how}); back to the one before"
                    );
                    State::Waiting { until: Instant::now() }
                } else if serving.is_some() && how.is_kill() {
                    restarts.killed(Instant::now(), serving);
                    warn!("the worker was killed; the next one takes over its sessions");
                    State::Waiting { until: Instant::now() }
                } else if has_served {
                    died(&mut restarts, serving, how)?
                } else if status.is_some_and(|status| status.code().is_some()) {
                    return Err(SuperviseError::AtStart);
                } else {
                    return Err(SuperviseError::EndedAtStart(how));
                }
            }
            (State::Ending { running, is_last, .. }, None) => {
                error!("the worker has not ended within {PATIENCE:?}, and is killed");
                running.kill();
                if is_last {
                    return Err(SuperviseError::Stuck);
                }
                State::Ending { running, until: Instant::now() + PATIENCE, is_last }
            }
            (State::Waiting { .. }, None) => again(start(&program), &mut program, &mut restarts)?,
            // The worker that it is about is over already.
            (state, Some(Event::Serving(_) | Event::Done { .. }) | None) => state,
        };
    }
}

/// The next event; `None` when it is time for what the state waits for.
fn next_event(events: &Receiver<Event>, state: &State) -> Option<Event> {
    let until = match state {
        // Never disconnected: the caller has a sender.
        State::Running { .. } => return events.recv().ok(),
        State::Ending { until, .. } | State::Waiting { until } => *until,
    };
    events.recv_timeout(until.saturating_duration_since(Instant::now())).ok()
}

/// Has the program that is installed now take over.
fn upgrade(program: &mut Program, state: State, household: &dyn Household) -> State {
    if matches!(state, State::Ending { .. }) {
        return state;
    }
    let path = program.path().display().to_string();
    if let Err(error) = program.reopen() {
        error!("cannot open {path} for an upgrade: {error}; the program goes on as it is");
        return state;
    }
    info!("another worker takes over, from {path}");
    tell(News::Upgrading);
    match state {
        State::Running { running, .. } => {
            // What it is asked now is answered by it, and what comes later by the next one.
            running.spare();
            household.settle();
            running.leave();
            State::Ending { running, until: Instant::now() + PATIENCE, is_last: false }
        }
        other => other,
    }
}

/// Waits where another worker could not be started.
fn again(
    started: Result<State, SuperviseError>,
    program: &mut Program,
    restarts: &mut Restarts,
) -> Result<State, SuperviseError> {
    let Err(error) = started else { return started };
    error!("{}", Causes(&error));
    if program.go_back() {
        error!("back to the one before");
        return Ok(State::Waiting { until: Instant::now() });
    }
    let now = Instant::now();
    restarts.next(now, None).map(|wait| State::Waiting { until: now + wait }).ok_or(error)
}

/// A worker has died by itself.
fn died(restarts: &mut Restarts, serving: Option<Instant>, how: How) -> Result<State, SuperviseError> {
    let now = Instant::now();
    let Some(wait) = restarts.next(now, serving) else { return Err(SuperviseError::GivenUp(how)) };
    if wait.is_zero() {
        warn!("the worker has died ({how}); the next one takes over its sessions");
    } else {
        warn!("the worker has died again ({how}); the next one is started in {wait:?}");
    }
    Ok(State::Waiting { until: now + wait })
}
