//! What can be appended to a journal: the changes that come with every message.
//!
//! Each is a head, `kind | a << 8 | b << 16`, and what its kind says behind it:
//!
//! | kind | a | b | behind it | meaning |
//! |---|---|---|---|---|
//! | 1 | slot | buffer | | an outbound buffer is the VM's |
//! | 2 | | buffer | | it is nobody's any more |
//! | 3 | slot | buffer | header, 4 words | a message waits for the VM |
//! | 4 | slot | | | the VM has taken the first one |
//! | 5, 6 | | | avail, used << 16 | how far the driver has got with the inbound, outbound vring |
//! | 7, 8 | slot | index | | used index of the VM's queue to, from the guest |
//! | 9 | slot | service | incarnation | what the VM has been told of a service |
//! | 10 | slot | | change, 2 words | change up to which the VM has looked through the directory |
//! | 11 | slot | 1: the remote knows it, 2: it is gone | address, name of 8 words | a service of the guest's |
//! | 12 | slot | | entry, address | an entry of the table of addresses is the VM's |
//! | 13 | | service | length in bytes, [`SavedDesk`] | who may talk to a service |
//! | 14 | 0: misdirected, 1: malformed | how many | | messages from the remote that no VM gets |
//! | 15 + what | slot | service + 1, or 0 | messages, bytes << 8 | a [`Count`] |

use super::saved::{Saved, SavedDesk, SavedVm};
use crate::bridge::counters::Count;
use crate::bridge::parties::GuestService;
use crate::remote::vring::Cursor;
use crate::rpmsg::ServiceName;
use crate::rpmsg::address::Slot;

/// Kind of the first [`Count`]; the others follow.
const COUNTED: u32 = 15;
const _: () = assert!(COUNTED + (Count::KINDS as u32) < 256);

/// A change.
#[derive(Debug)]
pub(in crate::bridge) enum Entry<'a> {
    /// This outbound buffer was given to the remote, on account of the owner of this number.
    Sent { owner: u8, buffer: u16 },
    /// The remote has returned it.
    Returned { buffer: u16 },
    /// A message waits for a VM in this inbound buffer.
    Held { slot: Slot, buffer: u16, header: [u8; 16] },
    /// The VM has taken the first one that waits.
    Unheld { slot: Slot },
    /// How far the driver has got with the vring from the remote.
    Inbound(Cursor),
    /// How far it has got with the one to the remote.
    Outbound(Cursor),
    /// Used index of a VM's queue: 0 is to the guest, 1 from it.
    Used { slot: Slot, queue: usize, index: u16 },
    /// What a VM has been told of a service.
    Told { slot: Slot, service: u16, incarnation: u32 },
    /// How far a VM has looked through the directory.
    Seen { slot: Slot, change: u64 },
    /// A service that a guest has announced.
    GuestService { slot: Slot, service: GuestService },
    /// One that it has withdrawn.
    GuestServiceGone { slot: Slot, name: ServiceName, address: u32 },
    /// An entry of the table of addresses is this endpoint's.
    Alias { slot: Slot, entry: u32, address: u32 },
    /// Messages from the remote that no VM gets, as far as they count.
    Stray { is_malformed: bool, count: u16 },
    /// What has happened to messages of a VM.
    Counted { slot: Slot, count: Count },
    /// Who may talk to a service.
    Desk { service: u16, desk: &'a SavedDesk },
}

impl Entry<'_> {
    /// All of an entry that comes with every message or batch: its head, and the one word behind it.
    #[inline(always)]
    #[expect(clippy::inline_always, reason = "which entry it is, is known where it is appended")]
    pub(super) fn short(&self) -> Option<(u32, Option<u32>)> {
        let head = match *self {
            Entry::Sent { owner, buffer } => head(1, owner, buffer),
            Entry::Returned { buffer } => head(2, 0, buffer),
            Entry::Unheld { slot } => head(4, slot.number(), 0),
            Entry::Used { slot, queue: 0, index } => head(7, slot.number(), index),
            Entry::Used { slot, index, .. } => head(8, slot.number(), index),
            Entry::Stray { is_malformed, count } => head(14, is_malformed.into(), count),
            Entry::Counted { slot, count } => {
                let (key, word) = count.words();
                return Some(((COUNTED + key) | u32::from(slot.number()) << 8, Some(word)));
            }
            Entry::Inbound(cursor) => return Some((5, Some(cursor_word(cursor)))),
            Entry::Outbound(cursor) => return Some((6, Some(cursor_word(cursor)))),
            _ => return None,
        };
        Some((head, None))
    }

    /// Calls `write` with one word after the other, until it returns false. Returns whether it never did.
    pub(super) fn for_each_word(&self, scratch: &mut Vec<u8>, mut write: impl FnMut(u32) -> bool) -> bool {
        if let Some((head, word)) = self.short() {
            return write(head) && word.is_none_or(write);
        }
        match *self {
            Entry::Held { slot, buffer, header } => {
                write(head(3, slot.number(), buffer)) && words(&header).all(write)
            }
            Entry::Told { slot, service, incarnation } => {
                write(head(9, slot.number(), service)) && write(incarnation)
            }
            Entry::Seen { slot, change } => {
                write(head(10, slot.number(), 0)) && words(&change.to_le_bytes()).all(write)
            }
            Entry::GuestService { slot, service: GuestService { name, address, told } } => {
                let bytes: [u8; 32] = name.into();
                write(head(11, slot.number(), told.into())) && write(address) && words(&bytes).all(write)
            }
            Entry::GuestServiceGone { slot, name, address } => {
                let bytes: [u8; 32] = name.into();
                write(head(11, slot.number(), 2)) && write(address) && words(&bytes).all(write)
            }
            Entry::Alias { slot, entry, address } => {
                write(head(12, slot.number(), 0)) && write(entry) && write(address)
            }
            Entry::Desk { service, desk } => {
                scratch.clear();
                let Ok(mut bytes) = postcard::to_extend(desk, std::mem::take(scratch)) else { return false };
                let len = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
                bytes.resize(bytes.len().next_multiple_of(4), 0);
                let fits = write(head(13, 0, service)) && write(len) && words(&bytes).all(write);
                *scratch = bytes;
                fits
            }
            Entry::Sent { .. }
            | Entry::Returned { .. }
            | Entry::Unheld { .. }
            | Entry::Used { .. }
            | Entry::Stray { .. }
            | Entry::Counted { .. }
            | Entry::Inbound(_)
            | Entry::Outbound(_) => true,
        }
    }
}

/// What an entry begins with.
#[inline]
fn head(kind: u32, a: u8, b: u16) -> u32 {
    kind | u32::from(a) << 8 | u32::from(b) << 16
}

#[inline]
fn cursor_word(cursor: Cursor) -> u32 {
    u32::from(cursor.avail) | u32::from(cursor.used) << 16
}

fn words(bytes: &[u8]) -> impl Iterator<Item = u32> {
    bytes.as_chunks::<4>().0.iter().map(|word| u32::from_le_bytes(*word))
}

fn bytes<const N: usize>(words: &[u32]) -> Option<[u8; N]> {
    let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    bytes.try_into().ok()
}

/// Makes the changes of a log to what was saved before. `None` where the log is damaged.
pub(super) fn replay(saved: &mut Saved, mut log: &[u32]) -> Option<()> {
    while let Some((head, rest)) = log.split_first() {
        let [kind, a, low, high] = head.to_le_bytes();
        let b = u16::from_le_bytes([low, high]);
        log = apply(saved, kind, a, b, rest)?;
    }
    Some(())
}

/// Makes one change. Returns what follows it in the log.
fn apply<'a>(saved: &mut Saved, kind: u8, a: u8, b: u16, rest: &'a [u32]) -> Option<&'a [u32]> {
    let take = |count: usize| rest.split_at_checked(count);
    match kind {
        1 => {
            *saved.device.as_mut()?.owners.get_mut(usize::from(b))? = Some(a);
            Some(rest)
        }
        2 => {
            *saved.device.as_mut()?.owners.get_mut(usize::from(b))? = None;
            Some(rest)
        }
        3 => {
            let (header, rest) = take(4)?;
            vm(saved, a)?.waiting.push((b, bytes(header)?));
            Some(rest)
        }
        4 => {
            let vm = vm(saved, a)?;
            (!vm.waiting.is_empty()).then(|| vm.waiting.remove(0))?;
            vm.before_news = vm.before_news.saturating_sub(1);
            Some(rest)
        }
        5 | 6 => {
            let (word, rest) = rest.split_first()?;
            let [a, b, c, d] = word.to_le_bytes();
            let cursor = Cursor { avail: u16::from_le_bytes([a, b]), used: u16::from_le_bytes([c, d]) };
            let device = saved.device.as_mut()?;
            *if kind == 5 { &mut device.inbound } else { &mut device.outbound } = cursor;
            Some(rest)
        }
        7 | 8 => {
            vm(saved, a)?.used[usize::from(kind - 7)] = Some(b);
            Some(rest)
        }
        9 => {
            let (incarnation, rest) = rest.split_first()?;
            let told = &mut vm(saved, a)?.told;
            let service = usize::from(b);
            if told.len() <= service {
                told.resize(service + 1, 0);
            }
            told[service] = *incarnation;
            Some(rest)
        }
        10 => {
            let (change, rest) = take(2)?;
            vm(saved, a)?.seen = u64::from_le_bytes(bytes(change)?);
            Some(rest)
        }
        11 => {
            let (words, rest) = take(9)?;
            let (address, name) = words.split_first()?;
            let name = ServiceName::try_from(bytes::<32>(name)?).ok()?;
            let services = &mut vm(saved, a)?.services;
            let known =
                services.iter().position(|service| (service.name, service.address) == (name, *address));
            let service = GuestService { name, address: *address, told: b == 1 };
            match (known, b) {
                (Some(known), 2) => drop(services.swap_remove(known)),
                (None, 2) => return None,
                (Some(known), _) => services[known] = service,
                (None, _) => services.push(service),
            }
            Some(rest)
        }
        12 => {
            let (words, rest) = take(2)?;
            let (entry, address) = (words[0] as usize, words[1]);
            let slot = Slot::new(a)?;
            match saved.aliases.len() {
                end if end == entry => saved.aliases.push(Some((slot, address))),
                _ => {
                    *saved.aliases.get_mut(entry)? = Some((slot, address));
                    saved.free_aliases.retain(|free| *free as usize != entry);
                }
            }
            Some(rest)
        }
        13 => {
            let (len, rest) = rest.split_first()?;
            let len = *len as usize;
            let (words, rest) = rest.split_at_checked(len.checked_next_multiple_of(4)? / 4)?;
            let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
            let desk = postcard::from_bytes(bytes.get(..len)?).ok()?;
            saved.services.get_mut(usize::from(b))?.desk = Some(desk);
            Some(rest)
        }
        14 => {
            let strays = saved.strays.get_mut(usize::from(a))?;
            *strays = strays.wrapping_add(b.into());
            Some(rest)
        }
        _ => {
            let (word, rest) = rest.split_first()?;
            let what = u32::from(kind).checked_sub(COUNTED).filter(|what| *what < Count::KINDS.into())?;
            let count = Count::from_words(what | u32::from(b) << 16, *word);
            vm(saved, a)?.figures.add(count)?;
            Some(rest)
        }
    }
}

fn vm(saved: &mut Saved, number: u8) -> Option<&mut SavedVm> {
    saved.vms.get_mut(&Slot::new(number)?)
}
