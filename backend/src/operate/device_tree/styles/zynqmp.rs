//! A Cortex-R5F of Zynq UltraScale+. It sees reserved memory where the host does, its TCM at the addresses of its
//! `reg`.
//!
//! Source: `drivers/remoteproc/xlnx_r5_remoteproc.c`.

use crate::operate::device_tree::{
    draft::{self, Draft, Kicks},
    error::DeviceTreeError,
    found::{Mailbox, Span, Table},
    mailbox,
};

pub(super) fn read(draft: &mut Draft) -> Result<(Option<Mailbox>, Table), DeviceTreeError> {
    let core = draft.core;
    let seen = |span: Span| Ok(span.address);
    draft.add_memory(seen)?;
    let first = draft.memory.first().map(|region| region.device_address);
    draft.add_vdevs(seen, Kicks::Shared)?;
    let names = core.require("reg-names", "the names of the core's TCMs")?.strings()?;
    let (reg, places) = core.reg()?;
    for (place, name) in places.into_iter().zip(names) {
        // The upper half of the address tells the cores apart, the lower one is what a core itself uses.
        let own = place.address & u64::from(u32::MAX);
        draft.add_own(name, core.translated(reg, place)?, draft::device_address(reg, place, own)?);
    }
    let (controller, mailbox) = mailbox::zynqmp_ipi(core)?;
    draft.note(controller);
    Ok((Some(mailbox), first.map_or(Table::Unknown, Table::HeaderInFirstRegion)))
}
