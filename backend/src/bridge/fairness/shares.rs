//! Who may take a buffer of the remote's.
//!
//! `N` buffers are divided over the VMs by weight; everyone gets one at least, also if that makes more than `N`. A
//! buffer is charged to its VM from the moment it is taken until the remote returns it, also if the VM is gone by then.
//! A VM may take one
//!
//! - if it has none: as long as one is free;
//! - if it has some, but less than its share: as long as one stays free for each VM that has none;
//! - beyond its share: as long as enough stay free for every VM with a message waiting to fill up its share, and one
//!   for each other VM that has none.
//!
//! What is kept for VMs that have none and want none is at most `N / 2`: where VMs are many and buffers few, the
//! silent majority must not keep the others from working. So with `N >= 2 * VMs` a VM that begins to send always
//! finds a buffer (unless it is new and all were lent out before it came); with fewer, it finds one at the latest
//! when the remote returns the next, and is the first to get it.
//!
//! Nobody starves: while a VM below its share waits, nobody takes beyond its own, so every buffer that the remote
//! returns brings it closer, whatever the others do. If every VM keeps to its share, the buffers suffice for all
//! shares. The remote may keep the buffers of one VM for ever; then these are gone, but no others.
//!
//! The three cases have one condition each that is the same for all VMs, so the set of VMs that may take a buffer is
//! known at any time at the cost of three comparisons.

use super::{SLOTS, bits};

/// Owner of a buffer that is free.
const NOBODY: u8 = u8::MAX;

/// What each VM may have of `buffers` buffers by its weight; 0 stands for no VM.
///
/// The sum is at most `buffers`, unless there are more VMs than buffers: everyone gets one at least.
pub(super) fn portions(buffers: u16, weights: &[u8; SLOTS]) -> [u16; SLOTS] {
    let mut portions = [0; SLOTS];
    let (mut rest, mut sum) = (u32::from(buffers), weights.iter().map(|weight| u32::from(*weight)).sum());
    // Who would get less than one gets one, which leaves less for the others, of whom some may now get less than one.
    loop {
        let before = sum;
        for (portion, weight) in portions.iter_mut().zip(weights) {
            let weight = u32::from(*weight);
            if weight > 0 && *portion == 0 && rest * weight < sum {
                *portion = 1;
                rest = rest.saturating_sub(1);
                sum -= weight;
            }
        }
        if sum == before {
            break;
        }
    }
    for (portion, weight) in portions.iter_mut().zip(weights) {
        if *weight > 0 && *portion == 0 {
            *portion = u16::try_from(rest * u32::from(*weight) / sum).unwrap_or(u16::MAX);
        }
    }
    portions
}

/// The remote's transmit buffers, and whose they are.
#[derive(Debug)]
pub(super) struct Shares {
    /// Whose each buffer is.
    owner: Vec<u8>,
    free: u32,
    /// Half of all buffers.
    half: u32,
    vms: [Vm; SLOTS],
    /// VMs that are there.
    present: u128,
    /// Those that have no buffer.
    empty_handed: u128,
    /// Those that have some, but less than their share.
    below: u128,
    /// Those that have a message waiting.
    waiting: u128,
    /// Number of VMs in `empty_handed`.
    empty_handed_count: u32,
    /// Number of these that have no message waiting.
    silent: u32,
    /// What the waiting VMs lack to their shares.
    claims: u32,
}

#[derive(Clone, Copy, Debug, Default)]
struct Vm {
    held: u16,
    /// 0 if the VM is not there.
    share: u16,
    /// Whether it is one of the waiting.
    waits: bool,
}

impl Vm {
    fn lacks(self) -> u32 {
        u32::from(self.share.saturating_sub(self.held))
    }
}

impl Default for Shares {
    fn default() -> Self {
        Shares {
            owner: Vec::new(),
            free: 0,
            half: 0,
            vms: [Vm::default(); SLOTS],
            present: 0,
            empty_handed: 0,
            below: 0,
            waiting: 0,
            empty_handed_count: 0,
            silent: 0,
            claims: 0,
        }
    }
}

impl Shares {
    /// The remote has this many buffers now, and all are free. 0 means that there is no remote; then nobody is held
    /// back, because nobody needs a buffer.
    pub(super) fn reset(&mut self, buffers: u16, weights: &[u8; SLOTS]) {
        self.owner.clear();
        self.owner.resize(buffers.into(), NOBODY);
        self.free = buffers.into();
        self.half = self.free / 2;
        for vm in &mut self.vms {
            vm.held = 0;
        }
        self.set_weights(weights);
    }

    /// The VMs and their weights are now these; 0 stands for no VM.
    pub(super) fn set_weights(&mut self, weights: &[u8; SLOTS]) {
        let portions = portions(u16::try_from(self.owner.len()).unwrap_or(u16::MAX), weights);
        self.present = 0;
        for (slot, (vm, share)) in self.vms.iter_mut().zip(portions).enumerate() {
            vm.share = share;
            self.present |= u128::from(weights[slot] > 0) << slot;
        }
        self.empty_handed = 0;
        self.below = 0;
        for slot in bits(self.present) {
            match self.vms[slot] {
                Vm { held: 0, .. } => self.empty_handed |= 1 << slot,
                Vm { held, share, .. } if held < share => self.below |= 1 << slot,
                _ => {}
            }
        }
        self.waiting &= self.present;
        for (slot, vm) in self.vms.iter_mut().enumerate() {
            vm.waits = self.waiting & (1 << slot) != 0;
        }
        self.empty_handed_count = self.empty_handed.count_ones();
        self.silent = (self.empty_handed & !self.waiting).count_ones();
        self.claims = bits(self.waiting).map(|slot| self.vms[slot].lacks()).sum();
    }

    /// These VMs have a message waiting, and no others.
    #[inline]
    pub(super) fn set_all_waiting(&mut self, waiting: u128) {
        for slot in bits((waiting & self.present) ^ self.waiting) {
            self.set_waiting(slot, waiting & (1 << slot) != 0);
        }
    }

    /// Whether this VM has a message waiting.
    #[inline]
    pub(super) fn set_waiting(&mut self, slot: usize, waits: bool) {
        let vm = &mut self.vms[slot];
        if vm.share == 0 || vm.waits == waits {
            return;
        }
        vm.waits = waits;
        self.waiting ^= 1 << slot;
        let lacks = vm.lacks();
        let empty_handed = u32::from(vm.held == 0);
        if waits {
            self.claims += lacks;
            self.silent -= empty_handed;
        } else {
            self.claims -= lacks;
            self.silent += empty_handed;
        }
    }

    /// What is kept for this many VMs that have no buffer.
    #[inline]
    fn kept_for(&self, vms: u32) -> u32 {
        vms.min(self.half)
    }

    #[inline]
    fn may_fill_up(&self) -> bool {
        self.free > self.kept_for(self.empty_handed_count)
    }

    #[inline]
    fn may_borrow(&self) -> bool {
        self.free > self.claims + self.kept_for(self.silent)
    }

    /// The VMs that may take a buffer.
    #[inline]
    pub(super) fn able(&self) -> u128 {
        if self.free == 0 {
            return if self.owner.is_empty() { self.present } else { 0 };
        }
        let mut able = self.empty_handed;
        if self.may_fill_up() {
            able |= self.below;
        }
        if self.may_borrow() {
            able |= self.present & !self.empty_handed & !self.below;
        }
        able
    }

    /// Whether this VM may take a buffer.
    #[inline]
    pub(super) fn may_take(&self, slot: usize) -> bool {
        let Vm { held, share, .. } = self.vms[slot];
        if self.free == 0 {
            self.owner.is_empty()
        } else if held == 0 && share > 0 {
            true
        } else if held < share {
            self.may_fill_up()
        } else {
            self.may_borrow()
        }
    }

    /// The share of a VM, and how many buffers are charged to it.
    pub(super) fn holding(&self, slot: usize) -> (u16, u16) {
        (self.vms[slot].share, self.vms[slot].held)
    }

    /// The VMs that are there.
    #[inline]
    pub(super) fn present(&self) -> u128 {
        self.present
    }

    /// The VMs that have a message waiting.
    #[inline]
    pub(super) fn waiting(&self) -> u128 {
        self.waiting
    }

    /// Whether this VM has a message waiting.
    #[inline]
    pub(super) fn waits(&self, slot: usize) -> bool {
        self.vms[slot].waits
    }

    /// Whether this VM has less than its share.
    #[inline]
    pub(super) fn is_below_share(&self, slot: usize) -> bool {
        self.vms[slot].lacks() > 0
    }

    /// Whether any buffer is free.
    #[inline]
    pub(super) fn any_free(&self) -> bool {
        self.free > 0
    }

    /// The VM has taken a buffer.
    #[inline]
    pub(super) fn take(&mut self, slot: usize, buffer: u16) {
        let owner = &mut self.owner[usize::from(buffer)];
        debug_assert_eq!(*owner, NOBODY, "a buffer that is taken is free");
        *owner = u8::try_from(slot).expect("a slot number fits a byte");
        self.free -= 1;
        let vm = &mut self.vms[slot];
        let lacked = vm.held < vm.share;
        vm.held += 1;
        if !lacked {
            return;
        }
        self.claims -= u32::from(vm.waits);
        if vm.held == 1 {
            self.empty_handed_count -= 1;
            self.silent -= u32::from(!vm.waits);
            self.empty_handed &= !(1 << slot);
            if vm.share > 1 {
                self.below |= 1 << slot;
            }
        } else if vm.held == vm.share {
            self.below &= !(1 << slot);
        }
    }

    /// Whose this buffer is, if it is anybody's.
    pub(super) fn owner(&self, buffer: u16) -> Option<usize> {
        self.owner.get(usize::from(buffer)).filter(|owner| **owner != NOBODY).map(|owner| usize::from(*owner))
    }

    /// The remote has returned a buffer. Returns whose it was, if it was anybody's.
    #[inline]
    pub(super) fn returned(&mut self, buffer: u16) -> Option<usize> {
        let owner = self.owner.get_mut(usize::from(buffer))?;
        if *owner == NOBODY {
            return None;
        }
        let slot = usize::from(std::mem::replace(owner, NOBODY));
        self.free += 1;
        let vm = &mut self.vms[slot];
        vm.held -= 1;
        if vm.held < vm.share {
            self.claims += u32::from(vm.waits);
            if vm.held == 0 {
                self.empty_handed_count += 1;
                self.silent += u32::from(!vm.waits);
                self.empty_handed |= 1 << slot;
                self.below &= !(1 << slot);
            } else if vm.held + 1 == vm.share {
                self.below |= 1 << slot;
            }
        }
        Some(slot)
    }
}

#[cfg(test)]
impl Shares {
    /// The share of a VM, and how many buffers are charged to it.
    pub(super) fn of(&self, slot: usize) -> (u32, u32) {
        (self.vms[slot].share.into(), self.vms[slot].held.into())
    }

    /// Counts everything anew.
    pub(super) fn check(&self) {
        let mut held = [0; SLOTS];
        for owner in self.owner.iter().filter(|owner| **owner != NOBODY) {
            held[usize::from(*owner)] += 1;
        }
        assert!(held.iter().zip(&self.vms).all(|(held, vm)| *held == usize::from(vm.held)));
        assert_eq!(self.owner.len(), held.iter().sum::<usize>() + self.free as usize);
        let empty_handed: Vec<_> = bits(self.present).filter(|slot| held[*slot] == 0).collect();
        let silent = empty_handed.iter().filter(|slot| self.waiting & (1 << **slot) == 0).count();
        assert_eq!(empty_handed, bits(self.empty_handed).collect::<Vec<_>>());
        assert_eq!((self.empty_handed_count as usize, self.silent as usize), (empty_handed.len(), silent));
        let lacks = |slot: usize| usize::from(self.vms[slot].share).saturating_sub(held[slot]);
        assert_eq!(self.claims as usize, bits(self.waiting).map(lacks).sum::<usize>());
        let below = bits(self.present).filter(|slot| held[*slot] > 0 && lacks(*slot) > 0);
        assert!(below.eq(bits(self.below)));
        assert!(bits(self.present).all(|slot| (self.able() & (1 << slot) != 0) == self.may_take(slot)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn weights(some: &[u8]) -> [u8; SLOTS] {
        let mut weights = [0; SLOTS];
        weights[..some.len()].copy_from_slice(some);
        weights
    }

    fn shares(buffers: u16, some: &[u8]) -> Shares {
        let mut shares = Shares::default();
        shares.reset(buffers, &weights(some));
        shares
    }

    /// Lets a VM take what it can get. Returns how many buffers that is.
    fn grab(shares: &mut Shares, slot: usize) -> u32 {
        let before = shares.free;
        while shares.may_take(slot) {
            let buffer = shares.owner.iter().position(|owner| *owner == NOBODY).unwrap();
            shares.take(slot, u16::try_from(buffer).unwrap());
            shares.check();
        }
        before - shares.free
    }

    #[test]
    fn buffers_are_divided_by_weight_and_everyone_gets_one() {
        for (buffers, some, expected) in [
            (16, &[1][..], &[16][..]),
            (16, &[7, 7, 7], &[5, 5, 5]),
            (16, &[1, 3], &[4, 12]),
            (16, &[100, 1, 1, 1], &[13, 1, 1, 1]),
            (8, &[3, 1, 0, 100], &[1, 1, 0, 6]),
            (2, &[1, 1, 1, 1], &[1, 1, 1, 1]),
            (2, &[100, 1, 1], &[1, 1, 1]),
            (0, &[1, 2], &[1, 1]),
            (256, &[1; 64], &[4; 64]),
        ] {
            assert_eq!(&portions(buffers, &weights(some))[..some.len()], expected, "{buffers} {some:?}");
        }
    }

    #[test]
    fn a_single_vm_may_hold_everything() {
        let mut shares = shares(16, &[1]);
        shares.set_all_waiting(1);
        assert_eq!(grab(&mut shares, 0), 16);
    }

    #[test]
    fn what_nobody_claims_is_lent_out_but_one_buffer_stays_for_each_vm_that_has_none() {
        let mut shares = shares(16, &[1; 4]);
        shares.set_all_waiting(0b0001);
        assert_eq!(grab(&mut shares, 0), 13);
        // The others find theirs, and nothing is lent any more while they want more.
        shares.set_all_waiting(0b1111);
        for slot in 1..4 {
            assert_eq!(grab(&mut shares, slot), 1);
        }
        for slot in 1..4 {
            for _ in 0..3 {
                let buffer = shares.owner.iter().position(|owner| *owner == 0).unwrap();
                assert_eq!(shares.returned(u16::try_from(buffer).unwrap()), Some(0));
                assert!(!shares.may_take(0));
                assert_eq!(grab(&mut shares, slot), 1);
            }
        }
        assert_eq!(shares.of(0), (4, 4));
    }

    #[test]
    fn nothing_is_lent_of_what_a_waiting_vm_could_claim() {
        let mut shares = shares(16, &[1, 3]);
        shares.set_all_waiting(0b11);
        assert_eq!(grab(&mut shares, 0), 4);
        shares.set_waiting(1, false);
        assert_eq!(grab(&mut shares, 0), 11);
        shares.set_waiting(1, true);
        assert_eq!(grab(&mut shares, 1), 1);
    }

    #[test]
    fn many_silent_vms_keep_no_more_than_half_of_few_buffers() {
        let mut shares = shares(8, &[1; 64]);
        shares.set_all_waiting(1);
        assert_eq!(grab(&mut shares, 0), 4);
        shares.set_all_waiting(0b111);
        assert_eq!(grab(&mut shares, 1), 1);
        assert_eq!(grab(&mut shares, 2), 1);
    }

    #[test]
    fn buffers_stay_charged_to_a_vm_that_is_gone() {
        let mut shares = shares(8, &[1, 1]);
        shares.set_all_waiting(0b01);
        assert_eq!(grab(&mut shares, 0), 7);
        shares.set_weights(&weights(&[0, 1]));
        shares.check();
        assert_eq!(grab(&mut shares, 1), 1, "only what is left, until the remote returns the others");
        shares.set_weights(&weights(&[1, 1]));
        shares.check();
        assert_eq!(shares.of(0), (4, 7));
        assert_eq!((shares.returned(0), shares.returned(0), shares.returned(8)), (Some(0), None, None));
        shares.check();
    }
}
