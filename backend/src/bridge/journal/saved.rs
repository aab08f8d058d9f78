//! All that one relay remembers, as one value.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::bridge::counters::Figures;
use crate::bridge::parties::{Client, GuestService};
use crate::remote::vring::Cursor;
use crate::rpmsg::ServiceName;
use crate::rpmsg::address::{Session, Slot};

/// Everything that must be known to go on where another program was killed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::bridge) struct Saved {
    /// The remote's device, while there is one.
    pub(in crate::bridge) device: Option<SavedDevice>,
    /// VMs by slot.
    pub(in crate::bridge) vms: BTreeMap<Slot, SavedVm>,
    /// The last session in slots where no VM is.
    pub(in crate::bridge) sessions: BTreeMap<Slot, Session>,
    /// The directory, by service number.
    pub(in crate::bridge) services: Vec<SavedService>,
    /// What tells the rules for services from others.
    pub(in crate::bridge) rules: u64,
    /// Number of the directory's last change.
    pub(in crate::bridge) last_change: u64,
    /// Entries of the table of addresses: whose each is.
    pub(in crate::bridge) aliases: Vec<Option<(Slot, u32)>>,
    /// Entries that are free, longest first.
    pub(in crate::bridge) free_aliases: Vec<u32>,
    /// Services of ended sessions that the remote must still be told to forget.
    pub(in crate::bridge) farewells: Vec<(ServiceName, u32)>,
    /// Services of a remote whose line was cut.
    pub(in crate::bridge) suspended: Vec<(ServiceName, u32)>,
    /// Messages of each VM that are lost, and not in its figures yet.
    pub(in crate::bridge) lost: BTreeMap<u8, u64>,
    /// Messages from the remote that were for nobody, and that were none.
    pub(in crate::bridge) strays: [u64; 2],
    /// How often a program has begun to serve the device.
    pub(in crate::bridge) programs: u64,
}

/// The rings of the remote's device, and whose its buffers are.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::bridge) struct SavedDevice {
    /// Which attachment this is: the remote has been attached to so often.
    pub(in crate::bridge) attachment: u32,
    /// Whether the line to the remote is cut.
    pub(in crate::bridge) is_parked: bool,
    /// The vring of messages from the remote.
    pub(in crate::bridge) inbound: Cursor,
    /// The vring of messages to it.
    pub(in crate::bridge) outbound: Cursor,
    /// Whose each of the outbound buffers is that is with the remote.
    pub(in crate::bridge) owners: Vec<Option<u8>>,
}

/// What is known of one VM.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::bridge) struct SavedVm {
    /// Whose the figures are: the slot may be another VM's when the program is started anew.
    pub(in crate::bridge) name: String,
    pub(in crate::bridge) session: Session,
    pub(in crate::bridge) in_session: bool,
    pub(in crate::bridge) progressed: bool,
    /// Used index of each queue that the bridge has, to the guest and from it.
    pub(in crate::bridge) used: [Option<u16>; 2],
    pub(in crate::bridge) services: Vec<GuestService>,
    /// What it has been told of each service.
    pub(in crate::bridge) told: Vec<u32>,
    /// Change of the directory up to which it has looked.
    pub(in crate::bridge) seen: u64,
    /// Messages that wait for it: buffer, and header as it was checked and translated.
    pub(in crate::bridge) waiting: Vec<(u16, [u8; 16])>,
    /// How many of these come before the next name service message.
    pub(in crate::bridge) before_news: u32,
    /// What was counted.
    pub(in crate::bridge) figures: Figures,
}

/// A service of the remote's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::bridge) struct SavedService {
    pub(in crate::bridge) name: ServiceName,
    pub(in crate::bridge) addr: u32,
    pub(in crate::bridge) live: bool,
    pub(in crate::bridge) incarnation: u32,
    pub(in crate::bridge) changed: u64,
    pub(in crate::bridge) desk: Option<SavedDesk>,
}

/// Who may talk to a service, and whose turn it is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::bridge) struct SavedDesk {
    pub(in crate::bridge) owner: Option<Slot>,
    pub(in crate::bridge) turn: SavedTurn,
    pub(in crate::bridge) clients: Vec<Client>,
    pub(in crate::bridge) requests: Vec<SavedRequest>,
}

/// Whose turn it is. Times begin anew.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::bridge) enum SavedTurn {
    #[default]
    Nobody,
    Of(Client),
    Quarantine,
    HandedOver,
}

/// A request that waits for its turn.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::bridge) struct SavedRequest {
    pub(in crate::bridge) client: Client,
    pub(in crate::bridge) flags: u16,
    pub(in crate::bridge) payload: Vec<u8>,
}

impl Saved {
    /// Whether everything in it makes sense together, so that nothing that is made of it can go wrong.
    pub(super) fn is_sound(&self) -> bool {
        use crate::bridge::directory::MAX_SERVICES;
        use crate::rpmsg::MAX_PAYLOAD;

        let requests = self.services.iter().filter_map(|service| service.desk.as_ref());
        let mut requests = requests.flat_map(|desk| &desk.requests);
        let mut waiting = self.vms.values().flat_map(|vm| &vm.waiting);
        let mut keys: Vec<_> = self.services.iter().map(|service| (service.name, service.addr)).collect();
        let mut changes: Vec<_> = self.services.iter().map(|service| service.changed).collect();
        keys.sort_unstable();
        changes.sort_unstable();
        let free: std::collections::BTreeSet<_> = self.free_aliases.iter().collect();
        self.services.len() <= MAX_SERVICES
            && keys.is_sorted_by(|a, b| a < b)
            && changes.is_sorted_by(|a, b| a < b)
            && changes.last().is_none_or(|last| *last <= self.last_change)
            && self.vms.values().all(|vm| vm.told.len() <= MAX_SERVICES)
            && requests.all(|request| request.payload.len() <= MAX_PAYLOAD)
            && waiting.all(|(id, _)| *id < 256)
            && self.device.as_ref().is_none_or(|device| device.owners.len() <= 256)
            && free.len() == self.free_aliases.len()
            && free.iter().all(|entry| matches!(self.aliases.get(**entry as usize), Some(None)))
    }
}
