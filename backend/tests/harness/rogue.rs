//! A remote core that does as the test likes, right or wrong: its memory and doorbell without any firmware.

use std::thread;
use std::time::Instant;

use vhost_device_rpmsg::remote::resource_table::ResourceTable;
use vhost_device_rpmsg::rpmsg::{
    Announcement, AnnouncementKind, BUFFER_SIZE, HEADER_LEN, Header, ServiceName,
};
use vhost_device_rpmsg::softcore::{Config, Memory, SoftCore, bell};
use vm_memory::{Bytes, FileOffset, GuestAddress, GuestMemoryMmap};

use super::doorbell::HollowCore;
use super::driver::PATIENCE;
use super::softcore::{CorePlace, DEVICE_ADDRESS, MEMORY_SIZE};

/// Buffers per direction.
pub const BUFFERS: u16 = 16;
/// The vring on which the core sends, and the one on which it receives.
pub const SENDING: usize = 0;
pub const RECEIVING: usize = 1;
/// Alignment of the vrings, and thereby the offset of their used rings, in bytes.
const ALIGN: u64 = 4096;

/// A core in the hands of a test.
pub struct Rogue {
    /// Writes the resource table, and nothing else: it never runs.
    core: SoftCore,
    memory: GuestMemoryMmap,
    doorbell: HollowCore,
    vrings: [u64; 2],
    /// Used entries written, and available entries taken.
    used: [u16; 2],
    taken: [u16; 2],
}

impl Rogue {
    /// A core whose table is in place. The host is to be given time to attach, see [`Rogue::attached`].
    pub fn start(place: &CorePlace) -> Self {
        let config = Config {
            device_address: DEVICE_ADDRESS,
            memory_size: Some(MEMORY_SIZE),
            buffers: BUFFERS,
            services: Vec::new(),
            ..Config::default()
        };
        let memory = Memory::create_file(&place.memory, &config.layout().expect("a layout")).expect("memory");
        let file = FileOffset::new(memory.file().try_clone().expect("clone of the memory file"), 0);
        let size = usize::try_from(MEMORY_SIZE).expect("small");
        let base = GuestAddress(DEVICE_ADDRESS.into());
        let mapping = GuestMemoryMmap::from_ranges_with_files([(base, size, Some(file))]).expect("mapped");
        let core = SoftCore::new(config, memory).expect("a table in the memory");
        let doorbell = HollowCore::start(&place.doorbell);
        Rogue { core, memory: mapping, doorbell, vrings: [0; 2], used: [0; 2], taken: [0; 2] }
    }

    /// The host has attached: finds out where it has put the vrings.
    pub fn attached(&mut self) {
        let mut bytes = [0; 1024];
        self.memory.read_slice(&mut bytes, GuestAddress(DEVICE_ADDRESS.into())).expect("the table");
        let table = ResourceTable::parse(&bytes).expect("the table that was written");
        let vdev = table.vdevs().next().expect("an rpmsg device");
        for (vring, place) in vdev.vrings.iter().zip(&mut self.vrings) {
            let at = GuestAddress(u64::from(DEVICE_ADDRESS) + vring.da_offset() as u64);
            *place = self.memory.read_obj::<u32>(at).expect("within the table").into();
        }
        self.used = [0; 2];
        self.taken = [0; 2];
    }

    /// Boots anew: the table is as it was at first, and the host is told.
    pub fn reboot(&mut self) {
        self.core.reboot().expect("a table in the memory");
        self.doorbell.ring(&[bell::READY]);
    }

    fn read<T: vm_memory::ByteValued>(&self, at: u64) -> T {
        self.memory.read_obj(GuestAddress(at)).expect("within the core's memory")
    }

    fn write<T: vm_memory::ByteValued>(&self, value: T, at: u64) {
        self.memory.write_obj(value, GuestAddress(at)).expect("within the core's memory");
    }

    fn avail(&self, vring: usize) -> u64 {
        self.vrings[vring] + 16 * u64::from(BUFFERS)
    }

    /// The next buffer that the host has given: its number and address. Waits for one.
    fn take(&mut self, vring: usize) -> (u16, u64) {
        let start = Instant::now();
        let at = self.avail(vring);
        while self.read::<u16>(at + 2) == self.taken[vring] {
            assert!(start.elapsed() < PATIENCE, "stuck: the host gives no buffer");
            thread::yield_now();
        }
        let id: u16 = self.read(at + 4 + 2 * u64::from(self.taken[vring] % BUFFERS));
        self.taken[vring] = self.taken[vring].wrapping_add(1);
        (id, self.read(self.vrings[vring] + 16 * u64::from(id)))
    }

    /// Writes a used entry, true or not, without ringing.
    pub fn put_used(&mut self, vring: usize, id: u32, len: u32) {
        let used = self.vrings[vring] + ALIGN;
        self.write([id, len], used + 4 + 8 * u64::from(self.used[vring] % BUFFERS));
        self.leap(vring, 1);
    }

    /// Adds to the used index, without ringing.
    pub fn leap(&mut self, vring: usize, distance: u16) {
        self.used[vring] = self.used[vring].wrapping_add(distance);
        self.write(self.used[vring], self.vrings[vring] + ALIGN + 2);
    }

    /// Rings the host's bell for a vring.
    pub fn ring(&self, vring: usize) {
        self.doorbell.ring(&[u8::try_from(vring).expect("0 or 1")]);
    }

    /// Sends a message with this header and used length, whatever they say.
    pub fn send(&mut self, header: Header, payload: &[u8], used: u32) {
        let (id, address) = self.take(SENDING);
        self.memory.write_slice(&header.to_bytes(), GuestAddress(address)).expect("a buffer");
        let at = GuestAddress(address + HEADER_LEN as u64);
        self.memory.write_slice(payload, at).expect("a buffer");
        self.put_used(SENDING, id.into(), used);
        self.ring(SENDING);
    }

    /// Says something as it should be said.
    pub fn say(&mut self, src: u32, dst: u32, payload: &[u8]) {
        let len = u16::try_from(payload.len()).expect("a short payload");
        let header = Header { src, dst, reserved: 0, len, flags: 0 };
        self.send(header, payload, header.message_len());
    }

    /// Announces or withdraws a service.
    pub fn tell(&mut self, name: &str, addr: u32, kind: AnnouncementKind) {
        let announcement = Announcement { name: ServiceName::new(name).expect("a name"), addr, kind };
        let header = announcement.header();
        self.send(header, &announcement.to_bytes(), header.message_len());
    }

    /// Takes the next message from the host and gives its buffer back. It must be well formed.
    pub fn hear(&mut self) -> (Header, Vec<u8>) {
        let (id, address) = self.take(RECEIVING);
        let len: u32 = self.read(self.vrings[RECEIVING] + 16 * u64::from(id) + 8);
        let len = usize::try_from(len).expect("a short message");
        let mut bytes = vec![0; len.min(BUFFER_SIZE)];
        self.memory.read_slice(&mut bytes, GuestAddress(address)).expect("a buffer");
        let header = Header::from_bytes(bytes.first_chunk().expect("a header"));
        assert_eq!(
            HEADER_LEN + header.payload_len(),
            len,
            "INVARIANT VIOLATION: lengths of a message to the core"
        );
        self.put_used(RECEIVING, id.into(), 0);
        self.ring(RECEIVING);
        (header, bytes.split_off(HEADER_LEN))
    }
}
