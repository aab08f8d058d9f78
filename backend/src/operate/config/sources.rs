//! The files that a configuration is read from: those of the host, or what was in them when they were read first.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

/// Where the configuration and the files that it names are read from.
#[derive(Debug)]
pub struct Sources {
    /// What was read, and where that is all there is, what can be.
    files: RefCell<BTreeMap<PathBuf, Vec<u8>>>,
    is_host: bool,
}

impl Sources {
    /// The host's files. What is read is remembered.
    pub fn of_host() -> Self {
        Sources { files: RefCell::default(), is_host: true }
    }

    /// These files and no others.
    pub fn of(files: BTreeMap<PathBuf, Vec<u8>>) -> Self {
        Sources { files: RefCell::new(files), is_host: false }
    }

    /// Everything that was read.
    pub fn into_files(self) -> BTreeMap<PathBuf, Vec<u8>> {
        self.files.into_inner()
    }

    /// What is in a file. The same one is the same however often it is read.
    pub(super) fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        if let Some(text) = self.files.borrow().get(path) {
            return Ok(text.clone());
        }
        if !self.is_host {
            let message = "expected a file that was read when the program was started, found another one";
            return Err(io::Error::new(ErrorKind::NotFound, message));
        }
        let text = fs::read(path)?;
        self.files.borrow_mut().insert(path.to_owned(), text.clone());
        Ok(text)
    }

    /// What is in a file of text.
    pub(super) fn read_text(&self, path: &Path) -> io::Result<String> {
        String::from_utf8(self.read(path)?).map_err(|error| io::Error::new(ErrorKind::InvalidData, error))
    }
}
