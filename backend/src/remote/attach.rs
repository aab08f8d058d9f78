//! Attaching to the rpmsg devices of a remote core: from its resource table, or a layout known beforehand, to working
//! vrings.
//!
//! In the order in which firmware expects it (Linux `drivers/remoteproc/remoteproc_virtio.c`; TI's firmware insists):
//! vring addresses, notifyids and accepted features are written into the table first, then the status goes through
//! ACKNOWLEDGE, DRIVER and DRIVER_OK. Detaching writes status 0 and puts the clean table back.

use thiserror::Error;

use super::layout::{Layout, StaticLayout};
use super::mailbox::MAX_NOTIFYID;
use super::memory::{CarveoutError, CarveoutSlice, Carveouts, before_kick, before_publish};
use super::messages::{Inbound, Outbound};
use super::placement::{Placed, Placement};
use super::resource_table::{self, Resource, ResourceTable, ResourceTableError, Vdev};
use super::resume::{AttachmentRecord, TableRecord};
use super::vring::{Vring, VringLayoutError};
use crate::rpmsg::{VIRTIO_ID_RPMSG, VIRTIO_RPMSG_F_NS};

/// virtio device status bits (virtio 1.3 section 2.1).
const ACKNOWLEDGE: u8 = 1;
const DRIVER: u8 = 2;
const DRIVER_OK: u8 = 4;

/// The last device of a table for whose vrings, `2n` and `2n + 1`, every mailbox has a word.
const LAST_VDEV: usize = MAX_NOTIFYID as usize / 2;

/// Why a remote core cannot be attached to.
#[derive(Debug, Error)]
pub enum AttachError {
    /// The table, or something that the table names, is not in the configured memory.
    #[error("{what} is not in the remote core's memory")]
    Memory {
        /// What was looked for.
        what: String,
        /// Where.
        #[source]
        source: CarveoutError,
    },
    /// There is no valid resource table.
    #[error(
        "no valid resource table at device address {address:#x}; is the firmware up, and is `resource-table` right?"
    )]
    Table {
        /// Where it should be.
        address: u64,
        /// What is wrong with what is there.
        #[source]
        source: ResourceTableError,
    },
    /// The table has no rpmsg device.
    #[error("the resource table has no virtio device with id {VIRTIO_ID_RPMSG} (rpmsg); it has {found}")]
    NoRpmsg {
        /// The devices that there are.
        found: String,
    },
    /// The firmware wants a peripheral where only an IOMMU could put it.
    #[error(
        "the resource table wants the peripheral \"{name}\" at physical address {pa:#x} mapped to device address \
         {da:#x}, which takes an IOMMU; use firmware that is linked to the physical address, or remove the entry"
    )]
    Devmem {
        /// Name of the peripheral.
        name: String,
        /// Where it is.
        pa: u32,
        /// Where the firmware wants it.
        da: u32,
    },
    /// An rpmsg device has not got two vrings.
    #[error("rpmsg device vdev{vdev} of the resource table has {found} vrings, expected 2")]
    VringCount {
        /// Number of the device.
        vdev: usize,
        /// How many it has.
        found: usize,
    },
    /// An rpmsg device whose vrings have numbers that mailboxes have no word for.
    #[error(
        "rpmsg device vdev{vdev} of the resource table is too far back, expected it up to vdev{last}, for whose vrings \
         mailboxes have numbers; put it further to the front"
    )]
    TooFarBack {
        /// Number of the device.
        vdev: usize,
        /// The last one that can be.
        last: usize,
    },
    /// A vring that cannot be.
    #[error("{what} of the remote core is unusable")]
    Vring {
        /// Which one.
        what: String,
        /// Why.
        #[source]
        source: VringLayoutError,
    },
    /// Somebody else is, or was, the driver of a device.
    #[error(
        "rpmsg device vdev{vdev} already has a driver (status {status:#x}) that is not known here: another host is \
         attached, or one was killed before it could detach; stop the other host, then restart the remote core"
    )]
    Occupied {
        /// Number of the device.
        vdev: usize,
        /// The status found.
        status: u8,
    },
    /// Two things are to be in the same place, where writing the one would destroy the other.
    #[error(
        "{what} is to be at {start:#x}..{end:#x}, where {other} is already; correct the addresses in the resource table",
        end = start + *len as u64
    )]
    Overlap {
        /// What was to be placed.
        what: String,
        /// What is there.
        other: String,
        /// Device address.
        start: u64,
        /// Length in bytes.
        len: usize,
    },
    /// Vrings and buffers do not fit.
    #[error(
        "no room for {what} of {size:#x} bytes (alignment {align:#x}) in the remote core's memory; configure more memory or a carveout for it"
    )]
    NoRoom {
        /// What was to be placed.
        what: String,
        /// Its size in bytes.
        size: usize,
        /// Its alignment in bytes.
        align: u64,
    },
}

/// An rpmsg device of a remote core, with the host as its driver.
#[derive(Debug)]
pub struct RpmsgVdev {
    /// How often the core had been attached to when this was made: tells it from the devices of its predecessors.
    pub attachment: u32,
    /// Messages from the remote.
    pub inbound: Inbound,
    /// Messages to the remote.
    pub outbound: Outbound,
}

impl RpmsgVdev {
    /// How often the remote has done something with either vring, wrapping.
    #[inline]
    pub fn progress(&mut self) -> u64 {
        u64::from(self.inbound.vring().progress()) << 16 | u64::from(self.outbound.vring().progress())
    }
}

/// What holds the devices together: the resource table, if there is one.
#[derive(Debug)]
pub struct Attachment {
    table: Option<OwnedTable>,
    /// What is to be remembered of it.
    record: AttachmentRecord,
    /// Entries of the table that nothing was done about, for people.
    pub left_alone: Vec<String>,
}

/// A table in which the host has filled in its part.
#[derive(Debug)]
struct OwnedTable {
    memory: CarveoutSlice,
    record: TableRecord,
}

/// Attaches to the rpmsg devices of a remote core, all of them. Returns them in the order of the table or layout. This is
/// the attachment of this number; `remember` is told of it before the remote can see anything of it.
///
/// # Errors
/// A table that is missing, malformed or without a usable rpmsg device, memory that does not hold what the table
/// names or what has to be placed, and a device that has a driver already. Nothing has been written then.
pub fn attach(
    carveouts: &Carveouts,
    layout: &Layout,
    number: u32,
    remember: &mut dyn FnMut(&AttachmentRecord),
) -> Result<(Attachment, Vec<RpmsgVdev>), AttachError> {
    match layout {
        Layout::Table { address } => by_table(carveouts, *address, number, remember),
        Layout::Static(layout) => by_layout(carveouts, *layout, number, remember),
    }
}

/// Reads the resource table at this device address. Returns it, its bytes, and where it is.
///
/// # Errors
/// A table that is missing or malformed.
pub fn read_table(
    carveouts: &Carveouts,
    address: u64,
) -> Result<(ResourceTable, Vec<u8>, CarveoutSlice), AttachError> {
    let room = carveouts.room_from(address).min(resource_table::MAX_LEN);
    let memory = carveouts
        .slice(address, room, 1)
        .map_err(|source| AttachError::Memory { what: "the resource table".to_owned(), source })?;
    let mut bytes = vec![0; room];
    memory.read_into(0, &mut bytes);
    let table = ResourceTable::parse(&bytes).map_err(|source| AttachError::Table { address, source })?;
    bytes.truncate(table.len());
    let memory = memory.subslice(0, table.len());
    Ok((table, bytes, memory))
}

fn by_table(
    carveouts: &Carveouts,
    address: u64,
    number: u32,
    remember: &mut dyn FnMut(&AttachmentRecord),
) -> Result<(Attachment, Vec<RpmsgVdev>), AttachError> {
    let (table, clean, memory) = read_table(carveouts, address)?;
    let rpmsg = find_rpmsg(&table)?;
    let left_alone = others(&table)?;

    let mut placement = Placement::for_table(carveouts, address, &table);
    let mut placed = Vec::new();
    let mut writes = Vec::new();
    for (index, vdev) in &rpmsg {
        let vrings = [&vdev.vrings[0], &vdev.vrings[1]];
        let device = placement.vdev(*index, vrings.map(|vring| (vring.da, vring.num, vring.align)))?;
        for (vring, place) in vrings.iter().zip(&device.vrings) {
            writes.push((vring.da_offset(), place.device_address));
            writes.push((vring.notifyid_offset(), place.notifyid));
        }
        // Only what is understood here is accepted, whatever else the remote offers.
        writes.push((vdev.gfeatures_offset(), vdev.dfeatures & 1 << VIRTIO_RPMSG_F_NS));
        placed.push(device);
    }
    placement.other_carveouts()?;
    writes.extend(placement.into_writes());

    let status_offsets: Vec<_> = rpmsg.iter().map(|(_, vdev)| vdev.status_offset()).collect();
    let mut written = clean.clone();
    for (offset, value) in &writes {
        written[*offset..][..4].copy_from_slice(&value.to_le_bytes());
    }
    for offset in &status_offsets {
        written[*offset] = ACKNOWLEDGE | DRIVER | DRIVER_OK;
    }
    let record = TableRecord { address, status_offsets: status_offsets.clone(), clean, written };
    let table = OwnedTable { memory: memory.clone(), record: record.clone() };
    let places = placed.iter().map(|placed| placed.place).collect();
    let record = AttachmentRecord { number, table: Some(record), places };
    remember(&record);

    let devices: Vec<_> = placed.into_iter().map(|placed| bring_up(placed, number)).collect();
    for (offset, value) in writes {
        memory.write_bytes(offset, &value.to_le_bytes());
    }
    for status in [ACKNOWLEDGE, ACKNOWLEDGE | DRIVER, ACKNOWLEDGE | DRIVER | DRIVER_OK] {
        for offset in &status_offsets {
            before_publish();
            memory.write_u8(*offset, status);
        }
    }
    before_kick();
    Ok((Attachment { table: Some(table), record, left_alone }, devices))
}

fn by_layout(
    carveouts: &Carveouts,
    layout: StaticLayout,
    number: u32,
    remember: &mut dyn FnMut(&AttachmentRecord),
) -> Result<(Attachment, Vec<RpmsgVdev>), AttachError> {
    let vdevs = || (0..layout.vdevs().into()).zip(layout.vrings());
    let mut placement = Placement::for_vrings(carveouts, layout.vrings().flatten());
    let placed = vdevs().map(|(index, vrings)| {
        let vrings = vrings.map(|address| (Some(address), layout.descriptors(), StaticLayout::ALIGN));
        placement.vdev(index, vrings)
    });
    let placed: Vec<_> = placed.collect::<Result<_, _>>()?;
    let places = placed.iter().map(|placed| placed.place).collect();
    let record = AttachmentRecord { number, table: None, places };
    remember(&record);
    let devices: Vec<_> = placed.into_iter().map(|placed| bring_up(placed, number)).collect();
    before_kick();
    Ok((Attachment { table: None, record, left_alone: Vec::new() }, devices))
}

/// Clears the vrings and gives the remote its buffers.
fn bring_up(placed: Placed, attachment: u32) -> RpmsgVdev {
    let [inbound, outbound] =
        placed.vrings.map(|place| Vring::new(place.memory, place.layout, place.notifyid));
    let [inbound_buffers, outbound_buffers] = placed.buffers;
    let mut inbound = Inbound::new(inbound, inbound_buffers);
    let mut outbound = Outbound::new(outbound, outbound_buffers);
    outbound.vring().want_interrupts(false);
    inbound.vring().publish();
    RpmsgVdev { attachment, inbound, outbound }
}

impl Attachment {
    /// The notifyid by which the remote is made to look at its status.
    pub fn notifyid(&self) -> u32 {
        self.record.places.first().map_or(0, |place| place.vrings[0].notifyid)
    }

    /// What is to be remembered of it. `None` if the table is another remote's by now.
    pub(super) fn record(&self) -> Option<&AttachmentRecord> {
        Some(&self.record).filter(|record| record.table.is_some() == self.table.is_some())
    }

    /// The attachment that is remembered by this.
    ///
    /// # Errors
    /// A table that is not in this memory.
    pub(super) fn remembered(record: &AttachmentRecord, carveouts: &Carveouts) -> Result<Self, AttachError> {
        let table = record.table.as_ref().map(|table| {
            let memory = carveouts
                .slice(table.address, table.written.len(), 1)
                .map_err(|source| AttachError::Memory { what: "the resource table".to_owned(), source })?;
            Ok(OwnedTable { memory, record: table.clone() })
        });
        Ok(Attachment { table: table.transpose()?, record: record.clone(), left_alone: Vec::new() })
    }

    /// Whether there is a table, and it is not as the host has left it.
    pub fn is_overwritten(&self) -> bool {
        self.table.is_some() && !self.is_untouched()
    }

    /// The table is another remote's from now on.
    pub fn forsake(&mut self) {
        self.table = None;
    }

    /// Whether the table still stands as the host has left it: the remote has not been started anew since. Without a
    /// table nobody can tell, and the answer is no.
    pub fn is_untouched(&self) -> bool {
        self.table.as_ref().is_some_and(|table| {
            let mut now = vec![0; table.record.written.len()];
            table.memory.read_into(0, &mut now);
            now == table.record.written
        })
    }

    /// Lets go of the devices: the remote sees status 0, then the table is put back as it was.
    pub fn detach(self) {
        let Some(table) = self.table else { return };
        let TableRecord { status_offsets, clean, .. } = &table.record;
        for offset in status_offsets {
            table.memory.write_u8(*offset, 0);
        }
        before_publish();
        table.memory.write_bytes(0, clean);
        before_kick();
    }
}

/// The rpmsg devices, each with its number among the table's virtio devices.
fn find_rpmsg(table: &ResourceTable) -> Result<Vec<(usize, &Vdev)>, AttachError> {
    let found: Vec<_> = table.vdevs().enumerate().filter(|(_, vdev)| vdev.id == VIRTIO_ID_RPMSG).collect();
    if found.is_empty() {
        let ids: Vec<String> = table.vdevs().map(|vdev| format!("id {}", vdev.id)).collect();
        let found = if ids.is_empty() { "none".to_owned() } else { ids.join(", ") };
        return Err(AttachError::NoRpmsg { found });
    }
    for (index, vdev) in &found {
        if *index > LAST_VDEV {
            return Err(AttachError::TooFarBack { vdev: *index, last: LAST_VDEV });
        }
        if vdev.vrings.len() != 2 {
            return Err(AttachError::VringCount { vdev: *index, found: vdev.vrings.len() });
        }
        if vdev.status & DRIVER_OK != 0 {
            return Err(AttachError::Occupied { vdev: *index, status: vdev.status });
        }
    }
    Ok(found)
}

/// What of the table is left alone. Refuses what cannot be left alone.
fn others(table: &ResourceTable) -> Result<Vec<String>, AttachError> {
    let mut others = Vec::new();
    for entry in table.entries() {
        match &entry.resource {
            Resource::Devmem(devmem) if devmem.da != devmem.pa => {
                return Err(AttachError::Devmem {
                    name: devmem.name.to_string(),
                    pa: devmem.pa,
                    da: devmem.da,
                });
            }
            Resource::Vdev(vdev) if vdev.id == VIRTIO_ID_RPMSG => {}
            Resource::Vdev(_) | Resource::Vendor(_) | Resource::Unknown(_) => others.push(entry.to_string()),
            _ => {}
        }
    }
    Ok(others)
}
