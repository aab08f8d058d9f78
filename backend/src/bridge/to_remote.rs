//! The way to the remote: one message from a guest's transmit queue into a buffer of the remote's.
//!
//! Everything that a guest writes is untrusted. The header is copied once, checked and written anew; a bad message
//! goes back to its guest and is counted, and the queue goes on.

use std::fmt::Display;

use log::Level;

use super::counters::Reason;
use super::vm::{Account, GuestService, MAX_ANNOUNCEMENTS};
use crate::guest::port::QueueIndex;
use crate::guest::{Direction, Queue};
use crate::remote::messages::Outbound;
use crate::rpmsg::{
    ANY_ADDRESS, Announcement, AnnouncementKind, HEADER_LEN, Header, MAX_PAYLOAD, NAME_SERVICE_ADDRESS,
};

/// What became of the next message of a guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Taken {
    /// It was relayed, or dropped and counted; its descriptor goes back.
    Done,
    /// There is none.
    Nothing,
    /// The remote has no buffer for it now; it stays where it is.
    Stalled,
}

/// Takes the next message out of a guest's transmit queue. `outbound` is `None` while the remote is not running.
#[inline]
pub(super) fn take_message(
    queue: &mut Queue,
    account: &mut Account,
    outbound: Option<&mut Outbound>,
) -> Taken {
    match queue.peek(Direction::FromGuest) {
        Ok(None) => return Taken::Nothing,
        Ok(Some(Ok(()))) => {}
        Ok(Some(Err(error))) => return refuse(queue, account, Reason::BadChain, &error),
        Err(fault) => {
            account.queue_broke(QueueIndex::FromGuest, fault);
            return Taken::Nothing;
        }
    }
    let mut bytes = [0; HEADER_LEN];
    queue.read(0, &mut bytes);
    let header = Header::from_bytes(&bytes);
    if let Err(error) = header.check(queue.chain_len()) {
        return refuse(queue, account, Reason::BadHeader, &error);
    }
    if header.dst == NAME_SERVICE_ADDRESS {
        return take_announcement(queue, account, outbound, header);
    }
    let Header { src, dst, .. } = header;
    let Some(host) = account.host_address(src).filter(|_| dst != ANY_ADDRESS) else {
        return refuse(queue, account, Reason::BadAddress, &format_args!("from {src:#x} to {dst:#x}"));
    };
    let Some(outbound) = outbound else {
        return refuse(queue, account, Reason::RemoteNotRunning, &format_args!("from {src:#x} to {dst:#x}"));
    };
    let Some(buffer) = outbound.reserve() else { return Taken::Stalled };
    let len = header.payload_len();
    let mut done = 0;
    for piece in queue.pieces(HEADER_LEN, len) {
        outbound.copy_payload(&buffer, done, &piece);
        done += piece.len();
    }
    outbound.send(buffer, Header { src: host, reserved: 0, ..header });
    queue.complete(0);
    account.counters.to_remote.add(len);
    Taken::Done
}

/// Returns a message to its guest unsent.
#[cold]
fn refuse(queue: &mut Queue, account: &mut Account, reason: Reason, detail: &dyn Display) -> Taken {
    queue.complete(0);
    account.drop_message(reason, detail);
    Taken::Done
}

/// A guest tells of a service of its own: the remote is told of it under the guest's host address.
#[cold]
fn take_announcement(
    queue: &mut Queue,
    account: &mut Account,
    outbound: Option<&mut Outbound>,
    header: Header,
) -> Taken {
    let mut payload = [0; MAX_PAYLOAD];
    let len = queue.read(HEADER_LEN, &mut payload[..header.payload_len()]);
    let Announcement { name, addr: address, kind } = match Announcement::from_bytes(&payload[..len]) {
        Ok(announcement) => announcement,
        Err(error) => return refuse(queue, account, Reason::BadAnnouncement, &error),
    };
    let Some(host) = account.host_address(address) else {
        return refuse(queue, account, Reason::BadAddress, &format_args!("service {name} at {address:#x}"));
    };
    let known =
        account.services.iter().position(|service| (service.name, service.address) == (name, address));
    let announcement = Announcement { name, addr: host, kind };
    match (kind, known) {
        (AnnouncementKind::Create, Some(_)) | (AnnouncementKind::Destroy, None) => {
            let detail = format_args!("{kind:?} of {name} at {address:#x} out of turn");
            return refuse(queue, account, Reason::BadAnnouncement, &detail);
        }
        (AnnouncementKind::Create, None) => {
            if account.services.len() >= MAX_ANNOUNCEMENTS {
                return refuse(queue, account, Reason::TooManyAnnouncements, &name);
            }
            // A remote that is not there yet is told when it comes.
            let told = outbound.is_some();
            if outbound.is_some_and(|outbound| !send_announcement(outbound, announcement)) {
                return Taken::Stalled;
            }
            account.services.push(GuestService { name, address, told });
        }
        (AnnouncementKind::Destroy, Some(index)) => {
            let told = account.services[index].told;
            if outbound.filter(|_| told).is_some_and(|outbound| !send_announcement(outbound, announcement)) {
                return Taken::Stalled;
            }
            account.services.swap_remove(index);
        }
    }
    account
        .say(Level::Info, format_args!("{kind:?} service {name} at {address:#x}, {host:#x} to the remote"));
    queue.complete(0);
    Taken::Done
}

/// Tells the remote of services that the VM has or had, as far as there are buffers. Returns whether any were told.
#[cold]
pub(super) fn tell_remote(account: &mut Account, outbound: &mut Outbound) -> bool {
    let mut told = false;
    while let Some((name, addr)) = account.withdrawn.last().copied() {
        if !send_announcement(outbound, Announcement { name, addr, kind: AnnouncementKind::Destroy }) {
            return told;
        }
        account.withdrawn.pop();
        told = true;
    }
    for index in 0..account.services.len() {
        let GuestService { name, address, told: known } = account.services[index];
        let Some(addr) = account.host_address(address).filter(|_| !known) else { continue };
        if !send_announcement(outbound, Announcement { name, addr, kind: AnnouncementKind::Create }) {
            return told;
        }
        account.services[index].told = true;
        told = true;
    }
    told
}

/// Sends a name service message, if there is a buffer for it.
fn send_announcement(outbound: &mut Outbound, announcement: Announcement) -> bool {
    let Some(buffer) = outbound.reserve() else { return false };
    outbound.write_payload(&buffer, &announcement.to_bytes());
    outbound.send(buffer, announcement.header());
    true
}
