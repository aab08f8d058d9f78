//! What was relayed and what was not: nothing vanishes without being counted here.

use std::fmt;

use log::Level;

use crate::log_limit::LogLimit;

/// Why a message was not delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
}

impl Reason {
    /// Number of reasons.
    pub const COUNT: usize = Reason::ALL.len();

    /// All reasons.
    pub const ALL: [Reason; 11] = [
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
        })
    }
}

/// Messages and their payload.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
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
        self.messages += 1;
        self.bytes += bytes as u64;
    }
}

/// What has happened to the messages of one VM since the program started.
#[derive(Clone, Debug, Default)]
pub struct Counters {
    /// Relayed to the remote.
    pub to_remote: Traffic,
    /// Delivered to the guest, name service messages left out.
    pub to_guest: Traffic,
    dropped: [u64; Reason::COUNT],
    log: LogLimit,
}

impl Counters {
    /// Counts a message that is not delivered, and says so, at a bounded rate.
    pub fn drop_message(&mut self, vm: &str, reason: Reason, detail: &dyn fmt::Display) {
        self.drop_messages(vm, reason, 1, detail);
    }

    /// Counts several messages that are not delivered for the same reason.
    pub fn drop_messages(&mut self, vm: &str, reason: Reason, count: u64, detail: &dyn fmt::Display) {
        if count > 0 {
            self.dropped[reason as usize] += count;
            self.log.say(Level::Warn, format_args!("vm {vm}: message dropped, {reason}: {detail}"));
        }
    }

    /// Messages that were not delivered for this reason.
    pub fn dropped(&self, reason: Reason) -> u64 {
        self.dropped[reason as usize]
    }
}

impl fmt::Display for Counters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} messages ({} bytes) to the remote, {} ({}) to the guest",
            self.to_remote.messages, self.to_remote.bytes, self.to_guest.messages, self.to_guest.bytes
        )?;
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
