//! Core dumps: the memory of a remote core in an ELF file, for a look at what it died of.
//!
//! The file is of type `ET_CORE` for no machine in particular (`EM_NONE`), as that of Linux's remoteproc
//! (`drivers/remoteproc/remoteproc_coredump.c`), but always of the 64-bit class. A `PT_NOTE` says whose memory it is and
//! when it was dumped; then each carveout is a `PT_LOAD` whose addresses are device addresses.
//!
//! A dump appears under its name when it is whole and on the disk. What a killed process has left of one is removed by
//! the next dump. A core that still runs changes its memory meanwhile: stop it before, or take what you get.
#![forbid(unsafe_code)]

mod files;
#[cfg(test)]
mod tests;

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use object::elf::{
    ELFCLASS64, ELFDATA2LSB, ELFMAG, ELFOSABI_NONE, EM_NONE, ET_CORE, EV_CURRENT, FileHeader64, Ident,
    NoteHeader32, NoteType, PF_R, PF_W, PF_X, PN_XNUM, PT_LOAD, PT_NOTE, ProgramHeader64, ProgramType,
    SHN_UNDEF,
};
use object::pod::{bytes_of, bytes_of_slice};
use object::{LittleEndian, U16, U32, U64};
use thiserror::Error;

use super::host::{Host, HostError};
use super::memory::{CarveoutSlice, Carveouts};

pub use files::{MAX_DUMPS, Shelf};

/// Bytes that are copied at a time.
const CHUNK: usize = 64 * 1024;

/// Name of the note.
const NOTE_NAME: &[u8] = b"vhost-device-rpmsg";
/// Its one type. Whatever the name, `readelf` takes small numbers in a core file for the registers of a Linux process.
const NOTE_TYPE: NoteType = NoteType(u32::from_le_bytes(*b"text"));

/// Why memory could not be dumped.
#[derive(Debug, Error)]
pub enum DumpError {
    /// More regions than program headers can be numbered.
    #[error("{found} memory regions, expected fewer than {PN_XNUM}; configure fewer and larger ones")]
    TooManyRegions {
        /// How many there are.
        found: usize,
    },
    /// No file can be made there.
    #[error("cannot create a core dump in {directory}; is it a directory that can be written to?", directory = directory.display())]
    Create {
        /// The directory.
        directory: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The host gives no file for it, or does not keep it.
    #[error(transparent)]
    Host(Box<HostError>),
    /// There is no dump that could be ended.
    #[error("there is no core dump that has been begun in {directory}", directory = directory.display())]
    NotBegun {
        /// The directory.
        directory: PathBuf,
    },
    /// It could not be written.
    #[error("cannot write a core dump of {size} bytes to {directory}; is there room?", directory = directory.display())]
    Write {
        /// The directory.
        directory: PathBuf,
        /// How large it was to be, in bytes.
        size: u64,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// It could not be brought to the disk.
    #[error("cannot bring a core dump to the disk in {directory}; is there room?", directory = directory.display())]
    Sync {
        /// The directory.
        directory: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// It could not be given its name.
    #[error("cannot name the core dump {path}", path = path.display())]
    Name {
        /// The name.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

/// Dumps the memory of `remote`, as it is called in the configuration, to a file on the [`Shelf`] that the host has in
/// `directory`. Returns the file.
///
/// # Errors
/// A directory that cannot be written to, a disk that is full. There is no new file then.
pub fn dump(
    host: &dyn Host,
    carveouts: &Carveouts,
    remote: &str,
    directory: &Path,
) -> Result<PathBuf, DumpError> {
    let asked = |error| DumpError::Host(Box::new(error));
    let image = Image::new(remote, carveouts)?;
    let mut file = host.begin_dump().map_err(asked)?;
    if let Err(source) = image.write_to(&mut file) {
        host.drop_dump().map_err(asked)?;
        return Err(DumpError::Write { directory: directory.to_owned(), size: image.len(), source });
    }
    host.keep_dump().map_err(asked)
}

/// What a dump consists of.
#[derive(Debug)]
pub struct Image {
    headers: Vec<u8>,
    regions: Vec<(u64, CarveoutSlice)>,
}

impl Image {
    /// The memory of `remote`, as it is called in the configuration, from now on.
    ///
    /// # Errors
    /// More regions than such a file has room for.
    pub fn new(remote: &str, carveouts: &Carveouts) -> Result<Self, DumpError> {
        let regions: Vec<_> = carveouts.slices().collect();
        Ok(Image { headers: headers(&regions, &note(remote, Timestamp::now()))?, regions })
    }

    /// Bytes of the file.
    #[expect(clippy::len_without_is_empty, reason = "there are always headers")]
    pub fn len(&self) -> u64 {
        self.headers.len() as u64 + self.regions.iter().map(|(_, memory)| memory.len() as u64).sum::<u64>()
    }

    /// Writes everything of the file's content. The memory is read as it is by then.
    ///
    /// # Errors
    /// What the system says.
    pub fn write_to(&self, file: &mut impl Write) -> io::Result<()> {
        file.write_all(&self.headers)?;
        let mut chunk = vec![0; CHUNK];
        for (_, memory) in &self.regions {
            for offset in (0..memory.len()).step_by(CHUNK) {
                let chunk = &mut chunk[..CHUNK.min(memory.len() - offset)];
                memory.read_into(offset, chunk);
                file.write_all(chunk)?;
            }
        }
        Ok(())
    }
}

/// All of the file that comes before the memory.
fn headers(regions: &[(u64, CarveoutSlice)], note: &[u8]) -> Result<Vec<u8>, DumpError> {
    let too_many = || DumpError::TooManyRegions { found: regions.len() };
    let count =
        u16::try_from(regions.len() + 1).ok().filter(|count| *count < PN_XNUM).ok_or_else(too_many)?;
    let file_size = size_of::<FileHeader64<LittleEndian>>();
    let program_size = size_of::<ProgramHeader64<LittleEndian>>();
    let note_at = file_size + program_size * usize::from(count);

    let mut headers = vec![program_header(PT_NOTE, note_at as u64, 0, note.len() as u64)];
    let mut offset = (note_at + note.len()) as u64;
    for (address, memory) in regions {
        headers.push(program_header(PT_LOAD, offset, *address, memory.len() as u64));
        offset += memory.len() as u64;
    }
    let half = |size: usize| U16::new(LittleEndian, u16::try_from(size).expect("a header's size"));
    let file = FileHeader64 {
        e_ident: Ident {
            magic: ELFMAG,
            class: ELFCLASS64,
            data: ELFDATA2LSB,
            version: EV_CURRENT,
            os_abi: ELFOSABI_NONE,
            abi_version: 0,
            padding: [0; 7],
        },
        e_type: U16::new(LittleEndian, ET_CORE),
        e_machine: U16::new(LittleEndian, EM_NONE),
        e_version: U32::new(LittleEndian, EV_CURRENT.0.into()),
        e_entry: U64::default(),
        e_phoff: U64::new(LittleEndian, file_size as u64),
        e_shoff: U64::default(),
        e_flags: U32::default(),
        e_ehsize: half(file_size),
        e_phentsize: half(program_size),
        e_phnum: U16::new(LittleEndian, count),
        e_shentsize: U16::default(),
        e_shnum: U16::default(),
        e_shstrndx: U16::new(LittleEndian, SHN_UNDEF),
    };
    Ok([bytes_of(&file), bytes_of_slice(&headers), note].concat())
}

fn program_header(kind: ProgramType, offset: u64, address: u64, size: u64) -> ProgramHeader64<LittleEndian> {
    let long = |value| U64::new(LittleEndian, value);
    let flags = if kind == PT_LOAD { PF_R | PF_W | PF_X } else { PF_R };
    ProgramHeader64 {
        p_type: U32::new(LittleEndian, kind),
        p_flags: U32::new(LittleEndian, flags),
        p_offset: long(offset),
        p_vaddr: long(address),
        p_paddr: long(address),
        p_filesz: long(size),
        p_memsz: if kind == PT_LOAD { long(size) } else { long(0) },
        p_align: long(0),
    }
}

/// Whose memory it is, and of when: `remote NAME, 2026-11-20T13:47:32Z`.
fn note(remote: &str, now: Timestamp) -> Vec<u8> {
    let said = format!("remote {remote}, {now:.0}");
    let len = |text: &[u8]| U32::new(LittleEndian, u32::try_from(text.len() + 1).expect("a short text"));
    let header = NoteHeader32 {
        n_namesz: len(NOTE_NAME),
        n_descsz: len(said.as_bytes()),
        n_type: U32::new(LittleEndian, NOTE_TYPE),
    };
    let mut note = bytes_of(&header).to_vec();
    for text in [NOTE_NAME, said.as_bytes()] {
        note.extend_from_slice(text);
        // A NUL, and zeros up to the next word.
        note.resize((note.len() / 4 + 1) * 4, 0);
    }
    note
}
