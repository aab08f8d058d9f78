//! What can be chosen about a guest.

use super::vmm::{Flavour, MemoryMessages};

/// What kind of guest to start.
#[derive(Clone, Debug)]
pub struct GuestOptions {
    pub flavour: Flavour,
    pub memory: MemoryMessages,
    pub driver: DriverOptions,
}

impl Default for GuestOptions {
    fn default() -> Self {
        GuestOptions {
            flavour: Flavour::Qemu,
            memory: MemoryMessages::Regions,
            driver: DriverOptions::default(),
        }
    }
}

impl GuestOptions {
    /// A guest on Cloud Hypervisor, which hides the name service from it.
    pub fn cloud_hypervisor() -> Self {
        GuestOptions {
            flavour: Flavour::CloudHypervisor,
            memory: MemoryMessages::Table,
            driver: DriverOptions { name_service: false, ..DriverOptions::default() },
        }
    }

    /// The default guest with another driver.
    pub fn with_driver(driver: DriverOptions) -> Self {
        GuestOptions { driver, ..GuestOptions::default() }
    }
}

/// What the driver negotiates and how it lays out its buffers.
#[derive(Clone, Debug)]
pub struct DriverOptions {
    /// Entries of each ring. Linux uses at most 256 of them.
    pub ring_size: u16,
    /// Receive buffers, and transmit buffers.
    pub buffers: u16,
    /// `VIRTIO_RING_F_EVENT_IDX`
    pub event_idx: bool,
    /// `VIRTIO_RING_F_INDIRECT_DESC`, used for every buffer.
    pub indirect: bool,
    /// `VIRTIO_RPMSG_F_NS`
    pub name_service: bool,
    /// Lengths of the descriptors that a receive buffer is made of; one descriptor if empty.
    pub rx_cuts: Vec<u32>,
    /// Lengths of all but the last of the descriptors that a message to send is made of; one descriptor if empty.
    pub tx_cuts: Vec<u32>,
    /// Check that nothing was written behind the end of a received message.
    pub guarded: bool,
}

impl Default for DriverOptions {
    fn default() -> Self {
        DriverOptions {
            ring_size: 256,
            buffers: 256,
            event_idx: true,
            indirect: false,
            name_service: true,
            rx_cuts: Vec::new(),
            tx_cuts: Vec::new(),
            guarded: false,
        }
    }
}
