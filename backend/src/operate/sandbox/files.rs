//! Closing the file system, by landlock: whatever the kernel knows how to refuse is refused.

use std::fmt;

use landlock::{
    ABI, Access, AccessFs, AccessNet, CompatLevel, Compatible, LandlockStatus, Ruleset, RulesetAttr,
    RulesetError, RulesetStatus, Scope,
};
use log::warn;
use thiserror::Error;

/// The newest rights that are asked for: files, TCP, abstract sockets and signals (Linux 6.12). Older kernels give what
/// they have.
const NEWEST: ABI = ABI::V6;

/// Landlock fails.
#[derive(Debug, Error)]
#[error("landlock fails")]
pub struct FilesError(#[from] RulesetError);

/// How far the file system is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Closed {
    /// No files, no TCP, no abstract sockets of others, no signals to others.
    Fully,
    /// What the kernel can: at least no files.
    Partly,
    /// The kernel has no landlock.
    NotAtAll,
}

/// Refuses this thread, and those that it starts, every file that is not open, and whatever else landlock can.
///
/// # Errors
/// A kernel that has landlock and refuses.
pub fn close() -> Result<Closed, FilesError> {
    let status = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(NEWEST))?
        .handle_access(AccessNet::from_all(NEWEST))?
        .scope(Scope::from_all(NEWEST))?
        .create()?
        .restrict_self()?;
    Ok(match status.ruleset {
        RulesetStatus::FullyEnforced => Closed::Fully,
        RulesetStatus::PartiallyEnforced => Closed::Partly,
        RulesetStatus::NotEnforced => {
            let why = match status.landlock {
                LandlockStatus::NotImplemented => "the kernel has no landlock (CONFIG_SECURITY_LANDLOCK)",
                _ => "landlock is switched off; boot with lsm=landlock,... to have it",
            };
            warn!("the file system is only closed by permissions and seccomp: {why}");
            Closed::NotAtAll
        }
    })
}

impl fmt::Display for Closed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Closed::Fully => "landlock: no files, no TCP, no sockets or signals to others",
            Closed::Partly => {
                "landlock: no files; the kernel is older than 6.12 and cannot refuse all the rest"
            }
            Closed::NotAtAll => "no landlock",
        })
    }
}
