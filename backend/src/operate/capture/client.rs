//! `vhost-device-rpmsg capture`: asks a running program for a capture, and writes it.

use std::io::{self, Read};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::thread;

use log::info;
use signal_hook::consts::TERM_SIGNALS;
use signal_hook::iterator::Signals;
use signal_hook::low_level::emulate_default_handler;
use thiserror::Error;

use super::files::{Files, Ring, WriteError};
use crate::operate::control::client::{Call, CallError};

/// Bytes that are read at a time.
const CHUNK: usize = 64 * 1024;

/// A capture that is asked for.
#[derive(Debug, PartialEq, Eq)]
pub struct CaptureCall {
    /// What is asked for, and whom.
    pub(in crate::operate) call: Call,
    /// Where it goes; to the standard output where there is no path.
    pub(in crate::operate) file: Option<PathBuf>,
    /// Whether it goes to files of a limited size.
    pub(in crate::operate) ring: Option<Ring>,
}

/// Why there is no capture, or why it ends.
#[derive(Debug, Error)]
pub enum CaptureCallError {
    /// It was not granted.
    #[error(transparent)]
    Call(#[from] CallError),
    /// It cannot be written.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// It broke off.
    #[error("cannot {what}")]
    Broken {
        /// What could not be done.
        what: &'static str,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

impl CaptureCall {
    /// Captures until a signal, the program's end, or that of whoever reads from a pipe.
    ///
    /// # Errors
    /// Nobody who grants it, and files that cannot be written.
    pub fn run(self) -> Result<(), CaptureCallError> {
        let broken = |what| move |source| CaptureCallError::Broken { what, source };
        let (_, stream) = self.call.stream()?;
        let mut files = Files::open(self.file, self.ring)?;
        let ending = stream.try_clone().map_err(broken("end the capture by a signal"))?;
        end_by_signal(ending).map_err(broken("handle signals"))?;
        info!("capturing");
        match copy(stream, &mut files) {
            Err(CaptureCallError::Write(error)) if error.is_reader_gone() => Ok(()),
            ended => ended,
        }
    }
}

/// With the first signal the program is told to end the capture, with the second this process ends.
fn end_by_signal(stream: UnixStream) -> io::Result<()> {
    let mut signals = Signals::new(TERM_SIGNALS)?;
    thread::Builder::new().name("signals".to_owned()).spawn(move || {
        for (number, signal) in signals.forever().enumerate() {
            // A connection that has ended already is as good.
            let _ = stream.shutdown(Shutdown::Write);
            if number > 0 {
                let _ = emulate_default_handler(signal);
            }
        }
    })?;
    Ok(())
}

fn copy(mut stream: UnixStream, files: &mut Files) -> Result<(), CaptureCallError> {
    let mut chunk = vec![0; CHUNK];
    loop {
        match stream.read(&mut chunk) {
            Ok(0) => return Ok(()),
            Ok(count) => files.write(&chunk[..count])?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(source) => return Err(CaptureCallError::Broken { what: "read the capture", source }),
        }
    }
}
