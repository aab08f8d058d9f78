//! The soft core against a small host of the tests' own: as a program, as a thread, and step by step.

#[path = "softcore/faults.rs"]
mod faults;
#[path = "softcore/host.rs"]
mod host;
#[path = "softcore/program.rs"]
mod program;
#[path = "softcore/steps.rs"]
mod steps;

use rustix::process::{Pid, Signal, kill_process};
use std::io::ErrorKind;
use std::time::Instant;

use host::{Host, PATIENCE};
use program::Program;
use vhost_device_rpmsg::rpmsg::AnnouncementKind::{Create, Destroy};
use vhost_device_rpmsg::softcore::{Config, bell, pattern, spawn_loopback};

const SAMPLE: u32 = 0x400;
const TTY: u32 = 0x401;
const RAW: u32 = 0x402;
const SINK: u32 = 0x403;
const SOURCE: u32 = 0x404;
const LATCHING: u32 = 0x405;
const DEFAULTS: [(&str, u32); 6] = [
    ("rpmsg-client-sample", SAMPLE),
    ("rpmsg-tty", TTY),
    ("rpmsg-raw", RAW),
    ("sink", SINK),
    ("source", SOURCE),
    ("latching-echo", LATCHING),
];

fn expect_defaults(host: &mut Host) {
    for (name, address) in DEFAULTS {
        assert_eq!(host.announcement(), (name.to_owned(), address, Create));
    }
}

/// A host that is up and has heard the announcements.
fn up(program: &Program) -> Host {
    let mut host = program.host();
    host.bring_up();
    expect_defaults(&mut host);
    host
}

fn request(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

fn echo_all_sizes(host: &mut Host) {
    for size in 1..=496usize {
        let payload: Vec<u8> = (0..size).map(|i| u8::try_from((i * 7 + size) % 251).unwrap()).collect();
        assert_eq!(host.ask(1024, [SAMPLE, TTY, RAW][size % 3], &payload), payload);
    }
}

#[test]
fn an_echo_of_every_size_comes_back_from_vrings_that_the_host_has_placed() {
    let program = Program::start(&[]);
    echo_all_sizes(&mut up(&program));
}

#[test]
fn an_echo_of_every_size_comes_back_from_vrings_at_fixed_addresses() {
    let program =
        Program::start(&["--fixed-vrings", "--align", "16", "--buffers", "4", "--device-address", "0x10000"]);
    let mut host = up(&program);
    assert!(host.rx.da < host.tx.da && host.rx.num == 4);
    echo_all_sizes(&mut host);
}

#[test]
fn services_come_and_go_by_command() {
    let mut program = Program::start(&["--service", "rpmsg-tty:one@0x500"]);
    let mut host = program.host();
    host.bring_up();
    assert_eq!(host.announcement(), ("one".to_owned(), 0x500, Create));
    assert_eq!(program.ok("announce rpmsg-raw:two"), "address=0x400");
    assert_eq!(host.announcement(), ("two".to_owned(), 0x400, Create));
    assert_eq!(host.ask(1024, 0x400, b"text"), b"text");
    assert_eq!(program.ok("withdraw two"), "withdrawn=1");
    assert_eq!(host.announcement(), ("two".to_owned(), 0x400, Destroy));
    assert!(program.answer("withdraw two").starts_with("error: no service"));
    assert!(program.answer("announce sink:x@0x500").contains("taken"));
    assert!(program.answer("announce what").contains("known are rpmsg-client-sample"));
    assert!(program.answer("dance").starts_with("error: unknown command"));
}

#[test]
fn without_the_name_service_nothing_is_announced_and_services_answer_all_the_same() {
    let program = Program::start(&[]);
    let mut host = program.host();
    host.bring_up_with(0, usize::MAX);
    assert_eq!(host.ask(1024, RAW, b"text"), b"text");
}

#[test]
fn a_host_that_resets_and_comes_back_hears_the_announcements_again() {
    let mut program = Program::start(&[]);
    let mut host = up(&program);
    assert_eq!(host.ask(1024, LATCHING, b"first"), b"first");
    host.set_status(0);
    program.wait_for_state("waiting");
    host.bring_up();
    expect_defaults(&mut host);
    // The latch has gone with the link.
    assert_eq!(host.ask(1025, LATCHING, b"second"), b"second");
    assert_eq!(program.stat(None, "links"), "2");
}

#[test]
fn a_driver_that_comes_up_without_a_kick_is_noticed() {
    let program = Program::start(&[]);
    let mut host = program.host();
    host.prepare(1);
    host.post(usize::MAX);
    host.set_status(7);
    expect_defaults(&mut host);
}

#[test]
fn a_host_that_disconnects_finds_link_and_endpoints_as_they_were() {
    let mut program = Program::start(&[]);
    let mut host = up(&program);
    host.bell = None;
    for _ in 0..3 {
        let again = program.host();
        host.bell = again.bell;
        host.ring(bell::STATE);
        host.wait_for(bell::RUNNING);
        assert_eq!(host.ask(1024, RAW, b"text"), b"text");
    }
    assert_eq!(program.stat(None, "links"), "1");
}

#[test]
fn buffers_that_come_back_out_of_order_lose_nothing() {
    let program = Program::start(&["--shuffle", "8", "--seed", "3", "--buffers", "16"]);
    let mut host = up(&program);
    host.reclaim();
    for _ in 0..8 {
        assert!(host.put(1024, SINK, b""));
    }
    host.kick(1);
    let mut returned = Vec::new();
    while returned.len() < 8 {
        host.wait();
        returned.extend(host.reclaim());
    }
    let mut sent = returned.clone();
    sent.sort_unstable();
    assert_eq!(sent, (0..8).collect::<Vec<u16>>());
    assert_ne!(returned, sent, "the order in which they were sent");
    for number in 0..1000u32 {
        let payload = number.to_le_bytes();
        assert_eq!(host.ask(1024, RAW, &payload), payload);
    }
}

#[test]
fn every_awkward_habit_leaves_messages_intact() {
    for habits in [
        &["--used-length", "buffer", "--scribble-reserved"][..],
        &["--keep-buffers", "3", "--buffers", "8"],
        &["--keep-buffers", "3", "--shuffle", "4", "--buffers", "8"],
        &["--suppress-kicks"],
        &["--suppress-kicks", "--spin", "50"],
        &["--short-addresses"],
    ] {
        let program = Program::start(habits);
        let mut host = up(&program);
        for number in 0..500u32 {
            let payload = number.to_le_bytes();
            assert_eq!(host.ask(1024, RAW, &payload), payload, "{habits:?}");
        }
    }
}

#[test]
fn no_wake_up_is_lost_when_kicks_are_suppressed() {
    let program = Program::start(&["--suppress-kicks", "--buffers", "8"]);
    let mut host = up(&program);
    let (mut sent, mut received) = (0u32, 0u32);
    while received < 20_000 {
        while sent < 20_000 && sent - received < 6 && host.put(1024, RAW, &sent.to_le_bytes()) {
            sent += 1;
        }
        host.kick(1);
        assert_eq!(host.receive().payload, received.to_le_bytes());
        received += 1;
    }
}

#[test]
fn consumed_buffers_are_told_of_unless_the_core_is_silent() {
    for (arguments, told) in [(&[][..], true), (&["--silent-consume"], false)] {
        let program = Program::start(arguments);
        let mut host = up(&program);
        host.kicks = [0; 240];
        for _ in 0..5 {
            host.ask(1024, RAW, b"text");
        }
        // An echo is rung for after all kicks before it.
        host.ring(bell::ECHO_REQUEST);
        host.wait_for(bell::ECHO_REPLY);
        assert_eq!(host.kicks[usize::from(host::NOTIFY_IDS[1])] > 0, told);
    }
}

#[test]
fn a_host_that_wants_no_interrupts_gets_none() {
    let program = Program::start(&[]);
    let mut host = up(&program);
    host.ring(bell::ECHO_REQUEST);
    host.wait_for(bell::ECHO_REPLY);
    for ring in [&host.rx, &host.tx] {
        host.write(ring.avail_at(0).0, 1u16);
    }
    host.kicks = [0; 240];
    host.send(1024, RAW, b"text");
    let start = Instant::now();
    while host.try_receive().is_none() {
        assert!(start.elapsed() < PATIENCE);
    }
    host.ring(bell::ECHO_REQUEST);
    host.wait_for(bell::ECHO_REPLY);
    assert_eq!(host.kicks.iter().sum::<u64>(), 0);
}

#[test]
fn a_source_sends_what_several_have_asked_for_while_an_echo_goes_on() {
    let mut program = Program::start(&["--buffers", "4"]);
    let mut host = up(&program);
    let askers: [u32; 3] = [1100, 1101, 1102];
    for asker in askers {
        host.send(asker, SOURCE, &request(&[200, 100]));
    }
    let mut next = [0u32; 3];
    let mut echoed = 0u32;
    host.send(1024, RAW, &echoed.to_le_bytes());
    while next.iter().any(|next| *next < 200) || echoed < 100 {
        let message = host.receive();
        if message.header.src == RAW {
            assert_eq!(message.payload, echoed.to_le_bytes());
            echoed += 1;
            if echoed < 100 {
                host.send(1024, RAW, &echoed.to_le_bytes());
            }
            continue;
        }
        let asker = askers.iter().position(|asker| *asker == message.header.dst).unwrap();
        let mut expected = [0; 100];
        pattern(next[asker], &mut expected);
        assert_eq!(message.payload, expected);
        next[asker] += 1;
    }
    assert_eq!(program.stat(Some("source"), "sent"), "600");
}

#[test]
fn a_source_keeps_its_interval() {
    let program = Program::start(&[]);
    let mut host = up(&program);
    let start = Instant::now();
    host.send(1024, SOURCE, &request(&[5, 16, 2000]));
    for number in 0..5u32 {
        assert_eq!(host.receive().payload[..4], number.to_le_bytes());
    }
    assert!(start.elapsed().as_micros() >= 8000, "{:?}", start.elapsed());
}

#[test]
fn what_the_host_announces_is_remembered_and_releases_a_latch() {
    let mut program = Program::start(&[]);
    let mut host = up(&program);
    let announce = |host: &mut Host, kind| {
        let announcement = vhost_device_rpmsg::rpmsg::Announcement {
            name: vhost_device_rpmsg::rpmsg::ServiceName::new("guests-own").unwrap(),
            addr: 0x77,
            kind,
        };
        host.send(0x77, 53, &announcement.to_bytes());
    };
    announce(&mut host, Create);
    assert_eq!(host.ask(0x77, LATCHING, b"first"), b"first");
    host.send(0x78, LATCHING, b"other");
    assert_eq!(host.receive().header.dst, 0x77);
    assert_eq!(program.ok("host-services"), "guests-own@0x77");
    announce(&mut host, Destroy);
    assert_eq!(host.ask(0x78, LATCHING, b"other"), b"other");
    assert_eq!(program.ok("host-services"), "");
}

#[test]
fn a_service_can_be_made_to_speak_first() {
    let mut program = Program::start(&[]);
    assert!(program.answer("say rpmsg-tty 0x500 hello").contains("no host is attached"));
    let mut host = up(&program);
    program.ok("say rpmsg-tty 0x500 hello there");
    let message = host.receive();
    assert_eq!((message.header.src, message.header.dst), (TTY, 0x500));
    assert_eq!(message.payload, b"hello there");
    assert!(program.answer("say nobody 0x500 hello").contains("no such service"));
}

#[test]
fn the_core_ends_cleanly_on_sigterm_and_removes_what_it_has_made() {
    for (arguments, kept) in [(&[][..], false), (&["--keep-memory"], true)] {
        let mut program = Program::start(arguments);
        let _host = up(&program);
        kill_process(Pid::from_child(&program.child), Signal::TERM).unwrap();
        assert!(program.child.wait().unwrap().success());
        assert!(!program.bell().exists());
        assert_eq!(program.memory().exists(), kept);
    }
}

#[test]
fn the_core_serves_on_without_commands_and_quits_by_command() {
    let mut program = Program::start(&[]);
    assert_eq!(program.ok("quit"), "");
    assert!(program.child.wait().unwrap().success());
    let mut program = Program::start(&[]);
    program.close_input();
    assert_eq!(up(&program).ask(1024, RAW, b"text"), b"text");
}

#[test]
fn a_loopback_core_serves_on_a_thread_and_ends_with_its_handle() {
    for status_poll in [true, false] {
        let config = Config { status_poll, ..Config::default() };
        let loopback = spawn_loopback(config).unwrap();
        let thread = loopback.thread;
        let mut host =
            Host::new(loopback.memory, loopback.size, loopback.table_address, Some(loopback.doorbell));
        host.bring_up();
        host.wait_for(bell::READY);
        expect_defaults(&mut host);
        assert_eq!(host.ask(1024, RAW, b"text"), b"text");
        drop(thread);
        // Its end of the doorbell has gone with it, whether or not it had read all of ours.
        let end = std::io::copy(host.bell.as_mut().unwrap(), &mut std::io::sink());
        assert!(end.is_ok() || end.is_err_and(|error| error.kind() == ErrorKind::ConnectionReset));
    }
}
