//! The journal: what makes a message pass exactly once although the program is killed in the middle.
//!
//! Rings and vrings are shared memory and survive the program; what is lost with it is which half of a batch was
//! published, and what the program knew. So each batch is one transaction in *state memory*, a file that outlives the
//! program:
//!
//! 1. Buffers, descriptors and ring entries are written; nothing of it is visible to anybody yet.
//! 2. What has changed is appended to the journal, the new index of every ring among it.
//! 3. One store says that this much of the journal counts: the transaction is *committed*.
//! 4. The indexes are stored into the rings, and peers are notified.
//!
//! Killed before 3, the batch has never happened: the next program takes the messages again, which are all still there.
//! Killed after it, the next program stores the indexes once more. All of them are absolute, so that is harmless whatever
//! the peers have done meanwhile, also when it is killed again on the way. Nobody has to walk over a ring to find out how
//! far things had got.
//!
//! A journal is a snapshot of everything ([`Saved`], in the encoding of the crate `postcard`) and behind it the log of what has
//! changed since. When the log has become long, or when something has changed for which there is no entry, another
//! snapshot is begun, and one store makes that one count.
//!
//! | file | what is in it |
//! |---|---|
//! | `mod.rs` | the journal of a relay, and the record of a remote core |
//! | `area` | a snapshot and a log in state memory, and the commit |
//! | `entry` | what can be appended: the changes that come with every message, in words |
//! | `saved` | all that a relay remembers, as one value |
//! | `state` | the file, and who has which area of it |

mod area;
mod entry;
#[cfg(fuzzing)]
pub mod fuzzing;
mod saved;
mod state;
#[cfg(test)]
mod tests;

use log::error;

use area::{Area, TooLarge};
pub(super) use entry::Entry;
pub(super) use saved::{Saved, SavedDesk, SavedDevice, SavedRequest, SavedService, SavedTurn, SavedVm};
pub use state::{State, StateError};

use crate::remote::core::SavedCore;
use crate::remote::memory::CarveoutSlice;

/// The journal of one relay.
#[derive(Debug)]
pub(super) struct Journal {
    /// None where there is none, or what there is does not fit.
    area: Option<Area>,
    /// Whether something has changed for which there is no entry.
    has_changed: bool,
    scratch: Vec<u8>,
}

impl Journal {
    /// Opens an area, and finds out what was saved there. `None` where nothing was, or where it is damaged.
    pub(super) fn open(memory: Option<CarveoutSlice>) -> (Self, Option<Saved>) {
        let (area, found) = memory.map(Area::open).unzip();
        let saved = found.flatten().and_then(|found| {
            let mut saved: Saved = postcard::from_bytes(&found.snapshot).ok()?;
            entry::replay(&mut saved, &found.log)?;
            saved.is_sound().then_some(saved)
        });
        (Journal { area, has_changed: true, scratch: Vec::new() }, saved)
    }

    /// Something has changed for which there is no entry: the next commit saves everything.
    #[inline]
    pub(super) fn change(&mut self) {
        self.has_changed = true;
    }

    /// Appends a change. It counts once it is committed.
    #[inline(always)]
    #[expect(clippy::inline_always, reason = "which entry it is, is known where it is appended")]
    pub(super) fn append(&mut self, entry: &Entry<'_>) {
        if !self.has_changed
            && let Some(area) = &mut self.area
        {
            let fits = match entry.short() {
                Some((head, None)) => area.append(head),
                Some((head, Some(word))) => area.append(head) && area.append(word),
                None => entry.for_each_word(&mut self.scratch, |word| area.append(word)),
            };
            self.has_changed = !fits;
        }
    }

    /// Whether everything has to be [saved](Self::save) for the last changes to count.
    #[inline]
    pub(super) fn wants_all(&self) -> bool {
        self.has_changed && self.area.is_some()
    }

    /// Makes everything count that was appended.
    #[inline]
    pub(super) fn commit(&mut self) {
        if let Some(area) = self.area.as_mut().filter(|area| area.is_behind()) {
            area.commit();
        }
    }

    /// Saves everything that there is.
    #[cold]
    pub(super) fn save(&mut self, saved: &Saved) {
        let Some(area) = &mut self.area else { return };
        self.scratch.clear();
        if let Err(cause) = keep(area, saved, &mut self.scratch) {
            error!(
                "the journal is given up, and nothing survives the death of this process any more: {cause}"
            );
            area.clear();
            self.area = None;
        }
        self.has_changed = false;
    }
}

/// What there is to be remembered of a remote core: seldom changed, and then as a whole.
#[derive(Debug)]
pub(super) struct CoreRecord(Area);

impl CoreRecord {
    /// Opens an area, and finds out what was saved there.
    pub(super) fn open(memory: CarveoutSlice) -> (Self, Option<SavedCore>) {
        let (area, found) = Area::open(memory);
        (CoreRecord(area), found.and_then(|found| postcard::from_bytes(&found.snapshot).ok()))
    }

    /// Remembers this from now on.
    pub(super) fn keep(&mut self, saved: &SavedCore) {
        if let Err(cause) = keep(&mut self.0, saved, &mut Vec::new()) {
            error!("what is known of the remote core does not survive the death of this process: {cause}");
            self.0.clear();
        }
    }
}

/// Why something is not kept.
#[derive(Debug, thiserror::Error)]
enum KeepError {
    #[error(transparent)]
    Size(#[from] TooLarge),
    #[error(transparent)]
    Encoding(#[from] postcard::Error),
}

fn keep(area: &mut Area, value: &impl serde::Serialize, scratch: &mut Vec<u8>) -> Result<(), KeepError> {
    *scratch = postcard::to_extend(value, std::mem::take(scratch))?;
    Ok(area.save(scratch)?)
}
