//! From what the file says to a [`Plan`]: every value in its range, and all of them fitting together.

use std::{
    collections::{BTreeSet, HashMap},
    path::{Path, PathBuf},
    time::Duration,
};

use toml::Spanned;

use super::{Fault, keys, keys::Key, line_at, raw};
use crate::{
    operate::plan::{
        LinkPlan, MemoryPlan, Plan, RemotePlan, SocketPlan, VmPlan, VmSocket, socket_path_fault,
    },
    rpmsg::address::Slot,
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
/// Longest time that can be asked for.
const MAX_TIME: Duration = Duration::from_secs(3600);

/// What is known while a file is resolved. Places are offsets in the text.
struct Resolver<'a> {
    text: &'a str,
    page_size: u64,
    /// Every socket path so far, and where it stands.
    sockets: HashMap<PathBuf, usize>,
}

/// Resolves a file; `text` is what its spans point into, `page_size` the host's in bytes.
pub(super) fn resolve(file: &raw::File, text: &str, page_size: u64) -> Result<Plan, Fault> {
    let mut resolver = Resolver { text, page_size, sockets: HashMap::new() };
    let remotes = resolver.remotes(&file.remote)?;
    let vms = resolver.vms(&file.vm, &remotes)?;
    Ok(Plan { remotes, vms })
}

impl Resolver<'_> {
    fn remotes(&mut self, remotes: &[Spanned<raw::Remote>]) -> Result<Vec<RemotePlan>, Fault> {
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
                Ok(RemotePlan {
                    name: self.name(&keys::REMOTE_NAME, &remote.name, &mut names)?,
                    link: match remote.link.get_ref().as_str() {
                        "loopback" => loopback(remote)?,
                        "socket" => LinkPlan::Socket(self.socket_link(remote, table)?),
                        other => {
                            return Err(Fault::new(
                                &keys::REMOTE_LINK,
                                start(&remote.link),
                                format!("{other:?}"),
                            ));
                        }
                    },
                })
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
        Ok(SocketPlan {
            doorbell,
            resource_table: table_address(resource_table, &memory)?,
            attach_after: remote.attach_after.as_ref().map(time).transpose()?,
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

    fn vms(&mut self, vms: &[Spanned<raw::Vm>], remotes: &[RemotePlan]) -> Result<Vec<VmPlan>, Fault> {
        if vms.is_empty() {
            return Err(Fault::new(&keys::VM, 0, "none"));
        }
        let mut names = HashMap::new();
        let mut checked = Vec::new();
        // Slots that are given come first, so that the others can be filled around them.
        let mut taken: HashMap<(usize, Slot), usize> = HashMap::new();
        for vm in vms {
            let table = vm.span().start;
            let vm = vm.get_ref();
            let name = self.name(&keys::VM_NAME, &vm.name, &mut names)?;
            let socket = VmSocket::Path(self.socket(&keys::VM_SOCKET, &vm.socket)?);
            let remote = remote_of(vm, table, remotes)?;
            let slot = vm.slot.as_ref().map(slot).transpose()?;
            if let (Some(slot), Some(value)) = (slot, &vm.slot)
                && let Some(earlier) = taken.insert((remote, slot), start(value))
            {
                let found = format!(
                    "{}, which line {} has given already",
                    slot.number(),
                    line_at(self.text, earlier)
                );
                return Err(Fault::new(&keys::VM_SLOT, start(value), found));
            }
            checked.push((name, socket, remote, slot, table));
        }
        let mut taken: BTreeSet<_> = taken.into_keys().collect();
        checked
            .into_iter()
            .map(|(name, socket, remote, slot, table)| {
                let slot = match slot {
                    Some(slot) => slot,
                    None => (0..Slot::COUNT)
                        .filter_map(Slot::new)
                        .find(|slot| taken.insert((remote, *slot)))
                        .ok_or_else(|| no_slot_left(table, &remotes[remote]))?,
                };
                Ok(VmPlan { name, socket, slot, remote })
            })
            .collect()
    }

    /// Checks a name, and that it is nobody else's.
    fn name(
        &self,
        key: &Key,
        name: &Spanned<String>,
        names: &mut HashMap<String, usize>,
    ) -> Result<String, Fault> {
        let value = name.get_ref();
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte);
        if value.is_empty() || !value.bytes().all(allowed) {
            return Err(Fault::new(key, start(name), format!("{value:?}")));
        }
        if let Some(earlier) = names.insert(value.clone(), start(name)) {
            let found = format!("{value:?}, which line {} has given already", line_at(self.text, earlier));
            return Err(Fault::new(key, start(name), found));
        }
        Ok(value.clone())
    }

    /// Checks the path of a socket, and that nothing else uses it.
    fn socket(&mut self, key: &Key, path: &Spanned<String>) -> Result<PathBuf, Fault> {
        let value = Path::new(path.get_ref());
        if let Some(found) = socket_path_fault(value) {
            return Err(Fault::new(key, start(path), found));
        }
        if let Some(earlier) = self.sockets.insert(value.to_owned(), start(path)) {
            let found =
                format!("{:?}, which line {} uses already", path.get_ref(), line_at(self.text, earlier));
            return Err(Fault::new(key, start(path), found));
        }
        Ok(value.to_owned())
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
    match others.into_iter().find_map(|(key, at)| Some((key, at?))) {
        None => Ok(LinkPlan::Loopback),
        Some((key, at)) => Err(Fault::of(key.path, at, "no such key with link = \"loopback\"", "one")
            .remedy("remove it, or say link = \"socket\"")),
    }
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

/// The remote that a VM talks to.
fn remote_of(vm: &raw::Vm, table: usize, remotes: &[RemotePlan]) -> Result<usize, Fault> {
    let known = || {
        let names: Vec<_> = remotes.iter().map(|remote| remote.name.as_str()).collect();
        format!("the name of a remote, of which there are: {}", names.join(", "))
    };
    match (&vm.remote, remotes) {
        (None, [_]) => Ok(0),
        (None, _) => Err(Fault::new(&keys::VM_REMOTE, table, "nothing").expected(known())),
        (Some(name), _) => {
            remotes.iter().position(|remote| remote.name == *name.get_ref()).ok_or_else(|| {
                Fault::new(&keys::VM_REMOTE, start(name), format!("{:?}", name.get_ref())).expected(known())
            })
        }
    }
}

/// A number of bytes that is not negative and meets `condition`.
fn bytes(key: &Key, value: &Spanned<i64>, condition: impl Fn(u64) -> bool) -> Result<u64, Fault> {
    u64::try_from(*value.get_ref())
        .ok()
        .filter(|number| condition(*number))
        .ok_or_else(|| Fault::new(key, start(value), value.get_ref().to_string()))
}

/// A device address that is a multiple of `align`.
fn device_address(key: &Key, value: &Spanned<i64>, align: u32) -> Result<u32, Fault> {
    u32::try_from(*value.get_ref())
        .ok()
        .filter(|address| address.is_multiple_of(align))
        .ok_or_else(|| Fault::new(key, start(value), hex(*value.get_ref())))
}

fn slot(value: &Spanned<i64>) -> Result<Slot, Fault> {
    u8::try_from(*value.get_ref())
        .ok()
        .and_then(Slot::new)
        .ok_or_else(|| Fault::new(&keys::VM_SLOT, start(value), value.get_ref().to_string()))
}

fn no_slot_left(table: usize, remote: &RemotePlan) -> Fault {
    Fault::of(
        keys::VM_SLOT.path,
        table,
        format!("at most {} VMs at one remote, which is how many slots there are", Slot::COUNT),
        format!("one more at remote {}", remote.name),
    )
}

fn time(value: &Spanned<String>) -> Result<Duration, Fault> {
    let text = value.get_ref().as_str();
    let (number, unit) = text.split_at(text.bytes().take_while(u8::is_ascii_digit).count());
    let milliseconds_per_unit = match unit {
        "ms" => Some(1),
        "s" => Some(1000),
        "min" => Some(60_000),
        _ => None,
    };
    milliseconds_per_unit
        .zip(number.parse::<u64>().ok())
        .and_then(|(unit, number)| number.checked_mul(unit))
        .map(Duration::from_millis)
        .filter(|time| !time.is_zero() && *time <= MAX_TIME)
        .ok_or_else(|| Fault::new(&keys::REMOTE_ATTACH_AFTER, start(value), format!("{text:?}")))
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

/// An address as people write it, also where it is none.
fn hex(value: i64) -> String {
    if value < 0 { value.to_string() } else { format!("{value:#x}") }
}

fn start<T>(value: &Spanned<T>) -> usize {
    value.span().start
}
