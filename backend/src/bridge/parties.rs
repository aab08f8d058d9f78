//! Who talks to whom, as everybody in this room calls them.

use serde::{Deserialize, Serialize};

use crate::rpmsg::ServiceName;
use crate::rpmsg::address::{Session, Slot};

/// An endpoint of a VM that talks to a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Client {
    pub(super) slot: Slot,
    pub(super) session: Session,
    pub(super) address: u32,
}

/// A service of a guest's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct GuestService {
    pub(super) name: ServiceName,
    /// Its address as the guest knows it.
    pub(super) address: u32,
    /// Whether the remote has been told.
    pub(super) told: bool,
}
