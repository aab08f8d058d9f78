//! VMs that are added and removed while the program serves others.

use std::ffi::OsStr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::harness::guest::Guest;
use crate::harness::options::GuestOptions;
use crate::harness::program::Program;
use crate::harness::rig::{Plan, Rig};
use crate::harness::stream::EchoStream;

const HERE: u32 = 1024;
/// Few enough messages under way for the share that each of several VMs has of the core's buffers.
const WINDOW: u32 = 16;
const PATIENCE: Duration = Duration::from_secs(20);

/// Runs `vhost-device-rpmsg vm` to its end and returns what it prints.
fn vm(rig: &Rig, args: &[&str]) -> String {
    let control = rig.path("control");
    let to = [OsStr::new("--control"), control.as_os_str()];
    let args = ["vm"].iter().chain(args).map(OsStr::new).chain(to);
    let mut client = Program::spawn(args);
    let status = client.wait_exit();
    assert!(status.success(), "{status}: {}", client.stderr());
    client.stdout()
}

/// Descriptors and threads of the program. The connection of a client that has just ended may still count.
fn held(rig: &mut Rig) -> (usize, usize) {
    let footprint = rig.program().footprint();
    (footprint.fds, footprint.threads)
}

fn add(rig: &Rig, name: &str) -> PathBuf {
    let socket = rig.path(&format!("{name}.sock"));
    vm(rig, &["add", name, "--socket", socket.to_str().unwrap()]);
    socket
}

#[test]
fn vms_come_and_go_and_the_others_lose_nothing() {
    let mut rig = Rig::start_with_control(Plan::with_sessions(1));
    let mut steady = rig.guest(0);
    let raw = steady.wait_service("rpmsg-raw");
    let mut stream = EchoStream::new(1, HERE, raw).window(WINDOW);
    let mut more = |stream: &mut EchoStream| {
        let (sent, received) = (stream.sent() + 500, stream.received() + 100);
        stream.run(&mut steady, sent, received);
    };
    more(&mut stream);
    let before = held(&mut rig);
    for round in 0..20 {
        more(&mut stream);
        let socket = add(&rig, "late");
        more(&mut stream);
        if round % 2 == 0 {
            let mut late = Guest::connect(&socket, GuestOptions::default());
            let raw = late.wait_service("rpmsg-raw");
            let mut echo = EchoStream::new(round, HERE, raw).window(WINDOW);
            echo.run(&mut late, 100, 50);
            more(&mut stream);
            // In the middle of its own stream.
            vm(&rig, &["remove", "late"]);
        } else {
            vm(&rig, &["remove", "late"]);
        }
        assert!(!socket.exists());
        more(&mut stream);
        let begin = Instant::now();
        while held(&mut rig) != before {
            assert!(begin.elapsed() < PATIENCE, "{:?} where {before:?} was held", held(&mut rig));
        }
    }
    stream.finish(&mut steady, 1000);
    let list = vm(&rig, &["list"]);
    assert!(list.contains("vm0") && list.contains("connected") && !list.contains("late"), "{list}");
}

#[test]
fn a_program_without_vms_serves_those_that_are_added_until_it_is_told_to_end() {
    let mut rig = Rig::start_with_control(Plan { vms: 0, ..Plan::default() });
    for name in ["a", "b"] {
        let socket = add(&rig, name);
        Rig::settle(&mut Guest::connect(&socket, GuestOptions::default()));
    }
    vm(&rig, &["remove", "a"]);
    vm(&rig, &["remove", "b"]);
    let socket = add(&rig, "c");

    rig.program().terminate();
    let status = rig.program().wait_exit();

    assert_eq!(status.code(), Some(0), "{status}");
    assert!(!socket.exists() && !rig.path("control").exists(), "sockets are left behind");
}

#[test]
fn a_control_socket_that_is_in_use_keeps_a_second_program_from_touching_anything() {
    let rig = Rig::start_with_control(Plan::with_sessions(1));
    let mut guest = rig.guest(0);
    Rig::settle(&mut guest);

    let said = Program::failing([OsStr::new("--config"), rig.config_path().as_os_str()]);

    assert!(said.contains("control: socket ") && said.contains(" is in use"), "{said}");
    Rig::settle(&mut guest);
}

#[test]
fn the_next_vm_in_a_slot_gets_nothing_that_was_meant_for_the_last() {
    // The configured VM has slot 0, which has no sessions; these two get slot 1.
    let mut rig = Rig::start_with_control(Plan::default());
    let socket = add(&rig, "first");
    let mut first = Guest::connect(&socket, GuestOptions::default());
    let raw = first.wait_service("rpmsg-raw");
    first.echo(HERE, raw, b"hello");
    rig.core().command("hang");
    first.send(HERE, raw, b"meant for the first");
    vm(&rig, &["remove", "first"]);

    let socket = add(&rig, "second");
    let mut second = Guest::connect(&socket, GuestOptions::default());
    second.open(HERE);
    rig.core().command("resume");
    let raw = second.wait_service("rpmsg-raw");
    second.echo(HERE, raw, b"meant for the second");
}
