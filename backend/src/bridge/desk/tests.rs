//! The desk by itself: turns, owners, subscribers, and time that passes.

use std::time::Duration;

use super::*;
use crate::rpmsg::address::Session;

const SECOND: Duration = Duration::from_secs(1);

fn client(slot: u8) -> Client {
    Client { slot: Slot::new(slot).unwrap(), session: Session::new(1), address: 1000 + u32::from(slot) }
}

fn serialized(reply: Reply, unsolicited: Unsolicited) -> Desk {
    Desk::new(Mode::Serialized(Turns { reply, time_out: SECOND, quarantine: 5 * SECOND, unsolicited }))
        .unwrap()
}

#[test]
fn an_exclusive_service_is_the_first_users_until_it_leaves() {
    let (mut desk, now) = (Desk::new(Mode::Exclusive { owner: None }).unwrap(), Instant::now());
    assert!(desk.admits(client(1).slot) && desk.admits(client(2).slot));
    assert_eq!(desk.send(client(1)), Sending::Pass);
    assert!(desk.sent(client(1), now), "the others see it no more");
    assert!(!desk.sent(client(1), now));
    assert!(!desk.admits(client(2).slot));
    assert_eq!(desk.send(client(2)), Sending::Refused);
    assert_eq!(desk.receive(now), Receiver::One(client(1)));
    assert_eq!(desk.leave(client(2).slot), Left::default());
    assert_eq!(desk.leave(client(1).slot), Left { requests: 0, rights_changed: true, hands_over: true });
    assert!(desk.admits(client(2).slot));
    assert_eq!(desk.send(client(2)), Sending::Wait);
    assert_eq!(desk.receive(now), Receiver::One(client(1)), "still the last owner's");
    desk.handed_over();
    assert_eq!(desk.receive(now), Receiver::Nobody);
    assert_eq!(desk.send(client(2)), Sending::Pass);
}

#[test]
fn a_named_owner_stays_owner_when_it_leaves() {
    let mut desk = Desk::new(Mode::Exclusive { owner: Some(client(1).slot) }).unwrap();
    assert!(!desk.admits(client(2).slot));
    assert_eq!(desk.leave(client(1).slot), Left::default(), "it has sent nothing");
    assert_eq!(desk.send(client(2)), Sending::Refused);
    assert_eq!(desk.send(client(1)), Sending::Pass);
}

#[test]
fn turns_are_taken_one_at_a_time_and_in_the_order_of_asking() {
    let (mut desk, now) = (serialized(Reply::One, Unsolicited::Drop), Instant::now());
    assert_eq!(desk.send(client(1)), Sending::Pass);
    desk.sent(client(1), now);
    for slot in [2, 3, 1] {
        assert_eq!(desk.send(client(slot)), Sending::Keep);
        desk.keep(client(slot), 0, &[slot]);
        assert_eq!(desk.send(client(slot)), Sending::Wait, "one per VM");
    }
    assert!(desk.next_request().is_none());
    for (slot, next) in [(1, 2), (2, 3), (3, 1)] {
        assert_eq!(desk.receive(now), Receiver::One(client(slot)));
        assert_eq!(desk.next_request().map(Request::payload), Some(&[next][..]));
        desk.request_sent(now);
    }
    assert_eq!(desk.receive(now), Receiver::One(client(1)));
    assert_eq!(desk.receive(now), Receiver::Nobody, "nobody has asked");
    assert_eq!(desk.send(client(9)), Sending::Pass);
}

#[test]
fn after_a_time_out_late_answers_are_told_from_those_of_the_next_turn() {
    let (mut desk, now) = (serialized(Reply::One, Unsolicited::Drop), Instant::now());
    desk.sent(client(1), now);
    desk.keep(client(2), 0, b"next");
    assert_eq!(desk.deadline(), Some(now + SECOND));
    assert_eq!(desk.tick(now), (None, false));
    assert_eq!(desk.tick(now + SECOND), (Some(client(1)), false));
    assert_eq!(desk.receive(now + 2 * SECOND), Receiver::Late);
    assert!(desk.next_request().is_none());
    assert_eq!(desk.tick(now + 6 * SECOND), (None, true));
    assert!(desk.next_request().is_some());
    assert_eq!(desk.deadline(), None);
}

#[test]
fn without_replies_nobody_waits_and_with_several_a_turn_ends_by_silence() {
    let now = Instant::now();
    let mut desk = serialized(Reply::None, Unsolicited::Drop);
    desk.sent(client(1), now);
    assert_eq!(desk.send(client(2)), Sending::Pass);

    let mut desk = serialized(Reply::Several, Unsolicited::Drop);
    desk.sent(client(1), now);
    for _ in 0..3 {
        assert_eq!(desk.receive(now + SECOND / 2), Receiver::One(client(1)));
    }
    assert_eq!(desk.tick(now + SECOND), (None, false));
    assert_eq!(desk.tick(now + SECOND + SECOND / 2), (None, true));
}

#[test]
fn what_nobody_asked_for_goes_where_the_configuration_says() {
    let now = Instant::now();
    for (unsolicited, expected) in [
        (Unsolicited::Drop, Receiver::Nobody),
        (Unsolicited::Vm(client(2).slot), Receiver::One(client(2))),
        (Unsolicited::Vm(client(7).slot), Receiver::Nobody),
        (Unsolicited::All, Receiver::All),
    ] {
        let mut desk = serialized(Reply::None, unsolicited);
        desk.sent(client(1), now);
        desk.sent(client(2), now);
        assert_eq!(desk.receive(now), expected);
    }
}

#[test]
fn a_vm_that_leaves_takes_its_request_along_but_its_answer_is_nobody_elses() {
    let (mut desk, now) = (serialized(Reply::One, Unsolicited::Drop), Instant::now());
    desk.sent(client(1), now);
    desk.keep(client(2), 0, b"x");
    desk.keep(client(3), 0, b"y");
    assert_eq!(desk.leave(client(2).slot), Left { requests: 1, ..Left::default() });
    assert_eq!(desk.leave(client(1).slot), Left::default());
    assert_eq!(desk.receive(now), Receiver::One(client(1)), "its session tells that it is gone");
    assert_eq!(desk.next_request().map(|request| request.client), Some(client(3)));
}

#[test]
fn a_broadcast_goes_to_every_vm_that_has_sent_and_only_the_owners_messages_pass() {
    let (mut desk, now) =
        (Desk::new(Mode::Broadcast { owner: Some(client(1).slot) }).unwrap(), Instant::now());
    assert_eq!(desk.receive(now), Receiver::Nobody);
    assert_eq!(desk.send(client(2)), Sending::Subscribed);
    assert_eq!(desk.send(client(1)), Sending::Pass);
    desk.sent(client(1), now);
    assert_eq!(desk.receive(now), Receiver::All);
    assert_eq!(desk.subscribers(), [client(2), client(1)]);
    desk.leave(client(2).slot);
    assert_eq!(desk.subscribers(), [client(1)]);
}
