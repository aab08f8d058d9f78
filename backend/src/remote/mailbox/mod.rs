//! Mailboxes: how host and remote core ring each other's bell.
//!
//! A kick says "the vring with this notifyid has news" and nothing else; the news is in the vring. So kicks may
//! be merged, but never lost.
//!
//! | family | file | host to remote | remote to host | besides kicks |
//! |---|---|---|---|---|
//! | socket | `socket.rs` | byte = notifyid | byte = notifyid | ready, running, crashed, echo, shut down |
//! | NXP i.MX MU | [`ImxMu`] | word = notifyid << 16, or notifyid | a word, whatever it says | doorbell = ready |
//! | ST IPCC | [`Stm32Ipcc`] | a channel per vring | the same channels | shut down, detach: channels of their own |
//! | TI mailbox | [`OmapMailbox`] | FIFO word = notifyid | FIFO word = notifyid | ready, crashed, echo, shut down: FIFO words |
//! | ZynqMP IPI | [`ZynqmpIpi`] | notifyid in a message buffer, trigger | an interrupt | |
//!
//! Hardware is reached through UIO ([`UioDevice`]): [`Registers`] are mapped, and an [`Interrupt`] is a descriptor. All
//! families handle it alike: take the interrupt, look at the registers, switch the line on, look once more.

mod imx_mu;
mod interrupt;
mod omap_mailbox;
mod pending;
mod registers;
mod socket;
mod stm32_ipcc;
pub(super) mod uio;
mod zynqmp_ipi;

#[cfg(test)]
mod models;

use std::fmt::Debug;
use std::io;
use std::os::fd::BorrowedFd;
use std::time::Instant;

use thiserror::Error;

pub use imx_mu::{ImxMu, MuConfig, MuVersion, MuWord};
pub use interrupt::Interrupt;
pub use omap_mailbox::{OmapConfig, OmapMailbox, OmapVersion};
pub use registers::{MappedRegisters, Registers};
pub use socket::SocketMailbox;
pub use stm32_ipcc::{IpccConfig, IpccNodes, Stm32Ipcc};
pub use uio::{UioDevice, UioDevices, UioError, UioMap, WantedRegisters};
pub use zynqmp_ipi::{IpiConfig, ZynqmpIpi};

/// Highest notifyid that fits beside the control bytes of the `socket` link.
pub const MAX_NOTIFYID: u32 = 0xEF;

/// The host's end of a mailbox, on the bridge's thread. Nothing in it ever blocks: what the hardware or the socket does
/// not take now is kept, one kick per vring, and sent by [`flush`](Self::flush).
pub trait Mailbox: Debug + Send {
    /// What becomes readable when something has come in, or when something that was kept can be sent.
    fn descriptor(&self) -> BorrowedFd<'_>;

    /// Whether [`descriptor`](Self::descriptor) is to be waited for until it is writable too.
    fn wants_write(&self) -> bool;

    /// When [`flush`](Self::flush) and [`receive`](Self::receive) are to be called although
    /// [`descriptor`](Self::descriptor) is not readable: something is kept or an answer is waited for, and this mailbox has
    /// no interrupt that would tell.
    fn retry_at(&self) -> Option<Instant>;

    /// Kicks the vring with this notifyid, which must not be above [`MAX_NOTIFYID`].
    fn kick(&mut self, notifyid: u32);

    /// Says something else than a kick. Returns false where this mailbox has no word for it: nothing was sent and no
    /// answer will come.
    fn request(&mut self, request: Request) -> bool;

    /// Sends what is kept, as far as that is possible now.
    fn flush(&mut self, now: Instant);

    /// Takes what has come in and adds it to `signals`. To be called once after opening too: a predecessor that was killed
    /// may have cleared an interrupt and not got to its news.
    ///
    /// # Errors
    /// A mailbox that is gone for good; it is to be made anew.
    fn receive(&mut self, signals: &mut Signals) -> Result<(), MailboxClosed>;

    /// It is not used any more. Where there is a connection, the remote is told.
    fn hang_up(&mut self) {}
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
    /// It has come up after that.
    pub recovered: bool,
    /// The remote has answered [`Request::Echo`].
    pub echo: bool,
    /// The remote has answered [`Request::ShutDown`]: it may be switched off.
    pub shut_down: bool,
    /// The remote has answered [`Request::Detach`].
    pub detached: bool,
    /// Signals that mean nothing; ignored.
    pub unknown: u64,
}

impl Signals {
    fn has_booted(&mut self) {
        self.ready = true;
        self.recovered = self.crashed;
    }

    fn has_crashed(&mut self) {
        self.crashed = true;
        self.recovered = false;
    }
}

/// Why a hardware mailbox cannot be used.
#[derive(Debug, Error)]
pub enum HardwareError {
    /// Its UIO device cannot be used.
    #[error(transparent)]
    Uio(#[from] UioError),
    /// A number in its configuration is beyond what the controller has.
    #[error(
        "{what} {found} does not exist in this {controller}, whose highest is {highest}; correct the configuration, or the controller's address"
    )]
    NoSuch {
        /// What is numbered.
        what: &'static str,
        /// The number asked for.
        found: u32,
        /// The highest number that there is.
        highest: i64,
        /// What the controller is.
        controller: &'static str,
    },
    /// The interrupt line cannot be switched on.
    #[error(
        "cannot switch the interrupt of the mailbox's UIO device on; its device tree node needs `interrupts`, and the driver uio_pdrv_genirq"
    )]
    Interrupt(#[source] MailboxClosed),
    /// The UIO device cannot be waited for.
    #[error("cannot wait for the interrupt of the mailbox's UIO device")]
    Wait(#[source] io::Error),
}

/// Checks a number against the count of what there is, from 0 on.
fn check_exists(
    controller: &'static str,
    what: &'static str,
    found: u8,
    count: u32,
) -> Result<(), HardwareError> {
    if u32::from(found) < count {
        return Ok(());
    }
    Err(HardwareError::NoSuch { what, found: found.into(), highest: i64::from(count) - 1, controller })
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
