//! The relay as a whole, on a test bench without threads.

mod attention;
mod capture;
mod crash;
mod device_memory;
mod loss;
mod recover;
mod rules;
mod speed;

use super::bench::{Bench, Guest};
use super::counters::Reason;
use crate::guest::port::QueueIndex;
use crate::rpmsg::{
    Announcement, AnnouncementKind, HEADER_LEN, MAX_PAYLOAD, NAME_SERVICE_ADDRESS, ServiceName,
};
use crate::softcore::{Config, Habits, UsedLength};

fn bench(slots: &[u8]) -> Bench {
    let mut bench = Bench::new(Config::default(), slots);
    for guest in &mut bench.guests {
        assert_eq!(guest.announcements().len(), 6, "the default services");
    }
    bench
}

fn payload(len: usize, seed: usize) -> Vec<u8> {
    (0..len).map(|at| u8::try_from((at * 7 + seed) % 251).unwrap()).collect()
}

#[test]
fn every_payload_size_is_echoed_to_the_endpoint_that_sent_it() {
    let mut bench = bench(&[0, 5]);
    let echo = bench.service("rpmsg-raw");
    for len in 0..=MAX_PAYLOAD {
        for vm in 0..2 {
            assert!(bench.guests[vm].send(1024, echo, &payload(len, vm)));
        }
        bench.settle();
        for (vm, guest) in bench.guests.iter_mut().enumerate() {
            let (header, bytes) = guest.receive().unwrap();
            assert_eq!((header.src, header.dst, bytes), (echo, 1024, payload(len, vm)));
            assert!(guest.receive().is_none());
        }
    }
}

#[test]
fn a_message_is_copied_once_each_way_and_nothing_is_allocated() {
    let mut bench = bench(&[0]);
    let echo = bench.service("rpmsg-raw");
    for len in [0, 1, 16, 496] {
        for _ in 0..3 {
            let count = 32;
            for number in 0..count {
                assert!(bench.guests[0].send(1024, echo, &payload(len, number)));
            }
            let mut copied = 0;
            let allocated = allocation_counter::measure(|| copied = crate::copied::during(|| bench.sweep()));
            assert_eq!(allocated.count_total, 0, "to the remote");
            // The payload once; the header out of the guest's memory, and anew into the remote's.
            assert_eq!(copied, count * (len + 2 * HEADER_LEN));

            while bench.step_core() {}
            let allocated = allocation_counter::measure(|| copied = crate::copied::during(|| bench.sweep()));
            assert_eq!(allocated.count_total, 0, "to the guest");
            assert_eq!(copied, count * (len + 2 * HEADER_LEN));
            assert_eq!(std::iter::from_fn(|| bench.guests[0].receive()).count(), count);
        }
    }
}

#[test]
fn two_vms_with_the_same_addresses_get_their_own_answers_only() {
    let slots: Vec<u8> = (0..8).collect();
    let mut bench = bench(&slots);
    let echo = bench.service("rpmsg-raw");
    for round in 0..200_u32 {
        for vm in 0..8_u32 {
            assert!(bench.guests[vm as usize].send(1024, echo, &(vm << 16 | round).to_le_bytes()));
        }
        bench.settle();
        for (guest, vm) in bench.guests.iter_mut().zip(0_u32..) {
            let (_, bytes) = guest.receive().unwrap();
            assert_eq!(bytes, (vm << 16 | round).to_le_bytes());
        }
    }
}

#[test]
fn firmware_with_strange_habits_loses_nothing() {
    let habits = Habits {
        used_length: UsedLength::Buffer,
        scribble_reserved: true,
        shuffle: 16,
        seed: 7,
        silent_consume: true,
        ..Habits::default()
    };
    let mut bench = Bench::new(Config { habits, ..Config::default() }, &[3]);
    bench.guests[0].announcements();
    let echo = bench.service("rpmsg-raw");
    let (mut sent, mut received) = (0_u32, 0_u32);
    while received < 20_000 {
        while sent < 20_000 && bench.guests[0].send(1024, echo, &sent.to_le_bytes()) {
            sent += 1;
        }
        bench.settle();
        while let Some((header, bytes)) = bench.guests[0].receive() {
            assert_eq!((bytes, header.reserved), (received.to_le_bytes().to_vec(), 0));
            received += 1;
        }
    }
}

#[test]
fn what_a_slow_guest_does_not_take_waits_in_the_remotes_buffers_in_order() {
    let mut bench = bench(&[0]);
    let echo = bench.service("rpmsg-raw");
    let mut kept = Vec::new();
    let mut numbers = Vec::new();
    for number in 0..200_u32 {
        while !bench.guests[0].send(1024, echo, &number.to_le_bytes()) {
            bench.settle();
        }
        bench.settle();
        while let Some((id, _, bytes)) = bench.guests[0].receive_and_keep() {
            kept.push(id);
            numbers.push(bytes);
        }
    }
    assert_eq!(kept.len(), 64, "all its buffers are used up");
    while numbers.len() < 200 {
        kept.drain(..).for_each(|id| bench.guests[0].give(QueueIndex::ToGuest, id, 512));
        bench.settle();
        while let Some((id, _, bytes)) = bench.guests[0].receive_and_keep() {
            kept.push(id);
            numbers.push(bytes);
        }
    }
    let expected: Vec<_> = (0..200_u32).map(|number| number.to_le_bytes().to_vec()).collect();
    assert_eq!(numbers, expected);
}

#[test]
fn of_several_vms_one_that_takes_nothing_loses_its_own_messages_only_and_they_are_counted() {
    let mut bench = bench(&[1, 2]);
    let echo = bench.service("rpmsg-raw");
    let (mut sent, mut taken) = (0_u64, 0_u32);
    for number in 0..1000_u32 {
        sent += u64::from(bench.guests[0].send(1024, echo, b"never taken"));
        assert!(bench.guests[1].send(1024, echo, &number.to_le_bytes()));
        bench.settle();
        while let Some((_, bytes)) = bench.guests[1].receive() {
            assert_eq!(bytes, taken.to_le_bytes());
            taken += 1;
        }
    }
    assert_eq!(taken, 1000);
    let delivered = std::iter::from_fn(|| bench.guests[0].next_used(QueueIndex::ToGuest)).count() as u64;
    let account = bench.account(0);
    let dropped = account.counters.figures().dropped(Reason::GuestTooSlow);
    assert_eq!(delivered + account.waiting.count() as u64 + dropped, sent);
    assert_eq!(account.waiting.count(), 127, "half of the remote's buffers but one, which is nobody's");
}

#[test]
fn a_paused_vm_goes_on_where_it_was_and_is_told_nothing_twice() {
    let mut bench = bench(&[1]);
    let echo = bench.service("rpmsg-raw");
    bench.guests[0].send(1024, echo, b"before");
    bench.sweep();
    bench.stop(0);
    bench.settle();
    assert!(bench.guests[0].receive().is_none());
    bench.start(0);
    bench.settle();
    assert_eq!(bench.guests[0].receive().unwrap().1, b"before");
    assert!(bench.guests[0].receive().is_none());
}

#[test]
fn a_driver_that_comes_up_anew_is_told_everything_and_gets_nothing_meant_for_its_predecessor() {
    for slot in [0, 1] {
        let mut bench = bench(&[slot]);
        let echo = bench.service("rpmsg-raw");
        bench.guests[0].send(1024, echo, b"for the old one");
        bench.sweep();
        bench.stop(0);
        bench.guests[0].reset();
        bench.start(0);
        bench.sweep();
        assert_eq!(bench.guests[0].announcements().len(), 6);
        bench.settle();
        let stale = bench.account(0).counters.figures().dropped(Reason::StaleSession);
        if slot == 0 {
            assert_eq!(bench.guests[0].receive().unwrap().1, b"for the old one", "slot 0 has no sessions");
        } else {
            assert!(bench.guests[0].receive().is_none());
            assert_eq!(stale, 1);
        }
        bench.guests[0].send(1024, echo, b"for the new one");
        bench.settle();
        assert_eq!(bench.guests[0].receive().unwrap().1, b"for the new one");
    }
}

fn announcement(name: &str, addr: u32, kind: AnnouncementKind) -> [u8; 40] {
    Announcement { name: ServiceName::new(name).unwrap(), addr, kind }.to_bytes()
}

#[test]
fn a_guests_own_service_reaches_the_remote_and_is_withdrawn_with_its_session() {
    let mut bench = bench(&[2]);
    let create = announcement("control", 77, AnnouncementKind::Create);
    bench.guests[0].send(77, NAME_SERVICE_ADDRESS, &create);
    bench.settle();
    assert_eq!(bench.core.host_services(), ["control@0x210004d"]);
    bench.relay.end_session(bench.slots[0]);
    bench.stop(0);
    bench.settle();
    assert!(bench.core.host_services().is_empty());
}

#[test]
fn services_come_and_go_at_run_time_and_after_the_messages_before_them() {
    let mut bench = bench(&[0, 1]);
    bench.core.announce("rpmsg-raw:extra@0x900".parse().unwrap()).unwrap();
    bench.settle();
    for guest in &mut bench.guests {
        let told = guest.announcements();
        assert_eq!((told.len(), told[0].addr, told[0].kind), (1, 0x900, AnnouncementKind::Create));
    }
    bench.core.withdraw("extra");
    bench.settle();
    for guest in &mut bench.guests {
        assert_eq!(guest.announcements()[0].kind, AnnouncementKind::Destroy);
    }
}

#[test]
fn a_remote_that_boots_anew_is_told_of_the_guests_services_and_its_own_are_told_again() {
    let mut bench = bench(&[0]);
    bench.guests[0].send(77, NAME_SERVICE_ADDRESS, &announcement("control", 77, AnnouncementKind::Create));
    bench.settle();
    bench.core.reboot().unwrap();
    bench.settle();
    bench.pass_time();
    bench.settle();
    let told = bench.guests[0].announcements();
    let count = |kind| told.iter().filter(|one| one.kind == kind).count();
    assert_eq!((count(AnnouncementKind::Destroy), count(AnnouncementKind::Create)), (6, 6));
    assert_eq!(bench.core.host_services(), ["control@0x4d"]);
    let echo = bench.service("rpmsg-raw");
    bench.guests[0].send(1024, echo, b"again");
    bench.settle();
    assert_eq!(bench.guests[0].receive().unwrap().1, b"again");
}

#[test]
fn bad_messages_go_back_to_their_guest_and_are_counted_and_the_queue_goes_on() {
    let mut bench = bench(&[1]);
    let echo = bench.service("rpmsg-raw");
    let tx = QueueIndex::FromGuest;
    let guest: &mut Guest = &mut bench.guests[0];
    // Outside memory, writable where it should be readable, circular, shorter than a header, a lie about the length.
    guest.describe(tx, 0, 0xFFFF_0000, 512, 0, 0);
    guest.describe(tx, 1, 0x1000, 512, 2, 0);
    guest.describe(tx, 2, 0x1000, 1, 1, 2);
    guest.describe(tx, 3, 0x1000, 15, 0, 0);
    guest.describe(tx, 4, guest.ring_of(tx).buffer(4), 20, 0, 0);
    guest.write(5_u16, guest.ring_of(tx).buffer(4) + 12);
    (0..5).for_each(|id| guest.make_available(tx, id));
    bench.settle();
    for id in 0..5 {
        assert_eq!(bench.guests[0].next_used(tx), Some((id, 0)));
    }
    let guest = &mut bench.guests[0];
    guest.send(u32::MAX, echo, b"from anybody");
    guest.send(1024, u32::MAX, b"to anybody");
    guest.send(1024, NAME_SERVICE_ADDRESS, b"no announcement");
    guest.send(77, NAME_SERVICE_ADDRESS, &announcement("never created", 77, AnnouncementKind::Destroy));
    guest.send(1024, echo, b"good");
    bench.settle();
    assert_eq!(bench.guests[0].receive().unwrap().1, b"good");
    assert!(bench.guests[0].receive().is_none());
    let counters = &bench.account(0).counters;
    let reasons = [Reason::BadChain, Reason::BadHeader, Reason::BadAddress, Reason::BadAnnouncement];
    assert_eq!(reasons.map(|reason| counters.figures().dropped(reason)), [3, 2, 2, 2]);
}

#[test]
fn messages_for_a_remote_that_is_not_running_are_returned_and_counted() {
    let mut bench = bench(&[0]);
    let echo = bench.service("rpmsg-raw");
    bench.core.crash();
    bench.settle();
    bench.guests[0].announcements();
    assert!(bench.guests[0].send(1024, echo, b"lost"));
    bench.settle();
    assert!(bench.guests[0].next_used(QueueIndex::FromGuest).is_some());
    assert_eq!(bench.account(0).counters.figures().dropped(Reason::RemoteNotRunning), 1);
}

#[test]
fn a_receive_buffer_that_is_too_small_costs_that_message_only() {
    let mut bench = bench(&[0]);
    let echo = bench.service("rpmsg-raw");
    let rx = QueueIndex::ToGuest;
    for _ in 0..64 {
        bench.guests[0].send(1024, echo, b"uses a buffer up");
        bench.settle();
        bench.guests[0].receive_and_keep().unwrap();
    }
    bench.guests[0].give(rx, 0, 20);
    bench.guests[0].give(rx, 1, 512);
    bench.guests[0].send(1024, echo, &[1; 64]);
    bench.guests[0].send(1024, echo, &[2; 4]);
    bench.settle();
    assert_eq!(bench.guests[0].receive().unwrap().1, [2; 4]);
    assert!(bench.guests[0].receive().is_none());
    assert_eq!(bench.account(0).counters.figures().dropped(Reason::ReceiveBufferTooSmall), 1);
}

mod sharing;
