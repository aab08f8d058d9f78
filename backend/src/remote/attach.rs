//! Attaching to the rpmsg device of a remote core: from its resource table to two working vrings.
//!
//! In the order in which firmware expects it (Linux `drivers/remoteproc/remoteproc_virtio.c`; TI's firmware insists):
//! vring addresses, notifyids and accepted features are written into the table first, then the status goes through
//! ACKNOWLEDGE, DRIVER and DRIVER_OK. Detaching writes status 0 and puts the clean table back.

use std::ops::Range;

use thiserror::Error;

use super::memory::{CarveoutError, CarveoutSlice, Carveouts, before_kick, before_publish};
use super::messages::{Buffers, Inbound, Outbound};
use super::resource_table::{self, Resource, ResourceTable, ResourceTableError, Vdev};
use super::vring::{Vring, VringLayout, VringLayoutError};
use crate::rpmsg::{BUFFER_SIZE, VIRTIO_ID_RPMSG, VIRTIO_RPMSG_F_NS};

/// virtio device status bits (virtio 1.3 section 2.1).
const ACKNOWLEDGE: u8 = 1;
const DRIVER: u8 = 2;
const DRIVER_OK: u8 = 4;

/// Most buffers per direction, as in virtio_rpmsg_bus (`MAX_RPMSG_NUM_BUFS / 2`).
const MAX_BUFFERS: u16 = 256;

/// Alignment of buffers in bytes: a cache line, so that no two share one.
const BUFFER_ALIGN: u64 = 64;

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
    /// The rpmsg device has not got two vrings.
    #[error("the rpmsg device of the resource table has {found} vrings, expected 2")]
    VringCount {
        /// How many it has.
        found: usize,
    },
    /// A vring that cannot be.
    #[error("vring {index} of the resource table is unusable")]
    Vring {
        /// Which one.
        index: usize,
        /// Why.
        #[source]
        source: VringLayoutError,
    },
    /// Somebody else is, or was, the driver of the device.
    #[error(
        "the rpmsg device already has a driver (status {status:#x}) that is not known here: another host is attached, \
         or one was killed before it could detach; stop the other host, then restart the remote core"
    )]
    Occupied {
        /// The status found.
        status: u8,
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

/// The rpmsg device of a remote core, with the host as its driver.
#[derive(Debug)]
pub struct RpmsgVdev {
    /// Messages from the remote.
    pub inbound: Inbound,
    /// Messages to the remote.
    pub outbound: Outbound,
    table: CarveoutSlice,
    status_offset: usize,
    /// The table as it was before anything was written to it.
    clean: Vec<u8>,
    /// The table as the host has left it.
    written: Vec<u8>,
}

impl RpmsgVdev {
    /// Attaches to the rpmsg device that the resource table at `table_address` names.
    ///
    /// # Errors
    /// A table that is missing, malformed or without a usable rpmsg device, memory that does not hold what the table
    /// names or what has to be placed, and a device that has a driver already.
    pub fn attach(carveouts: &Carveouts, table_address: u64) -> Result<Self, AttachError> {
        let room = carveouts.room_from(table_address).min(resource_table::MAX_LEN);
        let table_memory = carveouts
            .slice(table_address, room, 1)
            .map_err(|source| AttachError::Memory { what: "the resource table".to_owned(), source })?;
        let mut bytes = vec![0; room];
        table_memory.read_into(0, &mut bytes);
        let table = ResourceTable::parse(&bytes)
            .map_err(|source| AttachError::Table { address: table_address, source })?;
        let (index, vdev) = find_rpmsg(&table)?;
        if vdev.status & DRIVER_OK != 0 {
            return Err(AttachError::Occupied { status: vdev.status });
        }
        bytes.truncate(table.len());
        let table_memory = table_memory.subslice(0, table.len());

        let mut placement = Placement::new(carveouts, table_address, &table);
        let vrings = [placement.vring(index, vdev, 0)?, placement.vring(index, vdev, 1)?];
        let count = vrings.each_ref().map(|placed| placed.layout.num().min(MAX_BUFFERS));
        let buffers = placement.buffers(index, count)?;
        placement.other_carveouts()?;
        let mut writes = placement.writes;

        let notifyids = [0, 1].map(|queue| u32::try_from(2 * index + queue).unwrap_or(0));
        let [inbound, outbound] = [0, 1].map(|queue| {
            writes.push((vdev.vrings[queue].notifyid_offset(), notifyids[queue]));
            let PlacedVring { memory, layout } = &vrings[queue];
            Vring::new(memory.clone(), *layout, notifyids[queue])
        });
        let [inbound_buffers, outbound_buffers] = buffers;
        let mut inbound = Inbound::new(inbound, inbound_buffers);
        let mut outbound = Outbound::new(outbound, outbound_buffers);
        outbound.vring().want_interrupts(false);
        inbound.vring().publish();

        // Only what is understood here is accepted, whatever else the remote offers.
        writes.push((vdev.gfeatures_offset(), vdev.dfeatures & 1 << VIRTIO_RPMSG_F_NS));
        for (offset, value) in writes {
            table_memory.write_bytes(offset, &value.to_le_bytes());
        }
        for status in [ACKNOWLEDGE, ACKNOWLEDGE | DRIVER, ACKNOWLEDGE | DRIVER | DRIVER_OK] {
            before_publish();
            table_memory.write_u8(vdev.status_offset(), status);
        }
        before_kick();
        let mut written = vec![0; table.len()];
        table_memory.read_into(0, &mut written);
        Ok(RpmsgVdev {
            inbound,
            outbound,
            status_offset: vdev.status_offset(),
            table: table_memory,
            clean: bytes,
            written,
        })
    }

    /// Whether the table still stands as the host has left it: the remote has not been started anew since.
    pub fn is_still_attached(&self) -> bool {
        let mut now = vec![0; self.written.len()];
        self.table.read_into(0, &mut now);
        now == self.written
    }

    /// Lets go of the device: the remote sees status 0, then the table is put back as it was.
    pub fn detach(self) {
        self.table.write_u8(self.status_offset, 0);
        before_publish();
        self.table.write_bytes(0, &self.clean);
        before_kick();
    }
}

/// The first rpmsg device, and which of the table's virtio devices it is.
fn find_rpmsg(table: &ResourceTable) -> Result<(usize, &Vdev), AttachError> {
    let found = table.vdevs().enumerate().find(|(_, vdev)| vdev.id == VIRTIO_ID_RPMSG);
    let (index, vdev) = found.ok_or_else(|| {
        let ids: Vec<String> = table.vdevs().map(|vdev| format!("id {}", vdev.id)).collect();
        AttachError::NoRpmsg { found: if ids.is_empty() { "none".to_owned() } else { ids.join(", ") } }
    })?;
    match vdev.vrings.len() {
        2 => Ok((index, vdev)),
        found => Err(AttachError::VringCount { found }),
    }
}

struct PlacedVring {
    memory: CarveoutSlice,
    layout: VringLayout,
}

/// Where things go in the memory of a remote core, and what has to be written into the table about it.
struct Placement<'a> {
    carveouts: &'a Carveouts,
    table: &'a ResourceTable,
    /// Device addresses that somebody uses.
    occupied: Vec<Range<u64>>,
    /// Offset in the table and the word that goes there.
    writes: Vec<(usize, u32)>,
    /// Carveouts that were given an address here.
    placed: Vec<usize>,
}

impl<'a> Placement<'a> {
    fn new(carveouts: &'a Carveouts, table_address: u64, table: &'a ResourceTable) -> Self {
        let range = |start: u64, len: u64| start..start.saturating_add(len);
        let mut occupied = vec![range(table_address, table.len() as u64)];
        for entry in table.entries() {
            let fixed = match &entry.resource {
                Resource::Carveout(carveout) => carveout.da.map(|da| (da, carveout.size)),
                Resource::Trace(trace) => trace.da.map(|da| (da, trace.size)),
                _ => None,
            };
            occupied.extend(fixed.map(|(da, size)| range(da.into(), size.into())));
        }
        for vring in table.vdevs().flat_map(|vdev| &vdev.vrings) {
            if let (Some(da), Ok(layout)) = (vring.da, VringLayout::new(vring.num, vring.align)) {
                occupied.push(range(da.into(), layout.size() as u64));
            }
        }
        Placement { carveouts, table, occupied, writes: Vec::new(), placed: Vec::new() }
    }

    /// Vring `queue` of virtio device `index`: where the table says, in the carveout named for it, or in free memory.
    fn vring(&mut self, index: usize, vdev: &Vdev, queue: usize) -> Result<PlacedVring, AttachError> {
        let vring = &vdev.vrings[queue];
        let layout = VringLayout::new(vring.num, vring.align)
            .map_err(|source| AttachError::Vring { index: queue, source })?;
        let what = format!("vdev{index}vring{queue}");
        let align = u64::from(vring.align).max(VringLayout::MIN_ALIGN);
        let address = match vring.da {
            Some(da) => da,
            None => {
                let address = self.named_or_free(&what, layout.size(), align)?;
                self.writes.push((vring.da_offset(), address));
                address
            }
        };
        let memory = self.slice(&what, address.into(), layout.size(), VringLayout::MIN_ALIGN)?;
        Ok(PlacedVring { memory, layout })
    }

    /// The buffers of both directions, one block: in the carveout named for it, or in free memory.
    fn buffers(&mut self, index: usize, count: [u16; 2]) -> Result<[Buffers; 2], AttachError> {
        let what = format!("vdev{index}buffer");
        let sizes = count.map(|count| usize::from(count) * BUFFER_SIZE);
        let address = u64::from(self.named_or_free(&what, sizes[0] + sizes[1], BUFFER_ALIGN)?);
        let second = address + sizes[0] as u64;
        Ok([
            Buffers::new(self.slice(&what, address, sizes[0], 8)?, address, count[0]),
            Buffers::new(self.slice(&what, second, sizes[1], 8)?, second, count[1]),
        ])
    }

    /// Gives every carveout that is left to the host an address.
    fn other_carveouts(&mut self) -> Result<(), AttachError> {
        for (number, carveout) in self.table.carveouts().enumerate() {
            if carveout.da.is_none() && !self.placed.contains(&number) {
                let what = String::from_utf8_lossy(carveout.name.as_bytes()).into_owned();
                let address = self.free(&what, carveout.size as usize, BUFFER_ALIGN)?;
                self.writes.push((carveout.da_offset(), address));
            }
        }
        Ok(())
    }

    /// The carveout of this name, given an address if it has none, or else free memory.
    fn named_or_free(&mut self, name: &str, size: usize, align: u64) -> Result<u32, AttachError> {
        let named = self
            .table
            .carveouts()
            .enumerate()
            .find(|(_, carveout)| carveout.name.as_bytes() == name.as_bytes());
        let Some((number, carveout)) = named else {
            return self.free(name, size, align);
        };
        if (carveout.size as usize) < size {
            return Err(AttachError::NoRoom {
                what: format!("{name} (carveout of {:#x} bytes)", carveout.size),
                size,
                align,
            });
        }
        if let Some(da) = carveout.da {
            return Ok(da);
        }
        let address = self.free(name, carveout.size as usize, align)?;
        self.writes.push((carveout.da_offset(), address));
        self.placed.push(number);
        Ok(address)
    }

    /// The first free range of `size` bytes. Device addresses in the table have 32 bits, so it ends below 2^32.
    fn free(&mut self, what: &str, size: usize, align: u64) -> Result<u32, AttachError> {
        let no_room = || AttachError::NoRoom { what: what.to_owned(), size, align };
        let len = size as u64;
        for region in self.carveouts.regions() {
            let end =
                (region.device_address() + region.size() as u64).min(resource_table::ADDRESS_ANY.into());
            let mut start = region.device_address().next_multiple_of(align);
            while start.checked_add(len).is_some_and(|last| last <= end) {
                let range = start..start + len;
                match self.occupied.iter().find(|used| used.start < range.end && range.start < used.end) {
                    Some(used) => start = used.end.next_multiple_of(align),
                    None => {
                        self.occupied.push(range);
                        return u32::try_from(start).map_err(|_: std::num::TryFromIntError| no_room());
                    }
                }
            }
        }
        Err(no_room())
    }

    fn slice(&self, what: &str, address: u64, len: usize, align: u64) -> Result<CarveoutSlice, AttachError> {
        self.carveouts
            .slice(address, len, align)
            .map_err(|source| AttachError::Memory { what: what.to_owned(), source })
    }
}
