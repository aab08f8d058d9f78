//! A host in a folder.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use tempfile::TempDir;

use super::*;
use crate::operate::config;

/// Programs, files and UIO devices that a plan may find.
struct Folder {
    folder: TempDir,
}

impl Folder {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        for directory in ["class", "dev", "bin"] {
            fs::create_dir(folder.path().join(directory)).unwrap();
        }
        Folder { folder }
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).to_str().unwrap().to_owned()
    }

    fn file(&self, name: &str, mode: u32) {
        fs::write(self.path(name), "").unwrap();
        fs::set_permissions(self.path(name), fs::Permissions::from_mode(mode)).unwrap();
    }

    /// A UIO device with one page of registers or memory.
    fn uio(&self, number: u32, name: &str, address: u64) {
        let device = self.path(&format!("class/uio{number}"));
        let device = Path::new(&device);
        let map = device.join("maps/map0");
        fs::create_dir_all(&map).unwrap();
        for (file, text) in
            [("addr", format!("{address:#x}")), ("size", "0x1000".into()), ("offset", "0x0".into())]
        {
            fs::write(map.join(file), text).unwrap();
        }
        fs::write(device.join("name"), name).unwrap();
        self.file(&format!("dev/uio{number}"), 0o600);
    }

    /// What is missing for a configuration, in which `@` is the folder.
    fn missing(&self, text: &str) -> Vec<String> {
        let file = self.path("board.toml");
        fs::write(&file, text.replace('@', &self.path(""))).unwrap();
        let plan = config::load(Path::new(&file), &config::Sources::of_host())
            .unwrap_or_else(|error| panic!("{error}"));
        let path = self.path("bin");
        let uio = UioDevices::new(Path::new(&self.path("class")), Path::new(&self.path("dev")));
        let mut host = Host { uio, path: OsStr::new(&path), missing: Vec::new() };
        plan.remotes.iter().for_each(|remote| host.remote(remote));
        host.missing.iter().map(|note| note.replace(&self.path(""), "@")).collect()
    }
}

const VM: &str = "[[vm]]\nname = \"a\"\nsocket = \"@a.sock\"\n";

#[test]
fn files_and_programs_are_missed_until_they_are_there_and_may_be_used() {
    let text = [
        r#"[[remote]]
name = "core"
link = "socket"
doorbell = "@doorbell"
watchdog = "@watchdog"
dump = "@dumps"
[[remote.memory]]
path = "@memory"
size = 0x1000
device-address = 0x20000000
[remote.boot]
firmware = "@firmware.elf"
start = ["power", "on"]
stop = ["@power-off"]
"#,
        VM,
    ]
    .concat();
    let folder = Folder::new();
    let gone = |what: &str| format!("remote core: {what}: No such file or directory (os error 2)");
    assert_eq!(
        folder.missing(&text),
        [
            gone("doorbell: @doorbell"),
            gone("memory: @memory"),
            gone("firmware: @firmware.elf"),
            "remote core: start: power: no such program in PATH".to_owned(),
            gone("stop: @power-off"),
            gone("watchdog: @watchdog"),
            gone("dump: @dumps/."),
        ]
    );

    for file in ["doorbell", "memory", "firmware.elf", "watchdog", "dumps"] {
        folder.file(file, 0o600);
    }
    // Programs that nobody may run, not even root.
    folder.file("bin/power", 0o600);
    folder.file("power-off", 0o600);
    assert_eq!(
        folder.missing(&text),
        [
            "remote core: start: power: no such program in PATH",
            "remote core: stop: @power-off: Permission denied (os error 13)",
            "remote core: dump: @dumps/.: Not a directory (os error 20)",
        ]
    );

    folder.file("bin/power", 0o700);
    folder.file("power-off", 0o700);
    fs::remove_file(folder.path("dumps")).unwrap();
    fs::create_dir(folder.path("dumps")).unwrap();
    assert_eq!(folder.missing(&text), [""; 0]);
    assert!(!Path::new(&folder.path("a.sock")).exists(), "nothing is made");
}

#[test]
fn uio_devices_are_missed_by_their_addresses_and_names() {
    let text = [
        r#"[[remote]]
name = "m4"
link = "uio"
resource-table = 0x20000000
[remote.mailbox]
kind = "stm32-ipcc"
address = 0x4c001000
receive-device = "ipcc-rx"
transmit-device = "ipcc-tx"
[[remote.memory]]
size = 0x1000
physical-address = 0x20000000
"#,
        VM,
    ]
    .concat();
    let folder = Folder::new();
    folder.uio(0, "ipcc-rx", 0x4c00_1000);
    let missing = folder.missing(&text);
    assert_eq!(missing.len(), 2, "{missing:?}");
    let wanted =
        "remote m4: mailbox: no UIO device called \"ipcc-tx\" maps the physical addresses 0x4c001000..";
    assert!(missing[0].starts_with(wanted), "{missing:?}");
    let wanted = "remote m4: memory: no UIO device maps the physical addresses 0x20000000..0x20001000";
    assert!(missing[1].starts_with(wanted), "{missing:?}");

    folder.uio(1, "ipcc-tx", 0x4c00_1000);
    folder.uio(2, "carveout", 0x2000_0000);
    assert_eq!(folder.missing(&text), [""; 0]);
    fs::remove_file(folder.path("dev/uio2")).unwrap();
    assert_eq!(
        folder.missing(&text),
        ["remote m4: memory: @dev/uio2: No such file or directory (os error 2)"]
    );
}

#[test]
fn a_host_without_uio_is_told_once_for_each_purpose_and_the_built_in_core_needs_nothing() {
    let folder = Folder::new();
    fs::remove_dir(folder.path("class")).unwrap();
    let text = [
        r#"[[remote]]
name = "r5"
link = "uio"
resource-table = 0x3ed00000
[remote.mailbox]
kind = "zynqmp-ipi"
address = 0xff340000
request-buffer = 0xff990600
remote-bit = 8
[[remote.memory]]
path = "@memory"
size = 0x100000
physical-address = 0x3ed00000
"#,
        VM,
    ]
    .concat();
    folder.file("memory", 0o600);
    let missing = folder.missing(&text);
    assert_eq!(missing.len(), 1, "{missing:?}");
    assert!(
        missing[0].starts_with("remote r5: mailbox: cannot list the UIO devices in @class"),
        "{missing:?}"
    );

    let loopback = ["[[remote]]\nname = \"core\"\nlink = \"loopback\"\n", VM].concat();
    assert_eq!(folder.missing(&loopback), [""; 0]);
}
