//! A guest: the driver inside and the VMM around it, and what happens to both in a life.

use std::ops::{Deref, DerefMut};
use std::path::Path;

use vhost_device_rpmsg::rpmsg::VIRTIO_RPMSG_F_NS;
use virtio_bindings::virtio_config::VIRTIO_F_VERSION_1;
use virtio_bindings::virtio_ring::{VIRTIO_RING_F_EVENT_IDX, VIRTIO_RING_F_INDIRECT_DESC};

use super::driver::Driver;
use super::options::GuestOptions;
use super::vmm::{QUEUES, Vmm};

/// A running guest. What its driver can do, it can do.
pub struct Guest {
    vmm: Vmm,
    driver: Driver,
    /// Where the device has stopped; `None` while it runs.
    stopped_at: Option<[u16; QUEUES]>,
}

impl Guest {
    /// Connects a VMM to the backend's socket and boots a guest whose driver comes up at once.
    pub fn connect(socket: &Path, options: GuestOptions) -> Self {
        let mut guest = Guest::connect_only(socket, options);
        guest.boot();
        guest
    }

    /// Connects a VMM whose guest has not loaded its driver yet.
    pub fn connect_only(socket: &Path, options: GuestOptions) -> Self {
        let vmm = Vmm::connect(socket, options.flavour, options.memory)
            .unwrap_or_else(|e| panic!("handshake on {}: {e}", socket.display()));
        Guest { vmm, driver: Driver::new(options.driver), stopped_at: Some([0; QUEUES]) }
    }

    /// Loads the driver: it has cleared its rings and posted its buffers, and the VMM starts the device.
    pub fn boot(&mut self) {
        self.start([0; QUEUES]);
        self.driver.kick_rx();
    }

    /// The VMM around this guest.
    pub fn vmm(&mut self) -> &mut Vmm {
        &mut self.vmm
    }

    /// The features that this guest's driver accepts of what the VMM shows it.
    fn features(&self) -> u64 {
        let options = self.driver.options();
        let wanted = 1 << VIRTIO_F_VERSION_1
            | u64::from(options.event_idx) << VIRTIO_RING_F_EVENT_IDX
            | u64::from(options.indirect) << VIRTIO_RING_F_INDIRECT_DESC
            | u64::from(options.name_service) << VIRTIO_RPMSG_F_NS;
        assert_eq!(
            wanted & !self.vmm.offered(),
            0,
            "features {wanted:#x} wanted, {:#x} offered by the device",
            self.vmm.offered()
        );
        assert!(
            self.vmm.passes_device_features() || !options.name_service,
            "this VMM never passes VIRTIO_RPMSG_F_NS on"
        );
        wanted
    }

    fn start(&mut self, bases: [u16; QUEUES]) {
        let features = self.features();
        let region = self.driver.ram().main_region();
        self.vmm.start(features, region, self.driver.rings(), bases).expect("device started");
        self.stopped_at = None;
    }

    /// Pauses the VM: the VMM stops the device, the driver notices nothing.
    pub fn pause(&mut self) {
        let bases = self.vmm.stop().expect("device stopped");
        for (ring, base) in self.driver.rings().into_iter().zip(bases) {
            assert_eq!(
                base,
                ring.used_idx(),
                "INVARIANT VIOLATION: GET_VRING_BASE against used.idx: chains are held in flight; {}",
                self.driver.state()
            );
        }
        self.stopped_at = Some(bases);
    }

    /// Resumes the VM where it was paused.
    pub fn resume(&mut self) {
        let bases = self.stopped_at.expect("the guest is paused");
        self.start(bases);
    }

    /// Reboots the guest or reloads its driver: to the VMM a stop and a start, like a pause, but with new rings.
    pub fn reset_driver(&mut self) {
        if self.stopped_at.is_none() {
            self.pause();
        }
        self.driver.probe();
        self.boot();
    }

    /// Replaces the event fd by which the device calls for a queue, while it runs.
    pub fn change_call_fd(&mut self, queue: usize) {
        let _old = self.driver.replace_call_fd(queue);
        self.unmask(queue);
    }

    /// Points a queue's calls at the guest again, after [`Vmm::mask`].
    pub fn unmask(&mut self, queue: usize) {
        self.vmm.set_call(queue, self.driver.rings()[queue].call_fd()).expect("SET_VRING_CALL");
    }

    /// Sends a message to an echo service and checks that it comes back as it was, as the next message.
    pub fn echo(&mut self, src: u32, dst: u32, payload: &[u8]) {
        self.send(src, dst, payload);
        let answer = self.recv();
        assert_eq!((answer.src, answer.dst), (dst, src), "addresses of the answer");
        assert_eq!(answer.payload, payload, "echo of {} bytes", payload.len());
    }
}

impl Deref for Guest {
    type Target = Driver;
    fn deref(&self) -> &Driver {
        &self.driver
    }
}

impl DerefMut for Guest {
    fn deref_mut(&mut self) -> &mut Driver {
        &mut self.driver
    }
}
