//! The floors: what nothing on this machine can be faster than.
//!
//! Each is measured right before what is held against it, and both again if the cores have moved meanwhile, see `steady`.
//!
//! | file | what is in it |
//! |---|---|
//! | `spinning` | two cores that look at each other's cache lines and never sleep |
//! | `blocking` | processes that sleep until they are rung for |
//! | `virtqueue` | the virtio-queue crate |

mod blocking;
mod spinning;
mod virtqueue;

pub(crate) use blocking::measure as blocking;
pub(crate) use spinning::{copying, distance, measure as spinning};
pub(crate) use virtqueue::measure as virtqueue;
