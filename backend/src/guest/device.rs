//! The vhost-user device: what it offers, and one connection of a front-end from its start to its end.
//!
//! | virtio feature | why |
//! |---|---|
//! | VERSION_1 | modern devices only |
//! | VIRTIO_RPMSG_F_NS | services are announced to the guest |
//! | EVENT_IDX | spares notifications; Linux leaves the transmit interrupt on |
//! | INDIRECT_DESC | drivers may use it |
//!
//! | protocol feature | why |
//! |---|---|
//! | MQ | without it QEMU takes the device to have one queue |
//! | REPLY_ACK | a front-end can wait until a change is done |
//! | CONFIGURE_MEM_SLOTS | memory hot-plug by region |
//! | RESET_DEVICE | a reset that is told apart from a stop, where the front-end sends it |
//! | CONFIG | the device has no configuration space, but Cloud Hypervisor panics when a read of it fails |
//!
//! Not offered, since nothing stands behind them: BACKEND_REQ, INFLIGHT_SHMFD, LOG_SHMFD, SHMEM, DEVICE_STATE, STATUS.

use std::io;
use std::sync::{Arc, Mutex};

use log::Level;
use thiserror::Error;
use vhost::vhost_user::message::{VhostUserProtocolFeatures, VhostUserVirtioFeatures};
use vhost_user_backend::{Error as DaemonError, VhostUserBackend, VhostUserDaemon};
use virtio_bindings::virtio_config::VIRTIO_F_VERSION_1;
use virtio_bindings::virtio_ring::{VIRTIO_RING_F_EVENT_IDX, VIRTIO_RING_F_INDIRECT_DESC};
use vm_memory::{GuestAddressSpace, GuestMemoryAtomic, GuestMemoryMmap};
use vmm_sys_util::epoll::EventSet;

use super::gate::{Gate, Line};
use super::memory::{check_files, guards};
use super::port::{QueueIndex, QueueOwner};
use super::queue::MAX_QUEUE_SIZE;
use super::ring::{Ring, Rings, construct, lock};
use crate::log_limit::LogLimit;
use crate::rpmsg::VIRTIO_RPMSG_F_NS;
use crate::torn::Guard;

/// Feature bits of the device.
pub const FEATURES: u64 = 1 << VIRTIO_F_VERSION_1
    | 1 << VIRTIO_RPMSG_F_NS
    | 1 << VIRTIO_RING_F_EVENT_IDX
    | 1 << VIRTIO_RING_F_INDIRECT_DESC
    | VhostUserVirtioFeatures::PROTOCOL_FEATURES.bits();

/// Why a connection of a front-end did not come about or ended badly.
#[derive(Debug, Error)]
pub enum ConnectionError {
    /// The daemon could not be made, or no connection could be accepted.
    #[error("cannot serve a vhost-user front-end: {0}")]
    Start(DaemonError),
    /// The front-end sent something that vhost-user does not allow, or broke off in the middle of a message.
    #[error("the vhost-user connection ended in the middle: {0}")]
    Protocol(DaemonError),
}

/// Waits for a front-end at the gate and serves it until it is gone. Returns at once where the gate is or will be shut.
///
/// # Errors
/// A connection that could not be accepted, or one that did not end between two messages.
pub fn serve_one(
    name: &str,
    gate: &Gate,
    owner: &Arc<dyn QueueOwner>,
    log: &mut LogLimit,
) -> Result<(), ConnectionError> {
    let waited = gate.wait().map_err(|error| ConnectionError::Start(DaemonError::StartDaemon(error)))?;
    let Some(mut listener) = waited else { return Ok(()) };
    let memory = GuestMemoryAtomic::new(GuestMemoryMmap::new());
    let rings = Rings::default();
    let line = Arc::new(Line::default());
    let device = Arc::new(Device { rings: Arc::clone(&rings), memory: Mutex::default() });
    let daemon = construct(Arc::clone(owner), Arc::clone(&line), Arc::clone(&rings), || {
        VhostUserDaemon::new(name.to_owned(), device, memory)
    });
    let mut daemon = daemon.map_err(ConnectionError::Start)?;
    daemon.start(&mut listener).map_err(ConnectionError::Start)?;
    daemon.shutdown_handle().into_iter().for_each(|handle| line.connect(handle));
    daemon.shutdown_handle().into_iter().for_each(|handle| gate.enter(handle));
    log.say(Level::Info, format_args!("vm {name}: front-end connected"));
    let ended = daemon.wait();
    gate.leave();
    for ring in lock(&rings).drain(..) {
        ring.withdraw();
    }
    owner.disconnected();
    match ended {
        Ok(()) | Err(DaemonError::HandleRequest(vhost::vhost_user::Error::Disconnected)) => Ok(()),
        Err(error) => Err(ConnectionError::Protocol(error)),
    }
}

/// The device of one connection.
struct Device {
    rings: Rings,
    /// The memory that the daemon itself looks into, under guard.
    memory: Mutex<Option<Guarded>>,
}

/// Fields are dropped in their order: no guard outlives its memory.
struct Guarded {
    _guards: Vec<Guard>,
    _memory: Arc<GuestMemoryMmap>,
}

impl Device {
    fn for_each_ring(&self, action: impl Fn(&Ring)) {
        for ring in lock(&self.rings).iter() {
            action(ring);
        }
    }
}

impl VhostUserBackend for Device {
    type Bitmap = ();
    type Vring = Ring;

    fn num_queues(&self) -> usize {
        QueueIndex::ALL.len()
    }

    fn max_queue_size(&self) -> usize {
        usize::from(MAX_QUEUE_SIZE)
    }

    fn features(&self) -> u64 {
        FEATURES
    }

    fn acked_features(&self, features: u64) {
        self.for_each_ring(|ring| ring.set_features(features));
    }

    fn protocol_features(&self) -> VhostUserProtocolFeatures {
        VhostUserProtocolFeatures::MQ
            | VhostUserProtocolFeatures::REPLY_ACK
            | VhostUserProtocolFeatures::CONFIGURE_MEM_SLOTS
            | VhostUserProtocolFeatures::RESET_DEVICE
            | VhostUserProtocolFeatures::CONFIG
    }

    fn reset_device(&self) {
        self.for_each_ring(Ring::reset);
    }

    fn set_event_idx(&self, _enabled: bool) {
        // The rings have been told one by one.
    }

    fn get_config(&self, _offset: u32, size: u32) -> Vec<u8> {
        vec![0; size as usize]
    }

    fn update_memory(&self, memory: GuestMemoryAtomic<GuestMemoryMmap>) -> io::Result<()> {
        let memory = memory.memory().into_inner();
        // An error ends the connection, and nobody gets to see this memory.
        check_files(&memory).map_err(io::Error::other)?;
        *lock(&self.memory) = Some(Guarded { _guards: guards(&memory), _memory: memory });
        // The new generation is in place already; the owner works on the old one until the rings have changed hands.
        self.for_each_ring(|ring| ring.change(|_| ()));
        Ok(())
    }

    fn queues_per_thread(&self) -> Vec<u64> {
        // No thread of the daemon's: the kicks belong to whoever the rings are handed to.
        Vec::new()
    }

    fn handle_event(&self, _: u16, _: EventSet, _: &[Ring], _: usize) -> io::Result<()> {
        Ok(())
    }
}
