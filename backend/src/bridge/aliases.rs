//! Host addresses that arithmetic cannot give: a table in slot 127.
//!
//! | host address | whose |
//! |---|---|
//! | `base + service`, service below 1024 | the one client that the firmware of an exclusive, serialized or broadcast service sees |
//! | `base + 1024 + entry` | a guest endpoint whose own address has no room, and every endpoint of 16-bit firmware |
//!
//! `base` is `127 << 24`, and 0x400 where the firmware keeps only 16 bits of an address. An entry is free again when
//! its VM's session ends; the one that has been free longest is given out first, so that a late answer finds nobody
//! rather than somebody else.

use std::collections::VecDeque;

use rustc_hash::FxHashMap;

use super::directory::MAX_SERVICES;
use super::journal::{Entry, Journal};
use super::policy::AddressBits;
use crate::rpmsg::address::Slot;

/// Most entries that one VM may have at a time.
pub(super) const MAX_PER_VM: u16 = 480;

/// What an address of the table stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Alias {
    /// The one client that the firmware of this service sees.
    Client {
        /// Its number in the directory.
        service: usize,
    },
    /// An endpoint of the VM in this slot, in its present session.
    Endpoint {
        /// The VM.
        slot: Slot,
        /// The endpoint's address as the guest knows it.
        address: u32,
    },
}

/// The table of one remote.
#[derive(Debug)]
pub(super) struct Aliases {
    bits: AddressBits,
    entries: Vec<Option<(Slot, u32)>>,
    by_endpoint: FxHashMap<(Slot, u32), u32>,
    /// Entries that were used before, longest free first.
    free: VecDeque<u32>,
    held: [u16; Slot::COUNT as usize],
    /// Entries that were made since the journal was written: whose, number, address.
    unlogged: Vec<(Slot, u32, u32)>,
}

impl Aliases {
    /// An empty table.
    pub(super) fn new(bits: AddressBits) -> Self {
        Aliases {
            bits,
            entries: Vec::new(),
            by_endpoint: FxHashMap::default(),
            free: VecDeque::new(),
            held: [0; Slot::COUNT as usize],
            unlogged: Vec::new(),
        }
    }

    /// First address of the table, and the first one behind it.
    fn range(&self) -> (u32, u32) {
        match self.bits {
            AddressBits::All => (127 << 24, 128 << 24),
            AddressBits::Low16 => (0x400, 0x1_0000),
        }
    }

    /// Address of the first entry for an endpoint.
    fn first_entry(&self) -> u32 {
        self.range().0 + u32::try_from(MAX_SERVICES).unwrap_or(0)
    }

    /// Whether every endpoint needs an entry.
    #[inline]
    pub(super) fn is_needed_for_all(&self) -> bool {
        self.bits == AddressBits::Low16
    }

    /// The address that the firmware of a service sees instead of its clients'.
    pub(super) fn client_of(&self, service: usize) -> u32 {
        debug_assert!(service < MAX_SERVICES, "a number of the directory");
        self.range().0 + u32::try_from(service).unwrap_or(0)
    }

    /// The host address of a guest endpoint; an entry is made if there is none. `None` if the VM has too many.
    pub(super) fn endpoint(&mut self, slot: Slot, address: u32) -> Option<u32> {
        let first = self.first_entry();
        if let Some(entry) = self.by_endpoint.get(&(slot, address)) {
            return Some(first + entry);
        }
        let held = &mut self.held[usize::from(slot.number())];
        if *held >= MAX_PER_VM {
            return None;
        }
        let unused = u32::try_from(self.entries.len()).ok().filter(|unused| first + unused < self.range().1);
        let entry = match unused {
            Some(unused) => {
                self.entries.push(None);
                unused
            }
            None => self.free.pop_front()?,
        };
        self.held[usize::from(slot.number())] += 1;
        self.entries[entry as usize] = Some((slot, address));
        self.by_endpoint.insert((slot, address), entry);
        self.unlogged.push((slot, entry, address));
        Some(first + entry)
    }

    /// The host address of a guest endpoint that has an entry.
    pub(super) fn known(&self, slot: Slot, address: u32) -> Option<u32> {
        let first = self.first_entry();
        self.by_endpoint.get(&(slot, address)).map(|entry| first + entry)
    }

    /// What a host address stands for, if it is of this table and in use.
    #[inline]
    pub(super) fn find(&self, host: u32) -> Option<Alias> {
        let (start, end) = self.range();
        let offset = (start..end).contains(&host).then(|| (host - start) as usize)?;
        match offset.checked_sub(MAX_SERVICES) {
            None => Some(Alias::Client { service: offset }),
            Some(entry) => {
                let (slot, address) = (*self.entries.get(entry)?)?;
                Some(Alias::Endpoint { slot, address })
            }
        }
    }

    /// The guests' endpoints that have an entry: slot, guest address, host address.
    pub(super) fn endpoints(&self) -> impl Iterator<Item = (Slot, u32, u32)> + '_ {
        let first = self.first_entry();
        (first..).zip(&self.entries).filter_map(|(host, entry)| {
            let (slot, address) = (*entry)?;
            Some((slot, address, host))
        })
    }

    /// The entries, and those of them that are free, longest first.
    pub(super) fn save(&self) -> (Vec<Option<(Slot, u32)>>, Vec<u32>) {
        (self.entries.clone(), self.free.iter().copied().collect())
    }

    /// Tells the journal of the entries that were made.
    #[inline]
    pub(super) fn log(&mut self, journal: &mut Journal) {
        if self.unlogged.is_empty() {
            return;
        }
        for (slot, entry, address) in self.unlogged.drain(..) {
            journal.append(&Entry::Alias { slot, entry, address });
        }
    }

    /// Goes on with what was remembered. Where the range is another one now, there is nothing to go on with.
    pub(super) fn restore(&mut self, entries: Vec<Option<(Slot, u32)>>, free: Vec<u32>) {
        let (start, end) = self.range();
        if entries.len() + MAX_SERVICES > (end - start) as usize {
            return;
        }
        for (entry, (slot, address)) in
            (0..).zip(&entries).filter_map(|(entry, taken)| Some((entry, (*taken)?)))
        {
            self.held[usize::from(slot.number())] += 1;
            self.by_endpoint.insert((slot, address), entry);
        }
        self.entries = entries;
        self.free = free.into();
    }

    /// The VM's session has ended: its entries are free.
    pub(super) fn forget(&mut self, slot: Slot) {
        if std::mem::take(&mut self.held[usize::from(slot.number())]) == 0 {
            return;
        }
        for (entry, taken) in (0..).zip(&mut self.entries) {
            if let Some((_, address)) = taken.take_if(|(holder, _)| *holder == slot) {
                self.by_endpoint.remove(&(slot, address));
                self.free.push_back(entry);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slot(number: u8) -> Slot {
        Slot::new(number).unwrap()
    }

    #[test]
    fn an_endpoint_keeps_its_address_and_gets_its_answers() {
        for bits in [AddressBits::All, AddressBits::Low16] {
            let mut aliases = Aliases::new(bits);
            let host = aliases.endpoint(slot(3), 1 << 22).unwrap();
            assert_ne!(aliases.endpoint(slot(4), 1 << 22), Some(host));
            assert_eq!(aliases.endpoint(slot(3), 1 << 22), Some(host));
            assert_eq!(aliases.find(host), Some(Alias::Endpoint { slot: slot(3), address: 1 << 22 }));
            assert_eq!(bits == AddressBits::Low16, host <= 0xFFFF);
        }
    }

    #[test]
    fn clients_and_endpoints_never_share_an_address() {
        let mut aliases = Aliases::new(AddressBits::Low16);
        let clients: Vec<_> = (0..MAX_SERVICES).map(|service| aliases.client_of(service)).collect();
        for number in 0..126 {
            for address in 0..u32::from(MAX_PER_VM) {
                let host = aliases.endpoint(slot(number), address).unwrap();
                assert!(host <= 0xFFFF && !clients.contains(&host));
            }
        }
        assert!(
            clients
                .iter()
                .zip(0..)
                .all(|(host, service)| aliases.find(*host) == Some(Alias::Client { service }))
        );
    }

    #[test]
    fn one_vm_cannot_use_the_table_up_and_an_ended_session_gives_its_entries_back() {
        let mut aliases = Aliases::new(AddressBits::Low16);
        let hosts: Vec<_> =
            (0..u32::from(MAX_PER_VM)).map(|address| aliases.endpoint(slot(1), address).unwrap()).collect();
        assert_eq!(aliases.endpoint(slot(1), 9999), None);
        assert!(aliases.endpoint(slot(2), 9999).is_some());
        aliases.forget(slot(1));
        assert!(hosts.iter().all(|host| aliases.find(*host).is_none()));
        let again = aliases.endpoint(slot(1), 0).unwrap();
        assert!(!hosts.contains(&again), "a late answer finds nobody");
    }

    #[test]
    fn the_longest_free_entry_is_given_out_first_when_the_table_is_full() {
        let mut aliases = Aliases::new(AddressBits::Low16);
        for round in 0..200_u32 {
            let hosts: Vec<_> = (0..u32::from(MAX_PER_VM))
                .map(|at| aliases.endpoint(slot(1), round << 16 | at).unwrap())
                .collect();
            assert!(hosts.iter().all(|host| *host <= 0xFFFF));
            aliases.forget(slot(1));
        }
    }
}
