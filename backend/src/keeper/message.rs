//! Messages of vhost-user, as far as the keeper has to understand them (QEMU `docs/interop/vhost-user.rst`).
//!
//! The requests are those that the device offers (`guest::device`); a front-end that sends another one breaks the protocol,
//! and so does one whose message has another shape than the `vhost` crate takes. What the values in it mean is for the
//! worker to judge.

use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;

use thiserror::Error;
use vhost::vhost_user::message::{FrontendReq, MAX_MSG_SIZE, VhostUserHeaderFlag};

use super::wire::{self, MAX_FDS};

/// Number of vrings of the device.
pub(super) const RINGS: usize = 2;
/// Size of the header in bytes: request, flags, size.
const HEADER: usize = 12;
/// The version in the flags of the header.
const VERSION: u32 = 1;
/// In the body of SET_VRING_CALL, KICK and ERR: there is no descriptor.
const NO_FD: u64 = 0x100;
/// Size of a memory region in a body, in bytes.
const REGION: usize = 32;
/// What goes before the payload of GET_CONFIG and SET_CONFIG, in bytes.
const CONFIG: usize = 12;

/// Why a connection of a front-end cannot go on.
#[derive(Debug, Error)]
pub(super) enum MessageError {
    /// The system says no.
    #[error("cannot receive a message")]
    Receive(#[source] io::Error),
    /// It ended within a message.
    #[error("expected {expected} bytes of a message, found the end of the connection")]
    BrokenOff { expected: usize },
    /// A header that is none.
    #[error("expected a vhost-user header, found request {request}, flags {flags:#x}, size {size}")]
    Header { request: u32, flags: u32, size: u32 },
    /// Too many descriptors.
    #[error("expected at most {MAX_FDS} file descriptors with a message, found more")]
    TooManyFds,
    /// A request that the device does not offer, or one of a wrong shape.
    #[error(
        "expected a request that the device offers, as the protocol has it; found {request:?} of {size} bytes with {fds} file descriptors"
    )]
    Request { request: FrontendReq, size: usize, fds: usize },
}

/// A message with the descriptors that have come with it.
#[derive(Debug)]
pub(super) struct Message {
    pub(super) request: FrontendReq,
    flags: u32,
    pub(super) body: Vec<u8>,
    pub(super) fds: Vec<OwnedFd>,
}

/// A region of guest memory, as messages tell of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Region {
    pub(super) guest: u64,
    pub(super) size: u64,
    pub(super) user: u64,
    pub(super) offset: u64,
}

/// What a request does, apart from its descriptors.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// A question, or something that leaves no trace in the device.
    Nothing,
    AskFeatures,
    Features(u64),
    ProtocolFeatures(u64),
    Own,
    Disown,
    Reset,
    /// A descriptor each.
    Table(Vec<Region>),
    /// With a descriptor.
    Add(Region),
    Remove(Region),
    Num {
        ring: usize,
        num: u32,
    },
    /// Descriptor table, used ring, available ring, as the front-end sees them, and the address of the log.
    Addresses {
        ring: usize,
        flags: u32,
        user: [u64; 3],
        log: u64,
    },
    Base {
        ring: usize,
        base: u32,
    },
    /// GET_VRING_BASE.
    Stop {
        ring: usize,
    },
    /// These three with a descriptor or without.
    Kick {
        ring: usize,
    },
    Call {
        ring: usize,
    },
    Err {
        ring: usize,
    },
    Enable {
        ring: usize,
        on: bool,
    },
}

impl Message {
    /// A message of the keeper's own, to which no acknowledgement is wanted.
    pub(super) fn new(request: FrontendReq, body: Vec<u8>) -> Self {
        Message { request, flags: VERSION, body, fds: Vec::new() }
    }

    #[cfg(test)]
    pub(super) fn flags_for_test(&mut self, is_reply: bool, needs_reply: bool) {
        let flag = |on: bool, flag: VhostUserHeaderFlag| if on { flag.bits() } else { 0 };
        self.flags = VERSION
            | flag(is_reply, VhostUserHeaderFlag::REPLY)
            | flag(needs_reply, VhostUserHeaderFlag::NEED_REPLY);
    }

    /// The next message. `None`: the connection has ended, and not within a message.
    pub(super) fn receive(mut stream: &UnixStream) -> Result<Option<Self>, MessageError> {
        let mut header = [0; HEADER];
        let first = match wire::receive(stream, &mut header) {
            Ok(first) => first,
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Ok(None),
            Err(error) => return Err(MessageError::Receive(error)),
        };
        if first.is_cut {
            return Err(MessageError::TooManyFds);
        }
        if first.count == 0 {
            return Ok(None);
        }
        let mut rest = |bytes: &mut [u8]| {
            let expected = bytes.len();
            stream.read_exact(bytes).map_err(|error| match error.kind() {
                io::ErrorKind::UnexpectedEof => MessageError::BrokenOff { expected },
                _ => MessageError::Receive(error),
            })
        };
        rest(&mut header[first.count..])?;
        let word =
            |at: usize| u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
        let (request, flags, size) = (word(0), word(4), word(8));
        let wrong = || MessageError::Header { request, flags, size };
        let known = FrontendReq::try_from(request).map_err(|_| wrong())?;
        let len = usize::try_from(size).map_err(|_| wrong())?;
        let is_reserved = flags & VhostUserHeaderFlag::RESERVED_BITS.bits() != 0;
        if len > MAX_MSG_SIZE || flags & VhostUserHeaderFlag::VERSION.bits() != VERSION || is_reserved {
            return Err(wrong());
        }
        let mut body = vec![0; len];
        rest(&mut body)?;
        Ok(Some(Message { request: known, flags, body, fds: first.fds }))
    }

    /// Sends it with its descriptors.
    pub(super) fn send(&self, stream: &UnixStream) -> io::Result<()> {
        let fds: Vec<_> = self.fds.iter().map(AsFd::as_fd).collect();
        self.send_with(stream, &fds)
    }

    /// Sends it with these descriptors.
    pub(super) fn send_with(
        &self,
        stream: &UnixStream,
        fds: &[std::os::fd::BorrowedFd<'_>],
    ) -> io::Result<()> {
        let size = u32::try_from(self.body.len()).unwrap_or(u32::MAX);
        let header = [self.request.into(), self.flags, size].map(u32::to_le_bytes).concat();
        wire::send(stream, &[header, self.body.clone()].concat(), fds)
    }

    /// Whether the front-end wants to see it acknowledged.
    pub(super) fn needs_reply(&self) -> bool {
        self.flags & VhostUserHeaderFlag::NEED_REPLY.bits() != 0
    }

    /// Whether it answers this request.
    pub(super) fn is_reply_to(&self, request: FrontendReq) -> bool {
        self.request == request && self.flags & VhostUserHeaderFlag::REPLY.bits() != 0
    }

    /// Whether it is answered in any case.
    pub(super) fn is_question(&self) -> bool {
        matches!(
            self.request,
            FrontendReq::GET_FEATURES
                | FrontendReq::GET_PROTOCOL_FEATURES
                | FrontendReq::GET_QUEUE_NUM
                | FrontendReq::GET_VRING_BASE
                | FrontendReq::GET_CONFIG
                | FrontendReq::GET_MAX_MEM_SLOTS
        )
    }

    /// The body as one number, which is what an acknowledgement is: 0 for success.
    pub(super) fn number(&self) -> Option<u64> {
        Some(u64::from_le_bytes(self.body.as_slice().try_into().ok()?))
    }

    /// Two numbers of 32 bits.
    pub(super) fn pair(&self) -> Option<(u32, u32)> {
        let number = self.number()?;
        let (low, high) = (number & u64::from(u32::MAX), number >> 32);
        Some((u32::try_from(low).ok()?, u32::try_from(high).ok()?))
    }

    /// What a request of a front-end does.
    pub(super) fn change(&self) -> Result<Change, MessageError> {
        let is_request = self.flags & VhostUserHeaderFlag::REPLY.bits() == 0;
        self.known_change().filter(|_| is_request).ok_or(MessageError::Request {
            request: self.request,
            size: self.body.len(),
            fds: self.fds.len(),
        })
    }

    /// `None`: it is of another shape than it should be, or not offered.
    fn known_change(&self) -> Option<Change> {
        let fds = self.fds.len();
        let (change, expected_fds) = match self.request {
            FrontendReq::GET_FEATURES => (self.empty(Change::AskFeatures)?, 0),
            FrontendReq::GET_PROTOCOL_FEATURES
            | FrontendReq::GET_QUEUE_NUM
            | FrontendReq::GET_MAX_MEM_SLOTS => (self.empty(Change::Nothing)?, 0),
            FrontendReq::SET_OWNER => (self.empty(Change::Own)?, 0),
            FrontendReq::RESET_OWNER => (self.empty(Change::Disown)?, 0),
            FrontendReq::RESET_DEVICE => (self.empty(Change::Reset)?, 0),
            FrontendReq::SET_FEATURES => (Change::Features(self.number()?), 0),
            FrontendReq::SET_PROTOCOL_FEATURES => (Change::ProtocolFeatures(self.number()?), 0),
            FrontendReq::GET_CONFIG | FrontendReq::SET_CONFIG if self.body.len() >= CONFIG => {
                (Change::Nothing, 0)
            }
            FrontendReq::SET_MEM_TABLE => {
                let regions = self.table()?;
                let count = regions.len();
                (Change::Table(regions), count)
            }
            FrontendReq::ADD_MEM_REG => (Change::Add(self.single_region()?), 1),
            // Some front-ends send a descriptor, which is closed.
            FrontendReq::REM_MEM_REG => (Change::Remove(self.single_region()?), fds.min(1)),
            FrontendReq::SET_VRING_NUM => {
                let (ring, num) = self.ring()?;
                (Change::Num { ring, num }, 0)
            }
            FrontendReq::SET_VRING_BASE => {
                let (ring, base) = self.ring()?;
                (Change::Base { ring, base }, 0)
            }
            FrontendReq::GET_VRING_BASE => (Change::Stop { ring: self.ring()?.0 }, 0),
            FrontendReq::SET_VRING_ENABLE => {
                let (ring, on) = self.ring().filter(|(_, on)| *on <= 1)?;
                (Change::Enable { ring, on: on == 1 }, 0)
            }
            FrontendReq::SET_VRING_ADDR => (self.addresses()?, 0),
            FrontendReq::SET_VRING_KICK => self.ring_fd().map(|(ring, fds)| (Change::Kick { ring }, fds))?,
            FrontendReq::SET_VRING_CALL => self.ring_fd().map(|(ring, fds)| (Change::Call { ring }, fds))?,
            FrontendReq::SET_VRING_ERR => self.ring_fd().map(|(ring, fds)| (Change::Err { ring }, fds))?,
            _ => return None,
        };
        (fds == expected_fds).then_some(change)
    }

    fn empty(&self, change: Change) -> Option<Change> {
        self.body.is_empty().then_some(change)
    }

    /// The body as numbers of 64 bits.
    fn words(&self, bytes: usize) -> Option<Vec<u64>> {
        let (words, rest) = self.body.as_chunks::<8>();
        (self.body.len() == bytes && rest.is_empty())
            .then(|| words.iter().map(|word| u64::from_le_bytes(*word)).collect())
    }

    fn ring(&self) -> Option<(usize, u32)> {
        let (ring, value) = self.pair()?;
        Some((usize::try_from(ring).ok().filter(|ring| *ring < RINGS)?, value))
    }

    /// A ring, and how many descriptors there have to be.
    fn ring_fd(&self) -> Option<(usize, usize)> {
        let number = self.number()?;
        let ring = usize::try_from(number & 0xFF).ok().filter(|ring| *ring < RINGS)?;
        Some((ring, usize::from(number & NO_FD == 0)))
    }

    fn table(&self) -> Option<Vec<Region>> {
        let count = self.body.len().checked_sub(8)? / REGION;
        let words = self.words(8 + count * REGION)?;
        let (regions, _) = words.get(1..)?.as_chunks::<4>();
        let is_right = words.first().copied() == u64::try_from(count).ok() && (1..=MAX_FDS).contains(&count);
        is_right.then(|| regions.iter().map(|region| Region::of(*region)).collect())
    }

    fn single_region(&self) -> Option<Region> {
        let words = self.words(8 + REGION)?;
        Some(Region::of(words.get(1..)?.try_into().ok()?))
    }

    fn addresses(&self) -> Option<Change> {
        let words: [u64; 5] = self.words(40)?.try_into().ok()?;
        let (ring, flags) = (words[0] & u64::from(u32::MAX), words[0] >> 32);
        let ring = usize::try_from(ring).ok().filter(|ring| *ring < RINGS)?;
        let [_, descriptors, used, avail, log] = words;
        Some(Change::Addresses {
            ring,
            flags: u32::try_from(flags).ok()?,
            user: [descriptors, used, avail],
            log,
        })
    }
}

impl Region {
    fn of([guest, size, user, offset]: [u64; 4]) -> Self {
        Region { guest, size, user, offset }
    }

    /// Its numbers in the order of the messages.
    pub(super) fn words(self) -> [u64; 4] {
        [self.guest, self.size, self.user, self.offset]
    }
}

#[cfg(test)]
mod tests;
