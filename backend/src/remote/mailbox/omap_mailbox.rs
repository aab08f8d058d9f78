//! The mailbox of TI OMAP, AM and K3: FIFOs of four words, any of which any user (processor) may write or read.
//!
//! `m` is a FIFO, 0..=15, `u` a user, 0..=3.
//!
//! | register | OMAP2/3 | OMAP4, AM3..AM6, J7 | used for |
//! |---|---|---|---|
//! | MESSAGE | 0x40 + 4m | same | writing appends, reading takes |
//! | FIFOSTATUS | 0x80 + 4m | same | bit 0: full; a word written then is lost |
//! | MSGSTATUS | 0xC0 + 4m | same | how many words are in it |
//! | IRQSTATUS | 0x100 + 8u | 0x104 + 0x10u | write 1 to clear |
//! | IRQENABLE | 0x104 + 8u | 0x108 + 0x10u | OMAP4: write 1 to set |
//! | IRQENABLE_CLR | | 0x10C + 0x10u | write 1 to clear |
//!
//! In the interrupt registers bit 2m is NEWMSG, there is a word in FIFO m, and bit 2m+1 is NOTFULL, there is room in it.
//! Several remote cores may share a user and with it a UIO device, so only the bits of the own FIFOs are touched. On OMAP2/3
//! that takes a read and a write, between which nobody else must write: there, each remote core needs a user of its own.
//!
//! | word | direction | meaning |
//! |---|---|---|
//! | a notifyid | both | the vring has news |
//! | `0xFFFFFF00` | remote to host | ready |
//! | `0xFFFFFF01` | remote to host | some vring has news |
//! | `0xFFFFFF02` | remote to host | crashed |
//! | `0xFFFFFF03`, `04` | to remote, to host | echo request and reply |
//! | `0xFFFFFF14`, `15` | to remote, to host | shut down, done (not in mainline Linux; TI's kernel and firmware have it) |
//! | `0xFFFFFF03`, `05`, `10`..`13` | remote to host | echo, abort and suspend: known, ignored like in Linux |
//!
//! Source: Linux `drivers/mailbox/omap-mailbox.c`, `drivers/remoteproc/omap_remoteproc.h`, `ti_k3_dsp_remoteproc.c`; TI DRA74x
//! and AM64x reference manuals, chapter "Mailbox".

use std::os::fd::BorrowedFd;
use std::time::Instant;

use super::pending::Pending;
use super::{
    HardwareError, Interrupt, MAX_NOTIFYID, Mailbox, MailboxClosed, Registers, Request, Signals, UioDevice,
    WantedRegisters, check_exists,
};

const CONTROLLER: &str = "TI mailbox";
const FIFOS: u32 = 16;
const USERS: u32 = 4;
/// Size of the registers used, in bytes: up to the last user's of OMAP4.
const WINDOW: usize = 0x140;

const READY: u32 = 0xFFFF_FF00;
const PENDING_MESSAGE: u32 = 0xFFFF_FF01;
const CRASH: u32 = 0xFFFF_FF02;
const ECHO_REQUEST: u32 = 0xFFFF_FF03;
const ECHO_REPLY: u32 = 0xFFFF_FF04;
const ABORT_REQUEST: u32 = 0xFFFF_FF05;
const SUSPEND_AUTO: u32 = 0xFFFF_FF10;
const SUSPEND_CANCEL: u32 = 0xFFFF_FF13;
const SHUT_DOWN: u32 = 0xFFFF_FF14;
const SHUT_DOWN_DONE: u32 = 0xFFFF_FF15;

/// Words taken at a time. A remote that fills its FIFO as fast as it is emptied gets no more than this per turn of the
/// event loop.
const DRAIN: usize = 64;

/// Generation of the interrupt registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OmapVersion {
    /// `ti,omap2-mailbox`, `ti,omap3-mailbox`.
    Omap2,
    /// `ti,omap4-mailbox`, `ti,am654-mailbox`, `ti,am64-mailbox`.
    Omap4,
}

/// What the host has to know of a TI mailbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OmapConfig {
    /// Its interrupt registers.
    pub version: OmapVersion,
    /// The FIFO that the host reads, 0..=15: first number of `ti,mbox-rx`.
    pub receive_fifo: u8,
    /// The FIFO that the host writes, 0..=15: first number of `ti,mbox-tx`.
    pub transmit_fifo: u8,
    /// The user whose interrupt is the host's, 0..=3: third number of `ti,mbox-rx`, usually 0.
    pub user: u8,
}

/// The host's side of a pair of FIFOs.
#[derive(Debug)]
pub struct OmapMailbox {
    registers: Box<dyn Registers>,
    interrupt: Interrupt,
    version: OmapVersion,
    irq_status: usize,
    irq_enable: usize,
    irq_disable: usize,
    /// Byte offsets of the FIFOs' registers from those of FIFO 0.
    receive: usize,
    transmit: usize,
    new_message: u32,
    not_full: u32,
    waiting: bool,
    pending: Pending,
}

const fn message(fifo: usize) -> usize {
    0x40 + fifo
}

const fn fifo_status(fifo: usize) -> usize {
    0x80 + fifo
}

const fn message_status(fifo: usize) -> usize {
    0xC0 + fifo
}

impl OmapMailbox {
    /// The registers of the mailbox at this physical address.
    pub fn registers(address: u64) -> WantedRegisters<'static> {
        WantedRegisters { address, size: WINDOW as u64, name: None }
    }

    /// Takes over a pair of FIFOs of the mailbox with these [`registers`](Self::registers).
    ///
    /// # Errors
    /// A device that cannot be used, or as in [`new`](Self::new).
    pub fn open(device: UioDevice, config: OmapConfig) -> Result<Self, HardwareError> {
        let registers = Box::new(device.map(WINDOW)?);
        Self::new(registers, Interrupt::new(device.file.into()).map_err(HardwareError::Wait)?, config)
    }

    /// Takes over a pair of FIFOs. What has already come in stays there and raises the interrupt.
    ///
    /// # Errors
    /// A FIFO or a user that does not exist, an interrupt that cannot be switched on.
    pub fn new(
        registers: Box<dyn Registers>,
        interrupt: Interrupt,
        config: OmapConfig,
    ) -> Result<Self, HardwareError> {
        for fifo in [config.receive_fifo, config.transmit_fifo] {
            check_exists(CONTROLLER, "FIFO", fifo, FIFOS)?;
        }
        check_exists(CONTROLLER, "user", config.user, USERS)?;
        let user = usize::from(config.user);
        let [irq_status, irq_enable, irq_disable] = match config.version {
            OmapVersion::Omap2 => [0x100, 0x104, 0x104].map(|first| first + 8 * user),
            OmapVersion::Omap4 => [0x104, 0x108, 0x10C].map(|first| first + 0x10 * user),
        };
        let mut mailbox = OmapMailbox {
            registers,
            interrupt,
            version: config.version,
            irq_status,
            irq_enable,
            irq_disable,
            receive: usize::from(config.receive_fifo) * 4,
            transmit: usize::from(config.transmit_fifo) * 4,
            new_message: 1 << (2 * config.receive_fifo),
            not_full: 1 << (2 * config.transmit_fifo + 1),
            waiting: false,
            pending: Pending::default(),
        };
        // A predecessor may have left it on.
        mailbox.disable(mailbox.not_full);
        mailbox.enable(mailbox.new_message);
        mailbox.interrupt.arm().map_err(HardwareError::Interrupt)?;
        Ok(mailbox)
    }

    fn enable(&self, bits: u32) {
        let others = match self.version {
            OmapVersion::Omap2 => self.registers.read32(self.irq_enable),
            OmapVersion::Omap4 => 0,
        };
        self.registers.write32(self.irq_enable, others | bits);
    }

    fn disable(&self, bits: u32) {
        let value = match self.version {
            OmapVersion::Omap2 => self.registers.read32(self.irq_disable) & !bits,
            OmapVersion::Omap4 => bits,
        };
        self.registers.write32(self.irq_disable, value);
    }

    fn send_pending(&mut self) {
        self.fill();
        if !self.pending.is_empty() {
            // NOTFULL may be left from an earlier time. Room that appears after it has been cleared sets it again, room
            // that appeared before is seen by looking once more.
            self.registers.write32(self.irq_status, self.not_full);
            self.fill();
        }
        let waiting = !self.pending.is_empty();
        if self.waiting != waiting {
            self.waiting = waiting;
            if waiting { self.enable(self.not_full) } else { self.disable(self.not_full) }
        }
    }

    fn fill(&mut self) {
        let (registers, transmit) = (&self.registers, self.transmit);
        self.pending.send(|word| {
            let room = registers.read32(fifo_status(transmit)) & 1 == 0;
            if room {
                registers.write32(message(transmit), word);
            }
            room
        });
    }

    /// Takes up to `limit` words. Returns how many more could have been taken.
    fn drain(&self, limit: usize, signals: &mut Signals) -> usize {
        for taken in 0..limit {
            if self.registers.read32(message_status(self.receive)) == 0 {
                return limit - taken;
            }
            match self.registers.read32(message(self.receive)) {
                0..=MAX_NOTIFYID | PENDING_MESSAGE => signals.vring = true,
                READY => signals.has_booted(),
                CRASH => signals.has_crashed(),
                ECHO_REPLY => signals.echo = true,
                SHUT_DOWN_DONE => signals.shut_down = true,
                ECHO_REQUEST | ABORT_REQUEST | SUSPEND_AUTO..=SUSPEND_CANCEL => {}
                _ => signals.unknown += 1,
            }
        }
        0
    }

    fn look(&mut self, signals: &mut Signals) {
        let left = self.drain(DRAIN, signals);
        if left > 0 {
            // The FIFO was empty: NEWMSG can go. A word that came before it went is seen by looking once more. With words
            // left in the FIFO it stays, and raises the line again.
            self.registers.write32(self.irq_status, self.new_message);
            self.drain(left, signals);
        }
        self.send_pending();
    }
}

impl Mailbox for OmapMailbox {
    fn descriptor(&self) -> BorrowedFd<'_> {
        self.interrupt.descriptor()
    }

    fn wants_write(&self) -> bool {
        false
    }

    fn retry_at(&self) -> Option<Instant> {
        None
    }

    fn kick(&mut self, notifyid: u32) {
        self.pending.add(notifyid);
        self.send_pending();
    }

    /// There is no word for [`Request::State`], and none for [`Request::Detach`].
    fn request(&mut self, request: Request) -> bool {
        self.pending.add(match request {
            Request::Echo => ECHO_REQUEST,
            Request::ShutDown => SHUT_DOWN,
            Request::State | Request::Detach => return false,
        });
        self.send_pending();
        true
    }

    fn flush(&mut self, _now: Instant) {
        self.send_pending();
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
