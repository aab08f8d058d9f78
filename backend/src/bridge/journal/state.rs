//! State memory: the file that journals are in, and who has which area of it.

use std::fs::File;
use std::io;

use log::error;
use thiserror::Error;

use super::CoreRecord;
use crate::causes::Causes;
use crate::remote::core::SavedCore;
use crate::remote::memory::{Access, CarveoutError, CarveoutSlice, Carveouts, Region};

/// Bytes of an area. Nearly all of it is a hole in the file: only what is written to takes memory.
const AREA: usize = 64 << 20;

/// The state memory of one remote core: a file that nobody else writes to.
#[derive(Debug)]
pub struct State(File);

/// Why state memory cannot be used.
#[derive(Debug, Error)]
pub enum StateError {
    /// It has no size, or cannot be made larger.
    #[error("cannot make state memory {size:#x} bytes large; is there room in its file system?")]
    Size {
        /// The size in bytes.
        size: u64,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// It cannot be mapped.
    #[error("cannot map state memory")]
    Map(#[from] CarveoutError),
}

impl State {
    /// State memory in this file. An empty one is as good as any: it grows as it is used.
    pub fn new(file: File) -> Self {
        State(file)
    }

    /// State memory that nobody will find again.
    ///
    /// # Errors
    /// No memory file to be had.
    pub fn forgetful() -> io::Result<Self> {
        let flags = rustix::fs::MemfdFlags::CLOEXEC;
        Ok(State(rustix::fs::memfd_create("rpmsg-state", flags)?.into()))
    }

    /// What is written down of the core, and what was before.
    ///
    /// # Errors
    /// A file that cannot grow, or cannot be mapped.
    pub(in crate::bridge) fn core(&self) -> Result<(CoreRecord, Option<SavedCore>), StateError> {
        Ok(CoreRecord::open(self.area(0)?))
    }

    /// How many of the core's devices have an area.
    pub(in crate::bridge) fn devices(&self) -> usize {
        let len = self.0.metadata().map_or(0, |data| data.len());
        usize::try_from(len / AREA as u64).unwrap_or(0).saturating_sub(1)
    }

    /// The area of the device of this number. Where there is none to be had, that is said, and nothing of the device
    /// outlives this process.
    pub(in crate::bridge) fn device(&self, number: usize) -> Option<CarveoutSlice> {
        let area = self.area(number + 1);
        area.inspect_err(|error| error!("device {number} has no journal: {}", Causes(error))).ok()
    }

    fn area(&self, number: usize) -> Result<CarveoutSlice, StateError> {
        let (offset, size) = (number * AREA, ((number + 1) * AREA) as u64);
        let sized = self.0.metadata().and_then(|data| {
            // Never smaller: others have their areas there.
            if data.len() < size { self.0.set_len(size) } else { Ok(()) }
        });
        sized.map_err(|source| StateError::Size { size, source })?;
        let region = Region::map(&self.0, offset as u64, AREA, 0, Access::Normal)?;
        Ok(Carveouts::new(vec![region]).slice(0, AREA, 8)?)
    }
}
