//! The files of a remote core's dumps: their names, and how many there are. The host has them.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use log::warn;
use tempfile::{Builder, NamedTempFile};

use super::DumpError;

/// Most dumps that are kept of a remote core; those of a core that crashes again and again must not fill the disk.
pub const MAX_DUMPS: usize = 5;

/// Length of a stamp, `YYYYMMDD-HHMMSS`.
const STAMP_LEN: usize = 15;
/// End of the name of a dump.
const DUMP_END: &str = ".core";
/// End of the name of a file that is to become a dump.
const PART_END: &str = ".part";
/// Characters between its beginning and its end.
const PART_RANDOM: usize = 6;

/// Where the dumps of a remote core are kept.
#[derive(Debug)]
pub struct Shelf {
    remote: String,
    directory: PathBuf,
    /// A dump that has begun, and when.
    part: Option<(NamedTempFile, Timestamp)>,
}

impl Shelf {
    /// A shelf for the remote core that the configuration calls `remote`.
    pub fn new(remote: &str, directory: &Path) -> Self {
        Shelf { remote: remote.to_owned(), directory: directory.to_owned(), part: None }
    }

    /// A new file that only its owner may read, for a dump of now. Another one that has begun is removed.
    ///
    /// # Errors
    /// A directory that cannot be written to.
    pub fn begin(&mut self, now: Timestamp) -> Result<File, DumpError> {
        let (directory, remote) = (&self.directory, &self.remote);
        let failed = |source| DumpError::Create { directory: directory.clone(), source };
        self.part = None;
        remove_parts(directory, remote).map_err(failed)?;
        let part = create_part(directory, remote).map_err(failed)?;
        let file = part.as_file().try_clone().map_err(failed)?;
        self.part = Some((part, now));
        Ok(file)
    }

    /// The dump that has begun is whole: brings it to the disk, gives it its name,
    /// `REMOTE-YYYYMMDD-HHMMSS.core`, in UTC, with `-2` and so on before the dot if there is one of that second, and
    /// removes the oldest ones beyond [`MAX_DUMPS`].
    ///
    /// # Errors
    /// A disk that is full. The dump is removed then.
    pub fn end(&mut self) -> Result<PathBuf, DumpError> {
        let (directory, remote) = (&self.directory, &self.remote);
        let part = self.part.take().ok_or_else(|| DumpError::NotBegun { directory: directory.clone() })?;
        let synced = part.0.as_file().sync_all();
        synced.map_err(|source| DumpError::Sync { directory: directory.clone(), source })?;
        let path = give_name(part.0, directory, remote, part.1)
            .map_err(|(path, source)| DumpError::Name { path, source })?;
        if let Err(error) = remove_oldest(directory, remote, &path) {
            warn!("remote {remote}: old core dumps in {} are not removed: {error}", directory.display());
        }
        Ok(path)
    }

    /// Removes the dump that has begun, if there is one.
    pub fn discard(&mut self) {
        self.part = None;
    }
}

/// Makes a file that only its owner may read, and that is removed if it does not get a name.
pub(super) fn create_part(directory: &Path, remote: &str) -> io::Result<NamedTempFile> {
    Builder::new().prefix(&part_start(remote)).rand_bytes(PART_RANDOM).suffix(PART_END).tempfile_in(directory)
}

/// Removes what was left of dumps that have not become whole.
fn remove_parts(directory: &Path, remote: &str) -> io::Result<()> {
    let start = part_start(remote);
    for name in names(directory)? {
        let random = name.strip_prefix(&start).and_then(|name| name.strip_suffix(PART_END));
        if random.is_some_and(|random| {
            random.len() == PART_RANDOM && random.bytes().all(|byte| byte.is_ascii_alphanumeric())
        }) {
            fs::remove_file(directory.join(name))?;
        }
    }
    Ok(())
}

/// Gives a dump its name, for good: of its second, and after those that are of the same one.
fn give_name(
    part: NamedTempFile,
    directory: &Path,
    remote: &str,
    now: Timestamp,
) -> Result<PathBuf, (PathBuf, io::Error)> {
    let stamp = now.strftime("%Y%m%d-%H%M%S").to_string();
    let others = names(directory).map_err(|error| (directory.to_owned(), error))?;
    let others = others.filter_map(|name| age(&name, remote)).filter(|(other, _)| *other == stamp);
    let suffix = others.max().map_or(String::new(), |(_, last)| format!("-{}", last.saturating_add(1)));
    let path = directory.join(format!("{remote}-{stamp}{suffix}{DUMP_END}"));
    let named = part.persist_noclobber(&path).map_err(|error| error.error);
    match named.and_then(|_| File::open(directory)?.sync_all()) {
        Ok(()) => Ok(path),
        Err(error) => Err((path, error)),
    }
}

/// Removes the oldest dumps of a remote core beyond [`MAX_DUMPS`], but never the `newest`, whatever the clock says: it
/// may have been set back, and boards without one start in 1970.
fn remove_oldest(directory: &Path, remote: &str, newest: &Path) -> io::Result<()> {
    let others = names(directory)?.filter(|name| directory.join(name) != newest);
    let mut others: Vec<_> = others.filter_map(|name| Some((age(&name, remote)?, name))).collect();
    others.sort_unstable();
    others.truncate((others.len() + 1).saturating_sub(MAX_DUMPS));
    others.into_iter().try_for_each(|(_, name)| fs::remove_file(directory.join(name)))
}

/// What a dump is sorted by, if it is one of this remote core.
fn age(name: &str, remote: &str) -> Option<(String, u32)> {
    let name = name.strip_prefix(remote)?.strip_prefix('-')?.strip_suffix(DUMP_END)?;
    let (stamp, number) = name.split_at_checked(STAMP_LEN)?;
    let is_stamp = stamp.bytes().enumerate().all(|(at, byte)| match at {
        8 => byte == b'-',
        _ => byte.is_ascii_digit(),
    });
    let number = if number.is_empty() { 1 } else { number.strip_prefix('-')?.parse().ok()? };
    is_stamp.then(|| (stamp.to_owned(), number))
}

fn part_start(remote: &str) -> String {
    format!(".{remote}-")
}

/// The names in a directory, as far as they are text: those that are given here are.
fn names(directory: &Path) -> io::Result<impl Iterator<Item = String>> {
    let entries = fs::read_dir(directory)?.collect::<io::Result<Vec<_>>>()?;
    Ok(entries.into_iter().filter_map(|entry| entry.file_name().into_string().ok()))
}
