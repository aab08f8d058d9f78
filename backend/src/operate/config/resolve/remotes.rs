//! The remote cores: how each is reached, and what is done about its life.

use std::collections::HashMap;

use toml::Spanned;

use super::{Resolver, absent, bytes, list, name, number, path_of, start, time, tree::Tree};
use crate::{
    bridge::policy::{AddressBits, Policy},
    operate::{
        config::{Fault, keys, raw},
        plan::{LinkPlan, MailboxPlan, MemoryPlan, RemotePlan, SharedPlan},
    },
    remote::{
        config::{VringsConfig, WatchConfig},
        layout::StaticLayout,
    },
};

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
        let mut plans: Vec<RemotePlan> = Vec::new();
        for remote in remotes {
            let table = remote.span().start;
            let remote = remote.get_ref();
            let name = name(&keys::REMOTE_NAME, &remote.name, self.text, &mut names)?;
            let link = match remote.link.get_ref().as_str() {
                "loopback" => loopback(remote)?,
                "socket" => LinkPlan::Shared(self.socket_link(remote, table)?),
                "uio" => LinkPlan::Shared(self.uio_link(remote, table)?),
                other => {
                    let found = format!("{other:?}");
                    return Err(Fault::new(&keys::REMOTE_LINK, start(&remote.link), found));
                }
            };
            let boot = remote.boot.as_ref().map(super::boot::boot).transpose()?;
            plans.push(RemotePlan {
                name,
                after: after(remote, &plans)?,
                recovery: super::boot::recovery(remote.recovery.as_ref(), boot.is_some())?,
                boot,
                watch: watch(remote)?,
                dump: remote.dump.as_ref().map(|path| path_of(&keys::DUMP, path)).transpose()?,
                policy: Policy { address_bits: address_bits(remote)?, ..Policy::default() },
                link,
            });
        }
        Ok(plans)
    }

    fn socket_link(&mut self, remote: &raw::Remote, table: usize) -> Result<SharedPlan, Fault> {
        let mailbox = [(&keys::MAILBOX, remote.mailbox.as_ref().map(start))];
        absent(&mailbox, "link = \"socket\"", "link = \"uio\"")?;
        let missing = |key| Fault::new(key, table, "nothing");
        let doorbell = remote.doorbell.as_ref().ok_or_else(|| missing(&keys::REMOTE_DOORBELL))?;
        let doorbell = self.socket(&keys::REMOTE_DOORBELL, doorbell)?;
        let tree = super::tree::tree(remote, table, self.sources)?;
        self.shared(remote, table, MailboxPlan::Socket(doorbell), tree)
    }

    fn uio_link(&mut self, remote: &raw::Remote, table: usize) -> Result<SharedPlan, Fault> {
        let doorbell = [(&keys::REMOTE_DOORBELL, remote.doorbell.as_ref().map(start))];
        absent(&doorbell, "link = \"uio\"", "link = \"socket\"")?;
        let tree = super::tree::tree(remote, table, self.sources)?;
        let of_tree = tree.as_ref().and_then(|tree| tree.mailbox.clone());
        let mailbox = remote.mailbox.as_ref().map(super::mailbox::mailbox).transpose()?.or(of_tree);
        let mailbox = mailbox.ok_or_else(|| Fault::new(&keys::MAILBOX, table, "nothing"))?;
        self.shared(remote, table, MailboxPlan::Hardware(mailbox), tree)
    }

    /// What links over shared memory have in common.
    fn shared(
        &mut self,
        remote: &raw::Remote,
        table: usize,
        mailbox: MailboxPlan,
        tree: Option<Tree>,
    ) -> Result<SharedPlan, Fault> {
        let is_uio = matches!(mailbox, MailboxPlan::Hardware(_));
        let memory = self.memory(remote, table, tree.as_ref(), is_uio)?;
        let vrings = vrings(remote, table, &memory, tree.as_ref())?;
        super::mailbox::covers(remote.mailbox.as_ref(), &mailbox, vrings)?;
        let attach_after = remote.attach_after.as_ref();
        let attach_after = attach_after.map(|value| time(&keys::REMOTE_ATTACH_AFTER, value)).transpose()?;
        Ok(SharedPlan { mailbox, vrings, attach_after, memory, found: tree.map(|tree| tree.found) })
    }
}

/// Demands that a loopback remote has no key of the other links.
fn loopback(remote: &raw::Remote) -> Result<LinkPlan, Fault> {
    let others = [
        (&keys::REMOTE_DOORBELL, remote.doorbell.as_ref().map(start)),
        (&keys::REMOTE_RESOURCE_TABLE, remote.resource_table.as_ref().map(start)),
        (&keys::TABLE_HEADER, remote.resource_table_header.as_ref().map(start)),
        (&keys::TABLE_REGISTER, remote.resource_table_register.as_ref().map(start)),
        (&keys::DEVICE_TREE, remote.device_tree.as_ref().map(start)),
        (&keys::NODE, remote.node.as_ref().map(start)),
        (&keys::REMOTE_ATTACH_AFTER, remote.attach_after.as_ref().map(start)),
        (&keys::HEARTBEAT, remote.heartbeat.as_ref().map(start)),
        (&keys::HANG_AFTER, remote.hang_after.as_ref().map(start)),
        (&keys::WATCHDOG, remote.watchdog.as_ref().map(start)),
        (&keys::DUMP, remote.dump.as_ref().map(start)),
        (&keys::AFTER, remote.after.first().map(start)),
        (&keys::MEMORY, remote.memory.first().map(start)),
        (&keys::MAILBOX, remote.mailbox.as_ref().map(start)),
        (&keys::VRINGS, remote.vrings.as_ref().map(start)),
        (&keys::BOOT, remote.boot.as_ref().map(start)),
        (&keys::RECOVERY, remote.recovery.as_ref().map(start)),
    ];
    absent(&others, "link = \"loopback\"", "link = \"socket\"")?;
    Ok(LinkPlan::Loopback)
}

/// Where the vrings are: in a table whose place is said, or is known of the firmware, or at fixed places.
fn vrings(
    remote: &raw::Remote,
    table: usize,
    memory: &[MemoryPlan],
    tree: Option<&Tree>,
) -> Result<VringsConfig, Fault> {
    let ways = [
        (&keys::REMOTE_RESOURCE_TABLE, remote.resource_table.as_ref().map(start)),
        (&keys::TABLE_HEADER, remote.resource_table_header.as_ref().map(start)),
        (&keys::TABLE_REGISTER, remote.resource_table_register.as_ref().map(start)),
        (&keys::VRINGS, remote.vrings.as_ref().map(start)),
    ];
    let mut said = ways.iter().filter_map(|(key, at)| Some((key, (*at)?)));
    if let (Some((first, _)), Some((second, at))) = (said.next(), said.next()) {
        let fault = Fault::new(second, at, format!("both it and `{}`", first.path));
        return Err(fault.expected("one of them").remedy("remove the one that the firmware does not have"));
    }
    if let Some(address) = &remote.resource_table {
        return table_address(address, memory).map(|address| VringsConfig::Table(address.into()));
    }
    if let Some(value) = &remote.resource_table_header {
        let address = super::device_address(&keys::TABLE_HEADER, value, 8)?;
        return Ok(VringsConfig::TableByHeader(address.into()));
    }
    if let Some(value) = &remote.resource_table_register {
        let register = bytes(&keys::TABLE_REGISTER, value, |address| address.is_multiple_of(4))?;
        return Ok(VringsConfig::TableByRegister { register, mask: u32::MAX });
    }
    if let Some(layout) = &remote.vrings {
        return static_layout(layout.get_ref(), memory).map(VringsConfig::Static);
    }
    // What the kernel loads is not looked into.
    let boot = remote.boot.as_ref().map(Spanned::get_ref);
    if boot.is_some_and(|boot| boot.firmware.is_some() && boot.remoteproc.is_none()) {
        return Ok(VringsConfig::TableOfFirmware);
    }
    let of_tree = tree.and_then(|tree| tree.vrings);
    of_tree.ok_or_else(|| Fault::new(&keys::REMOTE_RESOURCE_TABLE, table, "nothing"))
}

fn static_layout(layout: &raw::Vrings, memory: &[MemoryPlan]) -> Result<StaticLayout, Fault> {
    let devices = layout.devices.as_ref();
    let devices = devices.map(|value| number(&keys::VRINGS_DEVICES, value, 1..=StaticLayout::MAX_VDEVS));
    let devices = devices.transpose()?.unwrap_or(1);
    let most = StaticLayout::MAX_DESCRIPTORS;
    let descriptors = match &layout.descriptors {
        None => StaticLayout::DESCRIPTORS,
        Some(value) => number(&keys::VRINGS_DESCRIPTORS, value, 2..=most)
            .ok()
            .filter(|number| u32::is_power_of_two(*number))
            .ok_or_else(|| {
                Fault::new(&keys::VRINGS_DESCRIPTORS, start(value), value.get_ref().to_string())
            })?,
    };
    let address = &layout.address;
    let fault = |found: String| Fault::new(&keys::VRINGS_ADDRESS, start(address), found);
    let base = u32::try_from(*address.get_ref()).ok();
    let resolved = base.and_then(|base| StaticLayout::new(base, devices, descriptors));
    let resolved = resolved.ok_or_else(|| fault(format!("{:#x}", address.get_ref())))?;
    let size = u64::from(StaticLayout::VRING_STRIDE);
    match resolved.vrings().flatten().find(|vring| !holds(memory, *vring, size)) {
        None => Ok(resolved),
        Some(vring) => Err(fault(format!("a vring at {vring:#x}"))
            .expected(format!("{size:#x} bytes for each vring in the remote's memory, {}", regions(memory)))),
    }
}

/// The resource table's address, whose header must lie in one of the regions.
fn table_address(value: &Spanned<i64>, memory: &[MemoryPlan]) -> Result<u32, Fault> {
    let address = super::device_address(&keys::REMOTE_RESOURCE_TABLE, value, TABLE_ALIGN)?;
    if holds(memory, address, TABLE_HEADER) {
        return Ok(address);
    }
    let expected = format!(
        "an address with at least {TABLE_HEADER} bytes behind it in the remote's memory, {}",
        regions(memory)
    );
    let fault = Fault::new(&keys::REMOTE_RESOURCE_TABLE, start(value), format!("{address:#x}"));
    Err(fault.expected(expected))
}

/// Whether one of the regions holds so many bytes from this device address on.
fn holds(memory: &[MemoryPlan], address: u32, len: u64) -> bool {
    let (first, end) = (u64::from(address), u64::from(address) + len);
    memory.iter().any(|region| {
        let base = u64::from(region.device_address);
        base <= first && end <= base + region.size
    })
}

/// The regions, for people.
fn regions(memory: &[MemoryPlan]) -> String {
    memory.iter().map(super::memory::device_addresses).collect::<Vec<_>>().join(" or ")
}

fn watch(remote: &raw::Remote) -> Result<WatchConfig, Fault> {
    let heartbeat = remote.heartbeat.as_ref().map(|value| time(&keys::HEARTBEAT, value)).transpose()?;
    let hang_after = remote.hang_after.as_ref().map(|value| time(&keys::HANG_AFTER, value)).transpose()?;
    let watchdog = remote.watchdog.as_ref().map(|path| path_of(&keys::WATCHDOG, path)).transpose()?;
    Ok(WatchConfig { heartbeat, hang_after, watchdog })
}

/// The remotes that have to be up before this one.
fn after(remote: &raw::Remote, earlier: &[RemotePlan]) -> Result<Vec<usize>, Fault> {
    let mut indexes = Vec::new();
    for name in &remote.after {
        let fault = |found: String| Fault::new(&keys::AFTER, start(name), found);
        if remote.boot.is_none() {
            return Err(fault("it".to_owned())
                .expected("no such key without `boot`")
                .remedy("a remote that somebody else starts is not waited for"));
        }
        let index = earlier.iter().position(|other| other.name == *name.get_ref());
        let known = || list(earlier.iter().map(|other| other.name.as_str()));
        let index = index.ok_or_else(|| {
            fault(format!("{:?}", name.get_ref()))
                .expected(format!("a remote before it, of which there are: {}", known()))
        })?;
        if indexes.contains(&index) {
            return Err(fault(format!("{:?} again", name.get_ref())));
        }
        indexes.push(index);
    }
    Ok(indexes)
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
