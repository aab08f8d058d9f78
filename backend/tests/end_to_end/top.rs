//! `top` on a real terminal: it shows what the VMs have sent and received, whatever becomes of the program, and gives the terminal
//! back as it was.

use std::fs;

use rustix::process::Signal;
use vt100::Screen;

use super::terminal::Terminal;
use crate::harness::guest::Guest;
use crate::harness::rig::{Plan, Rig};
use crate::harness::stream::EchoStream;

const HERE: u32 = 1024;
const WINDOW: u32 = 32;
const SIZE: (u16, u16) = (120, 30);
const CTRL_C: &str = "\x03";
const ESCAPE: &str = "\x1b";

/// A rig whose program takes requests and keeps what it has counted in a directory.
fn rig() -> Rig {
    let core = ["--service", "rpmsg-raw", "--service", "rpmsg-raw:motor"].to_vec();
    Rig::start_with_control_and_state(Plan { core, ..Plan::with_sessions(2) })
}

fn terminal(rig: &Rig, recording: &str) -> Terminal {
    Terminal::open(SIZE, rig.config_path().parent().unwrap(), recording)
}

/// The figures of a VM as they stand on the screen: messages to the remote and to the guest, of all its services and of one.
fn messages(screen: &Screen, vm: &str, service: &str) -> Option<[(u32, u32); 2]> {
    let text = screen.contents();
    let mut rows = text.lines().skip_while(|line| !line.starts_with(&format!("{vm} ")));
    let counts = |row: &str| {
        // What its driver is doing stands behind a VM's name.
        let words: Vec<_> = row.split_whitespace().filter(|word| !word.starts_with('(')).collect();
        Some((words.get(3)?.parse().ok()?, words.get(6)?.parse().ok()?))
    };
    let all = counts(rows.next()?)?;
    let service = rows.take_while(|row| row.starts_with(' ')).find(|row| row.trim().starts_with(service))?;
    Some([all, counts(service)?])
}

/// Waits until a VM has sent and received on the screen what its stream has.
fn wait_for(terminal: &Terminal, vm: &str, service: &str, stream: &EchoStream) {
    let expected = (stream.sent(), stream.received());
    let what = format!("{expected:?} messages of {vm}");
    terminal.wait(&what, |screen| (messages(screen, vm, service)? == [expected; 2]).then_some(()));
}

fn has(screen: &Screen, text: &str) -> Option<()> {
    screen.contents().contains(text).then_some(())
}

#[test]
fn what_two_vms_have_sent_is_seen_on_a_terminal_that_is_given_back_as_it_was() {
    let mut rig = rig();
    let mut guests = [rig.guest(0), rig.guest(1)];
    let services = ["rpmsg-raw", "motor"];
    let stream = |number: u64, guest: &mut Guest, service| {
        EchoStream::new(number, HERE, guest.wait_service(service)).window(WINDOW)
    };
    let [first, second] = &mut guests;
    let mut streams = [stream(0, first, services[0]), stream(1, second, services[1])];
    let mut send = |guests: &mut [Guest; 2], counts: [u32; 2]| {
        for ((guest, stream), count) in guests.iter_mut().zip(&mut streams).zip(counts) {
            stream.finish(guest, count);
        }
        streams.clone()
    };
    send(&mut guests, [1234, 567]);

    let terminal = terminal(&rig, "top.cast");
    let listed = terminal.run("vhost-device-rpmsg ls --control control");
    assert!(listed.contains("vm0") && listed.contains("vm1") && listed.contains("motor"), "{listed}");
    terminal.run("clear");

    terminal.press("vhost-device-rpmsg capture --control control --file both.pcapng\n");
    terminal.wait("capture", |screen| has(screen, "capturing"));
    let sent = send(&mut guests, [50, 50]);
    terminal.press(CTRL_C);
    terminal.wait_prompt();
    let captured = fs::read(rig.path("both.pcapng")).unwrap();
    assert!(captured.len() > 4 * 50 * 16, "{} bytes captured of 200 messages", captured.len());
    for vm in ["vm0", "vm1"] {
        assert!(captured.windows(vm.len()).any(|bytes| bytes == vm.as_bytes()), "{vm}");
    }
    terminal.run("clear");

    terminal.press("vhost-device-rpmsg top --control control --interval 0.2\n");
    let see = |sent: &[EchoStream; 2]| {
        wait_for(&terminal, "vm0", services[0], &sent[0]);
        wait_for(&terminal, "vm1", services[1], &sent[1]);
    };
    see(&sent);
    assert!(!terminal.is_as_it_was());
    // Rates of what is sent meanwhile.
    let mut total = [0, 0];
    for round in 1..=3 {
        let sent = send(&mut guests, [2000 * round, 100]);
        total = [sent[0].sent(), sent[1].sent()];
        see(&sent);
        if round == 3 {
            terminal.keep_picture("top.svg");
        }
    }
    assert_eq!(total, [1234 + 50 + 12_000, 567 + 50 + 300]);
    terminal.press("s");
    terminal.wait("another order", |screen| has(screen, "by MSG/s to remote"));
    terminal.press("r");
    terminal.wait("the reverse order", |screen| has(screen, "reversed"));

    rig.program().kill_worker();
    let sent = send(&mut guests, [100, 100]);
    terminal.wait("another worker", |screen| has(screen, "restarts 1"));
    see(&sent);

    rig.program().terminate();
    assert!(rig.program().wait_exit().success());
    drop(guests);
    terminal.wait("word of the program's end", |screen| has(screen, "NO ANSWER"));
    rig.start_program();
    terminal.wait("word from the program", |screen| has(screen, "NO ANSWER").is_none().then_some(()));
    see(&sent);

    terminal.press("q");
    let left = terminal.wait_prompt();
    assert!(terminal.is_as_it_was(), "{left}");
    assert!(!left.contains("MSG/s"), "{left}");
    terminal.run("clear");
    let counted = terminal.run("vhost-device-rpmsg stats --control control");
    assert!(sent.iter().all(|stream| counted.contains(&format!(" {} ", stream.sent()))), "{counted}");
    terminal.keep_picture("stats.svg");
    terminal.run("clear");
    let happened = terminal.run("vhost-device-rpmsg events --control control | tail");
    assert!(happened.contains("serving 2 VMs on 1 remotes"), "{happened}");
}

#[test]
fn every_way_out_gives_the_terminal_back() {
    let rig = rig();
    let terminal = terminal(&rig, "ways-out.cast");
    for way in ["q", ESCAPE, CTRL_C] {
        terminal.press("vhost-device-rpmsg top --control control\n");
        terminal.wait("top", |screen| has(screen, "q quit"));
        terminal.press(way);
        terminal.wait_prompt();
        assert!(terminal.is_as_it_was(), "{way:?}");
    }
    terminal.press("vhost-device-rpmsg top --control control\n");
    terminal.wait("top", |screen| has(screen, "q quit"));
    terminal.signal(Signal::TERM);
    terminal.wait_prompt();
    assert!(terminal.is_as_it_was());
}

#[test]
fn who_is_not_there_and_what_is_no_terminal_is_said_at_once() {
    let rig = rig();
    let terminal = terminal(&rig, "no-top.cast");
    let said = terminal.run("vhost-device-rpmsg top --control nobody; echo exit $?");
    assert!(said.contains("cannot connect to control socket nobody") && said.contains("exit 1"), "{said}");
    let said = terminal.run("vhost-device-rpmsg top --control control | cat");
    assert!(said.contains("expected a terminal on standard output"), "{said}");
    assert!(terminal.is_as_it_was());
}
