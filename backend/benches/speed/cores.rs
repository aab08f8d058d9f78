//! The two cores of a run, and who is on which.

use rustix::io;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use thiserror::Error;

/// The core of guests and of the remote core.
pub(crate) const NEAR: usize = 0;
/// The core of what is between them.
pub(crate) const FAR: usize = 1;

/// Why nothing can be measured here.
#[derive(Debug, Error)]
pub(crate) enum CoresError {
    /// The cores that this process may use cannot be asked for.
    #[error("the cores of this process are unknown: {0}")]
    Unknown(io::Errno),
    /// One of the two cores is not there.
    #[error(
        "expected cores {NEAR} and {FAR}, found no core {missing} among those of this process; see `taskset -p`"
    )]
    Missing { missing: usize },
}

/// Checks that there are both cores.
pub(crate) fn check() -> Result<(), CoresError> {
    let set = sched_getaffinity(None).map_err(CoresError::Unknown)?;
    match [NEAR, FAR].into_iter().find(|core| !set.is_set(*core)) {
        Some(missing) => Err(CoresError::Missing { missing }),
        None => Ok(()),
    }
}

/// Puts this thread on a core.
pub(crate) fn pin(core: usize) {
    let mut set = CpuSet::new();
    set.set(core);
    sched_setaffinity(None, &set).expect("a core that check() has found");
}
