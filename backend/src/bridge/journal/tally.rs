//! Figures in state memory that are exact whenever the program is killed: what was counted for a batch counts if, and only
//! if, the batch does.
//!
//! They take the last quarter of an area. Each block of figures is there twice, as a *record* behind a stamp; a stamp says how far
//! the journal will be once the batch is committed. A block is written before the commit, into the record that does not count;
//! the commit, which knows nothing of it, makes it count. The record that counts is the one with the highest stamp that the
//! journal has reached.
//!
//! | offset | in the tally |
//! |---|---|
//! | 0 | for each slot and each of 1024 services: twice 8 words |
//! | 127 x 128 KiB | for each slot: twice 8 words, for what is no service's, and twice 16 words |
//! | the last 4 KiB | twice 8 words for the device |

use super::super::directory::MAX_SERVICES;
use super::area::Area;
use crate::remote::memory::CarveoutSlice;
use crate::rpmsg::address::Slot;

const SERVICE_WORDS: usize = 8;
const VM_WORDS: usize = 16;
const WORD: usize = size_of::<u64>();

const SERVICE: usize = 2 * SERVICE_WORDS * WORD;
const AT_VMS: usize = Slot::COUNT as usize * MAX_SERVICES * SERVICE;
const VM: usize = SERVICE + 2 * VM_WORDS * WORD;
/// Before the end.
const AT_DEVICE: usize = 4096;

/// Which figures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::bridge) enum Block {
    /// Of a VM and a service, by its number in the directory.
    Service(Slot, usize),
    /// Of a VM and what is no service's.
    Elsewhere(Slot),
    /// Of a VM as a whole.
    Vm(Slot),
    /// Of the device.
    Device,
}

/// Which of a block's records counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::bridge) struct Side(bool);

#[derive(Debug)]
pub(super) struct Tally(CarveoutSlice);

impl Tally {
    /// The tally of an area.
    pub(super) fn new(area: &CarveoutSlice) -> Self {
        let len = area.len() / 4 / WORD * WORD;
        Tally(
            (area.len() / WORD * WORD)
                .checked_sub(len)
                .map_or_else(|| area.clone(), |at| area.subslice(at, len)),
        )
    }

    /// Where a block's records are. `None` where the area is too small for it.
    fn records(&self, block: Block) -> Option<[usize; 2]> {
        let vm = |slot: Slot| AT_VMS + usize::from(slot.number()) * VM;
        let (at, words) = match block {
            Block::Service(slot, service) => {
                ((usize::from(slot.number()) * MAX_SERVICES + service) * SERVICE, SERVICE_WORDS)
            }
            Block::Elsewhere(slot) => (vm(slot), SERVICE_WORDS),
            Block::Vm(slot) => (vm(slot) + SERVICE, VM_WORDS),
            Block::Device => (self.0.len().checked_sub(AT_DEVICE)?, SERVICE_WORDS),
        };
        let len = words * WORD;
        (at + 2 * len <= self.0.len()).then_some([at, at + len])
    }

    /// The figures that count, and where they are. What does not count is forgotten, so that it never will.
    pub(super) fn load<const N: usize>(&self, area: &Area, block: Block) -> ([u64; N], Side) {
        let Some(records) = self.records(block) else { return ([0; N], Side::default()) };
        let stamps = records.map(|at| {
            let stamp = self.0.read_u64(at);
            if stamp > area.stamp() {
                self.0.write_u64(at, 0);
                return 0;
            }
            stamp
        });
        let side = stamps[1] > stamps[0];
        let at = records[usize::from(side)];
        let counts = stamps != [0; 2];
        let figure = |number: usize| if counts { self.0.read_u64(at + (1 + number) * WORD) } else { 0 };
        (std::array::from_fn(figure), Side(side))
    }

    /// Writes figures that count once the batch under this stamp does.
    #[inline]
    pub(super) fn note<const N: usize>(&self, stamp: u64, block: Block, side: &mut Side, figures: [u64; N]) {
        let Some(records) = self.records(block) else { return };
        side.0 = !side.0;
        let at = records[usize::from(side.0)];
        // In any order: the record that is there counts less than the other, and this one does not count yet.
        self.0.write_u64(at, stamp);
        for (number, figure) in figures.into_iter().enumerate() {
            self.0.write_u64(at + (1 + number) * WORD, figure);
        }
    }
}

const _: () = assert!(AT_VMS + Slot::COUNT as usize * VM + AT_DEVICE <= 16 << 20);
