//! Firmware that has one client, behind `exclusive`, and VMs that follow each other as its owner: in the middle of their
//! requests, which the core answers when they are gone.

use std::collections::BTreeMap;

use crate::harness::guest::Guest;
use crate::harness::rig::{Plan, Rig};
use crate::harness::stream::EchoStream;

const HERE: u32 = 1024;
/// The service of the soft core that answers its first client for ever.
const LATCHING: &str = "latching-echo";
/// Requests of each owner that are at the core when it goes.
const UNANSWERED: u8 = 10;
/// What the program says of an answer to a session that has ended.
const LATE: &str = "for an ended session";
/// Messages that a VM may have under way.
const WINDOW: u32 = 32;

/// How an owner goes.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Goes {
    /// Its driver goes; a new one comes up and leaves the service to others.
    Leaves,
    /// Its connection is cut, and it is back only when another one is owner.
    IsKilled,
    /// Its connection is cut, it comes back at once and is the next owner.
    Returns,
}

/// Owners, how each goes, and who is the next: every kind of end of every VM.
const CHANGES: [(u8, Goes, u8); 9] = [
    (0, Goes::Returns, 0),
    (0, Goes::Leaves, 1),
    (1, Goes::IsKilled, 2),
    (2, Goes::Returns, 2),
    (2, Goes::Leaves, 0),
    (0, Goes::IsKilled, 1),
    (1, Goes::Returns, 1),
    (1, Goes::Leaves, 2),
    (2, Goes::IsKilled, 0),
];

fn keeps_16_bits(config: &str) -> String {
    config.replace("link = \"socket\"\n", "link = \"socket\"\naddress-bits = 16\n")
}

/// That every owner gets the answers to its own requests and no others, and every late answer is counted for the VM
/// that had asked.
fn each_owner_gets_its_own(plan: Plan, config: impl FnOnce(String) -> String) {
    let rule = format!("[[service]]\nname = \"{LATCHING}\"\nmode = \"exclusive\"\n");
    let mut rig = Rig::start_with(Plan { vms: 3, ..plan }, |text| config(text) + &rule);
    let mut guests: Vec<_> = (0..3).map(|vm| Some(rig.guest(vm))).collect();
    let (mut late, mut gone) = (BTreeMap::<u8, u64>::new(), BTreeMap::<u8, usize>::new());

    for (turn, (owner, goes, next)) in (0..).zip(CHANGES) {
        let mut guest = guests[usize::from(owner)].take().expect("the owner is up");
        let service = guest.wait_service(LATCHING);
        EchoStream::new(turn, HERE, service).window(WINDOW).finish(&mut guest, 200);
        for other in guests.iter_mut().flatten() {
            other.wait_service_gone(LATCHING);
            Rig::settle(other);
        }
        rig.core().command("hang");
        for number in 0..UNANSWERED {
            guest.send(HERE, service, &[number]);
        }
        guest.flush();
        *late.entry(owner).or_default() += u64::from(UNANSWERED);

        match goes {
            Goes::Leaves => {
                guest.reset_driver();
                guests[usize::from(owner)] = Some(guest);
            }
            Goes::IsKilled | Goes::Returns => {
                drop(guest);
                *gone.entry(owner).or_default() += 1;
                if goes == Goes::Returns {
                    guests[usize::from(owner)] = Some(rig.guest(owner));
                }
            }
        }
        // Its first requests are on the way before the core has answered any of the last owner's.
        let successor = guests[usize::from(next)].as_mut().expect("the next owner is up");
        let service = successor.wait_service(LATCHING);
        let mut stream = EchoStream::new(100 + turn, HERE, service).window(WINDOW);
        stream.run(successor, 5, 0);
        rig.core().command("resume");
        stream.finish(successor, 200);
        if goes == Goes::IsKilled {
            guests[usize::from(owner)] = Some(rig.guest(owner));
        }
    }

    drop(guests);
    for (vm, late) in late {
        let visits = gone.get(&vm).map_or(1, |gone| gone + 1);
        let dropped = rig.program().wait_dropped(&format!("vm{vm}"), visits);
        assert_eq!(dropped, BTreeMap::from([(LATE.to_owned(), late)]), "vm{vm}");
    }
}

#[test]
fn latching_firmware_serves_one_owner_after_the_other_and_none_gets_anothers_answers() {
    each_owner_gets_its_own(Plan::with_sessions(3), |config| config);
}

#[test]
fn latching_firmware_serves_a_vm_in_slot_zero_like_any_other_owner() {
    each_owner_gets_its_own(Plan::default(), |config| config);
}

#[test]
fn latching_firmware_of_16_bits_serves_one_owner_after_the_other_and_none_gets_anothers_answers() {
    let plan = Plan { core: vec!["--short-addresses"], ..Plan::with_sessions(3) };
    each_owner_gets_its_own(plan, |config| keeps_16_bits(&config));
}

#[test]
fn latching_firmware_with_the_habits_of_openamp_serves_one_owner_after_the_other() {
    let habits = ["--short-addresses", "--used-length", "buffer", "--scribble-reserved", "--shuffle", "16"];
    let plan = Plan { core: habits.to_vec(), ..Plan::with_sessions(3) };
    each_owner_gets_its_own(plan, |config| keeps_16_bits(&config));
}

#[test]
fn latching_firmware_that_never_tells_of_consumed_buffers_is_handed_over_too() {
    let plan = Plan { core: vec!["--short-addresses", "--silent-consume"], ..Plan::with_sessions(3) };
    each_owner_gets_its_own(plan, |config| keeps_16_bits(&config));
}

#[test]
fn firmware_of_16_bits_never_answers_a_session_in_place_of_the_last() {
    let plan = Plan { core: vec!["--short-addresses"], ..Plan::with_sessions(2) };
    let mut rig = Rig::start_with(plan, |config| keeps_16_bits(&config));
    let (mut guest, mut other) = (rig.guest(0), rig.guest(1));
    let raw = other.wait_service("rpmsg-raw");
    let mut others = EchoStream::new(1, HERE, raw).window(WINDOW);
    for round in 0..4 {
        guest.wait_service("rpmsg-raw");
        others.run(&mut other, others.sent() + 50, others.received() + 20);
        rig.core().command("hang");
        for number in 0..UNANSWERED {
            guest.send(HERE, raw, &[number]);
        }
        guest.flush();
        if round % 2 == 0 {
            guest.reset_driver();
        } else {
            drop(guest);
            guest = rig.guest(0);
        }
        guest.wait_service("rpmsg-raw");
        let mut stream = EchoStream::new(10 + round, HERE, raw).window(WINDOW);
        stream.run(&mut guest, 5, 0);
        rig.core().command("resume");
        stream.finish(&mut guest, 100);
    }
    others.finish(&mut other, 50);
    // An address that was the last session's is nobody's for a while.
    rig.program().wait_log("dropped: no VM has this address");
}

#[test]
fn a_named_owner_keeps_its_service_through_its_own_death_and_the_others_never_see_it() {
    let rule = format!("[[service]]\nname = \"{LATCHING}\"\nmode = \"exclusive\"\nowner = \"vm0\"\n");
    let mut rig = Rig::start_with(Plan::with_sessions(2), |config| config + &rule);
    let (mut owner, mut other): (Guest, Guest) = (rig.guest(0), rig.guest(1));
    let service = owner.wait_service(LATCHING);
    EchoStream::new(1, HERE, service).window(WINDOW).finish(&mut owner, 100);
    rig.core().command("hang");
    for number in 0..UNANSWERED {
        owner.send(HERE, service, &[number]);
    }
    owner.flush();

    drop(owner);
    let mut owner = rig.guest(0);
    owner.wait_service(LATCHING);
    let mut stream = EchoStream::new(2, HERE, service).window(WINDOW);
    stream.run(&mut owner, 5, 0);
    other.send(HERE, service, b"mine?");
    rig.core().command("resume");
    stream.finish(&mut owner, 100);

    Rig::settle(&mut other);
    assert!(other.news().iter().all(|news| news.name.as_bytes() != LATCHING.as_bytes()));
    drop((owner, other));
    let late = BTreeMap::from([(LATE.to_owned(), u64::from(UNANSWERED))]);
    assert_eq!(rig.program().wait_dropped("vm0", 2), late);
    let refused = BTreeMap::from([("not allowed".to_owned(), 1)]);
    assert_eq!(rig.program().wait_dropped("vm1", 1), refused);
}
