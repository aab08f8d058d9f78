//! A plan as `check` prints it.

use std::fmt::{self, Formatter};

use super::{
    GroupPlan, LinkPlan, MailboxPlan, MemoryPlan, MemorySource, MetricsPlan, Plan, RemotePlan, SharedPlan,
    VmPlan, VmSocket,
};
use crate::{
    bridge::policy::{AddressBits, Mode, Overflow, Policy, Reply, Slots, Turns, Unsolicited, VmPolicy},
    remote::{
        config::{HardwareMailbox, VringsConfig, WatchConfig},
        mailbox::{IpccConfig, IpiConfig, MuConfig, OmapConfig},
        power::Switch,
        recovery::{RecoveryConfig, RecoveryPolicy},
    },
    rpmsg::address::Slot,
};

impl fmt::Display for Plan {
    /// What `check` prints.
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if let Some(path) = &self.control {
            writeln!(f, "control           {}", path.display())?;
        }
        if let Some(user) = &self.user {
            writeln!(f, "user              {user}")?;
        }
        if let Some(path) = &self.state {
            writeln!(f, "state             {}", path.display())?;
        }
        match &self.metrics {
            Some(MetricsPlan::Socket(path)) => writeln!(f, "metrics           {}", path.display())?,
            Some(MetricsPlan::Address(address)) => writeln!(f, "metrics           {address}")?,
            None => {}
        }
        for (index, remote) in self.remotes.iter().enumerate() {
            writeln!(f, "remote {}", remote.name)?;
            match &remote.link {
                LinkPlan::Loopback => writeln!(f, "  link            loopback, the built-in core")?,
                LinkPlan::Shared(link) => write!(f, "{link}")?,
            }
            remote.life(f, &self.remotes)?;
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
    write!(f, "\n  remote          {}", remotes[vm.remote].name)?;
    writeln!(
        f,
        "{}",
        if vm.device == 0 { String::new() } else { format!(", its rpmsg device {}", vm.device) }
    )?;
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

impl RemotePlan {
    /// How the remote is started, watched and recovered.
    fn life(&self, f: &mut Formatter<'_>, remotes: &[RemotePlan]) -> fmt::Result {
        if let Some(boot) = &self.boot {
            writeln!(f, "  boot            {}", if boot.on_demand { "when needed" } else { "always" })?;
            boot.firmware.iter().try_for_each(|path| writeln!(f, "  firmware        {}", path.display()))?;
            match &boot.switch {
                Switch::Command { start, stop } => {
                    writeln!(f, "  start           {start:?}\n  stop            {stop:?}")?;
                }
                Switch::Sysfs { directory, firmware } => {
                    write!(f, "  start, stop     by {}", directory.display())?;
                    firmware.iter().try_for_each(|name| write!(f, " with firmware {name:?}"))?;
                    writeln!(f)?;
                }
                Switch::Register(register) => writeln!(
                    f,
                    "  start, stop     register {:#010x}, bits {:#x}: {:#x} starts, {:#x} stops; through {}",
                    register.base + register.offset,
                    register.mask,
                    register.start,
                    register.stop,
                    register.file.display()
                )?,
            }
        }
        self.after.iter().try_for_each(|index| writeln!(f, "  after           {}", remotes[*index].name))?;
        if self.link == LinkPlan::Loopback {
            return Ok(());
        }
        let WatchConfig { heartbeat, hang_after, watchdog } = &self.watch;
        heartbeat.iter().try_for_each(|time| writeln!(f, "  heartbeat       every {time:?}"))?;
        hang_after.iter().try_for_each(|time| writeln!(f, "  hangs           after {time:?}"))?;
        watchdog.iter().try_for_each(|path| writeln!(f, "  watchdog        {}", path.display()))?;
        let RecoveryConfig { policy, limit, back_off } = &self.recovery;
        match policy {
            RecoveryPolicy::Off => write!(f, "  after a crash   nothing, until it is started")?,
            RecoveryPolicy::Reattach => write!(f, "  after a crash   attach when it is back")?,
            RecoveryPolicy::Reboot => {
                write!(f, "  after a crash   reboot, the second time in a row after {back_off:?}")?;
            }
        }
        limit.iter().try_for_each(|limit| write!(f, "; given up after {limit} in a row"))?;
        self.dump.iter().try_for_each(|path| write!(f, "; dump to {}", path.display()))?;
        writeln!(f)
    }
}

impl fmt::Display for SharedPlan {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f, "  link            {}", self.mailbox)?;
        match self.vrings {
            VringsConfig::Table(address) => writeln!(f, "  resource table  {address:#010x}")?,
            VringsConfig::TableOfFirmware => writeln!(f, "  resource table  that of the firmware")?,
            VringsConfig::TableByHeader(address) => {
                writeln!(f, "  resource table  where the header at {address:#010x} says")?;
            }
            VringsConfig::TableByRegister { register, mask } => {
                writeln!(
                    f,
                    "  resource table  at the address in the register at {register:#010x}, mask {mask:#x}"
                )?;
            }
            VringsConfig::Static(layout) => {
                for (index, [first, second]) in layout.vrings().enumerate() {
                    let count = layout.descriptors();
                    writeln!(
                        f,
                        "  vrings {index}        {first:#010x} and {second:#010x}, {count} descriptors"
                    )?;
                }
            }
        }
        match (&self.mailbox, self.attach_after) {
            // None of these can be asked whether it is there.
            (MailboxPlan::Hardware(_), _) => writeln!(f, "  attach          by its table and status")?,
            (_, Some(time)) => {
                writeln!(f, "  attach          when ready or running, or after {time:?} of silence")?;
            }
            (_, None) => writeln!(f, "  attach          when ready or running")?,
        }
        for memory in &self.memory {
            writeln!(f, "  memory          {memory}")?;
        }
        if let Some(found) = &self.found {
            writeln!(f, "  device tree says")?;
            found.to_string().lines().try_for_each(|line| writeln!(f, "    {line}"))?;
        }
        Ok(())
    }
}

impl fmt::Display for MailboxPlan {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            MailboxPlan::Socket(path) => write!(f, "socket {}", path.display()),
            MailboxPlan::Hardware(HardwareMailbox::ImxMu { address, config }) => {
                let MuConfig { version, channel, word } = config;
                write!(
                    f,
                    "i.MX messaging unit ({version:?}) at {address:#x}, channel {channel}, {word:?} words"
                )
            }
            MailboxPlan::Hardware(HardwareMailbox::Stm32Ipcc { address, nodes, config }) => {
                let IpccConfig { processor, vrings, shut_down, detach } = config;
                write!(
                    f,
                    "STM32 IPCC at {address:#x}, processor {processor}, vrings on channels {vrings:?}"
                )?;
                shut_down.iter().try_for_each(|channel| write!(f, ", shutdown on {channel}"))?;
                detach.iter().try_for_each(|channel| write!(f, ", detach on {channel}"))?;
                nodes.receive.iter().try_for_each(|name| write!(f, ", receives by {name}"))?;
                nodes.transmit.iter().try_for_each(|name| write!(f, ", sends by {name}"))
            }
            MailboxPlan::Hardware(HardwareMailbox::Omap { address, config }) => {
                let OmapConfig { version, receive_fifo, transmit_fifo, user } = config;
                write!(
                    f,
                    "TI mailbox ({version:?}) at {address:#x}, receives by FIFO {receive_fifo}, sends by FIFO \
                     {transmit_fifo}, user {user}"
                )
            }
            MailboxPlan::Hardware(HardwareMailbox::ZynqmpIpi(config)) => {
                let IpiConfig { channel, request_buffer, remote } = config;
                write!(
                    f,
                    "ZynqMP IPI channel at {channel:#x}, requests at {request_buffer:#x}, remote bit {remote}"
                )
            }
        }
    }
}

impl fmt::Display for MemoryPlan {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let last = u64::from(self.device_address) + (self.size - 1);
        write!(f, "{:#010x}..={last:#010x} ", self.device_address)?;
        match &self.source {
            MemorySource::File { path, offset } => write!(f, "in {} at offset {offset:#x}", path.display())?,
            MemorySource::Uio => write!(f, "in the UIO device with it")?,
        }
        if self.physical_address != u64::from(self.device_address) || self.source == MemorySource::Uio {
            write!(f, ", physical address {:#010x}", self.physical_address)?;
        }
        write!(f, ", {:#x} bytes", self.size)?;
        self.name.iter().try_for_each(|name| write!(f, ", for {name}"))?;
        if self.is_optional { write!(f, ", if it is there") } else { Ok(()) }
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
