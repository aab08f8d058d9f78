//! Workers that die, are replaced and are given up, while VMMs hold on to the program.

use std::ffi::OsStr;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Stdio;
use std::time::Instant;

use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};
use tempfile::TempDir;
use vhost::VhostBackend;

use crate::harness::driver::PATIENCE;
use crate::harness::guest::Guest;
use crate::harness::options::GuestOptions;
use crate::harness::process::has_ended;
use crate::harness::program::{EXECUTABLE, Program};

const HERE: u32 = 1024;
/// Workers that die in a row before the program gives up.
const LAST: usize = 10;

/// A program with the built-in core, for one VM. The core dies with the worker, which is a crash of the remote to the
/// guest.
struct House {
    program: Program,
    folder: TempDir,
}

impl House {
    fn start() -> Self {
        let folder = TempDir::new().unwrap();
        let program = Program::spawn([OsStr::new("--socket-path"), folder.path().join("vm").as_os_str()]);
        program.wait_ready();
        House { program, folder }
    }

    fn guest(&self, options: GuestOptions) -> Guest {
        Guest::connect(&self.folder.path().join("vm"), options)
    }

    fn signal(&self, signal: Signal) {
        let keeper = Pid::from_raw(self.program.id().cast_signed()).unwrap();
        kill_process(keeper, signal).unwrap();
    }
}

/// The guest's driver starts afresh on the connection that is there, and has something echoed.
fn works_again(guest: &mut Guest) {
    guest.reset_driver();
    let raw = guest.wait_service("rpmsg-raw");
    guest.echo(HERE, raw, b"hello");
}

#[test]
fn a_front_end_stays_connected_when_the_worker_is_killed() {
    for options in [
        GuestOptions::default(),
        GuestOptions { memory: crate::harness::vmm::MemoryMessages::Table, ..GuestOptions::default() },
    ] {
        let house = House::start();
        let mut guest = house.guest(options);
        let raw = guest.wait_service("rpmsg-raw");
        guest.echo(HERE, raw, b"hello");
        for round in 0..3 {
            let worker = house.program.kill_worker();
            house.program.wait_log_again("vm vm0: session handed on", round + 1);
            guest.vmm().frontend().get_features().unwrap();
            assert_ne!(house.program.worker().unwrap(), worker);
            works_again(&mut guest);
        }
    }
}

#[test]
fn a_ring_that_is_stopped_while_no_worker_runs_is_stopped_by_the_next() {
    let house = House::start();
    let mut guest = house.guest(GuestOptions::default());
    guest.wait_service("rpmsg-raw");
    // The messages come before anybody can answer them: the keeper cannot start another worker meanwhile.
    for _ in 0..3 {
        house.signal(Signal::STOP);
        house.program.kill_worker();
        std::thread::scope(|scope| {
            let stopping = scope.spawn(|| guest.pause());
            house.signal(Signal::CONT);
            stopping.join().unwrap();
        });
        guest.resume();
        works_again(&mut guest);
    }
}

#[test]
fn a_front_end_without_a_session_is_served_by_the_next_worker() {
    let house = House::start();
    let stream = UnixStream::connect(house.folder.path().join("vm")).unwrap();
    let worker = house.program.kill_worker();
    house.program.wait_other_worker(worker, 2);
    let frontend = vhost::vhost_user::Frontend::from_stream(stream, 2);
    frontend.set_owner().unwrap();
    frontend.get_features().unwrap();
}

#[test]
fn a_front_end_that_leaves_while_no_worker_runs_makes_room_for_the_next() {
    let house = House::start();
    let mut guest = house.guest(GuestOptions::default());
    guest.wait_service("rpmsg-raw");
    house.signal(Signal::STOP);
    house.program.kill_worker();
    drop(guest);
    house.signal(Signal::CONT);

    let mut guest = house.guest(GuestOptions::default());
    let raw = guest.wait_service("rpmsg-raw");
    guest.echo(HERE, raw, b"hello");
}

#[test]
fn a_worker_is_replaced_on_request_and_the_front_end_stays() {
    let house = House::start();
    let mut guest = house.guest(GuestOptions::default());
    guest.wait_service("rpmsg-raw");
    let mut worker = house.program.worker().unwrap();
    for round in 0..3 {
        house.signal(Signal::HUP);
        worker = house.program.wait_other_worker(worker, round + 2);
        works_again(&mut guest);
    }
    assert!(!house.program.stderr().contains("has died"));
}

#[test]
fn both_processes_end_on_sigterm() {
    let mut house = House::start();
    let mut guest = house.guest(GuestOptions::default());
    guest.wait_service("rpmsg-raw");
    let worker = pidfd_open(house.program.worker().unwrap(), PidfdFlags::empty()).unwrap();

    house.program.terminate();

    assert_eq!(house.program.wait_exit().code(), Some(0));
    assert!(has_ended(&worker, PATIENCE));
    guest.vmm().frontend().get_features().unwrap_err();
}

#[test]
fn a_worker_leaves_signals_to_the_keeper() {
    let house = House::start();
    let worker = house.program.worker().unwrap();
    for signal in [Signal::TERM, Signal::INT, Signal::HUP] {
        kill_process(worker, signal).unwrap();
    }
    let mut guest = house.guest(GuestOptions::default());
    let raw = guest.wait_service("rpmsg-raw");
    guest.echo(HERE, raw, b"hello");
    assert_eq!(house.program.worker(), Some(worker));
}

#[test]
fn a_worker_does_not_outlive_its_keeper() {
    let mut house = House::start();
    let mut guest = house.guest(GuestOptions::default());
    guest.wait_service("rpmsg-raw");
    let worker = pidfd_open(house.program.worker().unwrap(), PidfdFlags::empty()).unwrap();

    house.signal(Signal::KILL);

    assert!(has_ended(&worker, PATIENCE));
    house.program.wait_exit();
}

#[test]
fn workers_that_die_again_and_again_are_given_up_with_a_last_word() {
    let mut house = House::start();
    let mut guest = house.guest(GuestOptions::default());
    guest.wait_service("rpmsg-raw");

    let mut worker = house.program.crash_worker();
    for nth in 2..=LAST {
        worker = house.program.wait_other_worker(worker, nth);
        house.program.crash_worker();
    }

    let status = house.program.wait_exit();
    assert!(status.code().is_some_and(|code| code != 0), "{status}");
    let said = house.program.stderr();
    let last = said.lines().last().unwrap();
    assert!(last.contains("died 10 times") && last.contains("given up"), "{last}");
    assert!(!house.folder.path().join("vm").exists(), "the socket is left behind");
}

#[test]
fn a_later_worker_serves_what_the_configuration_said_at_the_start() {
    let folder = TempDir::new().unwrap();
    let (config, socket) = (folder.path().join("config.toml"), folder.path().join("a.sock"));
    let text = format!(
        "[[remote]]\nname = \"core\"\nlink = \"loopback\"\n[[vm]]\nname = \"a\"\nsocket = {socket:?}\n"
    );
    std::fs::write(&config, text).unwrap();
    let program = Program::serving(&config);
    std::fs::remove_file(&config).unwrap();

    let worker = program.kill_worker();
    program.wait_other_worker(worker, 2);

    let mut guest = Guest::connect(&socket, GuestOptions::default());
    let raw = guest.wait_service("rpmsg-raw");
    guest.echo(HERE, raw, b"hello");
}

/// Runs a request to its end, and returns what it prints.
fn ask(control: &Path, request: &[&str]) -> String {
    let to = [OsStr::new("--control"), control.as_os_str()];
    let mut client = Program::spawn(request.iter().map(OsStr::new).chain(to));
    let status = client.wait_exit();
    assert!(status.success(), "{status}: {}", client.stderr());
    client.stdout()
}

#[test]
fn vms_that_have_come_and_gone_at_run_time_are_so_to_the_next_worker() {
    let folder = TempDir::new().unwrap();
    let path = |name: &str| folder.path().join(name);
    let (config, control, socket) = (path("config.toml"), path("control"), path("a"));
    let text = format!(
        "control = {control:?}\n[[remote]]\nname = \"core\"\nlink = \"loopback\"\n[[vm]]\nname = \"a\"\nsocket = \
         {socket:?}\n"
    );
    std::fs::write(&config, text).unwrap();
    let program = Program::serving(&config);
    for name in ["b", "c"] {
        ask(&control, &["vm", "add", name, "--socket", path(name).to_str().unwrap()]);
    }
    ask(&control, &["vm", "remove", "a"]);
    ask(&control, &["vm", "remove", "b"]);
    let mut guest = Guest::connect(&path("c"), GuestOptions::default());
    guest.wait_service("rpmsg-raw");
    let before = ask(&control, &["vm", "list"]);

    let worker = program.kill_worker();
    let worker = program.wait_other_worker(worker, 2);
    works_again(&mut guest);
    assert_eq!(ask(&control, &["vm", "list"]), before);
    ask(&control, &["upgrade"]);
    program.wait_other_worker(worker, 3);
    works_again(&mut guest);
    assert_eq!(ask(&control, &["vm", "list"]), before);

    // And it can still be removed.
    ask(&control, &["vm", "remove", "c"]);
    guest.vmm().frontend().get_features().unwrap_err();
    assert!(!path("c").exists());
}

#[test]
fn a_worker_is_of_the_version_that_was_started_until_it_is_upgraded() {
    let folder = TempDir::new().unwrap();
    let (installed, new) = (folder.path().join("program"), folder.path().join("new"));
    let install = |from: &str| {
        std::fs::copy(from, &new).unwrap();
        std::fs::rename(&new, &installed).unwrap();
        std::fs::metadata(&installed).unwrap().ino()
    };
    let file_of = |worker: Pid| std::fs::metadata(format!("/proc/{worker}/exe")).unwrap().ino();
    let first = install(EXECUTABLE);
    let socket = folder.path().join("vm");
    let args = [OsStr::new("--socket-path"), socket.as_os_str()];
    let program = Program::spawn_from(&installed, Stdio::null(), args);
    program.wait_ready();
    let mut guest = Guest::connect(&socket, GuestOptions::default());
    guest.wait_service("rpmsg-raw");
    let hang_up = || kill_process(Pid::from_raw(program.id().cast_signed()).unwrap(), Signal::HUP).unwrap();

    let second = install(EXECUTABLE);
    let worker = program.kill_worker();
    let worker = program.wait_other_worker(worker, 2);
    assert_eq!(file_of(worker), first);
    hang_up();
    let worker = program.wait_other_worker(worker, 3);
    assert_eq!(file_of(worker), second);
    works_again(&mut guest);

    // Something that cannot be started, and something that ends at once.
    std::fs::write(&new, "no program").unwrap();
    std::fs::rename(&new, &installed).unwrap();
    hang_up();
    let worker = program.wait_other_worker(worker, 4);
    assert_eq!(file_of(worker), second);
    install("/bin/false");
    hang_up();
    let worker = program.wait_other_worker(worker, 5);
    assert_eq!(file_of(worker), second);
    works_again(&mut guest);
}

#[test]
fn dead_workers_leave_nothing_behind_in_the_keeper() {
    let house = House::start();
    let mut guest = house.guest(GuestOptions::default());
    guest.wait_service("rpmsg-raw");
    let held = || {
        let held = house.program.footprint_of_keeper();
        (held.fds, held.threads)
    };
    // Threads that have just carried out a request may be on their way out.
    let (fds, threads) = (0..100).map(|_| held()).min().unwrap();
    for round in 0..3 {
        house.program.kill_worker();
        house.program.wait_log_again("vm vm0: session handed on", round + 1);
        works_again(&mut guest);
        let begin = Instant::now();
        while held().0 > fds || held().1 > threads {
            assert!(begin.elapsed() < PATIENCE, "{:?} where {:?} was held", held(), (fds, threads));
        }
    }
}

#[test]
fn a_connection_that_was_handed_over_outlives_a_worker_and_ends_the_program() {
    let (front_end, handed_over) = UnixStream::pair().unwrap();
    let stdin = Stdio::from(std::os::fd::OwnedFd::from(handed_over));
    let mut program = Program::spawn_with_stdin(stdin, ["--fd", "0"]);
    program.wait_ready();
    let frontend = vhost::vhost_user::Frontend::from_stream(front_end, 2);
    frontend.set_owner().unwrap();
    let offered = frontend.get_features().unwrap();

    program.kill_worker();

    assert_eq!(frontend.get_features().unwrap(), offered);
    drop(frontend);
    assert!(program.wait_exit().success());
}
