//! State memory: the file that journals are in, and who has which area of it.

use std::fs::File;
use std::io;

use log::error;
use rustix::fs::{MemfdFlags, ftruncate, memfd_create};
use thiserror::Error;

use super::CoreRecord;
use super::area::Area;
use crate::causes::Causes;
use crate::remote::core::SavedCore;
use crate::remote::memory::{Access, CarveoutError, CarveoutSlice, Carveouts, Region};

/// Bytes of an area.
const AREA: usize = 64 << 20;
/// Areas: one for the core, and one for each of its devices.
const AREAS: usize = 1 + 8;

/// The state memory of one remote core: a file of [`SIZE`](Self::SIZE) bytes that nobody else writes to.
#[derive(Debug)]
pub struct State(File);

/// Why state memory cannot be used.
#[derive(Debug, Error)]
pub enum StateError {
    /// There is no area of this number.
    #[error("state memory has room for {} devices of a core, and device {number} is not among them", AREAS - 1)]
    NoArea {
        /// Number of the device.
        number: usize,
    },
    /// It cannot be mapped.
    #[error("cannot map state memory")]
    Map(#[from] CarveoutError),
}

impl State {
    /// Size of the file in bytes. Nearly all of it is a hole: only what is written to takes memory.
    pub const SIZE: u64 = (AREAS * AREA) as u64;

    /// State memory in this file. One that is all zero is as good as any.
    pub fn new(file: File) -> Self {
        State(file)
    }

    /// State memory that nobody will find again.
    ///
    /// # Errors
    /// No memory file to be had.
    pub fn forgetful() -> io::Result<Self> {
        let memfd = memfd_create("rpmsg-state", MemfdFlags::CLOEXEC)?;
        ftruncate(&memfd, Self::SIZE)?;
        Ok(State(memfd.into()))
    }

    /// What is written down of the core, and what was before.
    ///
    /// # Errors
    /// A file that cannot be mapped.
    pub(in crate::bridge) fn core(&self) -> Result<(CoreRecord, Option<SavedCore>), StateError> {
        Ok(CoreRecord::open(self.area(0)?))
    }

    /// How many of the core's devices something is written down of, or would be if all before them were counted too.
    pub(in crate::bridge) fn devices(&self) -> usize {
        let is_used = |number: &usize| self.area(*number).is_ok_and(|memory| Area::open(memory).1.is_some());
        (1..AREAS).rev().find(is_used).unwrap_or(0)
    }

    /// The area of the device of this number. Where there is none to be had, that is said, and nothing of the device
    /// outlives this process.
    pub(in crate::bridge) fn device(&self, number: usize) -> Option<CarveoutSlice> {
        let area = self.area(number + 1);
        area.inspect_err(|error| error!("device {number} has no journal: {}", Causes(error))).ok()
    }

    fn area(&self, number: usize) -> Result<CarveoutSlice, StateError> {
        if number >= AREAS {
            return Err(StateError::NoArea { number: number - 1 });
        }
        let region = Region::map(&self.0, (number * AREA) as u64, AREA, 0, Access::Normal)?;
        Ok(Carveouts::new(vec![region]).slice(0, AREA, 8)?)
    }
}
