//! The core of an emulated board. Its node is ours: only its addresses can be told in a tree.

use crate::operate::device_tree::{
    draft::{Draft, Kicks},
    error::DeviceTreeError,
    found::{Mailbox, Span, Table},
};

pub(super) fn read(draft: &mut Draft) -> Result<(Option<Mailbox>, Table), DeviceTreeError> {
    let seen = |span: Span| Ok(span.address);
    draft.add_memory(seen)?;
    draft.add_vdevs(seen, Kicks::Shared)?;
    let property = draft.core.require("resource-table", "the table's address as the core sees it")?;
    let table = property.cell()?;
    let is_in =
        |start: u32, size: u64| table.checked_sub(start).is_some_and(|offset| u64::from(offset) < size);
    if !draft.memory.iter().any(|region| is_in(region.device_address, region.span.size)) {
        return Err(property.wrong("an address within the core's 'memory-region'"));
    }
    Ok((None, Table::At(table)))
}
