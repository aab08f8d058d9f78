//! Model of the STM32 inter-processor communication controller.

use super::super::IpccConfig;
use super::{Controller, Heard, Word};

/// A controller; the remote is the processor that the host is not.
#[derive(Debug)]
pub(in crate::remote::mailbox) struct Ipcc {
    config: IpccConfig,
    channels: u32,
    control: u32,
    mask: u32,
    /// Channels that the host, and the remote, has occupied, as bits.
    pub(in crate::remote::mailbox) by_host: u32,
    by_remote: u32,
}

impl Ipcc {
    /// With this many channels. A predecessor has left everything on.
    pub(in crate::remote::mailbox) fn new(config: IpccConfig, channels: u32) -> Self {
        Ipcc { config, channels, control: 0x0001_0001, mask: 0, by_host: 0, by_remote: 0 }
    }

    fn free(&mut self, channel: u8) -> bool {
        let occupied = self.by_host & 1 << channel != 0;
        self.by_host &= !(1 << channel);
        occupied
    }

    /// The register, if it is of the host's processor.
    fn own(&self, offset: usize) -> Option<usize> {
        offset.checked_sub(usize::from(self.config.processor) * 0x10).filter(|register| *register < 0x10)
    }
}

impl Controller for Ipcc {
    const TAKES_REQUESTS: bool = false;

    fn read(&mut self, offset: usize) -> u32 {
        match (self.own(offset), offset) {
            (Some(0x0), _) => self.control,
            (Some(0xC), _) => self.by_host,
            (None, 0x0C | 0x1C) => self.by_remote,
            (None, 0x3F0) => 0xAB00 | self.channels,
            _ => panic!("no register to read at {offset:#x}"),
        }
    }

    fn write(&mut self, offset: usize, value: u32) {
        match self.own(offset) {
            Some(0x0) => self.control = value,
            Some(0x4) => self.mask = value,
            Some(0x8) => {
                let (freed, occupied) = (value & 0xFFFF, value >> 16);
                assert_eq!(freed & !self.by_remote, 0, "freed a channel that was not occupied");
                assert_eq!(
                    occupied & self.by_host,
                    0,
                    "occupied a channel twice: the remote will not notice"
                );
                self.by_remote &= !freed;
                self.by_host |= occupied;
            }
            _ => panic!("no register to write at {offset:#x}"),
        }
    }

    fn lines(&self) -> [bool; 2] {
        let received = self.by_remote & !self.mask & 0xFFFF;
        let free = !self.by_host & !self.mask >> 16 & 0xFFFF;
        [self.control & 1 != 0 && received != 0, self.control & 1 << 16 != 0 && free != 0]
    }

    fn kick(&mut self, vring: u32) -> bool {
        let bit = 1 << self.config.vrings[vring as usize];
        let free = self.by_remote & bit == 0;
        self.by_remote |= bit;
        free
    }

    fn say(&mut self, word: Word) -> bool {
        let channel = match word {
            Word::ShutDown => self.config.shut_down,
            Word::Detached => self.config.detach,
            _ => None,
        };
        channel.is_some_and(|channel| self.free(channel))
    }

    fn take(&mut self) -> Option<Heard> {
        let vrings = self.config.vrings.clone();
        let vring = vrings.into_iter().position(|channel| self.free(channel))?;
        Some(Heard::Vring(u32::try_from(vring).unwrap()))
    }

    fn assert_idle(&self) {
        let vrings: u32 = self.config.vrings.iter().map(|channel| 1 << channel).sum();
        assert_eq!(self.mask, !vrings, "only reception is unmasked");
    }
}
