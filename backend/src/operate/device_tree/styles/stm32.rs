//! The Cortex-M4 of STM32MP1. Where it sees its memory is in the `dma-ranges` of its bus.
//!
//! Source: `drivers/remoteproc/stm32_rproc.c`.

use crate::operate::device_tree::{
    draft::{Draft, Kicks},
    error::DeviceTreeError,
    found::{Mailbox, Span, Table},
    mailbox::{self, Channels},
    tree::Node,
};

pub(super) fn read(draft: &mut Draft) -> Result<(Option<Mailbox>, Table), DeviceTreeError> {
    let core = draft.core;
    let seen = |span: Span| core.parent().map_or(Ok(span.address), |bus| bus.seen_from_bus(span));
    draft.add_memory(seen)?;
    let own = Channels::of(core)?;
    let mut channels = draft.add_vdevs(seen, Kicks::PerQueue(own.as_ref()))?;
    channels.extend(own);
    let (controller, mailbox) = mailbox::stm32_ipcc(core, &channels)?;
    draft.note(controller);
    Ok((Some(mailbox), table(core)?))
}

/// A backup register has the table's address: a syscon, an offset in it, a mask.
fn table(core: Node) -> Result<Table, DeviceTreeError> {
    let Some(property) = core.property("st,syscfg-rsc-tbl") else { return Ok(Table::Unknown) };
    let cells = property.cells()?;
    let [syscon, offset, mask] = cells.as_slice() else {
        return Err(property.wrong("a syscon, the offset of a register and a mask"));
    };
    let registers = property.target(*syscon)?.physical(0)?;
    let offset = u64::from(*offset);
    if !offset.is_multiple_of(4) || offset + 4 > registers.size {
        return Err(
            property.wrong(format!("the offset of a 32-bit register within {:#x} bytes", registers.size))
        );
    }
    Ok(Table::InRegister { register: registers.address + offset, mask: *mask })
}
