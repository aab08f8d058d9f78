//! The inter-processor interrupts of Xilinx ZynqMP and Versal, with a message buffer beside.
//!
//! The host's own channel; in each register one bit stands for each other agent (APU 0, RPU0 8, RPU1 9, ...).
//!
//! | register | offset | used for |
//! |---|---|---|
//! | TRIG | 0x0 | write 1: interrupt the agent |
//! | OBS | 0x4 | 1: the agent has not cleared the interrupt yet |
//! | ISR | 0x10 | 1: the agent has interrupted; write 1 to clear |
//! | IMR | 0x14 | read only: 1 = masked |
//! | IER | 0x18 | write 1: unmask |
//! | IDR | 0x1C | write 1: mask |
//!
//! The request buffer towards the agent, 32 bytes, lies at an address of its own (`local_request_region` of the device
//! tree). A kick is the notifyid in its first word and a trigger. The next one may be written when OBS is clear; no interrupt
//! tells of that, so the host looks by [`retry_at`](super::Mailbox::retry_at). Which vring the remote means is not said: all are
//! looked at.
//!
//! Other bits belong to other agents, the platform's firmware among them, and are never touched.
//!
//! Source: Linux `drivers/mailbox/zynqmp-ipi-mailbox.c`, `drivers/remoteproc/xlnx_r5_remoteproc.c`; Trusted Firmware-A
//! `plat/xilinx/common/ipi.c`, which has the registers; Xilinx UG1087, module "IPI".

use std::os::fd::BorrowedFd;
use std::time::Instant;

use super::pending::{Pending, Retry};
use super::{
    HardwareError, Interrupt, Mailbox, MailboxClosed, Registers, Request, Signals, UioDevice,
    WantedRegisters, check_exists,
};

const CONTROLLER: &str = "ZynqMP IPI";

const TRIG: usize = 0x0;
const OBS: usize = 0x4;
const ISR: usize = 0x10;
const IER: usize = 0x18;
/// Size of a channel's registers in bytes.
const WINDOW: usize = 0x20;
/// Size of a request buffer in bytes.
const BUFFER: usize = 0x20;

/// What the host has to know of the channel between it and a remote core.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IpiConfig {
    /// Physical address of the host's channel.
    pub channel: u64,
    /// Physical address of the request buffer towards the remote.
    pub request_buffer: u64,
    /// Number of the remote's bit in the registers, 0..=31.
    pub remote: u8,
}

/// The host's side of a channel.
#[derive(Debug)]
pub struct ZynqmpIpi {
    registers: Box<dyn Registers>,
    request_buffer: Box<dyn Registers>,
    interrupt: Interrupt,
    remote: u32,
    pending: Pending,
    retry: Retry,
}

impl ZynqmpIpi {
    /// The registers of the channel.
    pub fn registers(config: IpiConfig) -> WantedRegisters<'static> {
        WantedRegisters { address: config.channel, size: WINDOW as u64, name: None }
    }

    /// The message buffer, which may be of the same device or of another.
    pub fn buffer(config: IpiConfig) -> WantedRegisters<'static> {
        WantedRegisters { address: config.request_buffer, size: BUFFER as u64, name: None }
    }

    /// Takes over the channel with these [`registers`](Self::registers) and this [`buffer`](Self::buffer).
    ///
    /// # Errors
    /// A device that cannot be used, or as in [`new`](Self::new).
    pub fn open(channel: UioDevice, buffer: &UioDevice, config: IpiConfig) -> Result<Self, HardwareError> {
        let registers = Box::new(channel.map(WINDOW)?);
        let buffer = Box::new(buffer.map(BUFFER)?);
        let interrupt = Interrupt::new(channel.file.into()).map_err(HardwareError::Wait)?;
        Self::new(registers, buffer, interrupt, config.remote)
    }

    /// Takes over a channel. What has already come in stays there and raises the interrupt.
    ///
    /// # Errors
    /// A remote that does not exist, an interrupt that cannot be switched on.
    pub fn new(
        registers: Box<dyn Registers>,
        request_buffer: Box<dyn Registers>,
        mut interrupt: Interrupt,
        remote: u8,
    ) -> Result<Self, HardwareError> {
        check_exists(CONTROLLER, "bit", remote, u32::BITS)?;
        let remote = 1 << remote;
        registers.write32(IER, remote);
        interrupt.arm().map_err(HardwareError::Interrupt)?;
        let (pending, retry) = (Pending::default(), Retry::default());
        Ok(ZynqmpIpi { registers, request_buffer, interrupt, remote, pending, retry })
    }

    fn send_pending(&mut self, now: Instant) {
        let (registers, remote) = (&self.registers, self.remote);
        let sent = self.pending.send(|word| {
            let free = registers.read32(OBS) & remote == 0;
            if free {
                self.request_buffer.write32(0, word);
                registers.write32(TRIG, remote);
            }
            free
        });
        match (self.pending.is_empty(), sent) {
            (true, _) => self.retry.stop(),
            (false, true) => self.retry.start_over(now),
            (false, false) => self.retry.in_vain(now),
        }
    }

    /// The interrupt is cleared before anybody looks at the vrings: what comes later sets it again.
    fn look(&mut self, signals: &mut Signals) {
        if self.registers.read32(ISR) & self.remote != 0 {
            self.registers.write32(ISR, self.remote);
            signals.vring = true;
        }
    }
}

impl Mailbox for ZynqmpIpi {
    fn descriptor(&self) -> BorrowedFd<'_> {
        self.interrupt.descriptor()
    }

    fn wants_write(&self) -> bool {
        false
    }

    fn retry_at(&self) -> Option<Instant> {
        self.retry.at()
    }

    fn kick(&mut self, notifyid: u32) {
        self.pending.add(notifyid);
        self.send_pending(Instant::now());
    }

    /// There are no words but kicks.
    fn request(&mut self, _request: Request) -> bool {
        false
    }

    fn flush(&mut self, now: Instant) {
        self.send_pending(now);
    }

    fn receive(&mut self, signals: &mut Signals) -> Result<(), MailboxClosed> {
        let raised = self.interrupt.take()?;
        self.look(signals);
        if raised {
            self.interrupt.arm()?;
            self.look(signals);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
