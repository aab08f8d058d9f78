//! What is allowed: who may see which service, how it is shared, and how much a VM may take.
//!
//! Plain data, resolved from the configuration, and from rules that are set at run time. VMs are named by their slots; a set of VMs is a bit mask of
//! slots.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::rpmsg::ServiceName;
use crate::rpmsg::address::Slot;

/// A set of VMs: bit `n` stands for slot `n`.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Hash, Serialize)]
#[serde(from = "[u64; 2]", into = "[u64; 2]")]
pub struct Slots(u128);

impl Slots {
    /// Every VM, also those that come later.
    pub const ALL: Slots = Slots(u128::MAX);
    /// No VM.
    pub const NONE: Slots = Slots(0);

    /// Whether the VM in this slot is one of them.
    #[inline]
    pub fn contains(self, slot: Slot) -> bool {
        self.0 & 1 << slot.number() != 0
    }
}

impl From<[u64; 2]> for Slots {
    fn from([low, high]: [u64; 2]) -> Self {
        Slots(u128::from(low) | u128::from(high) << 64)
    }
}

impl From<Slots> for [u64; 2] {
    #[expect(clippy::cast_possible_truncation, reason = "takes it apart")]
    fn from(Slots(mask): Slots) -> Self {
        [mask as u64, (mask >> 64) as u64]
    }
}

impl FromIterator<Slot> for Slots {
    fn from_iter<I: IntoIterator<Item = Slot>>(slots: I) -> Self {
        Slots(slots.into_iter().fold(0, |mask, slot| mask | 1 << slot.number()))
    }
}

/// The rules for the services of one remote.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// The first rule whose pattern matches a service's name holds for it; without one it is [`Mode::Shared`] and every
    /// VM sees it.
    pub rules: Vec<Rule>,
    /// Services that the remote has without announcing them. They are announced to guests as if it had.
    pub static_services: Vec<(ServiceName, u32)>,
    /// How many bits of an address the firmware keeps.
    pub address_bits: AddressBits,
}

impl Policy {
    /// This rule holds before all others, and in the place of one for the same names.
    pub fn set(&mut self, rule: Rule) {
        rule.put_first(&mut self.rules);
    }

    /// Whether a rule means the VM in this slot in particular.
    pub fn names(&self, slot: Slot) -> bool {
        self.rules.iter().any(|rule| rule.names(slot))
    }
}

/// How services of some names are shared.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Hash, Serialize)]
pub struct Rule {
    /// Names that it holds for.
    pub pattern: Pattern,
    /// VMs that may see the services at all.
    pub visible_to: Slots,
    /// How they share them.
    pub mode: Mode,
}

impl Rule {
    /// Puts it before all others, and in the place of one for the same names.
    pub fn put_first(self, rules: &mut Vec<Rule>) {
        rules.retain(|other| other.pattern != self.pattern);
        rules.insert(0, self);
    }

    /// Whether its times are such as a configuration can say.
    pub fn is_sound(&self) -> bool {
        match self.mode {
            Mode::Serialized(turns) => turns.time_out.max(turns.quarantine) <= Turns::MAX_TIME,
            _ => true,
        }
    }

    /// Whether it means the VM in this slot in particular.
    pub fn names(&self, slot: Slot) -> bool {
        let stands_out = match self.mode {
            Mode::Shared => false,
            Mode::Exclusive { owner } | Mode::Broadcast { owner } => owner == Some(slot),
            Mode::Serialized(turns) => turns.unsolicited == Unsolicited::Vm(slot),
        };
        stands_out || self.visible_to != Slots::ALL && self.visible_to.contains(slot)
    }
}

/// A pattern of service names: `*` stands for any characters, `?` for one, all else for itself.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Hash, Serialize)]
pub struct Pattern(String);

impl Pattern {
    /// The pattern of this text.
    pub fn new(text: &str) -> Self {
        Pattern(text.to_owned())
    }

    /// Whether a name matches.
    pub fn matches(&self, name: ServiceName) -> bool {
        matches(self.0.as_bytes(), name.as_bytes(), |_| true)
    }

    /// Whether it plainly matches every name that `other` does. Two patterns that come to the same by different ways,
    /// such as `?*` and `*?`, do not count.
    pub fn covers(&self, other: &Pattern) -> bool {
        matches(self.0.as_bytes(), other.0.as_bytes(), |byte| byte != b'*')
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Matches without recursion: on a mismatch, the last `*` takes one byte more. `single` says which bytes a `?` stands
/// for.
fn matches(pattern: &[u8], name: &[u8], single: impl Fn(u8) -> bool) -> bool {
    let (mut at, mut of) = (0, 0);
    let mut star = None;
    while of < name.len() {
        match pattern.get(at) {
            Some(b'*') => {
                star = Some((at, of));
                at += 1;
            }
            Some(byte) if *byte == name[of] || *byte == b'?' && single(name[of]) => {
                at += 1;
                of += 1;
            }
            _ => {
                let Some((star_at, taken)) = star else { return false };
                star = Some((star_at, taken + 1));
                (at, of) = (star_at + 1, taken + 1);
            }
        }
    }
    pattern[at..].iter().all(|byte| *byte == b'*')
}

/// How the VMs that see a service share it.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Hash, Serialize)]
pub enum Mode {
    /// All use it; the firmware answers to the address that asked.
    Shared,
    /// One VM uses it: the named one, or the first to send to it until its session ends. The others do not see it
    /// meanwhile. The firmware sees one stable address.
    Exclusive {
        /// The VM, if it is always the same.
        owner: Option<Slot>,
    },
    /// All use it, one request at a time. The firmware sees one stable address.
    Serialized(Turns),
    /// It streams to every VM that has sent to it. One may really send. The firmware sees one stable address.
    Broadcast {
        /// The VM whose messages reach the firmware; without one, nobody's do.
        owner: Option<Slot>,
    },
}

/// How turns are taken at a [`Mode::Serialized`] service.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Hash, Serialize)]
pub struct Turns {
    /// What ends a turn.
    pub reply: Reply,
    /// Longest wait for an answer.
    pub time_out: Duration,
    /// After a time-out: how long late answers are dropped before the next turn begins.
    pub quarantine: Duration,
    /// Who gets messages that nobody has asked for.
    pub unsolicited: Unsolicited,
}

impl Turns {
    /// The longest of its times.
    pub const MAX_TIME: Duration = Duration::from_secs(3600);
}

/// What ends a turn.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Hash, Serialize)]
pub enum Reply {
    /// The request itself: there is no answer.
    None,
    /// The first answer.
    One,
    /// Silence: no further answer for the time-out. No quarantine follows.
    Several,
}

/// Who gets messages of a serialized service that nobody has asked for.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Hash, Serialize)]
pub enum Unsolicited {
    /// Nobody: they are dropped and counted.
    Drop,
    /// One VM, at the address from which it last sent to the service.
    Vm(Slot),
    /// Every VM that has sent to the service.
    All,
}

/// Bits of an address that firmware keeps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AddressBits {
    /// All of them.
    #[default]
    All,
    /// The low 16 (TI `ipc_rpmsg`): every guest endpoint gets an address from a table.
    Low16,
}

/// What one VM may do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VmPolicy {
    /// Remote addresses that it may send to without a service being announced there.
    pub addresses: Vec<u32>,
    /// Whether it may send only to services it sees and to `addresses`; otherwise also to addresses where nothing is
    /// announced.
    pub strict: bool,
    /// What happens to messages for it that it does not take, beyond its share of the remote's buffers.
    pub overflow: Overflow,
    /// Its weight where buffers and turns are shared out, 1..=100.
    pub weight: u8,
    /// Messages that it may send per second.
    pub messages_per_second: Option<u32>,
    /// Payload bytes that it may send per second.
    pub bytes_per_second: Option<u64>,
}

/// What happens to messages for a VM that takes none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overflow {
    /// They stay in the remote's buffers until the remote has none left, and waits.
    Block,
    /// The newest are dropped and counted.
    Drop,
}

impl VmPolicy {
    /// What holds for a VM of which nothing is configured. A single VM may hold everything; of several, none may.
    pub fn unlimited(overflow: Overflow) -> Self {
        VmPolicy {
            addresses: Vec::new(),
            strict: false,
            overflow,
            weight: 1,
            messages_per_second: None,
            bytes_per_second: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_as_a_shell_would() {
        let matches =
            |pattern: &str, name: &str| Pattern::new(pattern).matches(ServiceName::new(name).unwrap());
        for (pattern, name) in [
            ("rpmsg-raw", "rpmsg-raw"),
            ("*", "x"),
            ("rpmsg-*", "rpmsg-tty"),
            ("*-t?y", "rpmsg-tty"),
            ("a*b*c", "aXbYbZc"),
            ("a**", "a"),
        ] {
            assert!(matches(pattern, name), "{pattern} {name}");
        }
        for (pattern, name) in
            [("rpmsg", "rpmsg-raw"), ("?", "xy"), ("a*b", "abc"), ("rpmsg-raw?", "rpmsg-raw")]
        {
            assert!(!matches(pattern, name), "{pattern} {name}");
        }
    }

    #[test]
    fn a_pattern_covers_those_whose_every_name_it_matches() {
        let covers = |pattern: &str, other: &str| Pattern::new(pattern).covers(&Pattern::new(other));
        for (pattern, other) in
            [("a", "a"), ("*", "a?*"), ("a*", "a*b"), ("a*", "a**"), ("?", "a"), ("a?*", "a??"), ("**", "*")]
        {
            assert!(covers(pattern, other), "{pattern} {other}");
        }
        for (pattern, other) in
            [("a", "?"), ("?", "*"), ("a*", "*"), ("a*b", "a*"), ("*a", "a*"), ("a?", "a*")]
        {
            assert!(!covers(pattern, other), "{pattern} {other}");
        }
    }

    #[test]
    fn a_policy_names_the_vms_that_a_rule_sets_apart() {
        let slot = |number| Slot::new(number).unwrap();
        let rule = |visible_to, mode| Rule { pattern: Pattern::new("*"), visible_to, mode };
        let names = |rule: Rule| {
            let policy = Policy { rules: vec![rule], ..Policy::default() };
            (0..4).filter(|number| policy.names(slot(*number))).collect::<Vec<_>>()
        };
        let turns = Turns {
            reply: Reply::None,
            time_out: Duration::ZERO,
            quarantine: Duration::ZERO,
            unsolicited: Unsolicited::Vm(slot(3)),
        };
        assert!(names(rule(Slots::ALL, Mode::Shared)).is_empty());
        assert_eq!(names(rule([slot(1), slot(2)].into_iter().collect(), Mode::Shared)), [1, 2]);
        assert_eq!(names(rule(Slots::ALL, Mode::Exclusive { owner: Some(slot(1)) })), [1]);
        assert!(names(rule(Slots::NONE, Mode::Broadcast { owner: None })).is_empty());
        assert_eq!(names(rule(Slots::ALL, Mode::Serialized(turns))), [3]);
    }
}
