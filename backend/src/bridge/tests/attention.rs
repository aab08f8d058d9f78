//! Who is looked at, who is asked to notify, and that nothing is missed in between.

use crate::bridge::bench::{Bench, Guest};
use crate::guest::port::QueueIndex;

const TX: QueueIndex = QueueIndex::FromGuest;

/// Two VMs that have just been at work, and a relay that is awake.
fn at_work() -> Bench {
    let mut bench = super::bench(&[1, 2]);
    bench.kick();
    bench.poll();
    bench.relay.park_idle();
    bench
}

/// Whether the guest is asked to kick when it sends: `VIRTQ_USED_F_NO_NOTIFY` is not set.
fn is_asked_to_kick(guest: &Guest) -> bool {
    guest.read::<u16>(guest.ring_of(TX).used_ring()) == 0
}

/// The guest sends to the echo without a kick, and the relay has a turn.
fn send(bench: &mut Bench, vm: usize, payload: &[u8]) {
    let echo = bench.service("rpmsg-raw");
    assert!(bench.guests[vm].send(1024, echo, payload));
    bench.poll();
}

/// What the guest gets once the remote has answered.
fn echo(bench: &mut Bench, vm: usize) -> Option<Vec<u8>> {
    bench.poll_core();
    bench.poll();
    Some(bench.guests[vm].receive()?.1)
}

#[test]
fn who_is_idle_is_asked_to_kick_while_another_is_spared_it() {
    let mut bench = at_work();
    send(&mut bench, 0, b"busy");

    bench.relay.park_idle();

    assert_eq!([0, 1].map(|vm| is_asked_to_kick(&bench.guests[vm])), [false, true]);
    send(&mut bench, 1, b"not seen before its kick");
    assert_eq!(echo(&mut bench, 1), None);
    bench.kick();
    bench.poll();
    assert_eq!(echo(&mut bench, 1).unwrap(), b"not seen before its kick");
    assert!(!is_asked_to_kick(&bench.guests[1]));
}

#[test]
fn what_comes_just_before_its_vm_is_asked_to_kick_is_not_missed() {
    let mut bench = at_work();
    let service = bench.service("rpmsg-raw");
    assert!(bench.guests[1].send(1024, service, b"at the last moment"));

    bench.relay.park_idle();
    bench.poll();

    assert_eq!(echo(&mut bench, 1).unwrap(), b"at the last moment");
}

#[test]
fn a_relay_that_is_awake_finds_what_was_sent_before_the_kick_is_heard() {
    let mut bench = at_work();
    bench.relay.park_idle();
    send(&mut bench, 1, b"its kick is on the way");
    assert_eq!(echo(&mut bench, 1), None);

    bench.relay.look_at_parked();
    bench.poll();

    assert_eq!(echo(&mut bench, 1).unwrap(), b"its kick is on the way");
}

#[test]
fn who_gives_no_buffers_is_asked_to_kick_and_gets_what_waits_when_it_does() {
    let mut bench = at_work();
    let mut kept = Vec::new();
    for number in 0..65_u8 {
        send(&mut bench, 0, &[number]);
        bench.poll_core();
        bench.poll();
        kept.extend(bench.guests[0].receive_and_keep().map(|(id, ..)| id));
    }
    assert_eq!(kept.len(), 64, "one waits, since there are 64 buffers");
    bench.relay.park_idle();
    bench.relay.park_idle();

    bench.guests[0].give(QueueIndex::ToGuest, kept[0], 512);
    bench.poll();
    assert!(bench.guests[0].receive().is_none(), "nobody looks at who was asked to kick");
    bench.kick();
    bench.poll();

    assert_eq!(bench.guests[0].receive().unwrap().1, [64]);
}

#[test]
fn the_relay_does_not_go_to_sleep_before_it_has_asked_for_everything_that_can_wake_it() {
    let mut bench = at_work();
    let service = bench.service("rpmsg-raw");
    for vm in 0..2 {
        bench.kick();
        bench.poll();
        assert!(bench.guests[vm].send(1024, service, b"before the kick was asked for"));
        assert!(bench.relay.rearm(), "it has to look again");
        bench.poll();
        assert!(echo(&mut bench, vm).is_some());
    }
    bench.kick();
    bench.poll();
    assert!(bench.guests[0].send(1024, service, b"is answered after the last look"));
    bench.poll();
    bench.poll_core();

    assert!(bench.relay.rearm(), "there is an answer");

    bench.poll();
    assert!(bench.guests[0].receive().is_some());
    assert!(!bench.relay.rearm());
    assert!([0, 1].iter().all(|vm| is_asked_to_kick(&bench.guests[*vm])));
}
