//! Guest memory, as one generation of the front-end's memory table.
//!
//! All of it is untrusted: the guest may change it at any time, and the front-end may replace it. A
//! [`GuestMemory`] keeps its generation mapped for as long as anything points into it, so raw pointers that were
//! validated once stay valid. Nothing here hands out a Rust reference into guest memory: rings are accessed by
//! volatile or atomic accesses of one field, buffers as [`VolatileSlice`].
//!
//! The only `unsafe` of the guest's room.

use std::io;
use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};

use thiserror::Error;
use vm_memory::{GuestMemoryBackend, GuestMemoryMmap, GuestMemoryRegion, GuestRegionMmap, VolatileSlice};

use crate::torn::Guard;

/// One generation of a VM's memory.
#[derive(Debug)]
pub struct GuestMemory {
    regions: Vec<HostRange>,
    guards: Vec<Guard>,
    /// Keeps the mappings alive.
    _mappings: Arc<GuestMemoryMmap>,
}

/// Guards for all regions of a memory table. They must not outlive it.
pub(super) fn guards(mappings: &GuestMemoryMmap) -> Vec<Guard> {
    let guard = |region: &GuestRegionMmap| {
        let len = usize::try_from(region.len()).expect("what is mapped has an address");
        Guard::new(region.as_ptr(), len)
    };
    mappings.iter().map(guard).collect()
}

/// Why a front-end's memory cannot be used.
#[derive(Debug, Error)]
pub enum MemoryError {
    /// The size of a region's file could not be found out.
    #[error("cannot find the size of the file behind the region at guest address {start:#x}")]
    Size {
        /// Guest physical address of the region.
        start: u64,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The file ends before the region does: it can be mapped all the same, but the first access to the rest would be a
    /// bus error, and the end of the program.
    #[error(
        "region of {len:#x} bytes at guest address {start:#x} in a file of {found:#x} bytes, expected one of at least \
         {expected:#x} (offset + size); give the VM memory that is as large as the front-end says"
    )]
    FileTooSmall {
        /// Guest physical address of the region.
        start: u64,
        /// Its length in bytes.
        len: u64,
        /// What the file would have to hold, in bytes.
        expected: u64,
        /// What it holds.
        found: u64,
    },
}

/// Checks that there is a file behind all of the memory.
///
/// # Errors
/// A file that is shorter than what is mapped of it. A front-end that makes it shorter later is noticed by the [`Guard`]s.
pub(super) fn check_files(mappings: &GuestMemoryMmap) -> Result<(), MemoryError> {
    for region in mappings.iter() {
        let (start, len) = (region.start_addr().0, region.len());
        let Some(file) = region.file_offset() else { continue };
        let expected = file.start().saturating_add(len);
        let metadata = file.file().metadata().map_err(|source| MemoryError::Size { start, source })?;
        // A device has no length; it refuses to be mapped where it has no memory.
        if metadata.is_file() && metadata.len() < expected {
            return Err(MemoryError::FileTooSmall { start, len, expected, found: metadata.len() });
        }
    }
    Ok(())
}

/// A region of guest memory and where it is mapped.
#[derive(Clone, Copy, Debug)]
struct HostRange {
    start: u64,
    len: u64,
    host: *mut u8,
}

// SAFETY: the pointers stay valid as long as `_mappings`, which any thread may hold; all accesses through them are
// volatile or atomic.
unsafe impl Send for GuestMemory {}
// SAFETY: as above; nothing in here changes after construction.
unsafe impl Sync for GuestMemory {}

impl GuestMemory {
    /// Holds on to this generation of a memory table.
    pub fn new(mappings: Arc<GuestMemoryMmap>) -> Arc<Self> {
        let guards = guards(&mappings);
        let regions = mappings
            .iter()
            .map(|region| HostRange {
                start: region.start_addr().0,
                len: region.len(),
                host: region.as_ptr(),
            })
            .collect();
        Arc::new(GuestMemory { regions, guards, _mappings: mappings })
    }

    /// Whether the front-end has torn some of it away.
    #[inline]
    pub(super) fn is_torn(&self) -> bool {
        self.guards.iter().any(Guard::is_torn)
    }

    /// Host pointer to the `len` bytes at guest physical address `address`, if they are all in one region.
    #[inline]
    fn pointer(&self, address: u64, len: u64) -> Option<*mut u8> {
        self.regions.iter().find_map(|region| {
            let offset = address.checked_sub(region.start)?;
            let fits = offset <= region.len && len <= region.len - offset;
            let offset = fits.then(|| usize::try_from(offset).ok())??;
            // SAFETY: the offset was just checked to lie within the mapping.
            Some(unsafe { region.host.add(offset) })
        })
    }

    /// The `len` bytes at guest physical address `address`; `None` if they are not all in one region.
    #[inline]
    pub(super) fn fragment(&self, address: u64, len: u32) -> Option<Fragment> {
        Some(Fragment { pointer: self.pointer(address, u64::from(len))?, len })
    }

    /// A fragment's bytes, to copy from or to. The fragment must come from this generation.
    #[inline]
    pub(super) fn bytes(&self, fragment: &Fragment) -> VolatileSlice<'_> {
        // SAFETY: fragments are only made by `fragment`, which has checked the range; the queue that keeps them keeps
        // the generation they are from too, and passes that one here.
        unsafe { VolatileSlice::new(fragment.pointer, fragment.len as usize) }
    }

    /// The first 16 bytes of a fragment, which must have as many, each read once: one little-endian word, which stays in
    /// registers. The fragment must come from this generation.
    #[inline]
    pub(super) fn read_head(&self, fragment: &Fragment) -> u128 {
        assert!(fragment.len >= 16, "bytes within the fragment");
        let words = fragment.pointer.cast::<u64>();
        if !words.is_aligned() {
            // SAFETY: checked above; as in `bytes`. An array of bytes needs no alignment, and any bytes are one.
            return u128::from_le_bytes(unsafe { fragment.pointer.cast::<[u8; 16]>().read_volatile() });
        }
        // SAFETY: as above, and aligned.
        let [low, high] = unsafe { [words.read_volatile(), words.add(1).read_volatile()] };
        u128::from(u64::from_le(low)) | u128::from(u64::from_le(high)) << 64
    }

    /// Writes the first 16 bytes of a fragment, which must have as many. The fragment must come from this generation.
    #[inline]
    pub(super) fn write_head(&self, fragment: &Fragment, bytes: [u8; 16]) {
        assert!(fragment.len >= 16, "bytes within the fragment");
        let words = fragment.pointer.cast::<u64>();
        if !words.is_aligned() {
            // SAFETY: as in `read_head`.
            return unsafe { fragment.pointer.cast::<[u8; 16]>().write_volatile(bytes) };
        }
        let value = u128::from_le_bytes(bytes);
        #[expect(clippy::cast_possible_truncation, reason = "takes the bytes apart")]
        let [low, high] = [value as u64, (value >> 64) as u64];
        // SAFETY: as in `read_head`.
        unsafe {
            words.write_volatile(low.to_le());
            words.add(1).write_volatile(high.to_le());
        }
    }

    /// A table of `len` little-endian fields at `address`; `None` if it is not all in one region or not aligned.
    pub(super) fn table<T: Field>(self: &Arc<Self>, address: u64, len: usize) -> Option<Table<T>> {
        let bytes = u64::try_from(len.checked_mul(size_of::<T>())?).ok()?;
        let start = self.pointer(address, bytes)?.cast::<T>();
        start.is_aligned().then(|| Table { start, len, memory: Arc::clone(self), fields: PhantomData })
    }
}

/// A piece of a guest's buffer. Means something only together with the memory generation it was made from.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fragment {
    pointer: *mut u8,
    len: u32,
}

// SAFETY: a fragment is only dereferenced through `GuestMemory::bytes`, see there.
unsafe impl Send for Fragment {}

impl Fragment {
    /// A fragment without bytes, to fill arrays with.
    pub(super) const EMPTY: Fragment =
        Fragment { pointer: std::ptr::NonNull::<u8>::dangling().as_ptr(), len: 0 };

    /// Length in bytes.
    #[inline]
    pub(super) fn len(&self) -> u32 {
        self.len
    }

    /// Whether there are no bytes.
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Without the first `count` bytes, or empty if there are no more.
    #[inline]
    #[must_use]
    pub(super) fn skip(&self, count: u32) -> Self {
        let count = count.min(self.len);
        // SAFETY: count <= len, so the pointer stays within the fragment or one past its end.
        Fragment { pointer: unsafe { self.pointer.add(count as usize) }, len: self.len - count }
    }

    /// The first `count` bytes, or all if there are fewer.
    #[inline]
    #[must_use]
    pub(super) fn truncate(&self, count: u32) -> Self {
        Fragment { pointer: self.pointer, len: self.len.min(count) }
    }
}

/// A plain number or pair of numbers in a ring: every bit pattern is a value.
///
/// # Safety
/// Only for types without padding and for which any bytes are valid.
pub(super) unsafe trait Field: Copy {}
// SAFETY: any bytes are a number.
unsafe impl Field for u16 {}
// SAFETY: an array of numbers without padding.
unsafe impl Field for [u32; 2] {}
// SAFETY: an array of numbers without padding.
unsafe impl Field for [u64; 2] {}

/// A validated table of fields in guest memory. Keeps its memory generation mapped.
#[derive(Debug)]
pub(super) struct Table<T> {
    start: *mut T,
    len: usize,
    memory: Arc<GuestMemory>,
    fields: PhantomData<T>,
}

// SAFETY: the pointer is valid as long as `memory`, and all accesses through it are volatile or atomic.
unsafe impl<T: Field> Send for Table<T> {}

impl<T: Field> Table<T> {
    /// Reads the field at `index`, once. Panics on an index outside: indexes come from validated sizes.
    #[inline]
    pub(super) fn read(&self, index: usize) -> T {
        assert!(index < self.len, "index within ring table");
        // SAFETY: checked above; the table was validated to lie in mapped memory and to be aligned.
        unsafe { self.start.add(index).read_volatile() }
    }

    /// Writes the field at `index`. Panics on an index outside.
    #[inline]
    pub(super) fn write(&self, index: usize, value: T) {
        #[cfg(test)]
        crate::crash::point();
        assert!(index < self.len, "index within ring table");
        // SAFETY: as in `read`.
        unsafe { self.start.add(index).write_volatile(value) }
    }

    /// The memory generation that the table is in.
    #[inline]
    pub(super) fn memory(&self) -> &Arc<GuestMemory> {
        &self.memory
    }
}

impl Table<u16> {
    /// Reads an index that the guest publishes: what is read after is at least as new.
    #[inline]
    pub(super) fn load(&self, index: usize) -> u16 {
        u16::from_le(self.atomic(index).load(Ordering::Acquire))
    }

    /// Publishes an index: the guest sees what was written before.
    #[inline]
    pub(super) fn store(&self, index: usize, value: u16) {
        #[cfg(test)]
        crate::crash::point();
        self.atomic(index).store(value.to_le(), Ordering::Release);
    }

    #[inline]
    fn atomic(&self, index: usize) -> &AtomicU16 {
        assert!(index < self.len, "index within ring table");
        // SAFETY: checked above; valid, aligned, and accessed only atomically or volatile by this process.
        unsafe { AtomicU16::from_ptr(self.start.add(index)) }
    }
}
