//! A split ring in shared memory: plain loads and stores, at places that are looked up once.

use std::sync::atomic::{AtomicU16, Ordering};

use virtio_queue::desc::split::Descriptor;
use vm_memory::volatile_memory::VolatileArrayRef;
use vm_memory::{
    Address, GuestAddress, GuestMemoryBackend, GuestMemoryMmap, GuestMemoryRegion, MmapRegion, VolatileMemory,
};

use crate::harness::ring::Place;

/// `VRING_AVAIL_F_NO_INTERRUPT` and `VRING_USED_F_NO_NOTIFY`.
pub(super) const SUPPRESS: u16 = 1;

/// A region of shared memory, and where the other side sees it.
#[derive(Clone, Copy)]
pub(super) struct Area<'m> {
    region: &'m MmapRegion,
    base: u64,
}

impl<'m> Area<'m> {
    /// The one with this address.
    pub(super) fn around(memory: &'m GuestMemoryMmap, address: u64) -> Self {
        let region = memory.find_region(GuestAddress(address)).expect("an address in the memory");
        Area { region, base: region.start_addr().raw_value() }
    }

    #[inline]
    fn offset(&self, address: u64) -> usize {
        usize::try_from(address.wrapping_sub(self.base)).expect("a 64-bit machine")
    }

    /// Copies bytes to an address.
    #[inline]
    pub(super) fn write(&self, address: u64, bytes: &[u8]) {
        self.region.get_slice(self.offset(address), bytes.len()).expect("within the region").copy_from(bytes);
    }

    /// Copies bytes from an address.
    #[inline]
    pub(super) fn read(&self, address: u64, bytes: &mut [u8]) {
        self.region.get_slice(self.offset(address), bytes.len()).expect("within the region").copy_to(bytes);
    }

    fn word(&self, address: u64) -> &'m AtomicU16 {
        self.region.get_atomic_ref(self.offset(address)).expect("an aligned word within the region")
    }
}

/// A ring, for the driver and for the device.
#[derive(Clone, Copy)]
pub(super) struct Ring<'m> {
    descriptors: VolatileArrayRef<'m, Descriptor>,
    available: VolatileArrayRef<'m, u16>,
    used: VolatileArrayRef<'m, [u32; 2]>,
    /// The driver's index.
    pub(super) available_index: &'m AtomicU16,
    /// Whether the driver wants to be notified, without EVENT_IDX.
    pub(super) available_flags: &'m AtomicU16,
    /// Of which used entry the driver wants to be notified, with EVENT_IDX.
    pub(super) used_event: &'m AtomicU16,
    /// The device's index.
    pub(super) used_index: &'m AtomicU16,
    /// Whether the device wants to be notified, without EVENT_IDX.
    pub(super) used_flags: &'m AtomicU16,
    /// Of which available entry the device wants to be notified, with EVENT_IDX.
    pub(super) available_event: &'m AtomicU16,
    size: u16,
}

impl<'m> Ring<'m> {
    /// The one that lies there.
    pub(super) fn at(area: Area<'m>, place: Place) -> Self {
        let Place { size, desc, avail, used } = place;
        let (region, entries) = (area.region, usize::from(size));
        let inside = "a ring within the region";
        Ring {
            descriptors: region.get_array_ref(area.offset(desc), entries).expect(inside),
            available: region.get_array_ref(area.offset(avail + 4), entries).expect(inside),
            used: region.get_array_ref(area.offset(used + 4), entries).expect(inside),
            available_flags: area.word(avail),
            available_index: area.word(avail + 2),
            used_event: area.word(avail + 4 + 2 * u64::from(size)),
            used_flags: area.word(used),
            used_index: area.word(used + 2),
            available_event: area.word(used + 4 + 8 * u64::from(size)),
            size,
        }
    }

    /// How many entries it has.
    pub(super) fn size(&self) -> u16 {
        self.size
    }

    #[inline]
    fn place(&self, index: u16) -> usize {
        usize::from(index & (self.size - 1))
    }

    /// A descriptor as it stands in the table.
    #[inline]
    pub(super) fn descriptor(&self, id: u16) -> Descriptor {
        self.descriptors.load(usize::from(id))
    }

    /// Writes a descriptor.
    #[inline]
    pub(super) fn set_descriptor(&self, id: u16, descriptor: Descriptor) {
        self.descriptors.store(usize::from(id), descriptor);
    }

    /// The entry of the driver's for this index.
    #[inline]
    pub(super) fn available(&self, index: u16) -> u16 {
        self.available.load(self.place(index))
    }

    /// Writes an entry of the driver's.
    #[inline]
    pub(super) fn set_available(&self, index: u16, id: u16) {
        self.available.store(self.place(index), id);
    }

    /// The entry of the device's for this index: a descriptor and a length.
    #[inline]
    pub(super) fn used(&self, index: u16) -> (u16, u32) {
        let [id, len] = self.used.load(self.place(index)).map(u32::from_le);
        (u16::try_from(id).expect("the number of a descriptor"), len)
    }

    /// Writes an entry of the device's.
    #[inline]
    pub(super) fn set_used(&self, index: u16, id: u16, len: u32) {
        self.used.store(self.place(index), [u32::from(id), len].map(u32::to_le));
    }

    /// How far the driver is.
    #[inline]
    pub(super) fn available_to(&self) -> u16 {
        self.available_index.load(Ordering::Acquire)
    }

    /// How far the device is.
    #[inline]
    pub(super) fn used_to(&self) -> u16 {
        self.used_index.load(Ordering::Acquire)
    }
}
