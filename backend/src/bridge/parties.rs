//! Who talks to whom, as everybody in this room calls them.

use std::fmt;

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

/// The way of one message, for people. Where messages pass it costs nothing: it is put into words when something is wrong.
#[derive(Clone, Copy, Debug)]
pub(super) struct Route {
    pub(super) src: u32,
    pub(super) dst: u32,
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Route { src, dst } = self;
        write!(f, "from {src:#x} to {dst:#x}")
    }
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
