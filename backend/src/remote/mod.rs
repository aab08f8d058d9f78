//! The remote core: its memory, its vrings, its mailbox and its life.
//!
//! To the firmware this room is the host, exactly what Linux remoteproc and virtio_rpmsg_bus would be: it reads
//! the resource table, places the vrings, does the status handshake and is the *driver* of both rings. It knows
//! nothing of guests: the bridge takes messages out here and puts messages in.
//!
//! | file | what is in it |
//! |---|---|
//! | [`core`] | the life of a remote core: connecting, attaching, losing, detaching |
//! | [`layout`] | how the vrings are found: by a resource table, or at places that both sides know |
//! | [`attach`] | from there to working vrings, and back |
//! | `placement` | where vrings and buffers go in the carveouts |
//! | [`messages`] | the buffers of the two vrings |
//! | [`memory`] | carveouts, found by device address; the only `unsafe` of this room |
//! | [`resource_table`] | the codec of the resource table |
//! | [`vring`] | the driver's side of a split vring in carveout memory |
//! | [`mailbox`] | how host and remote ring each other's bell |

pub mod attach;
pub mod core;
pub mod layout;
pub mod mailbox;
pub mod memory;
pub mod messages;
mod placement;
pub mod resource_table;
pub mod vring;

#[cfg(test)]
mod tests;
