//! A remote core's watchdog, as a device whose descriptor becomes readable when it has fired: a UIO device whose
//! interrupt it is, or anything else that speaks so.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::fs::FileTypeExt;

/// What re-arms the interrupt of a UIO device (Linux `drivers/uio/uio.c`, `irqcontrol`).
const RE_ARM: [u8; 4] = 1_u32.to_ne_bytes();

/// The watchdog of one core.
#[derive(Debug)]
pub(super) struct Watchdog {
    device: File,
    /// Whether it is a device whose interrupt has to be re-armed.
    is_armed: bool,
    /// Whether the device has failed.
    is_deaf: bool,
}

impl Watchdog {
    /// Takes a device that is open and does not block.
    pub(super) fn new(device: File) -> io::Result<Self> {
        let is_armed = device.metadata()?.file_type().is_char_device();
        let mut watchdog = Watchdog { device, is_armed, is_deaf: false };
        if is_armed {
            // A predecessor that was killed may have left it switched off.
            watchdog.device.write_all(&RE_ARM)?;
        }
        Ok(watchdog)
    }

    /// Whether it has fired since it was last asked; and why nothing will be heard of it any more, if that is so.
    pub(super) fn has_fired(&mut self) -> (bool, Option<io::Error>) {
        // A UIO device gives its count of interrupts.
        let mut count = [0; 4];
        let (has_fired, trouble) = match self.device.read(&mut count) {
            Ok(0) => (false, Some(io::ErrorKind::UnexpectedEof.into())),
            Ok(_) if self.is_armed => (true, self.device.write_all(&RE_ARM).err()),
            Ok(_) => (true, None),
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {
                (false, None)
            }
            Err(error) => (false, Some(error)),
        };
        self.is_deaf = trouble.is_some();
        (has_fired, trouble)
    }

    /// Whether nothing will be heard of it any more.
    pub(super) fn is_deaf(&self) -> bool {
        self.is_deaf
    }
}

impl AsRawFd for Watchdog {
    fn as_raw_fd(&self) -> RawFd {
        self.device.as_raw_fd()
    }
}
