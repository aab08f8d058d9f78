//! The VMM's half of a guest: vhost-user messages in the order in which QEMU and Cloud Hypervisor send them.
//!
//! | | QEMU (`vhost-user-base.c`, `vhost.c`, `vhost-user.c`) | Cloud Hypervisor (`vu_common_ctrl.rs`) |
//! |---|---|---|
//! | device feature bits | as the device offers them | never: no `VIRTIO_RPMSG_F_NS` |
//! | memory | ADD_MEM_REG where the backend has memory slots, once | SET_MEM_TABLE at each start |
//! | acknowledged | memory and enable messages | everything |
//! | SET_VRING_BASE | where the device stopped, 0 for a new driver | avail.idx, after the driver has posted its buffers |
//! | call fd | a masked one at first, the real one after the rings are enabled | before the rings are enabled |
//! | pause | disable, GET_VRING_BASE | disable |
//! | reset | disable, GET_VRING_BASE | disable, GET_VRING_BASE |

use std::net::Shutdown;
use std::ops::{Deref, DerefMut};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;

use vhost::vhost_user::message::{VhostUserHeaderFlag, VhostUserProtocolFeatures, VhostUserVirtioFeatures};
use vhost::vhost_user::{Frontend, VhostUserFrontend};
use vhost::{VhostBackend, VhostUserMemoryRegionInfo};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use super::driver::PATIENCE;
use super::ring::DriverRing;

/// Number of queues of the device.
pub const QUEUES: usize = 2;

/// Whose habits to follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flavour {
    Qemu,
    CloudHypervisor,
}

/// By which message the backend learns of guest RAM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemoryMessages {
    /// One table with everything.
    Table,
    /// One message per region, as QEMU does where memory slots were negotiated.
    Regions,
}

/// A vhost-user front-end with one device.
pub struct Vmm {
    line: Line,
    flavour: Flavour,
    memory: MemoryMessages,
    offered: u64,
    protocol: VhostUserProtocolFeatures,
    knows_memory: bool,
    /// Stands for an interrupt that is masked: nobody listens.
    masked: EventFd,
}

/// The connection of a front-end. [`Frontend`] waits for answers without end, so somebody else has to.
struct Line {
    frontend: Frontend,
    /// Told whether the front-end is talking.
    watchdog: Sender<bool>,
}

impl Line {
    fn over(stream: UnixStream) -> Self {
        let watched = stream.try_clone().expect("clone of a socket");
        let (watchdog, talking) = channel();
        thread::spawn(move || watch(&watched, &talking));
        Line { frontend: Frontend::from_stream(stream, QUEUES as u64), watchdog }
    }

    fn talk(&mut self) -> Talk<'_> {
        let _watchdog_has_bitten = self.watchdog.send(true);
        Talk(self)
    }
}

/// Ends the connection when its front-end talks for longer than anything may take.
fn watch(stream: &UnixStream, talking: &Receiver<bool>) {
    while let Ok(now) = talking.recv() {
        if now && talking.recv_timeout(PATIENCE) == Err(RecvTimeoutError::Timeout) {
            eprintln!("stuck: the backend has not answered within {PATIENCE:?}, ending the connection");
            let _gone_already = stream.shutdown(Shutdown::Both);
            return;
        }
    }
}

/// A front-end that talks to the backend; the watchdog is awake until this is dropped.
pub struct Talk<'a>(&'a mut Line);

impl Deref for Talk<'_> {
    type Target = Frontend;
    fn deref(&self) -> &Frontend {
        &self.0.frontend
    }
}

impl DerefMut for Talk<'_> {
    fn deref_mut(&mut self) -> &mut Frontend {
        &mut self.0.frontend
    }
}

impl Drop for Talk<'_> {
    fn drop(&mut self) {
        let _watchdog_has_bitten = self.0.watchdog.send(false);
    }
}

impl Vmm {
    /// Connects and negotiates what does not depend on the guest's driver.
    pub fn connect(socket: &Path, flavour: Flavour, memory: MemoryMessages) -> vhost::Result<Self> {
        let stream = UnixStream::connect(socket).expect("connection to the backend");
        let mut vmm = Vmm {
            line: Line::over(stream),
            flavour,
            memory,
            offered: 0,
            protocol: VhostUserProtocolFeatures::empty(),
            knows_memory: false,
            masked: EventFd::new(EFD_NONBLOCK).expect("masked eventfd"),
        };
        match flavour {
            Flavour::Qemu => {
                vmm.negotiate()?;
                vmm.line.talk().set_owner()?;
                vmm.line.talk().get_features()?;
                for queue in 0..QUEUES {
                    vmm.line.talk().set_vring_call(queue, &vmm.masked)?;
                }
            }
            Flavour::CloudHypervisor => {
                vmm.line.talk().set_owner()?;
                vmm.negotiate()?;
                vmm.line.talk().set_hdr_flags(VhostUserHeaderFlag::NEED_REPLY);
            }
        }
        Ok(vmm)
    }

    fn negotiate(&mut self) -> vhost::Result<()> {
        self.offered = self.line.talk().get_features()?;
        self.protocol = self.line.talk().get_protocol_features()?;
        let wanted = VhostUserProtocolFeatures::MQ
            | VhostUserProtocolFeatures::REPLY_ACK
            | VhostUserProtocolFeatures::CONFIGURE_MEM_SLOTS
            | VhostUserProtocolFeatures::RESET_DEVICE
            | VhostUserProtocolFeatures::CONFIG;
        self.line.talk().set_protocol_features(self.protocol & wanted)?;
        assert_eq!(self.line.talk().get_queue_num()?, QUEUES as u64, "queues of the device");
        Ok(())
    }

    /// The feature bits that the device offers.
    pub fn offered(&self) -> u64 {
        self.offered
    }

    /// The protocol features that the backend offers.
    pub fn protocol(&self) -> VhostUserProtocolFeatures {
        self.protocol
    }

    /// The front-end itself, to send it what no VMM would.
    pub fn frontend(&mut self) -> Talk<'_> {
        self.line.talk()
    }

    /// Whether the front-end passes the feature bits 0..=23 of the device on to the guest.
    pub fn passes_device_features(&self) -> bool {
        self.flavour == Flavour::Qemu
    }

    /// Starts the rings for a driver that has accepted `features` and has put its buffers in place. `bases` is where
    /// the device stopped; zero for a new driver.
    pub fn start(
        &mut self,
        features: u64,
        region: VhostUserMemoryRegionInfo,
        rings: [&DriverRing; QUEUES],
        bases: [u16; QUEUES],
    ) -> vhost::Result<()> {
        let features = features | VhostUserVirtioFeatures::PROTOCOL_FEATURES.bits();
        self.line.talk().set_features(features)?;
        match self.flavour {
            Flavour::Qemu => {
                if !self.knows_memory {
                    self.announce_memory(&region)?;
                }
                for (queue, ring) in rings.into_iter().enumerate() {
                    self.line.talk().set_vring_num(queue, ring.place().size)?;
                    self.line.talk().set_vring_base(queue, bases[queue])?;
                    self.line.talk().set_vring_addr(queue, &ring.config())?;
                    self.line.talk().set_vring_kick(queue, ring.kick_fd())?;
                }
                self.enable_all(true)?;
                for (queue, ring) in rings.into_iter().enumerate() {
                    self.line.talk().set_vring_call(queue, ring.call_fd())?;
                }
            }
            Flavour::CloudHypervisor => {
                self.announce_memory(&region)?;
                for (queue, ring) in rings.into_iter().enumerate() {
                    self.line.talk().set_vring_num(queue, ring.place().size)?;
                }
                for (queue, ring) in rings.into_iter().enumerate() {
                    self.line.talk().set_vring_addr(queue, &ring.config())?;
                    self.line.talk().set_vring_base(queue, ring.avail_idx())?;
                    self.line.talk().set_vring_call(queue, ring.call_fd())?;
                    self.line.talk().set_vring_kick(queue, ring.kick_fd())?;
                }
                self.enable_all(true)?;
            }
        }
        Ok(())
    }

    fn announce_memory(&mut self, region: &VhostUserMemoryRegionInfo) -> vhost::Result<()> {
        match self.memory {
            MemoryMessages::Table => self.set_memory_table(&[*region])?,
            MemoryMessages::Regions => self.add_region(region)?,
        }
        self.knows_memory = true;
        Ok(())
    }

    /// SET_MEM_TABLE with these regions.
    pub fn set_memory_table(&mut self, regions: &[VhostUserMemoryRegionInfo]) -> vhost::Result<()> {
        self.acknowledged(|frontend| frontend.set_mem_table(regions).map(drop))
    }

    /// ADD_MEM_REG.
    pub fn add_region(&mut self, region: &VhostUserMemoryRegionInfo) -> vhost::Result<()> {
        self.acknowledged(|frontend| frontend.add_mem_region(region).map(drop))
    }

    /// REM_MEM_REG.
    pub fn remove_region(&mut self, region: &VhostUserMemoryRegionInfo) -> vhost::Result<()> {
        self.acknowledged(|frontend| frontend.remove_mem_region(region))
    }

    /// SET_VRING_ENABLE for one ring.
    pub fn enable(&mut self, queue: usize, on: bool) -> vhost::Result<()> {
        self.acknowledged(|frontend| frontend.set_vring_enable(queue, on))
    }

    /// SET_VRING_ENABLE for all rings: all that Cloud Hypervisor does for a pause.
    pub fn enable_all(&mut self, on: bool) -> vhost::Result<()> {
        (0..QUEUES).try_for_each(|queue| self.enable(queue, on))
    }

    /// SET_VRING_CALL for one ring.
    pub fn set_call(&mut self, queue: usize, call: &EventFd) -> vhost::Result<()> {
        self.line.talk().set_vring_call(queue, call)
    }

    /// Points a ring's calls at nobody, as QEMU does while the guest masks the interrupt vector.
    pub fn mask(&mut self, queue: usize) -> vhost::Result<()> {
        self.line.talk().set_vring_call(queue, &self.masked)
    }

    /// Stops the rings, for a pause and for a reset alike. Where the device stopped comes back.
    pub fn stop(&mut self) -> vhost::Result<[u16; QUEUES]> {
        if self.flavour == Flavour::Qemu {
            self.enable_all(false)?;
        }
        let mut bases = [0; QUEUES];
        for (queue, base) in bases.iter_mut().enumerate() {
            if self.flavour == Flavour::CloudHypervisor {
                self.enable(queue, false)?;
            }
            let found = self.line.talk().get_vring_base(queue)?;
            *base = u16::try_from(found).expect("GET_VRING_BASE answers a 16-bit index");
        }
        Ok(bases)
    }

    /// RESET_DEVICE.
    pub fn reset_device(&mut self) -> vhost::Result<()> {
        self.acknowledged(VhostUserFrontend::reset_device)
    }

    /// Sends a message that QEMU, too, wants to see acknowledged before it goes on.
    fn acknowledged<T>(&mut self, send: impl FnOnce(&mut Frontend) -> vhost::Result<T>) -> vhost::Result<T> {
        let mut frontend = self.line.talk();
        frontend.set_hdr_flags(VhostUserHeaderFlag::NEED_REPLY);
        let result = send(&mut frontend);
        if self.flavour == Flavour::Qemu {
            frontend.set_hdr_flags(VhostUserHeaderFlag::empty());
        }
        result
    }
}
