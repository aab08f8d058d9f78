//! What the program says that it has served and counted: exactly what the guests have sent and received, whatever becomes of
//! its worker.

use std::ffi::OsStr;
use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::thread::scope;

use serde_json::Value;

use crate::harness::program::Program;
use crate::harness::rig::{Plan, Rig};
use crate::harness::stream::EchoStream;

const HERE: u32 = 1024;
/// What a VM may have of the core's buffers in any case.
const WINDOW: u32 = 32;
/// Where the core has nothing.
const NOTHING: u32 = 0x900;
const KILLS: usize = 6;

/// A rig whose program takes requests, with a service of each mode that has turns or owners.
fn rig(vms: u8) -> Rig {
    let core = ["rpmsg-raw", "latching-echo", "rpmsg-raw:exclusive"];
    let core = core.iter().flat_map(|service| ["--service", service]).collect();
    let mut rig = Rig::prepare(Plan { core, ..Plan::with_sessions(vms) });
    let rules = "[[service]]\nname = \"latching-echo\"\nmode = \"serialized\"\n\
                 [[service]]\nname = \"exclusive\"\nmode = \"exclusive\"\n";
    let (control, metrics) = (rig.path("control"), rig.path("metrics"));
    let text = format!("control = {control:?}\nmetrics = {metrics:?}\n{}{rules}", rig.config());
    fs::write(rig.config_path(), text.replace("name = \"vm0\"\n", "name = \"vm0\"\nstrict = true\n"))
        .unwrap();
    rig.start_core();
    rig.start_program();
    rig
}

/// Runs `vhost-device-rpmsg COMMAND` to its end and returns what it prints.
fn ask(rig: &Rig, command: &[&str]) -> String {
    let control = rig.path("control");
    let to = [OsStr::new("--control"), control.as_os_str()];
    let mut client = Program::spawn(command.iter().map(OsStr::new).chain(to));
    let status = client.wait_exit();
    assert!(status.success(), "{status}: {}", client.stderr());
    client.stdout()
}

/// The only device, as `ls` or `stats` has it.
fn device(rig: &Rig, command: &str) -> Value {
    let reply: Value = serde_json::from_str(&ask(rig, &[command, "--json"])).unwrap();
    let remote = &reply["result"]["remotes"][0];
    assert_eq!((&remote["name"], &remote["state"]), (&"core".into(), &"attached".into()), "{reply}");
    remote["devices"][0].clone()
}

/// What a scrape gets.
fn scrape(rig: &Rig) -> String {
    let mut client = UnixStream::connect(rig.path("metrics")).unwrap();
    client.write_all(b"GET /metrics HTTP/1.1\r\n\r\n").unwrap();
    let mut text = String::new();
    client.read_to_string(&mut text).unwrap();
    assert!(text.starts_with("HTTP/1.1 200 OK\r\n") && text.ends_with("\n# EOF\n"), "{text}");
    text
}

/// Messages to the remote and to the guest between a VM and a service, as a scrape has them.
fn messages_scraped(scraped: &str, vm: usize, service: &str) -> (u64, u64) {
    let count = |direction: &str| {
        let labels = [
            format!("vm=\"vm{vm}\""),
            format!("service=\"{service}\""),
            format!("direction=\"{direction}\""),
        ];
        let is_meant = |line: &&str| {
            line.starts_with("rpmsg_messages_total{") && labels.iter().all(|label| line.contains(label))
        };
        let lines: Vec<_> = scraped.lines().filter(is_meant).collect();
        let [line] = lines[..] else { panic!("{lines:?}") };
        line.rsplit(' ').next().unwrap().parse().unwrap()
    };
    (count("to-remote"), count("to-guest"))
}

/// The same as they are printed for people.
fn messages_printed(text: &str, vm: usize, service: &str) -> (u64, u64) {
    let rows = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let is_meant = |row: &Vec<&str>| {
        row.first() == Some(&format!("vm{vm}").as_str())
            && row.get(1).is_some_and(|name| name.starts_with(&format!("{service}@")))
    };
    let rows: Vec<_> = rows.filter(is_meant).collect();
    let [row] = &rows[..] else { panic!("{text}") };
    (row[2].parse().unwrap(), row[4].parse().unwrap())
}

/// Messages to the remote and to the guest, of everything that has both.
fn messages(of: &Value) -> (u64, u64) {
    let count = |direction: &str| of[direction]["messages"].as_u64().unwrap();
    (count("to-remote"), count("to-guest"))
}

#[test]
fn the_counts_are_what_the_guests_have_sent_and_received_although_workers_were_killed() {
    let mut rig = rig(3);
    let mut guests: Vec<_> = (0..3).map(|vm| rig.guest(vm)).collect();
    let services = ["rpmsg-raw", "latching-echo", "exclusive"];
    let mut streams: Vec<_> = (0..)
        .zip(guests.iter_mut().zip(services))
        .map(|(number, (guest, name))| EchoStream::new(number, HERE, guest.wait_service(name)).window(WINDOW))
        .collect();
    for _ in 0..KILLS {
        let program = rig.program();
        scope(|scope| {
            for (guest, stream) in guests.iter_mut().zip(&mut streams) {
                let next = stream.sent() + 500;
                scope.spawn(move || stream.run(guest, next, next - WINDOW));
            }
            program.kill_worker();
        });
    }
    for (guest, stream) in guests.iter_mut().zip(&mut streams) {
        stream.finish(guest, 1);
    }
    for _ in 0..5 {
        guests[0].send(HERE, NOTHING, b"nobody is there");
    }
    guests[0].flush();

    let device = device(&rig, "stats");
    let vms = device["vms"].as_array().unwrap();
    assert_eq!(vms.len(), 3);
    for (vm, (stream, name)) in vms.iter().zip(streams.iter().zip(services)) {
        let expected = (u64::from(stream.sent()), u64::from(stream.received()));
        assert_eq!(messages(vm), expected, "{vm:#}");
        assert_eq!(
            vm["to-remote"]["bytes"], vm["to-guest"]["bytes"],
            "echoes are as long as what they answer"
        );
        let of_service = vm["services"].as_array().unwrap().iter().find(|service| service["name"] == name);
        assert_eq!(messages(of_service.unwrap()), expected, "{vm:#}");
    }
    assert_eq!(vms[0]["dropped"], serde_json::json!({"not-allowed": 5}));
    assert_eq!((&vms[1]["dropped"], &vms[2]["dropped"]), (&serde_json::json!({}), &serde_json::json!({})));
    assert_eq!((&device["misdirected"], &device["malformed"]), (&0.into(), &0.into()));
    let restarts = usize::try_from(device["worker-restarts"].as_u64().unwrap()).unwrap();
    assert_eq!(restarts, KILLS, "{device:#}");
    let buffers = &device["buffers"];
    assert_eq!((&buffers["in-flight"], &buffers["held"]), (&0.into(), &0.into()), "{buffers}");

    let counted = |stream: &EchoStream| (u64::from(stream.sent()), u64::from(stream.received()));
    let expected: Vec<_> = streams.iter().map(counted).collect();
    for restarts in [KILLS, KILLS + 1] {
        let scraped = scrape(&rig);
        for (number, (counts, name)) in expected.iter().zip(services).enumerate() {
            assert_eq!(messages_scraped(&scraped, number, name), *counts, "{scraped}");
        }
        let line = format!("rpmsg_worker_restarts_total{{remote=\"core\",device=\"core\"}} {restarts}");
        assert!(scraped.lines().any(|found| found == line), "{scraped}");
        let text = ask(&rig, &["stats"]);
        for (number, (counts, name)) in expected.iter().zip(services).enumerate() {
            assert_eq!(messages_printed(&text, number, name), *counts, "{text}");
        }
        if restarts == KILLS {
            // What is counted is the same when nothing happens but this. Who asks then waits for the next worker.
            rig.program().kill_worker();
        }
    }
    let outlived = self::device(&rig, "stats");
    let lasting = |device: &Value| {
        let vms = device["vms"].as_array().unwrap().iter();
        let keys = ["name", "to-remote", "to-guest", "dropped", "services"];
        vms.map(|vm| keys.map(|key| vm[key].clone())).collect::<Vec<_>>()
    };
    assert_eq!(lasting(&outlived), lasting(&device));

    let text = ask(&rig, &["stats"]);
    assert!(text.contains("not allowed") && text.contains("rpmsg-raw@"), "{text}");
}

#[test]
fn what_is_served_is_listed_with_its_addresses() {
    let rig = rig(2);
    let (mut first, mut second) = (rig.guest(0), rig.guest(1));
    let exclusive = second.wait_service("exclusive");
    second.echo(HERE, exclusive, b"mine");
    first.wait_service_gone("exclusive");
    second.announce("own", 1030);
    Rig::settle(&mut second);
    Rig::settle(&mut first);

    let device = device(&rig, "ls");
    let find = |list: &str, key: &str, value: &str| {
        let list = device[list].as_array().unwrap();
        list.iter().find(|entry| entry[key] == value).unwrap_or_else(|| panic!("{value}: {device:#}")).clone()
    };
    let vm = find("vms", "name", "vm1");
    assert_eq!((&vm["slot"], &vm["driver"]), (&2.into(), &"up".into()));
    let base = vm["base"].as_u64().unwrap();
    assert_eq!((base >> 24, base % (1 << 20)), (2, 0));
    assert_eq!(find("vms", "name", "vm0")["strict"], true);
    let service = find("services", "name", "exclusive");
    assert_eq!((&service["mode"], &service["owner"]), (&"exclusive".into(), &"vm1".into()));
    assert_eq!(service["seen-by"], serde_json::json!(["vm1"]));
    assert_eq!(find("services", "name", "rpmsg-raw")["seen-by"], serde_json::json!(["vm0", "vm1"]));
    let own = find("endpoints", "service", "own");
    assert_eq!(
        (&own["vm"], &own["guest"], &own["host"]),
        (&"vm1".into(), &1030.into(), &(base + 1030).into())
    );
    let client = find("endpoints", "service", "exclusive");
    assert_eq!((&client["guest"], client["host"].as_u64().unwrap() >> 24), (&HERE.into(), 127));
    let text = ask(&rig, &["ls"]);
    assert!(text.contains("exclusive") && text.contains("vm0,vm1"), "{text}");
}

#[test]
fn what_happened_before_the_end_of_a_worker_is_written_down_and_told() {
    let mut rig = Rig::start_with_control_and_state(Plan::with_sessions(1));
    let mut guest = rig.guest(0);
    guest.announce("of-the-guest", 1030);
    Rig::settle(&mut guest);

    for nth in 1..=2 {
        let worker = rig.program().crash_worker();
        let said = rig.program().wait_log_again("what happened before the end of the worker is in ", nth);
        let path = said.rsplit_once(" is in ").unwrap().1;
        assert!(path.starts_with(rig.path("state").to_str().unwrap()), "{said}");
        let written = fs::read_to_string(path).unwrap();
        let has = |by: &str, text: &str| written.lines().any(|line| line.contains(by) && line.contains(text));
        assert!(has(" worker info ", "vm vm0: "), "{written}");
        assert_eq!(has(" keeper warn ", "the worker has died"), nth == 2, "{written}");
        assert!(written.lines().count() <= 50, "{written}");
        rig.program().wait_other_worker(worker, nth + 1);
    }
    let told = ask(&rig, &["events"]);
    let deaths = told.lines().filter(|line| line.contains(" keeper warn  the worker has died")).count();
    assert_eq!(deaths, 2, "{told}");
    let numbers: Vec<_> = told.lines().map(|line| line.split(' ').next().unwrap()).collect();
    assert!(numbers.is_sorted(), "oldest first: {told}");
    let reply: Value = serde_json::from_str(&ask(&rig, &["events", "--json"])).unwrap();
    assert!(reply["result"]["events"].as_array().unwrap().len() >= numbers.len(), "{reply}");
    Rig::settle(&mut guest);
}
