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
    pub fn from_bytes(bytes: &[u8; HEADER_LEN]) -> Self {
        let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = *bytes;
        Header {
            src: u32::from_le_bytes([a, b, c, d]),
            dst: u32::from_le_bytes([e, f, g, h]),
            reserved: u32::from_le_bytes([i, j, k, l]),
            len: u16::from_le_bytes([m, n]),
            flags: u16::from_le_bytes([o, p]),
        }
    }

    /// The header as it stands on the wire.
    pub fn to_bytes(self) -> [u8; HEADER_LEN] {
        let mut bytes = [0; HEADER_LEN];
        bytes[0..4].copy_from_slice(&self.src.to_le_bytes());
        bytes[4..8].copy_from_slice(&self.dst.to_le_bytes());
        bytes[8..12].copy_from_slice(&self.reserved.to_le_bytes());
        bytes[12..14].copy_from_slice(&self.len.to_le_bytes());
        bytes[14..16].copy_from_slice(&self.flags.to_le_bytes());
        bytes
    }

    /// Payload length in bytes.
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
