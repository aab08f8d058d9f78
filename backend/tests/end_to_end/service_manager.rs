//! The program under a service manager: sockets that it opens (`sd_listen_fds(3)`), and what it is told (`sd_notify(3)`).

use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::harness::driver::PATIENCE;
use crate::harness::guest::Guest;
use crate::harness::options::GuestOptions;
use crate::harness::program::{EXECUTABLE, Program};

const HERE: u32 = 1024;

/// Says on which descriptors the manager listens, from 3 on, and to whom: the process that becomes the program.
const MANAGER: &str =
    "exec 3<&0 </dev/null; export LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES=$0; exec \"$@\"";

/// Starts the program with a socket that is called so.
fn activated(socket: UnixListener, name: &str, args: &[&OsStr]) -> Program {
    let head = ["-c", MANAGER, name, EXECUTABLE].map(OsStr::new);
    let args: Vec<_> = head.iter().chain(args).copied().collect();
    Program::spawn_from(Path::new("/bin/sh"), Stdio::from(std::os::fd::OwnedFd::from(socket)), args)
}

/// A configuration of one VM in front of the built-in core, with a control socket; and these sockets.
fn configuration(folder: &TempDir) -> (PathBuf, [PathBuf; 2]) {
    let path = |name: &str| folder.path().join(name);
    let (control, vm) = (path("control"), path("vm"));
    let text = format!(
        "control = {control:?}\n[[remote]]\nname = \"core\"\nlink = \"loopback\"\n\
         [[vm]]\nname = \"a\"\nsocket = {vm:?}\n"
    );
    fs::write(path("config"), text).unwrap();
    (path("config"), [control, vm])
}

fn echo(guest: &mut Guest) {
    let raw = guest.wait_service("rpmsg-raw");
    guest.echo(HERE, raw, b"hello");
}

#[test]
fn a_vms_socket_of_the_service_manager_outlives_workers_and_the_program() {
    let folder = TempDir::new().unwrap();
    let (own, managers) = (folder.path().join("vm"), folder.path().join("of the manager"));
    let socket = UnixListener::bind(&managers).unwrap();
    let args = ["--socket-path".as_ref(), own.as_os_str()];
    let mut program = activated(socket.try_clone().unwrap(), "vm0", &args);
    program.wait_ready();

    let mut guest = Guest::connect(&managers, GuestOptions::default());
    echo(&mut guest);
    let worker = program.kill_worker();
    program.wait_other_worker(worker, 2);
    guest.reset_driver();
    echo(&mut guest);
    drop(guest);
    echo(&mut Guest::connect(&managers, GuestOptions::default()));

    assert!(!own.exists(), "a socket was made although there was one");
    program.terminate();
    assert!(program.wait_exit().success());
    assert!(managers.exists(), "a socket of the service manager was removed");

    // Whoever comes while no program runs is served by the next.
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| echo(&mut Guest::connect(&managers, GuestOptions::default())));
        let next = activated(socket, "vm0", &args);
        waiting.join().unwrap();
        drop(next);
    });
}

#[test]
fn requests_come_in_by_a_socket_of_the_service_manager_that_has_the_path_of_the_control_socket() {
    let folder = TempDir::new().unwrap();
    let (config, [control, vm]) = configuration(&folder);
    let socket = UnixListener::bind(&control).unwrap();
    let mut program = activated(socket, "some.socket", &["--config".as_ref(), config.as_os_str()]);
    program.wait_ready();

    let list: [OsString; 4] = ["vm".into(), "list".into(), "--control".into(), control.into()];
    let mut client = Program::spawn(&list);
    assert!(client.wait_exit().success(), "{}", client.stderr());
    assert!(client.stdout().contains(vm.to_str().unwrap()), "{}", client.stdout());

    program.terminate();
    assert!(program.wait_exit().success());
}

#[test]
fn a_socket_of_the_service_manager_that_nobody_has_configured_is_refused_by_name() {
    let folder = TempDir::new().unwrap();
    let (config, [control, vm]) = configuration(&folder);
    let socket = UnixListener::bind(folder.path().join("other")).unwrap();
    let mut program = activated(socket, "b", &["--config".as_ref(), config.as_os_str()]);

    assert_eq!(program.wait_exit().code(), Some(1));
    let said = program.stderr();
    let expected = "socket \"b\" of the service manager: expected the name or the path of a socket that is configured, one of \
                    control, a; found another; set FileDescriptorName= or ListenStream= in its unit";
    assert!(said.contains(expected), "{said}");
    assert!(!control.exists() && !vm.exists(), "something was begun");
}

#[test]
fn the_service_manager_is_told_when_the_program_serves_is_upgraded_and_ends() {
    let folder = TempDir::new().unwrap();
    let (config, _) = configuration(&folder);
    let manager = UnixDatagram::bind(folder.path().join("notify")).unwrap();
    manager.set_read_timeout(Some(PATIENCE)).unwrap();
    let told = || {
        let mut text = [0; 256];
        let len = manager.recv(&mut text).unwrap();
        String::from_utf8(text[..len].to_vec()).unwrap()
    };
    let script = "export NOTIFY_SOCKET=$0; exec \"$@\"".as_ref();
    let notify = folder.path().join("notify");
    let args = ["-c".as_ref(), script, notify.as_os_str(), EXECUTABLE.as_ref(), "--config".as_ref()];
    let args = args.into_iter().chain([config.as_os_str()]);
    let mut program = Program::spawn_from(Path::new("/bin/sh"), Stdio::null(), args);
    assert_eq!(told(), "READY=1\n");

    // A worker that takes over from a dead one serves just the same.
    program.kill_worker();
    assert_eq!(told(), "READY=1\n");
    kill_process(Pid::from_raw(program.id().cast_signed()).unwrap(), Signal::HUP).unwrap();
    let said = told();
    assert!(said.starts_with("RELOADING=1\nMONOTONIC_USEC="), "{said}");
    assert_eq!(told(), "READY=1\n");

    program.terminate();
    assert_eq!(told(), "STOPPING=1\n");
    assert!(program.wait_exit().success());
}
