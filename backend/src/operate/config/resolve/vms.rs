//! The VMs: their names, sockets and slots, and what each may do.

use toml::Spanned;

use super::{
    Holder, Resolver, a_remote_of, choice, line_at, name, named_remote, number, remote_address, start, take,
};
use crate::{
    bridge::policy::{Overflow, VmPolicy},
    operate::{
        config::{Fault, keys, raw},
        plan::{GroupPlan, RemotePlan, VmPlan, VmSocket},
    },
    rpmsg::{MAX_PAYLOAD, address::Slot},
};

/// All permissions that a socket can have.
const ALL_PERMISSIONS: u32 = 0o777;

impl Resolver<'_> {
    /// The VMs of the file. `more`: others may come at run time.
    pub(super) fn vms(
        &mut self,
        vms: &[Spanned<raw::Vm>],
        remotes: &[RemotePlan],
        more: bool,
    ) -> Result<Vec<VmPlan>, Fault> {
        if vms.is_empty() && !more {
            let remedy = "without `control` there would never be one";
            return Err(Fault::new(&keys::VM, 0, "none").remedy(remedy));
        }
        // Slots that are given come first, so that the others can be filled around them.
        let mut checked = Vec::new();
        let mut vms_of = vec![0_usize; remotes.len()];
        for vm in vms {
            let table = start(vm);
            let vm = vm.get_ref();
            let name = name(&keys::VM_NAME, &vm.name, self.text, &mut self.vm_names)?;
            let socket = VmSocket::Path(self.socket(&keys::VM_SOCKET, &vm.socket)?);
            let remote = remote_of(vm, table, remotes)?;
            let slot = self.given_slot(vm, remote)?;
            vms_of[remote] += 1;
            checked.push((vm, table, name, socket, remote, slot));
        }
        let resolve = |(vm, table, name, socket, remote, slot): (&raw::Vm, _, _, _, usize, _)| {
            let slot = match slot {
                Some(slot) => slot,
                None => {
                    self.lowest_free(remote, table).ok_or_else(|| no_slot_left(table, &remotes[remote]))?
                }
            };
            let alone = vms_of[remote] == 1 && !more;
            Ok(VmPlan {
                name,
                socket,
                mode: vm.mode.as_ref().map(permissions).transpose()?,
                group: vm.group.as_ref().map(group).transpose()?,
                slot,
                remote,
                device: vm.device.as_ref().map_or(Ok(0), |value| device(value, &remotes[remote]))?,
                policy: policy(vm, alone)?,
            })
        };
        checked.into_iter().map(resolve).collect()
    }

    /// The slot that is said for a VM, or that is kept for it.
    fn given_slot(&mut self, vm: &raw::Vm, remote: usize) -> Result<Option<Slot>, Fault> {
        let its_own = |holder: &Holder| matches!(holder, Holder::Kept(name) if name == vm.name.get_ref());
        let kept = self.slots.iter().find(|((at, _), holder)| *at == remote && its_own(holder));
        let kept = kept.map(|((_, slot), _)| *slot);
        let Some(value) = &vm.slot else { return Ok(kept) };
        let slot = slot(value)?;
        match kept {
            Some(kept) if kept == slot => {}
            Some(kept) => {
                let expected = format!("{}, which rules for services mean by this VM", kept.number());
                let fault = Fault::new(&keys::VM_SLOT, start(value), slot.number().to_string());
                return Err(fault.expected(expected));
            }
            None => {
                let place = (remote, slot);
                let number = slot.number().to_string();
                take(&mut self.slots, place, self.text, &keys::VM_SLOT, start(value), &number)?;
            }
        }
        Ok(Some(slot))
    }

    fn lowest_free(&mut self, remote: usize, table: usize) -> Option<Slot> {
        let mut slots = (0..Slot::COUNT).filter_map(Slot::new);
        let slot = slots.find(|slot| !self.slots.contains_key(&(remote, *slot)))?;
        self.slots.insert((remote, slot), Holder::Line(line_at(self.text, table)));
        Some(slot)
    }
}

/// Which of the devices of its remote a VM is in front of.
fn device(value: &Spanned<i64>, remote: &RemotePlan) -> Result<usize, Fault> {
    let device = number(&keys::VM_DEVICE, value, 0..=31)?;
    match remote.devices() {
        Some(devices) if device >= devices => {
            let expected =
                format!("a number below {devices}, which is how many devices remote {} has", remote.name);
            Err(Fault::new(&keys::VM_DEVICE, start(value), device.to_string()).expected(expected))
        }
        _ => Ok(device),
    }
}

/// What a VM may do. `alone`: its remote has no other and will have none.
fn policy(vm: &raw::Vm, alone: bool) -> Result<VmPolicy, Fault> {
    let mut addresses = Vec::new();
    for value in &vm.addresses {
        let address = remote_address(&keys::VM_ADDRESSES, value)?;
        if addresses.contains(&address) {
            let found = format!("{address:#x} again");
            return Err(Fault::new(&keys::VM_ADDRESSES, start(value), found));
        }
        addresses.push(address);
    }
    let overflow = match &vm.overflow {
        None if alone => Overflow::Block,
        None => Overflow::Drop,
        given => {
            let choices = [("block", Overflow::Block), ("drop", Overflow::Drop)];
            choice(&keys::VM_OVERFLOW, given.as_ref(), &choices)?
        }
    };
    let weight = vm.weight.as_ref().map(|weight| number(&keys::VM_WEIGHT, weight, 1..=100));
    let messages = vm.messages_per_second.as_ref();
    let messages = messages.map(|limit| number(&keys::VM_MESSAGES_PER_SECOND, limit, 1..=u32::MAX));
    let bytes = vm.bytes_per_second.as_ref();
    let bytes = bytes.map(|limit| number(&keys::VM_BYTES_PER_SECOND, limit, MAX_PAYLOAD as u64..=u64::MAX));
    Ok(VmPolicy {
        addresses,
        strict: vm.strict,
        overflow,
        weight: weight.transpose()?.unwrap_or(1),
        messages_per_second: messages.transpose()?,
        bytes_per_second: bytes.transpose()?,
    })
}

/// The remote that a VM talks to.
fn remote_of(vm: &raw::Vm, table: usize, remotes: &[RemotePlan]) -> Result<usize, Fault> {
    match (&vm.remote, remotes) {
        (None, [_]) => Ok(0),
        (None, _) => Err(Fault::new(&keys::VM_REMOTE, table, "nothing").expected(a_remote_of(remotes))),
        (Some(name), _) => named_remote(&keys::VM_REMOTE, name, remotes),
    }
}

fn slot(value: &Spanned<i64>) -> Result<Slot, Fault> {
    number(&keys::VM_SLOT, value, 0..=u8::MAX)
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

/// Permissions in octal.
fn permissions(value: &Spanned<String>) -> Result<u32, Fault> {
    let text = value.get_ref().as_str();
    let octal = (3..=4).contains(&text.len()) && text.bytes().all(|byte| (b'0'..=b'7').contains(&byte));
    let mode = if octal { u32::from_str_radix(text, 8).ok() } else { None };
    mode.filter(|mode| *mode <= ALL_PERMISSIONS)
        .ok_or_else(|| Fault::new(&keys::VM_MODE, start(value), format!("{text:?}")))
}

/// A group by its number, where it has the form of one, or else by its name. Whether there is one of this name is
/// for whoever opens the socket to find out.
fn group(value: &Spanned<String>) -> Result<GroupPlan, Fault> {
    let text = value.get_ref();
    let fault = || Fault::new(&keys::VM_GROUP, start(value), format!("{text:?}"));
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        // The highest number means "leave it as it is" to chown(2).
        let number = text.parse().ok().filter(|number| *number != u32::MAX);
        return number.map(GroupPlan::Number).ok_or_else(fault);
    }
    if text.is_empty() || text.contains('\0') {
        return Err(fault());
    }
    Ok(GroupPlan::Name(text.clone()))
}
