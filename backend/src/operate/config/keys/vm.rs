//! Keys of a VM.

use super::{Key, Kind, REQUIRED, SOCKET};

pub(in super::super) const VM: Key = Key {
    path: "vm",
    kind: Kind::Tables,
    value: "one or more tables [[vm]]",
    default: "required without `control`",
    meaning: "A virtual machine that talks to a remote core.",
};

pub(in super::super) const VM_NAME: Key = Key {
    path: "vm.name",
    kind: Kind::Text,
    value: "a name of letters, digits, '_', '-' and '.' that no other VM has",
    default: REQUIRED,
    meaning: "What messages and `--fd NAME=FD` call the VM.",
};

pub(in super::super) const VM_SOCKET: Key = Key {
    path: "vm.socket",
    kind: Kind::Text,
    value: SOCKET,
    default: REQUIRED,
    meaning: "The vhost-user socket that the program listens on and the VMM connects to. With `--fd NAME=FD` on the \
              command line, that open socket is used in its place.",
};

pub(in super::super) const VM_MODE: Key = Key {
    path: "vm.mode",
    kind: Kind::Text,
    value: "permissions as 3 or 4 octal digits from \"000\" to \"0777\", such as \"0660\"",
    default: "what the umask leaves",
    meaning: "The permissions of the socket: whoever may write to it can connect. It has them from the start. Without \
              effect on a socket that is handed over by `--fd`.",
};

pub(in super::super) const VM_GROUP: Key = Key {
    path: "vm.group",
    kind: Kind::Text,
    value: "the name of a group, or its number, as in \"107\"",
    default: "the group that the program runs as",
    meaning: "The group of the socket. The program must be in it, or have the capability to change groups. Without \
              effect on a socket that is handed over by `--fd`.",
};

pub(in super::super) const VM_SLOT: Key = Key {
    path: "vm.slot",
    kind: Kind::Integer,
    value: "a number from 0 to 126 that no other VM of the same remote has",
    default: "the lowest that is free, in order of appearance",
    meaning: "The VM's place in the remote's address space: the remote sees the VM's endpoints at addresses from \
              `slot << 24` on. The VM in slot 0 looks to the remote exactly like a bare-metal Linux.",
};

pub(in super::super) const VM_REMOTE: Key = Key {
    path: "vm.remote",
    kind: Kind::Text,
    value: "the name of a remote",
    default: "the remote, where there is only one",
    meaning: "The remote core that the VM talks to.",
};

pub(in super::super) const VM_DEVICE: Key = Key {
    path: "vm.device",
    kind: Kind::Integer,
    value: "a number from 0 to 31",
    default: "0",
    meaning: "Which of the remote's rpmsg devices the VM is in front of, counted in the order of the resource table without \
              devices of other kinds.",
};

pub(in super::super) const VM_ADDRESSES: Key = Key {
    path: "vm.addresses",
    kind: Kind::Integers,
    value: "remote addresses from 0 to 0xfffffffe but 53, each of them once",
    default: "none",
    meaning: "Addresses of the remote that the VM may send to although no service is announced there. A VM without \
              the name service (Cloud Hypervisor) works through them.",
};

pub(in super::super) const VM_STRICT: Key = Key {
    path: "vm.strict",
    kind: Kind::Flag,
    value: "true or false",
    default: "false",
    meaning: "With `true`, the VM may send only to services that it sees and to its `addresses`; otherwise also to \
              addresses where nothing is announced.",
};

pub(in super::super) const VM_OVERFLOW: Key = Key {
    path: "vm.overflow",
    kind: Kind::Text,
    value: "\"block\" or \"drop\"",
    default: "`\"block\"` where the VM is the only one that its remote can have (one in the file, no `control`), else \
              `\"drop\"`",
    meaning: "What happens to messages for the VM when it does not take them and its share of the remote's buffers is \
              full. `\"block\"`: they stay there until the remote has no buffer left and waits. `\"drop\"`: the newest \
              are dropped and counted.",
};

pub(in super::super) const VM_WEIGHT: Key = Key {
    path: "vm.weight",
    kind: Kind::Integer,
    value: "a number from 1 to 100",
    default: "1",
    meaning: "The VM's part where buffers of the remote and turns to send are shared out: one with weight 2 gets twice \
              what one with weight 1 does.",
};

pub(in super::super) const VM_MESSAGES_PER_SECOND: Key = Key {
    path: "vm.messages-per-second",
    kind: Kind::Integer,
    value: "a number from 1 to 4294967295",
    default: "no limit",
    meaning: "How many messages the VM may send per second. What is more waits in the VM.",
};

pub(in super::super) const VM_BYTES_PER_SECOND: Key = Key {
    path: "vm.bytes-per-second",
    kind: Kind::Integer,
    value: "a number of bytes, at least the 496 of the longest message",
    default: "no limit",
    meaning: "How many bytes of payload the VM may send per second. What is more waits in the VM.",
};
