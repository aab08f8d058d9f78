//! What a device tree says about a remote core: its memory, its virtio devices, its mailbox, where its resource
//! table is.
//!
//! [`read`] takes a compiled tree, a file's or the running kernel's own ([`HOST_TREE`]), and the name of the core's
//! node. It understands the styles in which boards describe such a core; `dts/` in the repository has a tree for
//! each:
//!
//! | `compatible` of the node | style |
//! |---|---|
//! | `st,stm32mp1-m4` | regions and channels by name; table found through a backup register |
//! | `fsl,imx*-cm*` | regions by name, the table's among them; a messaging unit |
//! | `fsl,imx8mq-rpmsg`, `fsl,imx8qxp-rpmsg` | no table, vrings at fixed places |
//! | `ti,am62-m4fss`, `ti,am64-m4fss`, `ti,am62-r5f`, `ti,am64-r5f` | a pair of FIFOs; table at the start of the first region |
//! | `xlnx,zynqmp-r5f` | inter-processor interrupt; header with the table's address in the first region |
//! | `rproc-emulated` | ours: memory and table of an emulated board |
//!
//! Of a cluster (`ti,*-r5fss`, `xlnx,zynqmp-r5fss`) its one core that is not disabled is taken. Below each core,
//! nodes `rproc-virtio` may describe its virtio devices.
//!
//! | module | what is in it |
//! |---|---|
//! | `blob` | the flattened format: bytes to nodes and their properties |
//! | `tree` | nodes, properties and what they refer to; `address`: what buses make of addresses |
//! | `draft` | what all styles have in common: regions by name, virtio devices |
//! | `mailbox` | channels and controllers |
//! | `styles` | one module for each style |
//!
//! This room only reads. It knows nothing of the configuration and opens no files. A tree may be anything, so
//! nothing in it can make this panic: the bytes are read where they are there, sums are checked. Four crates that
//! read trees were tried first: `fdt-raw` 0.3, `fdt-rs` 0.4 and `device_tree_parser` 0.4 panic on damaged blobs, and
//! `dtoolkit` 0.4 refuses names of more than 31 characters, which half of the trees in Linux 7.2 have. The tests hold
//! this reader against the last.
//!
//! Sources: Devicetree Specification 0.4; the kernel's `Documentation/devicetree/bindings` and the drivers of
//! `drivers/remoteproc` and `drivers/mailbox`.

mod address;
mod blob;
mod display;
mod draft;
mod error;
mod found;
mod mailbox;
mod styles;
#[cfg(test)]
mod tests;
mod tree;

pub use error::DeviceTreeError;
pub use found::{Family, Found, Interrupt, Mailbox, Queue, Region, Span, Table, Vdev};

use draft::Draft;
use tree::Tree;

/// The file with the tree of the running kernel. Only root may read it.
pub const HOST_TREE: &str = "/sys/firmware/fdt";

/// Reads what the tree `blob` says about the remote core `node`: a path (`/soc/remoteproc@5000000`, where an
/// address may be left out if nothing else has the name), an alias of `/aliases`, or a label, for which the tree
/// must have been compiled with `dtc -@`.
///
/// # Errors
/// The blob is no device tree; there is no such node, or it is no remote core of a kind that is known; something that
/// belongs to it is missing or makes no sense.
pub fn read(blob: &[u8], node: &str) -> Result<Found, DeviceTreeError> {
    let tree = Tree::new(blob)?;
    let (core, style) = styles::find(tree.find(node)?)?;
    let mut draft = Draft::new(core);
    let (mailbox, table) = (style.read)(&mut draft)?;
    Ok(draft.finish(style.compatible, mailbox, table))
}
