//! Everything that can happen to a small vring in a few steps, tried out, from indexes that are about to wrap.
//!
//! This stands for a proof: nothing in the ring's arithmetic depends on its size but the size itself, and every state of a
//! ring of two or four entries is reached in these steps.

use super::*;

/// What host or remote do next.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// The host gives the free descriptor of the lowest number.
    Give,
    Publish,
    /// The remote uses the one that it has had for the longest, or the shortest, time.
    UseOldest,
    UseNewest,
    /// The remote names a descriptor that it has not got.
    UseBogus,
    /// The remote claims more than it was given.
    Jump,
    /// The host takes everything that was used.
    Take,
}

const STEPS: [Step; 7] =
    [Step::Give, Step::Publish, Step::UseOldest, Step::UseNewest, Step::UseBogus, Step::Jump, Step::Take];

struct Bench {
    vring: Vring,
    remote: Remote,
    num: u16,
    /// Who has what: with the host, given but not published, with the remote, used but not taken.
    free: Vec<u16>,
    given: Vec<u16>,
    with_remote: Vec<u16>,
    used: Vec<u16>,
    bogus: u64,
    has_jumped: bool,
}

impl Bench {
    fn new(memory: &CarveoutSlice, num: u16, start: u16) -> Self {
        let layout = VringLayout::new(num.into(), 16).unwrap();
        let memory = memory.subslice(0, layout.size());
        memory.write_zeros(0, layout.size());
        memory.write_u16(layout.used + 2, start);
        let cursor = Cursor { avail: start, used: start };
        let vring = Vring::resume(memory.clone(), layout, 0, cursor, vec![false; num.into()]);
        let remote = Remote { memory, layout, index: start };
        let free = (0..num).collect();
        let (given, with_remote, used) = (Vec::new(), Vec::new(), Vec::new());
        Bench { vring, remote, num, free, given, with_remote, used, bogus: 0, has_jumped: false }
    }

    /// Makes a step and checks all that must hold after it. Returns false where it cannot be made.
    fn step(&mut self, step: Step) -> bool {
        match step {
            Step::Give if self.free.is_empty() => return false,
            Step::Give => {
                let id = self.free.remove(0);
                self.vring.give(id);
                self.given.push(id);
            }
            Step::Publish => {
                assert_eq!(self.vring.publish(), !self.given.is_empty());
                self.with_remote.append(&mut self.given);
            }
            // A bogus entry that is one too many is a jump, and told apart from it by its number alone.
            Step::UseOldest | Step::UseNewest | Step::UseBogus if self.with_remote.is_empty() => {
                return false;
            }
            Step::UseOldest => {
                let id = self.with_remote.remove(0);
                self.use_it(id);
            }
            Step::UseNewest => {
                let id = self.with_remote.pop().unwrap();
                self.use_it(id);
            }
            Step::UseBogus => {
                self.remote.use_entry(self.num.into(), 0);
                self.used.push(self.num);
            }
            Step::Jump => {
                let beyond = self.vring.held + 1;
                self.remote.set_index(self.vring.next_used.wrapping_add(beyond));
                self.has_jumped = true;
            }
            Step::Take => self.take(),
        }
        let held = self.given.len() + self.with_remote.len();
        let taken_later = self.used.iter().filter(|id| **id < self.num).count();
        assert_eq!(usize::from(self.vring.held), held + taken_later);
        assert_eq!(self.vring.bogus_used(), self.bogus);
        true
    }

    fn use_it(&mut self, id: u16) {
        self.remote.use_entry(id.into(), 7);
        self.used.push(id);
    }

    fn take(&mut self) {
        if self.has_jumped {
            assert!(matches!(self.vring.take_used(), Err(VringFault::IndexJump { .. })));
            return;
        }
        // More entries than the remote holds descriptors is a jump, whatever is in them.
        if self.used.len() > usize::from(self.vring.held) {
            assert!(matches!(self.vring.take_used(), Err(VringFault::IndexJump { .. })));
            self.has_jumped = true;
            return;
        }
        for id in std::mem::take(&mut self.used) {
            if id == self.num {
                self.bogus += 1;
                continue;
            }
            assert_eq!(self.vring.take_used(), Ok(Some(Used { id, len: 7 })));
            self.free.push(id);
        }
        assert_eq!(self.vring.take_used(), Ok(None));
    }
}

/// Makes every sequence of so many steps. Returns how many there were.
fn all(memory: &CarveoutSlice, num: u16, start: u16, depth: u32) -> u64 {
    let mut tried = 0;
    let sequences = STEPS.len().pow(depth);
    for number in 0..sequences {
        let mut bench = Bench::new(memory, num, start);
        let mut rest = number;
        for _ in 0..depth {
            let step = STEPS[rest % STEPS.len()];
            rest /= STEPS.len();
            if !bench.step(step) {
                break;
            }
            if bench.has_jumped {
                // With more descriptors given later, what was a lie may come true.
                bench.take();
                break;
            }
        }
        tried += 1;
    }
    tried
}

#[test]
fn whatever_happens_to_a_small_ring_in_a_few_steps_is_counted_right() {
    let carveouts = carveouts(0x1000, 0, Access::Normal);
    let memory = carveouts.slice(0, 0x1000, 16).unwrap();
    let mut tried = 0;
    for (num, start) in [(2, 0xFFFE), (2, 0xFFFF), (4, 0xFFFD), (2, 0x7FFF)] {
        tried += all(&memory, num, start, 6);
    }
    assert_eq!(tried, 4 * 117_649);
}

#[test]
fn every_used_index_is_taken_or_refused_as_what_is_held_says() {
    let carveouts = carveouts(0x1000, 0, Access::Normal);
    let memory = carveouts.slice(0, 0x1000, 16).unwrap();
    for start in [0, 1, 0x7FFF, 0xFFFC, 0xFFFF] {
        for held in 0..=4 {
            let mut bench = Bench::new(&memory, 4, start);
            (0..held).for_each(|_| assert!(bench.step(Step::Give)));
            bench.step(Step::Publish);
            for index in 0..=u16::MAX {
                bench.remote.set_index(index);
                let ahead = index.wrapping_sub(start);
                // A look that finds nothing wrong moves on, so only those are tried that find something.
                if ahead == 0 {
                    assert_eq!(bench.vring.take_used(), Ok(None));
                } else if ahead > held {
                    assert!(bench.vring.take_used().is_err(), "{start} {held} {index}");
                }
            }
        }
    }
}
