//! Guest RAM: a memfd that the harness maps as the guest and hands to the backend as the VMM does.
//!
//! Two regions at guest physical addresses far from each other, and both far from where they are mapped here, so that
//! a backend that mixes up the address spaces does not get away with it. Everything the driver needs lies in the first;
//! the second is there to be plugged in and out while the guest runs.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use rustix::fs::{MemfdFlags, ftruncate, memfd_create};
use vhost::VhostUserMemoryRegionInfo;
use vm_memory::{Bytes, FileOffset, GuestAddress, GuestMemoryBackend, GuestMemoryMmap, GuestMemoryRegion};

/// Guest physical address of the region that holds rings and buffers.
pub const MAIN_BASE: u64 = 0x4000_0000;
/// Size of that region in bytes: two rings of 1024 entries with buffers and indirect tables fit well.
pub const MAIN_SIZE: usize = 8 << 20;
/// Guest physical address of the region that comes and goes.
pub const HOTPLUG_BASE: u64 = 0x1_0000_0000;
/// Size of that region in bytes.
pub const HOTPLUG_SIZE: usize = 1 << 20;

/// The guest's memory. Clones share it.
#[derive(Clone)]
pub struct Ram {
    mem: GuestMemoryMmap,
    file: Arc<File>,
}

impl Ram {
    /// Fresh memory, all zero.
    pub fn new() -> Self {
        let memfd = memfd_create("guest-ram", MemfdFlags::CLOEXEC).expect("memfd for guest RAM");
        ftruncate(&memfd, (MAIN_SIZE + HOTPLUG_SIZE) as u64).expect("size of guest RAM");
        let file = File::from(memfd);
        let range = |base, size, offset| {
            let file = file.try_clone().expect("clone of the memfd");
            (GuestAddress(base), size, Some(FileOffset::new(file, offset)))
        };
        let mem = GuestMemoryMmap::from_ranges_with_files([
            range(MAIN_BASE, MAIN_SIZE, 0),
            range(HOTPLUG_BASE, HOTPLUG_SIZE, MAIN_SIZE as u64),
        ])
        .expect("guest RAM mapped");
        Ram { mem, file: Arc::new(file) }
    }

    /// Truncates the file, so that the region that comes and goes is gone for everybody who has it.
    pub fn tear_hotplug_region(&self) {
        ftruncate(&self.file, MAIN_SIZE as u64).expect("truncated guest RAM");
    }

    /// The mapping itself, for code that works on guest memory.
    pub fn mem(&self) -> &GuestMemoryMmap {
        &self.mem
    }

    /// Writes bytes at a guest physical address.
    pub fn write(&self, at: u64, bytes: &[u8]) {
        self.mem.write_slice(bytes, GuestAddress(at)).expect("write inside guest RAM");
    }

    /// Fills a buffer from a guest physical address.
    pub fn read(&self, at: u64, into: &mut [u8]) {
        self.mem.read_slice(into, GuestAddress(at)).expect("read inside guest RAM");
    }

    /// Reads an array of bytes at a guest physical address.
    pub fn read_array<const N: usize>(&self, at: u64) -> [u8; N] {
        let mut bytes = [0; N];
        self.read(at, &mut bytes);
        bytes
    }

    /// Clears a range.
    pub fn zero(&self, at: u64, len: usize) {
        self.write(at, &vec![0; len]);
    }

    /// Reads a ring index or flag word.
    pub fn load(&self, at: u64, order: Ordering) -> u16 {
        u16::from_le(self.mem.load(GuestAddress(at), order).expect("load inside guest RAM"))
    }

    /// Writes a ring index or flag word.
    pub fn store(&self, at: u64, value: u16, order: Ordering) {
        self.mem.store(value.to_le(), GuestAddress(at), order).expect("store inside guest RAM");
    }

    /// Where the VMM (this process) sees a guest physical address: what SET_VRING_ADDR speaks of.
    pub fn host_address(&self, at: u64) -> u64 {
        self.mem.get_host_address(GuestAddress(at)).expect("address inside guest RAM").addr() as u64
    }

    /// The region with rings and buffers, as the VMM announces it.
    pub fn main_region(&self) -> VhostUserMemoryRegionInfo {
        self.region(MAIN_BASE)
    }

    /// The region that comes and goes, as the VMM announces it.
    pub fn hotplug_region(&self) -> VhostUserMemoryRegionInfo {
        self.region(HOTPLUG_BASE)
    }

    fn region(&self, base: u64) -> VhostUserMemoryRegionInfo {
        let region = self.mem.find_region(GuestAddress(base)).expect("region exists");
        VhostUserMemoryRegionInfo {
            guest_phys_addr: base,
            memory_size: region.len(),
            userspace_addr: self.host_address(base),
            mmap_offset: region.file_offset().expect("region has a file").start(),
            mmap_handle: self.file.as_raw_fd(),
        }
    }
}
