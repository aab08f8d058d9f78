//! The way to a guest: one message or announcement into its next receive buffer.
//!
//! What reaches a guest is well formed whatever the remote has sent: the used length is that of header and payload,
//! the payload fits, and the header is written anew.

use super::counters::Reason;
use super::vm::Account;
use crate::guest::port::QueueIndex;
use crate::guest::queue::QueueFault;
use crate::guest::{Direction, Queue};
use crate::remote::messages::{Inbound, Message};
use crate::rpmsg::{ANNOUNCEMENT_LEN, Announcement, HEADER_LEN, Header};

/// How a delivery went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Delivery {
    /// The guest has it.
    Done,
    /// The guest has no buffer now.
    Later,
    /// It never will work; counted.
    Dropped,
}

impl Delivery {
    /// Why the message was dropped, if it was.
    pub(super) fn reason(self) -> Option<Reason> {
        (self == Delivery::Dropped).then_some(Reason::ReceiveBufferTooSmall)
    }
}

/// Whether the guest's receive queue has a buffer. A queue that has become unusable is reported, and is empty from
/// then on.
#[inline]
pub(super) fn has_buffer(queue: &mut Queue, account: &mut Account) -> bool {
    let fault = match queue.peek(Direction::ToGuest) {
        Ok(None) => return false,
        Ok(Some(Ok(()))) => return true,
        Ok(Some(Err(error))) => queue.broken_by(QueueFault::ReceiveBuffer(error)),
        Err(fault) => fault,
    };
    account.queue_broke(QueueIndex::ToGuest, fault);
    false
}

/// Copies a message from the remote, whose destination is the guest's own address by now, into the guest's next
/// receive buffer.
#[inline]
pub(super) fn deliver(
    queue: &mut Queue,
    account: &mut Account,
    inbound: &Inbound,
    service: Option<usize>,
    message: Message,
) -> Delivery {
    if !has_buffer(queue, account) {
        return Delivery::Later;
    }
    let len = message.header.payload_len();
    let room = queue.chain_len();
    if room < HEADER_LEN + len {
        let detail = format_args!("{room} bytes for a message of {}", HEADER_LEN + len);
        account.drop_message(Reason::ReceiveBufferTooSmall, service, &detail);
        return Delivery::Dropped;
    }
    queue.write_head(Header { reserved: 0, ..message.header }.to_bytes());
    queue.for_each_piece(HEADER_LEN, len, |start, piece| inbound.copy_payload(message.id, start, piece));
    queue.complete(message.header.message_len());
    account.counters.delivered(service, len);
    Delivery::Done
}

/// Puts a name service message into the guest's next receive buffer.
pub(super) fn announce(queue: &mut Queue, account: &mut Account, announcement: Announcement) -> Delivery {
    if !has_buffer(queue, account) {
        return Delivery::Later;
    }
    let room = queue.chain_len();
    if room < HEADER_LEN + ANNOUNCEMENT_LEN {
        let detail = format_args!("{room} bytes for an announcement");
        account.drop_message(Reason::ReceiveBufferTooSmall, None, &detail);
        return Delivery::Dropped;
    }
    let header = announcement.header();
    queue.write_head(header.to_bytes());
    queue.write(HEADER_LEN, &announcement.to_bytes());
    queue.complete(header.message_len());
    Delivery::Done
}
