//! Pictures of the screen compared with kept ones, and what the keys do. `UPDATE_REFERENCE=1 cargo test --lib top` keeps them anew.

use std::fs;
use std::path::Path;

use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::crossterm::event::{KeyCode, KeyModifiers};
use serde_json::{Value, json};

use super::*;

/// A service of a VM's with so many messages of 100 bytes there and back.
fn service(name: &str, address: u32, messages: u64, dropped: u64) -> Value {
    let traffic = json!({"messages": messages, "bytes": messages * 100});
    json!({"name": name, "address": address, "to-remote": traffic, "to-guest": traffic, "dropped": dropped})
}

/// A VM that has done nothing but talk to services.
fn vm(name: &str, slot: u8, services: &[Value], stalled_ns: u64) -> Value {
    let sum = |member: &dyn Fn(&Value) -> u64| services.iter().map(member).sum::<u64>();
    let messages = sum(&|service| service["to-remote"]["messages"].as_u64().unwrap());
    let dropped = sum(&|service| service["dropped"].as_u64().unwrap());
    let traffic = json!({"messages": messages, "bytes": messages * 100});
    json!({
        "name": name, "slot": slot, "to-remote": traffic, "to-guest": traffic, "subscriptions": 0, "time-outs": 0,
        "dropped": {"guest-too-slow": dropped}, "services": services, "share": 128, "held": 3 + slot,
        "waiting-share": 127, "waiting": slot, "stalls": stalled_ns / 1_000_000, "stalled-ns": stalled_ns,
    })
}

fn remote(name: &str, seconds: u64, bells: u64, vms: &[Value]) -> Value {
    let percentiles = json!({
        "samples": 1, "p50-ns": 900, "p90-ns": 1000, "p99-ns": 12_345, "p999-ns": 20_000, "max-ns": 30_000,
    });
    json!({
        "name": name, "state": "running", "monotonic-ns": seconds * 1_000_000_000, "doorbells-heard": bells,
        "latency": {"to-remote": percentiles, "to-guest": percentiles},
        "devices": [{
            "name": name, "misdirected": 1, "malformed": 0, "worker-restarts": 2, "doorbells-rung": 2 * bells, "vms": vms,
            "buffers": {"to-remote": 256, "in-flight": 98, "free": 158, "from-remote": 256, "held": 1},
        }],
    })
}

fn listed(name: &str, drivers: &[(&str, &str)]) -> Value {
    let vms: Vec<_> = drivers
        .iter()
        .map(|(name, driver)| {
            json!({
                "name": name, "slot": 0, "driver": driver, "session": 0, "base": 0, "overflow": "drop", "strict": false,
                "weight": 1,
            })
        })
        .collect();
    let services = json!([
        {"name": "rpmsg-raw", "address": 1024, "mode": "shared", "owner": null, "seen-by": []},
        {"name": "motor", "address": 1026, "mode": "serialized", "owner": null, "seen-by": []},
    ]);
    json!({"name": name, "state": "running", "devices": [{"name": name, "vms": vms, "services": services, "endpoints": []}]})
}

fn snapshot(stats: &[Value], listing: &[Value]) -> Snapshot {
    Snapshot {
        stats: serde_json::from_value(json!({"remotes": stats})).unwrap(),
        listing: serde_json::from_value(json!({"remotes": listing})).unwrap(),
    }
}

/// Two VMs after so many seconds, of which the second is paused.
fn two_vms(seconds: u64) -> Snapshot {
    let first = [service("rpmsg-raw", 1024, 1_234_567 * seconds, 0), service("motor", 1026, 40 + seconds, 0)];
    let second = [service("rpmsg-raw", 1024, 7_000, 3 * seconds)];
    let vms = [vm("linux", 0, &first, 250_000_000 * seconds), vm("rtos-gateway", 1, &second, 0)];
    let listing = listed("m4", &[("linux", "up"), ("rtos-gateway", "paused")]);
    snapshot(&[remote("m4", seconds, 6_000 * seconds, &vms)], &[listing])
}

fn seen(before: Option<&Snapshot>, now: &Snapshot) -> Seen {
    Seen {
        control: "/run/rpmsg/control".to_owned(),
        interval: Duration::from_secs(1),
        remotes: compare(before, now),
        trouble: None,
    }
}

fn drawn(seen: &Seen, view: &mut View, width: u16, height: u16) -> String {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| draw(frame.buffer_mut(), seen, view)).unwrap();
    let cells = terminal.backend().buffer().content().chunks(usize::from(width).max(1));
    let line = |cells: &[ratatui::buffer::Cell]| {
        let text: String = cells.iter().map(ratatui::buffer::Cell::symbol).collect();
        text.trim_end().to_owned() + "\n"
    };
    cells.map(line).collect()
}

/// Compares what is drawn with the picture that is kept of it.
#[track_caller]
fn is_as_kept(name: &str, seen: &Seen, (width, height): (u16, u16)) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("src/operate/top/pictures/{name}.txt"));
    let drawn = drawn(seen, &mut View::default(), width, height);
    if std::env::var_os("UPDATE_REFERENCE").is_some() {
        fs::write(&path, &drawn).unwrap();
    }
    let kept = fs::read_to_string(&path).unwrap();
    assert_eq!(drawn, kept, "expected the picture {name}:\n{kept}\nfound:\n{drawn}");
}

#[test]
fn two_vms_with_traffic_are_shown_with_their_rates() {
    let (before, now) = (two_vms(10), two_vms(12));
    is_as_kept("two-vms-80x24", &seen(Some(&before), &now), (80, 24));
    let reference = include_str!("../../../docs/control.md");
    let rows = drawn(&seen(Some(&before), &now), &mut View::default(), 80, 24);
    let rows = rows.split("\n\n\n").next().unwrap();
    assert!(reference.contains(rows), "expected in the reference:\n{rows}");
    is_as_kept("two-vms-120x40", &seen(Some(&before), &now), (120, 40));
}

#[test]
fn no_vm_is_shown_as_such() {
    let now = snapshot(&[remote("m4", 1, 0, &[])], &[listed("m4", &[])]);
    is_as_kept("no-vm", &seen(None, &now), (80, 24));
}

#[test]
fn a_remote_that_is_down_and_another_are_told_apart() {
    let mut down = remote("r5f", 12, 0, &[vm("second", 3, &[], 0)]);
    down["state"] = "crashed".into();
    down["devices"][0]["buffers"] = Value::Null;
    let Snapshot { mut stats, mut listing } = two_vms(12);
    stats.remotes.push(serde_json::from_value(down).unwrap());
    listing.remotes.push(serde_json::from_value(listed("r5f", &[("second", "down")])).unwrap());
    is_as_kept("remote-down", &seen(Some(&two_vms(10)), &Snapshot { stats, listing }), (80, 24));
}

#[test]
fn a_program_that_is_gone_is_told_of_beside_the_last_figures() {
    let (before, now) = (two_vms(10), two_vms(12));
    let what = "cannot connect to control socket /run/rpmsg/control: No such file or directory".to_owned();
    let trouble = Some((what, Duration::from_millis(5900)));
    is_as_kept("program-gone", &Seen { trouble, ..seen(Some(&before), &now) }, (80, 24));
}

#[test]
fn counters_that_have_gone_back_and_a_clock_that_stands_give_no_rate() {
    let rates = |before: &Snapshot, now: &Snapshot| {
        let remotes = compare(Some(before), now);
        let vms = remotes.iter().flat_map(|remote| &remote.devices).flat_map(|device| &device.vms);
        let rows = vms.flat_map(|vm| [&vm.all].into_iter().chain(&vm.services));
        rows.map(|row| row.to_remote.message_rate).collect::<Vec<_>>()
    };
    let known = [Some(1_234_568.0), Some(1_234_567.0), Some(1.0), Some(0.0), Some(0.0)];
    assert_eq!(rates(&two_vms(10), &two_vms(12)), known);
    let mut restarted = two_vms(1);
    restarted.stats.remotes[0].monotonic_ns = 12_000_000_000;
    let unknown = [None, None, None, Some(0.0), Some(0.0)];
    assert_eq!(rates(&two_vms(10), &restarted), unknown);
    assert_eq!(rates(&two_vms(10), &two_vms(10)), [None; 5]);
    assert_eq!(rates(&two_vms(12), &two_vms(10))[3..], [None; 2]);
}

#[test]
fn what_was_answered_is_shown_until_there_is_more_and_said_to_be_old() {
    let top = Top { control: "/run/control".into(), interval: Duration::from_secs(1) };
    let mut shown = Shown::new(&top, two_vms(1));
    let start = shown.at;
    let picture = |shown: &mut Shown| drawn(&shown.seen, &mut shown.view, 100, 24);
    let gone = || {
        let source = io::ErrorKind::ConnectionRefused.into();
        Err(CallError::Connect { path: "/run/control".into(), source })
    };
    shown.answered(gone(), start + Duration::from_secs(2));
    assert!(
        picture(&mut shown)
            .contains("NO ANSWER, these figures are 2 s old: cannot connect to control socket")
    );
    shown.age(start + Duration::from_secs(7));
    assert!(picture(&mut shown).contains("are 7 s old: cannot connect"));
    shown.answered(Ok(two_vms(9)), start + Duration::from_secs(8));
    let back = picture(&mut shown);
    assert!(!back.contains("NO ANSWER") && back.contains("1.23M"), "{back}");
    shown.age(start + Duration::from_secs(9));
    assert!(shown.seen.trouble.is_none());
    shown.age(start + Duration::from_secs(20));
    assert!(picture(&mut shown).contains("12 s old: the program takes its time"));
}

#[test]
fn the_keys_scroll_sort_and_quit() {
    let key = |code| KeyEvent::new(code, KeyModifiers::NONE);
    let (before, now) = (two_vms(10), two_vms(12));
    let seen = seen(Some(&before), &now);
    let mut view = View::default();
    // The names of what is seen in the table, after a key.
    let mut press = |code, height| {
        view.press(key(code));
        let picture = drawn(&seen, &mut view, 80, height);
        let rows: Vec<_> = picture.lines().skip_while(|line| !line.contains("VM, SERVICE")).skip(1).collect();
        let names = rows[..rows.len() - 1].iter().filter_map(|row| row.split_whitespace().next());
        (names.collect::<Vec<_>>().join(" "), picture.lines().next().unwrap().trim_end().to_owned())
    };
    let all = "linux motor@0x402 rpmsg-raw@0x400 rtos-gateway rpmsg-raw@0x400";
    assert_eq!(press(KeyCode::Null, 24).0, all);
    assert_eq!(press(KeyCode::Down, 24).0, all);
    assert_eq!(press(KeyCode::Char('j'), 13).0, "motor@0x402 rpmsg-raw@0x400 rtos-gateway");
    assert_eq!(press(KeyCode::End, 13).0, "rpmsg-raw@0x400 rtos-gateway rpmsg-raw@0x400");
    assert_eq!(press(KeyCode::Up, 13).0, "motor@0x402 rpmsg-raw@0x400 rtos-gateway");
    let (names, title) = press(KeyCode::Char('s'), 24);
    assert_eq!(names, "linux rpmsg-raw@0x400 motor@0x402 rtos-gateway rpmsg-raw@0x400");
    assert!(title.ends_with("by MSG/s to remote"), "{title}");
    let (names, title) = press(KeyCode::Char('r'), 24);
    assert_eq!(names, "rtos-gateway rpmsg-raw@0x400 linux motor@0x402 rpmsg-raw@0x400");
    assert!(title.ends_with("by MSG/s to remote, reversed"), "{title}");
    let titles: Vec<_> = (0..8).map(|_| press(KeyCode::Char('s'), 24).1).collect();
    assert!(
        titles[6].ends_with("by STALL%, reversed") && titles[7].ends_with("by name, reversed"),
        "{titles:?}"
    );
    for key in
        [key(KeyCode::Esc), key(KeyCode::Char('q')), KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL)]
    {
        assert_eq!(View::default().press(key), Pressed::Quit);
    }
    assert_eq!(View::default().press(key(KeyCode::Char('c'))), Pressed::Other);
}

#[test]
fn a_terminal_of_any_size_is_drawn_on() {
    let seen = seen(None, &two_vms(3));
    for (width, height) in (0..=100).step_by(7).flat_map(|width| (0..30).map(move |height| (width, height))) {
        drawn(&seen, &mut View::default(), width, height);
    }
}
