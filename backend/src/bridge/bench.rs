//! A relay on a test bench: guests and a remote core in this thread, stepped by hand.
//!
//! For the tests of this room, for the fuzz targets (`backend/fuzz`, built with `--cfg fuzzing`) and for the benchmark of the
//! relay (feature `bench`); no part of the program. What a guest can rely on is checked here, in [`Guest::receive`].

use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Instant;

use rustix::event::{EventfdFlags, eventfd};
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};

use crate::bridge::counters::Figures;
use crate::bridge::journal::State;
use crate::bridge::policy::{Overflow, Policy, VmPolicy};
use crate::bridge::relay::Relay;
use crate::bridge::vm::{Account, Vm};
use crate::guest::Queue;
use crate::guest::memory::GuestMemory;
use crate::guest::port::QueueIndex;
use crate::guest::queue::QueueSetup;
use crate::remote::config::{MailboxConfig, MemoryConfig, RemoteConfig, VringsConfig};
use crate::remote::core::{Change, RemoteCore};
use crate::remote::memory::Access;
use crate::remote::vring::VringFault;
use crate::rpmsg::address::Slot;
use crate::rpmsg::{Announcement, HEADER_LEN, Header, NAME_SERVICE_ADDRESS, VIRTIO_RPMSG_F_NS};
use crate::softcore::{Config, Memory, Served, SoftCore};

/// Entries of a guest's queues.
const ENTRIES: u16 = 64;
/// Size of a guest's buffers in bytes.
const BUFFER: u32 = 512;

/// A guest's driver, in memory of its own.
pub struct Guest {
    /// Its memory.
    pub memory: Arc<GuestMemoryMmap>,
    rings: [Ring; 2],
    /// Feature bits that it accepts.
    pub features: u64,
}

/// The driver's view of one queue.
#[derive(Clone, Copy)]
pub struct Ring {
    base: u64,
    buffers: u64,
    avail: u16,
    used: u16,
}

impl Ring {
    /// Guest address of the descriptor table.
    pub fn descriptors(self) -> u64 {
        self.base
    }
    /// Guest address of the available ring.
    pub fn available(self) -> u64 {
        self.base + 0x1000
    }
    /// Guest address of the used ring.
    pub fn used_ring(self) -> u64 {
        self.base + 0x2000
    }
    /// Guest address of a buffer.
    pub fn buffer(self, id: u16) -> u64 {
        self.buffers + u64::from(id) * u64::from(BUFFER)
    }
}

impl Default for Guest {
    /// A driver that has just come up.
    fn default() -> Self {
        let memory = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), 0x10_0000)]).unwrap();
        let mut guest = Guest {
            memory: Arc::new(memory),
            rings: [Self::ring(0), Self::ring(1)],
            features: 1 << VIRTIO_RPMSG_F_NS,
        };
        guest.reset();
        guest
    }
}

impl Guest {
    fn ring(number: u64) -> Ring {
        Ring { base: 0x1_0000 * (number + 1), buffers: 0x8_0000 + 0x4_0000 * number, avail: 0, used: 0 }
    }

    /// The driver comes up anew: rings cleared, all receive buffers given.
    pub fn reset(&mut self) {
        self.rings = [Self::ring(0), Self::ring(1)];
        for ring in self.rings {
            self.memory.write_slice(&[0; 0x4000], GuestAddress(ring.base)).unwrap();
        }
        for id in 0..ENTRIES {
            self.give(QueueIndex::ToGuest, id, BUFFER);
        }
    }

    /// The driver's view of a queue.
    pub fn ring_of(&self, index: QueueIndex) -> Ring {
        self.rings[index as usize]
    }

    /// Writes to its memory.
    pub fn write<T: vm_memory::ByteValued>(&self, value: T, address: u64) {
        self.memory.write_obj(value, GuestAddress(address)).unwrap();
    }

    /// Reads from its memory.
    pub fn read<T: vm_memory::ByteValued>(&self, address: u64) -> T {
        self.memory.read_obj(GuestAddress(address)).unwrap()
    }

    /// Writes descriptor `id` for its buffer and makes it available.
    pub fn give(&mut self, index: QueueIndex, id: u16, len: u32) {
        let ring = self.rings[index as usize];
        let flags = if index == QueueIndex::ToGuest { 2_u16 } else { 0 };
        self.describe(index, id, ring.buffer(id), len, flags, 0);
        self.make_available(index, id);
    }

    /// Writes descriptor `id`.
    pub fn describe(&self, index: QueueIndex, id: u16, address: u64, len: u32, flags: u16, next: u16) {
        let at = self.rings[index as usize].descriptors() + 16 * u64::from(id);
        self.write(address, at);
        self.write(len, at + 8);
        self.write(flags, at + 12);
        self.write(next, at + 14);
    }

    /// Makes the chain that begins at descriptor `id` available.
    pub fn make_available(&mut self, index: QueueIndex, id: u16) {
        let ring = &mut self.rings[index as usize];
        let (at, entry) = (ring.available(), ring.avail % ENTRIES);
        ring.avail = ring.avail.wrapping_add(1);
        let avail = ring.avail;
        self.write(id, at + 4 + 2 * u64::from(entry));
        self.write(avail, at + 2);
    }

    /// The next used entry: descriptor and length.
    pub fn next_used(&mut self, index: QueueIndex) -> Option<(u16, u32)> {
        let ring = self.rings[index as usize];
        if self.read::<u16>(ring.used_ring() + 2) == ring.used {
            return None;
        }
        let at = ring.used_ring() + 4 + 8 * u64::from(ring.used % ENTRIES);
        self.rings[index as usize].used = ring.used.wrapping_add(1);
        Some((u16::try_from(self.read::<u32>(at)).unwrap(), self.read(at + 4)))
    }

    /// Puts a message into the transmit queue; returns false if it is full.
    pub fn send(&mut self, src: u32, dst: u32, payload: &[u8]) -> bool {
        while self.next_used(QueueIndex::FromGuest).is_some() {}
        let ring = self.rings[QueueIndex::FromGuest as usize];
        if ring.avail.wrapping_sub(ring.used) == ENTRIES {
            return false;
        }
        let id = ring.avail % ENTRIES;
        let header = Header { src, dst, reserved: 0, len: u16::try_from(payload.len()).unwrap(), flags: 0 };
        let at = ring.buffer(id);
        self.memory.write_slice(&header.to_bytes(), GuestAddress(at)).unwrap();
        self.memory.write_slice(payload, GuestAddress(at + HEADER_LEN as u64)).unwrap();
        self.give(QueueIndex::FromGuest, id, header.message_len());
        true
    }

    /// Takes the next message and gives its buffer back. Checks what every guest relies on.
    pub fn receive(&mut self) -> Option<(Header, Vec<u8>)> {
        let received = self.receive_and_keep()?;
        self.give(QueueIndex::ToGuest, received.0, BUFFER);
        Some((received.1, received.2))
    }

    /// Takes the next message, but not its buffer.
    pub fn receive_and_keep(&mut self) -> Option<(u16, Header, Vec<u8>)> {
        let (id, len) = self.next_used(QueueIndex::ToGuest)?;
        let at = self.rings[QueueIndex::ToGuest as usize].buffer(id);
        let mut bytes = [0; HEADER_LEN];
        self.memory.read_slice(&mut bytes, GuestAddress(at)).unwrap();
        let header = Header::from_bytes(&bytes);
        assert_eq!(len, header.message_len(), "used length is that of the message");
        assert!(len <= BUFFER, "used length within the buffer");
        let mut payload = vec![0; header.payload_len()];
        self.memory.read_slice(&mut payload, GuestAddress(at + HEADER_LEN as u64)).unwrap();
        Some((id, header, payload))
    }

    /// Takes announcements until there is something else, or nothing.
    pub fn announcements(&mut self) -> Vec<Announcement> {
        let mut found = Vec::new();
        while let Some((header, payload)) = self.receive() {
            assert_eq!(header.dst, NAME_SERVICE_ADDRESS, "only announcements expected");
            found.push(Announcement::from_bytes(&payload).unwrap());
        }
        found
    }

    /// The queue as the front-end would hand it over now.
    pub fn queue(&self, index: QueueIndex) -> Queue {
        let ring = self.rings[index as usize];
        let event = || File::from(eventfd(0, EventfdFlags::CLOEXEC).unwrap());
        Queue::new(QueueSetup {
            memory: GuestMemory::new(Arc::clone(&self.memory)),
            size: ENTRIES,
            descriptors: ring.descriptors(),
            avail: ring.available(),
            used: ring.used_ring(),
            event_idx: false,
            features: self.features,
            kick: event(),
            call: Some(event()),
            line: Arc::default(),
        })
        .unwrap()
    }
}

/// A relay between guests and a soft core, none of which does anything by itself.
pub struct Bench {
    pub(super) relay: Relay,
    pub(super) remote: RemoteCore,
    /// The remote core.
    pub core: SoftCore,
    /// The guests, in the order of `slots`.
    pub guests: Vec<Guest>,
    /// The guests' slots.
    pub(super) slots: Vec<Slot>,
    /// What the relay takes for the time.
    pub now: Instant,
    /// The core's end of the doorbell.
    pub doorbell: UnixStream,
}

impl Bench {
    /// A remote with this configuration and VMs in the given slots, all up and told of the services.
    pub fn new(config: Config, slots: &[u8]) -> Self {
        Self::with_policy(config, slots, Policy::default())
    }

    /// The same under a policy.
    pub fn with_policy(config: Config, slots: &[u8], policy: Policy) -> Self {
        Self::with_access(config, slots, policy, Access::Normal)
    }

    /// The same with memory that the host reaches so.
    pub fn with_access(config: Config, slots: &[u8], policy: Policy, access: Access) -> Self {
        let memory = Memory::memfd(&config.layout().unwrap()).unwrap();
        let (host, doorbell) = UnixStream::pair().unwrap();
        doorbell.set_nonblocking(true).unwrap();
        let size = usize::try_from(memory.size()).unwrap();
        let file = memory.file().try_clone().unwrap();
        let remote = RemoteConfig::attached(
            "core",
            MailboxConfig::Stream(Some(host)),
            vec![MemoryConfig { access, ..MemoryConfig::whole(file, size, memory.device_address().into()) }],
            VringsConfig::Table(config.layout().unwrap().table_address().into()),
        );
        let core = SoftCore::new(config, memory).unwrap();
        let now = Instant::now();
        let remote = RemoteCore::new(remote, now);
        let area = State::forgetful().unwrap().device(0);
        let mut relay = Relay::new("core".to_owned(), policy, area, now);
        let overflow = if slots.len() == 1 { Overflow::Block } else { Overflow::Drop };
        let slots: Vec<_> = slots.iter().map(|slot| Slot::new(*slot).unwrap()).collect();
        for slot in &slots {
            let name = format!("vm{}", slot.number());
            assert!(relay.add_vm(Vm::new(name, *slot, VmPolicy::unlimited(overflow)), false));
        }
        let guests = slots.iter().map(|_| Guest::default()).collect();
        let mut bench = Bench { relay, remote, core, guests, slots, doorbell, now };
        bench.pass_time();
        bench.settle();
        for vm in 0..bench.slots.len() {
            bench.start(vm);
        }
        bench.settle();
        bench
    }

    /// Hands both queues of a VM over.
    pub fn start(&mut self, vm: usize) {
        for index in QueueIndex::ALL {
            let queue = self.guests[vm].queue(index);
            self.relay.give_queue(self.slots[vm], index, queue);
        }
    }

    /// Takes both queues of a VM back, as for a pause or a reset.
    pub fn stop(&mut self, vm: usize) {
        for index in QueueIndex::ALL {
            self.relay.take_queue(self.slots[vm], index);
        }
    }

    /// One turn of the relay, with a remote that keeps its vrings in order.
    pub fn sweep(&mut self) {
        self.try_sweep().unwrap();
    }

    /// One turn of the relay.
    ///
    /// # Errors
    /// A vring that the remote has made unusable.
    pub fn try_sweep(&mut self) -> Result<(), VringFault> {
        self.kick();
        loop {
            while self.relay.sweep(self.now, self.remote.bell())? > 0 {}
            if !self.relay.rearm() {
                return Ok(());
            }
        }
    }

    /// All guests kick.
    pub fn kick(&mut self) {
        for slot in &self.slots {
            QueueIndex::ALL.iter().for_each(|index| self.relay.kicked(*slot, *index));
        }
    }

    /// One turn of a relay that is awake anyway: nobody has to kick, and nobody is asked to.
    #[inline(never)]
    pub fn poll(&mut self) {
        while self.relay.sweep(self.now, self.remote.bell()).unwrap() > 0 {}
    }

    /// The remote has made a vring unusable.
    pub fn fault(&mut self, fault: VringFault) {
        let change = self.remote.fault(self.now, fault);
        self.remote_changed(change);
    }

    /// Hears the remote's doorbell.
    pub fn hear(&mut self) {
        let change = self.remote.on_mailbox(self.now);
        self.remote_changed(change);
    }

    /// One turn of the remote: hears its doorbell, serves, rings.
    pub fn step_core(&mut self) -> bool {
        let mut bytes = [0; 256];
        let mut busy = false;
        while let Ok(count) = self.doorbell.read(&mut bytes) {
            bytes[..count].iter().for_each(|byte| self.core.hear(*byte));
            busy = true;
        }
        let served = self.core.serve_once();
        busy |= served.received + served.sent > 0 || self.core.rest();
        let bells = self.core.bells().waiting().to_vec();
        self.core.bells().clear();
        busy |= !bells.is_empty();
        self.doorbell.write_all(&bells).unwrap();
        busy
    }

    /// The remote serves until it has nothing to do. It stays awake, and nobody has to ring.
    pub fn poll_core(&mut self) {
        while let Served { received, sent, .. } = self.core.serve_once()
            && received + sent > 0
        {}
        self.core.bells().clear();
    }

    /// Both in turn until neither has anything to do.
    pub fn settle(&mut self) {
        loop {
            self.hear();
            self.sweep();
            if !self.step_core() {
                return;
            }
        }
    }

    /// Timers that are due go off.
    pub fn pass_time(&mut self) {
        self.relay.on_timer(self.now);
        let change = self.remote.on_timer(self.now);
        self.remote_changed(change);
    }

    fn remote_changed(&mut self, change: Option<Change>) {
        match change {
            Some(Change::Attached(devices)) => {
                devices.into_iter().for_each(|device| self.relay.attached(device, self.now));
            }
            Some(Change::CutOff(_)) => self.relay.cut_off(self.now),
            Some(Change::Resumed) => self.relay.resumed(),
            Some(Change::Lost(_)) => self.relay.lost(self.now),
            None => {}
        }
    }

    /// What has been counted for a VM.
    pub fn figures(&mut self, vm: usize) -> &Figures {
        self.relay.commit();
        self.account(vm).counters.figures()
    }

    /// What is known of a VM.
    pub(super) fn account(&mut self, vm: usize) -> &mut Account {
        &mut self.relay.vm(self.slots[vm]).unwrap().account
    }

    /// Address of a service of the remote.
    pub fn service(&self, name: &str) -> u32 {
        let found =
            self.relay.directory.services().find(|(service, _)| service.as_bytes() == name.as_bytes());
        found.unwrap().1
    }
}
