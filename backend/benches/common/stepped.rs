//! A remote core that the benchmark's own process plays, a step at a time: nothing sleeps, and nothing else runs on its core.

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};

use vhost_device_rpmsg::softcore::{Config, Memory, SoftCore};

use crate::harness::rig::Rig;
use crate::harness::softcore::MEMORY_SIZE;

/// Addresses of the echo and the sink among the soft core's default services.
pub(crate) const ECHO: u32 = 0x402;
/// See [`ECHO`].
pub(crate) const SINK: u32 = 0x403;
/// How many default services there are.
pub(crate) const SERVICES: usize = 6;

/// The remote core.
pub(crate) struct Stepped {
    core: SoftCore,
    listener: UnixListener,
    bell: Option<UnixStream>,
    rung: u64,
    heard: u64,
}

impl Stepped {
    /// Starts it where the rig's program looks for it.
    pub(crate) fn start(rig: &Rig) -> Self {
        let place = rig.place();
        let listener = UnixListener::bind(&place.doorbell).expect("doorbell");
        listener.set_nonblocking(true).expect("non-blocking doorbell");
        let config = Config { memory_size: Some(MEMORY_SIZE), ..Config::default() };
        let memory = Memory::create_file(&place.memory, &config.layout().expect("layout")).expect("memory");
        let core = SoftCore::new(config, memory).expect("soft core");
        Stepped { core, listener, bell: None, rung: 0, heard: 0 }
    }

    /// Hears, serves and rings, once.
    pub(crate) fn step(&mut self) {
        if self.bell.is_none() {
            self.bell = self.listener.accept().ok().map(|(bell, _)| bell);
            let Some(bell) = &self.bell else { return };
            bell.set_nonblocking(true).expect("non-blocking doorbell");
        }
        let Some(bell) = &mut self.bell else { return };
        let mut bytes = [0; 512];
        if let Ok(count) = bell.read(&mut bytes) {
            bytes[..count].iter().for_each(|byte| self.core.hear(*byte));
            self.heard += count as u64;
        }
        self.core.serve_once();
        self.core.rest();
        // A full socket has a doorbell in it already.
        self.rung += bell.write(self.core.bells().waiting()).unwrap_or(0) as u64;
        self.core.bells().clear();
    }

    /// Doorbells so far: those that this core has rung, and those that it has heard.
    pub(crate) fn bells(&self) -> [u64; 2] {
        [self.rung, self.heard]
    }
}
