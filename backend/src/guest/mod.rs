//! The VM: the vhost-user device and its virtqueues in guest memory.
//!
//! To a guest this room is the standard virtio rpmsg device, id 7: queue 0 is the driver's receive queue,
//! queue 1 its transmit queue. It knows nothing of any remote core. The protocol side runs on a thread per
//! connection and never touches a message; it hands ready-made [`Queue`]s to a [`QueueOwner`](port::QueueOwner) and waits for it to
//! let go before anything about them changes.
//!
//! | file | what is in it |
//! |---|---|
//! | [`device`] | the vhost-user device: features, and when the rings change hands |
//! | [`gate`] | where front-ends come in, until it is shut |
//! | [`port`] | the trait by which rings are handed over |
//! | `ring` | a vring of the daemon that hands its queue over |
//! | [`queue`] | the device's side of a virtqueue |
//! | `chain` | walking a descriptor chain |
//! | [`memory`] | guest memory; the only `unsafe` of this room |

mod chain;
pub mod device;
pub mod gate;
pub mod memory;
pub mod port;
pub mod queue;
mod ring;

pub use chain::{ChainError, Direction};
pub use queue::Queue;

#[cfg(test)]
mod tests;
