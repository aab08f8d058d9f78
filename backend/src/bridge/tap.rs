//! What a capture sees of the messages: the bridge's side of it.
//!
//! While somebody captures, every relay has a `Tap`: it copies the messages that it is shown into a ring of records, which a
//! thread of the capture empties ([`capture`](super::capture)). The ring is made when the capture begins, with room for
//! `RECORDS`. A record that finds no room in it is dropped and counted; the message is none the worse for it.
//!
//! A message is shown once it is settled what becomes of it: relayed, or dropped for a [`Reason`] once it had a header and a VM.
//! What is copied is only looked at: guests and remotes may change it meanwhile.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};
use std::sync::mpsc::Sender;
use std::time::Instant;

use log::debug;
use rtrb::{Consumer, Producer, RingBuffer};

use super::counters::Reason;
use super::directory::Directory;
use super::relay::Relay;
use super::vm::Account;
use crate::remote::messages::{Inbound, Message};
use crate::rpmsg::address::{Session, Slot};
use crate::rpmsg::{Announcement, BUFFER_SIZE, HEADER_LEN, Header, MAX_PAYLOAD, ServiceName};

/// Records that a ring has room for: 2.5 MB.
const RECORDS: usize = 4096;

/// Which messages are captured.
#[derive(Clone, Debug)]
pub struct Filter {
    /// Slots of the VMs, a bit each.
    pub slots: u128,
    /// Names of the services; any message where there are none.
    pub services: Vec<ServiceName>,
    /// Most bytes of each message, header included.
    pub snap_length: usize,
}

/// Which way a message went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// From a guest.
    ToRemote,
    /// To a guest.
    ToGuest,
}

/// What is known of a message.
#[derive(Clone, Copy, Debug)]
pub struct Seen {
    /// Which way it went.
    pub way: Way,
    /// The VM's place.
    pub slot: Slot,
    /// Number of the VM's session.
    pub session: Session,
    /// The guest endpoint's address as the remote knows it.
    pub host: u32,
    /// The header as the guest knows it.
    pub header: Header,
    /// The service that it went to or came from, or that it tells of.
    pub service: Option<ServiceName>,
    /// Why it was dropped, if it was.
    pub dropped: Option<Reason>,
}

/// A message as it was captured.
#[derive(Clone, Debug)]
pub struct Record {
    /// When its batch began.
    pub at: Instant,
    /// Number of its VM in this capture.
    pub interface: u32,
    /// What is known of it.
    pub seen: Seen,
    captured: usize,
    bytes: [u8; BUFFER_SIZE],
}

impl Record {
    /// A message of which at most so many bytes are captured; its payload is still to be filled in.
    pub fn new(at: Instant, interface: u32, seen: Seen, snap_length: usize) -> Self {
        let captured = (HEADER_LEN + seen.header.payload_len().min(MAX_PAYLOAD)).min(snap_length);
        let mut bytes = [0; BUFFER_SIZE];
        bytes[..HEADER_LEN].copy_from_slice(&Header { reserved: 0, ..seen.header }.to_bytes());
        Record { at, interface, seen, captured, bytes }
    }

    /// Its payload, as much of it as was asked for.
    pub fn payload(&mut self) -> &mut [u8] {
        &mut self.bytes[HEADER_LEN..self.captured.max(HEADER_LEN)]
    }

    /// Its header and payload, as much of it as was asked for.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[..self.captured]
    }
}

/// What the capture's thread has to know beside the records.
#[derive(Debug)]
pub(super) enum Event {
    /// Another ring to be emptied.
    Ring(Consumer<Record>),
    /// A VM that comes with records of this number, which is one more than the last.
    Interface(Slot, String),
}

/// What both sides of a capture look at.
#[derive(Debug)]
pub(super) struct Shared {
    /// Records that found no room, by slot.
    pub(super) lost: [AtomicU64; Slot::COUNT as usize],
    /// Whether the capture's thread waits to be woken.
    pub(super) asleep: AtomicBool,
    /// What it waits for.
    pub(super) doorbell: OwnedFd,
}

impl Shared {
    pub(super) fn new(doorbell: OwnedFd) -> Self {
        Shared { lost: [const { AtomicU64::new(0) }; _], asleep: AtomicBool::new(false), doorbell }
    }

    /// Wakes the capture's thread, if it sleeps.
    fn wake(&self) {
        fence(Ordering::SeqCst);
        if self.asleep.load(Ordering::Relaxed)
            && self.asleep.swap(false, Ordering::Relaxed)
            && let Err(error) = rustix::io::write(&self.doorbell, &1_u64.to_ne_bytes())
        {
            debug!("capture: {error}; it is awake already");
        }
    }
}

/// A capture as the bridge's thread knows it. The capture is over when this is dropped.
#[derive(Debug)]
pub(super) struct Tapping {
    filter: Arc<Filter>,
    events: Option<Sender<Event>>,
    shared: Arc<Shared>,
    /// Number of the next VM.
    next: u32,
}

impl Drop for Tapping {
    fn drop(&mut self) {
        self.events = None;
        self.shared.wake();
    }
}

impl Tapping {
    pub(super) fn new(filter: Filter, events: Sender<Event>, shared: Arc<Shared>) -> Self {
        Tapping { filter: Arc::new(filter), events: Some(events), shared, next: 0 }
    }

    /// Captures what passes this relay from now on.
    pub(super) fn begin(&mut self, relay: &mut Relay) {
        let (producer, consumer) = RingBuffer::new(RECORDS);
        self.tell(Event::Ring(consumer));
        relay.tap = Some(Box::new(Tap {
            filter: Arc::clone(&self.filter),
            ring: producer,
            interfaces: [None; Slot::COUNT as usize],
            shared: Arc::clone(&self.shared),
            now: Instant::now(),
            is_behind: false,
        }));
        for slot in 0..relay.vms.len() {
            self.add_vm(relay, slot);
        }
    }

    /// There is a VM in this slot now.
    pub(super) fn add_vm(&mut self, relay: &mut Relay, slot: usize) {
        let (Some(vm), Some(tap)) = (&relay.vms[slot], &mut relay.tap) else { return };
        if self.filter.slots & (1 << slot) == 0 {
            return;
        }
        self.shared.lost[slot].store(0, Ordering::Relaxed);
        tap.interfaces[slot] = Some(self.next);
        self.next += 1;
        self.tell(Event::Interface(vm.account.slot(), vm.account.name.clone()));
    }

    fn tell(&self, event: Event) {
        if let Some(Err(_)) = self.events.as_ref().map(|events| events.send(event)) {
            debug!("capture: its thread has ended");
        }
    }
}

/// Where a relay shows its messages to.
#[derive(Debug)]
pub(super) struct Tap {
    filter: Arc<Filter>,
    ring: Producer<Record>,
    /// Number of the VM in each slot in this capture.
    interfaces: [Option<u32>; Slot::COUNT as usize],
    shared: Arc<Shared>,
    now: Instant,
    /// Whether there is something that the capture's thread was not woken for.
    is_behind: bool,
}

impl Tap {
    /// What is shown from now on happens at this time.
    pub(super) fn at(&mut self, now: Instant) {
        self.now = now;
    }

    /// A batch is over.
    #[cold]
    pub(super) fn flush(&mut self) {
        if std::mem::take(&mut self.is_behind) {
            self.shared.wake();
        }
    }

    /// Records a message, whose payload `fill` copies as far as it is asked to.
    #[cold]
    pub(super) fn show(&mut self, seen: Seen, fill: impl FnOnce(&mut [u8])) {
        let Some(interface) = self.interfaces[usize::from(seen.slot.number())] else { return };
        let services = &self.filter.services;
        if !services.is_empty() && !seen.service.is_some_and(|name| services.contains(&name)) {
            return;
        }
        self.is_behind = true;
        if self.ring.is_full() {
            self.shared.lost[usize::from(seen.slot.number())].fetch_add(1, Ordering::Relaxed);
            return;
        }
        let mut record = Record::new(self.now, interface, seen, self.filter.snap_length);
        fill(record.payload());
        // There is room, and nobody else fills it.
        let _ = self.ring.push(record);
    }

    /// Records a message from the remote for a VM, whose destination is the guest's own address by now.
    #[cold]
    pub(super) fn show_inbound(
        &mut self,
        account: &Account,
        inbound: &Inbound,
        service: Option<ServiceName>,
        message: Message,
        dropped: Option<Reason>,
    ) {
        let seen = Seen {
            way: Way::ToGuest,
            slot: account.slot(),
            session: account.session(),
            host: inbound.header_of(message.id).dst,
            header: message.header,
            service,
            dropped,
        };
        self.show(seen, |target| inbound.read_payload(message.id, target));
    }

    /// Records a name service message. To a guest it is what the directory has to say.
    #[cold]
    pub(super) fn show_announcement(
        &mut self,
        way: Way,
        slot: Slot,
        session: Session,
        announcement: Announcement,
    ) {
        let header = announcement.header();
        let service = Some(announcement.name);
        let seen = Seen { way, slot, session, host: header.dst, header, service, dropped: None };
        let bytes = announcement.to_bytes();
        self.show(seen, |target| target.copy_from_slice(&bytes[..target.len()]));
    }
}

/// The name of a service.
pub(super) fn name_of(directory: &Directory, service: Option<usize>) -> Option<ServiceName> {
    directory.name(service?).map(|(name, _)| name)
}
