//! Where a capture goes: a file or a pipe, or files of a limited size of which the last are kept.
//!
//! What comes is taken apart into blocks, so that every file begins with the section's header and its interfaces, and ends
//! with a whole block.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use thiserror::Error;

/// Types of blocks (pcapng, section 11.1).
const SECTION_HEADER: u32 = 0x0A0D_0D0A;
const INTERFACE_DESCRIPTION: u32 = 1;
/// Least and most bytes that a block has here: the program writes none that is longer.
const MIN_BLOCK: usize = 12;
const MAX_BLOCK: usize = 64 * 1024;

/// Files of a limited size.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::operate) struct Ring {
    /// How many of them are kept.
    pub(in crate::operate) files: usize,
    /// Bytes after which the next one is begun.
    pub(in crate::operate) size: u64,
}

/// Why a capture cannot be written.
#[derive(Debug, Error)]
pub enum WriteError {
    /// A file or a pipe.
    #[error("cannot write {path}", path = path.display())]
    File {
        /// Which one.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// What has come is no pcapng.
    #[error("expected a block of {MIN_BLOCK} to {MAX_BLOCK} bytes from the program, found one of {found}")]
    Block {
        /// Its length in bytes.
        found: usize,
    },
}

impl WriteError {
    /// Whether it is that nobody reads a pipe any more.
    pub(super) fn is_reader_gone(&self) -> bool {
        matches!(self, WriteError::File { source, .. } if source.kind() == io::ErrorKind::BrokenPipe)
    }
}

/// What writes a capture.
pub(super) struct Files {
    /// `None` for the standard output.
    path: Option<PathBuf>,
    ring: Option<Ring>,
    output: Box<dyn Write>,
    /// Bytes in the file.
    written: u64,
    /// What every file begins with.
    head: Vec<u8>,
    /// The beginning of a block.
    rest: Vec<u8>,
    /// Files of the ring, oldest first, and the number of the next.
    kept: VecDeque<PathBuf>,
    next: u32,
}

impl Files {
    /// Opens the first file; without a path, the capture goes to the standard output.
    pub(super) fn open(path: Option<PathBuf>, ring: Option<Ring>) -> Result<Self, WriteError> {
        let output: Box<dyn Write> = Box::new(io::stdout());
        let (head, rest, kept) = (Vec::new(), Vec::new(), VecDeque::new());
        let mut files = Files { path, ring, output, written: 0, head, rest, kept, next: 1 };
        files.begin()?;
        Ok(files)
    }

    /// Writes what has come, as far as it is whole blocks.
    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<(), WriteError> {
        self.rest.extend(bytes);
        let rest = std::mem::take(&mut self.rest);
        let mut at = 0;
        // Blocks that go to the same file are written at once.
        let mut begin = 0;
        while let Some((kind, len)) = block(&rest[at..])? {
            let whole = &rest[at..at + len];
            let is_head = [SECTION_HEADER, INTERFACE_DESCRIPTION].contains(&kind);
            let is_full = self.ring.as_ref().is_some_and(|ring| self.written + len as u64 > ring.size);
            if !is_head && is_full && self.written > self.head.len() as u64 {
                self.put(&rest[begin..at])?;
                begin = at;
                self.begin()?;
            }
            if is_head {
                self.head.extend(whole);
            }
            self.written += len as u64;
            at += len;
        }
        self.put(&rest[begin..at])?;
        self.rest = rest[at..].to_vec();
        Ok(())
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), WriteError> {
        let written = self.output.write_all(bytes).and_then(|()| self.output.flush());
        written.map_err(|source| WriteError::File { path: self.current(), source })
    }

    /// Begins the next file, and removes the oldest where there are too many.
    fn begin(&mut self) -> Result<(), WriteError> {
        let Some(path) = &self.path else { return Ok(()) };
        let path = match self.ring {
            Some(_) => numbered(path, self.next),
            None => path.clone(),
        };
        let failed = |source| WriteError::File { path: path.clone(), source };
        self.output = Box::new(File::create(&path).map_err(failed)?);
        self.output.write_all(&self.head).map_err(failed)?;
        self.written = self.head.len() as u64;
        self.next += 1;
        self.kept.push_back(path);
        if let Some(ring) = &self.ring
            && self.kept.len() > ring.files
            && let Some(oldest) = self.kept.pop_front()
        {
            fs::remove_file(&oldest).map_err(|source| WriteError::File { path: oldest, source })?;
        }
        Ok(())
    }

    fn current(&self) -> PathBuf {
        self.kept.back().cloned().unwrap_or_else(|| "standard output".into())
    }
}

/// Type and length of the first block, if all of it is there.
fn block(bytes: &[u8]) -> Result<Option<(u32, usize)>, WriteError> {
    let Some(([a, b, c, d, e, f, g, h], _)) = bytes.split_first_chunk::<8>() else { return Ok(None) };
    let kind = u32::from_le_bytes([*a, *b, *c, *d]);
    let len = u32::from_le_bytes([*e, *f, *g, *h]) as usize;
    if !(MIN_BLOCK..=MAX_BLOCK).contains(&len) || !len.is_multiple_of(4) {
        return Err(WriteError::Block { found: len });
    }
    Ok((len <= bytes.len()).then_some((kind, len)))
}

/// `NAME_00001.EXTENSION` for `NAME.EXTENSION`.
fn numbered(path: &Path, number: u32) -> PathBuf {
    let mut name = path.file_stem().unwrap_or_default().to_owned();
    name.push(format!("_{number:05}"));
    if let Some(extension) = path.extension() {
        name.push(".");
        name.push(extension);
    }
    path.with_file_name(name)
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;

    fn block_of(kind: u32, len: u32) -> Vec<u8> {
        let mut block = vec![0; len as usize];
        block[..4].copy_from_slice(&kind.to_le_bytes());
        block[4..8].copy_from_slice(&len.to_le_bytes());
        block
    }

    fn head() -> Vec<u8> {
        [block_of(SECTION_HEADER, 28), block_of(INTERFACE_DESCRIPTION, 20)].concat()
    }

    #[test]
    fn every_file_of_a_ring_begins_with_all_interfaces_and_the_last_ones_are_kept() {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("a.pcapng");
        let mut files = Files::open(Some(path), Some(Ring { files: 2, size: 150 })).unwrap();
        let packets = (0..9).flat_map(|_| block_of(6, 40)).collect::<Vec<_>>();

        // In pieces that are no blocks.
        for piece in [head(), packets].concat().chunks(7) {
            files.write(piece).unwrap();
        }

        let names = |number| folder.path().join(format!("a_0000{number}.pcapng"));
        assert!(!names(3).exists() && !names(6).exists(), "others than the last two");
        let full = [head(), block_of(6, 40), block_of(6, 40)].concat();
        assert_eq!(fs::read(names(4)).unwrap(), full);
        assert_eq!(fs::read(names(5)).unwrap(), [head(), block_of(6, 40)].concat());
    }

    #[test]
    fn what_is_no_block_is_refused() {
        let folder = TempDir::new().unwrap();
        let mut files = Files::open(Some(folder.path().join("a")), None).unwrap();
        let error = files.write(b"{\"version\":1}\n").unwrap_err();
        assert!(matches!(error, WriteError::Block { .. }), "{error}");
    }
}
