//! Every key of the configuration: what the reference says about it, and what an error about it says was expected.

/// A key, or a table of keys.
pub(super) struct Key {
    /// Where it stands in the file, without indexes: `remote.memory.size`.
    pub(super) path: &'static str,
    /// The TOML type of its value.
    pub(super) kind: Kind,
    /// What its value has to be, with unit and range. Goes behind "expected" in errors.
    pub(super) value: &'static str,
    /// What holds where the key is left out.
    #[cfg_attr(not(test), expect(dead_code, reason = "only the reference has it"))]
    pub(super) default: &'static str,
    /// What it is for.
    #[cfg_attr(not(test), expect(dead_code, reason = "only the reference has it"))]
    pub(super) meaning: &'static str,
}

/// A TOML type.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Text,
    Integer,
    Tables,
}

const REQUIRED: &str = "required";
const WITH_SOCKET: &str = "required with `link = \"socket\"`, not allowed with `\"loopback\"`";

pub(super) const REMOTE: Key = Key {
    path: "remote",
    kind: Kind::Tables,
    value: "one or more tables [[remote]]",
    default: REQUIRED,
    meaning: "A remote core and the way to it.",
};

pub(super) const REMOTE_NAME: Key = Key {
    path: "remote.name",
    kind: Kind::Text,
    value: "a name of letters, digits, '_', '-' and '.' that no other remote has",
    default: REQUIRED,
    meaning: "What `vm.remote` and messages call the remote core.",
};

pub(super) const REMOTE_LINK: Key = Key {
    path: "remote.link",
    kind: Kind::Text,
    value: "\"socket\" or \"loopback\"",
    default: REQUIRED,
    meaning: "How the core is reached. `\"socket\"`: another process or an emulator, over a file mapped shared and a \
              unix stream socket on which every byte is a doorbell. `\"loopback\"`: the core built into this program, \
              for trying things out; it takes no other key.",
};

pub(super) const REMOTE_DOORBELL: Key = Key {
    path: "remote.doorbell",
    kind: Kind::Text,
    value: "the path of a unix socket, 1 to 107 bytes, that nothing else in the file uses",
    default: WITH_SOCKET,
    meaning: "The unix stream socket that the remote listens on. The program connects to it, and again whenever the \
              connection is lost.",
};

pub(super) const REMOTE_RESOURCE_TABLE: Key = Key {
    path: "remote.resource-table",
    kind: Kind::Integer,
    value: "a device address, a multiple of 4 from 0 to 0xffffffff",
    default: WITH_SOCKET,
    meaning: "Where the remote has its resource table, as the remote addresses its memory. It lies in one of the \
              regions of `remote.memory`.",
};

pub(super) const REMOTE_ATTACH_AFTER: Key = Key {
    path: "remote.attach-after",
    kind: Kind::Text,
    value: "a time from 1ms to 1h: a whole number with ms, s or min behind it, such as \"2s\"",
    default: "never; not allowed with `link = \"loopback\"`",
    meaning: "After this time without an answer, a remote that says neither \"ready\" nor \"running\" on its doorbell \
              socket is attached by what its resource table and status say.",
};

pub(super) const MEMORY: Key = Key {
    path: "remote.memory",
    kind: Kind::Tables,
    value: "one or more tables [[remote.memory]] that do not overlap in device addresses",
    default: WITH_SOCKET,
    meaning: "A region of memory that the remote core and this program share.",
};

pub(super) const MEMORY_PATH: Key = Key {
    path: "remote.memory.path",
    kind: Kind::Text,
    value: "the path of a file",
    default: REQUIRED,
    meaning: "The file to be mapped shared.",
};

pub(super) const MEMORY_OFFSET: Key = Key {
    path: "remote.memory.offset",
    kind: Kind::Integer,
    value: "a number of bytes, 0 or a multiple of the page size",
    default: "0",
    meaning: "Where the region starts in the file.",
};

pub(super) const MEMORY_SIZE: Key = Key {
    path: "remote.memory.size",
    kind: Kind::Integer,
    value: "a number of bytes, 1 or more",
    default: REQUIRED,
    meaning: "Size of the region. The file must be at least `offset` + `size` long, and the region must end at device \
              address 2^32 at the latest.",
};

pub(super) const MEMORY_DEVICE_ADDRESS: Key = Key {
    path: "remote.memory.device-address",
    kind: Kind::Integer,
    value: "a device address, a multiple of 16 from 0 to 0xfffffff0",
    default: REQUIRED,
    meaning: "Where the remote core sees the region.",
};

pub(super) const VM: Key = Key {
    path: "vm",
    kind: Kind::Tables,
    value: "one or more tables [[vm]]",
    default: REQUIRED,
    meaning: "A virtual machine that talks to a remote core.",
};

pub(super) const VM_NAME: Key = Key {
    path: "vm.name",
    kind: Kind::Text,
    value: "a name of letters, digits, '_', '-' and '.' that no other VM has",
    default: REQUIRED,
    meaning: "What messages and `--fd NAME=FD` call the VM.",
};

pub(super) const VM_SOCKET: Key = Key {
    path: "vm.socket",
    kind: Kind::Text,
    value: "the path of a unix socket, 1 to 107 bytes, that nothing else in the file uses",
    default: REQUIRED,
    meaning: "The vhost-user socket that the program listens on and the VMM connects to. With `--fd NAME=FD` on the \
              command line, that open socket is used in its place.",
};

pub(super) const VM_SLOT: Key = Key {
    path: "vm.slot",
    kind: Kind::Integer,
    value: "a number from 0 to 126 that no other VM of the same remote has",
    default: "the lowest that is free, in order of appearance",
    meaning: "The VM's place in the remote's address space: the remote sees the VM's endpoints at addresses from \
              `slot << 24` on. The VM in slot 0 looks to the remote exactly like a bare-metal Linux.",
};

pub(super) const VM_REMOTE: Key = Key {
    path: "vm.remote",
    kind: Kind::Text,
    value: "the name of a remote",
    default: "the remote, where there is only one",
    meaning: "The remote core that the VM talks to.",
};

/// All of them, each table followed by its keys, in the order of the reference.
pub(super) const KEYS: [&Key; 16] = [
    &REMOTE,
    &REMOTE_NAME,
    &REMOTE_LINK,
    &REMOTE_DOORBELL,
    &REMOTE_RESOURCE_TABLE,
    &REMOTE_ATTACH_AFTER,
    &MEMORY,
    &MEMORY_PATH,
    &MEMORY_OFFSET,
    &MEMORY_SIZE,
    &MEMORY_DEVICE_ADDRESS,
    &VM,
    &VM_NAME,
    &VM_SOCKET,
    &VM_SLOT,
    &VM_REMOTE,
];

impl Key {
    /// What a value of another type is told.
    pub(super) fn value_with_type(&self) -> String {
        match self.kind {
            Kind::Text => format!("a string: {}", self.value),
            Kind::Integer => format!("an integer: {}", self.value),
            Kind::Tables => self.value.to_owned(),
        }
    }

    /// The table it stands in (empty at the top), and its name there.
    pub(super) fn split(&self) -> (&'static str, &'static str) {
        self.path.rsplit_once('.').unwrap_or(("", self.path))
    }
}

/// The key at this path.
pub(super) fn find(path: &str) -> Option<&'static Key> {
    KEYS.into_iter().find(|key| key.path == path)
}

/// The names of the keys of a table, as a list for people.
pub(super) fn names_in(table: &str) -> String {
    let names: Vec<_> =
        KEYS.into_iter().map(Key::split).filter(|(its, _)| *its == table).map(|(_, name)| name).collect();
    names.join(", ")
}
