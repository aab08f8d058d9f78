//! The figures of `stats` as metrics.

use std::fmt;
use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

use crate::bridge::report::{DeviceFigures, VmFigures};
use crate::operate::control::{Percentiles, RemoteStats, Stats};

type Labels = Vec<(&'static str, String)>;
type Counts = Family<Labels, Counter>;
type Times = Family<Labels, Counter<f64, AtomicU64>>;
type Gauges = Family<Labels, Gauge>;
type TimeGauges = Family<Labels, Gauge<f64, AtomicU64>>;

/// All metrics there are.
#[derive(Default)]
struct Metrics {
    messages: Counts,
    bytes: Counts,
    dropped: Counts,
    service_dropped: Counts,
    subscriptions: Counts,
    time_outs: Counts,
    stalls: Counts,
    stalled: Times,
    vm_buffers: Gauges,
    buffers: Gauges,
    misdirected: Counts,
    malformed: Counts,
    doorbells: Counts,
    restarts: Counts,
    batch: TimeGauges,
    batches: Gauges,
    state: Gauges,
}

/// The text that a scrape gets.
pub(super) fn text(stats: &Stats) -> Result<String, fmt::Error> {
    let metrics = Metrics::default();
    stats.remotes.iter().for_each(|remote| metrics.add_remote(remote));
    let mut text = String::new();
    encode(&mut text, &metrics.registry())?;
    Ok(text)
}

/// A time as Prometheus has it. Only times of over 100 days are not exact.
#[expect(clippy::cast_precision_loss, reason = "what is lost is less than a nanosecond in 100 days")]
fn seconds(ns: u64) -> f64 {
    ns as f64 / 1e9
}

fn with(labels: &Labels, more: impl IntoIterator<Item = (&'static str, String)>) -> Labels {
    labels.iter().cloned().chain(more).collect()
}

impl Metrics {
    fn registry(self) -> Registry {
        let mut all = Registry::with_prefix("rpmsg");
        all.register("messages", "Messages relayed, name service messages left out", self.messages);
        all.register_with_unit("payload", "Payload relayed", Unit::Bytes, self.bytes);
        all.register("dropped", "Messages not delivered, by reason", self.dropped);
        all.register("service_dropped", "Messages not delivered, by service", self.service_dropped);
        all.register("subscriptions", "Messages that only subscribed an endpoint", self.subscriptions);
        all.register("time_outs", "Requests not answered in time", self.time_outs);
        all.register("stalls", "Waits of a VM for a buffer of the remote's", self.stalls);
        all.register_with_unit("stalled", "Time of these waits", Unit::Seconds, self.stalled);
        all.register("vm_buffers", "Buffers of the remote's that a VM has, and its share", self.vm_buffers);
        all.register("buffers", "Buffers of a device", self.buffers);
        all.register("misdirected", "Messages from the remote for nobody", self.misdirected);
        all.register("malformed", "Messages from the remote that were none", self.malformed);
        all.register("doorbells", "Doorbells rung at the remote, and heard from it", self.doorbells);
        all.register("worker_restarts", "Workers that have gone on where one has ended", self.restarts);
        let help = "Time from looking at the rings until a batch is published and notified, sampled";
        all.register_with_unit("batch", help, Unit::Seconds, self.batch);
        all.register("batch_samples", "Samples of rpmsg_batch_seconds", self.batches);
        all.register("remote_state", "What a remote is doing: 1 for the state it is in", self.state);
        all
    }

    fn add_remote(&self, remote: &RemoteStats) {
        let labels = vec![("remote", remote.name.clone())];
        self.state.get_or_create(&with(&labels, [("state", remote.state.clone())])).set(1);
        let heard = with(&labels, [("direction", "heard".to_owned())]);
        self.doorbells.get_or_create(&heard).inc_by(remote.doorbells_heard);
        let latency = &remote.latency;
        for (direction, of) in [("to-remote", &latency.to_remote), ("to-guest", &latency.to_guest)] {
            let labels = with(&labels, [("direction", direction.to_owned())]);
            let Percentiles { samples, p50_ns, p90_ns, p99_ns, p999_ns, max_ns } = *of;
            self.batches.get_or_create(&labels).set(i64::try_from(samples).unwrap_or(i64::MAX));
            let quantiles =
                [("0.5", p50_ns), ("0.9", p90_ns), ("0.99", p99_ns), ("0.999", p999_ns), ("1", max_ns)];
            for (quantile, ns) in quantiles {
                let labels = with(&labels, [("quantile", quantile.to_owned())]);
                self.batch.get_or_create(&labels).set(seconds(ns));
            }
        }
        remote.devices.iter().for_each(|device| self.add_device(&labels, device));
    }

    fn add_device(&self, remote: &Labels, device: &DeviceFigures) {
        let labels = with(remote, [("device", device.name.clone())]);
        self.misdirected.get_or_create(&labels).inc_by(device.misdirected);
        self.malformed.get_or_create(&labels).inc_by(device.malformed);
        self.restarts.get_or_create(&labels).inc_by(device.worker_restarts);
        let rung = with(&labels, [("direction", "rung".to_owned())]);
        self.doorbells.get_or_create(&rung).inc_by(device.doorbells_rung);
        if let Some(buffers) = device.buffers {
            let of = [
                ("to-remote", "all", buffers.to_remote),
                ("to-remote", "in-flight", buffers.in_flight),
                ("to-remote", "free", buffers.free),
                ("from-remote", "all", buffers.from_remote),
                ("from-remote", "held", buffers.held),
            ];
            for (direction, state, count) in of {
                let more = [("direction", direction.to_owned()), ("state", state.to_owned())];
                self.buffers.get_or_create(&with(&labels, more)).set(count.into());
            }
        }
        device.vms.iter().for_each(|vm| self.add_vm(&labels, vm));
    }

    fn add_vm(&self, device: &Labels, vm: &VmFigures) {
        let labels = with(device, [("vm", vm.name.clone())]);
        self.subscriptions.get_or_create(&labels).inc_by(vm.subscriptions);
        self.time_outs.get_or_create(&labels).inc_by(vm.time_outs);
        self.stalls.get_or_create(&labels).inc_by(vm.stalls);
        self.stalled.get_or_create(&labels).inc_by(seconds(vm.stalled_ns));
        let waiting = i64::try_from(vm.waiting).unwrap_or(i64::MAX);
        let buffers = [
            ("held", vm.held.into()),
            ("share", vm.share.into()),
            ("waiting", waiting),
            ("waiting-share", vm.waiting_share.into()),
        ];
        for (what, count) in buffers {
            self.vm_buffers.get_or_create(&with(&labels, [("what", what.to_owned())])).set(count);
        }
        for (reason, count) in &vm.dropped {
            let reason = serde_json::to_value(reason).ok();
            let reason = reason.as_ref().and_then(serde_json::Value::as_str).unwrap_or_default().to_owned();
            self.dropped.get_or_create(&with(&labels, [("reason", reason)])).inc_by(*count);
        }
        for service in &vm.services {
            let address = service.address.map(|address| format!("{address:#x}")).unwrap_or_default();
            let name = service.name.clone().unwrap_or_default();
            let labels = with(&labels, [("service", name), ("address", address)]);
            let counters = service.counters;
            self.service_dropped.get_or_create(&labels).inc_by(counters.dropped);
            for (direction, of) in [("to-remote", counters.to_remote), ("to-guest", counters.to_guest)] {
                let labels = with(&labels, [("direction", direction.to_owned())]);
                self.messages.get_or_create(&labels).inc_by(of.messages);
                self.bytes.get_or_create(&labels).inc_by(of.bytes);
            }
        }
    }
}
