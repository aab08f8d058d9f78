//! What the daemon of `vhost-user-backend` 0.24 with our rings makes of each message, without files and rings.

use std::os::fd::AsFd;

use super::super::message::{Change, Message, RINGS, Region};

const PROTOCOL_FEATURES: u64 = 1 << 30;
/// What our device offers.
pub(super) const FEATURES: u64 = PROTOCOL_FEATURES | 1 << 32 | 1;
const REPLY_ACK: u64 = 1 << 3;
const RESET_DEVICE: u64 = 1 << 13;
const SLOTS: u64 = 1 << 15;
/// MQ, REPLY_ACK, CONFIG, RESET_DEVICE, CONFIGURE_MEM_SLOTS.
pub(super) const PROTOCOL: u64 = 1 | REPLY_ACK | 1 << 9 | RESET_DEVICE | SLOTS;

/// A descriptor by the file behind it.
pub(super) type Id = u64;

pub(super) fn id(fd: impl AsFd) -> Id {
    rustix::fs::fstat(fd).unwrap().st_ino
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Daemon {
    offered: u64,
    accepted: u64,
    protocol: u64,
    owned: bool,
    features: u64,
    /// What the rings know of the features, which no reset takes away.
    ring_features: u64,
    pub(super) regions: Vec<(Region, Id)>,
    pub(super) rings: [Ring; RINGS],
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Ring {
    num: u32,
    guest: Option<[u64; 3]>,
    next: u32,
    enabled: bool,
    ready: bool,
    kick: Option<Id>,
    call: Option<Id>,
    err: Option<Id>,
}

/// Used indexes, which are in the guest's memory and outlive any daemon.
pub(super) type Used = [u32; RINGS];

/// It closes the connection.
#[derive(Debug)]
pub(super) struct Closed;

impl Daemon {
    /// Whether the ring's owner is working on it.
    pub(super) fn is_live(&self, ring: usize) -> bool {
        let Ring { guest, enabled, ready, kick, .. } = &self.rings[ring];
        let is_there = |guest: [u64; 3]| guest.iter().all(|at| self.holds(*at));
        *enabled && *ready && kick.is_some() && guest.is_some_and(is_there)
    }

    /// Whether all rings whose addresses were said have their memory.
    pub(super) fn has_its_memory(&self) -> bool {
        self.rings.iter().filter_map(|ring| ring.guest).flatten().all(|guest| self.holds(guest))
    }

    fn holds(&self, guest: u64) -> bool {
        self.regions.iter().any(|(region, _)| (region.guest..region.guest + region.size).contains(&guest))
    }

    fn translate(&self, user: u64) -> Option<u64> {
        let inside = |region: &Region| (region.user..region.user + region.size).contains(&user);
        let (region, _) = self.regions.iter().find(|(region, _)| inside(region))?;
        Some(user - region.user + region.guest)
    }

    /// Carries out a message. Returns the number in the reply, if there is one.
    pub(super) fn take(&mut self, message: &Message, fds: &[Id], used: &Used) -> Result<Option<u64>, Closed> {
        let live: Vec<_> = (0..RINGS).map(|ring| self.is_live(ring)).collect();
        let change = message.change().map_err(|_| Closed)?;
        let answer = self.carry_out(&change, message.is_question(), fds, used, &live)?;
        for ring in 0..RINGS {
            // Whoever lets go of a ring says where it stopped.
            if live[ring] && !self.is_live(ring) {
                self.rings[ring].next = used[ring];
            }
        }
        let acknowledges = self.offered & PROTOCOL_FEATURES != 0 && self.protocol & REPLY_ACK != 0;
        Ok(answer.or((acknowledges && message.needs_reply()).then_some(0)))
    }

    fn carry_out(
        &mut self,
        change: &Change,
        is_question: bool,
        fds: &[Id],
        used: &Used,
        live: &[bool],
    ) -> Result<Option<u64>, Closed> {
        let needs = |bit: u64, bits: u64| if bits & bit == 0 { Err(Closed) } else { Ok(()) };
        match change {
            Change::Nothing if is_question => return Ok(Some(PROTOCOL)),
            Change::Nothing => {}
            Change::AskFeatures => {
                self.offered = FEATURES;
                return Ok(Some(FEATURES));
            }
            Change::Features(features) => {
                needs(u64::MAX, u64::from(features & !FEATURES == 0))?;
                (self.accepted, self.features, self.ring_features) = (*features, *features, *features);
                if features & PROTOCOL_FEATURES == 0 {
                    self.rings.iter_mut().for_each(|ring| ring.enabled = true);
                }
            }
            Change::ProtocolFeatures(features) => self.protocol = *features,
            Change::Own if self.owned => return Err(Closed),
            Change::Own => self.owned = true,
            Change::Disown => (self.owned, self.features) = (false, 0),
            Change::Reset => {
                needs(RESET_DEVICE, self.protocol)?;
                self.features = 0;
                for ring in &mut self.rings {
                    (ring.enabled, ring.ready, ring.kick, ring.call) = (false, false, None, None);
                }
            }
            Change::Table(regions) => {
                self.regions = regions.iter().copied().zip(fds.iter().copied()).collect();
            }
            Change::Add(region) => {
                needs(SLOTS, self.protocol)?;
                if self.holds(region.guest) {
                    return Err(Closed);
                }
                self.regions.push((*region, fds[0]));
            }
            Change::Remove(region) => {
                needs(SLOTS, self.protocol)?;
                let at = self.regions.iter().position(|(known, _)| known.guest == region.guest);
                self.regions.remove(at.ok_or(Closed)?);
            }
            Change::Num { ring, num } => self.rings[*ring].num = *num,
            Change::Addresses { ring, user, .. } => {
                let guest: Option<Vec<_>> = user.iter().map(|at| self.translate(*at)).collect();
                self.rings[*ring].guest = Some(guest.ok_or(Closed)?.try_into().unwrap());
                self.rings[*ring].next = used[*ring];
            }
            Change::Base { ring, base } => self.rings[*ring].next = *base,
            Change::Stop { ring: index } => {
                let next = if live[*index] { used[*index] } else { self.rings[*index].next };
                let ring = &mut self.rings[*index];
                (ring.ready, ring.kick, ring.call, ring.next) = (false, None, None, next);
                return Ok(Some(u64::try_from(*index).unwrap() | u64::from(next) << 32));
            }
            Change::Kick { ring } => {
                let ring = &mut self.rings[*ring];
                ring.kick = fds.first().copied();
                ring.ready |= ring.kick.is_some();
            }
            Change::Call { ring } => self.rings[*ring].call = fds.first().copied(),
            Change::Err { ring } => self.rings[*ring].err = fds.first().copied(),
            Change::Enable { ring, on } => {
                needs(PROTOCOL_FEATURES, self.accepted & self.features)?;
                self.rings[*ring].enabled = *on;
            }
        }
        Ok(None)
    }

    /// What can be seen of it from outside: where a ring is that is worked on, its memory says; and a ring without a kick
    /// waits for one, ready or not.
    pub(super) fn seen(&self) -> Self {
        let mut seen = self.clone();
        for (index, ring) in seen.rings.iter_mut().enumerate() {
            if self.is_live(index) {
                ring.next = 0;
            }
            ring.ready &= ring.kick.is_some();
        }
        // Which of them came first does not matter.
        seen.regions.sort_by_key(|(region, _)| region.guest);
        seen
    }
}
