//! The file as serde sees it. What the keys mean is said in [`super::keys`], and a test holds the two together.

use serde::Deserialize;
use toml::Spanned;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct File {
    #[serde(default)]
    pub(super) remote: Vec<Spanned<Remote>>,
    #[serde(default)]
    pub(super) vm: Vec<Spanned<Vm>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Remote {
    pub(super) name: Spanned<String>,
    pub(super) link: Spanned<String>,
    pub(super) doorbell: Option<Spanned<String>>,
    pub(super) resource_table: Option<Spanned<i64>>,
    pub(super) attach_after: Option<Spanned<String>>,
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
    pub(super) slot: Option<Spanned<i64>>,
    pub(super) remote: Option<Spanned<String>>,
}
