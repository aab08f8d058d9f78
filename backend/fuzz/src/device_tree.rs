//! Device tree blobs: whatever is in them, reading comes to an end with a result or an error in words.

use vhost_device_rpmsg::causes::Causes;
use vhost_device_rpmsg::operate::device_tree::read;

/// Remote cores of the trees in `dts/`, by path, alias or label; those of the seeds.
const NODES: [&str; 8] = [
    "remoteproc0",
    "/remoteproc-cm7",
    "m4_rproc",
    "/ahb/m4@10000000",
    "r5f_0",
    "mcu_m4fss",
    "/rpmsg@b8000000",
    "core",
];

/// The first byte chooses the node, a NUL-terminated name in place of it if there is none of that number.
pub fn run(data: &[u8]) {
    let Some((choice, blob)) = data.split_first() else { return };
    let (node, blob) = match NODES.get(usize::from(*choice)) {
        Some(node) => (*node, blob),
        None => {
            let end = blob.iter().position(|byte| *byte == 0).unwrap_or(blob.len());
            let Ok(name) = std::str::from_utf8(&blob[..end]) else { return };
            (name, blob.get(end + 1..).unwrap_or_default())
        }
    };
    match read(blob, node) {
        Ok(found) => std::hint::black_box(found.to_string()),
        Err(error) => std::hint::black_box(Causes(&error).to_string()),
    };
}
