//! What all styles have in common: regions by their names, and virtio devices made of them.

use super::{
    error::DeviceTreeError,
    found::{Found, Mailbox, Queue, Region, Span, Table, Vdev},
    mailbox::Channels,
    tree::{Node, Property},
};

/// Most virtqueues of a device in a tree: rpmsg has 2, the kernel's remoteproc no more either.
const MAX_QUEUES: usize = 8;
/// Most devices of a remote core.
const MAX_VDEVS: u8 = 8;

/// What is known of a remote core so far.
pub(super) struct Draft<'t> {
    pub(super) core: Node<'t>,
    pub(super) memory: Vec<Region>,
    pub(super) vdevs: Vec<Vdev>,
    disabled: Vec<String>,
}

/// Which channels the virtqueues of a core are signalled by.
#[derive(Clone, Copy)]
pub(super) enum Kicks<'c, 't> {
    /// All by those of the core.
    Shared,
    /// Each by one of its own, "vq0" and so on. Those of a device that has no node are among these.
    PerQueue(Option<&'c Channels<'t>>),
}

/// What a region is for, by its name.
enum Use {
    Vring { vdev: u32, queue: u32 },
    Buffers { vdev: u32 },
    Other,
}

impl<'t> Draft<'t> {
    pub(super) fn new(core: Node<'t>) -> Self {
        let mut draft = Draft { core, memory: Vec::new(), vdevs: Vec::new(), disabled: Vec::new() };
        // A cluster or a bus that is disabled disables the core.
        core.ancestry().for_each(|node| draft.note(node));
        draft
    }

    pub(super) fn finish(self, compatible: &str, mailbox: Option<Mailbox>, table: Table) -> Found {
        Found {
            node: self.core.path(),
            compatible: compatible.to_owned(),
            memory: self.memory,
            vdevs: self.vdevs,
            mailbox,
            table,
            disabled: self.disabled,
        }
    }

    /// Reports the node if it is disabled.
    pub(super) fn note(&mut self, node: Node) {
        let path = node.path();
        if node.is_disabled() && !self.disabled.contains(&path) {
            self.disabled.push(path);
        }
    }

    /// Adds the core's own regions, each at the device address that `seen` gives for it.
    pub(super) fn add_memory(
        &mut self,
        seen: impl Fn(Span) -> Result<u64, DeviceTreeError>,
    ) -> Result<(), DeviceTreeError> {
        let core = self.core;
        let regions = self.regions(core, &seen)?;
        self.memory.extend(regions);
        Ok(())
    }

    /// Adds memory that the core has of its own.
    pub(super) fn add_own(&mut self, name: &str, span: Span, device_address: u32) {
        self.memory.push(Region { name: name.to_owned(), span, device_address });
    }

    pub(super) fn region(&self, name: &str) -> Option<&Region> {
        self.memory.iter().find(|region| region.name == name)
    }

    /// Adds the virtio devices: what the core's nodes `rproc-virtio` say, or where there are none, what the names
    /// of its own regions say. Returns the channels of the nodes.
    pub(super) fn add_vdevs(
        &mut self,
        seen: impl Fn(Span) -> Result<u64, DeviceTreeError>,
        kicks: Kicks<'_, 't>,
    ) -> Result<Vec<Channels<'t>>, DeviceTreeError> {
        let mut nodes = Vec::new();
        for node in self.core.children() {
            if node.compatible()?.contains(&"rproc-virtio") {
                nodes.push(node);
            }
        }
        let mut all_channels = Vec::new();
        for node in nodes.iter().copied() {
            self.note(node);
            if !node.is_disabled() {
                all_channels.extend(self.add_vdev(node, &seen, kicks)?);
            }
        }
        if let (true, Some(memory)) = (nodes.is_empty(), self.core.property("memory-region")) {
            self.add_named_vdevs(memory, kicks)?;
        }
        Ok(all_channels)
    }

    /// Adds the device that a node `rproc-virtio` describes.
    fn add_vdev(
        &mut self,
        node: Node<'t>,
        seen: impl Fn(Span) -> Result<u64, DeviceTreeError>,
        kicks: Kicks,
    ) -> Result<Option<Channels<'t>>, DeviceTreeError> {
        let reg = node.require("reg", "the number of the device")?;
        let index = u32::from(reg.cell_up_to(MAX_VDEVS - 1)?);
        if self.vdevs.iter().any(|vdev| vdev.index == index) {
            return Err(reg.wrong("a number that no other device of this core has"));
        }
        let id = node.require("virtio,id", "the virtio id of the device, which is 7 for rpmsg")?.cell()?;
        let memory = node.require(
            "memory-region",
            format!("the regions vdev{index}vring0, vdev{index}vring1 and so on"),
        )?;
        let regions = self.regions(node, &seen)?;
        let channels = match (kicks, node.property("mboxes")) {
            (Kicks::PerQueue(_), _) => Some(Channels::required(node)?),
            (Kicks::Shared, None) => None,
            (Kicks::Shared, Some(mboxes)) => {
                return Err(mboxes.wrong("none: all virtqueues of this core share its channels"));
            }
        };
        let vdev = vdev(index, Some(id), memory, &regions, channels.as_ref())?;
        self.vdevs.push(vdev.ok_or_else(|| memory.wrong(format!("one named vdev{index}vring0 among them")))?);
        // The core may name them too.
        let new = regions.into_iter().filter(|region| !self.memory.contains(region)).collect::<Vec<_>>();
        self.memory.extend(new);
        Ok(channels)
    }

    /// Adds the devices whose vrings are among the core's own regions.
    fn add_named_vdevs(&mut self, memory: Property, kicks: Kicks) -> Result<(), DeviceTreeError> {
        let channels = match kicks {
            Kicks::Shared => None,
            Kicks::PerQueue(channels) => channels,
        };
        for index in 0..MAX_VDEVS {
            self.vdevs.extend(vdev(index.into(), None, memory, &self.memory, channels)?);
        }
        if let (Kicks::PerQueue(None), [_, ..]) = (kicks, self.vdevs.as_slice()) {
            Channels::required(self.core)?;
        }
        Ok(())
    }

    /// The reserved regions that a node refers to.
    fn regions(
        &mut self,
        node: Node<'t>,
        seen: impl Fn(Span) -> Result<u64, DeviceTreeError>,
    ) -> Result<Vec<Region>, DeviceTreeError> {
        let property = node.require("memory-region", "the reserved regions of its memory")?;
        let targets = property.targets()?;
        let mut names = targets.iter().map(|target| target.base_name()).collect::<Vec<_>>();
        if let Some(property) = node.property("memory-region-names") {
            names = property.strings()?;
            if names.len() != targets.len() {
                let expected = format!("{} names, as many as there are in 'memory-region'", targets.len());
                return Err(property.wrong(expected));
            }
        }
        let mut regions = Vec::new();
        for (target, name) in targets.into_iter().zip(names) {
            self.note(target);
            if target.parent().is_none_or(|parent| parent.name() != "reserved-memory") {
                let expected = format!("children of /reserved-memory, which {} is not", target.path());
                return Err(property.wrong(expected));
            }
            let span = target.physical(0)?;
            let (reg, _) = target.reg()?;
            regions.push(Region {
                name: looked_for(name),
                span,
                device_address: device_address(reg, span, seen(span)?)?,
            });
        }
        Ok(regions)
    }
}

/// `address` as the address of all of `span` for a core of 32 bits.
pub(super) fn device_address(property: Property, span: Span, address: u64) -> Result<u32, DeviceTreeError> {
    let end = address.checked_add(span.size).filter(|end| *end <= 1 << 32);
    end.and_then(|_| u32::try_from(address).ok()).ok_or_else(|| {
        property.wrong(format!(
            "a place that the core sees within its 32 bits, not {:#x} bytes at {address:#x}",
            span.size
        ))
    })
}

/// The device `index`, if its regions are among those. `memory` is where they come from.
fn vdev(
    index: u32,
    virtio_id: Option<u32>,
    memory: Property,
    regions: &[Region],
    channels: Option<&Channels>,
) -> Result<Option<Vdev>, DeviceTreeError> {
    let mut vrings: Vec<(u32, Span)> = Vec::new();
    let mut buffers = None;
    for region in regions {
        match region_use(&region.name) {
            Use::Vring { vdev, queue } if vdev == index => vrings.push((queue, region.span)),
            Use::Buffers { vdev } if vdev == index && buffers.is_none() => buffers = Some(region.span),
            Use::Buffers { vdev } if vdev == index => {
                return Err(memory.wrong(format!("one region vdev{index}buffer")));
            }
            _ => {}
        }
    }
    vrings.sort_by_key(|(queue, _)| *queue);
    if vrings.is_empty() {
        return Ok(None);
    }
    let in_order = vrings.iter().zip(0..).all(|((queue, _), number)| *queue == number);
    if !in_order || vrings.len() > MAX_QUEUES {
        return Err(memory.wrong(format!(
            "one region each of vdev{index}vring0, vdev{index}vring1 and so on, at most {MAX_QUEUES}"
        )));
    }
    let mut queues = Vec::new();
    for (queue, vring) in vrings {
        let channel = channels.map(|channels| channels.required_name(&format!("vq{queue}"))?.number(15));
        queues.push(Queue { vring, channel: channel.transpose()? });
    }
    Ok(Some(Vdev { index, virtio_id, queues, buffers }))
}

/// What the kernel looks for, where trees have other names for it.
fn looked_for(name: &str) -> String {
    match name {
        // NXP's own trees.
        "vdevbuffer" => "vdev0buffer".to_owned(),
        "rsc_table" => "rsc-table".to_owned(),
        // AMD's own trees put the core's number before it.
        _ => match name.strip_prefix("rpu0").or_else(|| name.strip_prefix("rpu1")) {
            Some(rest) if rest.starts_with("vdev") => rest.to_owned(),
            _ => name.to_owned(),
        },
    }
}

fn region_use(name: &str) -> Use {
    let use_of = || {
        let rest = name.strip_prefix("vdev")?;
        if let Some(vdev) = rest.strip_suffix("buffer") {
            return Some(Use::Buffers { vdev: vdev.parse().ok()? });
        }
        let (vdev, queue) = rest.split_once("vring")?;
        Some(Use::Vring { vdev: vdev.parse().ok()?, queue: queue.parse().ok()? })
    };
    use_of().unwrap_or(Use::Other)
}
