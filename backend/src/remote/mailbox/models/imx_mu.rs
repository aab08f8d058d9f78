//! Model of the i.MX messaging unit.

use super::super::{MuConfig, MuVersion, MuWord};
use super::{Controller, Heard, Word};

/// A messaging unit; side B is the remote.
#[derive(Debug)]
pub(in crate::remote::mailbox) struct Mu {
    config: MuConfig,
    /// Transmit and receive registers that hold a word which has not been read.
    pub(in crate::remote::mailbox) transmit: [Option<u32>; 4],
    pub(in crate::remote::mailbox) receive: [Option<u32>; 4],
    /// A bit per channel.
    gip: u32,
    tie: u32,
    rie: u32,
    gie: u32,
    /// An interrupt that a predecessor has enabled and that nobody clears: the remote's reset, for example.
    stray: bool,
    /// Version 2: how many transmit and receive registers there are.
    parameters: u32,
}

/// A bit per channel, as version 1 has them from bit `first` on: channel 0 is the highest.
fn spread(bits: u32, first: u32) -> u32 {
    (bits.reverse_bits() >> 28) << first
}

fn gather(register: u32, first: u32) -> u32 {
    (register >> first & 0xF).reverse_bits() >> 28
}

impl Mu {
    pub(in crate::remote::mailbox) fn new(config: MuConfig) -> Self {
        Mu {
            config,
            transmit: [None; 4],
            receive: [None; 4],
            gip: 0,
            tie: 0,
            rie: 0xF,
            gie: 0xF,
            stray: true,
            parameters: 0x0404,
        }
    }

    /// With this many transmit and receive registers.
    pub(in crate::remote::mailbox) fn with_registers(mut self, transmit: u32, receive: u32) -> Self {
        self.parameters = 0x0100_0000 | receive << 8 | transmit;
        self
    }

    fn transmit_empty(&self) -> u32 {
        (0..4).filter(|channel| self.transmit[*channel].is_none()).map(|channel| 1 << channel).sum()
    }

    fn receive_full(&self) -> u32 {
        (0..4).filter(|channel| self.receive[*channel].is_some()).map(|channel| 1 << channel).sum()
    }

    fn channel(&self) -> usize {
        self.config.channel.into()
    }

    fn send(&mut self, channel: usize, word: u32) {
        let old = self.transmit[channel].replace(word);
        assert_eq!(old, None, "written over a word that the remote has not read");
    }

    fn take_received(&mut self, channel: usize) -> u32 {
        self.receive[channel].take().expect("read a register that holds nothing")
    }
}

impl Controller for Mu {
    const TAKES_REQUESTS: bool = true;

    fn read(&mut self, offset: usize) -> u32 {
        match (self.config.version, offset) {
            (MuVersion::V1, 0x10..0x20) => self.take_received((offset - 0x10) / 4),
            (MuVersion::V1, 0x20) => {
                spread(self.gip, 28) | spread(self.receive_full(), 24) | spread(self.transmit_empty(), 20)
            }
            (MuVersion::V2, 0x4) => self.parameters,
            (MuVersion::V2, 0x118) => self.gip,
            (MuVersion::V2, 0x124) => self.transmit_empty(),
            (MuVersion::V2, 0x12C) => self.receive_full(),
            (MuVersion::V2, 0x280..0x290) => self.take_received((offset - 0x280) / 4),
            _ => panic!("no register to read at {offset:#x}"),
        }
    }

    fn write(&mut self, offset: usize, value: u32) {
        match (self.config.version, offset) {
            (MuVersion::V1, 0x0..0x10) => self.send(offset / 4, value),
            (MuVersion::V1, 0x20) => self.gip &= !gather(value, 28),
            (MuVersion::V1, 0x24) => {
                (self.gie, self.rie, self.tie) = (gather(value, 28), gather(value, 24), gather(value, 20));
                assert_eq!(value & 0xF_FFFF, 0, "resets the unit, or rings the remote's doorbell");
                self.stray = false;
            }
            (MuVersion::V2, 0x8) => {
                assert_eq!(value, 0, "resets the unit");
                self.stray = false;
            }
            (MuVersion::V2, 0x110) => self.gie = value,
            (MuVersion::V2, 0x118) => self.gip &= !value,
            (MuVersion::V2, 0x120) => self.tie = value,
            (MuVersion::V2, 0x128) => self.rie = value,
            (MuVersion::V2, 0x200..0x210) => self.send((offset - 0x200) / 4, value),
            _ => panic!("no register to write at {offset:#x}"),
        }
    }

    fn lines(&self) -> [bool; 2] {
        let sources = self.gie & self.gip | self.rie & self.receive_full() | self.tie & self.transmit_empty();
        [self.stray || sources != 0, false]
    }

    fn kick(&mut self, vring: u32) -> bool {
        let channel = self.channel();
        let room = self.receive[channel].is_none();
        if room {
            self.receive[channel] = Some(vring << 16);
        }
        room
    }

    fn say(&mut self, word: Word) -> bool {
        let ready = word == Word::Ready;
        if ready {
            self.gip |= 1 << self.channel();
        }
        ready
    }

    fn take(&mut self) -> Option<Heard> {
        let word = self.transmit[self.channel()].take()?;
        Some(Heard::Vring(match self.config.word {
            MuWord::Shifted => {
                assert_eq!(word & 0xFFFF, 0);
                word >> 16
            }
            MuWord::Plain => word,
        }))
    }

    fn assert_idle(&self) {
        let own = 1 << self.config.channel;
        assert_eq!((self.tie, self.rie, self.gie), (0, own, own), "only reception is enabled");
        assert!(!self.stray);
    }
}
