//! Keys of a remote core.

use super::{Key, Kind, REQUIRED, SOCKET, TIME};

const WITH_SOCKET: &str = "required with `link = \"socket\"`, not allowed otherwise";
const PHYSICAL: &str = "a physical address, 0 or more";

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
    value: "\"uio\", \"socket\" or \"loopback\"",
    default: REQUIRED,
    meaning: "How the core is reached. `\"uio\"`: hardware, by the registers of its mailbox and memory at physical \
              addresses, through Linux's UIO devices. `\"socket\"`: another process or an emulator, over a file mapped \
              shared and a unix stream socket on which every byte is a doorbell. `\"loopback\"`: the core built into \
              this program, for trying things out; it takes only `name`, `link` and `address-bits`.",
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
    default: "that of the firmware which this program loads (`remote.boot.firmware` without `remoteproc`), or what the \
              device tree says; required without these, unless there are `remote.vrings`",
    meaning: "Where the remote has its resource table, as the remote addresses its memory. It lies in one of the \
              regions of `remote.memory`.",
};

pub(in super::super) const TABLE_HEADER: Key = Key {
    path: "remote.resource-table-header",
    kind: Kind::Integer,
    value: "a device address, a multiple of 8 from 0 to 0xfffffff8",
    default: "none",
    meaning: "In place of `resource-table`: where the header is that has the table's address, as on the ZynqMP (Linux's \
              `struct rsc_tbl_data`).",
};

pub(in super::super) const TABLE_REGISTER: Key = Key {
    path: "remote.resource-table-register",
    kind: Kind::Integer,
    value: "a physical address, a multiple of 4",
    default: "none",
    meaning: "In place of `resource-table`: the register of the host's that has the table's device address, as on the \
              STM32 (`st,syscfg-rsc-tbl`). It is read through `/dev/mem`.",
};

pub(in super::super) const DEVICE_TREE: Key = Key {
    path: "remote.device-tree",
    kind: Kind::Text,
    value: "the path of a compiled device tree, such as \"/sys/firmware/fdt\"",
    default: "none; required with `node`",
    meaning: "What it says of the remote stands for `memory`, `mailbox` and where the resource table or the vrings are. A \
              region of the file replaces the one of the tree that has its name; with `link = \"socket\"` it needs a \
              `path`, and takes addresses and size from the tree. `check` prints what was found.",
};

pub(in super::super) const NODE: Key = Key {
    path: "remote.node",
    kind: Kind::Text,
    value: "a path, a label or an alias of a node of a kind that is known",
    default: "none; required with `device-tree`",
    meaning: "The node of the remote in the device tree.",
};

pub(in super::super) const REMOTE_ATTACH_AFTER: Key = Key {
    path: "remote.attach-after",
    kind: Kind::Text,
    value: TIME,
    default: "never, unless the mailbox has no word for asking: then at once",
    meaning: "After this time without an answer, a remote that says neither \"ready\" nor \"running\" on its doorbell \
              mailbox is attached by what its resource table and status say.",
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
    default: "required, unless the link is `\"loopback\"` or there is a `device-tree`",
    meaning: "A region of memory that the remote core and this program share.",
};

pub(in super::super) const MEMORY_PATH: Key = Key {
    path: "remote.memory.path",
    kind: Kind::Text,
    value: "the path of a file",
    default: "the UIO device that maps `physical-address`; required with `link = \"socket\"`",
    meaning: "The file to be mapped shared. `/dev/mem` does where no UIO device maps the memory.",
};

pub(in super::super) const MEMORY_OFFSET: Key = Key {
    path: "remote.memory.offset",
    kind: Kind::Integer,
    value: "a number of bytes, 0 or a multiple of the page size",
    default: "0; with `/dev/mem` the physical address",
    meaning: "Where the region starts in the file.",
};

pub(in super::super) const MEMORY_SIZE: Key = Key {
    path: "remote.memory.size",
    kind: Kind::Integer,
    value: "a number of bytes, 1 or more",
    default: "that of the region with its name in the device tree; required without it",
    meaning: "Size of the region. The file must be at least `offset` + `size` long, and the region must end at device \
              address 2^32 at the latest.",
};

pub(in super::super) const MEMORY_DEVICE_ADDRESS: Key = Key {
    path: "remote.memory.device-address",
    kind: Kind::Integer,
    value: "a device address, a multiple of 16 from 0 to 0xfffffff0",
    default: "`physical-address`; required without it",
    meaning: "Where the remote core sees the region.",
};

pub(in super::super) const MEMORY_PHYSICAL_ADDRESS: Key = Key {
    path: "remote.memory.physical-address",
    kind: Kind::Integer,
    value: PHYSICAL,
    default: "`device-address`; required with `link = \"uio\"`",
    meaning: "Where the host has the region: by this address its UIO device is found, and descriptors in the vrings name \
              the buffers.",
};

pub(in super::super) const MEMORY_NAME: Key = Key {
    path: "remote.memory.name",
    kind: Kind::Text,
    value: "a name of letters, digits, '_', '-' and '.' that no other region of the remote has",
    default: "none: vrings and buffers may be placed there",
    meaning: "What the region is for. `vdevNvring0`, `vdevNvring1` and `vdevNbuffer` (N is the number of the device in the \
              resource table) are for just that; in a region with any other name nothing is placed. Regions for \
              firmware need a name.",
};

pub(in super::super) const VRINGS: Key = Key {
    path: "remote.vrings",
    kind: Kind::Table,
    value: "a table [remote.vrings]",
    default: "the resource table says where they are",
    meaning: "Vrings at fixed places, for firmware without a resource table: that of i.MX boards and rpmsg-lite. Device N \
              has its vrings at `address` + N * 0x10000 and 0x8000 further, aligned to 0x1000, with notifyids 2N and 2N+1.",
};

pub(in super::super) const VRINGS_ADDRESS: Key = Key {
    path: "remote.vrings.address",
    kind: Kind::Integer,
    value: "a device address, a multiple of 0x1000 from which on the vrings lie below 2^32",
    default: REQUIRED,
    meaning: "Where the first vring is.",
};

pub(in super::super) const VRINGS_DEVICES: Key = Key {
    path: "remote.vrings.devices",
    kind: Kind::Integer,
    value: "a number from 1 to 8",
    default: "1",
    meaning: "How many rpmsg devices there are.",
};

pub(in super::super) const VRINGS_DESCRIPTORS: Key = Key {
    path: "remote.vrings.descriptors",
    kind: Kind::Integer,
    value: "a power of two from 2 to 1024",
    default: "256",
    meaning: "Descriptors of each vring, as the firmware was compiled (rpmsg-lite: `RL_BUFFER_COUNT`).",
};

pub(in super::super) const HEARTBEAT: Key = Key {
    path: "remote.heartbeat",
    kind: Kind::Text,
    value: TIME,
    default: "none is asked for",
    meaning: "The remote is asked this often whether it is well, where its mailbox has a word for that. One that has not \
              answered when the next question is due has crashed.",
};

pub(in super::super) const HANG_AFTER: Key = Key {
    path: "remote.hang-after",
    kind: Kind::Text,
    value: TIME,
    default: "it is not looked for",
    meaning: "A remote that has messages and has neither consumed nor sent one for this long is asked whether it is well, \
              and has crashed if it does not answer for as long again. Where its mailbox has no word for that, it has \
              crashed if all its buffers are full and somebody waits for one. One that is slow is left alone.",
};

pub(in super::super) const WATCHDOG: Key = Key {
    path: "remote.watchdog",
    kind: Kind::Text,
    value: "the path of a device, such as \"/dev/uio3\"",
    default: "none",
    meaning: "Becomes readable when the watchdog of the remote has fired: the remote has crashed.",
};

pub(in super::super) const DUMP: Key = Key {
    path: "remote.dump",
    kind: Kind::Text,
    value: "the path of a directory",
    default: "no dump",
    meaning: "Where the remote's memory is written as an ELF core file when it has crashed, before anything is done about \
              that. What happened last is written there too when the process that talks to guests has died.",
};

pub(in super::super) const AFTER: Key = Key {
    path: "remote.after",
    kind: Kind::Texts,
    value: "names of other remotes, of those that stand before this one in the file",
    default: "none; not allowed without `boot`",
    meaning: "Remotes that have to be up before this one is started, and are stopped after it.",
};

pub(in super::super) const BOOT: Key = Key {
    path: "remote.boot",
    kind: Kind::Table,
    value: "a table [remote.boot] with one of `start` and `stop`, `remoteproc`, or `register`",
    default: "somebody else starts the remote",
    meaning: "How the remote is started and stopped by this program.",
};

pub(in super::super) const BOOT_FIRMWARE: Key = Key {
    path: "remote.boot.firmware",
    kind: Kind::Text,
    value: "the path of an ELF file; with `remoteproc` a name for the kernel to look for",
    default: "whatever starts the remote sees to that",
    meaning: "Firmware to be loaded into the memory of the remote before it is started.",
};

pub(in super::super) const BOOT_START: Key = Key {
    path: "remote.boot.start",
    kind: Kind::Texts,
    value: "a program and its arguments",
    default: "required with `stop`",
    meaning: "Starts the remote; no shell is involved. It has 30 s to end.",
};

pub(in super::super) const BOOT_STOP: Key = Key {
    path: "remote.boot.stop",
    kind: Kind::Texts,
    value: "a program and its arguments",
    default: "required with `start`",
    meaning: "Stops the remote, whatever it is doing.",
};

pub(in super::super) const BOOT_REMOTEPROC: Key = Key {
    path: "remote.boot.remoteproc",
    kind: Kind::Text,
    value: "the path of a directory \"/sys/class/remoteproc/remoteprocN\"",
    default: "not by Linux's remoteproc",
    meaning: "Linux's remoteproc loads, starts and stops the remote. The host must not load `virtio_rpmsg_bus`.",
};

pub(in super::super) const BOOT_REGISTER: Key = Key {
    path: "remote.boot.register",
    kind: Kind::Integer,
    value: "a physical address, a multiple of 4",
    default: "not by a register",
    meaning: "A 32-bit register, reached through `/dev/mem`, that starts and stops the remote.",
};

pub(in super::super) const BOOT_MASK: Key = Key {
    path: "remote.boot.mask",
    kind: Kind::Integer,
    value: "a number from 1 to 0xffffffff",
    default: "required with `register`",
    meaning: "Bits of the register that are written.",
};

pub(in super::super) const BOOT_START_VALUE: Key = Key {
    path: "remote.boot.start-value",
    kind: Kind::Integer,
    value: "bits of `mask`",
    default: "required with `register`",
    meaning: "What these bits are for the remote to run.",
};

pub(in super::super) const BOOT_STOP_VALUE: Key = Key {
    path: "remote.boot.stop-value",
    kind: Kind::Integer,
    value: "bits of `mask`",
    default: "required with `register`",
    meaning: "What these bits are for the remote to stand still.",
};

pub(in super::super) const BOOT_WHEN: Key = Key {
    path: "remote.boot.when",
    kind: Kind::Text,
    value: "\"always\" or \"needed\"",
    default: "`\"always\"`",
    meaning: "`\"always\"`: it is on as long as the program runs. `\"needed\"`: it is started when the driver of the first \
              VM comes up, or another remote counts on it (`remote.after`), and stopped after the last.",
};

pub(in super::super) const RECOVERY: Key = Key {
    path: "remote.recovery",
    kind: Kind::Table,
    value: "a table [remote.recovery]",
    default: "as its keys say",
    meaning: "What is done when the remote has crashed.",
};

pub(in super::super) const RECOVERY_POLICY: Key = Key {
    path: "remote.recovery.policy",
    kind: Kind::Text,
    value: "\"reattach\", \"reboot\" or \"off\"",
    default: "`\"reboot\"` with `remote.boot`, else `\"reattach\"`",
    meaning: "`\"reattach\"`: it is attached to when it has booted anew by itself, and goes on where it was if it only has not answered for a while. `\"reboot\"`: it is stopped and started. \
              `\"off\"`: nothing, until it is started over the control socket.",
};

pub(in super::super) const RECOVERY_LIMIT: Key = Key {
    path: "remote.recovery.limit",
    kind: Kind::Integer,
    value: "a number from 1 to 1000000",
    default: "no limit",
    meaning: "After more crashes in a row than this, with less than a minute of good health before each, it is given up \
              until it is started over the control socket.",
};

pub(in super::super) const RECOVERY_BACK_OFF: Key = Key {
    path: "remote.recovery.back-off",
    kind: Kind::Text,
    value: TIME,
    default: "`\"500ms\"`",
    meaning: "Time before the second reboot in a row. The first is immediate; each further one waits twice as long, a \
              minute at most.",
};
