//! The file as serde sees it. What the keys mean is said in [`super::keys`], and a test holds the two together.

use serde::Deserialize;
use toml::Spanned;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct File {
    pub(super) control: Option<Spanned<String>>,
    pub(super) user: Option<Spanned<String>>,
    pub(super) state: Option<Spanned<String>>,
    pub(super) metrics: Option<Spanned<String>>,
    #[serde(default)]
    pub(super) remote: Vec<Spanned<Remote>>,
    #[serde(default)]
    pub(super) vm: Vec<Spanned<Vm>>,
    #[serde(default)]
    pub(super) service: Vec<Spanned<Service>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Remote {
    pub(super) name: Spanned<String>,
    pub(super) link: Spanned<String>,
    pub(super) doorbell: Option<Spanned<String>>,
    pub(super) resource_table: Option<Spanned<i64>>,
    pub(super) resource_table_header: Option<Spanned<i64>>,
    pub(super) resource_table_register: Option<Spanned<i64>>,
    pub(super) device_tree: Option<Spanned<String>>,
    pub(super) node: Option<Spanned<String>>,
    pub(super) attach_after: Option<Spanned<String>>,
    pub(super) address_bits: Option<Spanned<i64>>,
    pub(super) heartbeat: Option<Spanned<String>>,
    pub(super) hang_after: Option<Spanned<String>>,
    pub(super) watchdog: Option<Spanned<String>>,
    pub(super) dump: Option<Spanned<String>>,
    #[serde(default)]
    pub(super) after: Vec<Spanned<String>>,
    #[serde(default)]
    pub(super) memory: Vec<Spanned<Memory>>,
    pub(super) mailbox: Option<Spanned<Mailbox>>,
    pub(super) vrings: Option<Spanned<Vrings>>,
    pub(super) boot: Option<Spanned<Boot>>,
    pub(super) recovery: Option<Spanned<Recovery>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Memory {
    pub(super) path: Option<Spanned<String>>,
    pub(super) offset: Option<Spanned<i64>>,
    pub(super) size: Option<Spanned<i64>>,
    pub(super) device_address: Option<Spanned<i64>>,
    pub(super) physical_address: Option<Spanned<i64>>,
    pub(super) name: Option<Spanned<String>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Mailbox {
    pub(super) kind: Spanned<String>,
    pub(super) address: Spanned<i64>,
    pub(super) channel: Option<Spanned<i64>>,
    pub(super) word: Option<Spanned<String>>,
    pub(super) processor: Option<Spanned<i64>>,
    pub(super) channels: Option<Vec<Spanned<i64>>>,
    pub(super) shut_down: Option<Spanned<i64>>,
    pub(super) detach: Option<Spanned<i64>>,
    pub(super) receive_device: Option<Spanned<String>>,
    pub(super) transmit_device: Option<Spanned<String>>,
    pub(super) receive_fifo: Option<Spanned<i64>>,
    pub(super) transmit_fifo: Option<Spanned<i64>>,
    pub(super) user: Option<Spanned<i64>>,
    pub(super) request_buffer: Option<Spanned<i64>>,
    pub(super) remote_bit: Option<Spanned<i64>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Vrings {
    pub(super) address: Spanned<i64>,
    pub(super) devices: Option<Spanned<i64>>,
    pub(super) descriptors: Option<Spanned<i64>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Boot {
    pub(super) firmware: Option<Spanned<String>>,
    pub(super) when: Option<Spanned<String>>,
    pub(super) start: Option<Spanned<Vec<String>>>,
    pub(super) stop: Option<Spanned<Vec<String>>>,
    pub(super) remoteproc: Option<Spanned<String>>,
    pub(super) register: Option<Spanned<i64>>,
    pub(super) mask: Option<Spanned<i64>>,
    pub(super) start_value: Option<Spanned<i64>>,
    pub(super) stop_value: Option<Spanned<i64>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Recovery {
    pub(super) policy: Option<Spanned<String>>,
    pub(super) limit: Option<Spanned<i64>>,
    pub(super) back_off: Option<Spanned<String>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Vm {
    pub(super) name: Spanned<String>,
    pub(super) socket: Spanned<String>,
    pub(super) mode: Option<Spanned<String>>,
    pub(super) group: Option<Spanned<String>>,
    pub(super) slot: Option<Spanned<i64>>,
    pub(super) remote: Option<Spanned<String>>,
    pub(super) device: Option<Spanned<i64>>,
    #[serde(default)]
    pub(super) addresses: Vec<Spanned<i64>>,
    #[serde(default)]
    pub(super) strict: bool,
    pub(super) overflow: Option<Spanned<String>>,
    pub(super) weight: Option<Spanned<i64>>,
    pub(super) messages_per_second: Option<Spanned<i64>>,
    pub(super) bytes_per_second: Option<Spanned<i64>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Service {
    pub(super) name: Spanned<String>,
    pub(super) remote: Option<Spanned<String>>,
    pub(super) mode: Option<Spanned<String>>,
    pub(super) vms: Option<Vec<Spanned<String>>>,
    pub(super) owner: Option<Spanned<String>>,
    pub(super) time_out: Option<Spanned<String>>,
    pub(super) quarantine: Option<Spanned<String>>,
    pub(super) reply: Option<Spanned<String>>,
    pub(super) unsolicited: Option<Spanned<String>>,
    pub(super) address: Option<Spanned<i64>>,
}
