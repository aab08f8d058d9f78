//! How the program was started: its arguments, and the files that it has read because of them, as they were then. A worker
//! that is started later serves the same, whatever has become of the files.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
use serde::{Deserialize, Serialize};

/// What a worker has to know to become one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Handover {
    /// The command line, program name first.
    pub arguments: Vec<OsString>,
    /// Files by their paths.
    pub files: BTreeMap<PathBuf, Vec<u8>>,
}

/// What stands before the contents of the files: a line of JSON. Paths need not be UTF-8.
#[derive(Deserialize, Serialize)]
struct Index {
    arguments: Vec<Vec<u8>>,
    /// Path and length in bytes, in the order of the contents.
    files: Vec<(Vec<u8>, usize)>,
}

impl Handover {
    /// The handover as a file that nobody can change.
    ///
    /// # Errors
    /// No memory for it.
    pub fn to_file(&self) -> io::Result<File> {
        let arguments = self.arguments.iter().map(|argument| argument.as_bytes().to_vec()).collect();
        let entry = |(path, text): (&PathBuf, &Vec<u8>)| (path.as_os_str().as_bytes().to_vec(), text.len());
        let index = Index { arguments, files: self.files.iter().map(entry).collect() };
        let memfd = memfd_create("handover", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
        let mut file = File::from(memfd);
        serde_json::to_writer(&file, &index)?;
        file.write_all(b"\n")?;
        self.files.values().try_for_each(|text| file.write_all(text))?;
        fcntl_add_seals(&file, SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL)?;
        Ok(file)
    }

    /// Reads such a file.
    ///
    /// # Errors
    /// A file that says something else.
    pub fn from_file(mut file: File) -> io::Result<Self> {
        let mut bytes = Vec::new();
        file.seek(SeekFrom::Start(0))?;
        file.read_to_end(&mut bytes)?;
        let end = bytes.iter().position(|byte| *byte == b'\n').unwrap_or(bytes.len());
        let (index, mut rest) = bytes.split_at(end);
        rest = rest.get(1..).unwrap_or_default();
        let index: Index = serde_json::from_slice(index)?;
        let mut files = BTreeMap::new();
        for (path, len) in index.files {
            let (text, others) = rest.split_at_checked(len).ok_or(io::ErrorKind::UnexpectedEof)?;
            files.insert(OsString::from_vec(path).into(), text.to_vec());
            rest = others;
        }
        Ok(Handover { arguments: index.arguments.into_iter().map(OsString::from_vec).collect(), files })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_comes_back_as_it_was_again_and_again() {
        let files = [("/a\n\u{fffd}", &b"one\ntwo"[..]), ("b", b""), ("c", b"\xFF\0")];
        let files = files.map(|(path, text)| (PathBuf::from(path), text.to_vec()));
        let arguments = vec!["program".into(), OsString::from_vec(b"\xFF\n".to_vec())];
        let handover = Handover { arguments, files: files.into() };
        let file = handover.to_file().unwrap();
        for _ in 0..2 {
            assert_eq!(Handover::from_file(file.try_clone().unwrap()).unwrap(), handover);
        }
        assert!(File::write(&mut file.try_clone().unwrap(), b"x").is_err());
    }

    #[test]
    fn a_file_that_breaks_off_is_refused() {
        let handover = Handover { arguments: Vec::new(), files: [("a".into(), vec![0; 9])].into() };
        let mut bytes = Vec::new();
        let mut file = handover.to_file().unwrap();
        file.rewind().unwrap();
        file.read_to_end(&mut bytes).unwrap();
        for len in 0..bytes.len() {
            let mut cut = File::from(memfd_create("cut", MemfdFlags::CLOEXEC).unwrap());
            cut.write_all(&bytes[..len]).unwrap();
            Handover::from_file(cut).unwrap_err();
        }
    }
}
