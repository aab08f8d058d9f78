//! What a device tree says of a remote core, in the terms of the plan.

use super::{path_of, start};
use crate::{
    causes::Causes,
    operate::{
        config::{Fault, Sources, keys, raw},
        device_tree::{self, Family, Found, Region, Table},
        plan::{MemoryPlan, MemorySource},
    },
    remote::{
        config::{HardwareMailbox, VringsConfig},
        layout::StaticLayout,
        mailbox::{IpccConfig, IpccNodes, IpiConfig, MuConfig, MuWord, OmapConfig, OmapVersion},
    },
};

/// What stands for keys of the file.
pub(super) struct Tree {
    /// Regions by the names that they have in the tree.
    pub(super) memory: Vec<(String, MemoryPlan)>,
    pub(super) mailbox: Option<HardwareMailbox>,
    pub(super) vrings: Option<VringsConfig>,
    pub(super) found: Box<Found>,
}

/// Reads the device tree of a remote, if it has one. `table` is where the remote stands in the file.
pub(super) fn tree(remote: &raw::Remote, table: usize, sources: &Sources) -> Result<Option<Tree>, Fault> {
    let (path, node) = match (&remote.device_tree, &remote.node) {
        (None, None) => return Ok(None),
        (Some(path), Some(node)) => (path, node),
        (Some(_), None) => return Err(Fault::new(&keys::NODE, table, "nothing")),
        (None, Some(_)) => return Err(Fault::new(&keys::DEVICE_TREE, table, "nothing")),
    };
    let file = path_of(&keys::DEVICE_TREE, path)?;
    let unreadable =
        |error| Fault::new(&keys::DEVICE_TREE, start(path), format!("{:?}: {error}", path.get_ref()));
    let blob = sources.read(&file).map_err(unreadable)?;
    let found = device_tree::read(&blob, node.get_ref()).map_err(|error| {
        Fault::new(&keys::NODE, start(node), format!("{:?}: {}", node.get_ref(), Causes(&error)))
    })?;
    let is_loaded = remote.boot.as_ref().is_some_and(|boot| boot.get_ref().firmware.is_some());
    let fault = |what: String| Fault::new(&keys::NODE, start(node), what);
    Ok(Some(Tree {
        memory: found
            .memory
            .iter()
            .map(|region| (region.name.clone(), memory(&found, region, is_loaded)))
            .collect(),
        mailbox: mailbox(&found).map_err(&fault)?,
        vrings: vrings(&found).map_err(&fault)?,
        found: Box::new(found),
    }))
}

/// A region, named for what may be placed in it. `is_loaded`: firmware is loaded into the remote's memory.
fn memory(found: &Found, region: &Region, is_loaded: bool) -> MemoryPlan {
    let is_first = found.memory.first().is_some_and(|first| first.span == region.span);
    let users: Vec<_> = found.vdevs.iter().filter(|vdev| vdev.buffers == Some(region.span)).collect();
    let is_pool = match found.table {
        // The kernel's driver takes the first region for what it has to place (`ti_k3_common.c`); an emulated board
        // has one for all.
        Table::StartOfFirstRegion(_) => is_first,
        Table::At(_) if found.compatible == "rproc-emulated" => true,
        _ => users.len() > 1,
    };
    let name = match users[..] {
        _ if is_pool => None,
        [vdev] => Some(format!("vdev{}buffer", vdev.index)),
        _ => Some(region.name.clone()),
    };
    let holds =
        |address: u64| (region.span.address..region.span.address + region.span.size).contains(&address);
    let (first, last) =
        (u64::from(region.device_address), u64::from(region.device_address) + (region.span.size - 1));
    let has_table = match found.table {
        Table::At(address) | Table::StartOfFirstRegion(address) | Table::HeaderInFirstRegion(address) => {
            (first..=last).contains(&address.into())
        }
        Table::InRegister { .. } | Table::Unknown | Table::Static { .. } => false,
    };
    let has_vrings = found.vdevs.iter().flat_map(|vdev| &vdev.queues).any(|queue| holds(queue.vring.address));
    let is_needed = is_pool || !users.is_empty() || has_table || has_vrings || is_loaded;
    MemoryPlan {
        source: MemorySource::Uio,
        size: region.span.size,
        device_address: region.device_address,
        physical_address: region.span.address,
        name,
        is_optional: !is_needed,
    }
}

fn mailbox(found: &Found) -> Result<Option<HardwareMailbox>, String> {
    let Some(mailbox) = &found.mailbox else { return Ok(None) };
    let address = mailbox.registers.address;
    Ok(Some(match mailbox.family {
        Family::ImxMu { version, transmit, receive, doorbell } => {
            if receive != transmit || doorbell.is_some_and(|doorbell| doorbell != transmit) {
                return Err(format!(
                    "channels {transmit}, {receive} and {doorbell:?} of its messaging unit, of which one and the same is \
                     supported"
                ));
            }
            HardwareMailbox::ImxMu {
                address,
                config: MuConfig { version, channel: transmit, word: MuWord::Shifted },
            }
        }
        Family::Stm32Ipcc { processor, shutdown, detach } => {
            let config = IpccConfig { processor, vrings: channels(found)?, shut_down: shutdown, detach };
            HardwareMailbox::Stm32Ipcc { address, nodes: IpccNodes::default(), config }
        }
        Family::OmapMailbox { receive_fifo, transmit_fifo, user } => HardwareMailbox::Omap {
            address,
            config: OmapConfig { version: OmapVersion::Omap4, receive_fifo, transmit_fifo, user },
        },
        Family::ZynqmpIpi { remote_bit, request, .. } => HardwareMailbox::ZynqmpIpi(IpiConfig {
            channel: address,
            request_buffer: request.address,
            remote: remote_bit,
        }),
    }))
}

/// The channels of the vrings by notifyid, which are two for each virtio device from 0 on.
fn channels(found: &Found) -> Result<Vec<u8>, String> {
    let mut channels = Vec::new();
    for (expected, vdev) in (0..).zip(&found.vdevs) {
        let own: Option<Vec<u8>> = vdev.queues.iter().map(|queue| queue.channel).collect();
        match own {
            Some(own) if vdev.index == expected && own.len() == 2 => channels.extend(own),
            _ => {
                return Err(format!(
                    "virtio device {} without channels of its own for two vrings",
                    vdev.index
                ));
            }
        }
    }
    Ok(if channels.is_empty() { vec![0, 1] } else { channels })
}

fn vrings(found: &Found) -> Result<Option<VringsConfig>, String> {
    Ok(match found.table {
        Table::At(address) | Table::StartOfFirstRegion(address) => Some(VringsConfig::Table(address.into())),
        Table::HeaderInFirstRegion(address) => Some(VringsConfig::TableByHeader(address.into())),
        Table::InRegister { register, mask } => Some(VringsConfig::TableByRegister { register, mask }),
        Table::Unknown => None,
        Table::Static { base, vdevs } => {
            let layout = StaticLayout::new(base, vdevs, StaticLayout::DESCRIPTORS);
            Some(VringsConfig::Static(
                layout.ok_or_else(|| format!("{vdevs} devices with vrings from {base:#x} on"))?,
            ))
        }
    })
}
