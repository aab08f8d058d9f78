//! Cores that commands start and stop, with the service thread really running them.

use std::time::{Duration, Instant};

use rustix::fs::{CWD, FileType, Mode, mknodat};

use super::Played;
use crate::remote::config::{BootConfig, RemoteConfig};
use crate::remote::core::State;
use crate::remote::power::Switch;
use crate::remote::recovery::{RecoveryConfig, RecoveryPolicy};

/// A core that a command starts and another one stops.
fn booted(start: &str, stop: &str) -> Played {
    let command = |script: &str| ["sh", "-c", script].map(str::to_owned).to_vec();
    let switch = Switch::Command { start: command(start), stop: command(stop) };
    let boot = BootConfig { firmware: None, switch, on_demand: false };
    let recovery = RecoveryConfig { policy: RecoveryPolicy::Reboot, ..RecoveryConfig::default() };
    Played::with(|config| RemoteConfig { boot: Some(boot), recovery, ..config })
}

#[test]
fn a_core_that_was_ready_before_its_start_command_had_ended_is_asked() {
    let mut played = booted("true", "true");
    played.wait();
    let deadline = Instant::now() + Duration::from_secs(60);
    let mut heard = Vec::new();
    while heard.is_empty() {
        assert!(Instant::now() < deadline, "nobody asks the core");
        assert!(played.host.on_chores(played.now).is_none());
        heard = played.heard();
        std::thread::yield_now();
    }
    assert_eq!(heard, [0xF6]);
    played.wait();
    assert_eq!(played.heard(), [0xF6], "and again");
}

#[test]
fn a_booted_core_that_dies_before_it_is_attached_to_is_started_anew() {
    let directory = tempfile::tempdir().unwrap();
    let journal = directory.path().join("journal");
    let mut played = booted(&format!("echo start >>{journal:?}"), &format!("echo stop >>{journal:?}"));
    let deadline = Instant::now() + Duration::from_secs(60);
    let until = |played: &mut Played, is_done: &dyn Fn(&mut Played) -> bool| {
        while !is_done(played) {
            assert!(Instant::now() < deadline, "{:?}", std::fs::read_to_string(&journal));
            played.host.on_chores(played.now);
            played.host.on_timer(played.now);
            std::thread::yield_now();
        }
    };
    until(&mut played, &|played| !played.heard().is_empty());
    played.bell.shutdown(std::net::Shutdown::Both).unwrap();
    assert!(played.host.on_mailbox(played.now).is_none());
    assert_eq!(played.host.state(), State::Crashed);
    until(&mut played, &|_| {
        std::fs::read_to_string(&journal).is_ok_and(|journal| journal.starts_with("start\nstop\nstart\n"))
    });
}

#[test]
fn a_core_that_is_being_started_when_the_program_ends_is_stopped_after_that() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    for pipe in ["begun", "go-on"] {
        mknodat(CWD, path(pipe), FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    }
    let start =
        format!("cd {:?}; echo begun >begun; read -r word <go-on; echo start >>journal", directory.path());
    let mut played = booted(&start, &format!("echo stop >>{:?}", path("journal")));
    played.wait();
    assert_eq!(std::fs::read_to_string(path("begun")).unwrap(), "begun\n");

    let mut host = played.host;
    let end = std::thread::spawn(move || host.end());
    std::fs::write(path("go-on"), "go on\n").unwrap();
    end.join().unwrap();

    assert_eq!(std::fs::read_to_string(path("journal")).unwrap(), "start\nstop\n");
}
