//! Mailboxes: how host and remote core ring each other's bell.
//!
//! A kick says "the vring with this notifyid has news" and nothing else; the news is in the vring. So kicks may
//! be merged, but never lost.

mod socket;

pub use socket::{MailboxClosed, SocketMailbox};

/// Highest notifyid that fits beside the control bytes of the `socket` link.
pub const MAX_NOTIFYID: u32 = 0xEF;

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
    /// Signals that mean nothing; ignored.
    pub unknown: u64,
}
