//! Carveout memory: the stretches of memory that the host and a remote core share, named by device address.
//!
//! All of it is untrusted: the remote may change it at any time. Nothing here hands out a Rust reference into
//! it. Values are read once, with volatile accesses of their natural size and alignment, and the caller checks
//! and uses the copy.
//!
//! This is one of the few rooms with `unsafe`; everyone else works with [`CarveoutSlice`].

#[cfg(test)]
pub(crate) mod accesses;
mod barrier;
mod copy;
mod mapping;
mod physical;
mod slice;

use std::fs::File;
use std::io;
use std::os::unix::fs::FileTypeExt;
use std::sync::Arc;

use thiserror::Error;

pub use barrier::{after_observe, before_kick, before_publish, full};
use mapping::Mapping;
pub use physical::{open_uncached, register};
pub use slice::CarveoutSlice;

/// How the CPU reaches a region.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Ordinary cacheable memory: accesses of any width and alignment.
    Normal,
    /// Device or uncached memory: only aligned accesses of up to 8 bytes, as arm64 faults on anything else
    /// where UIO has mapped the memory Device-nGnRnE.
    Device,
}

/// One mapped stretch of carveout memory.
#[derive(Debug)]
pub struct Region {
    map: Mapping,
    device_address: u64,
    physical_address: u64,
    name: Option<String>,
    access: Access,
}

/// The regions of a remote core.
#[derive(Clone, Debug, Default)]
pub struct Carveouts {
    regions: Vec<Arc<Region>>,
}

/// Why memory of a remote core cannot be used.
#[derive(Debug, Error)]
pub enum CarveoutError {
    /// The size of the backing file could not be found out.
    #[error("cannot find the size of the memory file")]
    Size(#[source] std::io::Error),
    /// The file ends before the region does; touching the rest would be a bus error.
    #[error(
        "memory file holds {found:#x} bytes, expected at least {expected:#x} (offset + size); create it larger or configure a smaller size"
    )]
    FileTooSmall {
        /// Bytes that the region needs.
        expected: u64,
        /// Bytes that the file has.
        found: u64,
    },
    /// The region could not be mapped.
    #[error("cannot map {size:#x} bytes at offset {offset:#x} of the memory file")]
    Map {
        /// Offset in the file, in bytes.
        offset: u64,
        /// Size in bytes.
        size: usize,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A device address range that no region holds.
    #[error("device addresses {start:#x}..{end:#x} are in no configured memory region; the regions are {regions}", end = u128::from(*start) + u128::from(*len))]
    Outside {
        /// First device address.
        start: u64,
        /// Length in bytes.
        len: u64,
        /// The regions that there are.
        regions: String,
    },
    /// A structure at an address that its alignment forbids.
    #[error("device address {address:#x} is not aligned to {align} bytes")]
    Misaligned {
        /// The address.
        address: u64,
        /// The alignment in bytes.
        align: u64,
    },
}

impl Region {
    /// Maps `size` bytes of `file` from `offset` on, shared, as the memory that the remote core sees at
    /// `device_address`. A device like `/dev/mem` has no size: its driver refuses what is not there.
    ///
    /// # Errors
    /// A file that is too small, or one that cannot be mapped.
    pub fn map(
        file: &File,
        offset: u64,
        size: usize,
        device_address: u64,
        access: Access,
    ) -> Result<Self, CarveoutError> {
        Self::map_behind(file, offset, 0, size, device_address, access)
    }

    /// Like [`map`](Self::map), but `skipped` bytes are mapped before those `size` bytes. To a UIO device an offset is the
    /// number of a map, in pages, and a map can be mapped from its start on only (Linux `drivers/uio/uio.c`,
    /// `uio_find_mem_index`).
    ///
    /// # Errors
    /// As for [`map`](Self::map).
    pub fn map_behind(
        file: &File,
        offset: u64,
        skipped: usize,
        size: usize,
        device_address: u64,
        access: Access,
    ) -> Result<Self, CarveoutError> {
        let data = file.metadata().map_err(CarveoutError::Size)?;
        let expected = offset.saturating_add(skipped as u64).saturating_add(size as u64);
        // A device has no length; it refuses to be mapped where it has no memory.
        if data.len() < expected && !data.file_type().is_char_device() {
            return Err(CarveoutError::FileTooSmall { expected, found: data.len() });
        }
        let map = Mapping::new(file, offset, skipped, size).map_err(|source| CarveoutError::Map {
            offset,
            size,
            source,
        })?;
        Ok(Region { map, device_address, physical_address: device_address, name: None, access })
    }

    /// The same region, with the address by which descriptors name it, where that is not the device address: the
    /// host's physical address, which Linux puts there as the DMA address.
    #[must_use]
    pub fn at_physical(self, physical_address: u64) -> Self {
        Region { physical_address, ..self }
    }

    /// The same region, for what its name says: `vdev0vring0`, `vdev0vring1`, `vdev0buffer`, or something of the
    /// firmware's own.
    #[must_use]
    pub fn named(self, name: &str) -> Self {
        Region { name: Some(name.to_owned()), ..self }
    }

    /// What it is for; `None` where anything may be placed.
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// First device address of the region.
    pub fn device_address(&self) -> u64 {
        self.device_address
    }

    /// Size of the region in bytes.
    pub fn size(&self) -> usize {
        self.map.size()
    }

    /// Offset of `address` in this region, if the whole range lies in it.
    fn offset_of(&self, address: u64, len: usize) -> Option<usize> {
        let offset = usize::try_from(address.checked_sub(self.device_address)?).ok()?;
        (offset.checked_add(len)? <= self.size()).then_some(offset)
    }
}

impl Carveouts {
    /// The given regions together. Where they overlap, the first one counts.
    pub fn new(regions: Vec<Region>) -> Self {
        Carveouts { regions: regions.into_iter().map(Arc::new).collect() }
    }

    /// The regions in the order in which they were given.
    pub fn regions(&self) -> impl Iterator<Item = &Region> {
        self.regions.iter().map(Arc::as_ref)
    }

    /// Whether somebody has truncated a file that is mapped. What was behind reads as zeros.
    #[inline]
    pub fn are_torn(&self) -> bool {
        self.regions.iter().any(|region| region.map.is_torn())
    }

    /// The `len` bytes at device address `address`, which must be a multiple of `align`.
    ///
    /// # Errors
    /// A range that is not wholly in one region, or a misaligned address.
    pub fn slice(&self, address: u64, len: usize, align: u64) -> Result<CarveoutSlice, CarveoutError> {
        if !address.is_multiple_of(align) {
            return Err(CarveoutError::Misaligned { address, align });
        }
        self.regions
            .iter()
            .find_map(|region| {
                Some(CarveoutSlice::new(Arc::clone(region), region.offset_of(address, len)?, len))
            })
            .ok_or_else(|| CarveoutError::Outside {
                start: address,
                len: len as u64,
                regions: self.describe(),
            })
    }

    /// Each region as a whole, with its device address.
    pub fn slices(&self) -> impl Iterator<Item = (u64, CarveoutSlice)> {
        self.regions
            .iter()
            .map(|region| (region.device_address, CarveoutSlice::new(Arc::clone(region), 0, region.size())))
    }

    /// The physical address of a device address.
    pub fn physical_address(&self, device_address: u64) -> Option<u64> {
        self.regions()
            .find_map(|region| Some(region.physical_address + region.offset_of(device_address, 1)? as u64))
    }

    /// The device address of a physical address: where the remote core sees what the host has there.
    pub fn device_address(&self, physical_address: u64) -> Option<u64> {
        self.regions().find_map(|region| {
            let offset = physical_address.checked_sub(region.physical_address)?;
            (offset < region.size() as u64).then_some(region.device_address + offset)
        })
    }

    /// Bytes from `address` to the end of the region that holds it; 0 where none does.
    pub fn room_from(&self, address: u64) -> usize {
        self.regions().find_map(|region| Some(region.size() - region.offset_of(address, 1)?)).unwrap_or(0)
    }

    fn describe(&self) -> String {
        let ranges: Vec<String> = self
            .regions()
            .map(|region| {
                format!("{:#x}..{:#x}", region.device_address, region.device_address + region.size() as u64)
            })
            .collect();
        if ranges.is_empty() { "none".to_owned() } else { ranges.join(", ") }
    }
}

#[cfg(test)]
pub(crate) mod testing {
    //! Anonymous carveouts for the tests of this room's neighbours.

    use super::*;

    /// A carveout of `size` bytes at `device_address`, not backed by any path.
    pub(crate) fn carveouts(size: usize, device_address: u64, access: Access) -> Carveouts {
        let file = tempfile::tempfile().unwrap();
        file.set_len(size as u64).unwrap();
        Carveouts::new(vec![Region::map(&file, 0, size, device_address, access).unwrap()])
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt;

    use super::testing::carveouts;
    use super::*;

    #[test]
    fn a_range_is_found_by_its_device_address() {
        let carveouts = carveouts(0x2000, 0x2100_0000, Access::Normal);
        carveouts.slice(0x2100_0000, 0x2000, 16).unwrap().write_u32(0x1FFC, 7);
        assert_eq!(carveouts.slice(0x2100_1FFC, 4, 4).unwrap().read_u32(0), 7);
        assert_eq!(carveouts.room_from(0x2100_1000), 0x1000);
        assert_eq!(carveouts.room_from(0x2100_2000), 0);
    }

    #[test]
    fn a_range_outside_is_refused_with_the_regions_there_are() {
        let carveouts = carveouts(0x1000, 0x2100_0000, Access::Normal);
        for (address, len) in [(0x2100_0FFF, 2), (0x20FF_FFFF, 1), (u64::MAX, 16), (0, usize::MAX)] {
            let error = carveouts.slice(address, len, 1).unwrap_err().to_string();
            assert!(error.contains("0x21000000..0x21001000"), "{error}");
        }
    }

    #[test]
    fn device_and_physical_addresses_are_translated_both_ways() {
        let map = |da, pa| {
            let file = tempfile::tempfile().unwrap();
            file.set_len(0x1000).unwrap();
            Region::map(&file, 0, 0x1000, da, Access::Normal).unwrap().at_physical(pa)
        };
        let carveouts = Carveouts::new(vec![map(0, 0xFF_E00000), map(0x1000_0000, 0x3_8000_0000)]);
        assert_eq!(carveouts.physical_address(0xFFF), Some(0xFF_E00FFF));
        assert_eq!(carveouts.physical_address(0x1000_0010), Some(0x3_8000_0010));
        assert_eq!(carveouts.physical_address(0x1000), None);
        assert_eq!(carveouts.device_address(0x3_8000_0FFF), Some(0x1000_0FFF));
        assert_eq!(carveouts.device_address(0x3_8000_1000), None);
        assert_eq!(
            carveouts.slice(0x1000_0010, 16, 16).unwrap().subslice(4, 4).physical_address(),
            0x3_8000_0014
        );
    }

    #[test]
    fn a_misaligned_address_is_refused() {
        let error = carveouts(0x1000, 0, Access::Normal).slice(6, 4, 4).unwrap_err();
        assert_eq!(error.to_string(), "device address 0x6 is not aligned to 4 bytes");
    }

    #[test]
    fn what_lies_before_the_region_in_its_map_is_not_part_of_it() {
        // In steps of the largest pages that there are.
        let file = tempfile::tempfile().unwrap();
        file.set_len(0x30000).unwrap();
        let region = Region::map_behind(&file, 0x10000, 0x810, 0x100, 0x2000, Access::Device).unwrap();
        let carveouts = Carveouts::new(vec![region.at_physical(0x9000)]);
        let memory = carveouts.slice(0x2010, 4, 4).unwrap();
        memory.write_u32(0, 0x0403_0201);
        let mut bytes = [0; 4];
        file.read_exact_at(&mut bytes, 0x10000 + 0x810 + 0x10).unwrap();
        assert_eq!((bytes, memory.physical_address()), ([1, 2, 3, 4], 0x9010));
        assert!(carveouts.slice(0x20FD, 4, 1).is_err() && carveouts.slice(0x1FFF, 1, 1).is_err());

        let error = Region::map_behind(&file, 0x20000, 0x810, 0x10000, 0, Access::Device).unwrap_err();
        assert!(error.to_string().contains("expected at least 0x30810"), "{error}");
    }

    #[test]
    fn a_device_has_no_length_and_is_mapped_all_the_same() {
        let zero = File::options().read(true).write(true).open("/dev/zero").unwrap();
        let region = Region::map(&zero, 0, 0x1000, 0x1000, Access::Device).unwrap();
        let memory = Carveouts::new(vec![region]).slice(0x1FFC, 4, 4).unwrap();
        memory.write_u32(0, 7);
        assert_eq!(memory.read_u32(0), 7);
    }

    #[test]
    fn a_file_that_is_too_small_is_refused_before_anyone_touches_it() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(0x1000).unwrap();
        let error = Region::map(&file, 0x1000, 0x1000, 0, Access::Normal).unwrap_err().to_string();
        assert!(error.contains("holds 0x1000 bytes, expected at least 0x2000"), "{error}");
    }
}
