//! What was found out about a remote core.

use crate::remote::mailbox::MuVersion;

/// A remote core, as its device tree describes it. Prints itself for people, ends with a line break.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Path of its node.
    pub node: String,
    /// Which of the things that its node is compatible with decided how it was read.
    pub compatible: String,
    /// Its memory: what its node names, in that order, then the regions of its virtio devices, then what the core
    /// has of its own (TCM), of which a region may be a part.
    pub memory: Vec<Region>,
    /// The virtio devices that the tree tells apart. A resource table may have others, and says what they are.
    pub vdevs: Vec<Vdev>,
    /// How the two signal each other; none where the configuration says it.
    pub mailbox: Option<Mailbox>,
    /// Where the resource table of running firmware is.
    pub table: Table,
    /// Paths of the nodes read here whose `status` says that they are not to be used. For the core itself that is
    /// as it should be: no driver of the kernel has it. Virtio devices that are disabled are left out.
    pub disabled: Vec<String>,
}

/// A place in the host's physical addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// Its first byte.
    pub address: u64,
    /// Its size in bytes, at least 1. The end fits 64 bits.
    pub size: u64,
}

/// A region of a remote's memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Region {
    /// What the kernel looks for (`vdev0vring0`, `vdev0buffer`, `rsc-table`), or a name of the board's own, which
    /// several may have: as in `memory-region-names` where there are any, or else that of the region's node.
    pub name: String,
    /// Where the host sees it.
    pub span: Span,
    /// Where the core sees it. Its last byte is within 32 bits.
    pub device_address: u32,
}

/// A virtio device of the remote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vdev {
    /// Its number among the remote's devices.
    pub index: u32,
    /// Its virtio device id (7 is rpmsg), if the tree says it.
    pub virtio_id: Option<u32>,
    /// Its virtqueues, at least one.
    pub queues: Vec<Queue>,
    /// The memory for its buffers, if it has some of its own.
    pub buffers: Option<Span>,
}

/// A virtqueue of the remote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Queue {
    /// The memory of its vring.
    pub vring: Span,
    /// Its mailbox channel, where each queue has one of its own.
    pub channel: Option<u8>,
}

/// A mailbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mailbox {
    /// Path of its controller's node.
    pub node: String,
    /// The controller's registers.
    pub registers: Span,
    /// What it is, and which parts of it lead to the remote.
    pub family: Family,
    /// The interrupts that tell the host of news.
    pub interrupts: Vec<Interrupt>,
}

/// A family of mailboxes. All numbers fit what the hardware has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// NXP i.MX messaging unit.
    ImxMu {
        /// Its registers' layout.
        version: MuVersion,
        /// Channel of the host's words, 0..=3.
        transmit: u8,
        /// Channel of the remote's words, 0..=3.
        receive: u8,
        /// Channel of the doorbell by which the remote says that it is ready, 0..=3.
        doorbell: Option<u8>,
    },
    /// ST inter-processor communication controller. The queues say which channels are theirs.
    Stm32Ipcc {
        /// Which of its two processors the host is.
        processor: u8,
        /// Channel on which the remote is asked to shut down.
        shutdown: Option<u8>,
        /// Channel on which the remote is asked to stop communicating.
        detach: Option<u8>,
    },
    /// TI mailbox with the registers of OMAP4 (K3 as well).
    OmapMailbox {
        /// The FIFO that the host reads, 0..=15.
        receive_fifo: u8,
        /// The FIFO that the host writes, 0..=15.
        transmit_fifo: u8,
        /// Which of the cluster's users the host is, 0..=3.
        user: u8,
    },
    /// Inter-processor interrupt of Zynq UltraScale+. The registers are those of the host's channel.
    ZynqmpIpi {
        /// The host's agent, 0..=10.
        local: u8,
        /// The remote's agent, 0..=10.
        remote: u8,
        /// The remote's bit in the registers.
        remote_bit: u8,
        /// Where the host leaves its messages.
        request: Span,
        /// Where the remote leaves its messages.
        remote_request: Span,
    },
}

/// An interrupt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interrupt {
    /// What the node calls it.
    pub name: Option<String>,
    /// Path of the interrupt controller.
    pub controller: String,
    /// How that controller tells its interrupts apart, for example 0 (shared), number, 4 (level high) of a GIC.
    pub cells: Vec<u32>,
}

/// Where the resource table of firmware that is running already is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Table {
    /// At this device address.
    At(u32),
    /// At the start of the first region, which is at this device address.
    StartOfFirstRegion(u32),
    /// At the address that a header names; the header is at the start of the first region, which is at this device
    /// address. Header: the kernel's `struct rsc_tbl_data` in `drivers/remoteproc/xlnx_r5_remoteproc.c`.
    HeaderInFirstRegion(u32),
    /// At the device address that is in a 32-bit register.
    InRegister {
        /// Physical address of the register.
        register: u64,
        /// The bits of it that are the address.
        mask: u32,
    },
    /// The tree does not say. The firmware's file does.
    Unknown,
    /// There is none: the vrings are at fixed places, see [`StaticLayout`](crate::remote::layout::StaticLayout).
    Static {
        /// Device address of the first vring.
        base: u32,
        /// Number of virtio devices.
        vdevs: u8,
    },
}
