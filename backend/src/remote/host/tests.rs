//! Requests that are carried out in this process.

use std::fs;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::Arc;

use rustix::fs::{CWD, FileType, Mode, OFlags, fcntl_getfl, fcntl_setfl, mknodat};
use rustix::net::{AddressFamily, Shutdown, SocketAddrUnix, SocketFlags, SocketType, shutdown, socket_with};
use rustix::param::page_size;
use tempfile::TempDir;

use super::*;
use crate::causes::Causes;
use crate::remote::config::{
    BootConfig, HardwareMailbox, MailboxConfig, MemoryConfig, MemoryFile, RemoteConfig, VringsConfig,
    WatchConfig,
};
use crate::remote::firmware::FirmwareError;
use crate::remote::mailbox::uio::tests::Tree;
use crate::remote::mailbox::{MuConfig, MuVersion, MuWord};
use crate::remote::memory::Access;
use crate::remote::power::Switch;

/// A remote core of which nothing is to be had from the host.
fn nothing() -> RemoteConfig {
    RemoteConfig::attached("m4", MailboxConfig::Stream(None), Vec::new(), VringsConfig::Table(0))
}

fn host(config: &RemoteConfig) -> Arc<dyn Host> {
    Arc::new(Direct::new(config))
}

fn told(error: &HostError) -> String {
    Causes(error).to_string()
}

#[test]
fn what_is_not_configured_cannot_be_asked_for() {
    let host = host(&nothing());
    for request in [
        Request::Memory(0),
        Request::Doorbell,
        Request::Mailbox(MailboxPart::First),
        Request::Mailbox(MailboxPart::Second),
        Request::Watchdog,
        Request::TableRegister,
        Request::Firmware(None),
        Request::Firmware(Some("/bin/true".into())),
        Request::Switch(Step::Start),
        Request::Switch(Step::Stop),
        Request::BeginDump,
        Request::EndDump { is_whole: true },
    ] {
        let answer = host.ask(&request);
        assert!(matches!(answer, Err(HostError::NotConfigured { .. })), "{request:?}: {answer:?}");
        let text = serde_json::to_string(&request).unwrap();
        assert_eq!(serde_json::from_str::<Request>(&text).unwrap(), request);
    }
}

/// A doorbell that is listened on, and a host that may connect to it.
fn doorbell() -> (TempDir, UnixListener, Arc<dyn Host>) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("doorbell");
    let listener = UnixListener::bind(&path).unwrap();
    let config = RemoteConfig { mailbox: MailboxConfig::Path(path), ..nothing() };
    (directory, listener, host(&config))
}

#[test]
fn who_asks_again_gets_the_same_connection_as_long_as_it_stands() {
    let (_directory, listener, host) = doorbell();
    drop(host.doorbell().unwrap());
    let (mut remote, _) = listener.accept().unwrap();
    remote.write_all(&[1]).unwrap();

    let mut again = host.doorbell().unwrap();
    let mut byte = [0];
    again.read_exact(&mut byte).unwrap();
    assert_eq!(byte, [1], "what came meanwhile is there");
    again.write_all(&[2]).unwrap();
    remote.read_exact(&mut byte).unwrap();
    assert_eq!(byte, [2]);
    listener.set_nonblocking(true).unwrap();
    assert!(listener.accept().is_err(), "nobody has connected a second time");
}

#[test]
fn a_connection_that_either_side_has_ended_has_a_successor() {
    let (_directory, listener, host) = doorbell();
    let stream = host.doorbell().unwrap();
    let (mut remote, _) = listener.accept().unwrap();
    shutdown(&stream, Shutdown::Both).unwrap();
    assert_eq!(remote.read(&mut [0]).unwrap(), 0, "the end is seen although the host keeps a duplicate");

    host.doorbell().unwrap();
    drop(listener.accept().unwrap());

    host.doorbell().unwrap();
    listener.accept().unwrap();
}

#[test]
fn a_remote_that_accepts_nobody_is_not_waited_for() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("doorbell");
    let listener = socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None).unwrap();
    rustix::net::bind(&listener, &SocketAddrUnix::new(&path).unwrap()).unwrap();
    rustix::net::listen(&listener, 0).unwrap();
    let config = RemoteConfig { mailbox: MailboxConfig::Path(path), ..nothing() };
    let mut waiting = Vec::new();
    let error = loop {
        let host = host(&config);
        match host.doorbell() {
            Ok(stream) => waiting.push(stream),
            Err(error) => break error,
        }
    };
    let HostError::Connect { source, .. } = error else { panic!("{error}") };
    assert_eq!(source.kind(), std::io::ErrorKind::WouldBlock);
    assert!(!waiting.is_empty());
}

#[test]
fn a_device_is_kept_open_and_a_file_is_not() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("watchdog");
    let is_same = |host: &dyn Host| {
        let (first, second) = (host.watchdog().unwrap(), host.watchdog().unwrap());
        let flags = fcntl_getfl(&first).unwrap();
        assert!(flags.contains(OFlags::NONBLOCK));
        fcntl_setfl(&first, flags ^ OFlags::APPEND).unwrap();
        fcntl_getfl(second.as_fd()).unwrap() != flags
    };
    let config = |watchdog: &Path| {
        let watch = WatchConfig { watchdog: Some(watchdog.to_owned()), ..WatchConfig::default() };
        host(&RemoteConfig { watch, ..nothing() })
    };
    std::os::unix::fs::symlink("/dev/null", &path).unwrap();
    let host = config(&path);
    assert!(is_same(&*host));
    fs::remove_file(&path).unwrap();
    fs::write(&path, "").unwrap();
    assert!(!is_same(&*host), "there is something else now");
    fs::remove_file(&path).unwrap();
    let error = told(&host.watchdog().unwrap_err());
    assert!(error.contains("cannot open its watchdog") && error.contains("No such file"), "{error}");
}

#[test]
fn memory_and_mailbox_are_found_among_the_uio_devices() {
    let tree = Tree::new();
    tree.add(2, "mu", &[(0x30AB_0000, 0x1000, 0)]);
    tree.add(5, "carveout", &[(0x8000_0000, 0x1000, 0), (0x9000_0000, 0x2000, 0)]);
    let mu = MuConfig { version: MuVersion::V1, channel: 1, word: MuWord::Shifted };
    let mailbox = MailboxConfig::Hardware(HardwareMailbox::ImxMu { address: 0x30AB_0000, config: mu });
    let memory = |file, physical_address| MemoryConfig {
        file,
        offset: 0x2000,
        size: 0x800,
        device_address: 0,
        physical_address,
        access: Access::Device,
        name: None,
        is_optional: false,
    };
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("memory");
    fs::write(&file, "").unwrap();
    let regions = vec![
        memory(MemoryFile::Uio, 0x9000_0800),
        memory(MemoryFile::Path(file.clone()), 0),
        memory(MemoryFile::Uio, 0xA000_0000),
    ];
    let config = RemoteConfig { mailbox, memory: regions, ..nothing() };
    let host: Arc<dyn Host> = Arc::new(Direct::new(&config).on_machine(tree.devices(), Path::new("")));

    let device = host.mailbox(MailboxPart::First).unwrap();
    assert!(device.map.device.ends_with("dev/uio2"));
    assert!(matches!(host.mailbox(MailboxPart::Second), Err(HostError::NotConfigured { .. })));
    let (_, place) = host.memory(0).unwrap();
    assert_eq!((place.offset, place.skipped), (page_size() as u64, 0x800));
    let (_, place) = host.memory(1).unwrap();
    assert_eq!(place, MemoryPlace { offset: 0x2000, skipped: 0, name: file.display().to_string() });
    let error = told(&host.memory(2).unwrap_err());
    assert!(error.contains("at physical address 0xa0000000: no UIO device"), "{error}");
}

#[test]
fn the_register_with_the_address_of_the_table_is_read() {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    let mut registers = vec![0; 2 * page_size()];
    let at = page_size() + 0x144;
    registers[at..at + 4].copy_from_slice(&0x1000_0400_u32.to_le_bytes());
    file.write_all(&registers).unwrap();
    let read = |register: usize, file: &Path| {
        let vrings = VringsConfig::TableByRegister { register: register as u64, mask: 1 };
        let direct = Direct::new(&RemoteConfig { vrings, ..nothing() });
        let host: Arc<dyn Host> = Arc::new(direct.on_machine(Tree::new().devices(), file));
        host.table_register()
    };
    assert_eq!(read(at, file.path()).unwrap(), 0x1000_0400, "all of it, whatever the mask");
    assert!(matches!(read(4 * page_size(), file.path()), Err(HostError::MapRegister { .. })));
    assert!(matches!(read(at, Path::new("/nonexistent")), Err(HostError::OpenRegister { .. })));
}

#[test]
fn only_elf_files_that_are_no_core_dumps_are_opened_as_firmware() {
    let directory = tempfile::tempdir().unwrap();
    let write = |name: &str, bytes: &[u8]| {
        let path = directory.path().join(name);
        fs::write(&path, bytes).unwrap();
        path
    };
    let elf = |kind: u8| [b"\x7fELF\x01\x01\x01\0\0\0\0\0\0\0\0\0".as_slice(), &[kind, 0]].concat();
    let configured = write("m4.elf", &elf(2));
    let switch = Switch::Command { start: Vec::new(), stop: Vec::new() };
    let boot = BootConfig { firmware: Some(configured.clone()), switch, on_demand: false };
    let host = host(&RemoteConfig { boot: Some(boot), ..nothing() });

    let (mut file, path) = host.firmware(None).unwrap();
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).unwrap();
    assert_eq!((bytes, path), (elf(2), configured), "it is read from its start on");
    assert!(file.write(b"x").is_err(), "it can only be read");

    let other = write("other.elf", &elf(2));
    assert_eq!(host.firmware(Some(other.clone())).unwrap().1, other);
    let refused = |path| match host.firmware(Some(path)) {
        Err(HostError::Firmware(error)) => error,
        other => panic!("{other:?}"),
    };
    let text = write("shadow", b"root:$6$");
    assert!(matches!(refused(text), FirmwareError::NotElf { found, .. } if found == "root"));
    assert!(matches!(refused(write("empty", b"")), FirmwareError::NotElf { .. }));
    assert!(matches!(refused(write("core", &elf(4))), FirmwareError::CoreDump { .. }));
    assert!(matches!(refused(directory.path().to_owned()), FirmwareError::NotAFile { .. }));
    let pipe = directory.path().join("pipe");
    mknodat(CWD, &pipe, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    assert!(matches!(refused(pipe), FirmwareError::NotAFile { .. }));
    let missing = host.firmware(Some(directory.path().join("none.elf"))).unwrap_err();
    assert!(told(&missing).contains("No such file"), "{}", told(&missing));
}
