//! The way to the remote: one message from a guest's transmit queue into a buffer of the remote's.
//!
//! Everything that a guest writes is untrusted. The header is copied once, checked and written anew; a bad message
//! goes back to its guest and is counted, and the queue goes on.

use std::fmt::Display;
use std::time::Instant;

use log::Level;

use super::aliases::Aliases;
use super::counters::Reason;
use super::desk::Sending;
use super::directory::Directory;
use super::fairness::{BRIDGE, BRIDGE_OWNER, Fairness, Verdict};
use super::journal::{Entry, Journal};
use super::parties::{Client, GuestService, Route};
use super::tap::{Seen, Tap, Way, name_of};
use super::vm::{Account, MAX_ANNOUNCEMENTS};
use crate::guest::port::QueueIndex;
use crate::guest::{Direction, Queue};
use crate::remote::messages::Outbound;
use crate::rpmsg::{
    ANNOUNCEMENT_LEN, ANY_ADDRESS, Announcement, AnnouncementKind, HEADER_LEN, Header, MAX_PAYLOAD,
    NAME_SERVICE_ADDRESS,
};

/// What became of the next message of a guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Taken {
    /// It was relayed, or dropped and counted; its descriptor goes back.
    Done,
    /// There is none.
    Nothing,
    /// It must not go now, for want of a buffer or because of the VM's limits; it stays where it is.
    NotNow,
    /// It is for a service where it is another VM's turn; it stays where it is.
    NotItsTurn,
}

/// All that a message passes by on its way to the remote.
pub(super) struct Passage<'a> {
    /// Where it goes; `None` while the remote is not running.
    pub(super) outbound: Option<&'a mut Outbound>,
    pub(super) directory: &'a mut Directory,
    pub(super) aliases: &'a mut Aliases,
    pub(super) fairness: &'a mut Fairness,
    pub(super) journal: &'a mut Journal,
    /// Where the message is shown, if somebody captures.
    pub(super) tap: Option<&'a mut Tap>,
    pub(super) now: Instant,
    /// Set when a message has changed who may see a service.
    pub(super) rights_changed: bool,
}

impl Passage<'_> {
    /// Takes the next message out of a guest's transmit queue.
    #[inline]
    pub(super) fn take_message(&mut self, queue: &mut Queue, account: &mut Account) -> Taken {
        match queue.peek(Direction::FromGuest) {
            Ok(None) => return Taken::Nothing,
            Ok(Some(Ok(()))) => {}
            Ok(Some(Err(error))) => return self.refuse(queue, account, Reason::BadChain, None, &error),
            Err(fault) => {
                account.queue_broke(QueueIndex::FromGuest, fault);
                return Taken::Nothing;
            }
        }
        let header = Header::from_bytes(&queue.read_head());
        if let Err(error) = header.check(queue.chain_len()) {
            return self.refuse(queue, account, Reason::BadHeader, None, &error);
        }
        let Header { src, dst, .. } = header;
        if dst == NAME_SERVICE_ADDRESS {
            return self.take_announcement(queue, account, header);
        }
        let route = Route { src, dst };
        if self.outbound.is_none() {
            return self.refuse(queue, account, Reason::RemoteNotRunning, None, &route);
        }
        let service = self.directory.at(dst);
        let is_allowed = match service {
            Some(service) => self.directory.sees(account.slot(), service),
            None => account.may_send_unannounced(dst),
        };
        if !is_allowed {
            return self.refuse(queue, account, Reason::NotAllowed, service, &route);
        }
        if let Some(service) = service {
            if self.directory.desk(service).is_some() {
                return self.take_to_desk(queue, account, service, header);
            }
            self.directory.watch(service).asked(account.slot(), self.now);
        }
        let host = account.host_address(self.aliases, src).filter(|_| dst != ANY_ADDRESS);
        let Some(host) = host else {
            return self.refuse(queue, account, Reason::BadAddress, service, &route);
        };
        self.send(queue, account, service, header, host)
    }

    /// Copies the message into a buffer of the remote's, behind this header with the sender's host address.
    #[inline]
    fn send(
        &mut self,
        queue: &mut Queue,
        account: &mut Account,
        service: Option<usize>,
        header: Header,
        host: u32,
    ) -> Taken {
        let len = header.payload_len();
        let slot = usize::from(account.slot().number());
        if self.fairness.may_send(slot, len) != Verdict::Send {
            return Taken::NotNow;
        }
        let buffer = self.outbound.as_mut().and_then(|outbound| Some((outbound.reserve()?, outbound)));
        let Some((buffer, outbound)) = buffer else {
            // The scheduler counts the same buffers, so this cannot be; if it is, the VM looks again when kicked.
            self.fairness.emptied(slot);
            return Taken::NotNow;
        };
        self.fairness.sent(slot, buffer.id(), len);
        self.journal.append(&Entry::Sent { owner: account.slot().number(), buffer: buffer.id() });
        queue.for_each_piece(HEADER_LEN, len, |start, piece| outbound.copy_payload(&buffer, start, piece));
        outbound.send(buffer, Header { src: host, reserved: 0, ..header });
        if self.tap.is_some() {
            self.show(queue, account, service, header, host, None);
        }
        queue.complete(0);
        account.counters.sent(service, len);
        Taken::Done
    }

    /// Shows a message of a guest's to whoever captures.
    #[cold]
    fn show(
        &mut self,
        queue: &Queue,
        account: &Account,
        service: Option<usize>,
        header: Header,
        host: u32,
        dropped: Option<Reason>,
    ) {
        let Some(tap) = &mut self.tap else { return };
        let (slot, session) = (account.slot(), account.session());
        let service = name_of(self.directory, service);
        tap.show(Seen { way: Way::ToRemote, slot, session, host, header, service, dropped }, |target| {
            queue.read(HEADER_LEN, target);
        });
    }

    /// A message for a service that VMs cannot simply share.
    fn take_to_desk(
        &mut self,
        queue: &mut Queue,
        account: &mut Account,
        service: usize,
        header: Header,
    ) -> Taken {
        let client = Client { slot: account.slot(), session: account.session(), address: header.src };
        let Some(desk) = self.directory.desk(service) else { return Taken::Nothing };
        match desk.send(client) {
            Sending::Pass => {
                let src = self.aliases.client_of(service);
                let taken = self.send(queue, account, Some(service), header, src);
                if taken == Taken::Done
                    && let Some(desk) = self.directory.desk(service)
                    && desk.sent(client, self.now)
                {
                    self.directory.touch(service);
                    self.rights_changed = true;
                }
                taken
            }
            Sending::Keep => {
                let mut payload = [0; MAX_PAYLOAD];
                let len = queue.read(HEADER_LEN, &mut payload[..header.payload_len()]);
                desk.keep(client, header.flags, &payload[..len]);
                self.done_without_buffer(queue, account)
            }
            Sending::Wait => Taken::NotItsTurn,
            Sending::Subscribed => {
                account.counters.subscribed();
                self.done_without_buffer(queue, account)
            }
            Sending::Refused => {
                let route = Route { src: header.src, dst: header.dst };
                self.refuse(queue, account, Reason::NotAllowed, Some(service), &route)
            }
        }
    }

    /// A guest tells of a service of its own: the remote is told of it under the guest's host address.
    #[cold]
    fn take_announcement(&mut self, queue: &mut Queue, account: &mut Account, header: Header) -> Taken {
        let mut payload = [0; MAX_PAYLOAD];
        let len = queue.read(HEADER_LEN, &mut payload[..header.payload_len()]);
        let Announcement { name, addr: address, kind } = match Announcement::from_bytes(&payload[..len]) {
            Ok(announcement) => announcement,
            Err(error) => return self.refuse(queue, account, Reason::BadAnnouncement, None, &error),
        };
        let Some(host) = account.host_address(self.aliases, address) else {
            let detail = format_args!("service {name} at {address:#x}");
            return self.refuse(queue, account, Reason::BadAddress, None, &detail);
        };
        let known =
            account.services.iter().position(|service| (service.name, service.address) == (name, address));
        let announcement = Announcement { name, addr: host, kind };
        match (kind, known) {
            (AnnouncementKind::Create, Some(_)) | (AnnouncementKind::Destroy, None) => {
                let detail = format_args!("{kind:?} of {name} at {address:#x} out of turn");
                return self.refuse(queue, account, Reason::BadAnnouncement, None, &detail);
            }
            (AnnouncementKind::Create, None) => {
                if account.services.len() >= MAX_ANNOUNCEMENTS {
                    return self.refuse(queue, account, Reason::TooManyAnnouncements, None, &name);
                }
                // A remote that is not there yet is told when it comes.
                let told = self.outbound.is_some();
                if told && !self.send_announcement(account, announcement) {
                    let _ = self.fairness.may_send(usize::from(account.slot().number()), ANNOUNCEMENT_LEN);
                    return Taken::NotNow;
                }
                let service = GuestService { name, address, told };
                account.services.push(service);
                self.journal.append(&Entry::GuestService { slot: account.slot(), service });
            }
            (AnnouncementKind::Destroy, Some(index)) => {
                let told = account.services[index].told && self.outbound.is_some();
                if told && !self.send_announcement(account, announcement) {
                    let _ = self.fairness.may_send(usize::from(account.slot().number()), ANNOUNCEMENT_LEN);
                    return Taken::NotNow;
                }
                account.services.swap_remove(index);
                self.journal.append(&Entry::GuestServiceGone { slot: account.slot(), name, address });
            }
        }
        let text = format_args!("{kind:?} service {name} at {address:#x}, {host:#x} to the remote");
        account.say(Level::Info, text);
        self.done_without_buffer(queue, account)
    }

    /// Tells the remote of services that the VM has and it does not know, as far as there are buffers. Returns how many
    /// were told.
    #[cold]
    pub(super) fn tell_remote(&mut self, account: &mut Account) -> usize {
        let mut told = 0;
        for index in 0..account.services.len() {
            let GuestService { name, address, told: known } = account.services[index];
            let host = account.host_address(self.aliases, address).filter(|_| !known);
            let Some(addr) = host else { continue };
            if !self.send_announcement(account, Announcement { name, addr, kind: AnnouncementKind::Create }) {
                break;
            }
            let service = GuestService { told: true, ..account.services[index] };
            account.services[index] = service;
            self.journal.append(&Entry::GuestService { slot: account.slot(), service });
            told += 1;
        }
        told
    }

    /// Sends a name service message, if the remote is there and has a buffer for it.
    fn send_announcement(&mut self, account: &Account, announcement: Announcement) -> bool {
        let Some(outbound) = &mut self.outbound else { return false };
        let Some(buffer) = outbound.reserve() else { return false };
        self.fairness.sent(BRIDGE, buffer.id(), ANNOUNCEMENT_LEN);
        self.journal.append(&Entry::Sent { owner: BRIDGE_OWNER, buffer: buffer.id() });
        outbound.write_payload(&buffer, &announcement.to_bytes());
        outbound.send(buffer, announcement.header());
        if let Some(tap) = &mut self.tap {
            tap.show_announcement(Way::ToRemote, account.slot(), account.session(), announcement);
        }
        true
    }

    /// Returns a message to its guest unsent.
    #[cold]
    fn refuse(
        &mut self,
        queue: &mut Queue,
        account: &mut Account,
        reason: Reason,
        service: Option<usize>,
        detail: &dyn Display,
    ) -> Taken {
        account.drop_message(reason, service, detail);
        // Others have no header to be shown.
        if self.tap.is_some() && !matches!(reason, Reason::BadChain | Reason::BadHeader) {
            let header = Header::from_bytes(&queue.read_head());
            self.show(queue, account, service, header, ANY_ADDRESS, Some(reason));
        }
        self.done_without_buffer(queue, account)
    }

    /// Returns a message that has cost the remote nothing, but the bridge its time.
    fn done_without_buffer(&mut self, queue: &mut Queue, account: &Account) -> Taken {
        queue.complete(0);
        self.fairness.dropped(usize::from(account.slot().number()));
        Taken::Done
    }
}
