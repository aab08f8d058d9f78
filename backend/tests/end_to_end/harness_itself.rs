//! The harness against the reference: its driver on one side of the rings, `virtio_queue::Queue` on the other, no process
//! and no socket. What the driver is there to catch has to be caught here first.

use std::io::{Read, Write};

use vhost_device_rpmsg::rpmsg::{
    ANNOUNCEMENT_LEN, Announcement, AnnouncementKind, HEADER_LEN, Header, NAME_SERVICE_ADDRESS, ServiceName,
};
use virtio_queue::{Queue, QueueOwnedT, QueueT};
use vm_memory::GuestAddress;

use crate::harness::driver::{Driver, RX, TX};
use crate::harness::options::DriverOptions;

/// The device's side of a driver's rings, played by the virtio-queue crate.
struct Device {
    queues: [Queue; 2],
    kicks: u32,
}

impl Device {
    fn of(driver: &Driver) -> Self {
        let queues = driver.rings().map(|ring| {
            let place = ring.place();
            let mut queue = Queue::new(1024).unwrap();
            queue.set_size(place.size);
            queue.set_event_idx(driver.options().event_idx);
            queue.try_set_desc_table_address(GuestAddress(place.desc)).unwrap();
            queue.try_set_avail_ring_address(GuestAddress(place.avail)).unwrap();
            queue.try_set_used_ring_address(GuestAddress(place.used)).unwrap();
            queue.set_ready(true);
            assert!(queue.is_valid(driver.ram().mem()));
            queue
        });
        Device { queues, kicks: 0 }
    }

    /// Takes everything that was sent, and calls the driver if it wants to know.
    fn take_all(&mut self, driver: &Driver) -> Vec<Vec<u8>> {
        let mem = driver.ram().mem();
        let mut messages = Vec::new();
        if driver.rings()[TX].kick_fd().read().is_ok() {
            self.kicks += 1;
        }
        loop {
            self.queues[TX].disable_notification(mem).unwrap();
            while let Some(chain) = self.queues[TX].pop_descriptor_chain(mem) {
                let head = chain.head_index();
                let mut bytes = Vec::new();
                chain.reader(mem).unwrap().read_to_end(&mut bytes).unwrap();
                messages.push(bytes);
                self.queues[TX].add_used(mem, head, 0).unwrap();
            }
            if !self.queues[TX].enable_notification(mem).unwrap() {
                break;
            }
        }
        self.call(driver, TX);
        messages
    }

    /// Delivers bytes that claim to be `used_len` long, and calls the driver if it wants to know.
    fn deliver(&mut self, driver: &Driver, bytes: &[u8], used_len: usize) {
        let mem = driver.ram().mem();
        let chain = self.queues[RX].pop_descriptor_chain(mem).expect("a posted receive buffer");
        let head = chain.head_index();
        chain.writer(mem).unwrap().write_all(bytes).unwrap();
        self.queues[RX].add_used(mem, head, u32::try_from(used_len).unwrap()).unwrap();
        self.call(driver, RX);
    }

    fn call(&mut self, driver: &Driver, queue: usize) {
        if self.queues[queue].needs_notification(driver.ram().mem()).unwrap() {
            driver.rings()[queue].call_fd().write(1).unwrap();
        }
    }

    /// Sends everything back to where it came from.
    fn echo(&mut self, driver: &Driver) {
        for message in self.take_all(driver) {
            let header = Header::from_bytes(message.first_chunk().unwrap());
            let answer = self::message(header.dst, header.src, &message[HEADER_LEN..]);
            self.deliver(driver, &answer, answer.len());
        }
    }
}

fn message(src: u32, dst: u32, payload: &[u8]) -> Vec<u8> {
    let header = Header { src, dst, reserved: 0, len: u16::try_from(payload.len()).unwrap(), flags: 0 };
    [&header.to_bytes(), payload].concat()
}

fn announcement(name: &str, addr: u32, kind: AnnouncementKind) -> [u8; ANNOUNCEMENT_LEN] {
    let name = ServiceName::new(name).unwrap();
    Announcement { name, addr, kind }.to_bytes()
}

fn driver_and_device(options: DriverOptions) -> (Driver, Device) {
    let driver = Driver::new(options);
    let device = Device::of(&driver);
    (driver, device)
}

/// Sends and receives until the 16-bit indexes of the rings have wrapped.
fn messages_come_back_across_the_wrap_of_the_indexes(options: DriverOptions) {
    let (mut driver, mut device) = driver_and_device(options);
    let mut sent = 0u32;
    let mut received = 0u32;
    while received < 70_000 {
        while sent < received + 10 && driver.try_send(1024, 7, &sent.to_le_bytes()) {
            sent += 1;
        }
        device.echo(&driver);
        let got = driver.recv();
        assert_eq!((got.src, got.dst), (7, 1024));
        assert_eq!(got.payload, received.to_le_bytes());
        received += 1;
    }
}

#[test]
fn messages_come_back_with_event_idx() {
    messages_come_back_across_the_wrap_of_the_indexes(DriverOptions::default());
}

#[test]
fn messages_come_back_without_event_idx() {
    messages_come_back_across_the_wrap_of_the_indexes(DriverOptions {
        event_idx: false,
        ..DriverOptions::default()
    });
}

#[test]
fn messages_come_back_through_indirect_and_scattered_descriptors() {
    for indirect in [false, true] {
        messages_come_back_across_the_wrap_of_the_indexes(DriverOptions {
            indirect,
            ring_size: 1024,
            rx_cuts: vec![3, 14, 1],
            tx_cuts: vec![1, 13],
            guarded: true,
            ..DriverOptions::default()
        });
    }
}

#[test]
fn the_driver_kicks_once_where_the_device_has_not_looked_yet() {
    let (mut driver, mut device) = driver_and_device(DriverOptions::default());

    for _ in 0..10 {
        assert!(driver.try_send(1, 2, b"x"));
    }

    assert_eq!(driver.ring(TX).kicks(), 1);
    assert_eq!(device.take_all(&driver).len(), 10);
    assert_eq!(device.kicks, 1);
    assert!(driver.try_send(1, 2, b"y"));
    assert_eq!(driver.ring(TX).kicks(), 2);
}

#[test]
fn sending_stops_when_all_buffers_are_at_the_device() {
    let (mut driver, mut device) =
        driver_and_device(DriverOptions { ring_size: 16, buffers: 16, ..DriverOptions::default() });

    let sent = (0..100).take_while(|_| driver.try_send(1, 2, b"x")).count();

    assert_eq!(sent, 16);
    device.take_all(&driver);
    driver.flush();
    assert!(driver.try_send(1, 2, b"x"));
}

#[test]
fn withheld_buffers_are_missing_at_the_device_until_they_are_returned() {
    let (mut driver, mut device) =
        driver_and_device(DriverOptions { ring_size: 16, buffers: 16, ..DriverOptions::default() });
    driver.open(5);
    driver.withhold();

    for _ in 0..16 {
        let bytes = message(9, 5, b"hold");
        device.deliver(&driver, &bytes, bytes.len());
    }
    driver.drain();

    assert_eq!(driver.posted(), 0);
    driver.return_buffers();
    assert_eq!(driver.posted(), 16);
}

#[test]
fn services_are_known_from_create_to_destroy() {
    let (mut driver, mut device) = driver_and_device(DriverOptions::default());
    for kind in [AnnouncementKind::Create, AnnouncementKind::Destroy] {
        let bytes = message(NAME_SERVICE_ADDRESS, NAME_SERVICE_ADDRESS, &announcement("tty", 1025, kind));
        device.deliver(&driver, &bytes, bytes.len());
        match kind {
            AnnouncementKind::Create => assert_eq!(driver.wait_service("tty"), 1025),
            AnnouncementKind::Destroy => driver.wait_service_gone("tty"),
        }
    }
    assert_eq!(driver.news().len(), 2);
}

/// Delivers bytes as a message of `used_len`, which the driver has to refuse.
fn deliver_bad(options: DriverOptions, bytes: &[u8], used_len: usize) {
    let (mut driver, mut device) = driver_and_device(options);
    device.deliver(&driver, bytes, used_len);
    driver.drain();
}

#[test]
#[should_panic(expected = "INVARIANT VIOLATION: used.len 513")]
fn a_message_longer_than_its_buffer_is_caught() {
    deliver_bad(DriverOptions::default(), &message(1, 2, b""), 513);
}

#[test]
#[should_panic(expected = "INVARIANT VIOLATION: used.len against header")]
fn a_header_that_promises_more_than_was_used_is_caught() {
    deliver_bad(DriverOptions::default(), &message(1, 2, b"abc"), HEADER_LEN + 2);
}

#[test]
#[should_panic(expected = "INVARIANT VIOLATION: used.len against header")]
fn a_whole_buffer_used_for_a_short_message_is_caught() {
    deliver_bad(DriverOptions::default(), &message(1, 2, b"abc"), 512);
}

#[test]
#[should_panic(expected = "INVARIANT VIOLATION: bytes written behind")]
fn bytes_behind_the_end_are_caught() {
    let options = DriverOptions { guarded: true, ..DriverOptions::default() };
    let mut bytes = message(1, 2, b"abc");
    bytes.push(0);
    deliver_bad(options, &bytes, HEADER_LEN + 3);
}

#[test]
#[should_panic(expected = "which is no endpoint of this guest")]
fn a_misdelivered_message_is_caught() {
    let bytes = message(1, 2, b"abc");
    deliver_bad(DriverOptions::default(), &bytes, bytes.len());
}

#[test]
#[should_panic(expected = "expected exactly 40")]
fn a_short_name_service_message_is_caught() {
    let news = announcement("tty", 1025, AnnouncementKind::Create);
    let bytes = message(53, 53, &news[..39]);
    deliver_bad(DriverOptions::default(), &bytes, bytes.len());
}

#[test]
#[should_panic(expected = "without VIRTIO_RPMSG_F_NS")]
fn a_name_service_message_to_a_guest_without_one_is_caught() {
    let options = DriverOptions { name_service: false, ..DriverOptions::default() };
    let bytes = message(53, 53, &announcement("tty", 1025, AnnouncementKind::Create));
    deliver_bad(options, &bytes, bytes.len());
}

#[test]
#[should_panic(expected = "created twice")]
fn a_service_that_is_told_twice_is_caught() {
    let (mut driver, mut device) = driver_and_device(DriverOptions::default());
    let bytes = message(53, 53, &announcement("tty", 1025, AnnouncementKind::Create));
    device.deliver(&driver, &bytes, bytes.len());
    device.deliver(&driver, &bytes, bytes.len());
    driver.drain();
}

#[test]
#[should_panic(expected = "out of ring order")]
fn a_used_entry_out_of_ring_order_is_caught() {
    let (mut driver, mut device) = driver_and_device(DriverOptions::default());
    let mem = driver.ram().mem().clone();
    let heads: Vec<u16> =
        device.queues[RX].iter(&mem).unwrap().take(2).map(|chain| chain.head_index()).collect();
    device.queues[RX].add_used(&mem, heads[1], 16).unwrap();
    driver.drain();
}

#[test]
#[should_panic(expected = "with none at the device")]
fn a_used_entry_for_nothing_is_caught() {
    let (mut driver, mut device) = driver_and_device(DriverOptions::default());
    device.queues[TX].add_used(driver.ram().mem(), 0, 0).unwrap();
    driver.unsent();
}
