//! Attaching to a remote core and living with it, against the soft core's memory and a doorbell held by the test.

use std::io::{Read, Write};
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use rustix::fs::{CWD, FileType, Mode, mknodat};

use super::attach::{AttachError, Attachment, attach};
use super::config::{BootConfig, MailboxConfig, MemoryConfig, RemoteConfig, VringsConfig, WatchConfig};
use super::core::{Change, Loss, RemoteCore, State};
use super::layout::Layout;
use super::memory::{Access, Carveouts, Region};
use super::power::Switch;
use super::recovery::{RecoveryConfig, RecoveryPolicy};
use crate::causes::Causes;
use crate::softcore::{Config, Memory, SoftCore};

/// A remote's memory with a table in it, and nobody behind it.
struct Still {
    core: SoftCore,
    config: Config,
}

impl Still {
    fn new(config: Config) -> Self {
        let memory = Memory::memfd(&config.layout().unwrap()).unwrap();
        Still { core: SoftCore::new(config.clone(), memory).unwrap(), config }
    }

    fn table_address(&self) -> u64 {
        self.config.layout().unwrap().table_address().into()
    }

    fn device_address(&self) -> u64 {
        self.core.memory().device_address().into()
    }

    fn carveouts(&self) -> Carveouts {
        self.carveouts_of(usize::try_from(self.core.memory().size()).unwrap())
    }

    fn carveouts_of(&self, size: usize) -> Carveouts {
        let file = self.core.memory().file().try_clone().unwrap();
        Carveouts::new(vec![Region::map(&file, 0, size, self.device_address(), Access::Normal).unwrap()])
    }

    fn table(&self) -> Vec<u8> {
        let mut bytes = vec![0; 1024];
        self.core
            .memory()
            .file()
            .read_exact_at(&mut bytes, self.table_address() - self.device_address())
            .unwrap();
        bytes
    }

    /// Offset of the vdev entry: type 3, id 7.
    fn vdev(&self) -> usize {
        self.vdev_of(7)
    }

    fn vdev_of(&self, id: u8) -> usize {
        let table = self.table();
        (0..table.len() - 8).find(|at| table[*at..*at + 8] == [3, 0, 0, 0, id, 0, 0, 0]).unwrap()
    }

    fn poke(&self, offset: usize, bytes: &[u8]) {
        let at = self.table_address() - self.device_address() + offset as u64;
        self.core.memory().file().write_all_at(bytes, at).unwrap();
    }

    fn layout(&self) -> Layout {
        Layout::Table { address: self.table_address() }
    }

    fn attach(&self) -> Result<Attachment, AttachError> {
        attach(&self.carveouts(), &self.layout()).map(|(attachment, _)| attachment)
    }

    /// Why attaching fails, in one line.
    fn refusal(&self) -> String {
        Causes(&self.attach().unwrap_err()).to_string()
    }
}

#[test]
fn attaching_writes_addresses_notifyids_and_features_and_detaching_puts_the_clean_table_back() {
    for fixed_vrings in [false, true] {
        let still = Still::new(Config { fixed_vrings, ..Config::default() });
        let clean = still.table();
        let device = still.attach().unwrap();
        let (table, vdev) = (still.table(), still.vdev());
        let word = |at: usize| u32::from_le_bytes(table[at..at + 4].try_into().unwrap());
        assert_eq!((table[vdev + 24], word(vdev + 16)), (7, 1), "status and accepted features");
        for (vring, notifyid) in [(vdev + 28, 0), (vdev + 48, 1)] {
            let end = still.device_address() + still.core.memory().size();
            assert!((still.device_address()..end).contains(&word(vring).into()), "address of the vring");
            assert_eq!(word(vring + 12), notifyid);
        }
        device.detach();
        assert_eq!(still.table(), clean);
    }
}

#[test]
fn features_that_are_not_understood_are_never_accepted() {
    let still = Still::new(Config::default());
    still.poke(still.vdev() + 12, &0xFFFF_FFFF_u32.to_le_bytes());
    still.attach().unwrap();
    assert_eq!(still.table()[still.vdev() + 16..][..4], [1, 0, 0, 0]);
}

#[test]
fn a_table_that_is_missing_or_wrong_is_refused_with_the_reason() {
    let still = Still::new(Config::default());
    still.poke(0, &[0; 4]);
    let text = still.refusal();
    assert!(text.contains("no valid resource table at device address") && text.contains("version"), "{text}");

    let elsewhere = attach(&still.carveouts(), &Layout::Table { address: 0x100 }).unwrap_err();
    assert!(Causes(&elsewhere).to_string().contains("the regions are"), "{}", Causes(&elsewhere));
}

#[test]
fn a_table_without_a_usable_rpmsg_device_is_refused_with_what_it_has() {
    let still = Still::new(Config::default());
    still.poke(still.vdev() + 4, &[3]);
    assert!(
        still.refusal().contains("no virtio device with id 7 (rpmsg); it has id 3"),
        "{}",
        still.refusal()
    );
    still.poke(still.vdev_of(3) + 4, &[7]);
    still.poke(still.vdev() + 25, &[1]);
    assert!(still.refusal().contains("has 1 vrings, expected 2"), "{}", still.refusal());
}

#[test]
fn a_device_with_a_driver_is_left_alone_with_what_to_do_about_it() {
    let still = Still::new(Config::default());
    still.poke(still.vdev() + 24, &[7]);
    let before = still.table();
    assert!(still.refusal().contains("restart the remote core"), "{}", still.refusal());
    assert_eq!(still.table(), before);
}

#[test]
fn vrings_outside_memory_and_memory_that_is_too_small_are_refused_before_anything_is_written() {
    let still = Still::new(Config { fixed_vrings: true, ..Config::default() });
    still.poke(still.vdev() + 28, &0x4000_0000_u32.to_le_bytes());
    let before = still.table();
    let text = still.refusal();
    assert!(
        text.contains("vdev0vring0 is not in the remote core's memory") && text.contains("0x40000000"),
        "{text}"
    );
    assert_eq!(still.table(), before);

    let still = Still::new(Config::default());
    let small = attach(&still.carveouts_of(0x8000), &still.layout()).unwrap_err();
    assert!(matches!(small, AttachError::NoRoom { .. }), "{}", Causes(&small));
}

/// A remote core of which the test plays the part.
struct Played {
    host: RemoteCore,
    bell: UnixStream,
    still: Still,
    now: Instant,
}

impl Played {
    fn new(attach_after: Option<Duration>) -> Self {
        Self::with(|config| RemoteConfig { attach_after, ..config })
    }

    /// With a configuration that is made of the usual one.
    fn with(change: impl FnOnce(RemoteConfig) -> RemoteConfig) -> Self {
        let still = Still::new(Config::default());
        let (host, bell) = UnixStream::pair().unwrap();
        bell.set_nonblocking(true).unwrap();
        let now = Instant::now();
        let file = still.core.memory().file().try_clone().unwrap();
        let size = usize::try_from(still.core.memory().size()).unwrap();
        let config = RemoteConfig::attached(
            "played",
            MailboxConfig::Stream(Some(host)),
            vec![MemoryConfig::whole(file, size, still.device_address())],
            VringsConfig::Table(still.table_address()),
        );
        let config = change(config);
        Played { host: RemoteCore::new(config, now), bell, still, now }
    }

    /// Time passes until the host's timer is due; returns what it makes of it.
    fn wait(&mut self) -> Option<Change> {
        self.now = self.host.timer().unwrap();
        self.host.on_timer(self.now)
    }

    fn ring(&mut self, byte: u8) -> Option<Change> {
        self.bell.write_all(&[byte]).unwrap();
        self.host.on_mailbox(self.now)
    }

    /// Everything that the host has rung since the last look.
    fn heard(&mut self) -> Vec<u8> {
        let mut bytes = [0; 256];
        let count = self.bell.read(&mut bytes).unwrap_or(0);
        bytes[..count].to_vec()
    }
}

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
    assert!(played.wait().is_none(), "a connection that was given cannot be made again");
}
