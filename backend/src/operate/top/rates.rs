//! Two answers of a running program, and what has happened between them.

use crate::bridge::counters::Traffic;
use crate::bridge::report::{Buffers, DeviceFigures, ServiceFigures, ServiceListing, VmFigures};
use crate::operate::control::{Latencies, Listing, RemoteListing, RemoteStats, Stats};

/// What the program has said at one time.
#[derive(Debug)]
pub(super) struct Snapshot {
    /// What it has counted.
    pub(super) stats: Stats,
    /// What it serves.
    pub(super) listing: Listing,
}

/// A remote.
#[derive(Debug)]
pub(super) struct RemoteView {
    pub(super) name: String,
    pub(super) state: String,
    pub(super) latency: Latencies,
    /// Doorbells heard per second.
    pub(super) heard: Option<f64>,
    pub(super) devices: Vec<DeviceView>,
}

/// An rpmsg device of a remote, and the VMs in front of it.
#[derive(Debug)]
pub(super) struct DeviceView {
    pub(super) name: String,
    /// None while it is not attached.
    pub(super) buffers: Option<Buffers>,
    /// Doorbells rung per second.
    pub(super) rung: Option<f64>,
    pub(super) misdirected: u64,
    pub(super) malformed: u64,
    pub(super) worker_restarts: u64,
    pub(super) vms: Vec<VmView>,
}

/// A VM, and what of it was a service's.
#[derive(Debug)]
pub(super) struct VmView {
    pub(super) all: Row,
    pub(super) services: Vec<Row>,
}

/// The figures of a VM, or of one service of a VM's.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) name: String,
    /// What becomes of messages that a VM does not take, or how a service is shared.
    pub(super) mode: Option<String>,
    pub(super) to_remote: Flow,
    pub(super) to_guest: Flow,
    pub(super) dropped: u64,
    /// Messages dropped per second.
    pub(super) dropping: Option<f64>,
    /// What only VMs have.
    pub(super) share: Option<Share>,
}

/// Messages in one direction.
#[derive(Clone, Copy, Debug)]
pub(super) struct Flow {
    /// Messages in all.
    pub(super) messages: u64,
    /// Messages per second.
    pub(super) message_rate: Option<f64>,
    /// Bytes of payload per second.
    pub(super) byte_rate: Option<f64>,
}

/// What a VM has of the remote's buffers, and how long it waits for them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Share {
    /// Buffers for messages to the remote that it has.
    pub(super) held: u16,
    /// Those that it may have.
    pub(super) of_held: u16,
    /// Messages from the remote that wait for it.
    pub(super) waiting: usize,
    /// Those that may.
    pub(super) of_waiting: u16,
    /// How often it has had to wait for a buffer.
    pub(super) stalls: u64,
    /// The part of the time in which it has waited, 0 to 1.
    pub(super) stalled: Option<f64>,
}

/// The time between two answers, if there was any.
#[derive(Clone, Copy)]
struct Between(Option<f64>);

impl Between {
    /// What comes to this per second. A counter that has gone back is another program's: nothing is known then.
    fn rate(self, before: Option<u64>, now: u64) -> Option<f64> {
        let more = now.checked_sub(before?)?;
        #[expect(clippy::cast_precision_loss, reason = "for people")]
        self.0.map(|seconds| more as f64 / seconds)
    }

    fn flow(self, before: Option<Traffic>, now: Traffic) -> Flow {
        Flow {
            messages: now.messages,
            message_rate: self.rate(before.map(|before| before.messages), now.messages),
            byte_rate: self.rate(before.map(|before| before.bytes), now.bytes),
        }
    }
}

/// What is to be seen of an answer, with what has happened since the one before.
pub(super) fn compare(before: Option<&Snapshot>, now: &Snapshot) -> Vec<RemoteView> {
    let before = before.map(|before| before.stats.remotes.as_slice()).unwrap_or_default();
    let served = &now.listing.remotes;
    let view = |remote: &RemoteStats| {
        let before = before.iter().find(|known| known.name == remote.name);
        let served = served.iter().find(|known| known.name == remote.name);
        compare_remote(before, remote, served)
    };
    now.stats.remotes.iter().map(view).collect()
}

fn compare_remote(
    before: Option<&RemoteStats>,
    now: &RemoteStats,
    served: Option<&RemoteListing>,
) -> RemoteView {
    let elapsed = before.and_then(|before| now.monotonic_ns.checked_sub(before.monotonic_ns));
    #[expect(clippy::cast_precision_loss, reason = "for people")]
    let between = Between(elapsed.filter(|ns| *ns > 0).map(|ns| ns as f64 / 1e9));
    let device = |device: &DeviceFigures| {
        let before = before.and_then(|before| before.devices.iter().find(|known| known.name == device.name));
        let vm = |vm: &VmFigures| {
            let before = before.and_then(|before| before.vms.iter().find(|known| known.name == vm.name));
            compare_vm(between, before, vm, served.map(|served| (served, device.name.as_str())))
        };
        DeviceView {
            name: device.name.clone(),
            buffers: device.buffers,
            rung: between.rate(before.map(|before| before.doorbells_rung), device.doorbells_rung),
            misdirected: device.misdirected,
            malformed: device.malformed,
            worker_restarts: device.worker_restarts,
            vms: device.vms.iter().map(vm).collect(),
        }
    };
    RemoteView {
        name: now.name.clone(),
        state: now.state.clone(),
        latency: now.latency.clone(),
        heard: between.rate(before.map(|before| before.doorbells_heard), now.doorbells_heard),
        devices: now.devices.iter().map(device).collect(),
    }
}

fn compare_vm(
    between: Between,
    before: Option<&VmFigures>,
    now: &VmFigures,
    served: Option<(&RemoteListing, &str)>,
) -> VmView {
    let served = served.and_then(|(remote, name)| remote.devices.iter().find(|device| device.name == name));
    let vm = served.and_then(|device| device.vms.iter().find(|vm| vm.name == now.name));
    let name = match vm.map(|vm| vm.driver.as_str()) {
        None | Some("up") => now.name.clone(),
        Some(driver) => format!("{} ({driver})", now.name),
    };
    let dropped = |vm: &VmFigures| vm.dropped.values().copied().fold(0, u64::wrapping_add);
    let stalled = between.rate(before.map(|before| before.stalled_ns), now.stalled_ns);
    let all = Row {
        name,
        mode: vm.map(|vm| vm.overflow.clone()),
        to_remote: between.flow(before.map(|before| before.to_remote), now.to_remote),
        to_guest: between.flow(before.map(|before| before.to_guest), now.to_guest),
        dropped: dropped(now),
        dropping: between.rate(before.map(dropped), dropped(now)),
        share: Some(Share {
            held: now.held,
            of_held: now.share,
            waiting: now.waiting,
            of_waiting: now.waiting_share,
            stalls: now.stalls,
            stalled: stalled.map(|ns_per_second| (ns_per_second / 1e9).min(1.0)),
        }),
    };
    // The sum of a VM's services was another program's where the VM's is.
    let before =
        before.filter(|_| all.to_remote.message_rate.is_some() && all.to_guest.message_rate.is_some());
    let service = |service: &ServiceFigures| {
        let is_same = |known: &&ServiceListing| {
            service.name.as_ref() == Some(&known.name) && service.address == Some(known.address)
        };
        let listed = served.and_then(|device| device.services.iter().find(is_same));
        compare_service(between, before, service, listed.map(|listed| listed.mode.clone()))
    };
    VmView { all, services: now.services.iter().map(service).collect() }
}

fn compare_service(
    between: Between,
    before: Option<&VmFigures>,
    now: &ServiceFigures,
    mode: Option<String>,
) -> Row {
    // A service of which nothing was said had no messages.
    let before = before.map(|before| {
        let is_same = |known: &&ServiceFigures| known.name == now.name && known.address == now.address;
        before.services.iter().find(is_same).map(|known| known.counters).unwrap_or_default()
    });
    Row {
        name: match (&now.name, now.address) {
            (Some(name), Some(address)) => format!("{name}@{address:#x}"),
            _ => "none".to_owned(),
        },
        mode,
        to_remote: between.flow(before.map(|before| before.to_remote), now.counters.to_remote),
        to_guest: between.flow(before.map(|before| before.to_guest), now.counters.to_guest),
        dropped: now.counters.dropped,
        dropping: between.rate(before.map(|before| before.dropped), now.counters.dropped),
        share: None,
    }
}
