//! What the endpoints of the core do with the messages they receive.

use std::collections::HashMap;
use std::fmt;
use std::str::FromStr;

use thiserror::Error;

use crate::rpmsg::{ANY_ADDRESS, NAME_SERVICE_ADDRESS, ServiceName, ServiceNameError};

/// How many sources a `sink` keeps a sequence number for; messages of further ones are counted only.
const MAX_SOURCES: usize = 65_536;

/// What an endpoint does with a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Sends each message back: the peer of Linux `samples/rpmsg`, which counts to 100 itself.
    ClientSample,
    /// Sends each message back: the peer of Linux `rpmsg_tty`.
    Tty,
    /// Sends each message back: the peer of Linux `rpmsg_char`.
    Raw,
    /// Swallows messages. Those of at least 4 bytes are taken to begin with a little-endian sequence number per
    /// source address, and what is missing or repeated is counted. A 0 starts a source anew.
    Sink,
    /// Sends what it is asked for: see [`super::pattern`].
    Source,
    /// Sends each message back to the first address that it ever heard from (OpenAMP), until that address is
    /// withdrawn or the link is reset.
    LatchingEcho,
}

impl Kind {
    /// Every kind, in the order of the default services.
    pub const ALL: [Kind; 6] =
        [Kind::ClientSample, Kind::Tty, Kind::Raw, Kind::Sink, Kind::Source, Kind::LatchingEcho];

    /// Its name on the command line, and by default that of the service.
    pub fn name(self) -> &'static str {
        match self {
            Kind::ClientSample => "rpmsg-client-sample",
            Kind::Tty => "rpmsg-tty",
            Kind::Raw => "rpmsg-raw",
            Kind::Sink => "sink",
            Kind::Source => "source",
            Kind::LatchingEcho => "latching-echo",
        }
    }
}

/// A service to have: `KIND[:NAME[@ADDRESS]]` in text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServiceSpec {
    /// What its endpoint does.
    pub kind: Kind,
    /// Its name.
    pub name: ServiceName,
    /// Its address; `None` = the first free one from 0x400 on.
    pub address: Option<u32>,
}

/// Why a text names no service.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum ServiceSpecError {
    /// There is no such kind.
    #[error("unknown service kind {found:?}; known are {}", known_kinds())]
    Kind {
        /// What was asked for.
        found: String,
    },
    /// The name is none.
    #[error("not a service name")]
    Name(
        /// What is wrong with it.
        #[from]
        ServiceNameError,
    ),
    /// The address is no number, or one that no service can have.
    #[error(
        "service address {found:?}; expected a decimal or 0x number, not {NAME_SERVICE_ADDRESS} (name service), not 0xffffffff (any)"
    )]
    Address {
        /// What was asked for.
        found: String,
    },
}

fn known_kinds() -> String {
    Kind::ALL.map(Kind::name).join(", ")
}

/// Reads a decimal number, or a hexadecimal one after `0x`.
pub(super) fn number(text: &str) -> Option<u32> {
    match text.strip_prefix("0x") {
        Some(hex) => u32::from_str_radix(hex, 16).ok(),
        None => text.parse().ok(),
    }
}

impl ServiceSpec {
    /// The service of this kind under its own name, at whatever address is free.
    ///
    /// # Panics
    /// Never: the names of the kinds are service names.
    pub fn of_kind(kind: Kind) -> Self {
        ServiceSpec {
            kind,
            name: ServiceName::new(kind.name()).expect("the name of a kind is a service name"),
            address: None,
        }
    }
}

impl FromStr for ServiceSpec {
    type Err = ServiceSpecError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (kind, rest) = text.split_once(':').map_or((text, None), |(kind, rest)| (kind, Some(rest)));
        let kind = Kind::ALL
            .into_iter()
            .find(|known| known.name() == kind)
            .ok_or_else(|| ServiceSpecError::Kind { found: kind.to_owned() })?;
        let Some(rest) = rest else {
            return Ok(Self::of_kind(kind));
        };
        let (name, address) =
            rest.rsplit_once('@').map_or((rest, None), |(name, address)| (name, Some(address)));
        let usable = |address: &u32| *address != NAME_SERVICE_ADDRESS && *address != ANY_ADDRESS;
        let address = address
            .map(|text| {
                number(text)
                    .filter(usable)
                    .ok_or_else(|| ServiceSpecError::Address { found: text.to_owned() })
            })
            .transpose()?;
        Ok(ServiceSpec { kind, name: ServiceName::new(name)?, address })
    }
}

/// What a service has done since the last boot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Messages received.
    pub received: u64,
    /// Their payload in bytes.
    pub received_bytes: u64,
    /// Messages sent.
    pub sent: u64,
    /// Their payload in bytes.
    pub sent_bytes: u64,
    /// Times that sequence numbers were missing (`sink`).
    pub gaps: u64,
    /// Sequence numbers that were missing in all (`sink`).
    pub missing: u64,
    /// Sequence numbers that had been there before (`sink`).
    pub repeated: u64,
    /// Messages that were not understood, or asked for more than there is room for (`source`).
    pub refused: u64,
}

impl fmt::Display for Counters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Counters { received, received_bytes, sent, sent_bytes, gaps, missing, repeated, refused } = self;
        write!(
            f,
            "received={received} received_bytes={received_bytes} sent={sent} sent_bytes={sent_bytes} gaps={gaps} \
             missing={missing} repeated={repeated} refused={refused}"
        )
    }
}

/// Whether the host knows of a service, in the order of its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Told {
    /// Not yet, or not any more.
    No,
    /// It has been announced.
    Yes,
    /// It has been announced and is gone; the host is to be told so.
    Leaving,
    /// The host has been told that it is gone: it can be forgotten.
    Gone,
}

impl Told {
    /// What is true once the host has been told what it is to be told.
    pub(super) fn once_told(self) -> Self {
        match self {
            Told::No | Told::Yes => Told::Yes,
            Told::Leaving | Told::Gone => Told::Gone,
        }
    }
}

/// One endpoint of the core.
#[derive(Debug)]
pub(super) struct Service {
    pub(super) kind: Kind,
    pub(super) name: ServiceName,
    pub(super) address: u32,
    pub(super) told: Told,
    pub(super) counters: Counters,
    /// The address that answers go to, for a kind that latches it.
    latched: Option<u32>,
    /// The sequence number that is expected next of each source (`sink`).
    expected: HashMap<u32, u32>,
}

impl Service {
    pub(super) fn new(kind: Kind, name: ServiceName, address: u32) -> Self {
        Service {
            kind,
            name,
            address,
            told: Told::No,
            counters: Counters::default(),
            latched: None,
            expected: HashMap::new(),
        }
    }

    /// Whether each message is answered by one, for which there must be a buffer before the message is taken.
    pub(super) fn answers(&self) -> bool {
        matches!(self.kind, Kind::ClientSample | Kind::Tty | Kind::Raw | Kind::LatchingEcho)
    }

    /// Where the answer to a message of `src` goes.
    pub(super) fn answer_address(&self, src: u32) -> u32 {
        self.latched.unwrap_or(src)
    }

    /// Takes note of a message.
    pub(super) fn receive(&mut self, src: u32, payload: &[u8]) {
        self.counters.received += 1;
        self.counters.received_bytes += payload.len() as u64;
        match self.kind {
            Kind::LatchingEcho => self.latched = self.latched.or(Some(src)),
            Kind::Sink => {
                if let Some(sequence) = payload.first_chunk() {
                    self.check_sequence(src, u32::from_le_bytes(*sequence));
                }
            }
            Kind::ClientSample | Kind::Tty | Kind::Raw | Kind::Source => {}
        }
    }

    /// Counts a message of `len` bytes of payload that has been sent in its name.
    pub(super) fn count_sent(&mut self, len: usize) {
        self.counters.sent += 1;
        self.counters.sent_bytes += len as u64;
    }

    fn check_sequence(&mut self, src: u32, found: u32) {
        if self.expected.len() >= MAX_SOURCES && !self.expected.contains_key(&src) {
            return;
        }
        let expected = self.expected.entry(src).or_insert(0);
        // A 0 is a source that starts anew, unless the very message before it was one.
        if found == 0 && *expected != 1 {
            *expected = 0;
        }
        if found < *expected {
            self.counters.repeated += 1;
            return;
        }
        if found > *expected {
            self.counters.gaps += 1;
            self.counters.missing += u64::from(found - *expected);
        }
        *expected = found.wrapping_add(1);
    }

    /// Forgets an address of the host that is no more.
    pub(super) fn forget(&mut self, address: u32) {
        self.latched = self.latched.filter(|latched| *latched != address);
        self.expected.remove(&address);
    }

    /// Forgets everything about a link that is gone.
    pub(super) fn reset_link(&mut self) {
        self.told = if self.told < Told::Leaving { Told::No } else { Told::Gone };
        self.latched = None;
        self.expected.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sink(numbers: &[u32]) -> Counters {
        let mut sink = Service::new(Kind::Sink, ServiceName::new("sink").unwrap(), 0x400);
        for number in numbers {
            sink.receive(1024, &number.to_le_bytes());
        }
        sink.counters
    }

    #[test]
    fn a_sink_counts_what_is_missing_and_what_is_repeated() {
        let clean = sink(&[0, 1, 2]);
        assert_eq!((clean.gaps, clean.missing, clean.repeated), (0, 0, 0));
        let gap = sink(&[0, 4, 5, 9]);
        assert_eq!((gap.gaps, gap.missing, gap.repeated), (2, 6, 0));
        let twice = sink(&[0, 0, 1, 2, 1, 2, 3]);
        assert_eq!((twice.gaps, twice.repeated), (0, 3));
    }

    #[test]
    fn a_sink_takes_a_zero_as_a_new_start() {
        let again = sink(&[0, 1, 2, 0, 1]);
        assert_eq!((again.gaps, again.repeated), (0, 0));
    }

    #[test]
    fn a_sink_keeps_its_sources_apart() {
        let mut sink = Service::new(Kind::Sink, ServiceName::new("sink").unwrap(), 0x400);
        for (src, number) in [(1, 0u32), (2, 0), (1, 1), (2, 1)] {
            sink.receive(src, &number.to_le_bytes());
        }
        assert_eq!((sink.counters.gaps, sink.counters.repeated), (0, 0));
    }

    #[test]
    fn a_latching_echo_answers_the_first_address_until_that_is_gone() {
        let mut echo = Service::new(Kind::LatchingEcho, ServiceName::new("echo").unwrap(), 0x400);
        echo.receive(7, b"");
        assert_eq!(echo.answer_address(8), 7);
        echo.receive(8, b"");
        echo.forget(8);
        assert_eq!(echo.answer_address(8), 7);
        echo.forget(7);
        echo.receive(8, b"");
        assert_eq!(echo.answer_address(9), 8);
        echo.reset_link();
        assert_eq!(echo.answer_address(9), 9);
    }

    #[test]
    fn a_service_is_written_as_kind_name_and_address() {
        let spec: ServiceSpec = "rpmsg-raw:a:b@c@0x500".parse().unwrap();
        assert_eq!((spec.kind, spec.address), (Kind::Raw, Some(0x500)));
        assert_eq!(spec.name.as_bytes(), b"a:b@c");
        let spec: ServiceSpec = "sink".parse().unwrap();
        assert_eq!((spec.name.as_bytes(), spec.address), (b"sink".as_slice(), None));
    }

    #[test]
    fn a_service_that_cannot_be_is_refused_with_what_could_be() {
        let error = "tty".parse::<ServiceSpec>().unwrap_err().to_string();
        assert!(error.contains("rpmsg-tty") && error.contains("\"tty\""), "{error}");
        for text in ["sink:a@53", "sink:a@0xffffffff", "sink:a@", "sink:", "sink:a@x"] {
            assert!(text.parse::<ServiceSpec>().is_err(), "{text}");
        }
    }
}
