//! What rpmsg is: the message header, the name service and the addresses.
//!
//! This room holds the protocol as bytes and numbers only. It knows no virtqueue, no memory mapping, no
//! socket: everything here takes values and returns values, so that the guest's side, the remote's side and
//! the bridge between them agree by construction.
//!
//! Source: Linux `drivers/rpmsg/virtio_rpmsg_bus.c`, `drivers/rpmsg/rpmsg_ns.c`, `include/linux/rpmsg/ns.h`.
#![forbid(unsafe_code)]

pub mod address;
mod header;
mod name_service;

pub use header::{Header, HeaderError};
pub use name_service::{Announcement, AnnouncementError, AnnouncementKind, ServiceName, ServiceNameError};

/// Length of the message header in bytes (`sizeof(struct rpmsg_hdr)`).
pub const HEADER_LEN: usize = 16;

/// Size of one message buffer in bytes, header included (`MAX_RPMSG_BUF_SIZE`).
pub const BUFFER_SIZE: usize = 512;

/// Longest payload of one message in bytes.
pub const MAX_PAYLOAD: usize = BUFFER_SIZE - HEADER_LEN;

/// Address of the name service, on either side (`RPMSG_NS_ADDR`).
pub const NAME_SERVICE_ADDRESS: u32 = 53;

/// "Any address": never a valid source or destination of a message (`RPMSG_ADDR_ANY`).
pub const ANY_ADDRESS: u32 = 0xFFFF_FFFF;

/// Length of a name service message in bytes (`sizeof(struct rpmsg_ns_msg)`).
pub const ANNOUNCEMENT_LEN: usize = 40;

/// virtio device id of rpmsg (`VIRTIO_ID_RPMSG`).
pub const VIRTIO_ID_RPMSG: u32 = 7;

/// virtio feature bit: the device announces services by the name service (`VIRTIO_RPMSG_F_NS`).
pub const VIRTIO_RPMSG_F_NS: u32 = 0;
