//! The interrupt of a UIO device.
//!
//! Its descriptor becomes readable when the interrupt line has risen. Reading gives a 4-byte count of interrupts; the
//! driver `uio_pdrv_genirq` has switched the line off by then, and writing a 1 switches it on again. A source that still
//! asks then, or asked meanwhile, fires at once. Source: Linux `drivers/uio/uio.c`, `uio_pdrv_genirq.c`.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};

use super::MailboxClosed;

/// The interrupt of a UIO device, for an event loop.
#[derive(Debug)]
pub struct Interrupt {
    device: File,
}

impl Interrupt {
    /// Takes an open UIO device, or anything that gives and takes 4-byte numbers as one does, and makes it non-blocking.
    ///
    /// # Errors
    /// A descriptor that cannot be made non-blocking.
    pub fn new(device: OwnedFd) -> io::Result<Self> {
        let flags = fcntl_getfl(&device)?;
        fcntl_setfl(&device, flags | OFlags::NONBLOCK)?;
        Ok(Interrupt { device: File::from(device) })
    }

    pub(super) fn descriptor(&self) -> BorrowedFd<'_> {
        self.device.as_fd()
    }

    /// Whether the line has risen since it was armed. It is off from then until [`arm`](Self::arm).
    pub(super) fn take(&mut self) -> Result<bool, MailboxClosed> {
        let mut count = [0; 4];
        match self.device.read(&mut count) {
            Ok(0) => Err(Self::gone(None)),
            Ok(_) => Ok(true),
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {
                Ok(false)
            }
            Err(error) => Err(Self::gone(Some(error))),
        }
    }

    /// Switches the line on. Whoever does so after [`take`](Self::take) looks at the registers once more afterwards: what
    /// came in between need not fire where the line tells of edges only.
    pub(super) fn arm(&mut self) -> Result<(), MailboxClosed> {
        self.device.write_all(&1_u32.to_ne_bytes()).map_err(|error| Self::gone(Some(error)))
    }

    fn gone(source: Option<io::Error>) -> MailboxClosed {
        MailboxClosed { what: "interrupt of the mailbox's UIO device", source }
    }
}

impl AsFd for Interrupt {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.device.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn an_interrupt_is_taken_once_and_armed_by_writing_a_one() {
        let (device, mut driver) = UnixStream::pair().unwrap();
        let mut interrupt = Interrupt::new(device.into()).unwrap();
        assert!(!interrupt.take().unwrap(), "nothing has happened yet");
        driver.write_all(&7_u32.to_ne_bytes()).unwrap();
        assert!(interrupt.take().unwrap());
        assert!(!interrupt.take().unwrap());
        interrupt.arm().unwrap();
        let mut written = [0; 4];
        driver.read_exact(&mut written).unwrap();
        assert_eq!(u32::from_ne_bytes(written), 1);
    }

    #[test]
    fn a_device_that_has_gone_is_reported() {
        let (device, driver) = UnixStream::pair().unwrap();
        let mut interrupt = Interrupt::new(device.into()).unwrap();
        drop(driver);
        assert!(interrupt.take().is_err());
        let error = interrupt.arm().unwrap_err();
        assert_eq!(error.to_string(), "the interrupt of the mailbox's UIO device is gone");
    }
}
