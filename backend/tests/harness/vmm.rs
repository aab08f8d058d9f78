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
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::Duration;

use vhost::vhost_user::message::{VhostUserHeaderFlag, VhostUserProtocolFeatures, VhostUserVirtioFeatures};
use vhost::vhost_user::{Frontend, VhostUserFrontend};
use vhost::{VhostBackend, VhostUserMemoryRegionInfo};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

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
    frontend: Frontend,
    _watchdog: Watchdog,
    flavour: Flavour,
    memory: MemoryMessages,
    offered: u64,
    protocol: VhostUserProtocolFeatures,
    knows_memory: bool,
    /// Stands for an interrupt that is masked: nobody listens.
    masked: EventFd,
}

/// Ends a connection that has lived for too long, since [`Frontend`] waits for answers without end.
struct Watchdog {
    _ends_when_dropped: Sender<()>,
}

impl Watchdog {
    /// Longest life of a connection; no test needs nearly as much.
    const LIFE: Duration = Duration::from_secs(100);

    fn over(stream: &UnixStream) -> Self {
        let stream = stream.try_clone().expect("clone of a socket");
        let (sender, receiver) = channel::<()>();
        thread::spawn(move || {
            if receiver.recv_timeout(Self::LIFE) == Err(RecvTimeoutError::Timeout) {
                eprintln!("stuck: the connection to the backend is older than {:?}, ending it", Self::LIFE);
                let _gone_already = stream.shutdown(Shutdown::Both);
            }
        });
        Watchdog { _ends_when_dropped: sender }
    }
}

impl Vmm {
    /// Connects and negotiates what does not depend on the guest's driver.
    pub fn connect(socket: &Path, flavour: Flavour, memory: MemoryMessages) -> vhost::Result<Self> {
        let stream = UnixStream::connect(socket).expect("connection to the backend");
        let watchdog = Watchdog::over(&stream);
        let frontend = Frontend::from_stream(stream, QUEUES as u64);
        let mut vmm = Vmm {
            frontend,
            _watchdog: watchdog,
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
                vmm.frontend.set_owner()?;
                vmm.frontend.get_features()?;
                for queue in 0..QUEUES {
                    vmm.frontend.set_vring_call(queue, &vmm.masked)?;
                }
            }
            Flavour::CloudHypervisor => {
                vmm.frontend.set_owner()?;
                vmm.negotiate()?;
                vmm.frontend.set_hdr_flags(VhostUserHeaderFlag::NEED_REPLY);
            }
        }
        Ok(vmm)
    }

    fn negotiate(&mut self) -> vhost::Result<()> {
        self.offered = self.frontend.get_features()?;
        self.protocol = self.frontend.get_protocol_features()?;
        let wanted = VhostUserProtocolFeatures::MQ
            | VhostUserProtocolFeatures::REPLY_ACK
            | VhostUserProtocolFeatures::CONFIGURE_MEM_SLOTS
            | VhostUserProtocolFeatures::RESET_DEVICE
            | VhostUserProtocolFeatures::CONFIG;
        self.frontend.set_protocol_features(self.protocol & wanted)?;
        assert_eq!(self.frontend.get_queue_num()?, QUEUES as u64, "queues of the device");
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
    pub fn frontend(&mut self) -> &mut Frontend {
        &mut self.frontend
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
        self.frontend.set_features(features)?;
        match self.flavour {
            Flavour::Qemu => {
                if !self.knows_memory {
                    self.announce_memory(&region)?;
                }
                for (queue, ring) in rings.into_iter().enumerate() {
                    self.frontend.set_vring_num(queue, ring.place().size)?;
                    self.frontend.set_vring_base(queue, bases[queue])?;
                    self.frontend.set_vring_addr(queue, &ring.config())?;
                    self.frontend.set_vring_kick(queue, ring.kick_fd())?;
                }
                self.enable_all(true)?;
                for (queue, ring) in rings.into_iter().enumerate() {
                    self.frontend.set_vring_call(queue, ring.call_fd())?;
                }
            }
            Flavour::CloudHypervisor => {
                self.announce_memory(&region)?;
                for (queue, ring) in rings.into_iter().enumerate() {
                    self.frontend.set_vring_num(queue, ring.place().size)?;
                }
                for (queue, ring) in rings.into_iter().enumerate() {
                    self.frontend.set_vring_addr(queue, &ring.config())?;
                    self.frontend.set_vring_base(queue, ring.avail_idx())?;
                    self.frontend.set_vring_call(queue, ring.call_fd())?;
                    self.frontend.set_vring_kick(queue, ring.kick_fd())?;
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
        self.frontend.set_vring_call(queue, call)
    }

    /// Points a ring's calls at nobody, as QEMU does while the guest masks the interrupt vector.
    pub fn mask(&mut self, queue: usize) -> vhost::Result<()> {
        self.frontend.set_vring_call(queue, &self.masked)
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
            let found = self.frontend.get_vring_base(queue)?;
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
        self.frontend.set_hdr_flags(VhostUserHeaderFlag::NEED_REPLY);
        let result = send(&mut self.frontend);
        if self.flavour == Flavour::Qemu {
            self.frontend.set_hdr_flags(VhostUserHeaderFlag::empty());
        }
        result
    }
}
