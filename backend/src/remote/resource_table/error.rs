//! Why a resource table is refused: which entry, where, what was expected and what is there.

use thiserror::Error;

use super::{MAX_DESCRIPTORS, MAX_VRINGS, MIN_ALIGN};

/// Why bytes are no usable resource table. All offsets are in bytes from the start of the table.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum ResourceTableError {
    /// There is less than a header.
    #[error("resource table of {found} bytes, expected at least the 16 bytes of its header")]
    HeaderTruncated {
        /// Bytes that are there.
        found: usize,
    },
    /// Not version 1: mostly, that there is no table at this address.
    #[error(
        "resource table: version at offset 0x0 is {found:#x}, expected 1; check that the firmware has put its table \
         at this address, and has already done so"
    )]
    Version {
        /// What is there.
        found: u32,
    },
    /// A reserved word of the header is not zero.
    #[error("resource table: reserved word at offset {offset:#x} of the header is {found:#x}, expected 0")]
    HeaderReserved {
        /// Where the word is.
        offset: usize,
        /// What is there.
        found: u32,
    },
    /// The offsets of the entries do not fit.
    #[error(
        "resource table: the number of entries at offset 0x4 is {entries}, whose offsets end at {needed:#x}, expected \
         an end within the {found:#x} bytes that are there"
    )]
    OffsetsTruncated {
        /// Number of entries that the header claims.
        entries: u32,
        /// Bytes the header would take with them.
        needed: u64,
        /// Bytes that are there.
        found: usize,
    },
    /// An entry starts inside the header.
    #[error(
        "resource table: entry {entry} starts at offset {offset:#x} and so within the header, expected {header:#x} or \
         more"
    )]
    EntryInHeader {
        /// Index of the entry.
        entry: usize,
        /// Where it starts.
        offset: usize,
        /// End of the header.
        header: usize,
    },
    /// An entry does not end within the table.
    #[error(
        "resource table: entry {entry} ({kind}) at offset {offset:#x} needs {needed} bytes, found {found} up to the \
         end of the table"
    )]
    EntryTruncated {
        /// Index of the entry.
        entry: usize,
        /// What kind of entry it is.
        kind: &'static str,
        /// Where it starts.
        offset: usize,
        /// Bytes it needs.
        needed: u64,
        /// Bytes from its start to the end of what is there; 0 if it starts beyond.
        found: usize,
    },
    /// A reserved field of an entry is not zero.
    #[error(
        "resource table: entry {entry} ({kind}): reserved field at offset {offset:#x} is {found:#x}, expected 0"
    )]
    EntryReserved {
        /// Index of the entry.
        entry: usize,
        /// What kind of entry it is.
        kind: &'static str,
        /// Where the field is.
        offset: usize,
        /// What is there.
        found: u32,
    },
    /// A region does not end within the 32-bit address space.
    #[error(
        "resource table: entry {entry} ({kind}): device address {da:#x} at offset {offset:#x} with {size:#x} bytes, \
         expected an end within 32 bits"
    )]
    RegionWraps {
        /// Index of the entry.
        entry: usize,
        /// What kind of entry it is.
        kind: &'static str,
        /// Where the device address is.
        offset: usize,
        /// The device address.
        da: u32,
        /// Size of the region in bytes.
        size: u32,
    },
    /// More vrings than a device may have.
    #[error(
        "resource table: entry {entry} (vdev): number of vrings at offset {offset:#x} is {found}, expected at most \
         {MAX_VRINGS}"
    )]
    TooManyVrings {
        /// Index of the entry.
        entry: usize,
        /// Where the number is.
        offset: usize,
        /// What is there.
        found: u8,
    },
    /// An alignment that no vring can have.
    #[error(
        "resource table: entry {entry} (vdev), vring {vring}: alignment at offset {offset:#x} is {found}, expected a \
         power of two of at least {MIN_ALIGN}"
    )]
    VringAlignment {
        /// Index of the entry.
        entry: usize,
        /// Index of the vring.
        vring: usize,
        /// Where the alignment is.
        offset: usize,
        /// What is there.
        found: u32,
    },
    /// A number of descriptors that no vring can have.
    #[error(
        "resource table: entry {entry} (vdev), vring {vring}: number of descriptors at offset {offset:#x} is \
         {found}, expected a power of two of at most {MAX_DESCRIPTORS}"
    )]
    VringSize {
        /// Index of the entry.
        entry: usize,
        /// Index of the vring.
        vring: usize,
        /// Where the number is.
        offset: usize,
        /// What is there.
        found: u32,
    },
    /// A vring at an address that its own alignment forbids: the two sides would look for the used ring at different
    /// places.
    #[error(
        "resource table: entry {entry} (vdev), vring {vring}: device address at offset {offset:#x} is {found:#x}, \
         expected a multiple of the vring's alignment {align:#x}, or 0xffffffff for any"
    )]
    VringAddress {
        /// Index of the entry.
        entry: usize,
        /// Index of the vring.
        vring: usize,
        /// Where the address is.
        offset: usize,
        /// What is there.
        found: u32,
        /// The vring's alignment in bytes.
        align: u32,
    },
}
