//! The messaging unit of NXP i.MX: four word-sized registers each way, and doorbells.
//!
//! One protocol in two register layouts. Channel `x` is 0..=3; a write to `TRx` is what the other side reads in its `RRx`.
//!
//! | register | version 1 (6SX, 8M) | version 2 (8ULP, 93, 95) | used for |
//! |---|---|---|---|
//! | PAR | | 0x4: TR count 7:0, RR count 15:8 | a check that the channel exists |
//! | CR | 0x24 | 0x8 | everything that is not used is switched off |
//! | TRx | 0x0 + 4x | 0x200 + 4x | sending; TE = it has been read |
//! | RRx | 0x10 + 4x | 0x280 + 4x | reading takes the word |
//! | TEx / TIEx | SR 0x20 / CR 0x24, bit 23-x | TSR 0x124 / TCR 0x120, bit x | TIE while something waits for TE |
//! | RFx / RIEx | SR 0x20 / CR 0x24, bit 27-x | RSR 0x12C / RCR 0x128, bit x | a word has come |
//! | GIPx / GIEx | SR 0x20 / CR 0x24, bit 31-x | GSR 0x118 / GIER 0x110, bit x | doorbell; write 1 to clear |
//!
//! A kick is the word notifyid << 16 (the DSPs take the plain notifyid). What the remote sends says nothing: all vrings are
//! looked at. Its doorbell says that it has just come up (`rxdb`). A remote that is still booting, which may last 20 ms,
//! leaves the first kick in TR; the others wait for it in the host.
//!
//! Source: Linux `drivers/mailbox/imx-mailbox.c`, `drivers/remoteproc/imx_rproc.c`, `imx_dsp_rproc.c`; NXP i.MX 8M Mini and
//! i.MX 93 reference manuals, chapter "Messaging Unit".

use std::os::fd::BorrowedFd;
use std::time::Instant;

use super::pending::Pending;
use super::{
    HardwareError, Interrupt, Mailbox, MailboxClosed, Registers, Request, Signals, UioDevice,
    WantedRegisters, check_exists,
};

const CONTROLLER: &str = "i.MX messaging unit";
/// Channels that either version has bits for.
const CHANNELS: u32 = 4;

/// Generation of the register layout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MuVersion {
    /// One status and one control register for all: `fsl,imx6sx-mu`.
    V1,
    /// A pair of registers for each function: `fsl,imx8ulp-mu`.
    V2,
}

/// What a kick looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MuWord {
    /// notifyid << 16: Cortex-M.
    Shifted,
    /// notifyid: DSP.
    Plain,
}

/// What the host has to know of a messaging unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MuConfig {
    /// Its register layout.
    pub version: MuVersion,
    /// The channel of kicks and of the doorbell, 0..=3; 1 in the device trees of Cortex-M remotes, 0 in those of DSPs.
    pub channel: u8,
    /// What a kick looks like.
    pub word: MuWord,
}

/// Byte offsets of the registers.
#[derive(Debug)]
struct Layout {
    cr: usize,
    tr: usize,
    rr: usize,
    tsr: usize,
    tcr: usize,
    rsr: usize,
    rcr: usize,
    gsr: usize,
    gier: usize,
    window: usize,
}

const V1: Layout = Layout {
    cr: 0x24,
    tr: 0x0,
    rr: 0x10,
    tsr: 0x20,
    tcr: 0x24,
    rsr: 0x20,
    rcr: 0x24,
    gsr: 0x20,
    gier: 0x24,
    window: 0x28,
};

const V2: Layout = Layout {
    cr: 0x8,
    tr: 0x200,
    rr: 0x280,
    tsr: 0x124,
    tcr: 0x120,
    rsr: 0x12C,
    rcr: 0x128,
    gsr: 0x118,
    gier: 0x110,
    window: 0x290,
};

/// Version 2 only: how many registers there are.
const V2_PAR: usize = 0x4;

impl MuVersion {
    fn layout(self) -> &'static Layout {
        match self {
            MuVersion::V1 => &V1,
            MuVersion::V2 => &V2,
        }
    }

    /// Transmit, receive and general-purpose bit of a channel, in status and control registers alike.
    fn bits(self, channel: u8) -> [u32; 3] {
        match self {
            MuVersion::V1 => [20, 24, 28].map(|first: u8| 1 << (first + 3 - channel)),
            MuVersion::V2 => [1 << channel; 3],
        }
    }
}

/// The host's side of a messaging unit.
#[derive(Debug)]
pub struct ImxMu {
    registers: Box<dyn Registers>,
    interrupt: Interrupt,
    layout: &'static Layout,
    tr: usize,
    rr: usize,
    te: u32,
    rf: u32,
    gip: u32,
    /// The register with TIE while nothing waits for TE.
    tcr_idle: u32,
    tie: bool,
    word: MuWord,
    pending: Pending,
}

impl ImxMu {
    /// The registers of the messaging unit at this physical address.
    pub fn registers(address: u64, config: MuConfig) -> WantedRegisters<'static> {
        WantedRegisters { address, size: config.version.layout().window as u64, name: None }
    }

    /// Takes over the messaging unit with these [`registers`](Self::registers).
    ///
    /// # Errors
    /// A device that cannot be used, or as in [`new`](Self::new).
    pub fn open(device: UioDevice, config: MuConfig) -> Result<Self, HardwareError> {
        let registers = Box::new(device.map(config.version.layout().window)?);
        Self::new(registers, Interrupt::new(device.file.into()).map_err(HardwareError::Wait)?, config)
    }

    /// Takes over a messaging unit. What has already come in stays there and raises the interrupt.
    ///
    /// # Errors
    /// A channel that does not exist, an interrupt that cannot be switched on.
    pub fn new(
        registers: Box<dyn Registers>,
        mut interrupt: Interrupt,
        config: MuConfig,
    ) -> Result<Self, HardwareError> {
        let MuConfig { version, channel, word } = config;
        check_exists(CONTROLLER, "channel", channel, CHANNELS)?;
        if version == MuVersion::V2 {
            let parameters = registers.read32(V2_PAR);
            check_exists(CONTROLLER, "channel", channel, (parameters & 0xFF).min(parameters >> 8 & 0xFF))?;
        }
        let (layout, [te, rf, gip]) = (version.layout(), version.bits(channel));
        // A source that nobody here clears would keep the line raised for ever: first everything off.
        registers.write32(layout.cr, 0);
        let tcr_idle = match version {
            MuVersion::V1 => {
                registers.write32(layout.cr, rf | gip);
                rf | gip
            }
            MuVersion::V2 => {
                registers.write32(layout.tcr, 0);
                registers.write32(layout.rcr, rf);
                registers.write32(layout.gier, gip);
                0
            }
        };
        interrupt.arm().map_err(HardwareError::Interrupt)?;
        let at = usize::from(channel) * 4;
        Ok(ImxMu {
            registers,
            interrupt,
            layout,
            tr: layout.tr + at,
            rr: layout.rr + at,
            te,
            rf,
            gip,
            tcr_idle,
            tie: false,
            word,
            pending: Pending::default(),
        })
    }

    fn send_pending(&mut self) {
        let (registers, layout) = (&self.registers, self.layout);
        self.pending.send(|word| {
            let empty = registers.read32(layout.tsr) & self.te != 0;
            if empty {
                registers.write32(self.tr, word);
            }
            empty
        });
        let tie = !self.pending.is_empty();
        if self.tie != tie {
            self.tie = tie;
            registers.write32(layout.tcr, self.tcr_idle | if tie { self.te } else { 0 });
        }
    }

    fn look(&mut self, signals: &mut Signals) {
        if self.registers.read32(self.layout.gsr) & self.gip != 0 {
            self.registers.write32(self.layout.gsr, self.gip);
            signals.ready = true;
        }
        if self.registers.read32(self.layout.rsr) & self.rf != 0 {
            self.registers.read32(self.rr);
            signals.vring = true;
        }
        self.send_pending();
    }
}

impl Mailbox for ImxMu {
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
        self.pending.add(match self.word {
            MuWord::Shifted => notifyid << 16,
            MuWord::Plain => notifyid,
        });
        self.send_pending();
    }

    /// There are no words but kicks.
    fn request(&mut self, _request: Request) -> bool {
        false
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
