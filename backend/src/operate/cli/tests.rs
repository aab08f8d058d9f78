//! What command lines come to.

use std::fs;

use super::*;

/// What a command line comes to, or what is said about it.
fn action(args: &[&str]) -> Result<Action, String> {
    let args = ["vhost-device-rpmsg"].iter().chain(args).map(OsString::from);
    Cli::from_args(args)
        .map_err(|error| error.to_string())?
        .action(&Sources::of_host())
        .map_err(|error| error.to_string())
}

fn refusal(args: &[&str]) -> String {
    action(args).unwrap_err()
}

fn served(args: &[&str]) -> Plan {
    match action(args) {
        Ok(Action::Serve(plan)) => plan,
        other => panic!("{other:?}"),
    }
}

fn names_and_sockets(plan: &Plan) -> Vec<(&str, String)> {
    plan.vms.iter().map(|vm| (vm.name.as_str(), vm.socket.to_string())).collect()
}

/// A configuration with the VMs `a` and `b`, and where it is.
fn configuration() -> (tempfile::TempDir, String) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("two.toml");
    let text = "[[remote]]\nname = \"core\"\nlink = \"loopback\"\n\
                [[vm]]\nname = \"a\"\nsocket = \"/run/a.sock\"\n\
                [[vm]]\nname = \"b\"\nsocket = \"/run/b.sock\"\n";
    fs::write(&file, text).unwrap();
    let file = file.to_str().unwrap().to_owned();
    (folder, file)
}

#[test]
fn one_socket_path_is_one_vm_in_front_of_the_loopback_core() {
    let plan = served(&["--socket-path", "/run/s"]);
    assert_eq!(names_and_sockets(&plan), [("vm0", "/run/s".to_owned())]);
    assert_eq!((plan.vms[0].slot.number(), plan.vms[0].remote), (0, 0));
    assert_eq!(plan.remotes.len(), 1);
    assert_eq!(plan.remotes[0].link, crate::operate::plan::LinkPlan::Loopback);
    assert_eq!(served(&["-s", "/run/s", "-c", "1"]), plan);
}

#[test]
fn several_sockets_are_numbered_with_their_vms_and_slots() {
    let plan = served(&["-s", "/run/s", "-c", "3"]);
    let expected = [("vm0", "/run/s0"), ("vm1", "/run/s1"), ("vm2", "/run/s2")];
    assert_eq!(names_and_sockets(&plan), expected.map(|(name, path)| (name, path.to_owned())));
    let slots: Vec<_> = plan.vms.iter().map(|vm| vm.slot.number()).collect();
    assert_eq!(slots, [0, 1, 2]);
    assert_eq!(served(&["-s", "/run/s", "-c", "127"]).vms.len(), 127);
}

#[test]
fn a_socket_count_out_of_range_is_refused() {
    for count in ["0", "128", "x"] {
        let refusal = refusal(&["-s", "/run/s", "-c", count]);
        assert!(refusal.contains(&format!("invalid value '{count}' for '--socket-count <N>'")), "{refusal}");
    }
    assert!(refusal(&["-s", "/run/s", "-c", "128"]).contains("not in 1..=127"));
}

#[test]
fn a_socket_path_whose_numbered_form_is_too_long_is_refused() {
    let path = "x".repeat(106);
    assert_eq!(served(&["-s", &path, "-c", "10"]).vms.len(), 10);
    assert_eq!(
        refusal(&["-s", &path, "-c", "11"]),
        format!(
            "--socket-path: expected a path that gives sockets of 1 to 107 bytes, found 108 bytes: {path}10"
        )
    );
    assert!(refusal(&["-s", ""]).contains("socket-path"));
}

#[test]
fn an_open_socket_stands_in_place_of_the_path() {
    let plan = served(&["--fd", "7"]);
    assert_eq!(plan.vms[0].socket, VmSocket::Fd(7));
    assert_eq!(plan.vms.len(), 1);
}

#[test]
fn open_sockets_of_configured_vms_replace_their_paths() {
    let (_folder, file) = configuration();
    let plan = served(&["--config", &file, "--fd", "b=9"]);
    assert_eq!(
        names_and_sockets(&plan),
        [("a", "/run/a.sock".to_owned()), ("b", "file descriptor 9".to_owned())]
    );
    assert_eq!(served(&["--config", &file, "--fd", "a=3", "--fd", "b=4"]).vms.len(), 2);
}

#[test]
fn a_file_descriptor_that_is_no_number_is_refused() {
    for fd in ["x", "-1", "a=", "a=b", ""] {
        let refusal = refusal(&[&format!("--fd={fd}")]);
        let expected = format!("expected FD or NAME=FD, where FD is a number of 0 or more, found {fd:?}");
        assert!(
            refusal.contains(&expected) || fd.is_empty() && refusal.contains("a value is required"),
            "{refusal}"
        );
    }
}

#[test]
fn file_descriptors_that_do_not_fit_the_rest_are_refused() {
    let (_folder, file) = configuration();
    let with_config = |fds: &[&str]| {
        let fds = fds.iter().flat_map(|fd| ["--fd", fd]);
        refusal(&["--config", &file].into_iter().chain(fds).collect::<Vec<_>>())
    };
    assert_eq!(
        refusal(&["--fd", "3", "--fd", "4"]),
        "--fd 4: expected one --fd FD for the one VM, found another; name VMs in a --config FILE for more"
    );
    assert_eq!(
        refusal(&["--fd", "a=3"]),
        "--fd a=3: expected a --config FILE with a VM of this name, found none; without it, say --fd 3"
    );
    assert_eq!(
        with_config(&["3"]),
        "--fd 3: expected NAME=3 with --config, where NAME is one of a, b; found no name"
    );
    assert_eq!(
        with_config(&["c=3"]),
        "--fd c=3: expected the name of a configured VM, one of a, b; found \"c\""
    );
    assert_eq!(
        with_config(&["a=3", "a=4"]),
        "--fd a=4: expected every VM and every file descriptor once, found VM a again"
    );
    assert_eq!(
        with_config(&["a=3", "b=3"]),
        "--fd b=3: expected every VM and every file descriptor once, found file descriptor 3 again"
    );
}

#[test]
fn options_that_exclude_each_other_are_refused() {
    for args in [
        &["-s", "/run/s", "--config", "f"][..],
        &["-s", "/run/s", "--fd", "3"],
        &["-c", "2", "--config", "f"],
        &["-c", "2", "--fd", "3"],
        &["-s", "/run/s", "check", "f"],
    ] {
        assert!(refusal(args).contains("cannot be used with"), "{args:?}");
    }
}

#[test]
fn a_number_of_sockets_without_their_path_is_refused() {
    assert!(refusal(&["-c", "2"]).contains("--socket-path <PATH>"));
}

#[test]
fn a_command_line_that_serves_nothing_is_refused() {
    assert_eq!(
        refusal(&[]),
        "expected --socket-path PATH, --fd FD or --config FILE, found none of them; see --help"
    );
}

#[test]
fn printing_capabilities_wins_over_everything_else() {
    for args in [
        &["--print-capabilities"][..],
        &["--print-capabilities", "-s", "/run/s", "--config", "f"],
        &["--no-such-option", "--print-capabilities"],
        &["check", "--print-capabilities"],
    ] {
        assert_eq!(action(args), Ok(Action::PrintCapabilities), "{args:?}");
    }
    let words: Vec<_> = CAPABILITIES.split_whitespace().collect();
    assert_eq!(words.concat(), r#"{"type":"rpmsg","features":[]}"#);
}

#[test]
fn checking_a_file_gives_its_plan_or_what_is_wrong() {
    let (folder, file) = configuration();
    let Ok(Action::Check(plan)) = action(&["check", &file]) else { panic!("no plan") };
    assert_eq!(plan.vms.len(), 2);
    let broken = folder.path().join("broken.toml");
    fs::write(&broken, "[[vm]]\n").unwrap();
    assert_eq!(
        refusal(&["check", broken.to_str().unwrap()]),
        format!(
            "{}:1: key vm.name: expected a name of letters, digits, '_', '-' and '.' that no other VM has, found \
             nothing",
            broken.display()
        )
    );
    assert!(refusal(&["check"]).contains("<FILE>"));
}

#[test]
fn other_system_calls_kill_unless_said_otherwise() {
    let seccomp = |more: &[&str]| {
        let args = ["vhost-device-rpmsg", "-s", "s"].iter().chain(more).map(OsString::from);
        Cli::from_args(args).map(|cli| cli.seccomp())
    };
    assert_eq!(seccomp(&[]).unwrap(), Seccomp::Kill);
    for mode in [Seccomp::None, Seccomp::Log, Seccomp::Kill] {
        assert_eq!(seccomp(&["--seccomp", &mode.to_string()]).unwrap(), mode);
    }
    assert!(seccomp(&["--seccomp", "trap"]).is_err());
}

#[test]
fn the_log_level_is_info_unless_said_otherwise() {
    let level = |args: &[&str]| {
        let args = ["program"].iter().chain(args).map(OsString::from);
        Cli::from_args(args).map(|cli| cli.log_level())
    };
    assert_eq!(level(&["-s", "s"]).unwrap(), LogLevel::Info);
    for (name, expected) in [
        ("error", LogLevel::Error),
        ("warn", LogLevel::Warn),
        ("info", LogLevel::Info),
        ("debug", LogLevel::Debug),
        ("trace", LogLevel::Trace),
    ] {
        assert_eq!(level(&["-s", "s", "--log-level", name]).unwrap(), expected);
        assert_eq!(expected.to_string(), name);
    }
    let refusal = level(&["-s", "s", "--log-level", "loud"]).unwrap_err().to_string();
    assert!(refusal.contains("error, warn, info, debug, trace"), "{refusal}");
}

#[test]
fn the_definition_of_the_options_is_consistent() {
    <Cli as clap::CommandFactory>::command().debug_assert();
}

/// What is asked of a running program, as a line of the protocol.
fn request(args: &[&str]) -> String {
    match action(&[&["vm"], args, &["--control", "/run/c"]].concat()) {
        Ok(Action::Call(call)) => {
            assert_eq!(call.control.to_str(), Some("/run/c"));
            call.request.to_json()
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn requests_to_a_running_program_are_written_as_the_protocol_has_them() {
    assert_eq!(request(&["list"]), r#"{"request":"vm-list","version":1}"#);
    assert_eq!(request(&["remove", "a"]), r#"{"name":"a","request":"vm-remove","version":1}"#);
    assert_eq!(
        request(&["add", "c", "--socket", "/run/c.sock"]),
        r#"{"request":"vm-add","version":1,"vm":{"name":"c","socket":"/run/c.sock"}}"#
    );
}

#[test]
fn what_is_served_and_counted_can_be_asked_for() {
    for command in ["ls", "stats", "events"] {
        let Ok(Action::Call(call)) = action(&[command, "--control", "/run/c", "--json"]) else {
            panic!("{command}")
        };
        let line = format!("{{\"request\":\"{command}\",\"version\":1}}");
        assert_eq!((call.request.to_json(), call.json), (line, true));
    }
}

#[test]
fn a_program_can_be_looked_at_every_so_often() {
    let top = |more: &[&str]| match action(&[&["top", "--control", "/run/c"], more].concat()) {
        Ok(Action::Top(top)) => Ok(top.interval.as_secs_f64()),
        Ok(other) => panic!("{other:?}"),
        Err(said) => Err(said),
    };
    assert_eq!((top(&[]), top(&["--interval", "0.1"])), (Ok(1.0), Ok(0.1)));
    for wrong in ["0", "0.09", "3601", "inf", "NaN", "1s"] {
        let said = top(&["--interval", wrong]).unwrap_err();
        let expected = format!("expected a number of seconds from 0.1 to 3600, found {wrong:?}");
        assert!(said.contains(&expected), "{said}");
    }
    assert!(refusal(&["top"]).contains("--control"));
}

#[test]
fn every_key_of_a_vm_can_be_said_on_the_command_line() {
    let all = "add c --socket s --mode 0660 --group g --slot 3 --remote r --device 1 --address 0x400 --address 7 --strict \
               --overflow drop --weight 2 --messages-per-second 10 --bytes-per-second 1000";
    let request = request(&all.split(' ').collect::<Vec<_>>());
    let request: serde_json::Value = serde_json::from_str(&request).unwrap();
    let expected = serde_json::json!({
        "name": "c", "socket": std::path::absolute("s").unwrap(), "mode": "0660", "group": "g", "slot": 3, "remote": "r", "device": 1, "addresses": [0x400, 7],
        "strict": true, "overflow": "drop", "weight": 2, "messages-per-second": 10, "bytes-per-second": 1000,
    });
    assert_eq!(request["vm"], expected);
    let said: Vec<_> = expected.as_object().unwrap().keys().map(String::as_str).collect();
    let mut known = config::keys_of("vm");
    known.sort_unstable();
    assert_eq!(said, known);
}

#[test]
fn every_key_of_a_service_but_its_address_can_be_said_on_the_command_line() {
    let all = "service set name --control c --remote r --mode serialized --vm a --vm b --owner a --reply one --time-out 1s \
               --quarantine 5s --unsolicited all";
    let asked = action(&all.split(' ').collect::<Vec<_>>());
    let Ok(Action::Call(Call { request, .. })) = asked else { panic!("{asked:?}") };
    let request: serde_json::Value = serde_json::from_str(&request.to_json()).unwrap();
    let expected = serde_json::json!({
        "name": "name", "remote": "r", "mode": "serialized", "vms": ["a", "b"], "owner": "a", "reply": "one", "time-out": "1s",
        "quarantine": "5s", "unsolicited": "all",
    });
    assert_eq!(request["service"], expected);
    let mut said: Vec<_> = expected.as_object().unwrap().keys().map(String::as_str).collect();
    said.push("address");
    said.sort_unstable();
    let mut known = config::keys_of("service");
    known.sort_unstable();
    assert_eq!(said, known);
}

#[test]
fn requests_without_a_control_socket_or_a_name_are_refused() {
    assert!(refusal(&["vm", "list"]).contains("--control <PATH>"));
    assert!(refusal(&["vm", "remove", "--control", "c"]).contains("<NAME>"));
    assert!(refusal(&["vm", "add", "a", "--control", "c"]).contains("--socket <PATH>"));
    assert!(
        refusal(&["vm", "add", "a", "--control", "c", "--socket", "s", "--address", "0xg"]).contains("0xg")
    );
    assert!(refusal(&["vm"]).contains("Usage"));
}
