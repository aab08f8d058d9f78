//! Rules for services that change while they are used.

use std::time::Duration;

use super::Bench;
use crate::bridge::desk::{Desk, Receiver};
use crate::bridge::directory::{Directory, View};
use crate::bridge::parties::Client;
use crate::bridge::policy::{Mode, Pattern, Policy, Reply, Rule, Slots, Turns, Unsolicited};
use crate::rpmsg::address::Slot;
use crate::rpmsg::{AnnouncementKind, ServiceName};
use crate::softcore::Config;

const HERE: u32 = 1024;

fn slot(number: u8) -> Slot {
    Slot::new(number).unwrap()
}

fn rule(visible_to: Slots, mode: Mode) -> Rule {
    Rule { pattern: Pattern::new("rpmsg-raw"), visible_to, mode }
}

fn exclusive(owner: u8) -> Rule {
    rule(Slots::ALL, Mode::Exclusive { owner: Some(slot(owner)) })
}

fn serialized() -> Rule {
    let second = Duration::from_secs(1);
    let (reply, unsolicited) = (Reply::One, Unsolicited::Drop);
    rule(Slots::ALL, Mode::Serialized(Turns { reply, time_out: second, quarantine: second, unsolicited }))
}

fn answers(bench: &mut Bench, vm: usize) -> Vec<Vec<u8>> {
    let received = std::iter::from_fn(|| bench.guests[vm].receive());
    received.filter(|(header, _)| header.dst == HERE).map(|(_, bytes)| bytes).collect()
}

#[test]
fn what_the_firmware_still_answers_under_the_old_rule_does_not_reach_who_asks_under_the_new_one() {
    for (before, after) in [
        (exclusive(1), exclusive(2)),
        (exclusive(1), serialized()),
        (serialized(), exclusive(2)),
        (serialized(), serialized()),
    ] {
        let policy = Policy { rules: vec![before.clone()], ..Policy::default() };
        let mut bench = Bench::with_policy(Config::default(), &[1, 2], policy);
        let raw = bench.service("rpmsg-raw");
        bench.guests.iter_mut().for_each(|guest| drop(guest.announcements()));
        assert!(bench.guests[0].send(HERE, raw, b"before"));
        bench.sweep();

        assert_eq!(bench.relay.set_rule(&after), [ServiceName::new("rpmsg-raw").unwrap()]);
        assert!(bench.guests[1].send(HERE, raw, b"after"));
        bench.settle();
        bench.settle();

        assert_eq!(answers(&mut bench, 1), [b"after"], "{before:?}, {after:?}");
        assert!(answers(&mut bench, 0).is_empty(), "{before:?}, {after:?}");
    }
}

#[test]
fn a_desk_of_another_kind_leaves_no_client_behind_that_would_be_taken_for_the_owner() {
    let now = std::time::Instant::now();
    let client = |slot| Client { slot: self::slot(slot), session: 1.into(), address: HERE };
    let desk = |rule: Rule| Desk::new(rule.mode).unwrap();
    let mut before = desk(serialized());
    before.sent(client(1), now);
    before.receive(now);
    for owner in [1, 2] {
        let mut after = desk(exclusive(owner));
        after.restore(before.save(), now);
        let expected = if owner == 1 { Receiver::One(client(1)) } else { Receiver::Nobody };
        assert_eq!(after.receive(now), expected);
    }
    before.sent(client(2), now);
    let mut after = desk(exclusive(2));
    after.restore(before.save(), now);
    assert_eq!(after.receive(now), Receiver::Nobody);
}

#[test]
fn who_may_not_see_a_service_any_more_is_told_so_by_a_program_that_begins_under_other_rules() {
    let now = std::time::Instant::now();
    let name = ServiceName::new("rpmsg-raw").unwrap();
    let shared = |visible_to| vec![rule(visible_to, Mode::Shared)];
    let mut before = Directory::new(shared(Slots::ALL));
    let mut view = View::default();
    before.announce(name, 30, &std::iter::empty()).unwrap();
    let created = before.next_for(slot(1), &mut view).unwrap();
    before.told(&mut view, created);
    view.skip_all(&before);

    let (services, last_change) = before.save();
    for (visible_to, expected) in [(Slots::ALL, None), (Slots::NONE, Some(AnnouncementKind::Destroy))] {
        let mut after = Directory::new(shared(visible_to));
        after.restore(services.clone(), last_change, before.rules_hash(), now);
        let told = after.next_for(slot(1), &mut view.clone());
        assert_eq!(told.map(|told| told.kind), expected);
    }
}
