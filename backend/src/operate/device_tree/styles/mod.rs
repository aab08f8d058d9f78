//! The styles in which boards describe a remote core, one module each.

mod emulated;
mod imx;
mod imx_rpmsg;
mod stm32;
mod ti;
mod zynqmp;

use super::{
    draft::Draft,
    error::DeviceTreeError,
    found::{Mailbox, Table},
    tree::Node,
};

/// Fills in what is known of a core, and returns its mailbox and where its resource table is.
type Read = fn(&mut Draft) -> Result<(Option<Mailbox>, Table), DeviceTreeError>;

/// A kind of remote core.
#[derive(Clone, Copy)]
pub(super) struct Style {
    /// What its node is compatible with.
    pub(super) compatible: &'static str,
    /// How it is read.
    pub(super) read: Read,
}

/// Clusters, of whose children one is meant.
const CLUSTERS: [&str; 3] = ["ti,am62-r5fss", "ti,am64-r5fss", "xlnx,zynqmp-r5fss"];

fn styles() -> impl Iterator<Item = Style> {
    let all: [(&[&'static str], Read); 6] = [
        (&["st,stm32mp1-m4"], stm32::read),
        (&imx::CORES, imx::read),
        (&["fsl,imx8mq-rpmsg", "fsl,imx8qxp-rpmsg"], imx_rpmsg::read),
        (&ti::CORES, ti::read),
        (&["xlnx,zynqmp-r5f"], zynqmp::read),
        (&["rproc-emulated"], emulated::read),
    ];
    all.into_iter().flat_map(|(cores, read)| cores.iter().map(move |compatible| Style { compatible, read }))
}

/// The core that `node` is or, if it is a cluster, has, and how to read it.
pub(super) fn find(node: Node) -> Result<(Node, Style), DeviceTreeError> {
    let found = node.compatible()?;
    if let Some(style) = styles().find(|style| found.contains(&style.compatible)) {
        return Ok((node, style));
    }
    if found.iter().any(|name| CLUSTERS.contains(name)) {
        let mut cores = Vec::new();
        for child in node.children().filter(|child| !child.is_disabled()) {
            let found = child.compatible()?;
            cores
                .extend(styles().find(|style| found.contains(&style.compatible)).map(|style| (child, style)));
        }
        match cores.as_slice() {
            [core] => return Ok(*core),
            [] => {}
            _ => {
                let nodes = cores.iter().map(|(core, _)| core.path()).collect();
                return Err(DeviceTreeError::Ambiguous { wanted: node.path(), nodes });
            }
        }
    }
    let found: Vec<_> = found.iter().map(|name| format!("\"{name}\"")).collect();
    let expected: Vec<_> = styles().map(|style| style.compatible).collect();
    Err(DeviceTreeError::NotARemote {
        node: node.path(),
        found: if found.is_empty() { "nothing".to_owned() } else { found.join(", ") },
        expected: format!(
            "{}, or a cluster ({}) with one core that is not disabled",
            expected.join(", "),
            CLUSTERS.join(", ")
        ),
    })
}
