//! A plan as `check` prints it.

use std::fmt::{self, Formatter};

use super::{GroupPlan, LinkPlan, MemoryPlan, Plan, RemotePlan, SocketPlan, VmPlan, VmSocket};
use crate::{
    bridge::policy::{AddressBits, Mode, Overflow, Policy, Reply, Slots, Turns, Unsolicited, VmPolicy},
    rpmsg::address::Slot,
};

impl fmt::Display for Plan {
    /// What `check` prints.
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if let Some(path) = &self.control {
            writeln!(f, "control           {}", path.display())?;
        }
        for (index, remote) in self.remotes.iter().enumerate() {
            writeln!(f, "remote {}", remote.name)?;
            match &remote.link {
                LinkPlan::Loopback => writeln!(f, "  link            loopback, the built-in core")?,
                LinkPlan::Socket(link) => write!(f, "{link}")?,
            }
            let vms = self.vms.iter().filter(|vm| vm.remote == index);
            policy(f, &remote.policy, &vms.collect::<Vec<_>>())?;
        }
        self.vms.iter().try_for_each(|plan| vm(f, plan, &self.remotes))
    }
}

/// The rules of a remote whose VMs are `vms`.
fn policy(f: &mut Formatter<'_>, policy: &Policy, vms: &[&VmPlan]) -> fmt::Result {
    match policy.address_bits {
        AddressBits::All => writeln!(f, "  addresses       of 32 bits")?,
        AddressBits::Low16 => writeln!(f, "  addresses       of 16 bits, from a table")?,
    }
    let name = |slot: Slot| vms.iter().find(|vm| vm.slot == slot).map_or("?", |vm| &vm.name);
    for (service, address) in &policy.static_services {
        writeln!(f, "  static service  \"{service}\" at {address:#x}")?;
    }
    for rule in &policy.rules {
        write!(f, "  service         \"{}\": ", rule.pattern)?;
        match rule.mode {
            Mode::Shared => write!(f, "shared")?,
            Mode::Exclusive { owner: None } => write!(f, "exclusive to the first user")?,
            Mode::Exclusive { owner: Some(owner) } => write!(f, "exclusive to {}", name(owner))?,
            Mode::Broadcast { owner: None } => write!(f, "broadcast, nobody may send")?,
            Mode::Broadcast { owner: Some(owner) } => write!(f, "broadcast, {} may send", name(owner))?,
            Mode::Serialized(turns) => serialized(f, &turns, name)?,
        }
        if rule.visible_to == Slots::ALL {
            writeln!(f, "; seen by all VMs")?;
        } else {
            let names = vms.iter().filter(|vm| rule.visible_to.contains(vm.slot)).map(|vm| vm.name.as_str());
            let names: Vec<_> = names.collect();
            writeln!(
                f,
                "; seen by {}",
                if names.is_empty() { "nobody".to_owned() } else { names.join(", ") }
            )?;
        }
    }
    let which = if policy.rules.is_empty() { "any" } else { "any other" };
    writeln!(f, "  service         {which}: shared; seen by all VMs")
}

fn serialized<'a>(f: &mut Formatter<'_>, turns: &Turns, name: impl Fn(Slot) -> &'a str) -> fmt::Result {
    let Turns { reply, time_out, quarantine, unsolicited } = turns;
    write!(f, "serialized, ")?;
    match reply {
        Reply::None => write!(f, "no reply")?,
        Reply::One => write!(f, "one reply within {time_out:?}, or else quarantine for {quarantine:?}")?,
        Reply::Several => write!(f, "replies until {time_out:?} of silence")?,
    }
    write!(f, ", unsolicited messages ")?;
    match unsolicited {
        Unsolicited::Drop => write!(f, "dropped"),
        Unsolicited::All => write!(f, "to all"),
        Unsolicited::Vm(slot) => write!(f, "to {}", name(*slot)),
    }
}

fn vm(f: &mut Formatter<'_>, vm: &VmPlan, remotes: &[RemotePlan]) -> fmt::Result {
    let slot = vm.slot.number();
    let first = u32::from(slot) << 24;
    let VmPolicy { addresses, strict, overflow, weight, messages_per_second, bytes_per_second } = &vm.policy;
    writeln!(f, "vm {}", vm.name)?;
    write!(f, "  socket          {}", vm.socket)?;
    if let VmSocket::Path(_) = vm.socket {
        vm.mode.map_or(Ok(()), |mode| write!(f, ", mode {mode:04o}"))?;
        vm.group.as_ref().map_or(Ok(()), |group| write!(f, ", group {group}"))?;
    }
    writeln!(f, "\n  remote          {}", remotes[vm.remote].name)?;
    writeln!(f, "  slot            {slot}, host addresses {first:#010x}..={:#010x}", first | 0xFF_FFFF)?;
    write!(f, "  sends to        services that it sees")?;
    addresses.iter().try_for_each(|address| write!(f, ", {address:#x}"))?;
    writeln!(f, "{}", if *strict { "; strict" } else { ", and where nothing is announced" })?;
    match overflow {
        Overflow::Block => writeln!(f, "  overflow        block")?,
        Overflow::Drop => writeln!(f, "  overflow        drop")?,
    }
    write!(f, "  share           weight {weight}")?;
    messages_per_second.map_or(Ok(()), |limit| write!(f, ", at most {limit} messages/s"))?;
    bytes_per_second.map_or(Ok(()), |limit| write!(f, ", at most {limit} bytes/s"))?;
    writeln!(f)
}

impl fmt::Display for GroupPlan {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            GroupPlan::Name(name) => f.write_str(name),
            GroupPlan::Number(number) => write!(f, "{number}"),
        }
    }
}

impl fmt::Display for SocketPlan {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f, "  link            socket {}", self.doorbell.display())?;
        writeln!(f, "  resource table  {:#010x}", self.resource_table)?;
        match self.attach_after {
            Some(time) => {
                writeln!(f, "  attach          when ready or running, or after {time:?} of silence")?;
            }
            None => writeln!(f, "  attach          when ready or running")?,
        }
        for memory in &self.memory {
            writeln!(f, "  memory          {memory}")?;
        }
        Ok(())
    }
}

impl fmt::Display for MemoryPlan {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let last = u64::from(self.device_address) + (self.size - 1);
        write!(
            f,
            "{:#010x}..={last:#010x} in {} at offset {:#x}, {:#x} bytes",
            self.device_address,
            self.path.display(),
            self.offset,
            self.size
        )
    }
}

impl fmt::Display for VmSocket {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            VmSocket::Path(path) => write!(f, "{}", path.display()),
            VmSocket::Fd(fd) => write!(f, "file descriptor {fd}"),
        }
    }
}
