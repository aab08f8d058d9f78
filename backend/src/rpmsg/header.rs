//! The 16-byte header in front of every message.

use thiserror::Error;

use super::{HEADER_LEN, MAX_PAYLOAD};

/// Message header, `struct rpmsg_hdr` of Linux `drivers/rpmsg/virtio_rpmsg_bus.c`. Little-endian on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Address of the sending endpoint.
    pub src: u32,
    /// Address of the receiving endpoint.
    pub dst: u32,
    /// Free for the implementation: OpenAMP keeps a buffer index and a hold count here.
    pub reserved: u32,
    /// Length of the payload that follows, in bytes.
    pub len: u16,
    /// Message flags; no flag is defined today.
    pub flags: u16,
}

/// Why the bytes at the start of a message are no usable header.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum HeaderError {
    /// The message ends before its header does.
    #[error("message of {found} bytes is shorter than the rpmsg header of {HEADER_LEN} bytes")]
    Truncated {
        /// Bytes that are there.
        found: usize,
    },
    /// The header promises more payload than the message holds.
    #[error("header says {len} bytes of payload where only {room} are there")]
    PayloadBeyondMessage {
        /// Payload length the header claims.
        len: u16,
        /// Payload bytes that are really there.
        room: usize,
    },
    /// The payload is longer than any rpmsg buffer.
    #[error("header says {len} bytes of payload, more than the {MAX_PAYLOAD} of an rpmsg buffer")]
    PayloadTooLong {
        /// Payload length the header claims.
        len: u16,
    },
}

impl Header {
    /// Reads a header from a private copy of its bytes.
    #[inline]
    #[expect(
        clippy::cast_possible_truncation,
        reason = "each takes its part of a word, which is what shifts are best at"
    )]
    pub fn from_bytes(bytes: &[u8; HEADER_LEN]) -> Self {
        let [low, high] = bytes.as_chunks::<8>().0 else { unreachable!("it is two words") };
        let (low, high) = (u64::from_le_bytes(*low), u64::from_le_bytes(*high));
        Header {
            src: low as u32,
            dst: (low >> 32) as u32,
            reserved: high as u32,
            len: (high >> 32) as u16,
            flags: (high >> 48) as u16,
        }
    }

    /// The header as it stands on the wire.
    #[inline]
    pub fn to_bytes(self) -> [u8; HEADER_LEN] {
        let low = u64::from(self.src) | u64::from(self.dst) << 32;
        let high = u64::from(self.reserved) | u64::from(self.len) << 32 | u64::from(self.flags) << 48;
        (u128::from(low) | u128::from(high) << 64).to_le_bytes()
    }

    /// Payload length in bytes.
    #[inline]
    pub fn payload_len(self) -> usize {
        usize::from(self.len)
    }

    /// Length of the whole message in bytes, header included.
    #[inline]
    pub fn message_len(self) -> u32 {
        u32::from(self.len) + 16
    }

    /// Checks the payload length against a message of `message_len` bytes, header included.
    ///
    /// # Errors
    /// A message that is shorter than the header, a payload that does not fit into what is there, or one
    /// longer than [`MAX_PAYLOAD`].
    #[inline]
    pub fn check(self, message_len: usize) -> Result<(), HeaderError> {
        let Some(room) = message_len.checked_sub(HEADER_LEN) else {
            return Err(HeaderError::Truncated { found: message_len });
        };
        if self.payload_len() > room {
            return Err(HeaderError::PayloadBeyondMessage { len: self.len, room });
        }
        if self.payload_len() > MAX_PAYLOAD {
            return Err(HeaderError::PayloadTooLong { len: self.len });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_header_has_the_layout_of_struct_rpmsg_hdr() {
        let header =
            Header { src: 0x0403_0201, dst: 0x0807_0605, reserved: 0x0C0B_0A09, len: 0x0E0D, flags: 0x100F };
        let bytes: [u8; HEADER_LEN] = std::array::from_fn(|i| u8::try_from(i + 1).unwrap());
        assert_eq!(header.to_bytes(), bytes);
        assert_eq!(Header::from_bytes(&bytes), header);
    }

    proptest! {
        #[test]
        fn every_header_survives_the_wire(bytes: [u8; HEADER_LEN]) {
            prop_assert_eq!(Header::from_bytes(&bytes).to_bytes(), bytes);
        }

    }

    /// Proof by trying: nothing else of the header is looked at, and beyond twice the buffer nothing changes any more.
    #[test]
    fn every_length_that_passes_lies_within_every_message_and_the_buffer() {
        let beyond = [2 * HEADER_LEN + 2 * MAX_PAYLOAD, usize::from(u16::MAX) + HEADER_LEN, usize::MAX];
        for message_len in (0..2 * (HEADER_LEN + MAX_PAYLOAD)).chain(beyond) {
            for len in 0..=u16::MAX {
                let header = Header { src: 0, dst: 0, reserved: 0, len, flags: 0 };
                let fits = usize::from(len) <= MAX_PAYLOAD
                    && message_len.checked_sub(HEADER_LEN).is_some_and(|room| usize::from(len) <= room);
                assert_eq!(header.check(message_len).is_ok(), fits, "{len} of {message_len}");
            }
        }
    }

    #[test]
    fn the_error_names_what_is_wrong() {
        let header = Header { src: 1, dst: 2, reserved: 0, len: 497, flags: 0 };
        assert_eq!(header.check(15), Err(HeaderError::Truncated { found: 15 }));
        assert_eq!(header.check(512), Err(HeaderError::PayloadBeyondMessage { len: 497, room: 496 }));
        assert_eq!(header.check(1024), Err(HeaderError::PayloadTooLong { len: 497 }));
    }
}
