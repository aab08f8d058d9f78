//! What was relayed and what was not: nothing vanishes without being counted here.
//!
//! What a batch has changed is gathered in [`Count`]s, and goes into the journal with the batch: what was counted outlives this
//! process exactly as far as the messages that it was counted for have passed.

use std::fmt;

use log::Level;
use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::directory::MAX_SERVICES;
use super::journal::{Entry, Journal};
use crate::log_limit::LogLimit;
use crate::rpmsg::address::Slot;

/// Different things that are counted in a batch of one VM, more than which take an allocation.
const NEWS: usize = 128;

/// Why a message was not delivered.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reason {
    /// The guest's descriptor chain is unusable.
    BadChain,
    /// The header is missing or says more than the message holds.
    BadHeader,
    /// A message to the name service that is no announcement.
    BadAnnouncement,
    /// More announcements than a guest may have at a time.
    TooManyAnnouncements,
    /// A source address for which the address space has no room, or "any".
    BadAddress,
    /// The remote core is not running.
    RemoteNotRunning,
    /// The guest's receive buffer is smaller than the message.
    ReceiveBufferTooSmall,
    /// The guest takes no messages, and its share of the remote's buffers is full.
    GuestTooSlow,
    /// The guest's driver went away before it took the message.
    SessionEnded,
    /// The message answers an earlier session of the VM.
    StaleSession,
    /// The remote core was lost with the message in its buffers.
    RemoteLost,
    /// The VM may not send there.
    NotAllowed,
}

impl Reason {
    /// Number of reasons.
    pub const COUNT: usize = Reason::ALL.len();

    /// All reasons.
    pub const ALL: [Reason; 12] = [
        Reason::BadChain,
        Reason::BadHeader,
        Reason::BadAnnouncement,
        Reason::TooManyAnnouncements,
        Reason::BadAddress,
        Reason::RemoteNotRunning,
        Reason::ReceiveBufferTooSmall,
        Reason::GuestTooSlow,
        Reason::SessionEnded,
        Reason::StaleSession,
        Reason::RemoteLost,
        Reason::NotAllowed,
    ];
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Reason::BadChain => "unusable descriptor chain",
            Reason::BadHeader => "malformed header",
            Reason::BadAnnouncement => "malformed name service message",
            Reason::TooManyAnnouncements => "too many announcements",
            Reason::BadAddress => "impossible source address",
            Reason::RemoteNotRunning => "remote core not running",
            Reason::ReceiveBufferTooSmall => "receive buffer too small",
            Reason::GuestTooSlow => "guest too slow",
            Reason::SessionEnded => "driver went away",
            Reason::StaleSession => "for an ended session",
            Reason::RemoteLost => "remote core lost",
            Reason::NotAllowed => "not allowed",
        })
    }
}

/// Messages and their payload.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
pub struct Traffic {
    /// Messages.
    pub messages: u64,
    /// Bytes of payload.
    pub bytes: u64,
}

impl Traffic {
    // Figures from state memory may be any.
    fn add(&mut self, other: Traffic) {
        self.messages = self.messages.wrapping_add(other.messages);
        self.bytes = self.bytes.wrapping_add(other.bytes);
    }
}

/// What has happened to the messages between a VM and one service.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct ServiceCounters {
    /// Relayed to the service.
    pub to_remote: Traffic,
    /// Delivered to the guest.
    pub to_guest: Traffic,
    /// Messages that were not delivered, in either direction.
    pub dropped: u64,
}

impl ServiceCounters {
    fn add(&mut self, other: ServiceCounters) {
        self.to_remote.add(other.to_remote);
        self.to_guest.add(other.to_guest);
        self.dropped = self.dropped.wrapping_add(other.dropped);
    }
}

/// What has happened to the messages of one VM since it was added.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
pub struct Figures {
    /// Messages that only subscribed an endpoint to a service, and went no further.
    pub subscriptions: u64,
    /// Requests of the VM that its service did not answer in time.
    pub time_outs: u64,
    dropped: [u64; Reason::COUNT],
    services: Services,
}

/// First what is no service's, then by the service's number in the directory. Those that have counted nothing take no room
/// where they are kept.
#[derive(Clone, Debug, Default)]
struct Services(Vec<ServiceCounters>);

impl Services {
    fn counted(&self) -> impl Iterator<Item = (usize, ServiceCounters)> {
        self.0.iter().copied().enumerate().filter(|(_, counted)| *counted != ServiceCounters::default())
    }

    /// Makes room for so many.
    #[inline]
    fn grow(&mut self, places: usize) {
        if self.0.len() < places {
            self.0.resize(places, ServiceCounters::default());
        }
    }
}

impl PartialEq for Services {
    fn eq(&self, other: &Self) -> bool {
        self.counted().eq(other.counted())
    }
}

impl Eq for Services {}

impl Serialize for Services {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.counted().collect::<Vec<_>>())
    }
}

impl<'de> Deserialize<'de> for Services {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut services = Services::default();
        for (place, counted) in Vec::<(usize, ServiceCounters)>::deserialize(deserializer)? {
            if place > MAX_SERVICES {
                return Err(Error::custom("a service that the directory has no room for"));
            }
            services.grow(place + 1);
            services.0[place] = counted;
        }
        Ok(services)
    }
}

impl Figures {
    /// Relayed to the remote.
    pub fn to_remote(&self) -> Traffic {
        self.sum().to_remote
    }

    /// Delivered to the guest, name service messages left out.
    pub fn to_guest(&self) -> Traffic {
        self.sum().to_guest
    }

    /// How many messages were not delivered for this reason.
    pub fn dropped(&self, reason: Reason) -> u64 {
        self.dropped[reason as usize]
    }

    /// What has happened to the messages between the VM and this service, by its number in the directory.
    pub fn service(&self, service: usize) -> ServiceCounters {
        self.services.0.get(1 + service).copied().unwrap_or_default()
    }

    /// The same for messages that are of no service, or of one that is gone and forgotten.
    pub fn elsewhere(&self) -> ServiceCounters {
        self.services.0.first().copied().unwrap_or_default()
    }

    fn sum(&self) -> ServiceCounters {
        self.services.0.iter().fold(ServiceCounters::default(), |mut sum, service| {
            sum.add(*service);
            sum
        })
    }

    /// Adds what has been counted. `None` where it cannot have been.
    #[inline]
    pub(super) fn add(&mut self, count: Count) -> Option<()> {
        let traffic = Traffic { messages: count.messages(), bytes: count.bytes() };
        let place = count.place();
        if place > MAX_SERVICES {
            return None;
        }
        self.services.grow(place + 1);
        let service = &mut self.services.0[place];
        match count.what() {
            TO_REMOTE => service.to_remote.add(traffic),
            TO_GUEST => service.to_guest.add(traffic),
            SUBSCRIPTION => self.subscriptions = self.subscriptions.wrapping_add(traffic.messages),
            TIME_OUT => self.time_outs = self.time_outs.wrapping_add(traffic.messages),
            what => {
                let dropped = self.dropped.get_mut(usize::from(what - DROPPED))?;
                *dropped = dropped.wrapping_add(traffic.messages);
                service.dropped = service.dropped.wrapping_add(traffic.messages);
            }
        }
        Some(())
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ServiceCounters { to_remote, to_guest, .. } = self.sum();
        write!(
            f,
            "{} messages ({} bytes) to the remote, {} ({}) to the guest",
            to_remote.messages, to_remote.bytes, to_guest.messages, to_guest.bytes
        )?;
        if self.subscriptions > 0 {
            write!(f, ", {} that only subscribed", self.subscriptions)?;
        }
        if self.time_outs > 0 {
            write!(f, ", {} not answered in time", self.time_outs)?;
        }
        let dropped: u64 = self.dropped.iter().fold(0, |sum: u64, dropped| sum.wrapping_add(*dropped));
        if dropped > 0 {
            write!(f, ", {dropped} dropped")?;
            for reason in Reason::ALL.into_iter().filter(|reason| self.dropped(*reason) > 0) {
                write!(f, "; {}: {reason}", self.dropped(reason))?;
            }
        }
        Ok(())
    }
}

/// What a [`Count`] counts. Behind the last one the [reasons](Reason).
const TO_REMOTE: u8 = 0;
const TO_GUEST: u8 = 1;
const SUBSCRIPTION: u8 = 2;
const TIME_OUT: u8 = 3;
const DROPPED: u8 = 4;

/// Messages of a VM to which the same has happened, as two words that the journal takes as they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Count {
    /// What has happened, and behind 16 bits in which service.
    key: u32,
    /// Messages, and behind 8 bits their payload.
    word: u32,
}

impl Count {
    /// How many different things can have happened.
    pub(super) const KINDS: u8 = DROPPED + Reason::ALL[Reason::COUNT - 1] as u8 + 1;
    /// Messages that a count has room for, each of which has less than 64 KiB.
    const MOST: u32 = 255;

    #[inline]
    #[expect(clippy::cast_possible_truncation, reason = "services have 11 bits, and payloads 16")]
    fn new(what: u8, service: Option<usize>, messages: u32, bytes: usize) -> Self {
        let place = service.map_or(0, |service| 1 + service as u32);
        Count { key: u32::from(what) | place << 16, word: messages | (bytes as u32) << 8 }
    }

    /// What the journal has of it.
    pub(super) fn from_words(key: u32, word: u32) -> Self {
        Count { key, word }
    }

    /// What the journal keeps of it: what has happened, where, and how often.
    #[inline]
    pub(super) fn words(self) -> (u32, u32) {
        (self.key, self.word)
    }

    fn what(self) -> u8 {
        self.key.to_le_bytes()[0]
    }

    fn place(self) -> usize {
        (self.key >> 16) as usize
    }

    fn messages(self) -> u64 {
        u64::from(self.word & Self::MOST)
    }

    fn bytes(self) -> u64 {
        u64::from(self.word >> 8)
    }
}

/// The counters of one VM.
#[derive(Debug)]
pub struct Counters {
    figures: Figures,
    /// What has been counted since the journal was told.
    news: Vec<Count>,
    log: LogLimit,
}

impl Counters {
    /// Counters that go on from there.
    pub(super) fn new(figures: Figures) -> Self {
        Counters { figures, news: Vec::with_capacity(NEWS), log: LogLimit::default() }
    }

    /// What was counted, up to what the journal has been told last.
    pub fn figures(&self) -> &Figures {
        &self.figures
    }

    /// Counts a message of `bytes` payload bytes that was relayed to the remote.
    #[inline]
    pub(super) fn sent(&mut self, service: Option<usize>, bytes: usize) {
        self.count(Count::new(TO_REMOTE, service, 1, bytes));
    }

    /// Counts a message of `bytes` payload bytes that was delivered to the guest.
    #[inline]
    pub(super) fn delivered(&mut self, service: Option<usize>, bytes: usize) {
        self.count(Count::new(TO_GUEST, service, 1, bytes));
    }

    /// Counts a message that only subscribed an endpoint.
    pub(super) fn subscribed(&mut self) {
        self.count(Count::new(SUBSCRIPTION, None, 1, 0));
    }

    /// Counts a request that was not answered in time.
    pub(super) fn timed_out(&mut self) {
        self.count(Count::new(TIME_OUT, None, 1, 0));
    }

    /// Counts messages that are not delivered for the same reason, and says so, at a bounded rate.
    pub(super) fn drop_messages(
        &mut self,
        vm: &str,
        reason: Reason,
        service: Option<usize>,
        count: u64,
        detail: &dyn fmt::Display,
    ) {
        if count == 0 {
            return;
        }
        let mut rest = count;
        while rest > 0 {
            let messages = u32::try_from(rest).unwrap_or(u32::MAX).min(Count::MOST);
            self.count(Count::new(DROPPED + reason as u8, service, messages, 0));
            rest -= u64::from(messages);
        }
        self.log.say(Level::Warn, format_args!("vm {vm}: message dropped, {reason}: {detail}"));
    }

    #[inline]
    fn count(&mut self, count: Count) {
        if let Some(last) = self.news.last_mut()
            && last.key == count.key
            && (last.word & Count::MOST) + (count.word & Count::MOST) <= Count::MOST
        {
            last.word += count.word;
        } else {
            self.news.push(count);
        }
    }

    /// Tells the journal what it does not know yet.
    #[inline]
    pub(super) fn log(&mut self, slot: Slot, journal: &mut Journal) {
        for count in self.news.drain(..) {
            journal.append(&Entry::Counted { slot, count });
            let counted = self.figures.add(count);
            debug_assert!(counted.is_some(), "{count:?} is of a service of the directory");
        }
    }

    /// The service of this number is another one from now on: what was counted is no service's. The journal has to know
    /// everything before.
    pub(super) fn forget(&mut self, service: usize) {
        debug_assert!(self.news.is_empty());
        if let Some((elsewhere, services)) = self.figures.services.0.split_first_mut()
            && let Some(gone) = services.get_mut(service)
        {
            elsewhere.add(std::mem::take(gone));
        }
    }

    /// Makes room for so many services, so that none has to be made on a message's way.
    pub(super) fn make_room(&mut self, services: usize) {
        self.figures.services.grow(1 + services);
    }
}

impl Default for Counters {
    fn default() -> Self {
        Counters::new(Figures::default())
    }
}
