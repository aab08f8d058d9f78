//! What of a remote comes as a stream over the control socket: its trace as the firmware writes it, and its memory.
//!
//! The program's side writes from a thread of its own, so that whoever reads slowly holds up nobody; a client that hangs up, or
//! reads nothing for a minute, ends it, and one that says something ends a trace. Its other side is `remote trace --follow` and `remote dump`.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Read, Write, stdout};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::Builder;

use log::warn;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::retry_on_intr;
use thiserror::Error;

use super::control::client::{Call, CallError};
use super::control::{Dumped, Stream};
use crate::remote::dump::{DumpError, Image};
use crate::remote::memory::Carveouts;
use crate::remote::trace::{Follower, TraceBuffer};

/// Streams at a time: each is a thread.
const MOST: usize = 16;
/// Between two looks at a trace buffer.
const LOOK: Timespec = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };

/// How long a client may take to read something.
const PATIENCE: Timespec = Timespec { tv_sec: 60, tv_nsec: 0 };

static STREAMS: AtomicUsize = AtomicUsize::new(0);

/// One of the streams that there can be, until it is dropped.
pub(super) struct Place(());

impl Place {
    /// None, where there are as many as there can be.
    pub(super) fn take() -> Option<Self> {
        let taken = |streams| (streams < MOST).then_some(streams + 1);
        STREAMS.fetch_update(Ordering::Relaxed, Ordering::Relaxed, taken).ok().map(|_| Place(()))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        STREAMS.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Writes what is in trace buffers, and what comes to it, until the client has enough.
pub(super) fn trace(place: Place, buffers: Vec<TraceBuffer>) -> Stream {
    in_a_thread(place, move |client| {
        let mut followers: Vec<_> = buffers.into_iter().map(|buffer| (buffer.follow(), false)).collect();
        let is_one_of_many = followers.len() > 1;
        let mut spoken = None;
        loop {
            for (number, (follower, is_anew)) in followers.iter_mut().enumerate() {
                let said = news(follower, is_anew, is_one_of_many && spoken != Some(number));
                if !said.is_empty() {
                    spoken = Some(number);
                    client.write_all(said.as_bytes())?;
                }
            }
            if client.wait(PollFlags::IN | PollFlags::RDHUP, &LOOK)? {
                return Ok(());
            }
        }
    })
}

/// What is new in a buffer, behind its name where another one had the word before. `is_anew`: it was begun anew, and nothing was
/// said since.
fn news(follower: &mut Follower, is_anew: &mut bool, is_named: bool) -> String {
    let news = follower.news();
    *is_anew |= news.is_rewritten;
    let mut said = String::new();
    if news.text.is_empty() {
        return said;
    }
    if std::mem::take(is_anew) {
        said += "--- begun anew\n";
    }
    if is_named {
        said += &format!("--- {}\n", follower.buffer().name());
    }
    said + &news.text
}

/// Writes the memory of a remote as an ELF core file. Returns how many bytes that makes.
///
/// # Errors
/// Memory that no file has room for.
pub(super) fn memory(place: Place, remote: &str, carveouts: &Carveouts) -> Result<(u64, Stream), DumpError> {
    let image = Image::new(remote, carveouts)?;
    Ok((image.len(), in_a_thread(place, move |client| image.write_to(client))))
}

/// A stream that is written in a thread of its own.
fn in_a_thread(place: Place, write: impl FnOnce(&mut Client) -> io::Result<()> + Send + 'static) -> Stream {
    Box::new(move |client, line| {
        let thread = Builder::new().name("stream".to_owned()).spawn(move || {
            let _place = place;
            let mut client = Client(client);
            // Whoever has hung up, or reads nothing any more, does not want to know.
            drop(client.write_all(&line).and_then(|()| write(&mut client)));
        });
        if let Err(error) = thread {
            warn!("control: no thread for a stream: {error}");
        }
    })
}

/// A connection that does not block, to a client that has to read something within [`PATIENCE`].
struct Client(UnixStream);

impl Client {
    /// Waits until the client does one of these, for so long at most. Returns whether it has.
    fn wait(&self, events: PollFlags, timeout: &Timespec) -> io::Result<bool> {
        let mut waiting = [PollFd::new(&self.0, events)];
        Ok(retry_on_intr(|| poll(&mut waiting, Some(timeout)))? > 0)
    }
}

impl Write for Client {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            match self.0.write(bytes) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                written => return written,
            }
            if !self.wait(PollFlags::OUT, &PATIENCE)? {
                return Err(ErrorKind::TimedOut.into());
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What is wanted as a stream.
#[derive(Debug, PartialEq, Eq)]
pub struct StreamCall {
    /// What is asked for, and whom.
    pub(super) call: Call,
    /// The file that a dump goes to; without one it is text, for the standard output.
    pub(super) file: Option<PathBuf>,
}

/// Why there is no stream, or why it ends.
#[derive(Debug, Error)]
pub enum StreamError {
    /// It was not granted.
    #[error(transparent)]
    Call(#[from] CallError),
    /// It broke off.
    #[error("cannot read what the program sends")]
    Read(#[source] io::Error),
    /// The program has ended, or another worker serves.
    #[error("the worker was replaced or has ended; follow once more")]
    Ended,
    /// It cannot be printed.
    #[error("cannot print what the program sends")]
    Print(#[source] io::Error),
    /// The file cannot be made.
    #[error("cannot create {}; a file that is there is not written over", path.display())]
    Create {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The file cannot be written.
    #[error("cannot write {}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// There was less than was announced.
    #[error("expected {expected} bytes of memory, found {found}: the worker was replaced or has ended; there is no {}", path.display())]
    Short {
        /// The file.
        path: PathBuf,
        /// What was announced, in bytes.
        expected: u64,
        /// What there was.
        found: u64,
    },
}

impl StreamCall {
    /// Prints what comes, or writes it to the file, until its end.
    ///
    /// # Errors
    /// Nobody who grants it, and what breaks it off.
    pub fn run(&self) -> Result<(), StreamError> {
        let (result, stream) = self.call.stream()?;
        match &self.file {
            None => print(stream),
            Some(path) => save(stream, self.call.understand::<Dumped>(result)?.size, path),
        }
    }
}

fn print(mut stream: UnixStream) -> Result<(), StreamError> {
    let mut chunk = [0; 4096];
    loop {
        match stream.read(&mut chunk) {
            Ok(0) => return Err(StreamError::Ended),
            Ok(count) => {
                let mut output = stdout();
                match output.write_all(&chunk[..count]).and_then(|()| output.flush()) {
                    Err(error) if error.kind() == ErrorKind::BrokenPipe => return Ok(()),
                    printed => printed.map_err(StreamError::Print)?,
                }
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(StreamError::Read(error)),
        }
    }
}

fn save(stream: UnixStream, expected: u64, path: &PathBuf) -> Result<(), StreamError> {
    let failed = |source| StreamError::Create { path: path.clone(), source };
    if path.exists() {
        return Err(failed(ErrorKind::AlreadyExists.into()));
    }
    // What is under the name is whole.
    let mut part = path.clone().into_os_string();
    part.push(".part");
    let part = PathBuf::from(part);
    let mut file =
        File::options().write(true).create(true).truncate(true).mode(0o600).open(&part).map_err(failed)?;
    let error = match io::copy(&mut stream.take(expected), &mut file) {
        Ok(found) if found == expected => {
            let named = renameat_with(CWD, &part, CWD, path, RenameFlags::NOREPLACE);
            match named {
                Ok(()) => return Ok(()),
                Err(errno) => failed(errno.into()),
            }
        }
        Ok(found) => StreamError::Short { path: path.clone(), expected, found },
        Err(source) => StreamError::Write { path: path.clone(), source },
    };
    // What is wrong is said already.
    let _ = fs::remove_file(part);
    Err(error)
}
