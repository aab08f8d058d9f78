//! What was relayed and what was not: nothing vanishes without being counted here.

mod kept;

use std::fmt;

use log::Level;
use serde::{Deserialize, Serialize};

use self::kept::Kept;
use crate::log_limit::LogLimit;

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
    /// Payload bytes.
    pub bytes: u64,
}

impl Traffic {
    /// Counts one message of `bytes` payload bytes.
    #[inline]
    pub fn add(&mut self, bytes: usize) {
        // Figures from state memory may be any.
        self.messages = self.messages.wrapping_add(1);
        self.bytes = self.bytes.wrapping_add(bytes as u64);
    }

    fn and(self, other: Traffic) -> Traffic {
        Traffic {
            messages: self.messages.wrapping_add(other.messages),
            bytes: self.bytes.wrapping_add(other.bytes),
        }
    }
}

/// What has happened to the messages between a VM and one service.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct ServiceCounters {
    /// Relayed to the service.
    pub to_remote: Traffic,
    /// Delivered from the service.
    pub to_guest: Traffic,
    /// Not delivered, in either direction.
    pub dropped: u64,
}

impl ServiceCounters {
    fn and(self, other: ServiceCounters) -> ServiceCounters {
        ServiceCounters {
            to_remote: self.to_remote.and(other.to_remote),
            to_guest: self.to_guest.and(other.to_guest),
            dropped: self.dropped.wrapping_add(other.dropped),
        }
    }
}

/// What has happened to the messages of one VM since it was added. It outlives this process: `kept` says how.
#[derive(Clone, Debug, Default)]
pub struct Counters {
    /// Relayed to the remote.
    pub to_remote: Traffic,
    /// Delivered to the guest, name service messages left out.
    pub to_guest: Traffic,
    /// Messages that only subscribed an endpoint to a broadcast service.
    pub subscriptions: u64,
    /// Requests to serialized services that were not answered in time.
    pub time_outs: u64,
    dropped: [u64; Reason::COUNT],
    /// By the service's number in the directory.
    services: Vec<Kept<ServiceCounters>>,
    /// What is no service's.
    elsewhere: Kept<ServiceCounters>,
    /// Services that have been counted for since the journal was told.
    counted: Vec<u16>,
    /// What is noted of `dropped`, `subscriptions` and `time_outs`.
    noted: Kept<()>,
    log: LogLimit,
}

impl Counters {
    /// Counts a message of `bytes` payload bytes that was relayed to the remote.
    #[inline]
    pub(super) fn sent(&mut self, service: Option<usize>, bytes: usize) {
        self.to_remote.add(bytes);
        self.service_mut(service).to_remote.add(bytes);
    }

    /// Counts a message of `bytes` payload bytes that was delivered to the guest.
    #[inline]
    pub(super) fn delivered(&mut self, service: Option<usize>, bytes: usize) {
        self.to_guest.add(bytes);
        self.service_mut(service).to_guest.add(bytes);
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
        let dropped = &mut self.dropped[reason as usize];
        *dropped = dropped.wrapping_add(count);
        self.noted.is_counted = true;
        let dropped = &mut self.service_mut(service).dropped;
        *dropped = dropped.wrapping_add(count);
        self.log.say(Level::Warn, format_args!("vm {vm}: message dropped, {reason}: {detail}"));
    }

    /// Messages that were not delivered for this reason.
    pub fn dropped(&self, reason: Reason) -> u64 {
        self.dropped[reason as usize]
    }

    /// What has happened to the messages between the VM and this service, by its number in the directory.
    pub fn service(&self, service: usize) -> ServiceCounters {
        self.services.get(service).map(|kept| kept.figures).unwrap_or_default()
    }

    /// The same for messages that are of no service, or of one that is gone and forgotten.
    pub fn elsewhere(&self) -> ServiceCounters {
        self.elsewhere.figures
    }

    /// Counts a message that only subscribed an endpoint.
    pub(super) fn subscribed(&mut self) {
        self.subscriptions = self.subscriptions.wrapping_add(1);
        self.noted.is_counted = true;
    }

    /// Counts a request that was not answered in time.
    pub(super) fn timed_out(&mut self) {
        self.time_outs = self.time_outs.wrapping_add(1);
        self.noted.is_counted = true;
    }

    /// Makes room for so many services, so that none has to be made on a message's way.
    pub(super) fn make_room(&mut self, services: usize) {
        if self.services.len() < services {
            self.services.resize(services, Kept::default());
            self.counted.reserve(services - self.counted.len());
        }
    }

    #[inline]
    fn service_mut(&mut self, service: Option<usize>) -> &mut ServiceCounters {
        let Some(service) = service else {
            self.elsewhere.is_counted = true;
            return &mut self.elsewhere.figures;
        };
        if !self.services.get(service).is_some_and(|kept| kept.is_counted) {
            self.count_for(service);
        }
        &mut self.services[service].figures
    }

    /// A service is counted for that was not, since the journal was told.
    #[inline(never)]
    fn count_for(&mut self, service: usize) {
        self.make_room(service + 1);
        self.services[service].is_counted = true;
        self.counted.push(u16::try_from(service).expect("a number of the directory"));
    }
}

impl fmt::Display for Counters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} messages ({} bytes) to the remote, {} ({}) to the guest",
            self.to_remote.messages, self.to_remote.bytes, self.to_guest.messages, self.to_guest.bytes
        )?;
        if self.subscriptions > 0 {
            write!(f, ", {} that only subscribed", self.subscriptions)?;
        }
        if self.time_outs > 0 {
            write!(f, ", {} not answered in time", self.time_outs)?;
        }
        let dropped: u64 = self.dropped.iter().sum();
        if dropped > 0 {
            write!(f, ", {dropped} dropped")?;
            for reason in Reason::ALL.into_iter().filter(|reason| self.dropped(*reason) > 0) {
                write!(f, "; {}: {reason}", self.dropped(reason))?;
            }
        }
        Ok(())
    }
}
