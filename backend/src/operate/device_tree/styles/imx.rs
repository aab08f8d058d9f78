//! The Cortex-M of NXP i.MX with a resource table. It sees reserved memory where the host does, its own TCM
//! elsewhere.
//!
//! Source: `drivers/remoteproc/imx_rproc.c`, whose translation tables (`imx_rproc_att_*`) also are the only place
//! where the TCM is told.

use crate::operate::device_tree::{
    draft::{Draft, Kicks},
    error::DeviceTreeError,
    found::{Mailbox, Span, Table},
    mailbox,
};

/// The cores that the kernel knows.
pub(super) const CORES: [&str; 17] = [
    "fsl,imx6sx-cm4",
    "fsl,imx7d-cm4",
    "fsl,imx7ulp-cm4",
    "fsl,imx8mm-cm4",
    "fsl,imx8mn-cm7",
    "fsl,imx8mn-cm7-mmio",
    "fsl,imx8mp-cm7",
    "fsl,imx8mp-cm7-mmio",
    "fsl,imx8mq-cm4",
    "fsl,imx8qm-cm4",
    "fsl,imx8qxp-cm4",
    "fsl,imx8ulp-cm33",
    "fsl,imx93-cm33",
    "fsl,imx94-cm33s",
    "fsl,imx94-cm70",
    "fsl,imx94-cm71",
    "fsl,imx95-cm7",
];

/// Name, the host's address, size in bytes and the core's address of a TCM.
type Tcm = (&'static str, u64, u64, u32);

const CM4_SMALL: [Tcm; 2] =
    [("tcml", 0x7f_8000, 0x8000, 0x1fff_8000), ("tcmu", 0x80_0000, 0x8000, 0x2000_0000)];
const CM4: [Tcm; 1] = [("tcm", 0x7e_0000, 0x4_0000, 0x1ffe_0000)];
const CM7: [Tcm; 2] = [("itcm", 0x7e_0000, 0x2_0000, 0), ("dtcm", 0x80_0000, 0x2_0000, 0x2000_0000)];
const CM33: [Tcm; 2] =
    [("tcm-code", 0x201c_0000, 0x4_0000, 0x0ffc_0000), ("tcm-system", 0x2020_0000, 0x4_0000, 0x2000_0000)];
const CM4_QXP: [Tcm; 1] = [("tcm", 0x34fe_0000, 0x4_0000, 0x1ffe_0000)];

pub(super) fn read(draft: &mut Draft) -> Result<(Option<Mailbox>, Table), DeviceTreeError> {
    let core = draft.core;
    let tcm = tcm(&core.compatible()?);
    let seen = |span: Span| Ok(device_address(tcm, span));
    draft.add_memory(seen)?;
    draft.add_vdevs(seen, Kicks::Shared)?;
    for (name, address, size, device_address) in tcm {
        draft.add_own(name, Span { address: *address, size: *size }, *device_address);
    }
    let (controller, mailbox) = mailbox::imx_mu(core)?;
    draft.note(controller);
    let table = draft.region("rsc-table").map_or(Table::Unknown, |region| Table::At(region.device_address));
    Ok((Some(mailbox), table))
}

/// Where the core sees a region: as in its TCM if it is there (the i.MX93's resource table is), or else where the
/// host does.
fn device_address(tcm: &[Tcm], span: Span) -> u64 {
    let in_tcm = tcm.iter().find_map(|(_, address, size, device_address)| {
        let offset = span.address.checked_sub(*address).filter(|offset| offset < size)?;
        Some(u64::from(*device_address) + offset)
    });
    in_tcm.unwrap_or(span.address)
}

/// The TCM of a core; nothing where the tables do not tell it apart from other memory, or from that of a second core.
fn tcm(compatible: &[&str]) -> &'static [Tcm] {
    let tcm = compatible.iter().find_map(|name| match *name {
        "fsl,imx6sx-cm4" | "fsl,imx7d-cm4" => Some(CM4_SMALL.as_slice()),
        "fsl,imx8mm-cm4" | "fsl,imx8mq-cm4" => Some(CM4.as_slice()),
        "fsl,imx8mn-cm7" | "fsl,imx8mn-cm7-mmio" | "fsl,imx8mp-cm7" | "fsl,imx8mp-cm7-mmio" => {
            Some(CM7.as_slice())
        }
        "fsl,imx8qxp-cm4" => Some(CM4_QXP.as_slice()),
        "fsl,imx93-cm33" => Some(CM33.as_slice()),
        _ => None,
    });
    tcm.unwrap_or_default()
}
