//! Several VMs in front of services that are shared in every mode.

use std::time::Duration;

use crate::bridge::bench::Bench;
use crate::bridge::counters::Reason;
use crate::bridge::policy::{AddressBits, Mode, Pattern, Policy, Reply, Rule, Slots, Turns, Unsolicited};
use crate::rpmsg::address::Slot;
use crate::rpmsg::{AnnouncementKind, NAME_SERVICE_ADDRESS, ServiceName};
use crate::softcore::{Config, Habits};

fn slot(number: u8) -> Slot {
    Slot::new(number).unwrap()
}

fn rule(pattern: &str, mode: Mode) -> Rule {
    Rule { pattern: Pattern::new(pattern), visible_to: Slots::ALL, mode }
}

fn turns(reply: Reply) -> Turns {
    Turns {
        reply,
        time_out: Duration::from_secs(1),
        quarantine: Duration::from_secs(5),
        unsolicited: Unsolicited::Drop,
    }
}

/// VMs in slots 1, 2, ... in front of the default services under these rules.
fn bench(vms: u8, rules: Vec<Rule>) -> Bench {
    let slots: Vec<u8> = (1..=vms).collect();
    Bench::with_policy(Config::default(), &slots, Policy { rules, ..Policy::default() })
}

/// What a VM was told of services since the last look: names that came, names that went.
fn told(bench: &mut Bench, vm: usize) -> (Vec<String>, Vec<String>) {
    let announcements = bench.guests[vm].announcements();
    let names = |kind| {
        let of_kind = announcements.iter().filter(move |one| one.kind == kind);
        of_kind.map(|one| one.name.to_string()).collect()
    };
    (names(AnnouncementKind::Create), names(AnnouncementKind::Destroy))
}

fn drain_announcements(bench: &mut Bench) {
    bench.guests.iter_mut().for_each(|guest| drop(guest.announcements()));
}

/// Everything a VM has received: payloads, with the address they came to.
fn received(bench: &mut Bench, vm: usize) -> Vec<(u32, Vec<u8>)> {
    std::iter::from_fn(|| bench.guests[vm].receive())
        .filter(|(header, _)| header.dst != NAME_SERVICE_ADDRESS)
        .map(|(header, bytes)| (header.dst, bytes))
        .collect()
}

#[test]
fn a_serialized_service_that_latches_its_client_gives_each_vm_its_own_answers() {
    let mut bench = bench(3, vec![rule("latching-*", Mode::Serialized(turns(Reply::One)))]);
    drain_announcements(&mut bench);
    let echo = bench.service("latching-echo");
    let mut answered = [0_u32; 3];
    let mut asked = [0_u32; 3];
    while answered.iter().sum::<u32>() < 3000 {
        for vm in 0..3 {
            while asked[vm] < 1000 && asked[vm] - answered[vm] < 4 {
                let payload = (u32::try_from(vm).unwrap() << 16 | asked[vm]).to_le_bytes();
                assert!(bench.guests[vm].send(1024, echo, &payload));
                asked[vm] += 1;
            }
        }
        bench.settle();
        for (vm, count) in answered.iter_mut().enumerate() {
            for (address, bytes) in received(&mut bench, vm) {
                let expected = u32::try_from(vm).unwrap() << 16 | *count;
                assert_eq!((address, bytes), (1024, expected.to_le_bytes().to_vec()));
                *count += 1;
            }
        }
    }
    assert_eq!(answered, [1000; 3]);
}

#[test]
fn after_a_time_out_the_next_vm_has_its_turn_and_the_late_answer_is_nobodys() {
    let mut bench = bench(2, vec![rule("rpmsg-raw", Mode::Serialized(turns(Reply::One)))]);
    drain_announcements(&mut bench);
    let echo = bench.service("rpmsg-raw");
    // The answer to the first VM is held up: the core is not stepped.
    bench.guests[0].send(1024, echo, b"first");
    bench.sweep();
    bench.guests[1].send(1024, echo, b"second");
    bench.sweep();
    bench.now += Duration::from_secs(1);
    bench.pass_time();
    bench.settle();
    assert!(received(&mut bench, 0).is_empty(), "too late");
    assert!(received(&mut bench, 1).is_empty(), "not its own");
    assert_eq!((bench.relay.strays[0], bench.account(0).counters.figures().time_outs), (1, 1));
    bench.now += Duration::from_secs(5);
    bench.pass_time();
    bench.settle();
    assert_eq!(received(&mut bench, 1), [(1024, b"second".to_vec())]);
}

#[test]
fn an_exclusive_service_is_seen_by_its_user_only_until_that_leaves() {
    let mut bench = bench(3, vec![rule("latching-echo", Mode::Exclusive { owner: None })]);
    drain_announcements(&mut bench);
    let echo = bench.service("latching-echo");
    for (user, other, third) in [(0, 1, 2), (1, 0, 2), (2, 0, 1)] {
        bench.guests[user].send(2000, echo, b"mine");
        bench.settle();
        assert_eq!(told(&mut bench, other).1, ["latching-echo"]);
        assert_eq!(told(&mut bench, third).1, ["latching-echo"]);
        assert_eq!(received(&mut bench, user), [(2000, b"mine".to_vec())]);
        bench.guests[other].send(2000, echo, b"not yours");
        bench.settle();
        assert!(received(&mut bench, other).is_empty());
        assert_eq!(
            bench.account(other).counters.figures().dropped(Reason::NotAllowed),
            1 + u64::from(user == 2 && other == 0)
        );
        // The owner's driver goes and comes back: the others see the service again, and so does it.
        bench.stop(user);
        bench.guests[user].reset();
        bench.start(user);
        bench.settle();
        assert_eq!(told(&mut bench, other).0, ["latching-echo"]);
        drain_announcements(&mut bench);
    }
}

#[test]
fn late_answers_to_the_last_owner_of_an_exclusive_service_never_reach_the_next() {
    let mut bench = bench(2, vec![rule("latching-echo", Mode::Exclusive { owner: None })]);
    let echo = bench.service("latching-echo");
    bench.settle();
    drain_announcements(&mut bench);
    // Another VM; and the same one with a new driver.
    for next in [1, 0] {
        // The core is not stepped: its answers are late.
        for _ in 0..3 {
            assert!(bench.guests[0].send(1024, echo, b"old"));
        }
        bench.sweep();
        bench.stop(0);
        bench.guests[0].reset();
        bench.start(0);
        assert!(bench.guests[next].send(1024, echo, b"new"));
        bench.sweep();
        bench.settle();
        assert_eq!(received(&mut bench, next), [(1024, b"new".to_vec())]);
        assert!(received(&mut bench, 1 - next).is_empty());
        bench.relay.end_session(bench.slots[next]);
        bench.stop(next);
        bench.guests[next].reset();
        bench.start(next);
        bench.settle();
        drain_announcements(&mut bench);
    }
    assert_eq!(bench.account(0).counters.figures().dropped(Reason::StaleSession), 6);
    assert!(bench.relay.handovers.is_empty());
}

#[test]
fn an_exclusive_service_is_handed_over_in_the_end_if_the_core_keeps_the_last_owners_buffers() {
    let config = Config { habits: Habits { keep: 2, ..Habits::default() }, ..Config::default() };
    let rules = vec![rule("latching-echo", Mode::Exclusive { owner: None })];
    let mut bench = Bench::with_policy(config, &[1, 2], Policy { rules, ..Policy::default() });
    let echo = bench.service("latching-echo");
    drain_announcements(&mut bench);
    bench.guests[0].send(1024, echo, b"old");
    bench.settle();
    bench.relay.end_session(bench.slots[0]);
    bench.guests[1].send(1024, echo, b"new");
    bench.settle();
    assert!(received(&mut bench, 1).is_empty(), "the core still has the last owner's message");
    bench.now = bench.relay.timer().expect("a limit");
    bench.relay.on_timer(bench.now);
    bench.settle();
    assert_eq!(received(&mut bench, 1), [(1024, b"new".to_vec())]);
}

#[test]
fn answers_to_requests_from_before_a_cut_of_the_line_never_reach_who_asks_after_it() {
    let modes = [Mode::Exclusive { owner: None }, Mode::Serialized(turns(Reply::One))];
    for mode in modes {
        let mut bench = bench(2, vec![rule("latching-echo", mode)]);
        let echo = bench.service("latching-echo");
        drain_announcements(&mut bench);
        // The core is not stepped: it is back on the line before it has looked at its vring.
        bench.guests[0].send(1024, echo, b"before");
        bench.sweep();
        bench.relay.cut_off(bench.now);
        bench.relay.resumed();
        bench.sweep();
        for number in 0..3 {
            bench.guests[1].send(1024, echo, &[number]);
        }
        bench.sweep();
        bench.settle();
        let answers = received(&mut bench, 1);
        assert_eq!(answers, [0, 1, 2].map(|number| (1024, vec![number])), "{mode:?}");
        assert!(received(&mut bench, 0).is_empty(), "its turn or its right was gone with the line");
        assert_eq!(bench.relay.strays[0], 1);
    }
}

#[test]
fn news_that_a_guest_has_room_for_cost_it_no_message() {
    // So many VMs that each may have four messages waiting.
    let mut bench = bench(64, Vec::new());
    drain_announcements(&mut bench);
    let echo = bench.service("rpmsg-raw");
    for number in 0..30_u8 {
        assert!(bench.guests[0].send(1024, echo, &[number]));
    }
    bench.sweep();
    while bench.step_core() {}
    // Told of in the same batch as the answers are taken.
    bench.relay.announce(ServiceName::new("news").unwrap(), 0x700);
    bench.settle();
    let numbers: Vec<_> = received(&mut bench, 0).into_iter().map(|(_, bytes)| bytes[0]).collect();
    assert_eq!(numbers, (0..30).collect::<Vec<_>>());
    assert_eq!(bench.account(0).counters.figures().dropped(Reason::GuestTooSlow), 0);
}

#[test]
fn a_vm_that_may_not_see_a_service_cannot_reach_it_by_its_address_either() {
    let hidden = Rule {
        pattern: Pattern::new("rpmsg-*"),
        visible_to: [slot(1)].into_iter().collect(),
        mode: Mode::Shared,
    };
    let mut bench = bench(2, vec![hidden]);
    assert_eq!(told(&mut bench, 0).0.len(), 6);
    assert_eq!(told(&mut bench, 1).0, ["sink", "source", "latching-echo"]);
    let echo = bench.service("rpmsg-raw");
    for vm in 0..2 {
        bench.guests[vm].send(1024, echo, b"x");
    }
    bench.settle();
    assert_eq!((received(&mut bench, 0).len(), received(&mut bench, 1).len()), (1, 0));
    assert_eq!(bench.account(1).counters.figures().dropped(Reason::NotAllowed), 1);
}

#[test]
fn a_strict_vm_reaches_announced_and_listed_addresses_only() {
    let mut bench = bench(2, Vec::new());
    drain_announcements(&mut bench);
    bench.account(0).policy.strict = true;
    bench.account(0).policy.addresses = vec![0x999];
    for address in [0x999, 0x998, bench.service("sink")] {
        bench.guests[0].send(1024, address, b"x");
        bench.guests[1].send(1024, address, b"x");
    }
    bench.settle();
    assert_eq!(bench.account(0).counters.figures().dropped(Reason::NotAllowed), 1);
    assert_eq!(bench.account(1).counters.figures().dropped(Reason::NotAllowed), 0);
    assert_eq!(bench.account(0).counters.figures().to_remote().messages, 2);
}

#[test]
fn a_broadcast_reaches_every_vm_that_has_subscribed() {
    let mut bench = bench(3, vec![rule("source", Mode::Broadcast { owner: Some(slot(1)) })]);
    drain_announcements(&mut bench);
    let source = bench.service("source");
    // VM 2 subscribes only; VM 1 asks for 100 messages of 8 bytes; VM 3 does nothing.
    bench.guests[1].send(7, source, b"subscribe");
    bench.settle();
    let request: Vec<u8> = [100_u32, 8].iter().flat_map(|word| word.to_le_bytes()).collect();
    bench.guests[0].send(5, source, &request);
    let mut streams = [Vec::new(), Vec::new(), Vec::new()];
    for _ in 0..50 {
        bench.settle();
        for (vm, stream) in streams.iter_mut().enumerate() {
            stream.extend(received(&mut bench, vm));
        }
    }
    let sequence = |stream: &[(u32, Vec<u8>)]| -> Vec<u32> {
        stream.iter().map(|(_, bytes)| u32::from_le_bytes(bytes[..4].try_into().unwrap())).collect()
    };
    let expected: Vec<u32> = (0..100).collect();
    assert_eq!(sequence(&streams[0]), expected);
    assert_eq!(sequence(&streams[1]), expected);
    assert!(streams[2].is_empty());
    assert!(streams[0].iter().all(|(address, _)| *address == 5));
    assert!(streams[1].iter().all(|(address, _)| *address == 7));
    assert_eq!(bench.account(1).counters.figures().subscriptions, 1);
}

#[test]
fn a_broadcast_waits_in_one_buffer_for_those_who_are_slow() {
    let mut bench = bench(2, vec![rule("source", Mode::Broadcast { owner: Some(slot(1)) })]);
    drain_announcements(&mut bench);
    let source = bench.service("source");
    bench.guests[1].send(7, source, b"subscribe");
    bench.settle();
    let request: Vec<u8> = [150_u32, 8].iter().flat_map(|word| word.to_le_bytes()).collect();
    bench.guests[0].send(5, source, &request);
    // The first VM takes everything at once, the second nothing until the end.
    let mut fast = 0;
    for _ in 0..50 {
        bench.settle();
        fast += received(&mut bench, 0).len();
    }
    assert_eq!(fast, 150);
    assert_eq!(bench.account(1).waiting.count(), 150 - 64);
    let mut slow = 0;
    for _ in 0..5 {
        slow += received(&mut bench, 1).len();
        bench.settle();
    }
    assert_eq!(slow, 150);
    assert_eq!(bench.account(1).waiting.count(), 0);
}

#[test]
fn firmware_that_keeps_16_bits_of_an_address_answers_the_right_endpoint() {
    let habits = Habits { short_addresses: true, ..Habits::default() };
    let policy = Policy { address_bits: AddressBits::Low16, ..Policy::default() };
    let mut bench = Bench::with_policy(Config { habits, ..Config::default() }, &[0, 1, 126], policy);
    drain_announcements(&mut bench);
    let echo = bench.service("rpmsg-raw");
    for address in [1024, 1025, 0xF_FFFF, 0x7FFF_FFFF] {
        for vm in 0..3_u8 {
            bench.guests[usize::from(vm)].send(address, echo, &[vm]);
        }
        bench.settle();
        for vm in 0..3_u8 {
            assert_eq!(received(&mut bench, vm.into()), [(address, vec![vm])]);
        }
    }
}

#[test]
fn guest_addresses_without_room_for_arithmetic_get_their_answers_too() {
    let mut bench = bench(2, Vec::new());
    drain_announcements(&mut bench);
    let echo = bench.service("rpmsg-raw");
    for vm in 0..2_u8 {
        bench.guests[usize::from(vm)].send(0x7FFF_0000, echo, &[vm]);
    }
    bench.settle();
    for vm in 0..2_u8 {
        assert_eq!(received(&mut bench, vm.into()), [(0x7FFF_0000, vec![vm])]);
    }
}

#[test]
fn a_late_answer_to_an_ended_session_never_reaches_its_successor() {
    for address in [1024, 0x7FFF_0000] {
        let mut bench = bench(2, Vec::new());
        drain_announcements(&mut bench);
        let echo = bench.service("rpmsg-raw");
        bench.guests[0].send(address, echo, b"old");
        bench.sweep();
        bench.stop(0);
        bench.guests[0].reset();
        bench.start(0);
        bench.settle();
        assert!(received(&mut bench, 0).is_empty());
        let stale = bench.account(0).counters.figures().dropped(Reason::StaleSession);
        assert_eq!(stale + bench.relay.strays[0], 1, "counted");
    }
}

#[test]
fn static_services_are_announced_as_if_the_remote_had() {
    let name = ServiceName::new("fixed").unwrap();
    let policy = Policy { static_services: vec![(name, 0x402)], ..Policy::default() };
    let mut bench = Bench::with_policy(
        Config {
            services: vec!["rpmsg-raw:hidden@0x402".parse().unwrap()],
            name_service: false,
            ..Config::default()
        },
        &[1],
        policy,
    );
    assert_eq!(told(&mut bench, 0).0, ["fixed"]);
    bench.guests[0].send(1024, 0x402, b"x");
    bench.settle();
    assert_eq!(received(&mut bench, 0), [(1024, b"x".to_vec())]);
}

#[test]
fn a_vm_can_be_added_and_removed_while_others_stream() {
    let mut bench = bench(2, Vec::new());
    drain_announcements(&mut bench);
    let echo = bench.service("rpmsg-raw");
    bench.guests[1].send(77, NAME_SERVICE_ADDRESS, &super::announcement("own", 77, AnnouncementKind::Create));
    bench.guests[0].send(1024, echo, b"one");
    bench.settle();
    assert_eq!(bench.core.host_services().len(), 1);
    bench.stop(1);
    bench.relay.remove_vm(slot(2));
    bench.guests[0].send(1024, echo, b"two");
    bench.guests.truncate(1);
    bench.slots.truncate(1);
    bench.settle();
    assert!(bench.core.host_services().is_empty(), "its service is withdrawn");
    assert_eq!(received(&mut bench, 0).len(), 2);
}
