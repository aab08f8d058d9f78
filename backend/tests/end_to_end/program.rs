//! The program as its surroundings see it: command line, start, end (QEMU's `docs/interop/vhost-user.rst`).

use std::os::unix::net::UnixListener;
use std::process::Stdio;

use tempfile::TempDir;

use crate::harness::guest::Guest;
use crate::harness::options::GuestOptions;
use crate::harness::program::Program;
use crate::harness::rig::{Plan, Rig};

#[test]
fn print_capabilities_prints_json_and_ends() {
    let mut program = Program::spawn(["--print-capabilities"]);

    let status = program.wait_exit();

    assert!(status.success(), "{status}");
    let capabilities: serde_json::Value = serde_json::from_str(&program.stdout()).unwrap();
    assert_eq!(capabilities["type"], "rpmsg");
    assert!(capabilities["features"].is_array());
}

#[test]
fn sigterm_ends_the_program_as_asked_and_removes_its_sockets() {
    let mut rig = Rig::start(Plan::with_sessions(2));
    let mut guest = rig.guest(0);
    Rig::settle(&mut guest);
    assert!(rig.socket(0).exists() && rig.socket(1).exists());

    rig.program().terminate();
    let status = rig.program().wait_exit();

    assert_eq!(status.code(), Some(0), "{status}");
    assert!(!rig.socket(0).exists() && !rig.socket(1).exists(), "sockets are left behind");
}

#[test]
fn a_program_that_was_ended_properly_can_be_started_again() {
    let mut rig = Rig::start(Plan::with_sessions(1));
    for _ in 0..3 {
        let mut guest = rig.guest(0);
        Rig::settle(&mut guest);
        drop(guest);
        rig.program().terminate();
        assert!(rig.program().wait_exit().success());
        rig.start_program();
    }
    Rig::settle(&mut rig.guest(0));
}

#[test]
fn a_socket_that_a_killed_program_has_left_behind_is_no_obstacle() {
    let mut rig = Rig::start(Plan::with_sessions(1));
    Rig::settle(&mut rig.guest(0));
    rig.program().kill();
    assert!(rig.socket(0).exists());
    rig.core().command("reboot");

    rig.start_program();

    Rig::settle(&mut rig.guest(0));
}

#[test]
fn a_socket_that_is_in_use_is_refused_by_name_and_left_alone() {
    let rig = Rig::start(Plan::with_sessions(1));
    let socket = rig.socket(0);

    let said = Program::failing(["--socket-path".as_ref(), socket.as_os_str()]);

    assert!(said.contains(socket.to_str().unwrap()), "{said}");
    assert!(said.contains("in use"), "{said}");
    Rig::settle(&mut rig.guest(0));
}

#[test]
fn a_listening_socket_can_be_handed_over_as_a_file_descriptor() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("socket");
    let listener = UnixListener::bind(&path).unwrap();

    let program = Program::spawn_with_stdin(Stdio::from(std::os::fd::OwnedFd::from(listener)), ["--fd", "0"]);

    let mut guest = Guest::connect(&path, GuestOptions::default());
    Rig::settle(&mut guest);
    program.terminate();
}

#[test]
fn a_file_descriptor_for_a_vm_that_does_not_exist_is_refused_with_those_that_do() {
    let rig = Rig::prepare(Plan::with_sessions(2));
    let config = rig.config_path();

    let said = Program::failing(["--config".as_ref(), config.as_os_str(), "--fd".as_ref(), "vm7=0".as_ref()]);

    for word in ["vm7", "vm0", "vm1"] {
        assert!(said.contains(word), "{word:?} expected in: {said}");
    }
}

#[test]
fn a_flag_that_is_none_is_refused() {
    let said = Program::failing(["--sockets-path", "x"]);
    assert!(said.contains("--sockets-path"), "{said}");
}

#[test]
fn a_socket_in_a_directory_that_does_not_exist_is_refused_by_name() {
    let said = Program::failing(["--socket-path", "/nonexistent/socket"]);
    assert!(said.contains("/nonexistent/socket"), "{said}");
}
