//! The name service: how a side tells the other which services it has, and at which addresses.

use std::fmt;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::{ANNOUNCEMENT_LEN, ANY_ADDRESS, Header, NAME_SERVICE_ADDRESS};

/// Bytes of a service name, its terminating NUL included (`RPMSG_NAME_SIZE`).
const NAME_SIZE: usize = 32;

/// `RPMSG_NS_DESTROY`: the service goes away. Without the bit it is created.
const FLAG_DESTROY: u32 = 1;

/// A service name: 1 to 31 bytes, padded with NUL to 32.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "[u8; NAME_SIZE]", into = "[u8; NAME_SIZE]")]
pub struct ServiceName([u8; NAME_SIZE]);

/// Bytes that are no service name.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("expected a service name of 1 to 31 bytes and a NUL, found other bytes")]
pub struct NoServiceName;

impl TryFrom<[u8; NAME_SIZE]> for ServiceName {
    type Error = NoServiceName;

    fn try_from(bytes: [u8; NAME_SIZE]) -> Result<Self, NoServiceName> {
        ServiceName::from_wire(bytes).ok_or(NoServiceName)
    }
}

impl From<ServiceName> for [u8; NAME_SIZE] {
    fn from(name: ServiceName) -> Self {
        name.0
    }
}

/// Why a text is no service name.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("service name {name:?} has {found} bytes; 1 to 31 bytes without NUL are allowed")]
pub struct ServiceNameError {
    /// The text in question.
    pub name: String,
    /// Its length in bytes.
    pub found: usize,
}

impl ServiceName {
    /// Makes a service name of a text.
    ///
    /// # Errors
    /// An empty text, one of more than 31 bytes, or one that contains a NUL.
    pub fn new(name: &str) -> Result<Self, ServiceNameError> {
        let bytes = name.as_bytes();
        if bytes.is_empty() || bytes.len() >= NAME_SIZE || bytes.contains(&0) {
            return Err(ServiceNameError { name: name.to_owned(), found: bytes.len() });
        }
        let mut padded = [0; NAME_SIZE];
        padded[..bytes.len()].copy_from_slice(bytes);
        Ok(ServiceName(padded))
    }

    /// Takes a name off the wire. Whatever follows the first NUL is cleared, so that equal names are equal
    /// bytes. `None` if there is no name before the NUL, or no NUL.
    fn from_wire(bytes: [u8; NAME_SIZE]) -> Option<Self> {
        let end = bytes.iter().position(|byte| *byte == 0)?;
        let mut padded = [0; NAME_SIZE];
        padded[..end].copy_from_slice(&bytes[..end]);
        (end > 0).then_some(ServiceName(padded))
    }

    /// The bytes before the terminating NUL.
    pub fn as_bytes(&self) -> &[u8] {
        let end = self.0.iter().position(|byte| *byte == 0).unwrap_or(NAME_SIZE);
        &self.0[..end]
    }
}

impl fmt::Display for ServiceName {
    /// Prints the name with everything that is not printable ASCII escaped: names come from the remote and from
    /// guests, and end up in logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.as_bytes().escape_ascii())
    }
}

impl fmt::Debug for ServiceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}

/// Whether a service appears or disappears.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AnnouncementKind {
    /// The service is there from now on.
    Create,
    /// The service is gone.
    Destroy,
}

/// A name service message, `struct rpmsg_ns_msg` of Linux `include/linux/rpmsg/ns.h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Announcement {
    /// Name of the service.
    pub name: ServiceName,
    /// Address of its endpoint on the announcing side.
    pub addr: u32,
    /// Whether it appears or disappears.
    pub kind: AnnouncementKind,
}

/// Why a message to the name service is no announcement.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum AnnouncementError {
    /// Linux drops everything that is not exactly this long, and so do we.
    #[error("name service message of {found} bytes, expected exactly {ANNOUNCEMENT_LEN}")]
    Length {
        /// Length found, in bytes.
        found: usize,
    },
    /// The name is empty or not terminated within its 32 bytes.
    #[error("name service message whose name is empty or lacks the NUL within 32 bytes")]
    Name,
    /// "Any address" is not where a service can be.
    #[error("name service message for address {ANY_ADDRESS:#x} (any), expected an endpoint's own address")]
    Address,
}

impl Announcement {
    /// Reads an announcement from a private copy of a message's payload.
    ///
    /// # Errors
    /// A payload that is not 40 bytes long, a name that is empty or not terminated, "any" as address. Unknown
    /// flag bits are ignored, as Linux does.
    pub fn from_bytes(payload: &[u8]) -> Result<Self, AnnouncementError> {
        let bytes: &[u8; ANNOUNCEMENT_LEN] = payload
            .try_into()
            .map_err(|_: std::array::TryFromSliceError| AnnouncementError::Length { found: payload.len() })?;
        let word = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        let mut name = [0; NAME_SIZE];
        name.copy_from_slice(&bytes[..NAME_SIZE]);
        let name = ServiceName::from_wire(name).ok_or(AnnouncementError::Name)?;
        let addr = word(NAME_SIZE);
        if addr == ANY_ADDRESS {
            return Err(AnnouncementError::Address);
        }
        let destroy = word(NAME_SIZE + 4) & FLAG_DESTROY != 0;
        let kind = if destroy { AnnouncementKind::Destroy } else { AnnouncementKind::Create };
        Ok(Announcement { name, addr, kind })
    }

    /// The header of the message that carries this announcement: from the service itself, to the name service.
    pub fn header(self) -> Header {
        Header { src: self.addr, dst: NAME_SERVICE_ADDRESS, reserved: 0, len: 40, flags: 0 }
    }

    /// The announcement as it stands on the wire.
    pub fn to_bytes(self) -> [u8; ANNOUNCEMENT_LEN] {
        let flags = match self.kind {
            AnnouncementKind::Create => 0,
            AnnouncementKind::Destroy => FLAG_DESTROY,
        };
        let mut bytes = [0; ANNOUNCEMENT_LEN];
        bytes[..NAME_SIZE].copy_from_slice(&self.name.0);
        bytes[NAME_SIZE..NAME_SIZE + 4].copy_from_slice(&self.addr.to_le_bytes());
        bytes[NAME_SIZE + 4..].copy_from_slice(&flags.to_le_bytes());
        bytes
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn any_announcement() -> impl Strategy<Value = Announcement> {
        ("[ -~]{1,31}", 0..ANY_ADDRESS, any::<bool>()).prop_map(|(name, addr, destroy)| Announcement {
            name: ServiceName::new(&name).unwrap(),
            addr,
            kind: if destroy { AnnouncementKind::Destroy } else { AnnouncementKind::Create },
        })
    }

    proptest! {
        #[test]
        fn every_announcement_survives_the_wire(announcement in any_announcement()) {
            prop_assert_eq!(Announcement::from_bytes(&announcement.to_bytes()), Ok(announcement));
        }

        #[test]
        fn whatever_is_accepted_is_written_with_a_terminated_name(payload in proptest::collection::vec(any::<u8>(), 0..64)) {
            if let Ok(announcement) = Announcement::from_bytes(&payload) {
                prop_assert_eq!(payload.len(), ANNOUNCEMENT_LEN);
                let bytes = announcement.to_bytes();
                prop_assert_eq!(bytes[31], 0);
                prop_assert_eq!(Announcement::from_bytes(&bytes), Ok(announcement));
            }
        }
    }

    #[test]
    fn an_announcement_has_the_layout_of_struct_rpmsg_ns_msg() {
        let announcement = Announcement {
            name: ServiceName::new("rpmsg-raw").unwrap(),
            addr: 0x400,
            kind: AnnouncementKind::Destroy,
        };
        let bytes = announcement.to_bytes();
        assert_eq!(&bytes[..10], b"rpmsg-raw\0");
        assert_eq!(&bytes[32..], [0x00, 0x04, 0, 0, 1, 0, 0, 0]);
    }

    #[test]
    fn names_that_differ_only_behind_the_nul_are_equal() {
        let mut bytes = [0; ANNOUNCEMENT_LEN];
        bytes[0] = b'a';
        let plain = Announcement::from_bytes(&bytes);
        bytes[5] = b'x';
        assert_eq!(Announcement::from_bytes(&bytes), plain);
    }

    #[test]
    fn malformed_announcements_are_refused_with_the_reason() {
        let good =
            Announcement { name: ServiceName::new("a").unwrap(), addr: 1, kind: AnnouncementKind::Create }
                .to_bytes();
        assert_eq!(Announcement::from_bytes(&good[..39]), Err(AnnouncementError::Length { found: 39 }));
        let mut unterminated = good;
        unterminated[..32].fill(b'x');
        assert_eq!(Announcement::from_bytes(&unterminated), Err(AnnouncementError::Name));
        let mut nameless = good;
        nameless[0] = 0;
        assert_eq!(Announcement::from_bytes(&nameless), Err(AnnouncementError::Name));
        let mut nowhere = good;
        nowhere[32..36].fill(0xFF);
        assert_eq!(Announcement::from_bytes(&nowhere), Err(AnnouncementError::Address));
    }

    #[test]
    fn a_name_in_a_log_line_cannot_break_the_line() {
        let mut bytes = [0; ANNOUNCEMENT_LEN];
        bytes[..4].copy_from_slice(b"a\n\x1bb");
        assert_eq!(Announcement::from_bytes(&bytes).unwrap().name.to_string(), r"a\n\x1bb");
    }
}
