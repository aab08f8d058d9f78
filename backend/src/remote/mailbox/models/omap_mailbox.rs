//! Model of the TI mailbox.

use std::collections::VecDeque;

use super::super::{OmapConfig, OmapVersion, Request};
use super::{Controller, Heard, Word};

/// When the bits of IRQSTATUS are set. The manuals read either way, so the host has to be right with both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::remote::mailbox) enum Latch {
    /// As long as there is a word, or room, whatever is cleared.
    State,
    /// When a word comes, or room appears.
    Event,
}

/// Words that a FIFO holds.
const DEPTH: usize = 4;

/// A mailbox whose user has other FIFOs besides, of another remote.
#[derive(Debug)]
pub(in crate::remote::mailbox) struct Omap {
    config: OmapConfig,
    latch: Latch,
    pub(in crate::remote::mailbox) fifos: [VecDeque<u32>; 16],
    status: u32,
    enabled: u32,
    others: u32,
}

impl Omap {
    pub(in crate::remote::mailbox) fn new(config: OmapConfig, latch: Latch) -> Self {
        let own = 3 << (2 * config.receive_fifo) | 3 << (2 * config.transmit_fifo);
        // The other remote's messages are expected, and a predecessor was waiting for room.
        let others = 0x5555_5555 & !own;
        let enabled = others | 2 << (2 * config.transmit_fifo);
        let mut omap = Omap { config, latch, fifos: Default::default(), status: 0, enabled, others };
        omap.follow();
        omap
    }

    pub(in crate::remote::mailbox) fn received(&mut self) -> &mut VecDeque<u32> {
        &mut self.fifos[usize::from(self.config.receive_fifo)]
    }

    /// Words that the remote sends as they are.
    pub(in crate::remote::mailbox) fn send(&mut self, word: u32) -> bool {
        let fifo = usize::from(self.config.receive_fifo);
        let room = self.fifos[fifo].len() < DEPTH;
        if room {
            self.append(fifo, word);
        }
        room
    }

    fn append(&mut self, fifo: usize, word: u32) {
        self.fifos[fifo].push_back(word);
        self.status |= 1 << (2 * fifo);
        self.follow();
    }

    fn take_from(&mut self, fifo: usize) -> Option<u32> {
        let was_full = self.fifos[fifo].len() == DEPTH;
        let word = self.fifos[fifo].pop_front();
        if was_full {
            self.status |= 2 << (2 * fifo);
        }
        self.follow();
        word
    }

    fn follow(&mut self) {
        if self.latch == Latch::State {
            for (number, fifo) in self.fifos.iter().enumerate() {
                self.status |= u32::from(!fifo.is_empty()) << (2 * number);
                self.status |= u32::from(fifo.len() < DEPTH) << (2 * number + 1);
            }
        }
    }

    /// Offsets of IRQSTATUS, IRQENABLE and IRQENABLE_CLR.
    fn interrupt_registers(&self) -> [usize; 3] {
        let user = usize::from(self.config.user);
        match self.config.version {
            OmapVersion::Omap2 => [0x100 + 8 * user, 0x104 + 8 * user, usize::MAX],
            OmapVersion::Omap4 => [0x104 + 0x10 * user, 0x108 + 0x10 * user, 0x10C + 0x10 * user],
        }
    }
}

impl Controller for Omap {
    const TAKES_REQUESTS: bool = true;

    fn read(&mut self, offset: usize) -> u32 {
        let [_, enable, _] = self.interrupt_registers();
        match offset {
            0x40..0x80 => self.take_from((offset - 0x40) / 4).expect("read a word that nobody said"),
            0x80..0xC0 => u32::from(self.fifos[(offset - 0x80) / 4].len() == DEPTH),
            0xC0..0x100 => u32::try_from(self.fifos[(offset - 0xC0) / 4].len()).unwrap(),
            _ if offset == enable && self.config.version == OmapVersion::Omap2 => self.enabled,
            _ => panic!("no register to read at {offset:#x}"),
        }
    }

    fn write(&mut self, offset: usize, value: u32) {
        let [status, enable, disable] = self.interrupt_registers();
        match offset {
            0x40..0x80 => {
                let fifo = (offset - 0x40) / 4;
                assert!(self.fifos[fifo].len() < DEPTH, "wrote to a full FIFO: the word is lost");
                assert_eq!(fifo, usize::from(self.config.transmit_fifo), "wrote to another's FIFO");
                self.append(fifo, value);
            }
            _ if offset == status => {
                self.status &= !value;
                self.follow();
            }
            _ if offset == enable && self.config.version == OmapVersion::Omap2 => self.enabled = value,
            _ if offset == enable => self.enabled |= value,
            _ if offset == disable => self.enabled &= !value,
            _ => panic!("no register to write at {offset:#x}"),
        }
    }

    fn lines(&self) -> [bool; 2] {
        [self.status & self.enabled & !self.others != 0, false]
    }

    fn kick(&mut self, vring: u32) -> bool {
        self.send(vring)
    }

    fn say(&mut self, word: Word) -> bool {
        match word {
            Word::Ready => self.send(0xFFFF_FF00),
            Word::Crashed => self.send(0xFFFF_FF02),
            Word::Echo => self.send(0xFFFF_FF04),
            Word::ShutDown => self.send(0xFFFF_FF15),
            Word::Detached => false,
        }
    }

    fn take(&mut self) -> Option<Heard> {
        Some(match self.take_from(self.config.transmit_fifo.into())? {
            0xFFFF_FF03 => Heard::Request(Request::Echo),
            0xFFFF_FF14 => Heard::Request(Request::ShutDown),
            vring => Heard::Vring(vring),
        })
    }

    fn assert_idle(&self) {
        let own = 1 << (2 * self.config.receive_fifo);
        assert_eq!(self.enabled, self.others | own, "only reception is enabled, and others' is not touched");
    }
}
