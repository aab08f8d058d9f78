//! Services whose rule is changed while they are used.

use std::ffi::OsStr;

use vhost_device_rpmsg::rpmsg::AnnouncementKind::{self, Create, Destroy};

use crate::harness::driver::Driver;
use crate::harness::guest::Guest;
use crate::harness::options::GuestOptions;
use crate::harness::program::Program;
use crate::harness::rig::{Plan, Rig};
use crate::harness::stream::EchoStream;

const HERE: u32 = 1024;

/// Two VMs, and a program that takes requests.
fn rig() -> Rig {
    Rig::start_with_control(Plan::with_sessions(2))
}

/// Runs `vhost-device-rpmsg service set` to its end, and returns what it prints, or says where it fails.
fn set(rig: &Rig, args: &[&str]) -> Result<String, String> {
    let control = rig.path("control");
    let to = [OsStr::new("--control"), control.as_os_str()];
    let mut client = Program::spawn(["service", "set"].iter().chain(args).map(OsStr::new).chain(to));
    match client.wait_exit().success() {
        true => Ok(client.stdout()),
        false => Err(client.stderr()),
    }
}

/// What the guest has been told of the service: that it is there, that it is gone, and so on.
fn told(guest: &mut Driver) -> Vec<AnnouncementKind> {
    guest.drain();
    let news = guest.news().iter().filter(|news| news.name.to_string() == "rpmsg-raw");
    news.map(|news| news.kind).collect()
}

fn echo(guest: &mut Guest) {
    let raw = guest.wait_service("rpmsg-raw");
    EchoStream::new(1, HERE, raw).finish(guest, 100);
}

#[test]
fn a_service_that_was_shared_becomes_one_vms_and_stays_so_whatever_happens_to_the_worker() {
    let mut rig = rig();
    let (mut one, mut other) = (rig.guest(0), rig.guest(1));
    echo(&mut one);
    echo(&mut other);

    let said = set(&rig, &["rpmsg-raw", "--mode", "exclusive", "--owner", "vm0"]).unwrap();
    assert_eq!(said, "remote core: the rule holds; announced anew: rpmsg-raw");
    other.wait_service_gone("rpmsg-raw");
    one.until("the service again", |one| told(one).len() == 3);
    echo(&mut one);

    for nth in 2..=3 {
        let killed = rig.program().kill_worker();
        rig.program().wait_other_worker(killed, nth);
        echo(&mut one);
        assert_eq!(told(&mut other), [Create, Destroy]);
    }

    set(&rig, &["rpmsg-raw"]).unwrap();
    echo(&mut other);
    echo(&mut one);
    assert_eq!(told(&mut one), [Create, Destroy, Create, Destroy, Create]);
    assert_eq!(told(&mut other), [Create, Destroy, Create]);
}

#[test]
fn a_rule_for_services_that_are_not_there_holds_once_they_are() {
    let mut rig = rig();
    let mut guest = rig.guest(0);
    echo(&mut guest);
    let said = set(&rig, &["no-*", "--vm", "vm1"]).unwrap();
    assert_eq!(said, "remote core: the rule holds; none of the services that are there is one of its");
    let said = set(&rig, &["rpmsg-r*", "--vm", "vm1"]).unwrap();
    assert!(said.ends_with("announced anew: rpmsg-raw"), "{said}");
    guest.wait_service_gone("rpmsg-raw");
    rig.kill_core();
    rig.start_core();
    echo(&mut rig.guest(1));
    assert_eq!(told(&mut guest), [Create, Destroy]);
}

#[test]
fn a_rule_that_says_nothing_sensible_is_refused_in_the_words_of_the_configuration() {
    let rig = rig();
    for (args, expected) in [
        (&["a", "--mode", "often"][..], "service.mode: expected \"shared\""),
        (&["a", "--mode", "exclusive", "--owner", "b"], "service.owner: expected the name of a VM"),
        (&["a", "--remote", "b"], "service.remote: expected"),
        (&["", "--mode", "shared"], "service.name: expected"),
    ] {
        let said = set(&rig, args).unwrap_err();
        assert!(said.contains(expected), "{said}");
    }
}

#[test]
fn a_rule_may_mean_a_vm_that_was_added_in_the_slot_of_one_of_the_configuration() {
    let mut rig = rig();
    drop(rig.guest(1));
    let (control, socket) = (rig.path("control"), rig.path("late.sock"));
    let to = [OsStr::new("--control"), control.as_os_str()];
    let vm = |args: &[&OsStr]| {
        let mut client = Program::spawn([OsStr::new("vm")].iter().chain(args).chain(&to));
        assert!(client.wait_exit().success(), "{}", client.stderr());
    };
    vm(&[OsStr::new("remove"), OsStr::new("vm1")]);
    vm(&[OsStr::new("add"), OsStr::new("late"), OsStr::new("--socket"), socket.as_os_str()]);
    set(&rig, &["rpmsg-raw", "--mode", "exclusive", "--owner", "late"]).unwrap();
    let mut late = Guest::connect(&socket, GuestOptions::default());
    echo(&mut late);
    let killed = rig.program().kill_worker();
    rig.program().wait_other_worker(killed, 2);
    echo(&mut late);
}
