//! UIO: hardware handed to a program by the kernel, found by its physical address.
//!
//! | where | what it says |
//! |---|---|
//! | `/sys/class/uio/uioN/name` | name of the device tree node, or its `linux,uio-name` |
//! | `.../maps/mapM/addr`, `size` | physical address and size in bytes of what can be mapped: whole pages |
//! | `.../maps/mapM/offset` | where the controller starts in the first page |
//! | `/dev/uioN` | to be mapped at M times the page size; its interrupt is described at [`Interrupt`](super::Interrupt) |
//!
//! Source: Linux `Documentation/driver-api/uio-howto.rst`, `drivers/uio/uio.c`, `uio_pdrv_genirq.c`.

use std::fmt;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, open};
use rustix::param::page_size;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::MappedRegisters;

/// The UIO devices of a machine.
#[derive(Clone, Debug)]
pub struct UioDevices {
    class: PathBuf,
    nodes: PathBuf,
}

impl Default for UioDevices {
    /// Those of the running system.
    fn default() -> Self {
        Self::new(Path::new("/sys/class/uio"), Path::new("/dev"))
    }
}

/// A stretch of physical addresses that a UIO device maps.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UioMap {
    /// Its device node.
    pub device: PathBuf,
    /// Number of the map.
    pub index: u32,
    /// Where the stretch starts in the map, in bytes.
    pub offset: u64,
    /// Bytes from there to the end of the map.
    pub size: u64,
}

/// A UIO device that is open.
#[derive(Debug)]
pub struct UioDevice {
    /// What of it is wanted.
    pub map: UioMap,
    /// Its node.
    pub file: File,
}

/// A stretch of physical addresses that some UIO device must map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WantedRegisters<'a> {
    /// The first physical address.
    pub address: u64,
    /// Size in bytes.
    pub size: u64,
    /// What the device must be called, where there are several with the address.
    pub name: Option<&'a str>,
}

/// Why a UIO device cannot be used.
#[derive(Debug, Error)]
pub enum UioError {
    /// The machine has no UIO at all.
    #[error("cannot list the UIO devices in {class}; is the kernel module uio_pdrv_genirq loaded?", class = class.display())]
    NoClass {
        /// Where they are looked for.
        class: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// None of the UIO devices is the right one.
    #[error(
        "no UIO device{named} maps the physical addresses {start:#x}..{end:#x}, there are {devices}; bind the device tree node with these addresses to uio_pdrv_genirq (compatible = \"generic-uio\" with the module's of_id=generic-uio, or driver_override)",
        named = named.as_ref().map_or_else(String::new, |name| format!(" called {name:?}")),
        end = u128::from(*start) + u128::from(*size)
    )]
    NotFound {
        /// First physical address.
        start: u64,
        /// Size in bytes.
        size: u64,
        /// The name that it had to have.
        named: Option<String>,
        /// The maps that there are.
        devices: String,
    },
    /// The device node could not be opened.
    #[error(
        "cannot open the UIO device {device} for reading and writing; give the user of this program access to it, by a udev rule for SUBSYSTEM==\"uio\" for example", device = device.display()
    )]
    Open {
        /// Its device node.
        device: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The registers could not be mapped.
    #[error("cannot map {len:#x} bytes at offset {offset:#x} of map {index} of the UIO device {device}", device = device.display())]
    Map {
        /// Its device node.
        device: PathBuf,
        /// Number of the map.
        index: u32,
        /// Offset in the map, in bytes.
        offset: u64,
        /// Size in bytes.
        len: usize,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

/// One map of one device, as sysfs tells of it.
#[derive(Debug)]
struct Entry {
    number: u32,
    name: String,
    index: u32,
    address: u64,
    size: u64,
    start: u64,
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (end, start) = (u128::from(self.address) + u128::from(self.size), self.address);
        write!(f, "uio{} {:?} map {} {start:#x}..{end:#x}", self.number, self.name, self.index)
    }
}

impl Entry {
    /// Reads a map, if it is one and has not vanished meanwhile.
    fn read(device: &Path, number: u32, map: &Path) -> Option<Self> {
        let index = number_of(map, "map")?;
        let number_in = |file: &str| {
            let text = fs::read_to_string(map.join(file)).ok()?;
            u64::from_str_radix(text.trim().strip_prefix("0x")?, 16).ok()
        };
        Some(Entry {
            number,
            name: fs::read_to_string(device.join("name")).ok()?.trim().to_owned(),
            index,
            address: number_in("addr")?,
            size: number_in("size")?,
            start: number_in("offset")?,
        })
    }

    /// Where a physical range starts in this map, if it is in it whole.
    fn offset_of(&self, start: u64, size: u64) -> Option<u64> {
        let offset = start.checked_sub(self.address)?;
        (offset.checked_add(size)? <= self.size).then_some(offset)
    }
}

impl UioDevices {
    /// Those that the directory `class` lists (`/sys/class/uio`) and that have their nodes in the directory `nodes` (`/dev`).
    pub fn new(class: &Path, nodes: &Path) -> Self {
        UioDevices { class: class.to_owned(), nodes: nodes.to_owned() }
    }

    /// Finds the map that holds the `size` bytes from the physical address `start` on, of a device called `name` where
    /// one is given. Serves controllers and carveouts alike. Several controllers can lie in one page: a map whose
    /// controller starts at `start` is taken before one that merely holds it.
    ///
    /// # Errors
    /// No UIO in the kernel, or no such device; what there is is told.
    pub fn find(&self, start: u64, size: u64, name: Option<&str>) -> Result<UioMap, UioError> {
        let entries = self.entries()?;
        let fitting = entries.iter().filter(|entry| name.is_none_or(|name| entry.name == name));
        let fitting = fitting.filter_map(|entry| Some((entry, entry.offset_of(start, size)?)));
        let Some((entry, offset)) = fitting.min_by_key(|(entry, offset)| *offset != entry.start) else {
            let devices: Vec<String> = entries.iter().map(ToString::to_string).collect();
            let devices = if devices.is_empty() { "none".to_owned() } else { devices.join(", ") };
            return Err(UioError::NotFound { start, size, named: name.map(str::to_owned), devices });
        };
        Ok(UioMap {
            device: self.nodes.join(format!("uio{}", entry.number)),
            index: entry.index,
            offset,
            size: entry.size - offset,
        })
    }

    /// All maps of all devices, in the order of their numbers.
    fn entries(&self) -> Result<Vec<Entry>, UioError> {
        let listed = fs::read_dir(&self.class)
            .map_err(|source| UioError::NoClass { class: self.class.clone(), source })?;
        let mut entries = Vec::new();
        for device in listed.flatten().map(|device| device.path()) {
            let Some(number) = number_of(&device, "uio") else { continue };
            // A device without maps has no such directory.
            let maps = fs::read_dir(device.join("maps")).into_iter().flatten().flatten();
            entries.extend(maps.filter_map(|map| Entry::read(&device, number, &map.path())));
        }
        entries.sort_by_key(|entry| (entry.number, entry.index));
        Ok(entries)
    }
}

impl UioMap {
    /// Where a mapping of this map starts in the device node, in bytes.
    pub fn file_offset(&self) -> u64 {
        u64::from(self.index) * page_size() as u64
    }

    /// Opens the device.
    ///
    /// # Errors
    /// Whatever the system says; no permission is the usual one.
    pub fn open(&self) -> Result<File, UioError> {
        open(&self.device, OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty())
            .map(File::from)
            .map_err(|error| UioError::Open { device: self.device.clone(), source: error.into() })
    }
}

impl UioDevice {
    /// Maps the first `len` bytes as registers.
    ///
    /// # Errors
    /// A device that cannot be mapped.
    pub(super) fn map(&self, len: usize) -> Result<MappedRegisters, UioError> {
        let map = &self.map;
        usize::try_from(map.offset)
            .ok()
            .filter(|start| start.is_multiple_of(4))
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "not aligned to 4 bytes"))
            .and_then(|start| MappedRegisters::map(&self.file, map.file_offset(), start, len))
            .map_err(|source| UioError::Map {
                device: map.device.clone(),
                index: map.index,
                offset: map.offset,
                len,
                source,
            })
    }
}

/// The number in a name such as `uio3` or `map0`.
fn number_of(path: &Path, prefix: &str) -> Option<u32> {
    path.file_name()?.to_str()?.strip_prefix(prefix)?.parse().ok()
}

#[cfg(test)]
pub(in crate::remote) mod tests;
