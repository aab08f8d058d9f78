//! The trace buffers of a remote core: memory named by its resource table, to which the firmware writes its log as text.
//!
//! As in Linux's debugfs files `traceN`, what a buffer says is its bytes up to the first NUL, or all of them. There is no
//! index and no lock: the firmware writes at any time, and some firmware goes on at the start when the end is reached.
//! So a [`Follower`] can only compare:
//!
//! | the buffer | is taken for |
//! |---|---|
//! | starts with what was there before | more text at the end |
//! | is full, up to a last NUL, and has changed | a ring: what goes from where the last news ended to the last change |
//! | else | rewritten, by firmware that has booted anew |
//!
//! Text that firmware overwrites between two looks is lost. Bytes that it writes during a look may come twice.
#![forbid(unsafe_code)]

#[cfg(test)]
mod tests;

use thiserror::Error;

use super::memory::{CarveoutError, CarveoutSlice, Carveouts};
use super::resource_table::Trace;
use super::text::printable;

/// Most bytes of a buffer that are looked at. Those of real firmware have 2 KiB to 512 KiB.
pub const MAX_LEN: usize = 1 << 20;

/// A trace buffer that is in no carveout.
#[derive(Debug, Error)]
#[error("trace buffer \"{name}\" is not in the remote core's memory; configure the memory that it is in")]
pub struct TraceError {
    name: String,
    #[source]
    source: CarveoutError,
}

/// A trace buffer.
#[derive(Debug)]
pub struct TraceBuffer {
    name: String,
    memory: CarveoutSlice,
}

/// Somebody who reads a trace buffer again and again.
#[derive(Debug)]
pub struct Follower {
    buffer: TraceBuffer,
    /// What was there at the last look.
    seen: Vec<u8>,
    /// Where the next news are expected, in bytes from the start.
    next: usize,
}

/// What has come since the last look.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct News {
    /// The text, fit for a terminal: what is no UTF-8 is escaped, and so are control characters other than line ends
    /// and tabs.
    pub text: String,
    /// Whether the buffer has been started anew: the text does not go on where the last one ended.
    pub is_rewritten: bool,
}

impl TraceBuffer {
    /// The buffer that an entry of a resource table names. `None` where the firmware has not said where it is.
    ///
    /// # Errors
    /// A buffer that does not lie within one region.
    pub fn new(carveouts: &Carveouts, trace: &Trace) -> Result<Option<Self>, TraceError> {
        let Some(address) = trace.da else { return Ok(None) };
        let name = trace.name.to_string();
        match carveouts.slice(address.into(), trace.size as usize, 1) {
            Ok(memory) => {
                Ok(Some(TraceBuffer { name, memory: memory.subslice(0, memory.len().min(MAX_LEN)) }))
            }
            Err(source) => Err(TraceError { name, source }),
        }
    }

    /// Its name, escaped.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What it says now. Escaped as [`News::text`] is.
    pub fn text(&self) -> String {
        printable(&self.content())
    }

    /// Reads it anew whenever asked, and tells what is new.
    pub fn follow(self) -> Follower {
        Follower { buffer: self, seen: Vec::new(), next: 0 }
    }

    /// The bytes before the first NUL. Each byte is read once.
    fn content(&self) -> Vec<u8> {
        let mut bytes = vec![0; self.memory.len()];
        self.memory.read_into(0, &mut bytes);
        bytes.truncate(bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len()));
        bytes
    }
}

impl Follower {
    /// The buffer.
    pub fn buffer(&self) -> &TraceBuffer {
        &self.buffer
    }

    /// What is new since the last call; at the first one, everything.
    pub fn news(&mut self) -> News {
        let now = self.buffer.content();
        // A string keeps room for its end, so a ring may have a byte less than the buffer.
        let is_full = !now.is_empty() && now.len() + 1 >= self.buffer.memory.len();
        let news = if is_full {
            self.around(&now)
        } else {
            let news = now.strip_prefix(&*self.seen);
            let text = printable(news.unwrap_or(&now));
            self.next = now.len();
            News { text, is_rewritten: news.is_none() }
        };
        self.seen = now;
        news
    }

    /// The news of a full buffer: from where they are expected up to the last change, around the end.
    fn around(&mut self, now: &[u8]) -> News {
        let start = if self.next < now.len() { self.next } else { 0 };
        let is_changed = |distance: &usize| {
            let at = (start + distance) % now.len();
            self.seen.get(at) != Some(&now[at])
        };
        let len = (0..now.len()).rev().find(is_changed).map_or(0, |last| last + 1);
        let (before_end, around) = (len.min(now.len() - start), len.saturating_sub(now.len() - start));
        if len > 0 {
            // Not taken around the end until something is there: this may not be a ring, nor quite full yet.
            self.next = if around > 0 { around } else { start + before_end };
        }
        let bytes = [&now[start..start + before_end], &now[..around]].concat();
        News { text: printable(&bytes), is_rewritten: false }
    }
}
