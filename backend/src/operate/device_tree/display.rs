//! What was found, for people.

use std::fmt::{self, Formatter};

use super::found::{Family, Found, Interrupt, Mailbox, Region, Span, Table, Vdev};
use crate::remote::mailbox::MuVersion;

impl fmt::Display for Found {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f, "node              {}", self.node)?;
        writeln!(f, "compatible        {}", self.compatible)?;
        self.disabled.iter().try_for_each(|node| writeln!(f, "disabled          {node}"))?;
        self.memory.iter().try_for_each(|region| writeln!(f, "memory            {region}"))?;
        self.vdevs.iter().try_for_each(|vdev| write!(f, "{vdev}"))?;
        match &self.mailbox {
            Some(mailbox) => write!(f, "{mailbox}")?,
            None => writeln!(f, "mailbox           as the configuration says")?,
        }
        writeln!(f, "resource table    {}", self.table)
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:#010x}..={:#010x}",
            self.address,
            self.address.saturating_add(self.size.saturating_sub(1))
        )
    }
}

impl fmt::Display for Region {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}, {:#x} bytes", self.name, self.span, self.span.size)?;
        if u64::from(self.device_address) == self.span.address {
            Ok(())
        } else {
            write!(f, ", for the core at {:#010x}", self.device_address)
        }
    }
}

impl fmt::Display for Vdev {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self.virtio_id {
            Some(id) => writeln!(f, "vdev {:<13}virtio id {id}", self.index)?,
            None => writeln!(f, "vdev {:<13}virtio id as in the resource table", self.index)?,
        }
        for (index, queue) in self.queues.iter().enumerate() {
            write!(f, "  vring {index:<10}{}", queue.vring)?;
            match queue.channel {
                Some(channel) => writeln!(f, ", channel {channel}")?,
                None => writeln!(f)?,
            }
        }
        self.buffers.map_or(Ok(()), |buffers| writeln!(f, "  buffers         {buffers}"))
    }
}

impl fmt::Display for Mailbox {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f, "mailbox           {}", self.node)?;
        writeln!(f, "  registers       {}", self.registers)?;
        write!(f, "{}", self.family)?;
        self.interrupts.iter().try_for_each(|interrupt| writeln!(f, "  interrupt       {interrupt}"))
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let optional = |f: &mut Formatter, what, channel: Option<u8>| match channel {
            Some(channel) => write!(f, ", {what} {channel}"),
            None => write!(f, ", no {what}"),
        };
        match self {
            Family::ImxMu { version, transmit, receive, doorbell } => {
                let version = match version {
                    MuVersion::V1 => 1,
                    MuVersion::V2 => 2,
                };
                writeln!(f, "  family          i.MX MU, version {version}")?;
                write!(f, "  channels        transmit {transmit}, receive {receive}")?;
                optional(f, "doorbell", *doorbell)?;
                writeln!(f)
            }
            Family::Stm32Ipcc { processor, shutdown, detach } => {
                writeln!(f, "  family          STM32 IPCC, the host is processor {processor}")?;
                write!(f, "  channels        one for each vring")?;
                optional(f, "shutdown", *shutdown)?;
                optional(f, "detach", *detach)?;
                writeln!(f)
            }
            Family::OmapMailbox { receive_fifo, transmit_fifo, user } => {
                writeln!(f, "  family          OMAP4 mailbox, the host is user {user}")?;
                writeln!(f, "  fifos           transmit {transmit_fifo}, receive {receive_fifo}")
            }
            Family::ZynqmpIpi { local, remote, remote_bit, request, remote_request } => {
                writeln!(f, "  family          ZynqMP IPI, the host is agent {local}")?;
                writeln!(f, "  remote          agent {remote}, bit {remote_bit}")?;
                writeln!(f, "  messages        transmit {request}, receive {remote_request}")
            }
        }
    }
}

impl fmt::Display for Interrupt {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if let Some(name) = &self.name {
            write!(f, "{name} ")?;
        }
        let cells: Vec<_> = self.cells.iter().map(u32::to_string).collect();
        write!(f, "<{}> of {}", cells.join(" "), self.controller)
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Table::At(address) => write!(f, "at {address:#010x}"),
            Table::StartOfFirstRegion(address) => {
                write!(f, "at {address:#010x}, the start of the first region")
            }
            Table::HeaderInFirstRegion(address) => {
                write!(f, "where the header at {address:#010x} says, the start of the first region")
            }
            Table::InRegister { register, mask } => {
                write!(f, "at the address in the register at {register:#010x}, mask {mask:#010x}")
            }
            Table::Unknown => write!(f, "as the firmware's file says"),
            Table::Static { base, vdevs } => {
                write!(f, "none, {vdevs} devices with vrings from {base:#010x} on")
            }
        }
    }
}
