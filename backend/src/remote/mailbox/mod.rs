//! Mailboxes: how host and remote core ring each other's bell.
//!
//! A kick says "the vring with this notifyid has news" and nothing else; the news is in the vring. So kicks may
//! be merged, but never lost.

mod socket;

use std::fmt::Debug;
use std::io;
use std::os::fd::RawFd;
use std::time::Instant;

use thiserror::Error;

pub use socket::SocketMailbox;

/// Highest notifyid that fits beside the control bytes of the `socket` link.
pub const MAX_NOTIFYID: u32 = 0xEF;

/// The host's end of a mailbox, on the bridge's thread. Nothing in it ever blocks: what the hardware or the socket does
/// not take now is kept, one kick per vring, and sent by [`flush`](Self::flush).
pub trait Mailbox: Debug + Send {
    /// What becomes readable when something has come in, or when something that was kept can be sent.
    fn descriptor(&self) -> RawFd;

    /// Whether [`descriptor`](Self::descriptor) is to be waited for until it is writable too.
    fn wants_write(&self) -> bool;

    /// When [`flush`](Self::flush) is to be called although nothing has come in: something is kept, and this mailbox
    /// has no interrupt that would tell when it can be sent.
    fn retry_at(&self) -> Option<Instant>;

    /// Kicks the vring with this notifyid, which must not be above [`MAX_NOTIFYID`].
    fn kick(&mut self, notifyid: u32);

    /// Says something else than a kick. Returns false where this mailbox has no word for it: nothing was sent and no
    /// answer will come.
    fn request(&mut self, request: Request) -> bool;

    /// Sends what is kept, as far as that is possible now.
    fn flush(&mut self, now: Instant);

    /// Takes what has come in and adds it to `signals`.
    ///
    /// # Errors
    /// A mailbox that is gone for good; it is to be made anew.
    fn receive(&mut self, signals: &mut Signals) -> Result<(), MailboxClosed>;
}

/// What a host asks of a remote core, besides looking at vrings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// "Are you there?" Answered by [`Signals::running`] or [`Signals::ready`].
    State,
    /// "Are you well?" Answered by [`Signals::echo`].
    Echo,
    /// "End, you will be switched off." Answered by [`Signals::shut_down`].
    ShutDown,
    /// "I leave you alone." Answered by [`Signals::detached`].
    Detach,
}

/// What a mailbox had to say since it was last asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Signals {
    /// At least one vring has news.
    pub vring: bool,
    /// The remote has just come up; its resource table is in place.
    pub ready: bool,
    /// The remote is up and has been before.
    pub running: bool,
    /// The remote says that it has crashed.
    pub crashed: bool,
    /// The remote has answered [`Request::Echo`].
    pub echo: bool,
    /// The remote has answered [`Request::ShutDown`]: it may be switched off.
    pub shut_down: bool,
    /// The remote has answered [`Request::Detach`].
    pub detached: bool,
    /// Signals that mean nothing; ignored.
    pub unknown: u64,
}

/// A mailbox is gone.
#[derive(Debug, Error)]
#[error("the {what} is gone")]
pub struct MailboxClosed {
    /// What it was.
    what: &'static str,
    /// What the system said, where it was more than an end of file.
    #[source]
    source: Option<io::Error>,
}
