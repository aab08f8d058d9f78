//! A checked view of carveout memory.

use std::sync::Arc;

use vm_memory::VolatileSlice;

use super::copy::{into_carveout, out_of_carveout};
use super::{Access, Region};

/// A range of carveout memory. Offsets are in bytes from its start; numbers are little-endian.
///
/// Every access is bounds-checked. An offset outside the slice, or one that is not aligned to the size of the
/// access, is a mistake of the program and panics: offsets must come from validated sizes, never from what the
/// remote wrote.
#[derive(Clone, Debug)]
pub struct CarveoutSlice {
    region: Arc<Region>,
    start: *mut u8,
    len: usize,
}

// SAFETY: the pointer stays valid as long as the region, which the slice keeps alive, and which may be used from
// any thread: all accesses are volatile and make no claim about who else accesses the memory.
unsafe impl Send for CarveoutSlice {}

macro_rules! number_accessors {
    ($($read:ident $write:ident $number:ty),*) => {$(
        /// Reads the little-endian number at `offset`, which must be aligned to its size, once.
        #[inline]
        pub fn $read(&self, offset: usize) -> $number {
            let at = self.at(offset, size_of::<$number>(), align_of::<$number>()).cast::<$number>();
            #[cfg(test)]
            super::accesses::note(at.addr(), size_of::<$number>());
            // SAFETY: `at` has checked that the number lies within the slice and is aligned.
            <$number>::from_le(unsafe { at.read_volatile() })
        }

        /// Writes the number at `offset`, which must be aligned to its size, in one little-endian access.
        #[inline]
        pub fn $write(&self, offset: usize, value: $number) {
            #[cfg(test)]
            crate::crash::point();
            let at = self.at(offset, size_of::<$number>(), align_of::<$number>()).cast::<$number>();
            #[cfg(test)]
            super::accesses::note(at.addr(), size_of::<$number>());
            // SAFETY: `at` has checked that the number lies within the slice and is aligned.
            unsafe { at.write_volatile(value.to_le()) }
        }
    )*};
}

impl CarveoutSlice {
    /// The `len` bytes of `region` from `offset` on, which the caller has checked to be inside.
    pub(super) fn new(region: Arc<Region>, offset: usize, len: usize) -> Self {
        assert!(offset.checked_add(len).is_some_and(|end| end <= region.size()), "slice within region");
        // SAFETY: the range was just checked to lie within the mapping.
        let start = unsafe { region.map.as_ptr().add(offset) };
        CarveoutSlice { region, start, len }
    }

    /// Length in bytes.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether the slice has no bytes.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The address by which a descriptor names the slice's start.
    pub fn physical_address(&self) -> u64 {
        self.region.physical_address + (self.start.addr() - self.region.map.as_ptr().addr()) as u64
    }

    /// The `len` bytes from `offset` on as a slice of their own.
    pub fn subslice(&self, offset: usize, len: usize) -> Self {
        CarveoutSlice { region: Arc::clone(&self.region), start: self.at(offset, len, 1), len }
    }

    number_accessors!(read_u8 write_u8 u8, read_u16 write_u16 u16, read_u32 write_u32 u32, read_u64 write_u64 u64);

    /// Copies the `N` bytes at `offset` out, each read once.
    #[inline]
    pub fn read_bytes<const N: usize>(&self, offset: usize) -> [u8; N] {
        let mut bytes = [0; N];
        self.read_into(offset, &mut bytes);
        bytes
    }

    /// Copies bytes from `offset` on into `target`, each read once.
    #[inline]
    pub fn read_into(&self, offset: usize, target: &mut [u8]) {
        let from = self.at(offset, target.len(), 1);
        // SAFETY: `at` has checked the range; `target` is private memory and cannot overlap a shared mapping.
        unsafe { out_of_carveout(target.as_mut_ptr(), from, target.len(), self.access()) }
    }

    /// Copies `source` to `offset`.
    #[inline]
    pub fn write_bytes(&self, offset: usize, source: &[u8]) {
        #[cfg(test)]
        crate::crash::point();
        let to = self.at(offset, source.len(), 1);
        // SAFETY: `at` has checked the range; `source` is private memory and cannot overlap a shared mapping.
        unsafe { into_carveout(to, source.as_ptr(), source.len(), self.access()) }
    }

    /// Sets the `len` bytes from `offset` on to zero.
    pub fn write_zeros(&self, offset: usize, len: usize) {
        const ZEROS: [u8; 4096] = [0; 4096];
        let cleared = self.subslice(offset, len);
        for done in (0..len).step_by(ZEROS.len()) {
            cleared.write_bytes(done, &ZEROS[..ZEROS.len().min(len - done)]);
        }
    }

    /// Copies the whole of a piece of another VM's or process's memory to `offset`.
    #[inline]
    pub fn copy_from(&self, offset: usize, source: &VolatileSlice<'_>) {
        #[cfg(test)]
        crate::crash::point();
        let to = self.at(offset, source.len(), 1);
        // SAFETY: `at` has checked the range, and a `VolatileSlice` is valid for its length. Guest memory and
        // carveouts are separate mappings; were a front-end to pass the carveout file itself as guest memory, the
        // addresses would still differ.
        unsafe { into_carveout(to, source.ptr_guard().as_ptr(), source.len(), self.access()) }
    }

    /// Copies bytes from `offset` on into the whole of a piece of another VM's or process's memory.
    #[inline]
    pub fn copy_to(&self, offset: usize, target: &VolatileSlice<'_>) {
        #[cfg(test)]
        crate::crash::point();
        let from = self.at(offset, target.len(), 1);
        // SAFETY: as in `copy_from`.
        unsafe { out_of_carveout(target.ptr_guard_mut().as_ptr(), from, target.len(), self.access()) }
    }

    /// Where it is in this process.
    #[cfg(test)]
    pub(crate) fn host_range(&self) -> std::ops::Range<usize> {
        self.start.addr()..self.start.addr() + self.len
    }

    fn access(&self) -> Access {
        self.region.access
    }

    /// Pointer to `offset`, after a check that `len` bytes from there on lie within and are aligned.
    #[inline]
    fn at(&self, offset: usize, len: usize, align: usize) -> *mut u8 {
        assert!(offset <= self.len && len <= self.len - offset, "access within carveout slice");
        // SAFETY: the offset was just checked to lie within the slice.
        let at = unsafe { self.start.add(offset) };
        assert!(at.addr().is_multiple_of(align), "aligned carveout access");
        at
    }
}

#[cfg(test)]
mod tests {
    use super::super::accesses;
    use super::super::testing::carveouts;
    use super::*;

    #[test]
    fn numbers_are_little_endian() {
        let slice = carveouts(0x1000, 0, Access::Device).slice(0, 0x100, 16).unwrap();
        slice.write_u32(4, 0x0403_0201);
        assert_eq!(slice.read_bytes::<4>(4), [1, 2, 3, 4]);
        assert_eq!(slice.read_u16(6), 0x0403);
    }

    #[test]
    fn bytes_written_are_read_back_at_every_offset() {
        for access in [Access::Normal, Access::Device] {
            let slice = carveouts(0x1000, 0, access).slice(0, 0x100, 16).unwrap();
            for offset in 0..16 {
                let data: [u8; 37] = std::array::from_fn(|i| u8::try_from(i + offset).unwrap());
                slice.write_bytes(offset, &data);
                assert_eq!(slice.read_bytes::<37>(offset), data);
            }
        }
    }

    #[test]
    fn zeros_are_written_to_the_range_and_nowhere_else() {
        for access in [Access::Normal, Access::Device] {
            for (offset, len) in [(0, 0), (3, 1), (1, 4096), (8, 4097), (5, 0x2FF0)] {
                let slice = carveouts(0x3000, 0, access).slice(0, 0x3000, 16).unwrap();
                slice.write_bytes(0, &[0xFF; 0x3000]);
                slice.write_zeros(offset, len);
                let mut expected = [0xFF; 0x3000];
                expected[offset..offset + len].fill(0);
                assert!(slice.read_bytes::<0x3000>(0) == expected, "{len} bytes from {offset} on");
            }
        }
    }

    #[test]
    fn device_memory_is_accessed_aligned_and_at_most_eight_bytes_at_once_and_other_memory_as_it_comes() {
        for (access, is_fit) in [(Access::Device, true), (Access::Normal, false)] {
            let slice = carveouts(0x1000, 0, access).slice(0, 0x100, 16).unwrap();
            for (offset, len) in (0..9).flat_map(|offset| (9..40).map(move |len| (offset, len))) {
                let mut data = vec![7; len];
                let accesses = accesses::during(|| {
                    slice.write_bytes(offset, &data);
                    slice.read_into(offset, &mut data);
                });
                assert_eq!(accesses.iter().map(|access| access.width).sum::<usize>(), 2 * len);
                assert_eq!(accesses.iter().all(|access| access.is_fit_for_devices()), is_fit);
            }
        }
    }

    #[test]
    #[should_panic(expected = "access within carveout slice")]
    fn an_access_beyond_the_end_is_caught() {
        carveouts(0x1000, 0, Access::Normal).slice(0, 8, 1).unwrap().read_u32(6);
    }

    #[test]
    #[should_panic(expected = "aligned carveout access")]
    fn a_misaligned_access_is_caught() {
        carveouts(0x1000, 0, Access::Normal).slice(0, 8, 1).unwrap().read_u32(2);
    }
}
