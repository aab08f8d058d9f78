//! Where everything lies in the memory, and the resource table that tells a host so.
//!
//! Source: Linux `include/linux/remoteproc.h`. The memory, by offset:
//!
//! | offset | what |
//! |---|---|
//! | 0 | resource table, in a region of 1 KiB as on i.MX and STM32 |
//! | 0x400 | trace buffer, 3 KiB of text |
//! | 0x1000 | pool: vring 0, vring 1, buffers; placed here by the table, or anywhere in it by the host |

use std::ops::Range;
use std::sync::atomic::Ordering;

use vm_memory::guest_memory::Error as AccessError;
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};

use super::{Config, ConfigError};
use crate::rpmsg::{BUFFER_SIZE, VIRTIO_ID_RPMSG, VIRTIO_RPMSG_F_NS};

/// `FW_RSC_ADDR_ANY`: the host chooses the address and writes it back. Also stands where the host has to write a
/// notifyid.
pub(super) const ANY: u32 = 0xFFFF_FFFF;
/// Number of vrings of an rpmsg vdev.
pub(super) const VRINGS: usize = 2;

const PAGE: u64 = 4096;
const TABLE_ROOM: u32 = 0x400;
const TRACE_LEN: u32 = 0xC00;
const POOL_OFFSET: u32 = TABLE_ROOM + TRACE_LEN;
const SMALLEST_DEFAULT: u64 = 1 << 20;

/// Entry types, `enum fw_resource_type`.
const RSC_CARVEOUT: u32 = 0;
const RSC_TRACE: u32 = 2;
const RSC_VDEV: u32 = 3;

const HEADER: u32 = 16 + 4 * ENTRIES;
const ENTRIES: u32 = 5;
const CARVEOUT_LEN: u32 = 4 + 5 * 4 + 32;
/// Offset of the vdev entry in the table; the three carveouts come before it.
const VDEV: u32 = HEADER + 3 * CARVEOUT_LEN;
const VDEV_GFEATURES: u32 = VDEV + 16;
const VDEV_STATUS: u32 = VDEV + 24;
const VDEV_VRINGS: u32 = VDEV + 28;
const VRING_LEN: u32 = 20;
const TRACE: u32 = VDEV_VRINGS + 2 * VRING_LEN;
const TABLE_LEN: u32 = TRACE + 4 + 3 * 4 + 32;
const _: () = assert!(TABLE_LEN <= TABLE_ROOM);

/// Where everything lies in the memory of a core.
#[derive(Clone, Debug)]
pub struct Layout {
    base: u32,
    size: u64,
    buffers: u16,
    align: u32,
    ring_region: u32,
    fixed: bool,
    features: u32,
}

/// What the host has written into the vdev entry.
#[derive(Clone, Copy, Debug)]
pub(super) struct Vdev {
    pub(super) gfeatures: u32,
    pub(super) vrings: [VringEntry; VRINGS],
}

/// What the host has written about one vring.
#[derive(Clone, Copy, Debug)]
pub(super) struct VringEntry {
    pub(super) da: u32,
    pub(super) num: u32,
    pub(super) notifyid: u32,
}

fn page_up(bytes: u64) -> u64 {
    bytes.next_multiple_of(PAGE)
}

/// Offset of the used ring behind the start of a split ring of `num` descriptors.
pub(super) fn used_offset(num: u16, align: u32) -> u64 {
    let num = u64::from(num);
    (16 * num + 2 * (3 + num)).next_multiple_of(align.into())
}

/// Bytes of a split ring of `num` descriptors, `vring_size()` of Linux.
pub(super) fn ring_len(num: u16, align: u32) -> u64 {
    used_offset(num, align) + 2 * 3 + 8 * u64::from(num)
}

impl Layout {
    /// Lays out the memory for a configuration.
    pub(super) fn new(config: &Config) -> Result<Self, ConfigError> {
        let (base, buffers, align) = (config.device_address, config.buffers, config.align);
        if !buffers.is_power_of_two() || !(2..=1024).contains(&buffers) {
            return Err(ConfigError::Buffers { found: buffers });
        }
        if !align.is_power_of_two() || !(16..=65536).contains(&align) {
            return Err(ConfigError::Align { found: align });
        }
        // Vrings must start at multiples of the alignment too.
        let unit = u64::from(align).max(PAGE);
        let expected = align.max(4096);
        if !base.is_multiple_of(expected) {
            return Err(ConfigError::Misaligned { found: base, expected });
        }
        let ring_region = ring_len(buffers, align).next_multiple_of(unit);
        let buffer_bytes = 2 * u64::from(buffers) * BUFFER_SIZE as u64;
        let needed = page_up(u64::from(POOL_OFFSET).next_multiple_of(unit) + 2 * ring_region + buffer_bytes);
        let size = config.memory_size.unwrap_or_else(|| needed.max(SMALLEST_DEFAULT));
        if size < needed {
            return Err(ConfigError::MemoryTooSmall { found: size, buffers, needed });
        }
        if u64::from(base) + size > 1 << 32 {
            return Err(ConfigError::BeyondAddressSpace { address: base, size });
        }
        Ok(Layout {
            base,
            size,
            buffers,
            align,
            ring_region: u32::try_from(ring_region).unwrap_or(u32::MAX),
            fixed: config.fixed_vrings,
            features: if config.name_service { 1 << VIRTIO_RPMSG_F_NS } else { 0 },
        })
    }

    /// Size of the memory in bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Device address of the memory.
    pub fn device_address(&self) -> u32 {
        self.base
    }

    /// Device address of the resource table.
    pub fn table_address(&self) -> u32 {
        self.base
    }

    /// Bytes from the table's start that no one else may use: table and trace buffer.
    pub fn table_room(&self) -> u32 {
        POOL_OFFSET
    }

    /// Device address of the pool, where vrings and buffers go; it extends to the end of the memory.
    pub fn pool_address(&self) -> u32 {
        let unit = u64::from(self.align).max(PAGE);
        self.base + u32::try_from(u64::from(POOL_OFFSET).next_multiple_of(unit)).unwrap_or(u32::MAX)
    }

    /// Device addresses of the pool.
    pub(super) fn pool(&self) -> Range<u64> {
        u64::from(self.base) + u64::from(POOL_OFFSET)..u64::from(self.base) + self.size
    }

    /// Descriptors per vring.
    pub(super) fn buffers(&self) -> u16 {
        self.buffers
    }

    /// Alignment of the vrings in bytes.
    pub(super) fn align(&self) -> u32 {
        self.align
    }

    /// Feature bits offered.
    pub(super) fn features(&self) -> u32 {
        self.features
    }

    /// Writes a fresh resource table. The status goes first, so that a host never sees an old "driver is up" on a
    /// new table.
    pub(super) fn write_table(&self, memory: &GuestMemoryMmap) -> Result<(), AccessError> {
        memory.store(0u8, self.at(VDEV_STATUS), Ordering::SeqCst)?;
        memory.write_slice(&self.table(), self.at(0))?;
        memory.write_slice(&[0; TRACE_LEN as usize], self.at(TABLE_ROOM))
    }

    /// The bytes of a fresh resource table.
    fn table(&self) -> Vec<u8> {
        let ring = |index: u32| self.pool_address() + index * self.ring_region;
        let placed = |address: u32| if self.fixed { address } else { ANY };
        let buffer_bytes = 2 * u32::from(self.buffers) * u32::try_from(BUFFER_SIZE).unwrap_or(u32::MAX);
        let mut table = Words::default();
        let carveout = |index: u32| HEADER + index * CARVEOUT_LEN;
        table.words(&[1, ENTRIES, 0, 0]);
        table.words(&[carveout(0), carveout(1), carveout(2), VDEV, TRACE]);
        for (name, da, len) in [
            ("vdev0vring0", ring(0), self.ring_region),
            ("vdev0vring1", ring(1), self.ring_region),
            ("vdev0buffer", ring(2), buffer_bytes),
        ] {
            table.words(&[RSC_CARVEOUT, placed(da), ANY, len, 0, 0]);
            table.name(name);
        }
        table.words(&[RSC_VDEV, VIRTIO_ID_RPMSG, ANY, self.features, 0, 0]);
        table.bytes(&[0, 2, 0, 0]);
        for index in 0..2 {
            table.words(&[placed(ring(index)), self.align, self.buffers.into(), ANY, 0]);
        }
        table.words(&[RSC_TRACE, self.base + TABLE_ROOM, TRACE_LEN, 0]);
        table.name("trace0");
        table.0
    }

    /// The vdev status as the host has left it.
    pub(super) fn status(&self, memory: &GuestMemoryMmap) -> Result<u8, AccessError> {
        memory.load(self.at(VDEV_STATUS), Ordering::Acquire)
    }

    /// Sets the vdev status, as firmware does that gives up on a host.
    pub(super) fn set_status(&self, memory: &GuestMemoryMmap, status: u8) -> Result<(), AccessError> {
        memory.store(status, self.at(VDEV_STATUS), Ordering::Release)
    }

    /// The device addresses of the vrings as the host has left them.
    pub(super) fn ring_addresses(&self, memory: &GuestMemoryMmap) -> Result<[u32; VRINGS], AccessError> {
        let address = |index| self.word(memory, VDEV_VRINGS + index * VRING_LEN);
        Ok([address(0)?, address(1)?])
    }

    /// What the host has written into the vdev entry. Read after the status.
    pub(super) fn vdev(&self, memory: &GuestMemoryMmap) -> Result<Vdev, AccessError> {
        let entry = |index: u32| -> Result<VringEntry, AccessError> {
            let offset = VDEV_VRINGS + index * VRING_LEN;
            Ok(VringEntry {
                da: self.word(memory, offset)?,
                num: self.word(memory, offset + 8)?,
                notifyid: self.word(memory, offset + 12)?,
            })
        };
        Ok(Vdev { gfeatures: self.word(memory, VDEV_GFEATURES)?, vrings: [entry(0)?, entry(1)?] })
    }

    /// Writes `text` into the trace buffer at `offset`, which is counted modulo its length; returns the next offset.
    /// The last byte stays NUL.
    pub(super) fn write_trace(
        &self,
        memory: &GuestMemoryMmap,
        offset: u32,
        text: &str,
    ) -> Result<u32, AccessError> {
        let room = TRACE_LEN - 1;
        let mut offset = offset;
        for byte in text.bytes() {
            memory.write_obj(byte, self.at(TABLE_ROOM + offset % room))?;
            offset += 1;
        }
        Ok(offset % room)
    }

    fn word(&self, memory: &GuestMemoryMmap, offset: u32) -> Result<u32, AccessError> {
        memory.load(self.at(offset), Ordering::Relaxed).map(u32::from_le)
    }

    fn at(&self, offset: u32) -> GuestAddress {
        GuestAddress(u64::from(self.base) + u64::from(offset))
    }
}

/// Little-endian words in a row.
#[derive(Default)]
struct Words(Vec<u8>);

impl Words {
    fn words(&mut self, words: &[u32]) {
        for word in words {
            self.bytes(&word.to_le_bytes());
        }
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    /// A name of up to 31 bytes in its 32.
    fn name(&mut self, name: &str) {
        let end = self.0.len() + 32;
        self.bytes(name.as_bytes());
        self.0.resize(end, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(change: impl FnOnce(&mut Config)) -> Result<Layout, ConfigError> {
        let mut config = Config::default();
        change(&mut config);
        config.layout()
    }

    fn word(table: &[u8], at: u32) -> u32 {
        let at = at as usize;
        u32::from_le_bytes(table[at..at + 4].try_into().unwrap())
    }

    #[test]
    fn every_offset_of_the_table_leads_to_the_entry_it_names() {
        let table = layout(|_| ()).unwrap().table();
        assert_eq!(table.len(), TABLE_LEN as usize);
        let kinds: Vec<u32> = (0..ENTRIES).map(|i| word(&table, word(&table, 16 + 4 * i))).collect();
        assert_eq!(kinds, [RSC_CARVEOUT, RSC_CARVEOUT, RSC_CARVEOUT, RSC_VDEV, RSC_TRACE]);
        assert_eq!(word(&table, VDEV + 4), VIRTIO_ID_RPMSG);
        assert_eq!(table[VDEV_STATUS as usize..][..2], [0, 2]);
    }

    #[test]
    fn vring_addresses_are_left_to_the_host_unless_fixed() {
        let free = layout(|_| ()).unwrap().table();
        assert_eq!(word(&free, VDEV_VRINGS), ANY);
        let fixed = layout(|config| config.fixed_vrings = true).unwrap();
        let table = fixed.table();
        assert_eq!(word(&table, VDEV_VRINGS), fixed.pool_address());
        assert_eq!(word(&table, VDEV_VRINGS + VRING_LEN), fixed.pool_address() + fixed.ring_region);
    }

    #[test]
    fn a_ring_has_the_size_that_linux_gives_it() {
        assert_eq!(ring_len(256, 4096), 8192 + 6 + 2048);
        assert_eq!(ring_len(2, 16), 48 + 6 + 16);
    }

    #[test]
    fn fixed_vrings_and_buffers_fit_the_memory_for_every_size() {
        for buffers in (1..=10).map(|bits| 1u16 << bits) {
            for align in (4..=16).map(|bits| 1u32 << bits) {
                let made = layout(|config| {
                    config.buffers = buffers;
                    config.align = align;
                })
                .unwrap();
                let ring0 = u64::from(made.pool_address());
                let end = ring0 + 2 * u64::from(made.ring_region) + 1024 * u64::from(buffers);
                assert!(ring0.is_multiple_of(align.into()) && made.ring_region.is_multiple_of(align));
                assert!(u64::from(made.ring_region) >= ring_len(buffers, align));
                assert!(end <= u64::from(made.device_address()) + made.size());
            }
        }
    }

    #[test]
    fn too_little_memory_is_refused_with_the_size_that_would_do() {
        let Err(ConfigError::MemoryTooSmall { needed, .. }) = layout(|c| c.memory_size = Some(4096)) else {
            panic!("expected a refusal");
        };
        assert!(layout(|c| c.memory_size = Some(needed)).is_ok());
        assert!(layout(|c| c.memory_size = Some(needed - 1)).is_err());
    }

    #[test]
    fn impossible_numbers_are_refused() {
        assert_eq!(layout(|c| c.buffers = 3).unwrap_err(), ConfigError::Buffers { found: 3 });
        assert_eq!(layout(|c| c.buffers = 2048).unwrap_err(), ConfigError::Buffers { found: 2048 });
        assert_eq!(layout(|c| c.align = 8).unwrap_err(), ConfigError::Align { found: 8 });
        assert!(layout(|c| c.device_address = 0xFFFF_F000).is_err());
        assert!(layout(|c| c.device_address = 0x2100_0010).is_err());
    }
}
