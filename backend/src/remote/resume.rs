//! Going on with devices that were attached to by a program before this one.
//!
//! What is remembered of an attachment is in an [`AttachmentRecord`]: the table as it was and as the host has left it, and
//! where vrings and buffers are. Whoever goes on compares the table with what was left there: if it is another, the core
//! has booted meanwhile. How far the driver had got with the vrings is remembered by those who work on them ([`InUse`]).

use serde::{Deserialize, Serialize};

use super::attach::{AttachError, RpmsgVdev};
use super::memory::{CarveoutSlice, Carveouts};
use super::messages::{Buffers, Inbound, Outbound};
use super::placement::{MAX_BUFFERS, divide, size_of_buffers};
use super::vring::{Cursor, Vring, VringLayout};

/// What is remembered of an attachment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttachmentRecord {
    /// How often the core had been attached to.
    pub(super) number: u32,
    /// The resource table, if there is one.
    pub(super) table: Option<TableRecord>,
    /// The rpmsg devices.
    pub(super) places: Vec<PlaceRecord>,
}

/// What is remembered of a resource table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct TableRecord {
    /// Its device address.
    pub(super) address: u64,
    /// Where in it the status of each rpmsg device is.
    pub(super) status_offsets: Vec<usize>,
    /// The table as it was before anything was written to it.
    pub(super) clean: Vec<u8>,
    /// The table as the host has left it.
    pub(super) written: Vec<u8>,
}

/// Where a device's vrings and buffers are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct PlaceRecord {
    pub(super) vrings: [VringRecord; 2],
    /// Device address of the buffers of both directions, one block.
    pub(super) buffers: u32,
}

/// Where a vring is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct VringRecord {
    /// Device address.
    pub(super) address: u32,
    /// Number of descriptors.
    pub(super) num: u16,
    /// Alignment of the used ring in bytes.
    pub(super) align: u32,
    /// What names it in the mailbox.
    pub(super) notifyid: u32,
}

/// A device's vrings and buffers that are there already.
#[derive(Debug)]
pub struct Place {
    attachment: u32,
    vrings: [(CarveoutSlice, VringLayout, u32); 2],
    buffers: [Buffers; 2],
}

/// How far the driver of a device had got.
#[derive(Clone, Debug, Default)]
pub struct InUse {
    /// With the vring from the remote.
    pub inbound: Cursor,
    /// With the vring to it.
    pub outbound: Cursor,
    /// Buffers from the remote that were not given back to it.
    pub held: Vec<u16>,
    /// Buffers to the remote that it had not returned.
    pub sent: Vec<u16>,
}

impl InUse {
    /// A driver that has just brought its device up: the remote has all buffers of its direction, and no message.
    pub fn at_first(place: &Place) -> Self {
        let avail = place.buffers[0].count();
        InUse { inbound: Cursor { avail, used: 0 }, ..InUse::default() }
    }
}

impl PlaceRecord {
    /// Finds vrings and buffers in the core's memory.
    pub(super) fn open(&self, memory: &Carveouts, attachment: u32) -> Result<Place, AttachError> {
        let slice = |what: &str, address: u32, len, align| {
            let what = what.to_owned();
            memory.slice(address.into(), len, align).map_err(|source| AttachError::Memory { what, source })
        };
        let vring = |vring: &VringRecord| {
            let what = "a vring that is remembered";
            let layout = VringLayout::new(vring.num.into(), vring.align)
                .map_err(|source| AttachError::Vring { what: what.to_owned(), source })?;
            let memory = slice(what, vring.address, layout.size(), VringLayout::MIN_ALIGN)?;
            Ok((memory, layout, vring.notifyid))
        };
        let vrings = [vring(&self.vrings[0])?, vring(&self.vrings[1])?];
        let count = self.vrings.map(|vring| vring.num.min(MAX_BUFFERS));
        let memory =
            slice("the block of buffers that is remembered", self.buffers, size_of_buffers(count), 8)?;
        Ok(Place { attachment, vrings, buffers: divide(&memory, count) })
    }
}

impl Place {
    /// The attachment that it belongs to.
    pub fn attachment(&self) -> u32 {
        self.attachment
    }

    /// How many buffers there are for messages from the remote.
    pub fn inbound_buffers(&self) -> u16 {
        self.buffers[0].count()
    }

    /// What names both vrings in the mailbox.
    pub fn notifyids(&self) -> [u32; 2] {
        self.vrings.each_ref().map(|(.., notifyid)| *notifyid)
    }

    /// Goes on with the device where its driver had got. Both indexes are published once more. Buffers that there are not
    /// are passed over.
    pub fn resume(self, in_use: &InUse) -> RpmsgVdev {
        let Place { attachment, vrings, buffers: [inbound_buffers, outbound_buffers] } = self;
        let [inbound, outbound] = vrings;
        let (memory, layout, notifyid) = inbound;
        let count = inbound_buffers.count();
        let with_remote = (0..layout.num()).map(|id| id < count && !in_use.held.contains(&id)).collect();
        let inbound = Vring::resume(memory, layout, notifyid, in_use.inbound, with_remote);
        let (memory, layout, notifyid) = outbound;
        let count = outbound_buffers.count();
        let with_remote = (0..layout.num()).map(|id| id < count && in_use.sent.contains(&id)).collect();
        let outbound = Vring::resume(memory, layout, notifyid, in_use.outbound, with_remote);
        let inbound = Inbound::resume(inbound, inbound_buffers);
        let mut outbound = Outbound::resume(outbound, outbound_buffers);
        outbound.vring().want_interrupts(false);
        RpmsgVdev { attachment, inbound, outbound }
    }
}
