//! Finding a core, losing it, and finding it again.

use std::fs::File;
use std::sync::Arc;

use rustix::fs::{CWD, FileType, Mode, mknodat};

use super::super::config::WatchConfig;
use super::super::core::{Loss, State};
use super::super::presence::Presence;
use super::*;

#[test]
fn state_is_asked_again_and_again_until_the_core_answers() {
    let mut played = Played::new(None);
    for _ in 0..50 {
        assert!(played.wait().is_none());
        assert_eq!(played.heard(), [0xF6]);
    }
    assert!(matches!(played.ring(0xF7), Some(Change::Attached(_))));
    assert_eq!(played.heard(), [0], "the first kick tells of the empty buffers");
    assert_eq!(played.host.timer(), None, "an attached core needs no timer");
    assert!(played.ring(0xF7).is_none(), "running means nothing new");
}

#[test]
fn a_silent_core_is_attached_by_its_table_after_the_configured_time() {
    let mut played = Played::new(Some(Duration::from_millis(70)));
    let changes: Vec<_> = (0..5).map(|_| played.wait().is_some()).collect();
    assert_eq!(changes, [false, false, false, false, true]);
}

#[test]
fn a_core_that_kicks_and_says_nothing_is_attached_by_its_table_all_the_same() {
    let mut played = Played::new(Some(Duration::from_millis(70)));
    let changes = (0..5).map(|_| played.ring(0).is_some() || played.wait().is_some());
    assert_eq!(changes.collect::<Vec<_>>(), [false, false, false, false, true]);
}

#[test]
fn ready_on_an_attached_core_means_that_it_has_rebooted() {
    let mut played = Played::new(None);
    played.wait();
    assert!(matches!(played.ring(0xF0), Some(Change::Attached(_))));
    played.still.core.reboot().unwrap();
    assert!(matches!(played.ring(0xF0), Some(Change::Lost(Loss::Rebooted))));
    assert!(matches!(played.wait(), Some(Change::Attached(_))));
    // Its table is not clean this time, and not as we have left it: somebody else is its driver.
    let gfeatures = played.still.vdev() + 16;
    played.still.poke(gfeatures, &[0xFF]);
    assert!(matches!(played.ring(0xF0), Some(Change::Lost(Loss::Rebooted))));
    assert!(played.wait().is_none());
}

#[test]
fn firmware_that_boots_with_its_table_as_we_have_left_it_is_attached_to_again() {
    let mut played = Played::new(None);
    played.wait();
    assert!(matches!(played.ring(0xF0), Some(Change::Attached(_))));
    assert!(matches!(played.ring(0xF0), Some(Change::Lost(Loss::Rebooted))));
    assert!(matches!(played.wait(), Some(Change::Attached(_))));
    assert!(matches!(played.ring(0xF1), Some(Change::Lost(Loss::Crashed))));
    assert!(matches!(played.ring(0xF0), Some(Change::Attached(_))));
    // Without a boot in between nobody may pull the vrings from under it.
    assert!(matches!(played.ring(0xF1), Some(Change::Lost(Loss::Crashed))));
    assert!(played.ring(0xF7).is_none());
}

#[test]
fn a_core_that_does_not_answer_is_asked_until_it_does_and_its_table_is_no_answer() {
    let mut played = Played::with(|config| RemoteConfig {
        attach_after: Some(Duration::from_millis(1)),
        watch: WatchConfig { heartbeat: Some(Duration::from_secs(1)), ..WatchConfig::default() },
        ..config
    });
    played.wait();
    assert!(matches!(played.ring(0xF7), Some(Change::Attached(_))));
    assert!(played.wait().is_none());
    assert!(matches!(played.wait(), Some(Change::CutOff(Loss::Silent))));
    played.heard();
    for _ in 0..200 {
        assert!(played.wait().is_none());
        assert_eq!(played.heard(), [0xF4]);
    }
    assert!(matches!(played.ring(0xF5), Some(Change::Resumed)));
}

#[test]
fn a_crash_is_reported_and_a_later_boot_is_found() {
    let mut played = Played::new(None);
    played.wait();
    played.ring(0xF7);
    assert!(matches!(played.ring(0xF1), Some(Change::Lost(Loss::Crashed))));
    assert!(played.ring(0xF1).is_none(), "it is lost already");
    played.heard();
    played.wait();
    assert_eq!(played.heard(), [0xF6]);
    played.still.core.reboot().unwrap();
    assert!(matches!(played.ring(0xF7), Some(Change::Attached(_))));
}

#[test]
fn garbage_on_the_doorbell_is_counted_and_changes_nothing() {
    let mut played = Played::new(None);
    played.wait();
    played.ring(0xF7);
    for byte in [0xF2, 0xF4, 0xF6, 0xF8, 0xFF, 0x7F] {
        assert!(played.ring(byte).is_none());
    }
    assert_eq!(played.host.unknown_signals(), 5);
    assert!(played.host.bell().is_some());
}

#[test]
fn a_closed_doorbell_is_a_core_that_is_gone() {
    let mut played = Played::new(None);
    played.wait();
    played.ring(0xF7);
    played.bell.shutdown(std::net::Shutdown::Both).unwrap();
    assert!(matches!(played.host.on_mailbox(played.now), Some(Change::Lost(Loss::Closed))));
    assert!(played.host.mailbox().is_none() && played.host.take_retired_mailbox().is_some());
    assert_eq!(played.host.timer(), None, "a connection that was given cannot be made again");
}

#[test]
fn a_crash_that_was_before_a_boot_is_past_and_one_after_it_counts() {
    let mut played = Played::new(None);
    played.wait();
    played.ring(0xF7);
    played.still.core.reboot().unwrap();
    assert!(matches!(played.ring_all(&[0xF1, 0xF0]), Some(Change::Lost(Loss::Rebooted))));
    assert!(matches!(played.wait(), Some(Change::Attached(_))));
    played.still.core.reboot().unwrap();
    assert!(matches!(played.ring_all(&[0xF0, 0xF1]), Some(Change::Lost(Loss::Crashed))));
}

#[test]
fn the_time_of_silence_before_a_core_is_attached_unasked_begins_anew_when_it_is_lost() {
    let mut played = Played::new(Some(Duration::from_secs(5)));
    played.wait();
    assert!(matches!(played.ring(0xF7), Some(Change::Attached(_))));
    played.now += Duration::from_secs(100);
    played.ring(0xF1);
    played.still.core.reboot().unwrap();
    let lost_at = played.now;
    let attached = (0..100).find_map(|_| played.wait());
    assert!(matches!(attached, Some(Change::Attached(_))));
    assert!(played.now.duration_since(lost_at) >= Duration::from_secs(5));
}

#[test]
fn a_line_that_was_cut_is_taken_up_again_where_it_was() {
    let presence = Arc::new(Presence::new("played").unwrap());
    let mut played = Played::listening(|config, _| config).known_by(&presence);
    played.attach();
    assert!(presence.is_up());
    assert!(matches!(played.hang_up(), Some(Change::CutOff(Loss::Closed))));
    assert!(!presence.is_up() && played.host.bell().is_none());
    assert!(played.host.take_retired_mailbox().is_some());
    assert!(played.wait().is_none());
    played.accept();
    assert!(matches!(played.ring(0xF7), Some(Change::Resumed)));
    assert!(presence.is_up() && played.host.bell().is_some());
    assert_eq!(played.host.timer(), None);
}

#[test]
fn the_table_of_a_successor_behind_a_line_that_was_cut_is_not_touched() {
    let mut played = Played::listening(|config, _| config);
    played.attach();
    played.hang_up();
    played.still.core.reboot().unwrap();
    played.still.poke(played.still.vdev() + 12, &[3]);
    let before = played.still.table();
    assert!(matches!(played.order(&Order::Stop), Some(Change::Lost(Loss::Stopped))));
    assert_eq!(played.still.table(), before);
    assert_eq!((played.host.state(), played.host.timer()), (State::Detached, None));
}

#[test]
fn a_core_that_falls_silent_is_cut_off_and_goes_on_when_it_answers_at_last() {
    for answer in [0xF5, 0xF7] {
        let presence = Arc::new(Presence::new("played").unwrap());
        let mut played = Played::with(|config| RemoteConfig {
            watch: WatchConfig { heartbeat: Some(Duration::from_secs(1)), ..WatchConfig::default() },
            ..config
        })
        .known_by(&presence);
        played.wait();
        played.ring(0xF7);
        played.heard();
        assert!(played.wait().is_none());
        assert_eq!(played.heard(), [0xF4]);
        assert!(matches!(played.wait(), Some(Change::CutOff(Loss::Silent))));
        assert!(!presence.is_up());
        assert!(played.wait().is_none(), "it is asked again");
        assert_eq!(played.heard(), [0xF4]);
        assert!(matches!(played.ring(answer), Some(Change::Resumed)));
        assert!(presence.is_up());
        assert!(played.wait().is_none());
        assert_eq!(played.heard(), [0xF4], "it is watched as before");
    }
}

#[test]
fn a_watchdog_is_heeded_while_the_core_is_up_and_its_end_is_not_a_crash() {
    let mut played = Played::listening(|config, directory| {
        let watchdog = directory.join("watchdog");
        mknodat(CWD, &watchdog, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        let watch = WatchConfig { watchdog: Some(watchdog), ..WatchConfig::default() };
        RemoteConfig { watch, ..config }
    });
    let device = played.directory.path().join("watchdog");
    let mut device = File::options().read(true).write(true).open(device).unwrap();
    let mut fire = || device.write_all(&[1, 0, 0, 0]).unwrap();
    assert_eq!(played.host.watchdog(), None, "it is opened with the mailbox");
    played.attach();
    assert!(played.host.watchdog().is_some());
    assert!(played.host.on_watchdog(played.now).is_none());
    fire();
    assert!(matches!(played.host.on_watchdog(played.now), Some(Change::Lost(Loss::Watchdog))));
    fire();
    assert!(played.host.on_watchdog(played.now).is_none(), "it is lost already");
    played.order(&Order::Stop);
    fire();
    assert!(played.host.on_watchdog(played.now).is_none());
    assert_eq!((played.host.state(), played.host.timer()), (State::Detached, None));
}

#[test]
fn a_core_that_is_let_go_of_stays_so_until_it_is_started_though_its_memory_was_being_dumped() {
    let mut played =
        Played::listening(|config, directory| RemoteConfig { dump: Some(directory.to_owned()), ..config });
    played.attach();
    assert!(matches!(played.ring(0xF1), Some(Change::Lost(Loss::Crashed))));
    assert!(played.order(&Order::Stop).is_none());
    assert!(played.work().is_none());
    assert_eq!((played.host.state(), played.host.timer()), (State::Detached, None));
    assert!(played.ring(0xF0).is_none(), "it is nobody's business here");
    played.still.core.reboot().unwrap();
    played.order(&Order::Start);
    played.wait();
    assert!(matches!(played.ring(0xF7), Some(Change::Attached(_))));
}

#[test]
fn a_start_that_is_ordered_while_memory_is_dumped_is_carried_out_after_it() {
    let mut played = Played::listening(|config, directory| {
        let recovery = RecoveryConfig { policy: RecoveryPolicy::Off, ..RecoveryConfig::default() };
        RemoteConfig { dump: Some(directory.to_owned()), recovery, ..config }
    });
    played.attach();
    played.ring(0xF1);
    played.order(&Order::Start);
    assert!(played.work().is_none());
    played.still.core.reboot().unwrap();
    played.wait();
    assert!(matches!(played.ring(0xF7), Some(Change::Attached(_))));
}

#[test]
fn a_core_that_boots_while_its_memory_is_dumped_is_attached_to_after_it() {
    let mut played =
        Played::listening(|config, directory| RemoteConfig { dump: Some(directory.to_owned()), ..config });
    played.attach();
    played.ring(0xF1);
    assert_eq!((played.host.state(), played.host.timer()), (State::Crashed, None));
    played.still.core.reboot().unwrap();
    assert!(played.ring(0xF0).is_none());
    assert!(matches!(played.work(), Some(Change::Attached(_))));
}
