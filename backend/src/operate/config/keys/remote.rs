//! Keys of a remote core.

use super::{Key, Kind, REQUIRED, SOCKET, TIME};

const WITH_SOCKET: &str = "required with `link = \"socket\"`, not allowed with `\"loopback\"`";

pub(in super::super) const REMOTE: Key = Key {
    path: "remote",
    kind: Kind::Tables,
    value: "one or more tables [[remote]]",
    default: REQUIRED,
    meaning: "A remote core and the way to it.",
};

pub(in super::super) const REMOTE_NAME: Key = Key {
    path: "remote.name",
    kind: Kind::Text,
    value: "a name of letters, digits, '_', '-' and '.' that no other remote has",
    default: REQUIRED,
    meaning: "What `vm.remote` and messages call the remote core.",
};

pub(in super::super) const REMOTE_LINK: Key = Key {
    path: "remote.link",
    kind: Kind::Text,
    value: "\"socket\" or \"loopback\"",
    default: REQUIRED,
    meaning: "How the core is reached. `\"socket\"`: another process or an emulator, over a file mapped shared and a \
              unix stream socket on which every byte is a doorbell. `\"loopback\"`: the core built into this program, \
              for trying things out; it takes none of the keys for a socket.",
};

pub(in super::super) const REMOTE_DOORBELL: Key = Key {
    path: "remote.doorbell",
    kind: Kind::Text,
    value: SOCKET,
    default: WITH_SOCKET,
    meaning: "The unix stream socket that the remote listens on. The program connects to it, and again whenever the \
              connection is lost.",
};

pub(in super::super) const REMOTE_RESOURCE_TABLE: Key = Key {
    path: "remote.resource-table",
    kind: Kind::Integer,
    value: "a device address, a multiple of 4 from 0 to 0xffffffff",
    default: WITH_SOCKET,
    meaning: "Where the remote has its resource table, as the remote addresses its memory. It lies in one of the \
              regions of `remote.memory`.",
};

pub(in super::super) const REMOTE_ATTACH_AFTER: Key = Key {
    path: "remote.attach-after",
    kind: Kind::Text,
    value: TIME,
    default: "never; not allowed with `link = \"loopback\"`",
    meaning: "After this time without an answer, a remote that says neither \"ready\" nor \"running\" on its doorbell \
              socket is attached by what its resource table and status say.",
};

pub(in super::super) const REMOTE_ADDRESS_BITS: Key = Key {
    path: "remote.address-bits",
    kind: Kind::Integer,
    value: "32 or 16",
    default: "32",
    meaning: "How many bits of an address the firmware keeps. With 16 (TI's `ipc_rpmsg`), every endpoint of a guest \
              is known to the remote by an address of 16 bits from a table.",
};

pub(in super::super) const MEMORY: Key = Key {
    path: "remote.memory",
    kind: Kind::Tables,
    value: "one or more tables [[remote.memory]] that do not overlap in device addresses",
    default: WITH_SOCKET,
    meaning: "A region of memory that the remote core and this program share.",
};

pub(in super::super) const MEMORY_PATH: Key = Key {
    path: "remote.memory.path",
    kind: Kind::Text,
    value: "the path of a file",
    default: REQUIRED,
    meaning: "The file to be mapped shared.",
};

pub(in super::super) const MEMORY_OFFSET: Key = Key {
    path: "remote.memory.offset",
    kind: Kind::Integer,
    value: "a number of bytes, 0 or a multiple of the page size",
    default: "0",
    meaning: "Where the region starts in the file.",
};

pub(in super::super) const MEMORY_SIZE: Key = Key {
    path: "remote.memory.size",
    kind: Kind::Integer,
    value: "a number of bytes, 1 or more",
    default: REQUIRED,
    meaning: "Size of the region. The file must be at least `offset` + `size` long, and the region must end at device \
              address 2^32 at the latest.",
};

pub(in super::super) const MEMORY_DEVICE_ADDRESS: Key = Key {
    path: "remote.memory.device-address",
    kind: Kind::Integer,
    value: "a device address, a multiple of 16 from 0 to 0xfffffff0",
    default: REQUIRED,
    meaning: "Where the remote core sees the region.",
};
