//! VMs that come and go, in front of a real remote.

use std::io::Read;
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use serde_json::json;
use tempfile::TempDir;
use vhost::VhostBackend;
use vhost::vhost_user::Frontend;

use super::*;
use crate::bridge::policy::{Overflow, VmPolicy};
use crate::guest::device::FEATURES;
use crate::keeper::calls::ToWorker;
use crate::keeper::channel::pair;
use crate::keeper::handover::Handover;
use crate::keeper::home::Home;
use crate::keeper::supervise::{Event, Household};
use crate::keeper::worker::Worker;
use crate::operate::activation::Passed;
use crate::operate::keep::Kept;
use crate::operate::plan::{Plan, VmPlan, VmSocket};
use crate::operate::remotes;
use crate::rpmsg::address::Slot;

const PATIENCE: Duration = Duration::from_secs(20);

/// A program with the built-in core that serves VM `a`: keeper and worker in one process.
struct Bench {
    folder: TempDir,
    vms: Vms,
    events: Receiver<Event>,
}

/// A VM in a slot, in front of the built-in core.
fn vm(name: &str, slot: u8, socket: VmSocket) -> VmPlan {
    VmPlan {
        name: name.to_owned(),
        socket,
        mode: None,
        group: None,
        slot: Slot::new(slot).unwrap(),
        remote: 0,
        device: 0,
        policy: VmPolicy::unlimited(Overflow::Drop),
    }
}

fn started() -> Bench {
    started_with(|folder| Some(folder.join("control")), None)
}

/// The same with another control socket, or none, and perhaps one VM more.
fn started_with(control: impl FnOnce(&Path) -> Option<PathBuf>, more: Option<VmPlan>) -> Bench {
    let folder = tempfile::tempdir().unwrap();
    let Plan { remotes: plans, .. } = Plan::loopback([]);
    let a = vm("a", 0, VmSocket::Path(folder.path().join("a")));
    let vms = std::iter::once(a).chain(more).collect();
    let plan =
        Plan { control: control(folder.path()), user: None, state: None, metrics: None, remotes: plans, vms };
    let (sender, events) = channel();
    let kept = Kept::open(&plan, &Handover::default(), Passed::default(), &sender).unwrap();
    let (ours, theirs) = pair().unwrap();
    let channel = ToWorker::new(ours);
    let worker = Worker::new(0, Arc::clone(&channel));
    std::thread::spawn(move || channel.serve(move |request, _| kept.carry_out(&worker, request)));
    let home = Home::over(theirs);
    home.listen().unwrap();
    let remotes =
        remotes::start(&plan, remotes::prepare(&plan.remotes).unwrap(), &home, Duration::ZERO).unwrap();
    let vms = Vms::new(plan, remotes, Vec::new(), home.clone());
    home.vms().unwrap().into_iter().for_each(|kept| vms.serve_again(kept).unwrap());
    Bench { folder, vms, events }
}

impl Bench {
    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn ask(&self, request: &Value) -> Result<Value, Refusal> {
        match handle(&self.vms, Request::parse(request.to_string().as_bytes())?)? {
            Done::Reply(result) | Done::Stream(result, _) => Ok(result),
        }
    }

    fn add(&self, name: &str, more: &Value) -> Result<Value, Refusal> {
        let mut vm = json!({"name": name, "socket": self.path(name)});
        vm.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        self.ask(&json!({"version": 1, "request": "vm-add", "vm": vm}))
    }

    fn remove(&self, name: &str) -> Result<Value, Refusal> {
        self.ask(&json!({"version": 1, "request": "vm-remove", "name": name}))
    }

    fn list(&self) -> Vec<(String, u64, bool)> {
        let list = self.ask(&json!({"version": 1, "request": "vm-list"})).unwrap();
        let vms = list["vms"].as_array().unwrap();
        let entry = |vm: &Value| {
            let name = vm["name"].as_str().unwrap().to_owned();
            (name, vm["slot"].as_u64().unwrap(), vm["connected"].as_bool().unwrap())
        };
        vms.iter().map(entry).collect()
    }

    fn wait_until_connected(&self, name: &str) {
        let start = Instant::now();
        while !self.list().iter().any(|(vm, _, connected)| vm == name && *connected) {
            assert!(start.elapsed() < PATIENCE);
            std::thread::yield_now();
        }
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        self.vms.end();
    }
}

#[test]
fn a_vm_that_is_added_is_served_like_any_other() {
    let bench = started();
    let added = bench.add("b", &json!({"mode": "0600", "weight": 3, "slot": null})).unwrap();
    let socket = bench.path("b");
    let expected =
        json!({"name": "b", "remote": "loopback", "slot": 1, "socket": socket, "connected": false});
    assert_eq!(added, json!({"vm": expected}));
    assert_eq!(std::fs::metadata(&socket).unwrap().permissions().mode() & 0o777, 0o600);

    let front_end = Frontend::connect(&socket, 2).unwrap();
    front_end.set_owner().unwrap();
    assert_eq!(front_end.get_features().unwrap(), FEATURES);
    bench.wait_until_connected("b");
    assert_eq!(bench.list(), [("a".to_owned(), 0, false), ("b".to_owned(), 1, true)]);
}

#[test]
fn a_vm_that_is_removed_is_disconnected_and_its_socket_gone() {
    let bench = started();
    bench.add("b", &json!({})).unwrap();
    let mut front_end = UnixStream::connect(bench.path("b")).unwrap();
    bench.wait_until_connected("b");
    let removed = bench.remove("b").unwrap();
    assert_eq!((&removed["vm"]["name"], &removed["vm"]["connected"]), (&json!("b"), &json!(false)));
    front_end.set_read_timeout(Some(PATIENCE)).unwrap();
    assert_eq!(front_end.read(&mut [0]).unwrap(), 0);
    assert!(!bench.path("b").exists());
    assert_eq!(bench.list(), [("a".to_owned(), 0, false)]);
}

#[test]
fn a_vm_of_the_configuration_can_be_removed_and_come_back() {
    let bench = started();
    for _ in 0..3 {
        bench.remove("a").unwrap();
        assert!(bench.list().is_empty() && !bench.path("a").exists());
        bench.add("a", &json!({"slot": 0})).unwrap();
        assert_eq!(bench.list(), [("a".to_owned(), 0, false)]);
        assert!(UnixStream::connect(bench.path("a")).is_ok());
    }
}

#[test]
fn a_vm_without_a_front_end_is_removed_at_once() {
    let bench = started();
    let start = Instant::now();
    bench.remove("a").unwrap();
    assert!(start.elapsed() < PATIENCE / 2);
}

#[test]
fn a_vm_that_is_not_there_cannot_be_removed() {
    let bench = started();
    bench.add("b", &json!({})).unwrap();
    let message = "key name: expected the name of a VM, of which there are: a, b, found \"c\"";
    assert_eq!(bench.remove("c"), Err(Refusal::new(Code::NotFound, message)));
}

#[test]
fn a_vm_with_wrong_keys_or_those_of_another_is_refused_and_nothing_is_left_of_it() {
    let bench = started();
    for (name, more, message) in [
        ("a", json!({}), "key vm.name: expected a name of "),
        ("b", json!({"slot": 0}), "key vm.slot: expected a number from 0 to 126"),
        ("b", json!({"slot": 1.5}), "key vm.slot: expected an integer: "),
        ("b", json!({"socket": bench.path("a")}), "key vm.socket: expected the path of a unix socket"),
        ("b", json!({"socket": ["/b"]}), "key vm.socket: expected a string: "),
        ("b", json!({"remote": "dsp"}), "key vm.remote: expected the name of a remote"),
        ("b", json!({"sloth": 1}), "key vm.sloth: expected one of name, socket, "),
        ("b", json!({"addresses": [null]}), "key vm: expected values that TOML has too"),
        ("b", json!({"slot": u64::MAX}), "key vm: expected values that TOML has too"),
    ] {
        let refusal = bench.add(name, &more).unwrap_err();
        assert_eq!(refusal.code, Code::Vm);
        assert!(refusal.message.starts_with(message), "{}", refusal.message);
    }
    let refusal = bench.ask(&json!({"version": 1, "request": "vm-add", "vm": {}})).unwrap_err();
    assert!(refusal.message.starts_with("key vm.name: expected a name of "), "{}", refusal.message);
    assert_eq!(bench.list(), [("a".to_owned(), 0, false)]);
    assert!(!bench.path("b").exists());
}

#[test]
fn a_vm_whose_socket_cannot_be_made_is_refused_with_the_cause() {
    let bench = started();
    std::fs::write(bench.path("b"), "precious").unwrap();
    let refusal = bench.add("b", &json!({})).unwrap_err();
    assert_eq!(refusal.code, Code::Failed);
    assert!(refusal.message.contains("found a file of another kind"), "{}", refusal.message);
    assert!(bench.path("b").exists());

    let refusal = bench.add("c", &json!({"group": "no such group"})).unwrap_err();
    assert!(refusal.message.contains("expected a group of this host"), "{}", refusal.message);
    assert!(!bench.path("c").exists());
    bench.add("c", &json!({})).unwrap();
}

#[test]
fn the_last_vm_that_is_removed_ends_the_program_only_where_no_other_can_come() {
    let bench = started();
    bench.remove("a").unwrap();
    assert!(bench.events.try_recv().is_err());
    let bench = started_with(|_| None, None);
    bench.remove("a").unwrap();
    assert!(matches!(bench.events.recv_timeout(PATIENCE), Ok(Event::Over)));
}

#[test]
fn a_connection_that_was_handed_over_keeps_the_program_going_until_it_ends() {
    let (front_end, ours) = UnixStream::pair().unwrap();
    let b = vm("b", 1, VmSocket::Fd(ours.as_raw_fd()));
    let bench = started_with(|_| None, Some(b));
    drop(ours);
    bench.wait_until_connected("b");
    bench.remove("a").unwrap();
    assert!(bench.events.try_recv().is_err());
    drop(front_end);
    assert!(matches!(bench.events.recv_timeout(PATIENCE), Ok(Event::Over)));
}

#[test]
fn an_upgrade_is_asked_for() {
    let bench = started();
    assert_eq!(bench.ask(&json!({"version": 1, "request": "upgrade"})).unwrap(), json!({}));
    assert!(matches!(bench.events.recv_timeout(PATIENCE), Ok(Event::Upgrade)));
}

/// Waits until the remote is in this state.
fn until_state(bench: &Bench, state: &str) {
    let until = Instant::now() + PATIENCE;
    loop {
        let seen = bench.ask(&json!({"version": 1, "request": "remote-list"})).unwrap();
        if seen["remotes"][0] == json!({"name": "loopback", "state": state}) {
            return;
        }
        assert!(Instant::now() < until, "expected {state}, found {seen}");
        std::thread::yield_now();
    }
}

fn of_remote(bench: &Bench, request: &str) -> Result<Value, Refusal> {
    bench.ask(&json!({"version": 1, "request": request, "name": "loopback"}))
}

#[test]
fn a_remote_is_let_go_of_and_attached_to_again_by_order() {
    let bench = started();
    until_state(&bench, "attached");
    of_remote(&bench, "remote-stop").unwrap();
    until_state(&bench, "detached");
    of_remote(&bench, "remote-start").unwrap();
    until_state(&bench, "attached");
    of_remote(&bench, "remote-restart").unwrap();
    until_state(&bench, "attached");
}

#[test]
fn the_resource_table_of_a_remote_is_shown_and_what_its_firmware_has_written_to_its_trace() {
    let bench = started();
    until_state(&bench, "attached");
    let table = of_remote(&bench, "remote-table").unwrap();
    assert!(table["table"].as_str().unwrap().contains("vdev id 7"), "{table}");
    let traces = of_remote(&bench, "remote-trace").unwrap();
    assert_eq!(traces["traces"][0]["name"], "trace0");
    assert!(
        traces["traces"][0]["text"].as_str().unwrap().starts_with("ready, waiting for a host\n"),
        "{traces}"
    );
}

#[test]
fn a_remote_that_there_is_not_and_firmware_for_one_that_others_boot_are_refused() {
    let bench = started();
    let refusal = bench.ask(&json!({"version": 1, "request": "remote-stop", "name": "dsp"})).unwrap_err();
    assert_eq!(refusal.code, Code::NotFound);
    assert!(refusal.message.contains("loopback") && refusal.message.contains("\"dsp\""), "{refusal}");
    let restart =
        json!({"version": 1, "request": "remote-restart", "name": "loopback", "firmware": "/x.elf"});
    let refusal = bench.ask(&restart).unwrap_err();
    assert_eq!(refusal.code, Code::Remote);
    assert!(
        refusal.message.starts_with("remote loopback: this core is started by somebody else"),
        "{refusal}"
    );
}

#[test]
fn nobody_comes_into_the_slot_of_a_vm_that_a_rule_means() {
    let bench = started();
    bench.add("c", &json!({})).unwrap();
    bench.add("d", &json!({})).unwrap();
    let set =
        |service: Value| bench.ask(&json!({"version": 1, "request": "service-set", "service": service}));
    let done = set(json!({"name": "motor", "mode": "exclusive", "owner": "c"})).unwrap();
    assert_eq!(done, json!({"remotes": [{"name": "loopback", "services": []}]}));
    bench.remove("c").unwrap();
    bench.remove("d").unwrap();
    bench.add("e", &json!({})).unwrap();
    assert_eq!(bench.list()[1].1, 2, "1 is c's");
    let said = bench.add("f", &json!({"slot": 1})).unwrap_err();
    assert!(said.message.contains("\"c\"") || said.message.contains(" c"), "{said}");
    assert_eq!(bench.add("c", &json!({"slot": 1})).unwrap()["vm"]["slot"], 1);

    set(json!({"name": "motor"})).unwrap();
    bench.remove("c").unwrap();
    bench.add("f", &json!({})).unwrap();
    assert_eq!(bench.list()[2].1, 1);
    let said = set(json!({"name": "motor", "address": 1024})).unwrap_err();
    assert_eq!(said.code, Code::Service);
    assert!(said.message.contains("service.address"), "{said}");
}
