//! What the core knows apart from the link: its services, what it owes, what the host has announced, and counters.

use std::collections::{HashMap, HashSet};
use std::fmt;

use thiserror::Error;

use super::ServiceSpec;
use super::service::{Service, Told};
use super::source::Asks;
use crate::rpmsg::{Announcement, AnnouncementKind, NAME_SERVICE_ADDRESS, ServiceName};

/// First address given to a service without one of its own, as OpenAMP and Linux count.
const FIRST_ADDRESS: u32 = 0x400;

/// How many services of the host are remembered.
const MAX_HOST_SERVICES: usize = 65_536;

/// Everything that the core knows apart from the link.
#[derive(Debug, Default)]
pub(super) struct Desk {
    pub(super) services: Vec<Service>,
    /// Place in `services` by address.
    pub(super) directory: HashMap<u32, usize>,
    /// Some service has yet to be announced or withdrawn.
    pub(super) news: bool,
    pub(super) asks: Asks,
    host_services: HashSet<(ServiceName, u32)>,
    pub(super) totals: Totals,
}

/// What has been counted since the last boot and belongs to no service.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Totals {
    pub(super) received: u64,
    pub(super) sent: u64,
    pub(super) unknown_dst: u64,
    pub(super) malformed: u64,
    pub(super) bad_buffers: u64,
    pub(super) announcements: u64,
}

/// The address asked for belongs to another service.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("service {name} cannot have address {address:#x}: it is taken; expected a free one")]
pub struct AddressTaken {
    /// Name of the service that is to have it.
    pub name: String,
    /// The address.
    pub address: u32,
}

impl Desk {
    /// A host endpoint has announced or withdrawn itself.
    pub(super) fn hear_of(&mut self, payload: &[u8]) {
        let announcement = match Announcement::from_bytes(payload) {
            Ok(announcement) => announcement,
            Err(error) => {
                log::debug!("{error}");
                self.totals.malformed += 1;
                return;
            }
        };
        let Announcement { name, addr, kind } = announcement;
        self.totals.announcements += 1;
        log::debug!("host: {kind:?} {name} at {addr:#x}");
        match kind {
            AnnouncementKind::Create if self.host_services.len() < MAX_HOST_SERVICES => {
                self.host_services.insert((name, addr));
            }
            AnnouncementKind::Create => {}
            AnnouncementKind::Destroy => {
                self.host_services.remove(&(name, addr));
                self.asks.retain(|ask| ask.dst != addr);
                for service in &mut self.services {
                    service.forget(addr);
                }
            }
        }
    }

    /// Removes the services that are gone, and finds the others anew.
    pub(super) fn sweep(&mut self) {
        self.services.retain(|service| service.told != Told::Gone);
        self.directory = (self.services.iter().enumerate())
            .filter(|(_, service)| service.told != Told::Leaving)
            .map(|(place, service)| (service.address, place))
            .collect();
        let directory = &self.directory;
        self.asks.retain(|ask| directory.contains_key(&ask.src));
    }

    /// Adds a service; returns its address.
    pub(super) fn add(&mut self, spec: ServiceSpec) -> Result<u32, AddressTaken> {
        let taken = |address: u32| {
            address == NAME_SERVICE_ADDRESS || self.services.iter().any(|service| service.address == address)
        };
        let address = match spec.address {
            Some(address) if taken(address) => {
                return Err(AddressTaken { name: spec.name.to_string(), address });
            }
            Some(address) => address,
            // There are fewer services than addresses.
            None => (FIRST_ADDRESS..u32::MAX).find(|address| !taken(*address)).unwrap_or(FIRST_ADDRESS),
        };
        self.services.push(Service::new(spec.kind, spec.name, address));
        self.sweep();
        self.news = true;
        Ok(address)
    }

    /// Takes the services of this name away; returns how many there were.
    pub(super) fn withdraw(&mut self, name: &str) -> usize {
        let mut count = 0;
        for service in &mut self.services {
            if service.name.as_bytes() == name.as_bytes() && service.told < Told::Leaving {
                service.told = if service.told == Told::Yes { Told::Leaving } else { Told::Gone };
                count += 1;
            }
        }
        self.sweep();
        self.news = true;
        count
    }

    /// Forgets what was known by a link that is gone.
    pub(super) fn reset_link(&mut self) {
        self.asks = Asks::default();
        self.host_services.clear();
        for service in &mut self.services {
            service.reset_link();
        }
        self.sweep();
    }

    /// The services that the host has announced, one `NAME@ADDRESS` each.
    pub(super) fn host_services(&self) -> Vec<String> {
        let mut services: Vec<String> =
            self.host_services.iter().map(|(name, address)| format!("{name}@{address:#x}")).collect();
        services.sort();
        services
    }
}

impl fmt::Display for Desk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Totals { received, sent, unknown_dst, malformed, bad_buffers, announcements } = self.totals;
        write!(
            f,
            "received={received} sent={sent} unknown_dst={unknown_dst} malformed={malformed} \
             bad_buffers={bad_buffers} announcements={announcements} host_services={}",
            self.host_services.len()
        )?;
        for service in &self.services {
            let Service { name, address, kind, counters, .. } = service;
            write!(f, " | {name} addr={address:#x} kind={} {counters}", kind.name())?;
        }
        Ok(())
    }
}
