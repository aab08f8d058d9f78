//! The file as serde sees it. What the keys mean is said in [`super::keys`], and a test holds the two together.

use serde::Deserialize;
use toml::Spanned;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct File {
    pub(super) control: Option<Spanned<String>>,
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
    pub(super) attach_after: Option<Spanned<String>>,
    pub(super) address_bits: Option<Spanned<i64>>,
    #[serde(default)]
    pub(super) memory: Vec<Spanned<Memory>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Memory {
    pub(super) path: Spanned<String>,
    pub(super) offset: Option<Spanned<i64>>,
    pub(super) size: Spanned<i64>,
    pub(super) device_address: Spanned<i64>,
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
