//! The driver in a guest: Linux `virtio_rpmsg_bus.c` on `virtio_ring.c`, without what a bench does not need.

use std::sync::atomic::{Ordering, fence};

use vhost_device_rpmsg::rpmsg::{BUFFER_SIZE, HEADER_LEN, Header};
use virtio_queue::desc::split::Descriptor;
use vmm_sys_util::eventfd::EventFd;

use super::ring::{Area, Ring};
use super::{NUMBER, Notifications};
use crate::harness::buffers::TX_POOL;
use crate::harness::driver::{RX, TX};
use crate::harness::guest::Guest as Harnessed;
use crate::harness::ram::MAIN_BASE;

/// A guest whose rings have been taken over. EVENT_IDX is negotiated.
pub(crate) struct Guest<'m> {
    area: Area<'m>,
    /// Where the transmit buffers are.
    buffers: Vec<u64>,
    receive: Ring<'m>,
    transmit: Ring<'m>,
    notifications: Notifications,
    kicks: [&'m EventFd; 2],
    calls: [&'m EventFd; 2],
    called: u64,
    /// Received up to here, and buffers given back up to here.
    taken: u16,
    posted: u16,
    /// Messages written up to here, and made visible up to here.
    written: u16,
    published: u16,
    /// Messages sent off up to here, when that was last looked at.
    sent: u16,
    /// Receive buffers made visible up to here.
    reposted: u16,
    /// Number of the next message, and of the next answer.
    number: u32,
    awaited: u32,
    /// Messages that have not been answered.
    unanswered: u32,
    message: [u8; BUFFER_SIZE],
    kicked: u64,
}

impl<'m> Guest<'m> {
    /// Takes over the rings of a guest that has sent nothing and taken everything.
    pub(crate) fn take_over(guest: &'m Harnessed, notifications: Notifications) -> Self {
        assert!(guest.options().event_idx, "a guest with EVENT_IDX, as Linux has it");
        let area = Area::around(guest.ram().mem(), MAIN_BASE);
        let [receive, transmit] = guest.rings();
        let (rx, tx) = (Ring::at(area, receive.place()), Ring::at(area, transmit.place()));
        assert_eq!(tx.available_to(), tx.used_to(), "messages of a guest that is taken over");
        let posted = rx.available_to();
        let guest = Guest {
            area,
            buffers: (0..tx.size())
                .map(|slot| TX_POOL.cut(slot, BUFFER_SIZE, &[]).segments()[0].addr)
                .collect(),
            receive: rx,
            transmit: tx,
            notifications,
            kicks: [receive.kick_fd(), transmit.kick_fd()],
            calls: [receive.call_fd(), transmit.call_fd()],
            called: 0,
            taken: rx.used_to(),
            posted,
            reposted: posted,
            written: tx.available_to(),
            published: tx.available_to(),
            sent: tx.available_to(),
            number: 0,
            awaited: 0,
            unanswered: 0,
            message: [7; BUFFER_SIZE],
            kicked: 0,
        };
        guest.want_call();
        guest
    }

    /// Asks to be called for the next message, or for none in a long while. For what the device has sent off nobody ever
    /// asks, as rpmsg does it (`virtqueue_disable_cb()`).
    #[inline]
    fn want_call(&self) {
        let event = match self.notifications {
            Notifications::Wanted => self.taken,
            Notifications::Unwanted => self.taken.wrapping_sub(1),
        };
        self.receive.used_event.store(event, Ordering::Relaxed);
    }

    /// Writes a message from one endpoint to another, which nobody sees yet; false if no buffer is free.
    #[inline]
    pub(crate) fn put(&mut self, src: u32, dst: u32, payload: usize, answered: bool) -> bool {
        if !self.has_room() {
            return false;
        }
        let id = self.written & (self.transmit.size() - 1);
        let len = u16::try_from(payload).expect("a payload that a header can tell of");
        let header = Header { src, dst, reserved: 0, len, flags: 0 };
        self.message[..HEADER_LEN].copy_from_slice(&header.to_bytes());
        self.message[NUMBER].copy_from_slice(&self.number.to_le_bytes());
        let address = self.buffers[usize::from(id)];
        self.area.write(address, &self.message[..HEADER_LEN + payload]);
        self.transmit.set_descriptor(id, Descriptor::new(address, header.message_len(), 0, 0));
        self.transmit.set_available(self.written, id);
        self.written = self.written.wrapping_add(1);
        if answered {
            if self.unanswered == 0 {
                self.awaited = self.number;
            }
            self.unanswered += 1;
        }
        self.number = self.number.wrapping_add(1);
        true
    }

    /// Whether a buffer is free. The device completes in order, so the ring is full when its oldest entry is not used. As in
    /// Linux, that is looked at when none is known to be free.
    #[inline]
    fn has_room(&mut self) -> bool {
        if self.written.wrapping_sub(self.sent) == self.transmit.size() {
            self.sent = self.transmit.used_to();
        }
        self.written.wrapping_sub(self.sent) < self.transmit.size()
    }

    /// Makes visible what was written, and kicks if that is wanted.
    #[inline]
    pub(crate) fn publish(&mut self) {
        if self.written != self.published {
            self.transmit.available_index.store(self.written, Ordering::Release);
            self.kick(TX, self.published, self.written);
            self.published = self.written;
        }
    }

    /// `virtqueue_kick_prepare()` and `virtqueue_notify()`.
    #[inline]
    fn kick(&mut self, queue: usize, old: u16, new: u16) {
        fence(Ordering::SeqCst);
        let ring = if queue == RX { &self.receive } else { &self.transmit };
        let event = ring.available_event.load(Ordering::Relaxed);
        // vring_need_event() of include/uapi/linux/virtio_ring.h
        if new.wrapping_sub(event).wrapping_sub(1) < new.wrapping_sub(old) {
            self.kicks[queue].write(1).expect("kick");
            self.kicked += 1;
        }
    }

    /// Whether everything that was published has been sent off.
    #[inline]
    pub(crate) fn is_sent(&self) -> bool {
        self.transmit.used_to() == self.published
    }

    /// Whether everything that is to be answered has been.
    #[inline]
    pub(crate) fn is_answered(&self) -> bool {
        self.unanswered == 0
    }

    /// Messages that have arrived.
    #[inline]
    pub(crate) fn arrived(&self) -> u16 {
        self.receive.used_to().wrapping_sub(self.taken)
    }

    /// Takes the answers that have arrived and gives their buffers back. Returns how many there were.
    #[inline]
    pub(crate) fn drain(&mut self) -> u32 {
        let count = self.arrived();
        (0..count).for_each(|_| self.take());
        if count != 0 {
            let old = std::mem::replace(&mut self.reposted, self.posted);
            self.receive.available_index.store(self.posted, Ordering::Release);
            self.kick(RX, old, self.posted);
        }
        count.into()
    }

    /// `rpmsg_recv_single()`: takes the next answer and checks it.
    #[inline]
    fn take(&mut self) {
        let (id, len) = self.receive.used(self.taken);
        let len = usize::try_from(len).expect("a short message");
        self.taken = self.taken.wrapping_add(1);
        if self.notifications == Notifications::Wanted {
            self.want_call();
        }
        let mut message = [0; BUFFER_SIZE];
        let address = self.receive.descriptor(id).addr().0;
        self.area.read(address, &mut message[..len]);
        let header = Header::from_bytes(message.first_chunk().expect("a buffer holds a header"));
        let number = u32::from_le_bytes(*message[NUMBER].first_chunk().expect("four bytes"));
        assert!(header.payload_len() + HEADER_LEN == len, "an answer of {len} bytes says {header:?}");
        assert!(number == self.awaited, "answer {number} in place of {}", self.awaited);
        self.awaited = self.awaited.wrapping_add(1);
        self.unanswered -= 1;
        self.receive.set_available(self.posted, id);
        self.posted = self.posted.wrapping_add(1);
    }

    /// Kicks and calls so far.
    pub(crate) fn notifications(&mut self) -> [u64; 2] {
        // Nothing is there to read where there was no call.
        self.called += self.calls.iter().map(|call| call.read().unwrap_or(0)).sum::<u64>();
        [self.kicked, self.called]
    }
}
