//! Where vrings and buffers go in the memory of a remote core.
//!
//! Each in the first of: the address that the resource table gives, the carveout of the table that is named for it, the
//! configured region that is named for it (`vdev0vring0`, `vdev0vring1`, `vdev0buffer`, as Linux looks for reserved
//! memory), and free memory in the regions without a name, which are everybody's pool. A region with any other name is
//! the firmware's, and nothing is placed there.

use std::ops::Range;

use super::attach::AttachError;
use super::memory::{CarveoutSlice, Carveouts};
use super::messages::Buffers;
use super::resource_table::{self, Carveout, Resource, ResourceTable};
use super::resume::{PlaceRecord, VringRecord};
use super::vring::VringLayout;
use crate::rpmsg::BUFFER_SIZE;

/// Most buffers per direction, as in virtio_rpmsg_bus (`MAX_RPMSG_NUM_BUFS / 2`).
pub(super) const MAX_BUFFERS: u16 = 256;

/// Alignment of buffers in bytes: a cache line, so that no two share one.
const BUFFER_ALIGN: u64 = 64;

/// A device's vrings and buffers, in place.
pub(super) struct Placed {
    pub(super) vrings: [PlacedVring; 2],
    pub(super) buffers: [Buffers; 2],
    /// Where all that is.
    pub(super) place: PlaceRecord,
}

/// A vring in place.
pub(super) struct PlacedVring {
    pub(super) memory: CarveoutSlice,
    pub(super) layout: VringLayout,
    pub(super) device_address: u32,
    /// What the mailbox calls it.
    pub(super) notifyid: u32,
}

/// What is known of a vring beforehand: its device address if it is fixed, descriptors, alignment in bytes.
pub(super) type VringWish = (Option<u32>, u32, u32);

/// Where things go, and what has to be written into the table about it.
pub(super) struct Placement<'a> {
    memory: &'a Carveouts,
    /// Carveouts of the table; none where there is no table.
    carveouts: Vec<&'a Carveout>,
    /// Device addresses that somebody uses.
    occupied: Vec<Range<u64>>,
    /// Offset in the table and the word that goes there.
    writes: Vec<(usize, u32)>,
    /// Carveouts that were given an address here.
    placed: Vec<usize>,
    /// What the host writes to, or has to stay as it is: no two of these may share memory.
    claims: Vec<(String, Range<u64>)>,
}

impl<'a> Placement<'a> {
    /// Around what the table at this address says.
    pub(super) fn for_table(memory: &'a Carveouts, table_address: u64, table: &'a ResourceTable) -> Self {
        let mut placement = Placement {
            memory,
            carveouts: table.carveouts().collect(),
            occupied: Vec::new(),
            writes: Vec::new(),
            placed: Vec::new(),
            claims: vec![("the resource table".to_owned(), range(table_address, table.len() as u64))],
        };
        placement.occupy(table_address, table.len() as u64);
        for entry in table.entries() {
            let fixed = match &entry.resource {
                Resource::Carveout(carveout) => carveout.da.map(|da| (da, carveout.size)),
                Resource::Trace(trace) => trace.da.map(|da| (da, trace.size)),
                _ => None,
            };
            if let Some((da, size)) = fixed {
                placement.occupy(da.into(), size.into());
            }
        }
        for vring in table.vdevs().flat_map(|vdev| &vdev.vrings) {
            if let (Some(da), Ok(layout)) = (vring.da, VringLayout::new(vring.num, vring.align)) {
                placement.occupy(da.into(), layout.size() as u64);
            }
        }
        placement
    }

    /// Around vrings at these addresses, each with the room up to the next one's place.
    pub(super) fn for_vrings(memory: &'a Carveouts, vrings: impl Iterator<Item = u32>) -> Self {
        let mut placement = Placement {
            memory,
            carveouts: Vec::new(),
            occupied: Vec::new(),
            writes: Vec::new(),
            placed: Vec::new(),
            claims: Vec::new(),
        };
        for address in vrings {
            placement.occupy(address.into(), super::layout::StaticLayout::VRING_STRIDE.into());
        }
        placement
    }

    fn occupy(&mut self, start: u64, len: u64) {
        self.occupied.push(range(start, len));
    }

    /// Takes memory for something that has its place.
    fn claim(&mut self, what: &str, start: u64, len: usize) -> Result<(), AttachError> {
        let wanted = range(start, len as u64);
        if let Some((other, _)) = self.claims.iter().find(|(_, taken)| overlap(taken, &wanted)) {
            let (what, other) = (what.to_owned(), other.clone());
            return Err(AttachError::Overlap { what, other, start, len });
        }
        self.claims.push((what.to_owned(), wanted));
        Ok(())
    }

    /// What is to be written into the table: offsets in bytes and words.
    pub(super) fn into_writes(self) -> Vec<(usize, u32)> {
        self.writes
    }

    /// Vrings and buffers of virtio device `index`.
    pub(super) fn vdev(&mut self, index: usize, vrings: [VringWish; 2]) -> Result<Placed, AttachError> {
        let aligns = vrings.map(|(_, _, align)| align);
        let vrings = [self.vring(index, 0, vrings[0])?, self.vring(index, 1, vrings[1])?];
        let (address, buffers) =
            self.buffers(index, vrings.each_ref().map(|placed| placed.layout.num().min(MAX_BUFFERS)))?;
        let record = |number: usize| VringRecord {
            address: vrings[number].device_address,
            num: vrings[number].layout.num(),
            align: aligns[number],
            notifyid: vrings[number].notifyid,
        };
        let place = PlaceRecord { vrings: [record(0), record(1)], buffers: address };
        Ok(Placed { vrings, buffers, place })
    }

    fn vring(
        &mut self,
        index: usize,
        queue: usize,
        (da, num, align): VringWish,
    ) -> Result<PlacedVring, AttachError> {
        let what = format!("vdev{index}vring{queue}");
        let layout = VringLayout::new(num, align)
            .map_err(|source| AttachError::Vring { what: what.clone(), source })?;
        let device_address = match da {
            Some(da) => da,
            None => self.named_or_free(&what, layout.size(), u64::from(align).max(VringLayout::MIN_ALIGN))?,
        };
        let memory = self.slice(&what, device_address.into(), layout.size(), VringLayout::MIN_ALIGN)?;
        self.claim(&what, device_address.into(), layout.size())?;
        let notifyid = u32::try_from(2 * index + queue).unwrap_or(u32::MAX);
        Ok(PlacedVring { memory, layout, device_address, notifyid })
    }

    /// The buffers of both directions, one block.
    fn buffers(&mut self, index: usize, count: [u16; 2]) -> Result<(u32, [Buffers; 2]), AttachError> {
        let what = format!("vdev{index}buffer");
        let size = size_of_buffers(count);
        let address = self.named_or_free(&what, size, BUFFER_ALIGN)?;
        let memory = self.slice(&what, address.into(), size, 8)?;
        self.claim(&what, address.into(), size)?;
        Ok((address, divide(&memory, count)))
    }

    /// Gives every carveout that is left to the host an address.
    pub(super) fn other_carveouts(&mut self) -> Result<(), AttachError> {
        for number in 0..self.carveouts.len() {
            let carveout = self.carveouts[number];
            if carveout.da.is_none() && !self.placed.contains(&number) {
                let address = self.pool(&carveout.name.to_string(), carveout.size as usize, BUFFER_ALIGN)?;
                self.place_carveout(number, address);
            }
        }
        Ok(())
    }

    fn named_or_free(&mut self, name: &str, size: usize, align: u64) -> Result<u32, AttachError> {
        let named = self.carveouts.iter().position(|carveout| carveout.name.as_bytes() == name.as_bytes());
        let Some(number) = named else {
            return self.pool(name, size, align);
        };
        let carveout = self.carveouts[number];
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
        let address = self.pool(name, carveout.size as usize, align)?;
        self.place_carveout(number, address);
        Ok(address)
    }

    fn place_carveout(&mut self, number: usize, address: u32) {
        let carveout = self.carveouts[number];
        self.writes.push((carveout.da_offset(), address));
        // Linux tells firmware the physical address of what it has allocated too; beyond 32 bits there is no room for it.
        let physical = self.memory.physical_address(address.into()).and_then(|pa| u32::try_from(pa).ok());
        if let Some(physical) = physical {
            self.writes.push((carveout.pa_offset(), physical));
        }
        self.placed.push(number);
    }

    /// The first free range of `size` bytes in the region of this name, or else in those without one. Device addresses
    /// in the table have 32 bits, so it ends below 2^32.
    fn pool(&mut self, what: &str, size: usize, align: u64) -> Result<u32, AttachError> {
        let no_room = || AttachError::NoRoom { what: what.to_owned(), size, align };
        let has_own = self.memory.regions().any(|region| region.name() == Some(what));
        let wanted = has_own.then_some(what);
        let len = size as u64;
        for region in self.memory.regions().filter(|region| region.name() == wanted) {
            let end =
                (region.device_address() + region.size() as u64).min(resource_table::ADDRESS_ANY.into());
            let mut start = region.device_address().next_multiple_of(align);
            while start.checked_add(len).is_some_and(|last| last <= end) {
                let range = start..start + len;
                match self.occupied.iter().find(|used| overlap(used, &range)) {
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
        self.memory
            .slice(address, len, align)
            .map_err(|source| AttachError::Memory { what: what.to_owned(), source })
    }
}

/// Bytes of the buffers of both directions.
pub(super) fn size_of_buffers(count: [u16; 2]) -> usize {
    count.iter().map(|count| usize::from(*count) * BUFFER_SIZE).sum()
}

/// Divides the block with the buffers of both directions.
pub(super) fn divide(memory: &CarveoutSlice, count: [u16; 2]) -> [Buffers; 2] {
    let sizes = count.map(|count| usize::from(count) * BUFFER_SIZE);
    let physical = memory.physical_address();
    [
        Buffers::new(memory.subslice(0, sizes[0]), physical, count[0]),
        Buffers::new(memory.subslice(sizes[0], sizes[1]), physical + sizes[0] as u64, count[1]),
    ]
}

fn range(start: u64, len: u64) -> Range<u64> {
    start..start.saturating_add(len)
}

fn overlap(a: &Range<u64>, b: &Range<u64>) -> bool {
    a.start < b.end && b.start < a.end
}
