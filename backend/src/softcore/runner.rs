//! The event loop that drives a core with a doorbell and commands.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use super::control::Flow;
use super::doorbell::Heard;
use super::{Control, Doorbell, SoftCore};

/// How often the status is looked at while a host is connected but not up, as OpenAMP does.
const WAITING_POLL: Duration = Duration::from_millis(1);
/// How often the status is looked at while a host is up.
const UP_POLL: Duration = Duration::from_millis(50);
/// Rounds of spinning between two looks at the clock.
const CLOCK_ROUNDS: u32 = 64;
/// Rounds of spinning between two looks at doorbell and commands.
const SPIN_ROUNDS: u32 = 256;

/// A core with all that drives it.
#[derive(Debug)]
pub struct Runner {
    core: SoftCore,
    doorbell: Doorbell,
    control: Option<Control>,
    stop: OwnedFd,
}

/// Which of the event sources have something.
struct Ready {
    stop: bool,
    doorbell: PollFlags,
    control: bool,
}

impl Runner {
    /// Puts a core, its doorbell and its commands together. The loop ends when `stop` (an event fd, for instance) is
    /// readable.
    pub fn new(core: SoftCore, doorbell: Doorbell, control: Option<Control>, stop: OwnedFd) -> Self {
        Runner { core, doorbell, control, stop }
    }

    /// Runs until it is stopped or told to quit.
    ///
    /// # Errors
    /// The system cannot wait for events.
    pub fn run(&mut self) -> io::Result<()> {
        let spin = self.core.config().spin;
        let mut idle_since = None;
        let mut rounds = 0u32;
        loop {
            let served = self.core.serve_once();
            self.doorbell.send(self.core.bells());
            if served.received > 0 || served.sent > 0 {
                idle_since = None;
            }
            rounds = rounds.wrapping_add(1);
            // The clock is left alone while there is work, and looked at now and then while there is none.
            let spinning = !spin.is_zero()
                && (!rounds.is_multiple_of(CLOCK_ROUNDS)
                    || idle_since.get_or_insert_with(Instant::now).elapsed() < spin);
            if spinning && !rounds.is_multiple_of(SPIN_ROUNDS) {
                std::hint::spin_loop();
                continue;
            }
            let busy = spinning || served.more || self.core.rest();
            let ready = self.wait(busy)?;
            if ready.stop {
                return Ok(());
            }
            if !ready.doorbell.is_empty() {
                self.listen(ready.doorbell);
            }
            if ready.control
                && let Some(control) = &mut self.control
                && control.serve(&mut self.core) == Flow::Quit
            {
                return Ok(());
            }
        }
    }

    /// Waits for an event; not at all when `busy`.
    fn wait(&self, busy: bool) -> io::Result<Ready> {
        let timeout = if busy { Some(Duration::ZERO) } else { self.timeout() };
        let timeout = timeout.map(|time| Timespec {
            tv_sec: i64::try_from(time.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: time.subsec_nanos().into(),
        });
        // A hung core does not listen, but the end of the connection is seen all the same.
        let mut rung = PollFlags::empty();
        if !self.core.is_hung() {
            rung |= PollFlags::IN;
        }
        if !self.core.bells_waiting().is_empty() {
            rung |= PollFlags::OUT;
        }
        let stop = self.stop.as_fd();
        let doorbell = self.doorbell.source();
        let control = self.control.as_ref().and_then(Control::source);
        // A source that is not there is stood in for by `stop`, asked for nothing.
        let mut sources = [
            PollFd::from_borrowed_fd(stop, PollFlags::IN),
            PollFd::from_borrowed_fd(doorbell.unwrap_or(stop), doorbell.map_or(PollFlags::empty(), |_| rung)),
            PollFd::from_borrowed_fd(
                control.unwrap_or(stop),
                control.map_or(PollFlags::empty(), |_| PollFlags::IN),
            ),
        ];
        match poll(&mut sources, timeout.as_ref()) {
            Ok(_) => {}
            Err(Errno::INTR) => sources.iter_mut().for_each(PollFd::clear_revents),
            Err(error) => return Err(error.into()),
        }
        Ok(Ready {
            stop: !sources[0].revents().is_empty(),
            doorbell: sources[1].revents(),
            control: !sources[2].revents().is_empty(),
        })
    }

    /// How long to wait at most; `None` = until something happens.
    fn timeout(&self) -> Option<Duration> {
        let config = self.core.config();
        let look = (config.status_poll && self.doorbell.is_connected() && self.core.is_running())
            .then(|| if self.core.is_attached() { UP_POLL } else { WAITING_POLL });
        let due = (self.core.deadline()).map(|due| due.saturating_duration_since(Instant::now()));
        look.into_iter().chain(due).min()
    }

    /// Something has happened on the doorbell.
    fn listen(&mut self, ready: PollFlags) {
        if !self.doorbell.is_connected() {
            return self.doorbell.accept();
        }
        if self.core.is_hung() {
            if ready.intersects(PollFlags::HUP | PollFlags::ERR) {
                self.doorbell.hang_up();
            }
            return;
        }
        let mut bytes = [0; 4096];
        match self.doorbell.read(&mut bytes) {
            Heard::Bytes(count) => bytes[..count].iter().for_each(|byte| self.core.hear(*byte)),
            Heard::Nothing => {}
            Heard::Gone => log::debug!("doorbell: the host has disconnected"),
        }
    }
}
