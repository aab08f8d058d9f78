//! Keys of the mailbox of a remote core behind UIO.

use super::{Key, Kind, REQUIRED};

pub(in super::super) const MAILBOX: Key = Key {
    path: "remote.mailbox",
    kind: Kind::Table,
    value: "a table [remote.mailbox]",
    default: "what the device tree says; required without it with `link = \"uio\"`, not allowed otherwise",
    meaning: "The mailbox of the remote. Its registers are found among the UIO devices by their physical address; keys of other \
              kinds of mailbox than `kind` are not allowed.",
};

pub(in super::super) const MAILBOX_KIND: Key = Key {
    path: "remote.mailbox.kind",
    kind: Kind::Text,
    value: "\"imx-mu\", \"imx-mu-v2\", \"stm32-ipcc\", \"omap-mailbox\", \"omap2-mailbox\" or \"zynqmp-ipi\"",
    default: REQUIRED,
    meaning: "The family of the mailbox. `\"imx-mu\"`: NXP i.MX 6SX, 7, 8M; `\"imx-mu-v2\"`: 8ULP, 93, 95. \
              `\"stm32-ipcc\"`: ST STM32MP1, MP2. `\"omap-mailbox\"`: TI OMAP4 and later, AM6, K3; \
              `\"omap2-mailbox\"`: OMAP2, OMAP3. `\"zynqmp-ipi\"`: AMD/Xilinx Zynq UltraScale+, Versal.",
};

pub(in super::super) const MAILBOX_ADDRESS: Key = Key {
    path: "remote.mailbox.address",
    kind: Kind::Integer,
    value: "a physical address, 0 or more",
    default: REQUIRED,
    meaning: "Where its registers are; with `\"zynqmp-ipi\"` those of the host's channel.",
};

pub(in super::super) const MAILBOX_CHANNEL: Key = Key {
    path: "remote.mailbox.channel",
    kind: Kind::Integer,
    value: "a number from 0 to 3",
    default: "1",
    meaning: "`\"imx-mu\"` and `\"imx-mu-v2\"`: the channel of kicks and of the remote's doorbell.",
};

pub(in super::super) const MAILBOX_WORD: Key = Key {
    path: "remote.mailbox.word",
    kind: Kind::Text,
    value: "\"shifted\" or \"plain\"",
    default: "`\"shifted\"`",
    meaning: "`\"imx-mu\"` and `\"imx-mu-v2\"`: whether a kick is the notifyid in the upper half of a word \
              (Cortex-M) or as it is (DSP).",
};

pub(in super::super) const MAILBOX_PROCESSOR: Key = Key {
    path: "remote.mailbox.processor",
    kind: Kind::Integer,
    value: "0 or 1",
    default: "0",
    meaning: "`\"stm32-ipcc\"`: which of the two processors the host is (`st,proc-id`).",
};

pub(in super::super) const MAILBOX_CHANNELS: Key = Key {
    path: "remote.mailbox.channels",
    kind: Kind::Integers,
    value: "numbers from 0 to 15, each of them once, two for each device",
    default: "`[0, 1]`",
    meaning: "`\"stm32-ipcc\"`: the channels of the vrings with notifyid 0, 1 and so on (`vq0`, `vq1`). Device N of the \
              resource table, those that are not rpmsg's included, has notifyids 2N and 2N+1.",
};

pub(in super::super) const MAILBOX_SHUT_DOWN: Key = Key {
    path: "remote.mailbox.shut-down",
    kind: Kind::Integer,
    value: "a number from 0 to 15 that is no other channel",
    default: "the remote is not told",
    meaning: "`\"stm32-ipcc\"`: the channel by which the remote is told to shut down (`shutdown`).",
};

pub(in super::super) const MAILBOX_DETACH: Key = Key {
    path: "remote.mailbox.detach",
    kind: Kind::Integer,
    value: "a number from 0 to 15 that is no other channel",
    default: "the remote is not told",
    meaning: "`\"stm32-ipcc\"`: the channel by which the remote is told that the host lets go of it (`detach`).",
};

pub(in super::super) const MAILBOX_RECEIVE_DEVICE: Key = Key {
    path: "remote.mailbox.receive-device",
    kind: Kind::Text,
    value: "the name of a UIO device, as in its file `name` in sysfs",
    default: "any with the address",
    meaning: "`\"stm32-ipcc\"`: the device whose interrupt tells that a channel is occupied, where each interrupt \
              has a device of its own.",
};

pub(in super::super) const MAILBOX_TRANSMIT_DEVICE: Key = Key {
    path: "remote.mailbox.transmit-device",
    kind: Kind::Text,
    value: "the name of a UIO device, as in its file `name` in sysfs",
    default: "none: whether a channel is free is looked at by a timer",
    meaning: "`\"stm32-ipcc\"`: the device whose interrupt tells that a channel is free.",
};

pub(in super::super) const MAILBOX_RECEIVE_FIFO: Key = Key {
    path: "remote.mailbox.receive-fifo",
    kind: Kind::Integer,
    value: "a number from 0 to 15",
    default: "required with `\"omap-mailbox\"` and `\"omap2-mailbox\"`",
    meaning: "The FIFO that the host reads (first number of `ti,mbox-rx`).",
};

pub(in super::super) const MAILBOX_TRANSMIT_FIFO: Key = Key {
    path: "remote.mailbox.transmit-fifo",
    kind: Kind::Integer,
    value: "a number from 0 to 15 other than `receive-fifo`",
    default: "required with `\"omap-mailbox\"` and `\"omap2-mailbox\"`",
    meaning: "The FIFO that the host writes (first number of `ti,mbox-tx`).",
};

pub(in super::super) const MAILBOX_USER: Key = Key {
    path: "remote.mailbox.user",
    kind: Kind::Integer,
    value: "a number from 0 to 3",
    default: "0",
    meaning: "`\"omap-mailbox\"` and `\"omap2-mailbox\"`: the user whose interrupt is the host's (third number of \
              `ti,mbox-rx`).",
};

pub(in super::super) const MAILBOX_REQUEST_BUFFER: Key = Key {
    path: "remote.mailbox.request-buffer",
    kind: Kind::Integer,
    value: "a physical address, 0 or more",
    default: "required with `\"zynqmp-ipi\"`",
    meaning: "Where the buffer for messages to the remote is.",
};

pub(in super::super) const MAILBOX_REMOTE_BIT: Key = Key {
    path: "remote.mailbox.remote-bit",
    kind: Kind::Integer,
    value: "a number from 0 to 31",
    default: "required with `\"zynqmp-ipi\"`",
    meaning: "The bit of the remote in the registers.",
};
