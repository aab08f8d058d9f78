//! The guest's rpmsg driver, as Linux `drivers/rpmsg/virtio_rpmsg_bus.c` and `rpmsg_ns.c` behave, but stricter.
//!
//! Linux loses a receive buffer for ever with each malformed message and only prints a line for a duplicate service. Here
//! all that the device must never do to a guest (design, section 3, invariants 1, 5 and 6) panics as `INVARIANT
//! VIOLATION` and so fails the test:
//!
//! - used entries out of ring order, or a transmit buffer that claims to have been written to;
//! - a message whose lengths do not agree, or bytes written behind its end;
//! - a name-service message that is not 40 bytes with a terminated name, a second create of a service, the withdrawal of
//!   an unknown one, or any at all where `VIRTIO_RPMSG_F_NS` was not negotiated;
//! - a message for an address at which this guest has no endpoint.

use std::collections::{HashSet, VecDeque};
use std::io::ErrorKind;
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use vhost_device_rpmsg::rpmsg::{
    Announcement, AnnouncementKind, BUFFER_SIZE, HEADER_LEN, Header, NAME_SERVICE_ADDRESS, ServiceName,
};
use vmm_sys_util::epoll::{ControlOperation, Epoll, EpollEvent, EventSet};
use vmm_sys_util::eventfd::EventFd;

use super::buffers::{Pool, RX_POOL, TX_POOL};
use super::directory::Directory;
use super::options::DriverOptions;
use super::ram::Ram;
use super::ring::{Access, BY_HAND, DriverRing, Segment};

/// How long any wait may take before the test is taken for stuck: enough for a guest in a QEMU without KVM, on a machine
/// with other work. Nothing is ever timed by it.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// Index of the queue on which the guest receives.
pub const RX: usize = 0;
/// Index of the queue on which the guest sends.
pub const TX: usize = 1;

/// What receive buffers are filled with where they are guarded.
const GUARD: u8 = 0xA5;

/// A message as an endpoint of the guest gets it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    pub src: u32,
    pub dst: u32,
    pub payload: Vec<u8>,
    /// How many name-service messages had been heard before it came.
    pub heard: usize,
}

/// The driver and what it has heard.
pub struct Driver {
    ram: Ram,
    options: DriverOptions,
    rings: [DriverRing; 2],
    calls: Epoll,
    free_tx: Vec<u16>,
    /// Receive buffers that are kept from the device, where that was asked for.
    withheld: Option<Vec<u16>>,
    inbox: VecDeque<Message>,
    endpoints: HashSet<u32>,
    directory: Directory,
    received: u64,
    calls_heard: u64,
}

impl Driver {
    /// A driver that has just been loaded: rings cleared, receive buffers posted.
    pub fn new(options: DriverOptions) -> Self {
        let ram = Ram::new();
        let ring =
            |name, pool: Pool| DriverRing::new(name, &ram, pool.place(options.ring_size), options.event_idx);
        let rings = [ring("RX", RX_POOL), ring("TX", TX_POOL)];
        let calls = Epoll::new().expect("epoll");
        for ring in &rings {
            listen(&calls, ControlOperation::Add, ring.call_fd());
        }
        let mut driver = Driver {
            ram,
            options,
            rings,
            calls,
            free_tx: Vec::new(),
            withheld: None,
            inbox: VecDeque::new(),
            endpoints: HashSet::new(),
            directory: Directory::default(),
            received: 0,
            calls_heard: 0,
        };
        driver.probe();
        driver
    }

    /// Begins anew, as after a reboot of the guest: everything the driver knew is gone.
    pub fn probe(&mut self) {
        for ring in &mut self.rings {
            ring.reset(self.options.event_idx);
        }
        self.free_tx = (0..self.options.buffers).rev().collect();
        self.withheld = None;
        self.inbox.clear();
        self.endpoints.clear();
        self.directory = Directory::default();
        for slot in 0..self.options.buffers {
            self.post(slot);
        }
        self.rings[TX].disable_callbacks();
    }

    /// What the driver accepts of the features that the device offers.
    pub fn options(&self) -> &DriverOptions {
        &self.options
    }

    /// The guest's memory.
    pub fn ram(&self) -> &Ram {
        &self.ram
    }

    /// The rings, for the VMM.
    pub fn rings(&self) -> [&DriverRing; 2] {
        self.rings.each_ref()
    }

    /// A ring, for tests that write to it what no driver would.
    pub fn ring(&mut self, queue: usize) -> &mut DriverRing {
        &mut self.rings[queue]
    }

    /// Takes another call fd for a queue; the old one comes back.
    pub fn replace_call_fd(&mut self, queue: usize) -> EventFd {
        let old = self.rings[queue].replace_call_fd();
        listen(&self.calls, ControlOperation::Delete, &old);
        listen(&self.calls, ControlOperation::Add, self.rings[queue].call_fd());
        old
    }

    /// Tells the device of the posted receive buffers.
    pub fn kick_rx(&mut self) {
        self.rings[RX].kick();
    }

    // ----- receiving

    /// Posts a receive buffer.
    fn post(&mut self, slot: u16) {
        if self.options.guarded {
            RX_POOL.fill(&self.ram, slot, GUARD);
        }
        let buffer = RX_POOL.cut(slot, BUFFER_SIZE, &self.options.rx_cuts);
        self.make_available(RX, buffer.segments(), Access::DeviceWrites, RX_POOL.table(slot), slot);
    }

    fn make_available(&mut self, queue: usize, segments: &[Segment], access: Access, table: u64, slot: u16) {
        if self.options.indirect {
            self.rings[queue].add_indirect(segments, access, table, slot);
        } else {
            self.rings[queue].add(segments, access, slot);
        }
    }

    /// `rpmsg_recv_done()`: takes what has arrived and gives the buffers back.
    pub fn drain(&mut self) {
        let mut any = false;
        while let Some(used) = self.rings[RX].pop() {
            self.take(used.token, used.len);
            match &mut self.withheld {
                Some(kept) => kept.push(used.token),
                None => self.post(used.token),
            }
            any = true;
        }
        if any {
            self.rings[RX].kick();
        }
    }

    /// Keeps receive buffers from now on instead of giving them back to the device: a guest that does not keep up.
    pub fn withhold(&mut self) {
        self.withheld.get_or_insert_default();
    }

    /// Gives the kept receive buffers back.
    pub fn return_buffers(&mut self) {
        for slot in self.withheld.take().unwrap_or_default() {
            self.post(slot);
        }
        self.rings[RX].kick();
    }

    /// Receive buffers that the device has now.
    pub fn posted(&self) -> usize {
        self.rings[RX].in_flight()
    }

    /// `rpmsg_recv_single()`
    fn take(&mut self, slot: u16, used_len: u32) {
        let used_len = used_len as usize;
        assert!(
            (HEADER_LEN..=BUFFER_SIZE).contains(&used_len),
            "INVARIANT VIOLATION: used.len {used_len} for a receive buffer of {BUFFER_SIZE} bytes"
        );
        let mut bytes = [0; BUFFER_SIZE];
        let read_len = if self.options.guarded { BUFFER_SIZE } else { used_len };
        RX_POOL.cut(slot, BUFFER_SIZE, &self.options.rx_cuts).read(&self.ram, &mut bytes[..read_len]);
        let header = Header::from_bytes(bytes.first_chunk().expect("a buffer holds a header"));
        let (src, dst) = (header.src, header.dst);
        assert_eq!(
            HEADER_LEN + header.payload_len(),
            used_len,
            "INVARIANT VIOLATION: used.len against header length + 16 in a message from {src:#x} to {dst:#x}"
        );
        if self.options.guarded {
            assert!(
                bytes[used_len..].iter().all(|byte| *byte == GUARD),
                "INVARIANT VIOLATION: bytes written behind a message of {used_len} bytes from {src:#x} to {dst:#x}"
            );
        }
        self.received += 1;
        let payload = &bytes[HEADER_LEN..used_len];
        if dst == NAME_SERVICE_ADDRESS {
            assert!(
                self.options.name_service,
                "INVARIANT VIOLATION: name-service message without VIRTIO_RPMSG_F_NS: {payload:02x?}"
            );
            self.directory.hear(payload);
        } else {
            assert!(
                self.endpoints.contains(&dst),
                "INVARIANT VIOLATION: message from {src:#x} for {dst:#x}, which is no endpoint of this guest: {payload:02x?}"
            );
            let heard = self.directory.news().len();
            self.inbox.push_back(Message { src, dst, payload: payload.to_vec(), heard });
        }
    }

    /// Opens an endpoint: messages for this address are no surprise from now on.
    pub fn open(&mut self, address: u32) {
        self.endpoints.insert(address);
    }

    /// The next message, if one is there.
    pub fn try_recv(&mut self) -> Option<Message> {
        if self.inbox.is_empty() {
            self.drain();
        }
        self.inbox.pop_front()
    }

    /// The next message.
    pub fn recv(&mut self) -> Message {
        let mut got = None;
        self.until("a message", |driver| {
            got = driver.try_recv();
            got.is_some()
        });
        got.expect("until() saw it")
    }

    // ----- services

    /// Every name-service message since the driver came up.
    pub fn news(&self) -> &[Announcement] {
        self.directory.news()
    }

    /// Waits until the guest knows a service, and returns its address.
    pub fn wait_service(&mut self, name: &str) -> u32 {
        let mut found = None;
        self.until(&format!("service {name}"), |driver| {
            driver.drain();
            found = driver.directory.find(name);
            found.is_some()
        });
        found.expect("until() saw it")
    }

    /// Waits until the guest knows no service of this name.
    pub fn wait_service_gone(&mut self, name: &str) {
        self.until(&format!("the end of service {name}"), |driver| {
            driver.drain();
            driver.directory.find(name).is_none()
        });
    }

    /// Tells the other side of a service of this guest, at the endpoint `address`.
    pub fn announce(&mut self, name: &str, address: u32) {
        self.send_news(name, address, AnnouncementKind::Create);
    }

    /// Tells the other side that a service of this guest ends.
    pub fn withdraw(&mut self, name: &str, address: u32) {
        self.send_news(name, address, AnnouncementKind::Destroy);
    }

    fn send_news(&mut self, name: &str, address: u32, kind: AnnouncementKind) {
        let news =
            Announcement { name: ServiceName::new(name).expect("a service name"), addr: address, kind };
        self.send(address, NAME_SERVICE_ADDRESS, &news.to_bytes());
    }

    // ----- sending

    /// Sends a message, waiting for a buffer where none is free. Whatever arrives meanwhile goes to the inbox.
    pub fn send(&mut self, src: u32, dst: u32, payload: &[u8]) {
        self.until("a transmit buffer", |driver| driver.try_send(src, dst, payload));
    }

    /// Sends a message if a buffer is free.
    pub fn try_send(&mut self, src: u32, dst: u32, payload: &[u8]) -> bool {
        self.open(src);
        let header = Header {
            src,
            dst,
            reserved: 0,
            len: u16::try_from(payload.len()).expect("a payload that a header can tell of"),
            flags: 0,
        };
        let mut bytes = [0; BUFFER_SIZE];
        let len = HEADER_LEN + payload.len();
        bytes[..HEADER_LEN].copy_from_slice(&header.to_bytes());
        bytes[HEADER_LEN..len].copy_from_slice(payload);
        self.try_send_bytes(&bytes[..len])
    }

    /// Sends bytes as they are, header and all, if a buffer is free.
    pub fn try_send_bytes(&mut self, bytes: &[u8]) -> bool {
        self.reclaim();
        let Some(slot) = self.free_tx.pop() else {
            return false;
        };
        let buffer = TX_POOL.cut(slot, bytes.len(), &self.options.tx_cuts);
        buffer.write(&self.ram, bytes);
        self.make_available(TX, buffer.segments(), Access::DeviceReads, TX_POOL.table(slot), slot);
        self.rings[TX].kick();
        true
    }

    /// Takes the transmit buffers back that the device is done with.
    fn reclaim(&mut self) {
        while let Some(used) = self.rings[TX].pop() {
            assert_eq!(used.len, 0, "INVARIANT VIOLATION: used.len of a transmit buffer");
            if used.token != BY_HAND {
                self.free_tx.push(used.token);
            }
        }
    }

    /// Messages that the device has not taken yet.
    pub fn unsent(&mut self) -> usize {
        self.reclaim();
        self.rings[TX].in_flight()
    }

    /// Waits until the device has taken everything that was sent.
    pub fn flush(&mut self) {
        self.flush_but(0);
    }

    /// Waits until the device has taken all but at most so many of the messages that were sent.
    pub fn flush_but(&mut self, most: usize) {
        let what = format!("transmit ring with {most} messages");
        self.until_called(&what, |driver| driver.unsent() <= most, |_| true);
    }

    // ----- waiting

    /// Waits until `done`, which is asked again after each call of the device.
    pub fn until(&mut self, what: &str, done: impl FnMut(&mut Self) -> bool) {
        self.until_called(what, done, |driver| driver.free_tx.is_empty());
    }

    /// The same, for those who also wait for transmit buffers while some are still free.
    fn until_called(
        &mut self,
        what: &str,
        mut done: impl FnMut(&mut Self) -> bool,
        wants_tx: impl Fn(&Self) -> bool,
    ) {
        let mut deadline = None;
        while !done(self) {
            let deadline = *deadline.get_or_insert_with(|| Instant::now() + PATIENCE);
            let wants_tx = wants_tx(self);
            self.wait(what, wants_tx, deadline);
        }
    }

    /// Sleeps until the device calls, unless there is something to look at already. Receiving goes on meanwhile, as it
    /// does in a guest's interrupt handler. As in Linux, the device calls for transmit buffers only while somebody waits
    /// for them.
    fn wait(&mut self, what: &str, wants_tx: bool, deadline: Instant) {
        if wants_tx {
            self.rings[TX].enable_callbacks();
        }
        // The last look may have been before callbacks were asked for.
        let nothing_yet = !self.rings[RX].has_used() && (!wants_tx || !self.rings[TX].has_used());
        if nothing_yet {
            let left = deadline.saturating_duration_since(Instant::now());
            let left = i32::try_from(left.as_millis()).expect("a short patience");
            let mut events = [EpollEvent::default(); 2];
            match self.calls.wait(left, &mut events) {
                // The test was stopped and continued; whoever waits looks again.
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                ready => {
                    let ready = ready.expect("wait for a call");
                    assert!(ready > 0, "stuck: no {what} within {PATIENCE:?}; {}", self.state());
                }
            }
        }
        for ring in &self.rings {
            if ring.call_fd().read().is_ok() {
                self.calls_heard += 1;
            }
        }
        if wants_tx {
            self.rings[TX].disable_callbacks();
        }
        self.drain();
        self.reclaim();
    }

    /// Where the rings stand, for the message of a test that fails.
    pub fn state(&self) -> String {
        let ring = |ring: &DriverRing| {
            let (avail, used) = (ring.avail_idx(), ring.used_idx());
            format!("avail {avail}, used {used}, {} at the device, {} kicks", ring.in_flight(), ring.kicks())
        };
        format!(
            "RX: {}; TX: {}; {} received, {} calls",
            ring(&self.rings[RX]),
            ring(&self.rings[TX]),
            self.received,
            self.calls_heard
        )
    }
}

fn listen(calls: &Epoll, operation: ControlOperation, call: &EventFd) {
    let event = EpollEvent::new(EventSet::IN, 0);
    calls.ctl(operation, call.as_raw_fd(), event).expect("call fd in epoll");
}
