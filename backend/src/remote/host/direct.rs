//! A host that carries requests out in this process.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use jiff::Timestamp;
use object::elf::{ELFMAG, ET_CORE};
use rustix::fs::OFlags;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};

use super::held::{Held, Kept};
use super::{Answer, Host, HostError, MailboxPart, MemoryPlace, Request, Told};
use crate::remote::config::{
    BootConfig, HardwareMailbox, MailboxConfig, MemoryFile, RemoteConfig, VringsConfig,
};
use crate::remote::dump::Shelf;
use crate::remote::firmware::FirmwareError;
use crate::remote::mailbox::UioDevices;
use crate::remote::memory::{self, open_uncached};

/// Where the registers of the machine are, by their physical addresses.
const DEV_MEM: &str = "/dev/mem";

/// Bytes at the start of an ELF file up to the end of its type, which is at offset 16.
const ELF_TYPE_END: usize = 18;

/// Reaches the host for one remote core, as far as its configuration says.
#[derive(Debug)]
pub struct Direct {
    doorbell: Option<PathBuf>,
    mailbox: Option<HardwareMailbox>,
    /// None for a region that needs no host.
    memory: Vec<Option<MemorySource>>,
    table_register: Option<u64>,
    boot: Option<BootConfig>,
    watchdog: Option<PathBuf>,
    dumps: Option<Mutex<Shelf>>,
    uio: UioDevices,
    registers: PathBuf,
    held: Held,
}

/// Where a region of memory is.
#[derive(Debug)]
enum MemorySource {
    File { path: PathBuf, offset: u64 },
    Uio { address: u64, size: u64 },
}

impl Direct {
    /// Reaches what this configuration names, and nothing else.
    pub fn new(config: &RemoteConfig) -> Self {
        let (doorbell, mailbox) = match &config.mailbox {
            MailboxConfig::Path(path) => (Some(path.clone()), None),
            MailboxConfig::Hardware(mailbox) => (None, Some(mailbox.clone())),
            MailboxConfig::Stream(_) => (None, None),
        };
        let memory = config.memory.iter().map(|region| match &region.file {
            MemoryFile::Path(path) => Some(MemorySource::File { path: path.clone(), offset: region.offset }),
            MemoryFile::Uio => {
                Some(MemorySource::Uio { address: region.physical_address, size: region.size as u64 })
            }
            MemoryFile::Open(_) => None,
        });
        let table_register = match config.vrings {
            VringsConfig::TableByRegister { register, .. } => Some(register),
            _ => None,
        };
        let shelf = |directory: &PathBuf| Mutex::new(Shelf::new(&config.name, directory));
        Direct {
            doorbell,
            mailbox,
            memory: memory.collect(),
            table_register,
            boot: config.boot.clone(),
            watchdog: config.watch.watchdog.clone(),
            dumps: config.dump.as_ref().map(shelf),
            uio: UioDevices::default(),
            registers: DEV_MEM.into(),
            held: Held::default(),
        }
    }

    /// The same, on a machine with these UIO devices and this physical memory.
    #[cfg(test)]
    pub(super) fn on_machine(self, uio: UioDevices, registers: &Path) -> Self {
        Direct { uio, registers: registers.to_owned(), ..self }
    }

    fn memory(&self, region: usize) -> Result<Answer, HostError> {
        let source = configured(self.memory.get(region).and_then(Option::as_ref), "such region of memory")?;
        let (file, place) = match source {
            MemorySource::File { path, offset } => {
                let failed = |source| HostError::Memory { path: path.clone(), source };
                let open = || open_uncached(path).map(OwnedFd::from).map_err(failed);
                let name = path.display().to_string();
                (open()?, MemoryPlace { offset: *offset, skipped: 0, name })
            }
            MemorySource::Uio { address, size } => {
                let uio = |source| HostError::Uio { address: *address, source };
                let map = self.uio.find(*address, *size, None).map_err(uio)?;
                let open = || map.open().map(OwnedFd::from).map_err(uio);
                let file = self.held.device(Kept::Memory(region), &map.device, open, duplicate("memory"))?;
                let name = map.device.display().to_string();
                (file, MemoryPlace { offset: map.file_offset(), skipped: map.offset, name })
            }
        };
        Ok(Answer { told: Told::Memory(place), file: Some(file) })
    }

    fn mailbox(&self, part: MailboxPart) -> Result<Answer, HostError> {
        let mailbox = self.mailbox.as_ref().and_then(|mailbox| mailbox.registers(part));
        let wanted = configured(mailbox, "such UIO device of a mailbox")?;
        let map = self.uio.find(wanted.address, wanted.size, wanted.name);
        let map = map.map_err(HostError::Mailbox)?;
        let open = || map.open().map(OwnedFd::from).map_err(HostError::Mailbox);
        let file = self.held.device(Kept::Mailbox(part), &map.device, open, duplicate("mailbox"))?;
        Ok(Answer { told: Told::Uio(map), file: Some(file) })
    }

    fn doorbell(&self) -> Result<Answer, HostError> {
        let path = configured(self.doorbell.as_deref(), "doorbell socket")?;
        let failed = |source| HostError::Connect { path: path.to_owned(), source };
        let connect = || connect_to(path).map_err(|error| failed(error.into()));
        let file = self.held.connection(connect, failed)?;
        Ok(Answer { told: Told::Done, file: Some(file) })
    }

    fn watchdog(&self) -> Result<Answer, HostError> {
        let path = configured(self.watchdog.as_deref(), "watchdog")?;
        let failed = |source| HostError::Watchdog { path: path.to_owned(), source };
        let open = || {
            let device = File::options().read(true).write(true).custom_flags(nonblocking()).open(path);
            device.map(OwnedFd::from).map_err(failed)
        };
        let file = self.held.device(Kept::Watchdog, path, open, failed)?;
        Ok(Answer { told: Told::Done, file: Some(file) })
    }

    fn table_register(&self) -> Result<Answer, HostError> {
        let register = configured(self.table_register, "register with the address of the resource table")?;
        let path = &self.registers;
        let file = open_uncached(path);
        let file = file.map_err(|source| HostError::OpenRegister { path: path.clone(), register, source })?;
        let memory = memory::register(&file, register);
        let value = memory.map_err(|source| HostError::MapRegister { register, source })?.read_u32(0);
        Ok(Told::Value(value).into())
    }

    fn firmware(&self, named: Option<&Path>) -> Result<Answer, HostError> {
        let configured =
            configured(self.boot.as_ref().and_then(|boot| boot.firmware.as_deref()), "firmware")?;
        let path = named.unwrap_or(configured);
        let file = open_firmware(path)?.into();
        Ok(Answer { told: Told::Path(path.to_owned()), file: Some(file) })
    }
}

impl Host for Direct {
    fn ask(&self, request: &Request) -> Result<Answer, HostError> {
        match request {
            Request::Memory(region) => self.memory(*region),
            Request::Doorbell => self.doorbell(),
            Request::Mailbox(part) => self.mailbox(*part),
            Request::Watchdog => self.watchdog(),
            Request::TableRegister => self.table_register(),
            Request::Firmware(named) => self.firmware(named.as_deref()),
            Request::Switch(step) => {
                configured(self.boot.as_ref(), "switch")?.switch.turn(*step)?;
                Ok(Told::Done.into())
            }
            Request::BeginDump | Request::EndDump { .. } => {
                let dumps = configured(self.dumps.as_ref(), "directory for dumps")?;
                // A dump that is not whole is removed by the next one.
                let mut dumps = dumps.lock().unwrap_or_else(PoisonError::into_inner);
                Ok(match request {
                    Request::EndDump { is_whole: true } => Told::Path(dumps.end()?).into(),
                    Request::EndDump { is_whole: false } => {
                        dumps.discard();
                        Told::Done.into()
                    }
                    _ => Answer { told: Told::Done, file: Some(dumps.begin(Timestamp::now())?.into()) },
                })
            }
        }
    }
}

fn configured<T>(found: Option<T>, what: &'static str) -> Result<T, HostError> {
    found.ok_or(HostError::NotConfigured { what })
}

fn duplicate(what: &'static str) -> impl FnOnce(std::io::Error) -> HostError {
    move |source| HostError::Duplicate { what, source }
}

/// Connects to a socket that a remote core listens on. Nobody listening is the usual error, and `EAGAIN` that more are
/// waiting than it lets wait: by its own means the standard library would wait until it accepts somebody.
fn connect_to(path: &Path) -> rustix::io::Result<OwnedFd> {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    connect(&socket, &SocketAddrUnix::new(path)?)?;
    Ok(socket)
}

/// Opens firmware, if it is an ELF file and no core dump: what may be named at run time must not give away any other file.
fn open_firmware(path: &Path) -> Result<File, FirmwareError> {
    let failed = |source| FirmwareError::Read { path: path.to_owned(), source };
    // A pipe would have its open wait for a writer.
    let file = File::options().read(true).custom_flags(nonblocking()).open(path).map_err(failed)?;
    if !file.metadata().map_err(failed)?.is_file() {
        return Err(FirmwareError::NotAFile { path: path.to_owned() });
    }
    let mut start = [0; ELF_TYPE_END];
    let len = file.read_at(&mut start, 0).map_err(failed)?;
    let Some(rest) = start[..len].strip_prefix(&ELFMAG) else {
        return Err(FirmwareError::not_elf(path, &start[..len]));
    };
    let kind = rest.last_chunk().filter(|_| len == ELF_TYPE_END);
    if kind.is_some_and(|kind| [u16::from_le_bytes(*kind), u16::from_be_bytes(*kind)].contains(&ET_CORE.0)) {
        return Err(FirmwareError::CoreDump { path: path.to_owned() });
    }
    Ok(file)
}

fn nonblocking() -> i32 {
    OFlags::NONBLOCK.bits().cast_signed()
}
