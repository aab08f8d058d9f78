//! The Cortex-M4F and Cortex-R5F of TI K3. They see reserved memory where the host does, their own memory elsewhere.
//!
//! Source: `drivers/remoteproc/ti_k3_common.c`, `ti_k3_m4_remoteproc.c`, `ti_k3_r5_remoteproc.c`.

use crate::operate::device_tree::{
    draft::{Draft, Kicks},
    error::DeviceTreeError,
    found::{Mailbox, Span, Table},
    mailbox,
    tree::Node,
};

/// The cores of which a tree is kept here.
pub(super) const CORES: [&str; 4] = ["ti,am62-m4fss", "ti,am64-m4fss", "ti,am62-r5f", "ti,am64-r5f"];

/// Where an M4F sees its DRAM; its IRAM is at 0.
const M4F_DRAM: u32 = 0x3_0000;
/// Where an R5F sees that of its two TCMs that is not at 0.
const R5F_OTHER_TCM: u32 = 0x4101_0000;

pub(super) fn read(draft: &mut Draft) -> Result<(Option<Mailbox>, Table), DeviceTreeError> {
    let core = draft.core;
    let seen = |span: Span| Ok(span.address);
    draft.add_memory(seen)?;
    let first = draft.memory.first().map(|region| region.device_address);
    draft.add_vdevs(seen, Kicks::Shared)?;
    add_own_memory(draft)?;
    let (controller, mailbox) = mailbox::omap(core)?;
    draft.note(controller);
    Ok((Some(mailbox), first.map_or(Table::Unknown, Table::StartOfFirstRegion)))
}

fn add_own_memory(draft: &mut Draft) -> Result<(), DeviceTreeError> {
    let core = draft.core;
    let names = core.require("reg-names", "the names of the core's own memories")?;
    for (index, name) in names.strings()?.into_iter().enumerate() {
        let device_address = match name {
            "iram" => Some(0),
            "dram" => Some(M4F_DRAM),
            "atcm" => tcm(core, "ti,atcm-enable", 0, 1)?,
            "btcm" => tcm(core, "ti,btcm-enable", 1, 0)?,
            _ => return Err(names.wrong("\"iram\", \"dram\" of an M4F, \"atcm\", \"btcm\" of an R5F")),
        };
        if let Some(device_address) = device_address {
            draft.add_own(name, core.physical(index)?, device_address);
        }
    }
    Ok(())
}

/// Where an R5F sees a TCM, which is at 0 if `ti,loczrama` is `at_0`. `None` if it is switched off.
fn tcm(core: Node, switch: &str, default: u32, at_0: u32) -> Result<Option<u32>, DeviceTreeError> {
    let is_at_0 = core.number_or("ti,loczrama", 1)? == at_0;
    Ok((core.number_or(switch, default)? != 0).then_some(if is_at_0 { 0 } else { R5F_OTHER_TCM }))
}
