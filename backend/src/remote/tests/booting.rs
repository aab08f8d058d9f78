//! Starting and stopping a core that is the host's to boot.

use std::fs::File;
use std::sync::Arc;

use rustix::fs::{CWD, FileType, Mode, mknodat};

use super::super::core::{Loss, State};
use super::super::presence::Presence;
use super::*;

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn a_core_is_started_and_on_a_stop_told_to_shut_down_before_it_is_switched_off() {
    let mut played = Played::booted(|config, _| config);
    assert_eq!((played.host.state(), played.switched().as_str()), (State::Booting, ""));
    played.boot();
    assert_eq!((played.host.state(), played.switched().as_str()), (State::Running, "start "));
    assert_eq!(played.host.timer(), None);

    assert!(matches!(played.order(&Order::Stop), Some(Change::Lost(Loss::Stopped))));
    assert_eq!(played.heard(), [0, 0xF2], "status 0 in its table, and the request to shut down");
    assert!(played.order(&Order::Stop).is_none(), "it is ending already");
    assert_eq!(played.switched(), "start ");
    assert!(played.ring(0xF3).is_none());
    assert!(played.work().is_none());
    assert_eq!((played.host.state(), played.switched().as_str()), (State::Offline, "start stop "));
    assert!(played.host.mailbox().is_none() && played.host.take_retired_mailbox().is_some());
    assert_eq!(played.host.timer(), None);

    played.still.core.reboot().unwrap();
    played.order(&Order::Start);
    played.boot();
    assert_eq!(played.switched(), "start stop start ");
}

#[test]
fn a_core_that_does_not_answer_the_request_to_shut_down_is_switched_off_all_the_same() {
    let mut played = Played::booted(|config, _| config);
    played.boot();
    played.order(&Order::Stop);
    assert!(played.wait().is_none());
    played.work();
    assert_eq!((played.host.state(), played.switched().as_str()), (State::Offline, "start stop "));
}

#[test]
fn a_stop_while_the_core_is_being_started_is_carried_out_after_that() {
    let mut played = Played::booted(|config, _| config);
    played.wait();
    assert!(played.order(&Order::Stop).is_none());
    assert!(played.work().is_none() && played.work().is_none());
    assert_eq!((played.host.state(), played.switched().as_str()), (State::Offline, "start stop "));
    assert_eq!(played.host.timer(), None);
}

#[test]
fn a_restart_while_the_core_is_being_started_stops_and_starts_it_once() {
    for order in [Order::Restart(None), Order::Stop] {
        let mut played = Played::booted(|config, _| config);
        played.wait();
        played.order(&order);
        played.order(&Order::Start);
        assert!(played.work().is_none() && played.work().is_none());
        played.boot();
        assert_eq!((played.host.state(), played.switched().as_str()), (State::Running, "start stop start "));
    }
}

#[test]
fn a_restart_of_a_core_that_runs_ends_it_in_good_order_first() {
    let mut played = Played::booted(|config, _| config);
    played.boot();
    assert!(matches!(played.order(&Order::Restart(None)), Some(Change::Lost(Loss::Stopped))));
    played.ring(0xF3);
    played.work();
    assert_eq!(played.switched(), "start stop ");
    played.still.core.reboot().unwrap();
    played.boot();
    assert_eq!(played.switched(), "start stop start ");
}

#[test]
fn a_restart_while_memory_is_dumped_stops_and_starts_the_core_once() {
    let mut played =
        Played::booted(|config, directory| RemoteConfig { dump: Some(directory.to_owned()), ..config });
    played.boot();
    assert!(matches!(played.ring(0xF1), Some(Change::Lost(Loss::Crashed))));
    assert!(played.order(&Order::Restart(None)).is_none());
    assert!(played.work().is_none() && played.work().is_none());
    played.still.core.reboot().unwrap();
    played.boot();
    assert_eq!(played.switched(), "start stop start ");
}

#[test]
fn a_core_that_crashes_again_waits_for_its_time_and_wakes_nobody_before() {
    let recovery = |limit| RecoveryConfig { policy: RecoveryPolicy::Reboot, limit, back_off: 10 * SECOND };
    let mut played = Played::booted(|config, _| RemoteConfig { recovery: recovery(Some(2)), ..config });
    played.boot();
    assert!(matches!(played.ring(0xF1), Some(Change::Lost(Loss::Crashed))));
    played.work();
    played.still.core.reboot().unwrap();
    played.boot();
    // This time without a word. The line that closes would be tried again at once.
    assert!(matches!(played.hang_up(), Some(Change::Lost(Loss::Closed))));
    assert_eq!(played.host.state(), State::Crashed);
    assert_eq!(played.host.timer(), Some(played.now + 10 * SECOND));
    assert!(played.wait().is_none(), "it is stopped first");
    played.work();
    assert_eq!(played.switched(), "start stop start stop ");
    // And now while it is looked for.
    played.wait();
    played.work();
    played.accept();
    assert!(played.ring(0xF1).is_none());
    assert_eq!((played.host.state(), played.host.timer()), (State::Crashed, None), "given up");
    assert!(played.ring(0xF1).is_none());

    played.order(&Order::Start);
    played.work();
    assert_eq!(played.switched(), "start stop start stop start stop ", "it may still be on");
    played.still.core.reboot().unwrap();
    played.boot();
}

#[test]
fn a_core_that_goes_on_about_its_crash_has_crashed_once() {
    let recovery = RecoveryConfig { limit: Some(1), ..RecoveryConfig::default() };
    let mut played = Played::booted(|config, _| RemoteConfig { recovery, ..config });
    played.boot();
    assert!(matches!(played.ring(0xF1), Some(Change::Lost(Loss::Crashed))));
    for _ in 0..10 {
        assert!(played.ring(0xF1).is_none());
    }
    played.still.core.reboot().unwrap();
    assert!(matches!(played.ring(0xF0), Some(Change::Attached(_))));
    assert_eq!(played.switched(), "start ");
}

#[test]
fn a_core_that_cannot_be_started_is_tried_again_later_and_given_up_in_the_end() {
    let command = |program: &str| vec![program.to_owned()];
    let mut played = Played::booted(|config, _| {
        let switch = Switch::Command { start: command("false"), stop: command("true") };
        let boot = Some(BootConfig { firmware: None, switch, on_demand: false });
        let recovery = RecoveryConfig { limit: Some(1), ..config.recovery };
        RemoteConfig { boot, recovery, ..config }
    });
    played.wait();
    assert!(played.work().is_none());
    assert!(played.host.timer().unwrap() > played.now);
    played.wait();
    assert!(played.work().is_none());
    assert_eq!((played.host.state(), played.host.timer()), (State::Crashed, None));
}

#[test]
fn a_core_on_demand_runs_while_it_is_needed() {
    let mut played = Played::booted(|config, _| {
        let boot = config.boot.map(|boot| BootConfig { on_demand: true, ..boot });
        RemoteConfig { boot, ..config }
    });
    assert_eq!((played.host.state(), played.host.timer()), (State::Offline, None));
    assert!(played.host.needed(true, played.now).is_none());
    played.boot();
    assert!(matches!(played.host.needed(false, played.now), Some(Change::Lost(Loss::Stopped))));
    assert!(played.host.needed(true, played.now).is_none(), "it has to end first");
    played.ring(0xF3);
    played.work();
    played.still.core.reboot().unwrap();
    played.boot();
    assert_eq!(played.switched(), "start stop start ");

    // Nobody needs it any more when it has just been started.
    played.host.needed(false, played.now);
    played.ring(0xF3);
    played.work();
    played.host.needed(true, played.now);
    played.wait();
    played.host.needed(false, played.now);
    assert!(played.work().is_none() && played.work().is_none());
    assert_eq!(played.switched(), "start stop start stop start stop ");
    assert_eq!((played.host.state(), played.host.timer()), (State::Offline, None));
}

#[test]
fn a_core_waits_for_those_it_comes_after_and_counts_on_them_as_long_as_it_is_on() {
    let other = Arc::new(Presence::new("other").unwrap());
    let own = Arc::new(Presence::new("played").unwrap());
    let mut played =
        Played::booted(|config, _| RemoteConfig { after: vec![Arc::clone(&other)], ..config }).known_by(&own);
    for _ in 0..101 {
        assert!(played.wait().is_none());
        assert!(other.is_used());
    }
    assert_eq!(played.host.timer(), Some(played.now + SECOND), "not that often for ever");
    assert_eq!(played.host.chores(), None);
    other.set_up(true);
    played.boot();
    assert!(own.is_up());
    played.ring(0xF1);
    assert!(!own.is_up() && other.is_used());
    played.work();
    played.still.core.reboot().unwrap();
    played.boot();
    played.order(&Order::Stop);
    assert!(other.is_used(), "until it is off");
    played.ring(0xF3);
    played.work();
    assert!(!other.is_used());
    played.host.end();
    assert!(!other.is_used());
}

#[test]
fn a_core_that_another_counts_on_stays_on_until_that_is_off() {
    let own = Arc::new(Presence::new("played").unwrap());
    let mut played = Played::booted(|config, _| {
        let boot = config.boot.map(|boot| BootConfig { on_demand: true, ..boot });
        RemoteConfig { boot, ..config }
    })
    .known_by(&own);
    own.enter();
    assert!(played.host.on_presence(played.now).is_none());
    played.boot();
    assert!(played.host.needed(false, played.now).is_none());
    own.leave();
    assert!(matches!(played.host.on_presence(played.now), Some(Change::Lost(Loss::Stopped))));
}

#[test]
fn firmware_without_a_table_where_one_is_needed_is_said_and_not_started() {
    let mut played = Played::booted(|config, directory| {
        let firmware = directory.join("firmware.elf");
        // The header of an ELF file for a 32-bit Arm core that holds nothing else.
        let mut elf = vec![0; 52];
        elf[..7].copy_from_slice(&[0x7F, b'E', b'L', b'F', 1, 1, 1]);
        elf[16] = 2;
        elf[18] = 40;
        elf[20] = 1;
        elf[40] = 52;
        std::fs::write(&firmware, elf).unwrap();
        let boot = config.boot.map(|boot| BootConfig { firmware: Some(firmware), ..boot });
        RemoteConfig { boot, vrings: VringsConfig::TableOfFirmware, ..config }
    });
    played.wait();
    assert!(played.work().is_none());
    assert_eq!((played.host.state(), played.switched().as_str()), (State::Crashed, ""));
    assert!(played.host.timer().unwrap() > played.now, "it is tried again, with what is there then");
}

#[test]
fn at_the_end_a_core_of_ours_is_told_and_switched_off_and_one_of_others_is_let_go_of() {
    let mut ours = Played::booted(|config, _| config);
    ours.boot();
    ours.bell.write_all(&[0xF3]).unwrap();
    ours.host.end();
    assert_eq!((ours.heard(), ours.switched().as_str()), (vec![0, 0xF2], "start stop "));

    let mut others = Played::listening(|config, _| config);
    let clean = others.still.table();
    others.attach();
    others.host.end();
    assert_eq!((others.heard(), others.still.table()), (vec![0], clean));
}

#[test]
fn at_the_end_a_start_under_way_is_over_before_the_core_is_switched_off() {
    let mut played = Played::booted(|config, directory| {
        let gate = directory.join("gate");
        mknodat(CWD, &gate, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        let Some(BootConfig { switch: Switch::Command { stop, .. }, .. }) = &config.boot else { panic!() };
        let script = "read go < gate; echo start >> switch";
        let script = format!("cd \"$0\"; {script}");
        let directory = directory.to_str().unwrap();
        let start = ["sh", "-c", &script, directory].map(str::to_owned).to_vec();
        let switch = Switch::Command { start, stop: stop.clone() };
        RemoteConfig { boot: Some(BootConfig { firmware: None, switch, on_demand: false }), ..config }
    });
    let gate = played.directory.path().join("gate");
    let mut gate = File::options().read(true).write(true).open(gate).unwrap();
    played.wait();
    gate.write_all(b"go\n").unwrap();
    played.host.end();
    assert_eq!(played.switched(), "start stop ");
}
