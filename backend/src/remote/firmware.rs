//! Firmware: an ELF file that is read and checked as a whole, and then loaded into the carveouts.
//!
//! What Linux's remoteproc takes is taken here (`drivers/remoteproc/remoteproc_elf_loader.c`): 32 and 64 bit,
//! little-endian, of any type (mostly `ET_EXEC`) and for any machine. Every `PT_LOAD` segment goes to the *device
//! address* that its `p_paddr` names; what it has in memory beyond the file is cleared. The entry point is where the
//! core starts. The resource table is the section `.resource_table`, at the device address where its segment puts it.
//!
//! Nothing is written before everything is known to fit. The core must not run while it is loaded.
#![forbid(unsafe_code)]

#[cfg(test)]
mod tests;

use std::fs::File;
use std::io::{self, Read};
use std::ops::Range;
use std::path::{Path, PathBuf};

use log::warn;
use object::LittleEndian;
use object::elf::{FileHeader32, FileHeader64, PT_LOAD, SHT_NOBITS};
use object::read::FileKind;
use object::read::elf::{FileHeader, ProgramHeader, SectionHeader};
use thiserror::Error;

use super::memory::{CarveoutError, Carveouts, before_kick};

/// Largest firmware file, in bytes. It is held in memory as a whole; those of large DSPs with all their debug
/// information have some 30 MiB.
pub const MAX_FILE: u64 = 64 << 20;

/// Section with the resource table (`rproc_elf_find_rsc_table` of Linux).
const TABLE_SECTION: &[u8] = b".resource_table";

/// Why firmware cannot be loaded.
#[derive(Debug, Error)]
pub enum FirmwareError {
    /// The file could not be read.
    #[error("cannot read the firmware {path}", path = path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A directory, a device or a pipe.
    #[error("the firmware {path} is not a regular file; name the ELF file itself", path = path.display())]
    NotAFile {
        /// What was named.
        path: PathBuf,
    },
    /// The file is larger than any firmware.
    #[error(
        "the firmware {path} is longer than the {MAX_FILE} bytes that are accepted; strip its debug information",
        path = path.display()
    )]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
    /// Something else than an ELF file.
    #[error(
        "the firmware {path} is no ELF file: it starts with \"{found}\", expected \"\\x7fELF\"; convert or link it",
        path = path.display()
    )]
    NotElf {
        /// The file.
        path: PathBuf,
        /// Its first bytes, escaped.
        found: String,
    },
    /// A core dump of some program.
    #[error("{path} is a core dump, expected firmware; name the ELF file that was linked", path = path.display())]
    CoreDump {
        /// The file.
        path: PathBuf,
    },
    /// An ELF file that is damaged or for a big-endian core.
    #[error(
        "the firmware {path} is not a whole, little-endian ELF file; copy it or link it anew",
        path = path.display()
    )]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: object::read::Error,
    },
    /// There is nothing to load.
    #[error(
        "the firmware {path} has nothing to load: none of its {headers} program headers is a PT_LOAD with a size; is it \
         a linked program, and not an object file?",
        path = path.display()
    )]
    NothingToLoad {
        /// The file.
        path: PathBuf,
        /// Program headers that it has.
        headers: usize,
    },
    /// A segment with more bytes in the file than in memory.
    #[error(
        "segment {segment} of the firmware {path}, for device address {address:#x}, has {file_size:#x} bytes in the \
         file, expected at most the {memory_size:#x} bytes that it has in memory; link it anew",
        path = path.display()
    )]
    SegmentSizes {
        /// The file.
        path: PathBuf,
        /// Number of the program header.
        segment: usize,
        /// Where it is to go.
        address: u64,
        /// Its size in the file, in bytes.
        file_size: u64,
        /// Its size in memory, in bytes.
        memory_size: u64,
    },
    /// A segment that the file does not hold.
    #[error(
        "segment {segment} of the firmware {path}, for device address {address:#x}, has {file_size:#x} bytes at \
         offset {offset:#x}, but the file ends at {found:#x}; was it copied whole?",
        path = path.display()
    )]
    SegmentTruncated {
        /// The file.
        path: PathBuf,
        /// Number of the program header.
        segment: usize,
        /// Where it is to go.
        address: u64,
        /// Where in the file it starts, in bytes.
        offset: u64,
        /// Its size in the file, in bytes.
        file_size: u64,
        /// Size of the file, in bytes.
        found: usize,
    },
    /// A segment that no carveout holds.
    #[error(
        "segment {segment} of the firmware {path} does not fit into the remote core's memory; configure memory where \
         the firmware is linked to, or link it to what there is",
        path = path.display()
    )]
    NoMemory {
        /// The file.
        path: PathBuf,
        /// Number of the program header.
        segment: usize,
        /// Its addresses, and the regions.
        #[source]
        source: CarveoutError,
    },
}

/// Where firmware has its resource table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TablePlace {
    /// Device address.
    pub address: u64,
    /// Length in bytes.
    pub len: u64,
}

/// What has to be known of firmware once it is in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Loaded {
    /// Where the core starts: the entry point, a device address.
    pub entry: u64,
    /// Its resource table, if it has one that was loaded.
    pub table: Option<TablePlace>,
}

/// Firmware that has been read and checked.
#[derive(Debug)]
pub struct Firmware {
    path: PathBuf,
    bytes: Vec<u8>,
    segments: Vec<Segment>,
    loaded: Loaded,
}

/// A segment to be loaded, within the file and no larger there than in memory.
#[derive(Debug)]
struct Segment {
    /// Number of its program header.
    number: usize,
    /// Device address.
    address: u64,
    /// Its bytes in the file.
    file: Range<usize>,
    /// Its size in memory, in bytes.
    memory_size: usize,
}

impl Firmware {
    /// Reads firmware and checks all that can be checked without knowing the memory it is for. `path` is what the file is
    /// called.
    ///
    /// # Errors
    /// A file that cannot be read, is too large, or is no ELF file with segments that are whole.
    pub fn read(path: &Path, file: &File) -> Result<Self, FirmwareError> {
        let failed = |source| FirmwareError::Read { path: path.to_owned(), source };
        let mut bytes = Vec::new();
        let read = file.take(MAX_FILE + 1).read_to_end(&mut bytes).map_err(failed)?;
        if read as u64 > MAX_FILE {
            return Err(FirmwareError::TooLarge { path: path.to_owned() });
        }
        Self::parse(path, bytes)
    }

    /// The resource table, if there is one that gets loaded.
    pub fn resource_table(&self) -> Option<TablePlace> {
        self.loaded.table
    }

    /// Writes the segments into a remote core's memory, in the order of the program headers. Memory between them is
    /// left as it is.
    ///
    /// # Errors
    /// A segment that does not lie within one region. Nothing has been written then.
    pub fn load(&self, carveouts: &Carveouts) -> Result<Loaded, FirmwareError> {
        let places = self.segments.iter().map(|segment| {
            carveouts.slice(segment.address, segment.memory_size, 1).map_err(|source| {
                FirmwareError::NoMemory { path: self.path.clone(), segment: segment.number, source }
            })
        });
        let places: Vec<_> = places.collect::<Result<_, _>>()?;
        for (segment, place) in self.segments.iter().zip(places) {
            let bytes = &self.bytes[segment.file.clone()];
            place.write_bytes(0, bytes);
            place.write_zeros(bytes.len(), segment.memory_size - bytes.len());
        }
        // The core is started by a register, a command or a file: all of it must be there before.
        before_kick();
        Ok(self.loaded)
    }

    fn parse(path: &Path, bytes: Vec<u8>) -> Result<Self, FirmwareError> {
        match FileKind::parse(&*bytes) {
            Ok(FileKind::Elf32) => Self::parse_class::<FileHeader32<LittleEndian>>(path, bytes),
            Ok(FileKind::Elf64) => Self::parse_class::<FileHeader64<LittleEndian>>(path, bytes),
            _ => Err(FirmwareError::not_elf(path, &bytes)),
        }
    }

    fn parse_class<Elf: FileHeader<Endian = LittleEndian>>(
        path: &Path,
        bytes: Vec<u8>,
    ) -> Result<Self, FirmwareError> {
        let malformed = |source| FirmwareError::Malformed { path: path.to_owned(), source };
        let header = Elf::parse(&*bytes).map_err(malformed)?;
        let endian = header.endian().map_err(malformed)?;
        let headers = header.program_headers(endian, &*bytes).map_err(malformed)?;
        let loadable = headers
            .iter()
            .enumerate()
            .filter(|(_, segment)| segment.p_type(endian) == PT_LOAD && segment.p_memsz(endian).into() != 0);
        let segments: Vec<_> = loadable
            .map(|(number, segment)| Segment::check(path, number, segment, bytes.len()))
            .collect::<Result<_, _>>()?;
        if segments.is_empty() {
            return Err(FirmwareError::NothingToLoad { path: path.to_owned(), headers: headers.len() });
        }
        let sections = header.sections(endian, &*bytes).map_err(malformed)?;
        let section = sections.section_by_name(endian, TABLE_SECTION);
        let table =
            section.filter(|(_, section)| section.sh_size(endian).into() != 0).and_then(|(_, section)| {
                let place = loaded_place(&segments, section);
                if place.is_none() {
                    warn!(
                        "firmware {}: its section .resource_table is in no loaded segment, and of no use",
                        path.display()
                    );
                }
                place
            });
        let loaded = Loaded { entry: header.e_entry(endian).into(), table };
        Ok(Firmware { path: path.to_owned(), bytes, segments, loaded })
    }
}

impl FirmwareError {
    /// For a file that starts with these bytes.
    pub(super) fn not_elf(path: &Path, bytes: &[u8]) -> Self {
        let found = bytes[..bytes.len().min(4)].escape_ascii().to_string();
        FirmwareError::NotElf { path: path.to_owned(), found }
    }
}

impl Segment {
    fn check<Header: ProgramHeader<Endian = LittleEndian>>(
        path: &Path,
        number: usize,
        header: &Header,
        file_len: usize,
    ) -> Result<Self, FirmwareError> {
        let address = header.p_paddr(LittleEndian).into();
        let (offset, file_size) = header.file_range(LittleEndian);
        let memory_size = header.p_memsz(LittleEndian).into();
        if file_size > memory_size {
            return Err(FirmwareError::SegmentSizes {
                path: path.to_owned(),
                segment: number,
                address,
                file_size,
                memory_size,
            });
        }
        let file = within(offset, file_size, file_len).ok_or_else(|| FirmwareError::SegmentTruncated {
            path: path.to_owned(),
            segment: number,
            address,
            offset,
            file_size,
            found: file_len,
        })?;
        // More than a `usize` holds fits into no region, and neither does the largest `usize`.
        let memory_size = usize::try_from(memory_size).unwrap_or(usize::MAX);
        Ok(Segment { number, address, file, memory_size })
    }
}

/// The device address to which the segments bring a section, if one of them holds it.
fn loaded_place<Header: SectionHeader<Endian = LittleEndian>>(
    segments: &[Segment],
    section: &Header,
) -> Option<TablePlace> {
    if section.sh_type(LittleEndian) == SHT_NOBITS {
        return None;
    }
    let (offset, len) = (section.sh_offset(LittleEndian).into(), section.sh_size(LittleEndian).into());
    segments.iter().find_map(|segment| {
        let file = within(offset, len, segment.file.end)?;
        let distance = file.start.checked_sub(segment.file.start)?;
        Some(TablePlace { address: segment.address.checked_add(distance as u64)?, len })
    })
}

/// The range of `len` bytes from `offset` on, if it ends at `end` or before.
fn within(offset: u64, len: u64, end: usize) -> Option<Range<usize>> {
    let range = usize::try_from(offset).ok()?..usize::try_from(offset.checked_add(len)?).ok()?;
    (range.end <= end).then_some(range)
}
