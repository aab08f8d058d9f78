//! A remote core that the benchmark's own process plays, a step at a time: nothing sleeps, and nothing else runs on its core.
//!
//! It attaches and announces; then its vrings can be taken over, see `lean`.

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};

use vhost_device_rpmsg::rpmsg::ServiceName;
use vhost_device_rpmsg::softcore::{Config, Kind, Memory, ServiceSpec, SoftCore};
use vm_memory::{FileOffset, GuestAddress, GuestMemoryMmap};

use crate::harness::rig::Rig;
use crate::harness::softcore::{DEVICE_ADDRESS, MEMORY_SIZE};

/// Addresses of the echo and the sink among the soft core's default services. All services are at addresses from 0x400 on.
pub(super) const ECHO: u32 = 0x402;
/// See [`ECHO`].
pub(super) const SINK: u32 = 0x403;
/// How many default services there are.
pub(super) const SERVICES: usize = 6;

/// The remote core.
pub(super) struct Stepped {
    core: SoftCore,
    listener: UnixListener,
    doorbell: Option<UnixStream>,
    /// The memory once more, for whoever takes over.
    memory: GuestMemoryMmap,
}

impl Stepped {
    /// Starts it with so many services where the rig's program looks for it.
    pub(super) fn start(rig: &Rig, services: usize) -> Self {
        let place = rig.place();
        let listener = UnixListener::bind(&place.doorbell).expect("doorbell");
        listener.set_nonblocking(true).expect("non-blocking doorbell");
        let mut config = Config { memory_size: Some(MEMORY_SIZE), ..Config::default() };
        for number in SERVICES..services {
            let name = ServiceName::new(&format!("service-{number}")).expect("a service name");
            config.services.push(ServiceSpec { kind: Kind::Sink, name, address: None });
        }
        let memory = Memory::create_file(&place.memory, &config.layout().expect("layout")).expect("memory");
        let file = FileOffset::new(memory.file().try_clone().expect("clone of the memory file"), 0);
        let size = usize::try_from(MEMORY_SIZE).expect("small");
        let base = GuestAddress(DEVICE_ADDRESS.into());
        let mapping = GuestMemoryMmap::from_ranges_with_files([(base, size, Some(file))]).expect("mapped");
        let core = SoftCore::new(config, memory).expect("soft core");
        Stepped { core, listener, doorbell: None, memory: mapping }
    }

    /// Hears, serves and rings, once.
    pub(super) fn step(&mut self) {
        if self.doorbell.is_none() {
            self.doorbell = self.listener.accept().ok().map(|(doorbell, _)| doorbell);
            let Some(doorbell) = &self.doorbell else { return };
            doorbell.set_nonblocking(true).expect("non-blocking doorbell");
        }
        let Some(doorbell) = &mut self.doorbell else { return };
        let mut bytes = [0; 512];
        if let Ok(count) = doorbell.read(&mut bytes) {
            bytes[..count].iter().for_each(|byte| self.core.hear(*byte));
        }
        self.core.serve_once();
        self.core.rest();
        // A full socket has a doorbell in it already.
        let _ = doorbell.write(self.core.bells().waiting());
        self.core.bells().clear();
    }

    /// The line to the host, when it has connected.
    pub(super) fn doorbell(&self) -> &UnixStream {
        self.doorbell.as_ref().expect("a host that has connected")
    }

    /// The core's memory.
    pub(super) fn memory(&self) -> &GuestMemoryMmap {
        &self.memory
    }
}
