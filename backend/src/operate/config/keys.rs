//! Every key of the configuration: what the reference says about it, and what an error about it says was expected.

mod mailbox;
mod remote;
mod service;
mod vm;

pub(super) use self::{mailbox::*, remote::*, service::*, vm::*};

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
    Texts,
    Integer,
    Integers,
    Flag,
    Table,
    Tables,
}

const REQUIRED: &str = "required";
const SOCKET: &str = "the path of a unix socket, 1 to 107 bytes, that nothing else in the file uses";
const TIME: &str = "a time from 1ms to 1h: a whole number with ms, s or min behind it, such as \"2s\"";

pub(super) const CONTROL: Key = Key {
    path: "control",
    kind: Kind::Text,
    value: SOCKET,
    default: "none: the VMs are those of the file",
    meaning: "The unix socket on which the program takes requests at run time, such as to add a VM. Nobody but the \
              user that the program runs as can connect to it. What can be asked there: `control.md`.",
};

pub(super) const USER: Key = Key {
    path: "user",
    kind: Kind::Text,
    value: "the name of an unprivileged user of this host",
    default: "`nobody` if the program is started by root; otherwise the user that has started it",
    meaning: "Whom the process that talks to guests and remote cores runs as. It has no capabilities and no files of its \
              own either way: memory, devices and sockets are opened for it by the process that has started it.",
};

pub(super) const STATE: Key = Key {
    path: "state",
    kind: Kind::Text,
    value: "the path of a directory that only trusted users can write to",
    default: "none: what is known of a remote core lasts as long as the program does, which lets go of the core as it ends",
    meaning: "Where a file for each remote core keeps how far its vrings have got and which services it has. The program can \
              then be stopped and started anew beside a core that goes on, and whose firmware does not handshake again: as it \
              ends, it leaves cores that others have started as they are. The directory has to be empty after a boot of the \
              host, as those under `/run` are.",
};

pub(super) const METRICS: Key = Key {
    path: "metrics",
    kind: Kind::Text,
    value: "the path of a unix socket, beginning with /, or a loopback address with a port, such as \"127.0.0.1:9478\"",
    default: "none",
    meaning: "Where the program answers `GET /metrics` with what it has counted, for Prometheus. Whoever can connect can read \
              it, and nothing more: at a path whoever the file's mode lets, by default this user; at an address every user of \
              this machine. Answers are given one at a time.",
};

/// All of them, each table followed by its keys, in the order of the reference.
pub(super) const KEYS: [&Key; 86] = [
    &CONTROL,
    &USER,
    &STATE,
    &METRICS,
    &REMOTE,
    &REMOTE_NAME,
    &REMOTE_LINK,
    &REMOTE_DOORBELL,
    &REMOTE_RESOURCE_TABLE,
    &TABLE_HEADER,
    &TABLE_REGISTER,
    &DEVICE_TREE,
    &NODE,
    &REMOTE_ATTACH_AFTER,
    &REMOTE_ADDRESS_BITS,
    &HEARTBEAT,
    &HANG_AFTER,
    &WATCHDOG,
    &DUMP,
    &AFTER,
    &MEMORY,
    &MEMORY_PATH,
    &MEMORY_OFFSET,
    &MEMORY_SIZE,
    &MEMORY_DEVICE_ADDRESS,
    &MEMORY_PHYSICAL_ADDRESS,
    &MEMORY_NAME,
    &MAILBOX,
    &MAILBOX_KIND,
    &MAILBOX_ADDRESS,
    &MAILBOX_CHANNEL,
    &MAILBOX_WORD,
    &MAILBOX_PROCESSOR,
    &MAILBOX_CHANNELS,
    &MAILBOX_SHUT_DOWN,
    &MAILBOX_DETACH,
    &MAILBOX_RECEIVE_DEVICE,
    &MAILBOX_TRANSMIT_DEVICE,
    &MAILBOX_RECEIVE_FIFO,
    &MAILBOX_TRANSMIT_FIFO,
    &MAILBOX_USER,
    &MAILBOX_REQUEST_BUFFER,
    &MAILBOX_REMOTE_BIT,
    &VRINGS,
    &VRINGS_ADDRESS,
    &VRINGS_DEVICES,
    &VRINGS_DESCRIPTORS,
    &BOOT,
    &BOOT_FIRMWARE,
    &BOOT_WHEN,
    &BOOT_START,
    &BOOT_STOP,
    &BOOT_REMOTEPROC,
    &BOOT_REGISTER,
    &BOOT_MASK,
    &BOOT_START_VALUE,
    &BOOT_STOP_VALUE,
    &RECOVERY,
    &RECOVERY_POLICY,
    &RECOVERY_LIMIT,
    &RECOVERY_BACK_OFF,
    &VM,
    &VM_NAME,
    &VM_SOCKET,
    &VM_MODE,
    &VM_GROUP,
    &VM_SLOT,
    &VM_REMOTE,
    &VM_DEVICE,
    &VM_ADDRESSES,
    &VM_STRICT,
    &VM_OVERFLOW,
    &VM_WEIGHT,
    &VM_MESSAGES_PER_SECOND,
    &VM_BYTES_PER_SECOND,
    &SERVICE,
    &SERVICE_NAME,
    &SERVICE_REMOTE,
    &SERVICE_MODE,
    &SERVICE_VMS,
    &SERVICE_OWNER,
    &SERVICE_TIME_OUT,
    &SERVICE_QUARANTINE,
    &SERVICE_REPLY,
    &SERVICE_UNSOLICITED,
    &SERVICE_ADDRESS,
];

impl Key {
    /// What a value of another type is told.
    pub(super) fn value_with_type(&self) -> String {
        match self.kind {
            Kind::Text => format!("a string: {}", self.value),
            Kind::Texts => format!("an array of strings: {}", self.value),
            Kind::Integer => format!("an integer: {}", self.value),
            Kind::Integers => format!("an array of integers: {}", self.value),
            Kind::Flag | Kind::Table | Kind::Tables => self.value.to_owned(),
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
