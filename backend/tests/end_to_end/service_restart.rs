//! The whole service is stopped and started anew beside a core that goes on, and whose firmware never handshakes again.

use crate::harness::guest::Guest;
use crate::harness::rig::{Plan, Rig};

const HERE: u32 = 1024;

/// A rig whose program keeps what it knows in a directory. The core only ever looks at its status once.
fn rig(vms: u8) -> Rig {
    let mut rig = Rig::prepare(Plan::with_sessions(vms));
    let state = rig.path("state");
    std::fs::create_dir(&state).unwrap();
    let config = format!("state = {state:?}\n{}", rig.config());
    std::fs::write(rig.config_path(), config).unwrap();
    rig.start_core();
    rig.start_program();
    rig
}

fn echo(guest: &mut Guest, text: &[u8]) {
    let raw = guest.wait_service("rpmsg-raw");
    guest.echo(HERE, raw, text);
}

/// How often the core has seen a host come.
fn links(rig: &mut Rig) -> u64 {
    rig.core().total("links")
}

#[test]
fn new_vms_work_with_a_core_that_does_not_handshake_again() {
    let mut rig = rig(2);
    for round in 0..3_u8 {
        let mut guests = [rig.guest(0), rig.guest(1)];
        for guest in &mut guests {
            for number in 0..50 {
                echo(guest, &[round, number]);
            }
        }
        assert_eq!(links(&mut rig), 1);
        rig.program().terminate();
        assert!(rig.program().wait_exit().success());
        drop(guests);
        rig.start_program();
    }
}

#[test]
fn a_service_that_was_killed_with_all_its_processes_goes_on_too() {
    let mut rig = rig(1);
    echo(&mut rig.guest(0), b"before");
    rig.program().kill();
    rig.start_program();
    echo(&mut rig.guest(0), b"after");
    assert_eq!(links(&mut rig), 1);
}

#[test]
fn what_a_guest_had_announced_is_withdrawn_when_the_service_is_back() {
    let mut rig = rig(1);
    let mut guest = rig.guest(0);
    echo(&mut guest, b"up");
    guest.announce("of-the-guest", HERE + 1);
    echo(&mut guest, b"told");
    assert_eq!(rig.core().host_services().len(), 1);
    rig.program().kill();
    drop(guest);
    rig.start_program();
    echo(&mut rig.guest(0), b"again");
    assert_eq!(rig.core().host_services().len(), 0);
}

#[test]
fn a_core_that_has_booted_meanwhile_is_attached_to_anew() {
    let mut rig = rig(1);
    echo(&mut rig.guest(0), b"before");
    rig.program().terminate();
    assert!(rig.program().wait_exit().success());
    rig.kill_core();
    rig.start_core();
    rig.start_program();
    echo(&mut rig.guest(0), b"after");
    assert_eq!(links(&mut rig), 1);
}

#[test]
fn two_programs_do_not_share_a_directory() {
    let rig = rig(1);
    let config = rig.path("other.toml");
    let text = std::fs::read_to_string(rig.config_path()).unwrap().replace("vm0.sock", "other.sock");
    std::fs::write(&config, text).unwrap();
    let said = crate::harness::program::Program::failing(["--config".as_ref(), config.as_os_str()]);
    assert!(
        said.contains("expected one that can be created or opened, and that no other program has locked"),
        "{said}"
    );
}
