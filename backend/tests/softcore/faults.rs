//! What goes wrong: garbage, resets, crashes, hangs, starts that cannot be.

use std::time::Instant;

use vhost_device_rpmsg::softcore::bell;

use crate::host::{self, PATIENCE};
use crate::program::{Program, refused};
use crate::{RAW, expect_defaults, up};

#[test]
fn a_reset_faster_than_the_core_can_see_is_noticed_by_the_rings() {
    let program = Program::start(&[]);
    let mut host = up(&program);
    for _ in 0..20 {
        assert_eq!(host.ask(1024, RAW, b"text"), b"text");
        host.set_status(0);
        host.bring_up();
        expect_defaults(&mut host);
    }
}

#[test]
fn needs_reset_is_answered_by_status_zero() {
    let mut program = Program::start(&[]);
    let host = up(&program);
    host.set_status(0x47);
    let start = Instant::now();
    while host.status() != 0 {
        assert!(start.elapsed() < PATIENCE);
        std::thread::yield_now();
    }
    program.wait_for_state("waiting");
}

#[test]
fn garbage_on_the_doorbell_is_counted_and_ignored() {
    let mut program = Program::start(&[]);
    let mut host = up(&program);
    for byte in [0xF0, 0xF1, 0xF3, 0xF5, 0xF7, 0xF8, 0xFF] {
        host.ring(byte);
    }
    for byte in 0..=bell::LAST_KICK {
        host.ring(byte);
    }
    host.ring(bell::ECHO_REQUEST);
    host.wait_for(bell::ECHO_REPLY);
    assert_eq!(host.ask(1024, RAW, b"text"), b"text");
    assert_eq!(program.stat(None, "unknown_bells"), "7");
}

#[test]
fn garbage_in_the_vdev_entry_is_reported_and_mended_by_the_host() {
    let program = &mut Program::start(&[]);
    let mut host = program.host();
    host.prepare(1);
    let ring0 = host.vdev + 28;
    let good = u32::try_from(host.rx.da).unwrap();
    for da in [0, 1, good + 8, 0x2100_0000, 0xFFFF_F000, host::ANY] {
        host.write(ring0, da);
        host.set_status(7);
        host.ring(host::NOTIFY_IDS[0]);
        program.ok("stats");
        program.wait_for_state("waiting");
    }
    host.write(ring0, good);
    for (offset, value) in [(8, 3u32), (8, 0), (8, 65536), (8, 512), (12, 0xF0), (12, 9)] {
        let before: u32 = host.word(ring0 + offset);
        host.write(ring0 + offset, value);
        host.ring(host::NOTIFY_IDS[0]);
        program.ok("stats");
        program.wait_for_state("waiting");
        host.write(ring0 + offset, before);
    }
    host.set_status(0);
    host.bring_up();
    expect_defaults(&mut host);
    let errors = program.errors();
    assert!(errors.contains("outside the pool") && errors.contains("power of two"), "{errors}");
}

#[test]
fn a_ring_that_the_host_breaks_is_left_alone_until_a_reset() {
    let mut program = Program::start(&[]);
    let mut host = up(&program);
    host.write(host.tx.avail_at(2).0, 0x7000u16);
    host.ring(host::NOTIFY_IDS[1]);
    program.wait_for_state("broken");
    host.set_status(0);
    program.wait_for_state("waiting");
    host.bring_up();
    expect_defaults(&mut host);
}

#[test]
fn malformed_messages_go_back_to_their_owner_and_are_counted() {
    let mut program = Program::start(&[]);
    let mut host = up(&program);
    let buffer = host.tx.buffer(0).0;
    let memory = host.memory.clone();
    for (address, len, flags) in [
        (0xFFFF_FFFF_FFFF_FFF0, 512, 0),
        (0, 16, 0),
        (buffer, 0, 0),
        (buffer, 15, 0),
        (buffer, 512, 2),
        (buffer, 512, 1),
        (buffer, 512, 4),
        (buffer, 512, 0),
    ] {
        let head = host.tx.free.pop().unwrap();
        // A length that the message does not have, where there is a message at all.
        host.write(buffer + 12, 497u16);
        host.tx.offer(&memory, head, address, len, flags);
        host.kick(1);
        while host.reclaim() != [head] {
            host.wait();
        }
    }
    assert_eq!(program.stat(None, "malformed"), "8");
    host.send(1024, 0x9999, b"nobody is there");
    assert_eq!(host.ask(1024, RAW, b"text"), b"text");
    assert_eq!(program.stat(None, "unknown_dst"), "1");
}

#[test]
fn a_crash_is_rung_and_a_reboot_starts_from_nothing() {
    let mut program = Program::start(&[]);
    let mut host = up(&program);
    host.ask(1024, RAW, b"text");
    program.ok("crash");
    host.wait_for(bell::CRASHED);
    host.send(1024, RAW, b"lost");
    host.ring(bell::STATE);
    assert_eq!(program.stat(None, "state"), "crashed");
    program.ok("reboot");
    host.wait_for(bell::READY);
    assert!(!host.heard.contains(&bell::RUNNING));
    assert_eq!(host.status(), 0);
    assert_eq!(program.stat(Some("rpmsg-raw"), "received"), "0");
    assert_eq!(program.stat(None, "earlier_received"), "1");
    host.bring_up();
    expect_defaults(&mut host);
    assert_eq!(host.ask(1024, RAW, b"text"), b"text");
}

#[test]
fn a_core_that_hangs_goes_on_where_it_stood() {
    let mut program = Program::start(&[]);
    let mut host = up(&program);
    program.ok("hang");
    host.ring(bell::ECHO_REQUEST);
    host.send(1024, RAW, b"text");
    assert_eq!(program.stat(None, "state"), "hung");
    assert_eq!(host.try_receive(), None);
    assert!(program.answer("hang").starts_with("error"));
    program.ok("resume");
    host.wait_for(bell::ECHO_REPLY);
    assert_eq!(host.receive().payload, b"text");
    assert!(program.answer("resume").starts_with("error"));
}

#[test]
fn a_host_that_leaves_a_hung_core_makes_room_for_the_next() {
    let mut program = Program::start(&[]);
    let mut host = up(&program);
    program.ok("hang");
    host.ring(bell::ECHO_REQUEST);
    host.bell = None;
    program.ok("stats");
    program.ok("resume");
    let mut next = program.host();
    next.ring(bell::STATE);
    next.wait_for(bell::RUNNING);
}

#[test]
fn a_shutdown_is_acknowledged() {
    let mut program = Program::start(&[]);
    let mut host = up(&program);
    host.ring(bell::SHUT_DOWN);
    host.wait_for(bell::SHUTDOWN_DONE);
    assert_eq!(program.stat(None, "state"), "shut-down");
    program.ok("reboot");
    host.wait_for(bell::READY);
    host.bring_up();
    expect_defaults(&mut host);
}

#[test]
fn a_start_that_cannot_be_ends_with_one_line_that_says_why() {
    let folder = tempfile::tempdir().unwrap();
    for (arguments, parts) in [
        (&["--buffers", "1024", "--memory-size", "64K"][..], &["65536", "1024", "need"][..]),
        (&["--buffers", "3"], &["3 buffers", "power of two"]),
        (&["--service", "tty"], &["unknown service kind", "rpmsg-tty"]),
        (&["--service", "sink:a@0x400", "--service", "sink:b@0x400"], &["b", "0x400", "taken"]),
        (&["--memory-size", "1G"], &["K or M"]),
    ] {
        let output = refused(&folder, arguments);
        let text = String::from_utf8(output.stderr).unwrap();
        assert!(parts.iter().all(|part| text.contains(part)), "{text}");
        assert!(output.stdout.is_empty());
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "{arguments:?}");
    }
}

#[test]
fn two_cores_cannot_share_a_doorbell_or_a_memory_file() {
    let first = Program::start(&[]);
    let text = String::from_utf8(refused(&first.folder, &[]).stderr).unwrap();
    assert!(text.contains("in use by a live process"), "{text}");
    let other = first.folder.path().join("other");
    let output = refused(&first.folder, &["--doorbell", other.to_str().unwrap()]);
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.contains("--doorbell") || text.contains("in use by another soft core"), "{text}");
    let mut host = up(&first);
    assert_eq!(host.ask(1024, RAW, b"text"), b"text");
}

#[test]
fn what_a_killed_core_has_left_behind_is_used_again() {
    let mut first = Program::start(&[]);
    first.child.kill().unwrap();
    first.child.wait().unwrap();
    assert!(first.bell().exists() && first.memory().exists());
    let folder = std::mem::replace(&mut first.folder, tempfile::tempdir().unwrap());
    let second = Program::start_in(folder, &[]);
    let mut host = up(&second);
    assert_eq!(host.ask(1024, RAW, b"text"), b"text");
}
