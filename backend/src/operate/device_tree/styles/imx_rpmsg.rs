//! Rpmsg of NXP i.MX without a resource table: the vrings of device n are at fixed places in `reg`.
//!
//! Source: `drivers/rpmsg/imx_rpmsg.c` as posted in 2019 ("rpmsg: imx: add the initial imx rpmsg support") and its
//! binding.

use crate::operate::device_tree::{
    draft::{self, Draft},
    error::DeviceTreeError,
    found::{Mailbox, Queue, Span, Table, Vdev},
    mailbox,
};
use crate::remote::layout::StaticLayout;

/// Virtio device id of rpmsg (virtio 1.3, section 5), which is all that this style is for.
const RPMSG: u32 = 7;

pub(super) fn read(draft: &mut Draft) -> Result<(Option<Mailbox>, Table), DeviceTreeError> {
    let core = draft.core;
    let vdevs = match core.property("vdev-nums") {
        Some(property) => match property.cell_up_to(StaticLayout::MAX_VDEVS)? {
            0 => return Err(property.wrong("at least one device")),
            vdevs => vdevs,
        },
        None => 1,
    };
    let vrings = core.physical(0)?;
    let (reg, _) = core.reg()?;
    let base = draft::device_address(reg, vrings, vrings.address)?;
    let layout = StaticLayout::new(base, vdevs, StaticLayout::DESCRIPTORS);
    let needed = u64::from(vdevs) * u64::from(StaticLayout::VDEV_STRIDE);
    let layout = layout.filter(|_| needed <= vrings.size).ok_or_else(|| {
        reg.wrong(format!(
            "{needed:#x} bytes for {vdevs} devices at a multiple of {:#x}",
            StaticLayout::ALIGN
        ))
    })?;
    draft.add_own("vrings", vrings, base);
    draft.add_memory(|span| Ok(span.address))?;
    let buffers = draft.memory.get(1).map(|region| region.span);
    draft.vdevs = (0..)
        .zip(layout.vrings())
        .map(|(index, vrings)| {
            let span =
                |address| Span { address: u64::from(address), size: StaticLayout::VRING_STRIDE.into() };
            let queues = vrings.map(|vring| Queue { vring: span(vring), channel: None }).to_vec();
            Vdev { index, virtio_id: Some(RPMSG), queues, buffers }
        })
        .collect();
    let (controller, mailbox) = mailbox::imx_mu(core)?;
    draft.note(controller);
    Ok((Some(mailbox), Table::Static { base, vdevs }))
}
