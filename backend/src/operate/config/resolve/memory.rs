//! The memory that a remote core shares with the host.

use std::{collections::HashMap, path::Path};

use toml::Spanned;

use super::{Resolver, bytes, device_address, path_of, start, tree::Tree};
use crate::operate::{
    config::{Fault, keys, line_at, raw},
    plan::{MemoryPlan, MemorySource},
};

/// One past the last device address: the resource table has 32 bits for them.
const DEVICE_ADDRESSES: u64 = 1 << 32;
/// The descriptors of a vring are aligned so, in bytes; with this a vring aligned for the remote is aligned in the
/// mapping too.
const DEVICE_ADDRESS_ALIGN: u32 = 16;
/// Where all of physical memory is, by its addresses.
const DEV_MEM: &str = "/dev/mem";

impl Resolver<'_> {
    /// The regions of one remote, which stands at `table`. `is_uio`: they are the host's physical memory.
    pub(super) fn memory(
        &mut self,
        remote: &raw::Remote,
        table: usize,
        tree: Option<&Tree>,
        is_uio: bool,
    ) -> Result<Vec<MemoryPlan>, Fault> {
        let mut names = HashMap::new();
        let mut plans: Vec<(MemoryPlan, usize)> = Vec::new();
        for region in &remote.memory {
            let at = region.span().start;
            let region = region.get_ref();
            let name = region.name.as_ref();
            let name =
                name.map(|name| super::name(&keys::MEMORY_NAME, name, self.text, &mut names)).transpose()?;
            let of_tree =
                tree.and_then(|tree| tree.memory.iter().find(|(its, _)| Some(its) == name.as_ref()));
            let of_tree = of_tree.map(|(_, plan)| plan);
            let its_name = of_tree.map_or(name, |plan| plan.name.clone());
            let plan = MemoryPlan { name: its_name, ..self.region(region, at, of_tree, is_uio)? };
            let said = region.device_address.as_ref().or(region.physical_address.as_ref()).map_or(at, start);
            if let Some((other, line)) = plans.iter().find(|(other, _)| overlap(other, &plan)) {
                let found = format!(
                    "{}, which overlaps {} of line {}",
                    device_addresses(&plan),
                    device_addresses(other),
                    line_at(self.text, *line)
                );
                return Err(Fault::new(&keys::MEMORY_DEVICE_ADDRESS, said, found)
                    .expected("a region that overlaps no other of this remote"));
            }
            plans.push((plan, said));
        }
        let mut plans: Vec<_> = plans.into_iter().map(|(plan, _)| plan).collect();
        for (name, plan) in tree.map_or(&[][..], |tree| &tree.memory) {
            match () {
                () if names.contains_key(name) => {}
                () if is_uio => plans.push(plan.clone()),
                () if plan.is_optional => {}
                () => {
                    return Err(Fault::new(&keys::MEMORY, table, format!("none called {name:?}"))
                        .expected(format!(
                            "a table [[remote.memory]] with name = {name:?} and the path of a file"
                        ))
                        .remedy("the device tree does not say which file stands for the region"));
                }
            }
        }
        if plans.is_empty() {
            return Err(Fault::new(&keys::MEMORY, table, "nothing"));
        }
        if tree.is_some() {
            // One region of a tree may be a part of another; the first that holds an address counts.
            plans.sort_by_key(|plan| plan.size);
        }
        Ok(plans)
    }

    /// One region. What it does not say is as `of_tree` has it.
    fn region(
        &self,
        region: &raw::Memory,
        table: usize,
        of_tree: Option<&MemoryPlan>,
        is_uio: bool,
    ) -> Result<MemoryPlan, Fault> {
        let (size, at) = match (&region.size, of_tree) {
            (Some(value), _) => (bytes(&keys::MEMORY_SIZE, value, |size| size > 0)?, start(value)),
            (None, Some(plan)) => (plan.size, table),
            (None, None) => return Err(Fault::new(&keys::MEMORY_SIZE, table, "nothing")),
        };
        let physical = region.physical_address.as_ref();
        let physical =
            physical.map(|value| bytes(&keys::MEMORY_PHYSICAL_ADDRESS, value, |_| true)).transpose()?;
        let physical = physical.or(of_tree.map(|plan| plan.physical_address));
        if is_uio && physical.is_none() {
            return Err(Fault::new(&keys::MEMORY_PHYSICAL_ADDRESS, table, "nothing"));
        }
        let device_address = match (&region.device_address, of_tree, physical) {
            (Some(value), ..) => device_address(&keys::MEMORY_DEVICE_ADDRESS, value, DEVICE_ADDRESS_ALIGN)?,
            (None, Some(plan), _) => plan.device_address,
            (None, None, Some(physical)) => u32::try_from(physical)
                .ok()
                .filter(|address| address.is_multiple_of(DEVICE_ADDRESS_ALIGN))
                .ok_or_else(|| {
                    Fault::new(&keys::MEMORY_DEVICE_ADDRESS, table, "nothing")
                        .remedy(format!("the physical address {physical:#x} cannot be a device address too"))
                })?,
            (None, None, None) => return Err(Fault::new(&keys::MEMORY_DEVICE_ADDRESS, table, "nothing")),
        };
        let room = DEVICE_ADDRESSES - u64::from(device_address);
        if size > room {
            let expected = format!("at most {room:#x} bytes, up to the end of the 32-bit device addresses");
            return Err(Fault::new(&keys::MEMORY_SIZE, at, format!("{size:#x}")).expected(expected));
        }
        let source = match &region.path {
            None if is_uio => MemorySource::Uio,
            None => return Err(Fault::new(&keys::MEMORY_PATH, table, "nothing")),
            Some(path) => {
                let path = path_of(&keys::MEMORY_PATH, path)?;
                let offset = match (&region.offset, physical) {
                    (None, Some(physical)) if path == Path::new(DEV_MEM) => {
                        self.in_dev_mem(region, physical)?
                    }
                    (None, _) => 0,
                    (Some(value), _) => self.file_offset(value, size)?,
                };
                MemorySource::File { path, offset }
            }
        };
        let physical_address = physical.unwrap_or(device_address.into());
        Ok(MemoryPlan { source, size, device_address, physical_address, name: None, is_optional: false })
    }

    /// Where a physical address is in `/dev/mem`.
    fn in_dev_mem(&self, region: &raw::Memory, physical: u64) -> Result<u64, Fault> {
        if physical.is_multiple_of(self.page_size) {
            return Ok(physical);
        }
        let at = region.physical_address.as_ref().map_or(0, start);
        Err(Fault::new(&keys::MEMORY_PHYSICAL_ADDRESS, at, format!("{physical:#x}")).expected(format!(
            "a multiple of {:#x}, the page size of this host, with `{DEV_MEM}`",
            self.page_size
        )))
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

fn overlap(a: &MemoryPlan, b: &MemoryPlan) -> bool {
    let (a_first, b_first) = (u64::from(a.device_address), u64::from(b.device_address));
    a_first < b_first + b.size && b_first < a_first + a.size
}

/// The device addresses of a region, for people.
pub(super) fn device_addresses(region: &MemoryPlan) -> String {
    let last = u64::from(region.device_address) + (region.size - 1);
    format!("{:#x}..={last:#x}", region.device_address)
}
