//! The relay in front of memory that bears only some accesses: what UIO maps on arm64.

use crate::bridge::bench::Bench;
use crate::bridge::policy::Policy;
use crate::guest::port::QueueIndex;
use crate::remote::memory::Access;
use crate::remote::memory::accesses::{self, Noted};
use crate::rpmsg::{HEADER_LEN, Header, MAX_PAYLOAD};
use crate::softcore::Config;

/// Sends a message in three pieces, at addresses and of lengths that suit nobody.
fn send_in_pieces(bench: &mut Bench, dst: u32, payload: &[u8], odd: usize) {
    let index = QueueIndex::FromGuest;
    let guest = &mut bench.guests[0];
    while guest.next_used(index).is_some() {}
    let header = Header { src: 1024, dst, reserved: 0, len: payload.len().try_into().unwrap(), flags: 0 };
    let message = [&header.to_bytes()[..], payload].concat();
    let first = HEADER_LEN + payload.len().min(odd);
    let second = first + (payload.len() - payload.len().min(odd)) / 2;
    for (id, range) in [(0, 0..first), (1, first..second), (2, second..message.len())] {
        let at = guest.ring_of(index).buffer(id) + odd as u64;
        for (byte, address) in message[range.clone()].iter().zip(at..) {
            guest.write(*byte, address);
        }
        let (flags, next) = if id < 2 { (1, id + 1) } else { (0, 0) };
        guest.describe(index, id, at, range.len().try_into().unwrap(), flags, next);
    }
    guest.make_available(index, 0);
}

#[test]
fn every_access_to_device_memory_is_aligned_and_at_most_eight_bytes_wide() {
    for (access, is_fit) in [(Access::Device, true), (Access::Normal, false)] {
        let mut echoed = 0;
        // The journal is in ordinary memory, whatever that of the remote is.
        let mut carveouts = Vec::new();
        let accesses = accesses::during(|| {
            let mut bench = Bench::with_access(Config::default(), &[0], Policy::default(), access);
            bench.guests[0].announcements();
            let echo = bench.service("rpmsg-raw");
            for len in (0..=MAX_PAYLOAD).step_by(31).chain([1, 2, 3, 5, 7, MAX_PAYLOAD]) {
                let payload = super::payload(len, len);
                send_in_pieces(&mut bench, echo, &payload, len % 8);
                bench.settle();
                assert_eq!(bench.guests[0].receive().unwrap().1, payload);
                echoed += len;
            }
            let memory = bench.remote.inspect().memory.unwrap();
            carveouts.extend(memory.slices().map(|(_, memory)| memory.host_range()));
        });
        let is_carveout = |access: &Noted| carveouts.iter().any(|range| range.contains(&access.address));
        let accesses: Vec<_> = accesses.into_iter().filter(is_carveout).collect();
        let moved: usize = accesses.iter().map(|access| access.width).sum();
        assert!(moved > 2 * echoed, "attaching, rings and payloads are all noted: {moved} bytes");
        assert_eq!(accesses.iter().all(|access| access.is_fit_for_devices()), is_fit);
    }
}
