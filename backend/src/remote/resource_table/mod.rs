//! The resource table: what a remote core's firmware asks of its host, and where both agree on the vrings.
//!
//! The table lies in memory that the remote core can write at any time. So whoever attaches copies it out once (at
//! most [`MAX_LEN`] bytes), [`ResourceTable::parse`]s the private copy, and decides by the values found there
//! alone. What the host has to fill in (status, features, vring addresses, notify ids) it writes at the offsets
//! that [`Vdev`], [`Vring`] and [`Carveout`] give; [`ResourceTable::len`] says how much of the copy to keep, so that
//! the table can be put back as it was on detach.
//!
//! Layout, packed and little-endian: version, number of entries `n`, two reserved words, `n` offsets from the start of
//! the table, then the entries, each opening with its type. Entries may lie in any order, at any alignment, and
//! may even share bytes; they may not reach into the header.
//!
//! | type | entry | here |
//! |---|---|---|
//! | 0 | memory that the firmware wants | [`Resource::Carveout`] |
//! | 1 | a peripheral to be mapped through an IOMMU | [`Resource::Devmem`] |
//! | 2 | a trace buffer | [`Resource::Trace`] |
//! | 3 | a virtio device | [`Resource::Vdev`] |
//! | 128..=512 | the vendor's own | [`Resource::Vendor`] |
//! | others | | [`Resource::Unknown`]: to be reported, and otherwise ignored, as Linux does |
//!
//! Source: Linux `include/linux/remoteproc.h` (later moved to `include/linux/rsc_table.h`) for the layout,
//! `drivers/remoteproc/remoteproc_core.c` and `remoteproc_elf_loader.c` for what is refused. Stricter than Linux: vring
//! sizes and alignments that its `vring_init` would take and then work wrongly with are refused.
#![forbid(unsafe_code)]

mod display;
mod error;
mod parse;
#[cfg(test)]
mod tests;

pub use error::ResourceTableError;

/// Most bytes of a table that are looked at. Linux reserves 1 KiB for the table of a core that already runs (i.MX,
/// STM32); this leaves room for sixteen times as much.
pub const MAX_LEN: usize = 16 * 1024;

/// "The host chooses the address" (`FW_RSC_ADDR_ANY`); `None` in the decoded table.
pub const ADDRESS_ANY: u32 = 0xFFFF_FFFF;

/// Most vrings that one virtio device may have (`RVDEV_NUM_VRINGS` of Linux).
pub const MAX_VRINGS: usize = 2;

/// Most descriptors of a vring: the limit of a virtio split queue (virtio 1.2, section 2.7).
pub const MAX_DESCRIPTORS: u32 = 32768;

/// Smallest alignment of a vring's parts, in bytes: what its used ring needs (virtio 1.2, section 2.7).
pub const MIN_ALIGN: u32 = 4;

/// Bytes of a resource's name.
const NAME_SIZE: usize = 32;

/// Offsets of `struct fw_rsc_vdev` with its `struct fw_rsc_hdr` in front, in bytes from the entry's start.
mod vdev {
    pub(super) const ID: usize = 4;
    pub(super) const NOTIFYID: usize = 8;
    pub(super) const DFEATURES: usize = 12;
    pub(super) const GFEATURES: usize = 16;
    pub(super) const CONFIG_LEN: usize = 20;
    pub(super) const STATUS: usize = 24;
    pub(super) const NUM_OF_VRINGS: usize = 25;
    pub(super) const RESERVED: usize = 26;
    pub(super) const VRINGS: usize = 28;
}

/// Offsets of `struct fw_rsc_vdev_vring`, in bytes from the vring's start.
mod vring {
    pub(super) const DA: usize = 0;
    pub(super) const ALIGN: usize = 4;
    pub(super) const NUM: usize = 8;
    pub(super) const NOTIFYID: usize = 12;
    pub(super) const PA: usize = 16;
    pub(super) const LEN: usize = 20;
}

/// Offsets of `struct fw_rsc_carveout` and `struct fw_rsc_devmem`, in bytes from the entry's start.
mod region {
    pub(super) const DA: usize = 4;
    pub(super) const PA: usize = 8;
    pub(super) const SIZE: usize = 12;
    pub(super) const FLAGS: usize = 16;
    pub(super) const RESERVED: usize = 20;
    pub(super) const NAME: usize = 24;
    pub(super) const LEN: usize = 56;
}

/// Offsets of `struct fw_rsc_trace`, in bytes from the entry's start.
mod trace {
    pub(super) const DA: usize = 4;
    pub(super) const SIZE: usize = 8;
    pub(super) const RESERVED: usize = 12;
    pub(super) const NAME: usize = 16;
    pub(super) const LEN: usize = 48;
}

/// A resource table, decoded from a private copy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResourceTable {
    entries: Vec<Entry>,
    len: usize,
}

/// One entry of the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Where it starts, in bytes from the start of the table.
    pub offset: usize,
    /// What it holds.
    pub resource: Resource,
}

/// What an entry holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Resource {
    /// Memory that the firmware wants.
    Carveout(Carveout),
    /// A peripheral that the firmware wants mapped through an IOMMU.
    Devmem(Devmem),
    /// A buffer into which the firmware writes its log.
    Trace(Trace),
    /// A virtio device.
    Vdev(Vdev),
    /// An entry of the vendor's own.
    Vendor(Opaque),
    /// An entry of a type that nobody has defined.
    Unknown(Opaque),
}

/// Memory that the firmware wants (`struct fw_rsc_carveout`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Carveout {
    offset: usize,
    /// Device address; `None` where the host chooses. With `size` added it stays within 32 bits.
    pub da: Option<u32>,
    /// Physical address, filled in by the host.
    pub pa: u32,
    /// Size in bytes.
    pub size: u32,
    /// IOMMU protection flags.
    pub flags: u32,
    /// Its name, by which Linux finds reserved memory: `vdev0vring0`, `vdev0buffer`, or the firmware's own.
    pub name: Name,
}

/// A peripheral to be mapped through an IOMMU (`struct fw_rsc_devmem`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Devmem {
    /// Device address that the firmware will use.
    pub da: u32,
    /// Physical address of the peripheral.
    pub pa: u32,
    /// Size in bytes.
    pub size: u32,
    /// IOMMU protection flags.
    pub flags: u32,
    /// Its name, for people.
    pub name: Name,
}

/// A trace buffer (`struct fw_rsc_trace`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trace {
    /// Device address; `None` if the firmware left it open, and there is no buffer to be read. With `size` added it
    /// stays within 32 bits.
    pub da: Option<u32>,
    /// Size in bytes.
    pub size: u32,
    /// Its name, for people.
    pub name: Name,
}

/// A virtio device (`struct fw_rsc_vdev`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vdev {
    offset: usize,
    /// virtio device id; 7 is rpmsg.
    pub id: u32,
    /// Notify id of the device itself, for changes of status and features. Linux never uses it.
    pub notifyid: u32,
    /// Features that the firmware offers, bits 0..=31.
    pub dfeatures: u32,
    /// Features that the host has accepted.
    pub gfeatures: u32,
    /// Size of the virtio configuration space that follows the vrings, in bytes.
    pub config_len: u32,
    /// virtio device status, written by the host.
    pub status: u8,
    /// Its vrings in the order of virtio queues, at most [`MAX_VRINGS`].
    pub vrings: Vec<Vring>,
}

/// A vring of a virtio device (`struct fw_rsc_vdev_vring`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vring {
    offset: usize,
    /// Device address, a multiple of `align`; `None` where the host chooses.
    pub da: Option<u32>,
    /// Alignment of the used ring in bytes, a power of two of at least [`MIN_ALIGN`].
    pub align: u32,
    /// Number of descriptors, a power of two of at most [`MAX_DESCRIPTORS`].
    pub num: u32,
    /// What a kick of this vring carries, assigned by the host.
    pub notifyid: u32,
    /// Physical address, filled in by the host.
    pub pa: u32,
}

/// An entry that is not understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Opaque {
    /// Its type.
    pub kind: u32,
    /// Bytes from its start to the next entry; `None` for the last one, whose end the table does not tell.
    pub len: Option<usize>,
}

/// Name of a resource: up to 32 bytes, ended by a NUL or by the field. May be empty.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Name([u8; NAME_SIZE]);

impl ResourceTable {
    /// The entries, in the order of the offsets in the header.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The virtio devices. Their order gives the numbers in the names of carveouts (`vdev0buffer`).
    pub fn vdevs(&self) -> impl Iterator<Item = &Vdev> {
        self.entries.iter().filter_map(|entry| match &entry.resource {
            Resource::Vdev(vdev) => Some(vdev),
            _ => None,
        })
    }

    /// The carveouts.
    pub fn carveouts(&self) -> impl Iterator<Item = &Carveout> {
        self.entries.iter().filter_map(|entry| match &entry.resource {
            Resource::Carveout(carveout) => Some(carveout),
            _ => None,
        })
    }

    /// The trace buffers.
    pub fn traces(&self) -> impl Iterator<Item = &Trace> {
        self.entries.iter().filter_map(|entry| match &entry.resource {
            Resource::Trace(trace) => Some(trace),
            _ => None,
        })
    }

    /// Bytes from the table's start to the end of its last entry: what a clean copy has to hold. The content of a
    /// vendor's entry at the very end, whose length nobody knows, is not in it; the host writes nothing there.
    #[expect(clippy::len_without_is_empty, reason = "a length in bytes, never less than the header")]
    pub fn len(&self) -> usize {
        self.len
    }
}

impl Carveout {
    /// Where the host writes the device address it chose (u32), in bytes from the table's start.
    pub fn da_offset(&self) -> usize {
        self.offset + region::DA
    }

    /// Where the host writes the physical address (u32), in bytes from the table's start.
    pub fn pa_offset(&self) -> usize {
        self.offset + region::PA
    }

    /// Where the host writes the size that it really gives (u32), in bytes from the table's start.
    pub fn size_offset(&self) -> usize {
        self.offset + region::SIZE
    }
}

impl Vdev {
    /// Where the host writes the device's own notify id (u32), in bytes from the table's start.
    pub fn notifyid_offset(&self) -> usize {
        self.offset + vdev::NOTIFYID
    }

    /// Where the host writes the features it accepts (u32), in bytes from the table's start.
    pub fn gfeatures_offset(&self) -> usize {
        self.offset + vdev::GFEATURES
    }

    /// Where the host writes the device status (u8), in bytes from the table's start.
    pub fn status_offset(&self) -> usize {
        self.offset + vdev::STATUS
    }

    /// Where the configuration space of `config_len` bytes starts, in bytes from the table's start.
    pub fn config_offset(&self) -> usize {
        self.offset + vdev::VRINGS + self.vrings.len() * vring::LEN
    }
}

impl Vring {
    /// Where the host writes the device address (u32), in bytes from the table's start.
    pub fn da_offset(&self) -> usize {
        self.offset + vring::DA
    }

    /// Where the host writes the notify id (u32), in bytes from the table's start.
    pub fn notifyid_offset(&self) -> usize {
        self.offset + vring::NOTIFYID
    }

    /// Where the host writes the physical address (u32), in bytes from the table's start.
    pub fn pa_offset(&self) -> usize {
        self.offset + vring::PA
    }
}

impl Name {
    /// The bytes before the terminating NUL, or all of them.
    pub fn as_bytes(&self) -> &[u8] {
        let end = self.0.iter().position(|byte| *byte == 0).unwrap_or(NAME_SIZE);
        &self.0[..end]
    }
}
