//! Model of the ZynqMP inter-processor interrupts: the host's channel in window 0, the request buffer in window 1.

use super::{Controller, Heard, WINDOWS_APART, Word};

/// Bit of the remote, RPU 0.
pub(in crate::remote::mailbox) const REMOTE: u8 = 8;
const BIT: u32 = 1 << REMOTE;
/// Bit of another agent, the platform's firmware, with business of its own.
const STRANGER: u32 = 1 << 16;

/// A channel with a request buffer.
#[derive(Debug)]
pub(in crate::remote::mailbox) struct Ipi {
    observed: u32,
    status: u32,
    masked: u32,
    buffer: [u32; 8],
}

impl Ipi {
    pub(in crate::remote::mailbox) fn new() -> Self {
        Ipi { observed: STRANGER, status: STRANGER, masked: u32::MAX, buffer: [0; 8] }
    }
}

impl Controller for Ipi {
    const TAKES_REQUESTS: bool = true;

    fn read(&mut self, offset: usize) -> u32 {
        match offset {
            0x4 => self.observed,
            0x10 => self.status,
            _ => panic!("no register to read at {offset:#x}"),
        }
    }

    fn write(&mut self, offset: usize, value: u32) {
        match offset {
            0x0 => {
                assert_eq!(
                    (value, self.observed & BIT),
                    (BIT, 0),
                    "triggered before the last one was cleared"
                );
                self.observed |= value;
            }
            0x10 => {
                assert_eq!(value, BIT, "cleared the interrupt of another agent");
                self.status &= !value;
            }
            0x18 => {
                assert_eq!(value, BIT, "unmasked another agent");
                self.masked &= !value;
            }
            WINDOWS_APART.. => {
                assert_eq!(self.observed & BIT, 0, "wrote over a message that was not taken");
                self.buffer[(offset - WINDOWS_APART) / 4] = value;
            }
            _ => panic!("no register to write at {offset:#x}"),
        }
    }

    fn lines(&self) -> [bool; 2] {
        [self.status & !self.masked != 0, false]
    }

    fn kick(&mut self, _vring: u32) -> bool {
        self.status |= BIT;
        true
    }

    fn say(&mut self, _word: Word) -> bool {
        false
    }

    fn take(&mut self) -> Option<Heard> {
        let triggered = self.observed & BIT != 0;
        self.observed &= !BIT;
        triggered.then_some(Heard::Vring(self.buffer[0]))
    }

    fn assert_idle(&self) {
        assert_eq!((self.masked, self.status), (!BIT, STRANGER), "only the remote is unmasked");
    }
}
