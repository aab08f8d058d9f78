//! What is served, and what was counted, for people and programs that ask.
//!
//! Both are made by the bridge's thread on request, out of what it has anyway: nothing is kept for their sake but the
//! [stalls](Stalls) of VMs and the [latency](super::latency) of some batches.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::counters::{Reason, ServiceCounters, Traffic};
use super::fairness::bits;
use super::policy::Overflow;
use super::relay::Relay;
use super::vm::{Account, Vm};
use crate::rpmsg::address::{Slot, to_host};

/// How a VM has waited for a buffer of the remote's.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Stalls {
    count: u64,
    total: Duration,
    since: Option<Instant>,
}

/// One rpmsg device of a remote, and who is in front of it.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct DeviceListing {
    /// What it is called.
    pub name: String,
    /// The VMs, by slot.
    pub vms: Vec<VmListing>,
    /// The remote's services.
    pub services: Vec<ServiceListing>,
    /// Endpoints of guests that the bridge knows of: those behind a service of the guest's own, those that have sent to a
    /// service that is not simply shared, and those of the table of addresses. Of others it knows nothing but their
    /// VM's base.
    pub endpoints: Vec<EndpointListing>,
}

/// A VM.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct VmListing {
    /// Its name.
    pub name: String,
    /// Its place in the remote's address space.
    pub slot: u8,
    /// Its driver: `up`, `paused`, or `down`.
    pub driver: String,
    /// The number of its session, or of the last one.
    pub session: u8,
    /// What is added to an endpoint's address for the remote, where it is arithmetic.
    pub base: Option<u32>,
    /// What becomes of messages that it does not take: `block` or `drop`.
    pub overflow: String,
    /// Whether it may send only to services it sees and to listed addresses.
    pub strict: bool,
    /// Its weight.
    pub weight: u8,
}

/// A service of the remote's.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct ServiceListing {
    /// Its name.
    pub name: String,
    /// Its address.
    pub address: u32,
    /// How it is shared: `shared`, `exclusive`, `serialized` or `broadcast`.
    pub mode: String,
    /// The VM whose it is.
    pub owner: Option<String>,
    /// The VMs that see it now.
    pub seen_by: Vec<String>,
}

/// An endpoint of a guest.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct EndpointListing {
    /// Its VM.
    pub vm: String,
    /// The guest's own service there, or the remote's that it talks to.
    pub service: Option<String>,
    /// Whether the service is the guest's own.
    pub own: bool,
    /// Its address as the guest knows it.
    pub guest: u32,
    /// Its address as the remote knows it.
    pub host: Option<u32>,
}

/// What was counted at one rpmsg device of a remote.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct DeviceFigures {
    /// What it is called.
    pub name: String,
    /// Its buffers, while it is attached.
    pub buffers: Option<Buffers>,
    /// Messages from the remote that were for nobody.
    pub misdirected: u64,
    /// Messages from the remote that were none.
    pub malformed: u64,
    /// How often another worker has gone on with it.
    pub worker_restarts: u64,
    /// Doorbells that were rung at the remote, by this worker.
    pub doorbells_rung: u64,
    /// The VMs, by slot.
    pub vms: Vec<VmFigures>,
}

/// The buffers of a device.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Buffers {
    /// For messages to the remote.
    pub to_remote: u16,
    /// Those of them that the remote has not returned.
    pub in_flight: u16,
    /// Those of them that are free.
    pub free: u16,
    /// For messages from the remote.
    pub from_remote: u16,
    /// Those of them whose message waits for a VM.
    pub held: u16,
}

/// What was counted for a VM.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct VmFigures {
    /// Its name.
    pub name: String,
    /// Its place in the remote's address space.
    pub slot: u8,
    /// Relayed to the remote.
    pub to_remote: Traffic,
    /// Delivered to the guest, name service messages left out.
    pub to_guest: Traffic,
    /// Messages that only subscribed an endpoint.
    pub subscriptions: u64,
    /// Requests that were not answered in time.
    pub time_outs: u64,
    /// Messages that were not delivered, by reason.
    pub dropped: BTreeMap<Reason, u64>,
    /// What of all that was a service's.
    pub services: Vec<ServiceFigures>,
    /// The remote's buffers that it may have when others want some too.
    pub share: u16,
    /// Those that it has.
    pub held: u16,
    /// Messages that may wait for it in the remote's buffers, when others have to wait too.
    pub waiting_share: u16,
    /// Messages that do.
    pub waiting: usize,
    /// How often it has had to wait for a buffer of the remote's, by this worker.
    pub stalls: u64,
    /// For how long, in nanoseconds, as exactly as the bridge looks at the clock: to some 100 microseconds.
    pub stalled_ns: u64,
}

/// What was counted for a VM and a service.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct ServiceFigures {
    /// Its name; none for what is no service's.
    pub name: Option<String>,
    /// Its address.
    pub address: Option<u32>,
    /// The counts.
    #[serde(flatten)]
    pub counters: ServiceCounters,
}

impl Stalls {
    fn begin(&mut self, now: Instant) {
        self.count += 1;
        self.since = Some(now);
    }

    fn end(&mut self, now: Instant) {
        self.total += self.since.take().map_or(Duration::ZERO, |since| now.duration_since(since));
    }

    fn total(&self, now: Instant) -> Duration {
        self.total + self.since.map_or(Duration::ZERO, |since| now.duration_since(since))
    }
}

impl Relay {
    /// Other VMs than before wait for a buffer.
    #[cold]
    pub(super) fn stalls_changed(&mut self, without_buffer: u128, now: Instant) {
        let before = std::mem::replace(&mut self.without_buffer, without_buffer);
        for index in bits(before ^ without_buffer) {
            let Some(Some(vm)) = self.vms.get_mut(index) else { continue };
            match without_buffer & 1 << index {
                0 => vm.account.stalls.end(now),
                _ => vm.account.stalls.begin(now),
            }
        }
    }

    /// What is served.
    pub(super) fn list(&self) -> DeviceListing {
        let accounts = || self.vms.iter().flatten().map(|vm| &vm.account);
        let name_of = |slot: Slot| accounts().find(|account| account.slot() == slot).map(|a| a.name.clone());
        let mut endpoints = Vec::new();
        for account in accounts() {
            endpoints.extend(account.services.iter().map(|service| EndpointListing {
                vm: account.name.clone(),
                service: Some(service.name.to_string()),
                own: true,
                guest: service.address,
                host: self.known_host_address(account, service.address),
            }));
        }
        let mut services = Vec::new();
        for service in self.directory.live() {
            let Some((name, address)) = self.directory.name(service) else { continue };
            let (mode, owner, clients) = self.directory.shared_how(service);
            let seen_by = accounts().filter(|account| self.directory.sees(account.slot(), service));
            services.push(ServiceListing {
                name: name.to_string(),
                address,
                mode: mode.to_owned(),
                owner: owner.and_then(name_of),
                seen_by: seen_by.map(|account| account.name.clone()).collect(),
            });
            let talks = clients.iter().filter_map(|client| {
                let host = Some(self.aliases.client_of(service));
                let service = Some(name.to_string());
                Some(EndpointListing {
                    vm: name_of(client.slot)?,
                    service,
                    own: false,
                    guest: client.address,
                    host,
                })
            });
            endpoints.extend(talks);
        }
        for (slot, guest, host) in self.aliases.endpoints() {
            let is_new = endpoints.iter().all(|endpoint| endpoint.host != Some(host));
            if let Some(vm) = name_of(slot).filter(|_| is_new) {
                endpoints.push(EndpointListing { vm, service: None, own: false, guest, host: Some(host) });
            }
        }
        let vms = self.vms.iter().flatten().map(|vm| self.list_vm(vm)).collect();
        DeviceListing { name: self.name.clone(), vms, services, endpoints }
    }

    fn list_vm(&self, vm: &Vm) -> VmListing {
        let Vm { to_guest, from_guest, account } = vm;
        let driver = match (account.is_in_session(), to_guest.is_some() && from_guest.is_some()) {
            (false, _) => "down",
            (true, false) => "paused",
            (true, true) => "up",
        };
        let overflow = match account.policy.overflow {
            Overflow::Block => "block",
            Overflow::Drop => "drop",
        };
        let base =
            to_host(account.slot(), account.session(), 0).filter(|_| !self.aliases.is_needed_for_all());
        VmListing {
            name: account.name.clone(),
            slot: account.slot().number(),
            driver: driver.to_owned(),
            session: account.session().number(),
            base,
            overflow: overflow.to_owned(),
            strict: account.policy.strict,
            weight: account.policy.weight,
        }
    }

    fn known_host_address(&self, account: &Account, address: u32) -> Option<u32> {
        let by_arithmetic =
            to_host(account.slot(), account.session(), address).filter(|_| !self.aliases.is_needed_for_all());
        let by_table = || {
            let mut entries = self.aliases.endpoints();
            entries
                .find(|(slot, guest, _)| (*slot, *guest) == (account.slot(), address))
                .map(|(.., host)| host)
        };
        by_arithmetic.or_else(by_table)
    }

    /// What was counted.
    pub(super) fn figures(&mut self, now: Instant) -> DeviceFigures {
        self.commit();
        let buffers = self.device.as_ref().map(|device| {
            let to_remote = device.outbound.count();
            let in_flight = u16::try_from(device.outbound.in_flight()).unwrap_or(to_remote);
            let (from_remote, held) = (device.inbound.count(), self.held.count());
            Buffers { to_remote, in_flight, free: to_remote - in_flight.min(to_remote), from_remote, held }
        });
        DeviceFigures {
            name: self.name.clone(),
            buffers,
            misdirected: self.strays[0],
            malformed: self.strays[1],
            worker_restarts: self.programs.saturating_sub(1),
            doorbells_rung: self.rung,
            vms: self.vms.iter().flatten().map(|vm| self.figures_of(&vm.account, now)).collect(),
        }
    }

    fn figures_of(&self, account: &Account, now: Instant) -> VmFigures {
        let (slot, counters) = (account.slot().number(), account.counters.figures());
        let services = (0..self.directory.len()).filter_map(|service| {
            let (name, address) = self.directory.name(service)?;
            let counters = counters.service(service);
            Some(ServiceFigures { name: Some(name.to_string()), address: Some(address), counters })
        });
        let elsewhere = ServiceFigures { name: None, address: None, counters: counters.elsewhere() };
        let services = services.chain([elsewhere]);
        let dropped = Reason::ALL.into_iter().map(|reason| (reason, counters.dropped(reason)));
        let (share, held) = self.fairness.holding(slot.into());
        VmFigures {
            name: account.name.clone(),
            slot,
            to_remote: counters.to_remote(),
            to_guest: counters.to_guest(),
            subscriptions: counters.subscriptions,
            time_outs: counters.time_outs,
            dropped: dropped.filter(|(_, count)| *count > 0).collect(),
            services: services.filter(|service| service.counters != ServiceCounters::default()).collect(),
            share,
            held,
            waiting_share: self.fairness.held_share(slot.into()),
            waiting: account.waiting.count(),
            stalls: account.stalls.count,
            stalled_ns: u64::try_from(account.stalls.total(now).as_nanos()).unwrap_or(u64::MAX),
        }
    }
}
