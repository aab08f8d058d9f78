//! Keys of a service.

use super::{Key, Kind, REQUIRED, TIME};

pub(in super::super) const SERVICE: Key = Key {
    path: "service",
    kind: Kind::Tables,
    value: "any number of tables [[service]]",
    default: "without any, every service is shared by all VMs",
    meaning: "How services of some names are shared. For each service the first table holds whose `name` matches; one \
              that no table matches is shared by all VMs.",
};

pub(in super::super) const SERVICE_NAME: Key = Key {
    path: "service.name",
    kind: Kind::Text,
    value: "1 to 31 printable ASCII characters, where * stands for any characters and ? for one",
    default: REQUIRED,
    meaning: "The name of the service, or a pattern of names: one that matches a name which no earlier table does.",
};

pub(in super::super) const SERVICE_REMOTE: Key = Key {
    path: "service.remote",
    kind: Kind::Text,
    value: "the name of a remote",
    default: "all remotes",
    meaning: "The remote core whose services are meant.",
};

pub(in super::super) const SERVICE_MODE: Key = Key {
    path: "service.mode",
    kind: Kind::Text,
    value: "\"shared\", \"exclusive\", \"serialized\" or \"broadcast\"",
    default: "`\"shared\"`",
    meaning: "How VMs share the service. `\"shared\"`: all use it, and the firmware answers to the address that asked. \
              `\"exclusive\"`: one VM uses it and the others do not see it meanwhile; the messages \
              of the next one wait until the firmware is done with those of the last. `\"serialized\"`: all use it, one \
              request at a time; for firmware that has one client. `\"broadcast\"`: it streams to every VM that has \
              sent to it. In the last three, the firmware sees one stable address.",
};

pub(in super::super) const SERVICE_VMS: Key = Key {
    path: "service.vms",
    kind: Kind::Texts,
    value: "names of VMs of the file, each of them once",
    default: "all VMs",
    meaning: "The VMs that may see the service. With `[]`, none does.",
};

pub(in super::super) const SERVICE_OWNER: Key = Key {
    path: "service.owner",
    kind: Kind::Text,
    value: "the name of a VM that may see the service",
    default: "with `mode = \"exclusive\"` the first VM that sends to the service, until it leaves; with `\"broadcast\"` \
              nobody; not allowed with others",
    meaning: "The VM that has the exclusive service, or whose messages reach the broadcast service.",
};

pub(in super::super) const SERVICE_TIME_OUT: Key = Key {
    path: "service.time-out",
    kind: Kind::Text,
    value: TIME,
    default: "`\"1s\"`; only with `mode = \"serialized\"`, and not with `reply = \"none\"`",
    meaning: "The longest wait for an answer, after which the next VM has its turn. With `reply = \"several\"`, the \
              silence that ends a turn.",
};

pub(in super::super) const SERVICE_QUARANTINE: Key = Key {
    path: "service.quarantine",
    kind: Kind::Text,
    value: TIME,
    default: "`\"5s\"`; only with `mode = \"serialized\"` and `reply = \"one\"`",
    meaning: "How long after a time-out late answers are dropped before the next turn begins. An answer that is later \
              still is taken for one to the next request.",
};

pub(in super::super) const SERVICE_REPLY: Key = Key {
    path: "service.reply",
    kind: Kind::Text,
    value: "\"one\", \"none\" or \"several\"",
    default: "`\"one\"`; only with `mode = \"serialized\"`",
    meaning: "What ends a turn: the first answer, the request itself because there is no answer, or silence.",
};

pub(in super::super) const SERVICE_UNSOLICITED: Key = Key {
    path: "service.unsolicited",
    kind: Kind::Text,
    value: "\"drop\", \"all\" or the name of a VM that may see the service",
    default: "`\"drop\"`; only with `mode = \"serialized\"`",
    meaning: "Who gets messages that nobody has asked for: nobody, every VM that has sent to the service, or one VM.",
};

pub(in super::super) const SERVICE_ADDRESS: Key = Key {
    path: "service.address",
    kind: Kind::Integer,
    value: "a remote address from 0 to 0xfffffffe but 53, that no other table gives to a service of the same remote",
    default: "that of the remote's announcement",
    meaning: "The service's address at the remote, for one that the remote has without announcing it. It is announced \
              to guests as if the remote had, and its `name` is no pattern. A table that says no more than name, \
              remote and address follows the first table that matches its name.",
};
