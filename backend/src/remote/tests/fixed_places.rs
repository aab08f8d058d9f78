//! Vrings at fixed places, with a remote core that serves them as a virtio device would.

use std::fs::File;

use virtio_queue::{Queue, QueueT};
use vm_memory::{Bytes, FileOffset, GuestAddress, GuestMemoryMmap};

use super::super::attach::RpmsgVdev;
use super::super::layout::StaticLayout;
use super::super::messages::Arrival;
use super::*;
use crate::rpmsg::{HEADER_LEN, Header};

const BASE: u32 = 0xB800_0000;
const SIZE: usize = 0x10_0000;
/// Buffers are named by physical addresses so far from the device addresses.
const OFFSET: u64 = 0x1000_0000;

/// The remote core's side of one device.
struct Peer {
    memory: GuestMemoryMmap,
    /// To the host, and from it.
    queues: [Queue; 2],
}

impl Peer {
    /// Over the memory in `file`, with what firmware knows when it is compiled.
    fn new(file: &File, device: u64, descriptors: u16) -> Self {
        let range = |at: u64| (GuestAddress(at), SIZE, Some(FileOffset::new(file.try_clone().unwrap(), 0)));
        let base = u64::from(BASE);
        // It reaches the same memory by both addresses.
        let memory = GuestMemoryMmap::from_ranges_with_files([range(base), range(base + OFFSET)]).unwrap();
        let queue = |vring: u64| {
            let start = base + device * 0x1_0000 + vring * 0x8000;
            let num = u64::from(descriptors);
            let mut queue = Queue::new(descriptors).unwrap();
            queue.set_size(descriptors);
            queue.try_set_desc_table_address(GuestAddress(start)).unwrap();
            queue.try_set_avail_ring_address(GuestAddress(start + 16 * num)).unwrap();
            let used = (start + 18 * num + 6).next_multiple_of(0x1000);
            queue.try_set_used_ring_address(GuestAddress(used)).unwrap();
            queue.set_ready(true);
            assert!(queue.is_valid(&memory));
            queue
        };
        let queues = [queue(0), queue(1)];
        Peer { memory, queues }
    }

    /// The next buffer of a queue: head, address, length.
    fn pop(&mut self, queue: usize) -> (u16, GuestAddress, u32) {
        let mut chain = self.queues[queue].pop_descriptor_chain(&self.memory).unwrap();
        let head = chain.head_index();
        let descriptor = chain.next().unwrap();
        assert_eq!((chain.next().is_none(), descriptor.is_write_only()), (true, queue == 0));
        (head, descriptor.addr(), descriptor.len())
    }

    /// Sends the next message back to where it came from.
    fn echo(&mut self) {
        let (head, from, len) = self.pop(1);
        let mut message = vec![0; len as usize];
        self.memory.read_slice(&mut message, from).unwrap();
        self.queues[1].add_used(&self.memory, head, 0).unwrap();
        let header = Header::from_bytes(message[..HEADER_LEN].try_into().unwrap());
        let answer = Header { src: header.dst, dst: header.src, ..header };
        message[..HEADER_LEN].copy_from_slice(&answer.to_bytes());
        let (head, to, room) = self.pop(0);
        assert_eq!(room, 512);
        self.memory.write_slice(&message, to).unwrap();
        self.queues[0].add_used(&self.memory, head, len).unwrap();
    }
}

fn send(device: &mut RpmsgVdev, number: u32, payload: &[u8]) {
    let header =
        Header { src: 0x400, dst: number, reserved: 0, len: payload.len().try_into().unwrap(), flags: 0 };
    device.outbound.reclaim(|_| {}).unwrap();
    let buffer = device.outbound.reserve().unwrap();
    device.outbound.write_payload(&buffer, payload);
    device.outbound.send(buffer, header);
    device.outbound.vring().publish();
}

/// The next message: where it comes from, and its payload.
fn take(device: &mut RpmsgVdev) -> (u32, Vec<u8>) {
    let Some(Arrival::Message(message)) = device.inbound.take().unwrap() else { panic!("no message") };
    let mut payload = vec![0; message.header.len.into()];
    device.inbound.read_payload(message.id, &mut payload);
    device.inbound.release(message.id);
    device.inbound.vring().publish();
    (message.header.src, payload)
}

fn memory() -> (Carveouts, File) {
    let file = tempfile::tempfile().unwrap();
    file.set_len(SIZE as u64).unwrap();
    let region = Region::map(&file, 0, SIZE, BASE.into(), Access::Device).unwrap();
    (Carveouts::new(vec![region.at_physical(u64::from(BASE) + OFFSET)]), file)
}

#[test]
fn messages_pass_where_i_mx_firmware_with_two_devices_and_rpmsg_lite_have_their_vrings() {
    for (vdevs, descriptors) in [(2, 256), (1, 64)] {
        let (carveouts, file) = memory();
        let layout = StaticLayout::new(BASE, vdevs, descriptors.into()).unwrap();
        let (attachment, mut devices) = attach_once(&carveouts, &Layout::Static(layout)).unwrap();
        assert_eq!(devices.len(), usize::from(vdevs));
        let mut peers: Vec<_> =
            (0..vdevs).map(|device| Peer::new(&file, device.into(), descriptors)).collect();
        for (number, (device, peer)) in (0..).zip(devices.iter_mut().zip(&mut peers)) {
            assert_eq!((device.inbound.notifyid(), device.outbound.notifyid()), (2 * number, 2 * number + 1));
            // Around both rings more than once.
            for round in 0..2 * u32::from(descriptors) + 3 {
                let payload: Vec<u8> = (0..=255).cycle().take(round as usize % 497).collect();
                send(device, round, &payload);
                peer.echo();
                assert_eq!(take(device), (round, payload));
            }
            assert!(device.inbound.take().unwrap().is_none());
        }
        assert!(!attachment.is_overwritten() && !attachment.is_untouched(), "nobody can tell");
    }
}

#[test]
fn fixed_places_outside_the_memory_are_refused() {
    let (carveouts, _) = memory();
    let layout = StaticLayout::new(BASE - 0x1_0000, 1, 256).unwrap();
    let error = attach_once(&carveouts, &Layout::Static(layout)).unwrap_err();
    assert!(Causes(&error).to_string().contains("vdev0vring0 is not in the remote core's memory"));
}
