//! `top`: what a running program counts, on a terminal, as it goes on.
//!
//! | module | what is in it |
//! |---|---|
//! | `rates` | two answers of the program, and what has happened between them |
//! | `columns` | what is shown of a VM or a service, and what is left out where there is little room |
//! | `view` | what the keys change: order, scrolling |
//! | `screen` | how all that is drawn |
//!
//! It is a client like `stats`, and asks as `ls` and `stats` do: no part of it is in the process that serves. A thread asks, so
//! that keys are answered while the program is not.

mod columns;
mod rates;
mod screen;
#[cfg(test)]
mod tests;
mod view;

use std::io::{self, IsTerminal, stdout};
use std::panic;
use std::path::PathBuf;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::{Builder, sleep};
use std::time::{Duration, Instant};

use ratatui::DefaultTerminal;
use ratatui::crossterm::cursor::Show;
use ratatui::crossterm::event::{self, Event, KeyEvent, KeyEventKind};
use ratatui::crossterm::execute;
use signal_hook::consts::{SIGHUP, TERM_SIGNALS};
use signal_hook::iterator::Signals;
use thiserror::Error;

use self::rates::{Snapshot, compare};
use self::screen::{Seen, draw};
use self::view::{Pressed, View};
use super::control::Request;
use super::control::client::{Call, CallError};
use crate::causes::Causes;

/// How often the age of figures is drawn anew that are not followed by others.
const TICK: Duration = Duration::from_secs(1);

/// A program that is to be looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Top {
    /// Its control socket.
    pub(super) control: PathBuf,
    /// Between two looks.
    pub(super) interval: Duration,
}

/// Why there is nothing to see.
#[derive(Debug, Error)]
pub enum TopError {
    /// The output goes elsewhere.
    #[error(
        "expected a terminal on standard output, found none; `stats` prints what is counted once, with --json for programs"
    )]
    NotATerminal,
    /// The program has not answered even once.
    #[error(transparent)]
    Call(#[from] CallError),
    /// The terminal cannot be drawn on or read from.
    #[error("terminal: cannot {what}")]
    Terminal {
        /// What could not be done.
        what: &'static str,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Something that the system did not give.
    #[error("cannot set up {what}")]
    System {
        /// What.
        what: &'static str,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

/// What is told to the one who draws.
enum Told {
    Answer(Result<Snapshot, CallError>),
    Key(KeyEvent),
    /// The terminal has another size.
    Resized,
    /// A signal.
    End,
    /// Nothing more can be read from the terminal.
    Deaf(io::Error),
}

impl Top {
    /// Shows what the program counts until a key or a signal says that it is enough. Programs that go away are waited for.
    ///
    /// # Errors
    /// No terminal, and a program that does not answer at the start.
    pub fn run(&self) -> Result<(), TopError> {
        if !stdout().is_terminal() {
            return Err(TopError::NotATerminal);
        }
        let first = self.look()?;
        let system = |what| move |source| TopError::System { what, source };
        let (sender, told) = channel();
        let mut signals =
            Signals::new(TERM_SIGNALS.iter().chain(&[SIGHUP])).map_err(system("signal handling"))?;
        let ends = sender.clone();
        let wait = move || signals.forever().try_for_each(|_| ends.send(Told::End));
        Builder::new().name("signals".to_owned()).spawn(wait).map_err(system("the thread for signals"))?;

        let mut screen = Screen::open()?;
        let keys = sender.clone();
        let read = move || while keys.send(read()).is_ok() {};
        Builder::new().name("keys".to_owned()).spawn(read).map_err(system("the thread for keys"))?;
        let top = self.clone();
        let ask = move || top.keep_looking(&sender);
        Builder::new().name("answers".to_owned()).spawn(ask).map_err(system("the thread for answers"))?;

        let mut shown = Shown::new(self, first);
        loop {
            screen.draw(&mut shown)?;
            match told.recv_timeout(TICK) {
                Ok(Told::Answer(answer)) => shown.answered(answer, Instant::now()),
                Ok(Told::Key(key)) => {
                    if shown.view.press(key) == Pressed::Quit {
                        return Ok(());
                    }
                }
                Ok(Told::Resized) | Err(RecvTimeoutError::Timeout) => shown.age(Instant::now()),
                Ok(Told::End) | Err(RecvTimeoutError::Disconnected) => return Ok(()),
                Ok(Told::Deaf(source)) => return Err(TopError::Terminal { what: "read keys", source }),
            }
        }
    }

    /// Asks again and again, and tells what is answered.
    fn keep_looking(&self, told: &Sender<Told>) {
        let mut next = Instant::now();
        loop {
            next = (next + self.interval).max(Instant::now());
            sleep(next.saturating_duration_since(Instant::now()));
            if told.send(Told::Answer(self.look())).is_err() {
                return;
            }
        }
    }

    fn look(&self) -> Result<Snapshot, CallError> {
        let call = |request| Call { control: self.control.clone(), request, json: false };
        Ok(Snapshot { stats: call(Request::Stats).ask()?, listing: call(Request::List).ask()? })
    }
}

/// The next thing that the terminal says and that matters.
fn read() -> Told {
    loop {
        match event::read() {
            Ok(Event::Key(key)) if key.kind != KeyEventKind::Release => return Told::Key(key),
            Ok(Event::Resize(..)) => return Told::Resized,
            Ok(_) => {}
            Err(error) => return Told::Deaf(error),
        }
    }
}

/// What is shown now.
struct Shown {
    last: Snapshot,
    /// When that was answered.
    at: Instant,
    seen: Seen,
    view: View,
}

impl Shown {
    fn new(top: &Top, first: Snapshot) -> Self {
        let seen = Seen {
            control: top.control.display().to_string(),
            interval: top.interval,
            remotes: compare(None, &first),
            trouble: None,
        };
        Shown { last: first, at: Instant::now(), seen, view: View::default() }
    }

    fn answered(&mut self, answer: Result<Snapshot, CallError>, now: Instant) {
        match answer {
            Ok(next) => {
                self.seen.remotes = compare(Some(&self.last), &next);
                self.seen.trouble = None;
                (self.last, self.at) = (next, now);
            }
            Err(error) => self.seen.trouble = Some((Causes(&error).to_string(), now.duration_since(self.at))),
        }
    }

    /// Time has passed without an answer.
    fn age(&mut self, now: Instant) {
        let age = now.duration_since(self.at);
        match &mut self.seen.trouble {
            Some((_, old)) => *old = age,
            None if age > self.seen.interval + 2 * TICK => {
                self.seen.trouble = Some(("the program takes its time".to_owned(), age));
            }
            None => {}
        }
    }
}

/// The terminal while it is ours. Whatever happens, it is given back as it was.
struct Screen(DefaultTerminal);

impl Screen {
    fn open() -> Result<Self, TopError> {
        let terminal = ratatui::try_init().map_err(|source| {
            // Some of it may be done.
            ratatui::restore();
            TopError::Terminal { what: "take it over", source }
        })?;
        // The hook that ratatui has set gives back everything but the cursor.
        let hook = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            let _nobody_to_tell = execute!(stdout(), Show);
            hook(info);
        }));
        Ok(Screen(terminal))
    }

    fn draw(&mut self, shown: &mut Shown) -> Result<(), TopError> {
        let drawn = self.0.draw(|frame| draw(frame.buffer_mut(), &shown.seen, &mut shown.view));
        drawn.map(drop).map_err(|source| TopError::Terminal { what: "draw", source })
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // Before the other screen comes back; the terminal shows it when it is dropped too.
        let _nobody_to_tell = self.0.show_cursor();
        ratatui::restore();
    }
}
