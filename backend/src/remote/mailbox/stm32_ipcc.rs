//! The inter-processor communication controller of ST STM32MP1 and MP2: up to 16 channels, each a flag in each direction.
//!
//! `p` is the own processor, 0 or 1, whose registers start at 0x10 * p; those of the other one are read where said.
//!
//! | register | offset | used for |
//! |---|---|---|
//! | CR | 0x0 | bit 0: RX-occupied interrupt on, bit 16: TX-free interrupt on |
//! | MR | 0x4 | 15:0 RX-occupied masks, 31:16 TX-free masks; 1 = masked |
//! | SCR | 0x8 | write only: bit n frees RX channel n, bit 16+n occupies TX channel n |
//! | TOYSR | 0xC | bit n: TX channel n is occupied; the other processor's: RX channel n is |
//! | HWCFGR | 0x3F0 | 7:0: how many channels there are |
//!
//! A vring has a channel. A kick occupies it, and the remote frees it before it looks at the vring, so that a kick that finds
//! it occupied has to wait. Requests have channels of their own, and are answered by being freed: a shut-down within 500 ms
//! and a detach within 200 ms, as Linux waits. Nothing else is ever said.
//!
//! The controller has two lines, and `uio_pdrv_genirq` serves the first of a device tree node only: RX occupied. Without a
//! second node that names the TX-free line, the host looks by [`retry_at`](super::Mailbox::retry_at) while it waits for a channel.
//!
//! Source: Linux `drivers/mailbox/stm32-ipcc.c`, `drivers/remoteproc/stm32_rproc.c`; ST RM0436, chapter "IPCC".

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Instant;

use log::Level;
use rustix::event::epoll;

use super::pending::Retry;
use super::{
    HardwareError, Interrupt, Mailbox, MailboxClosed, Registers, Request, Signals, UioDevice,
    WantedRegisters, check_exists,
};
use crate::log_limit::LogLimit;

const CONTROLLER: &str = "STM32 IPCC";
const PROCESSORS: u32 = 2;
const CHANNELS: u32 = 16;

/// Distance between the registers of the two processors, in bytes.
const PROCESSOR: usize = 0x10;
const CR: usize = 0x0;
const CR_RX_ON: u32 = 1;
const CR_TX_ON: u32 = 1 << 16;
const MR: usize = 0x4;
const SCR: usize = 0x8;
const TOYSR: usize = 0xC;
const HWCFGR: usize = 0x3F0;
/// Size of the registers in bytes.
const WINDOW: usize = 0x400;

/// What the host has to know of a controller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IpccConfig {
    /// The host's processor, 0 or 1: `st,proc-id`.
    pub processor: u8,
    /// Channels of the vrings with notifyid 0, 1, ...: "vq0", "vq1".
    pub vrings: Vec<u8>,
    /// Channel of the request to shut down: "shutdown".
    pub shut_down: Option<u8>,
    /// Channel of the request to be left alone: "detach".
    pub detach: Option<u8>,
}

/// The names of the UIO devices of a controller, where there are several with its address.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IpccNodes {
    /// The one whose interrupt is RX occupied.
    pub receive: Option<String>,
    /// The one whose interrupt is TX free.
    pub transmit: Option<String>,
}

/// The host's side of a controller.
#[derive(Debug)]
pub struct Stm32Ipcc {
    registers: Box<dyn Registers>,
    receive: Interrupt,
    /// The TX-free interrupt, and what becomes readable with either of the two.
    transmit: Option<(Interrupt, OwnedFd)>,
    own: usize,
    other: usize,
    config: IpccConfig,
    /// Channels that are received from, as bits.
    receiving: u16,
    /// Channels that are to be occupied once they are free, as bits.
    kicked: u16,
    /// Channels of requests that were sent and not answered yet, as bits.
    asked: u16,
    mask: u32,
    retry: Retry,
    log: LogLimit,
}

impl Stm32Ipcc {
    /// The registers of the controller at this physical address.
    pub fn registers(address: u64, nodes: &IpccNodes) -> WantedRegisters<'_> {
        WantedRegisters { address, size: WINDOW as u64, name: nodes.receive.as_deref() }
    }

    /// The same registers, with the TX-free interrupt, if there is a device for that.
    pub fn transmit_registers(address: u64, nodes: &IpccNodes) -> Option<WantedRegisters<'_>> {
        nodes.transmit.as_deref().map(|name| WantedRegisters {
            address,
            size: WINDOW as u64,
            name: Some(name),
        })
    }

    /// Takes over the controller with these [`registers`](Self::registers), and its
    /// [`transmit_registers`](Self::transmit_registers).
    ///
    /// # Errors
    /// A device that cannot be used, or as in [`new`](Self::new).
    pub fn open(
        receive: UioDevice,
        transmit: Option<UioDevice>,
        config: IpccConfig,
    ) -> Result<Self, HardwareError> {
        let registers = Box::new(receive.map(WINDOW)?);
        let receive = Interrupt::new(receive.file.into()).map_err(HardwareError::Wait)?;
        let transmit = transmit.map(|device| Interrupt::new(device.file.into())).transpose();
        Self::new(registers, receive, transmit.map_err(HardwareError::Wait)?, config)
    }

    /// Takes over a controller, with its TX-free interrupt if there is one. What has already come in stays there and raises
    /// the interrupt.
    ///
    /// # Errors
    /// A processor or a channel that does not exist, an interrupt that cannot be switched on.
    pub fn new(
        registers: Box<dyn Registers>,
        mut receive: Interrupt,
        transmit: Option<Interrupt>,
        config: IpccConfig,
    ) -> Result<Self, HardwareError> {
        check_exists(CONTROLLER, "processor", config.processor, PROCESSORS)?;
        let channels = (registers.read32(HWCFGR) & 0xFF).min(CHANNELS);
        for channel in config.vrings.iter().chain(&config.shut_down).chain(&config.detach) {
            check_exists(CONTROLLER, "channel", *channel, channels)?;
        }
        let own = usize::from(config.processor) * PROCESSOR;
        let receiving = config.vrings.iter().fold(0, |bits, channel| bits | 1 << channel);
        let mask = !u32::from(receiving);
        registers.write32(own + MR, mask);
        let on = CR_RX_ON | if transmit.is_some() { CR_TX_ON } else { 0 };
        let others = registers.read32(own + CR) & !(CR_RX_ON | CR_TX_ON);
        registers.write32(own + CR, others | on);
        receive.arm().map_err(HardwareError::Interrupt)?;
        let transmit = transmit.map(|transmit| both(&receive, transmit)).transpose()?;
        Ok(Stm32Ipcc {
            registers,
            receive,
            transmit,
            own,
            other: PROCESSOR - own,
            config,
            receiving,
            kicked: 0,
            asked: 0,
            mask,
            retry: Retry::default(),
            log: LogLimit::default(),
        })
    }

    /// Channels that the remote has not freed yet, as bits.
    fn occupied(&self) -> u16 {
        low(self.registers.read32(self.own + TOYSR))
    }

    /// Occupies the channels that wait for it and are free. Returns whether there were any.
    fn send_kicks(&mut self) -> bool {
        if self.kicked == 0 {
            return false;
        }
        let free = self.kicked & !self.occupied();
        if free != 0 {
            self.registers.write32(self.own + SCR, u32::from(free) << 16);
            self.kicked &= !free;
        }
        free != 0
    }

    /// Sees to it that the host is told, or looks, when a channel that it waits for is freed.
    fn wait(&mut self, moved: bool, now: Instant) {
        let waiting = self.kicked | self.asked;
        if self.transmit.is_some() {
            let mask = !(u32::from(self.receiving) | u32::from(waiting) << 16);
            if self.mask != mask {
                self.mask = mask;
                self.registers.write32(self.own + MR, mask);
            }
        } else if waiting == 0 {
            self.retry.stop();
        } else if moved {
            self.retry.start_over(now);
        } else {
            self.retry.in_vain(now);
        }
    }

    fn look(&mut self, signals: &mut Signals) {
        let received = low(self.registers.read32(self.other + TOYSR)) & self.receiving;
        if received != 0 {
            // Freed before anybody looks at the vrings: what comes later occupies it again.
            self.registers.write32(self.own + SCR, received.into());
            signals.vring = true;
        }
        let answered = if self.asked == 0 { 0 } else { self.asked & !self.occupied() };
        self.asked &= !answered;
        let answers = |channel: Option<u8>| channel.is_some_and(|channel| answered & 1 << channel != 0);
        signals.shut_down |= answers(self.config.shut_down);
        signals.detached |= answers(self.config.detach);
        let moved = self.send_kicks() || answered != 0;
        self.wait(moved, Instant::now());
    }
}

/// One descriptor for both interrupts, the second of which is switched on.
fn both(receive: &Interrupt, mut transmit: Interrupt) -> Result<(Interrupt, OwnedFd), HardwareError> {
    transmit.arm().map_err(HardwareError::Interrupt)?;
    let wait = |error: rustix::io::Errno| HardwareError::Wait(error.into());
    let both = epoll::create(epoll::CreateFlags::CLOEXEC).map_err(wait)?;
    for interrupt in [receive, &transmit] {
        let data = epoll::EventData::new_u64(0);
        epoll::add(&both, interrupt, data, epoll::EventFlags::IN).map_err(wait)?;
    }
    Ok((transmit, both))
}

/// The bits of the channels in TOYSR.
fn low(register: u32) -> u16 {
    (register & 0xFFFF) as u16
}

impl Mailbox for Stm32Ipcc {
    fn descriptor(&self) -> BorrowedFd<'_> {
        self.transmit.as_ref().map_or_else(|| self.receive.descriptor(), |(_, both)| both.as_fd())
    }

    fn wants_write(&self) -> bool {
        false
    }

    fn retry_at(&self) -> Option<Instant> {
        self.retry.at()
    }

    fn kick(&mut self, notifyid: u32) {
        let channel = usize::try_from(notifyid).ok().and_then(|id| self.config.vrings.get(id));
        let Some(channel) = channel else {
            let channels = self.config.vrings.len();
            self.log.say(
                Level::Error,
                format_args!(
                    "{CONTROLLER}: cannot kick vring {notifyid}: it has channels for {channels} vrings; add one to the configuration"
                ),
            );
            return;
        };
        self.kicked |= 1 << channel;
        let moved = self.send_kicks();
        self.wait(moved, Instant::now());
    }

    /// There are no channels for [`Request::State`] and [`Request::Echo`]. A request that is not answered yet is not
    /// sent again, and neither is one that a predecessor has left in its channel.
    fn request(&mut self, request: Request) -> bool {
        let channel = match request {
            Request::ShutDown => self.config.shut_down,
            Request::Detach => self.config.detach,
            Request::State | Request::Echo => None,
        };
        let Some(channel) = channel else { return false };
        let bit = 1 << channel;
        if self.asked & bit == 0 {
            if self.occupied() & bit == 0 {
                self.registers.write32(self.own + SCR, u32::from(bit) << 16);
            }
            self.asked |= bit;
            self.wait(true, Instant::now());
        }
        true
    }

    fn flush(&mut self, now: Instant) {
        let moved = self.send_kicks();
        self.wait(moved, now);
    }

    fn receive(&mut self, signals: &mut Signals) -> Result<(), MailboxClosed> {
        let received = self.receive.take()?;
        let freed = match &mut self.transmit {
            Some((transmit, _)) => transmit.take()?,
            None => false,
        };
        self.look(signals);
        if received {
            self.receive.arm()?;
        }
        if freed && let Some((transmit, _)) = &mut self.transmit {
            transmit.arm()?;
        }
        if received || freed {
            self.look(signals);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
