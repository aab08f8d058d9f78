//! The remote cores: how each is reached, and its memory.

use std::{collections::HashMap, path::PathBuf};

use toml::Spanned;

use super::{Resolver, absent, bytes, device_address, name, start, time};
use crate::{
    bridge::policy::{AddressBits, Policy},
    operate::{
        config::{Fault, keys, line_at, raw},
        plan::{LinkPlan, MemoryPlan, RemotePlan, SocketPlan},
    },
};

/// One past the last device address: the resource table has 32 bits for them.
const DEVICE_ADDRESSES: u64 = 1 << 32;
/// The descriptors of a vring are aligned so, in bytes; with this a vring aligned for the remote is aligned in the
/// mapping too.
const DEVICE_ADDRESS_ALIGN: u32 = 16;
/// Alignment of the resource table, in bytes: its words are written one by one while the remote reads them.
const TABLE_ALIGN: u32 = 4;
/// Bytes of a resource table's header, the least that must lie in the remote's memory.
const TABLE_HEADER: u64 = 16;

impl Resolver<'_> {
    /// The remotes, whose policies say nothing of services yet.
    pub(super) fn remotes(&mut self, remotes: &[Spanned<raw::Remote>]) -> Result<Vec<RemotePlan>, Fault> {
        if remotes.is_empty() {
            return Err(Fault::new(&keys::REMOTE, 0, "none").remedy(
                "without a configuration file there is a loopback core, with one it is to be named",
            ));
        }
        let mut names = HashMap::new();
        remotes
            .iter()
            .map(|remote| {
                let table = remote.span().start;
                let remote = remote.get_ref();
                let name = name(&keys::REMOTE_NAME, &remote.name, self.text, &mut names)?;
                let link = match remote.link.get_ref().as_str() {
                    "loopback" => loopback(remote)?,
                    "socket" => LinkPlan::Socket(self.socket_link(remote, table)?),
                    other => {
                        let found = format!("{other:?}");
                        return Err(Fault::new(&keys::REMOTE_LINK, start(&remote.link), found));
                    }
                };
                let policy = Policy { address_bits: address_bits(remote)?, ..Policy::default() };
                Ok(RemotePlan { name, link, policy })
            })
            .collect()
    }

    fn socket_link(&mut self, remote: &raw::Remote, table: usize) -> Result<SocketPlan, Fault> {
        let missing = |key| Fault::new(key, table, "nothing");
        let doorbell = remote.doorbell.as_ref().ok_or_else(|| missing(&keys::REMOTE_DOORBELL))?;
        let resource_table =
            remote.resource_table.as_ref().ok_or_else(|| missing(&keys::REMOTE_RESOURCE_TABLE))?;
        if remote.memory.is_empty() {
            return Err(missing(&keys::MEMORY));
        }
        let doorbell = self.socket(&keys::REMOTE_DOORBELL, doorbell)?;
        let mut memory: Vec<(MemoryPlan, usize)> = Vec::new();
        for region in &remote.memory {
            let at = start(&region.get_ref().device_address);
            let region = self.region(region.get_ref(), &memory)?;
            memory.push((region, at));
        }
        let memory: Vec<_> = memory.into_iter().map(|(region, _)| region).collect();
        let attach_after = remote.attach_after.as_ref();
        let attach_after = attach_after.map(|value| time(&keys::REMOTE_ATTACH_AFTER, value));
        Ok(SocketPlan {
            doorbell,
            resource_table: table_address(resource_table, &memory)?,
            attach_after: attach_after.transpose()?,
            memory,
        })
    }

    /// Checks one region, also against those before it.
    fn region(&self, region: &raw::Memory, earlier: &[(MemoryPlan, usize)]) -> Result<MemoryPlan, Fault> {
        let path = region.path.get_ref();
        if path.is_empty() || path.contains('\0') {
            return Err(Fault::new(&keys::MEMORY_PATH, start(&region.path), format!("{path:?}")));
        }
        let size = bytes(&keys::MEMORY_SIZE, &region.size, |size| size > 0)?;
        let offset = match &region.offset {
            None => 0,
            Some(value) => self.file_offset(value, size)?,
        };
        let address = &region.device_address;
        let device_address = device_address(&keys::MEMORY_DEVICE_ADDRESS, address, DEVICE_ADDRESS_ALIGN)?;
        let room = DEVICE_ADDRESSES - u64::from(device_address);
        if size > room {
            let expected = format!("at most {room:#x} bytes, up to the end of the 32-bit device addresses");
            return Err(
                Fault::new(&keys::MEMORY_SIZE, start(&region.size), format!("{size:#x}")).expected(expected)
            );
        }
        let plan = MemoryPlan { path: PathBuf::from(path), offset, size, device_address };
        if let Some((other, at)) = earlier.iter().find(|(other, _)| overlap(other, &plan)) {
            let found = format!(
                "{}, which overlaps {} of line {}",
                device_addresses(&plan),
                device_addresses(other),
                line_at(self.text, *at)
            );
            return Err(Fault::new(&keys::MEMORY_DEVICE_ADDRESS, start(address), found)
                .expected("a region that overlaps no other of this remote"));
        }
        Ok(plan)
    }

    /// Checks where a region of `size` bytes starts in its file.
    fn file_offset(&self, value: &Spanned<i64>, size: u64) -> Result<u64, Fault> {
        let offset = bytes(&keys::MEMORY_OFFSET, value, |offset| offset % self.page_size == 0)
            .map_err(|fault| fault.remedy(format!("this host has pages of {} bytes", self.page_size)))?;
        match offset.checked_add(size).map(i64::try_from) {
            Some(Ok(_)) => Ok(offset),
            _ => Err(Fault::new(&keys::MEMORY_OFFSET, start(value), format!("{offset:#x}"))
                .expected(format!("an offset that with {size:#x} bytes behind it is below 2^63"))),
        }
    }
}

/// Demands that a loopback remote has no key of the other links.
fn loopback(remote: &raw::Remote) -> Result<LinkPlan, Fault> {
    let others = [
        (&keys::REMOTE_DOORBELL, remote.doorbell.as_ref().map(start)),
        (&keys::REMOTE_RESOURCE_TABLE, remote.resource_table.as_ref().map(start)),
        (&keys::REMOTE_ATTACH_AFTER, remote.attach_after.as_ref().map(start)),
        (&keys::MEMORY, remote.memory.first().map(start)),
    ];
    absent(&others, "link = \"loopback\"", "link = \"socket\"")?;
    Ok(LinkPlan::Loopback)
}

/// The resource table's address, whose header must lie in one of the regions.
fn table_address(value: &Spanned<i64>, memory: &[MemoryPlan]) -> Result<u32, Fault> {
    let address = device_address(&keys::REMOTE_RESOURCE_TABLE, value, TABLE_ALIGN)?;
    let (first, end) = (u64::from(address), u64::from(address) + TABLE_HEADER);
    let holds = |region: &MemoryPlan| {
        let base = u64::from(region.device_address);
        base <= first && end <= base + region.size
    };
    if memory.iter().any(holds) {
        return Ok(address);
    }
    let regions: Vec<_> = memory.iter().map(device_addresses).collect();
    let expected = format!(
        "an address with at least {TABLE_HEADER} bytes behind it in the remote's memory, {}",
        regions.join(" or ")
    );
    let fault = Fault::new(&keys::REMOTE_RESOURCE_TABLE, start(value), format!("{address:#x}"));
    Err(fault.expected(expected))
}

fn address_bits(remote: &raw::Remote) -> Result<AddressBits, Fault> {
    match &remote.address_bits {
        None => Ok(AddressBits::All),
        Some(bits) => match bits.get_ref() {
            32 => Ok(AddressBits::All),
            16 => Ok(AddressBits::Low16),
            other => Err(Fault::new(&keys::REMOTE_ADDRESS_BITS, start(bits), other.to_string())),
        },
    }
}

fn overlap(a: &MemoryPlan, b: &MemoryPlan) -> bool {
    let (a_first, b_first) = (u64::from(a.device_address), u64::from(b.device_address));
    a_first < b_first + b.size && b_first < a_first + a.size
}

/// The device addresses of a region, for people.
fn device_addresses(region: &MemoryPlan) -> String {
    let last = u64::from(region.device_address) + (region.size - 1);
    format!("{:#x}..={last:#x}", region.device_address)
}
