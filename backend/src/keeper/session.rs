//! The memory of a vhost-user session: all that makes it up, and how a fresh daemon is brought to the same state.
//!
//! It follows what the daemon of `vhost-user-backend` and our rings make of each request. The traps:
//!
//! - Acknowledgements are on once the features have been asked for and REPLY_ACK was accepted, not before.
//! - The addresses of rings are the front-end's own, which the daemon translates when they come; what counts later is where
//!   that was in the guest's memory, wherever the front-end may have mapped that since. A ring whose memory is not there
//!   when it is replayed gets its addresses when the memory is back.
//! - RESET_DEVICE and RESET_OWNER make the daemon forget the features without undoing what they have done to the rings.
//! - A ring goes on at its used index, which SET_VRING_ADDR finds in the guest's memory; only the base of a ring that has
//!   not run since it was said is to be said again.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use vhost::vhost_user::message::{FrontendReq, VhostUserProtocolFeatures, VhostUserVirtioFeatures};

use super::message::{Change, Message, RINGS, Region};

/// What a front-end has said so far, as far as it is still true.
#[derive(Debug, Default)]
pub(super) struct Session {
    /// The features that the device has answered with, once they were asked for.
    offered: Option<u64>,
    protocol: Option<u64>,
    features: Option<u64>,
    /// The daemon has forgotten the features since.
    forgotten: Option<Forgotten>,
    is_owned: bool,
    regions: Vec<Shared>,
    rings: [Ring; RINGS],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Forgotten {
    /// By RESET_OWNER alone.
    Owner,
    /// By RESET_DEVICE.
    Device,
}

/// A region of the guest's memory.
#[derive(Debug)]
struct Shared {
    region: Region,
    file: OwnedFd,
}

#[derive(Debug, Default)]
struct Ring {
    num: Option<u32>,
    addresses: Option<Addresses>,
    /// `None` where the used index says it.
    base: Option<u32>,
    kick: Option<OwnedFd>,
    call: Option<OwnedFd>,
    err: Option<OwnedFd>,
    is_enabled: bool,
}

#[derive(Debug)]
struct Addresses {
    flags: u32,
    /// Descriptor table, used ring, available ring in the guest's memory.
    guest: [u64; 3],
    log: u64,
    /// The worker has been told.
    is_told: bool,
}

/// A message that brings the daemon's state back, and its descriptors.
pub(super) type Replayed<'a> = (Message, Vec<BorrowedFd<'a>>);

impl Session {
    /// Whether nothing has been said yet that a fresh daemon does not know.
    pub(super) fn is_fresh(&self) -> bool {
        let Session { offered, protocol, features, forgotten: _, is_owned, regions, rings } = self;
        let is_said = offered.or(*protocol).or(*features).is_some() || *is_owned || !regions.is_empty();
        !is_said && rings.iter().all(Ring::is_fresh)
    }

    /// Regions of memory that are shared now.
    pub(super) fn regions(&self) -> usize {
        self.regions.len()
    }

    /// Whether the worker answers this request.
    pub(super) fn expects_reply(&self, message: &Message, change: &Change) -> bool {
        if message.is_question() {
            return true;
        }
        let protocol = match change {
            // In force for its own acknowledgement already.
            Change::ProtocolFeatures(accepted) => Some(*accepted),
            _ => self.protocol,
        };
        let has = |bits: Option<u64>, bit: u64| bits.unwrap_or(0) & bit != 0;
        message.needs_reply()
            && has(self.offered, VhostUserVirtioFeatures::PROTOCOL_FEATURES.bits())
            && has(protocol, VhostUserProtocolFeatures::REPLY_ACK.bits())
    }

    /// A request has been sent, and answered if it is answered at all. `fds` are those that came with it.
    pub(super) fn apply(&mut self, change: Change, fds: Vec<OwnedFd>, reply: Option<&Message>) {
        let mut fds = fds.into_iter();
        match change {
            Change::Nothing => {}
            Change::AskFeatures => self.offered = reply.and_then(Message::number).or(self.offered),
            _ if reply.is_some_and(|reply| !reply.is_question() && reply.number() != Some(0)) => {
                // Refused: the worker is about to end the connection.
            }
            Change::Features(features) => {
                self.features = Some(features);
                self.forgotten = None;
                if features & VhostUserVirtioFeatures::PROTOCOL_FEATURES.bits() == 0 {
                    self.rings.iter_mut().for_each(|ring| ring.is_enabled = true);
                }
            }
            Change::ProtocolFeatures(features) => self.protocol = Some(features),
            Change::Own => self.is_owned = true,
            Change::Disown => {
                self.is_owned = false;
                self.forgotten = self.forgotten.or(Some(Forgotten::Owner));
            }
            Change::Reset => {
                self.forgotten = Some(Forgotten::Device);
                for ring in &mut self.rings {
                    (ring.is_enabled, ring.kick, ring.call) = (false, None, None);
                }
            }
            Change::Table(regions) => {
                let shared = regions.into_iter().zip(fds).map(|(region, file)| Shared { region, file });
                self.regions = shared.collect();
            }
            Change::Add(region) => self.regions.extend(fds.next().map(|file| Shared { region, file })),
            Change::Remove(Region { guest, .. }) => {
                self.regions.retain(|shared| shared.region.guest != guest);
            }
            Change::Num { ring, num } => self.rings[ring].num = Some(num),
            Change::Addresses { ring, flags, user, log } => {
                let guest = user.map(|address| self.to_guest(address));
                if let [Some(descriptors), Some(used), Some(avail)] = guest {
                    let guest = [descriptors, used, avail];
                    self.rings[ring].addresses = Some(Addresses { flags, guest, log, is_told: true });
                    self.rings[ring].base = None;
                }
            }
            Change::Base { ring, base } => self.rings[ring].base = Some(base),
            Change::Stop { ring } => {
                let ring = &mut self.rings[ring];
                (ring.kick, ring.call) = (None, None);
                ring.base = reply.and_then(Message::pair).map(|(_, base)| base);
            }
            Change::Kick { ring } => self.rings[ring].kick = fds.next(),
            Change::Call { ring } => self.rings[ring].call = fds.next(),
            Change::Err { ring } => self.rings[ring].err = fds.next(),
            Change::Enable { ring, on } => self.rings[ring].is_enabled = on,
        }
        for ring in self.rings.iter_mut().filter(|ring| ring.runs()) {
            ring.base = None;
        }
    }

    /// What brings a fresh daemon to the state of this session, in this order.
    pub(super) fn replay(&mut self) -> Vec<Replayed<'_>> {
        for ring in 0..RINGS {
            let is_told = self.where_now(ring).is_some();
            if let Some(addresses) = &mut self.rings[ring].addresses {
                addresses.is_told = is_told;
            }
        }
        let mut messages = self.features();
        messages.extend(self.memory());
        for (index, ring) in (0..).zip(&self.rings) {
            if let Some(num) = ring.num {
                messages.push((pair(FrontendReq::SET_VRING_NUM, index, num), Vec::new()));
            }
            messages.extend(self.addresses(index).map(|message| (message, Vec::new())));
            if let Some(base) = ring.base {
                messages.push((pair(FrontendReq::SET_VRING_BASE, index, base), Vec::new()));
            }
            for (request, fd) in [
                (FrontendReq::SET_VRING_CALL, &ring.call),
                (FrontendReq::SET_VRING_ERR, &ring.err),
                (FrontendReq::SET_VRING_KICK, &ring.kick),
            ] {
                messages.extend(fd.as_ref().map(|fd| (number(request, index.into()), vec![fd.as_fd()])));
            }
        }
        messages
    }

    /// The addresses of rings whose memory was not there when they were replayed, and is now.
    pub(super) fn overdue(&mut self) -> Vec<Message> {
        let mut messages = Vec::new();
        for index in (0..).take(RINGS) {
            let Some(message) = self.addresses(index) else { continue };
            let addresses = self.rings[usize::from(index)].addresses.as_mut();
            if let Some(addresses) = addresses.filter(|addresses| !addresses.is_told) {
                addresses.is_told = true;
                messages.push(message);
            }
        }
        messages
    }

    fn features(&self) -> Vec<Replayed<'_>> {
        let mut messages = Vec::new();
        let mut say = |message| messages.push((message, Vec::new()));
        if self.offered.is_some() {
            say(empty(FrontendReq::GET_FEATURES));
        }
        say(empty(FrontendReq::GET_PROTOCOL_FEATURES));
        if let Some(protocol) = self.protocol {
            say(number(FrontendReq::SET_PROTOCOL_FEATURES, protocol));
        }
        if let Some(features) = self.features {
            say(number(FrontendReq::SET_FEATURES, features));
            // Without the bit, that has enabled all rings.
            if features & VhostUserVirtioFeatures::PROTOCOL_FEATURES.bits() != 0 {
                for (index, _) in (0..).zip(&self.rings).filter(|(_, ring)| ring.is_enabled) {
                    say(pair(FrontendReq::SET_VRING_ENABLE, index, 1));
                }
            }
            match self.forgotten {
                None => {}
                Some(Forgotten::Owner) => say(empty(FrontendReq::RESET_OWNER)),
                Some(Forgotten::Device) => say(empty(FrontendReq::RESET_DEVICE)),
            }
        }
        if self.is_owned {
            say(empty(FrontendReq::SET_OWNER));
        }
        messages
    }

    fn memory(&self) -> Vec<Replayed<'_>> {
        let has_slots =
            self.protocol.unwrap_or(0) & VhostUserProtocolFeatures::CONFIGURE_MEM_SLOTS.bits() != 0;
        if has_slots {
            let add = |shared: &Shared| {
                let body = [[0].as_slice(), &shared.region.words()].concat();
                Message::new(FrontendReq::ADD_MEM_REG, bytes(&body))
            };
            return self.regions.iter().map(|shared| (add(shared), vec![shared.file.as_fd()])).collect();
        }
        if self.regions.is_empty() {
            return Vec::new();
        }
        // Without slots they have come in one table.
        let mut body = vec![self.regions.len() as u64];
        body.extend(self.regions.iter().flat_map(|shared| shared.region.words()));
        let files = self.regions.iter().map(|shared| shared.file.as_fd()).collect();
        vec![(Message::new(FrontendReq::SET_MEM_TABLE, bytes(&body)), files)]
    }

    /// SET_VRING_ADDR for a ring, where its memory is there.
    fn addresses(&self, index: u8) -> Option<Message> {
        let ring = usize::from(index);
        let Addresses { flags, log, .. } = self.rings[ring].addresses.as_ref()?;
        let [descriptors, used, avail] = self.where_now(ring)?;
        let first = u64::from(index) | u64::from(*flags) << 32;
        let body = bytes(&[first, descriptors, used, avail, *log]);
        Some(Message::new(FrontendReq::SET_VRING_ADDR, body))
    }

    /// Where the front-end sees the parts of a ring now, if it does.
    fn where_now(&self, ring: usize) -> Option<[u64; 3]> {
        let Addresses { guest, .. } = self.rings[ring].addresses.as_ref()?;
        match guest.map(|address| self.to_user(address)) {
            [Some(descriptors), Some(used), Some(avail)] => Some([descriptors, used, avail]),
            _ => None,
        }
    }

    /// As the daemon translates.
    fn to_guest(&self, user: u64) -> Option<u64> {
        self.regions.iter().find_map(|Shared { region, .. }| {
            let at = user.checked_sub(region.user).filter(|at| *at < region.size)?;
            region.guest.checked_add(at)
        })
    }

    /// The address that the daemon translates to this one.
    fn to_user(&self, guest: u64) -> Option<u64> {
        self.regions.iter().find_map(|Shared { region, .. }| {
            let at = guest.checked_sub(region.guest).filter(|at| *at < region.size)?;
            region.user.checked_add(at).filter(|user| self.to_guest(*user) == Some(guest))
        })
    }
}

impl Ring {
    fn is_fresh(&self) -> bool {
        let Ring { num, addresses, base, kick, call, err, is_enabled } = self;
        let fds = kick.as_ref().or(call.as_ref()).or(err.as_ref());
        num.or(*base).is_none() && addresses.is_none() && fds.is_none() && !is_enabled
    }

    /// Whether the worker may be taking what is in it.
    fn runs(&self) -> bool {
        self.is_enabled && self.kick.is_some() && self.addresses.is_some()
    }
}

fn bytes(words: &[u64]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

fn empty(request: FrontendReq) -> Message {
    Message::new(request, Vec::new())
}

fn number(request: FrontendReq, number: u64) -> Message {
    Message::new(request, bytes(&[number]))
}

fn pair(request: FrontendReq, index: u8, value: u32) -> Message {
    number(request, u64::from(index) | u64::from(value) << 32)
}

#[cfg(test)]
mod daemon;
#[cfg(test)]
mod tests;
