//! Addresses: how the endpoints of many VMs share the one 32-bit address space that the remote sees.
//!
//! A guest endpoint `g` of the VM in slot `s`, in that VM's `n`-th session, is host address
//! `s << 24 | n << 20 | g` to the remote. Slot 0 is the identity: a single VM looks to the firmware exactly like a
//! bare-metal Linux. So translation is arithmetic, a trace shows whose message it is, and a late answer to a
//! VM that has rebooted is recognized instead of reaching its successor's endpoint.
//!
//! | host address | whose |
//! |---|---|
//! | `0x00_0000..=0xFF_FFFF` | slot 0, as it stands; 53 is the name service |
//! | `s << 24 \| n << 20 \| g`, s in 1..=126 | slot s, session n, guest address g below 2^20 |
//! | slot 127 and above | nobody's by arithmetic |
//!
//! Guest address 53 is nobody's in any slot, since it is the name service on either side. The answers to a guest that
//! could send from there would be taken for announcements, and a remote that could write there would tell the guest of
//! services past the host.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::NAME_SERVICE_ADDRESS;

/// Place of a VM in the address space of a remote, 0..=126.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "u8", into = "u8")]
pub struct Slot(u8);

/// A number that is no slot's.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("expected the number of a slot, 0 to 126, found {found}")]
pub struct NoSlot {
    /// The number.
    pub found: u8,
}

impl TryFrom<u8> for Slot {
    type Error = NoSlot;

    fn try_from(number: u8) -> Result<Self, NoSlot> {
        Slot::new(number).ok_or(NoSlot { found: number })
    }
}

impl From<Slot> for u8 {
    fn from(slot: Slot) -> Self {
        slot.0
    }
}

/// How often a VM's driver has come up, modulo 16. A late answer carries the old number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(from = "u8", into = "u8")]
pub struct Session(u8);

impl From<u8> for Session {
    fn from(number: u8) -> Self {
        Session::new(number)
    }
}

impl From<Session> for u8 {
    fn from(session: Session) -> Self {
        session.0
    }
}

/// Where a message from the remote goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostAddress {
    /// The name service of the host.
    NameService,
    /// An endpoint of the VM in this slot.
    Guest {
        /// The VM.
        slot: Slot,
        /// Its session at the time the address was handed out. Always zero in slot 0, which has none.
        session: Session,
        /// The endpoint's address as the guest knows it.
        address: u32,
    },
    /// No VM can have this address.
    Nobody,
}

/// Bits of a guest address in a host address.
const ADDRESS_BITS: u32 = 20;
/// Bits below the slot: session and guest address. All of them are the guest's own in slot 0.
const SLOT_SHIFT: u32 = 24;
/// Number of sessions that an address tells apart.
const SESSIONS: u8 = 16;

impl Slot {
    /// The slot without translation.
    pub const ZERO: Slot = Slot(0);
    /// Number of slots: 127, since slot 127 is kept for addresses that arithmetic cannot give.
    pub const COUNT: u8 = 127;

    /// The slot of this number; `None` from 127 on.
    pub fn new(number: u8) -> Option<Self> {
        (number < Self::COUNT).then_some(Slot(number))
    }

    /// The slot's number, 0..=126.
    pub fn number(self) -> u8 {
        self.0
    }
}

impl Session {
    /// The session of this number, taken modulo 16.
    pub fn new(number: u8) -> Self {
        Session(number % SESSIONS)
    }

    /// The session's number, 0..=15.
    pub fn number(self) -> u8 {
        self.0
    }

    /// The session after this one.
    #[must_use]
    pub fn next(self) -> Self {
        Session((self.0 + 1) % SESSIONS)
    }
}

/// The host address of guest endpoint `address`, or `None` where there is none: for 53, which is no endpoint, and from
/// 2^20 on (in slot 0, from 2^24 on), where arithmetic has no room.
pub fn to_host(slot: Slot, session: Session, address: u32) -> Option<u32> {
    if address == NAME_SERVICE_ADDRESS {
        return None;
    }
    if slot == Slot::ZERO {
        return (address < 1 << SLOT_SHIFT).then_some(address);
    }
    (address < 1 << ADDRESS_BITS)
        .then(|| u32::from(slot.0) << SLOT_SHIFT | u32::from(session.0) << ADDRESS_BITS | address)
}

/// Whose a host address is. Inverse of [`to_host`].
pub fn from_host(host: u32) -> HostAddress {
    if host == NAME_SERVICE_ADDRESS {
        return HostAddress::NameService;
    }
    let [slot, high, middle, low] = host.to_be_bytes();
    match Slot::new(slot) {
        Some(Slot::ZERO) => {
            HostAddress::Guest { slot: Slot::ZERO, session: Session::default(), address: host }
        }
        Some(slot) => match u32::from_be_bytes([0, high & 0x0F, middle, low]) {
            NAME_SERVICE_ADDRESS => HostAddress::Nobody,
            address => HostAddress::Guest { slot, session: Session(high >> 4), address },
        },
        None => HostAddress::Nobody,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::rpmsg::ANY_ADDRESS;

    proptest! {
        #[test]
        fn what_goes_to_the_remote_comes_back_to_the_same_endpoint(slot in 0..Slot::COUNT, session in 0u8..16, address: u32) {
            let (slot, session) = (Slot::new(slot).unwrap(), Session::new(session));
            if let Some(host) = to_host(slot, session, address) {
                let session = if slot == Slot::ZERO { Session::default() } else { session };
                prop_assert_eq!(from_host(host), HostAddress::Guest { slot, session, address });
            }
        }

        #[test]
        fn every_host_address_belongs_to_at_most_one_endpoint(host: u32) {
            if let HostAddress::Guest { slot, session, address } = from_host(host) {
                prop_assert_eq!(to_host(slot, session, address), Some(host));
            }
        }
    }

    /// Proof by trying: slot and session take all their values, the guest's address those at which anything changes, in
    /// every bit.
    #[test]
    fn every_host_address_and_every_endpoint_belong_together_or_to_nobody() {
        let bits = (0..32).flat_map(|bit| [1_u32 << bit, (1 << bit) - 1, (1 << bit) + 1, !(1 << bit)]);
        let addresses: Vec<u32> = bits.chain(50..58).chain([ANY_ADDRESS]).collect();
        for high in 0..=0xFFF_u32 {
            for low in addresses.iter().map(|address| address & 0xF_FFFF) {
                let host = high << ADDRESS_BITS | low;
                match from_host(host) {
                    HostAddress::Guest { slot, session, address } => {
                        assert_eq!(to_host(slot, session, address), Some(host));
                    }
                    HostAddress::NameService => assert_eq!(host, NAME_SERVICE_ADDRESS),
                    HostAddress::Nobody => assert!(high >> 4 >= 127 || low == NAME_SERVICE_ADDRESS),
                }
            }
        }
        for slot in (0..Slot::COUNT).filter_map(Slot::new) {
            for session in (0..SESSIONS).map(Session) {
                for address in addresses.iter().copied() {
                    let its_own = if slot == Slot::ZERO { Session::default() } else { session };
                    let belongs =
                        |host| from_host(host) == HostAddress::Guest { slot, session: its_own, address };
                    assert!(to_host(slot, session, address).is_none_or(belongs), "{address:#x}");
                }
            }
        }
    }

    #[test]
    fn slot_zero_is_the_identity() {
        assert_eq!(to_host(Slot::ZERO, Session::new(3), 1024), Some(1024));
        assert_eq!(to_host(Slot::ZERO, Session::new(3), 0xFF_FFFF), Some(0xFF_FFFF));
    }

    #[test]
    fn a_guest_cannot_reach_into_another_slot() {
        assert_eq!(to_host(Slot::ZERO, Session::default(), 1 << 24), None);
        assert_eq!(to_host(Slot::new(5).unwrap(), Session::default(), 1 << 20), None);
    }

    #[test]
    fn the_name_service_of_a_guest_is_no_endpoint() {
        for slot in [0, 1, 126].map(|number| Slot::new(number).unwrap()) {
            assert_eq!(to_host(slot, Session::default(), NAME_SERVICE_ADDRESS), None);
        }
        assert_eq!(from_host(NAME_SERVICE_ADDRESS), HostAddress::NameService);
        assert_eq!(from_host(1 << 24 | 1 << 20 | NAME_SERVICE_ADDRESS), HostAddress::Nobody);
    }

    #[test]
    fn a_trace_shows_slot_session_and_address() {
        assert_eq!(to_host(Slot::new(0x12).unwrap(), Session::new(3), 0x400), Some(0x1230_0400));
    }

    #[test]
    fn slot_127_and_above_are_nobodys() {
        assert_eq!(Slot::new(127), None);
        assert_eq!(from_host(127 << 24), HostAddress::Nobody);
        assert_eq!(from_host(u32::MAX), HostAddress::Nobody);
    }
}
