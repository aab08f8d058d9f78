//! What becomes of a core, for those who use it and for people.

use std::fmt;
use std::time::Duration;

use thiserror::Error;

use super::super::attach::RpmsgVdev;
use super::super::vring::VringFault;

/// What has become of a remote core.
#[derive(Debug)]
pub enum Change {
    /// It has been attached to; nothing is known of its services yet. These are its rpmsg devices.
    Attached(Vec<RpmsgVdev>),
    /// It cannot be reached, but may go on where it was.
    CutOff(Loss),
    /// It can be reached again, and goes on as if nothing had been.
    Resumed,
    /// It is not there any more.
    Lost(Loss),
}

/// How a remote core was lost.
#[derive(Debug, Error)]
pub enum Loss {
    /// The doorbell socket was closed.
    #[error("its doorbell socket was closed")]
    Closed,
    /// It said so.
    #[error("it reports a crash")]
    Crashed,
    /// A vring is unusable.
    #[error("a vring is unusable")]
    Fault(#[source] VringFault),
    /// It has booted anew.
    #[error("it has booted anew")]
    Rebooted,
    /// It has booted anew, and is not attached to any more.
    #[error("it has booted anew, and is left alone")]
    LeftAlone,
    /// It does not answer.
    #[error("it has not answered the last heartbeat")]
    Silent,
    /// It has messages and does nothing about them.
    #[error("it hangs: it has consumed nothing for {} ms, although it has messages", .0.as_millis())]
    Hangs(Duration),
    /// Its watchdog says so.
    #[error("its watchdog has fired")]
    Watchdog,
    /// It was stopped.
    #[error("it is switched off")]
    Stopped,
    /// Somebody has truncated a file with its memory.
    #[error("a file with its memory was truncated")]
    Torn,
}

/// What a core is doing, for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Switched off.
    Offline,
    /// Being started, or looked for.
    Booting,
    /// Attached to, and started by somebody else.
    Attached,
    /// Attached to, and started by us.
    Running,
    /// It has crashed and has not come back yet.
    Crashed,
    /// Let go of.
    Detached,
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            State::Offline => "offline",
            State::Booting => "booting",
            State::Attached => "attached",
            State::Running => "running",
            State::Crashed => "crashed",
            State::Detached => "detached",
        })
    }
}
