//! Why a device tree is refused: which node and property, what is there and what was expected.

use thiserror::Error;

/// Why a device tree does not say what is needed about a remote core.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum DeviceTreeError {
    /// The bytes are no device tree.
    #[error(
        "device tree blob: {what} at offset {offset:#x}: expected {expected}, found {found}; check that it is a whole \
         compiled tree (.dtb)"
    )]
    Malformed {
        /// What should be there.
        what: &'static str,
        /// Where, in bytes from the start of the blob.
        offset: usize,
        /// What is there.
        found: String,
        /// What it has to be.
        expected: &'static str,
    },
    /// There is no node of this name.
    #[error("device tree: no node '{wanted}'; expected {expected}")]
    NoSuchNode {
        /// The name that was looked for.
        wanted: String,
        /// What would have been found.
        expected: String,
    },
    /// A name fits several nodes.
    #[error("device tree: '{wanted}' may be any of {}, expected the name of one of them", nodes.join(", "))]
    Ambiguous {
        /// The name that was looked for.
        wanted: String,
        /// The paths of the nodes that it fits.
        nodes: Vec<String>,
    },
    /// A node is no remote core of a known kind.
    #[error("device tree: {node} is compatible with {found}, expected a remote core: {expected}")]
    NotARemote {
        /// Path of the node.
        node: String,
        /// What it is compatible with.
        found: String,
        /// The kinds that are known.
        expected: String,
    },
    /// A property is missing.
    #[error("device tree: {node} has no property '{property}', expected {expected}")]
    Missing {
        /// Path of the node.
        node: String,
        /// Name of the property.
        property: String,
        /// What it should say.
        expected: String,
    },
    /// A property makes no sense.
    #[error("device tree: property '{property}' of {node} is {found}, expected {expected}")]
    Wrong {
        /// Path of the node.
        node: String,
        /// Name of the property.
        property: String,
        /// What it says.
        found: String,
        /// What it should say.
        expected: String,
    },
    /// A property refers to a node that is not there.
    #[error(
        "device tree: property '{property}' of {node} refers to phandle {phandle:#x}, expected the phandle of a node"
    )]
    NoTarget {
        /// Path of the node.
        node: String,
        /// Name of the property.
        property: String,
        /// The phandle that no node has.
        phandle: u32,
    },
    /// Two nodes have the same phandle, so nobody can tell which one is meant.
    #[error(
        "device tree: {first} and {second} both have phandle {phandle:#x}, expected one node of each phandle"
    )]
    SharedPhandle {
        /// The phandle.
        phandle: u32,
        /// Path of the first node that has it.
        first: String,
        /// Path of the second.
        second: String,
    },
}
