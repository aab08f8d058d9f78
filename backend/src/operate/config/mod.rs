//! The configuration file: TOML in, [`Plan`] out, and an error that names file, line and key for all that is wrong.
//!
//! serde takes the file apart (`raw`), `resolve` checks what it says and how it fits together, and both speak of a key
//! with the words of `keys`, from which `backend/docs/configuration.md` is made too.

mod keys;
mod raw;
mod resolve;
mod sources;
#[cfg(test)]
mod tests;

use std::{
    io,
    path::{Path, PathBuf},
};

use thiserror::Error;

use self::keys::Key;
pub use self::sources::Sources;
use super::plan::{Plan, VmPlan};
use crate::bridge::policy::Rule;
use crate::rpmsg::address::Slot;

/// Why a configuration file cannot be used.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the configuration {}", file.display())]
    Read {
        /// The file.
        file: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file is no TOML.
    #[error("{}:{line}: not TOML: {message}", file.display())]
    Syntax {
        /// The file.
        file: PathBuf,
        /// Where, counted from 1.
        line: usize,
        /// What the TOML parser says.
        message: String,
    },
    /// A key or its value is not what it has to be.
    #[error(transparent)]
    Key(Box<KeyError>),
}

/// A key that is unknown, missing, or has a value that cannot be used.
#[derive(Debug, Error)]
#[error("{}key {key}: expected {expected}, found {found}{}", before(place.as_ref()), behind(remedy.as_deref()))]
pub struct KeyError {
    /// The file, and the line in it, counted from 1, of the value or of the head of the table that lacks it. `None`
    /// for what does not come from a file.
    pub place: Option<(PathBuf, usize)>,
    /// The key with its tables, such as `remote.memory.size`.
    pub key: String,
    /// What would be right.
    pub expected: String,
    /// What is there.
    pub found: String,
    /// What to do about it, where that is not plain from the rest.
    pub remedy: Option<String>,
}

/// A [`KeyError`] that does not know its file: its place is an offset in the text.
#[derive(Debug)]
struct Fault {
    at: usize,
    key: String,
    expected: String,
    found: String,
    remedy: Option<String>,
}

/// Reads a configuration file and resolves it, with the files that it names.
///
/// # Errors
/// A file that cannot be read or is no TOML; a key that is unknown, missing or has a wrong value; values that do not fit
/// together. The first one found is reported.
pub fn load(file: &Path, sources: &Sources) -> Result<Plan, ConfigError> {
    let text =
        sources.read_text(file).map_err(|source| ConfigError::Read { file: file.to_owned(), source })?;
    parse(file, &text, sources)
}

/// Resolves the text of a configuration; `file` is what errors call it.
fn parse(file: &Path, text: &str, sources: &Sources) -> Result<Plan, ConfigError> {
    let document = toml::Deserializer::parse(text).map_err(|error| ConfigError::Syntax {
        file: file.to_owned(),
        line: line_at(text, error.span().map_or(0, |span| span.start)),
        message: error.message().to_owned(),
    })?;
    let fault = match from_toml(document, text) {
        Ok(raw) => match resolve::resolve(&raw, text, sources, rustix::param::page_size() as u64) {
            Ok(plan) => return Ok(plan),
            Err(fault) => fault,
        },
        Err(fault) => fault,
    };
    let place = Some((file.to_owned(), line_at(text, fault.at)));
    Err(ConfigError::Key(Box::new(fault.at_place(place))))
}

/// A slot at a remote, by its number, that is kept for the VM of this name.
pub type KeptSlot = (usize, Slot, String);

/// Resolves a VM with the keys of a table `[[vm]]` that is to be served beside `served`, by a program that was started
/// with `configured`.
///
/// # Errors
/// As in a file; and a name, slot or socket that is in use, or a slot that is kept for a VM of the configuration.
pub fn one_more_vm(
    keys: toml::Table,
    configured: &Plan,
    served: &[VmPlan],
    kept: &[KeptSlot],
) -> Result<VmPlan, Box<KeyError>> {
    one_more(&keys::VM, keys, |raw, text| {
        let mut vms = resolve::resolve_more(raw, text, configured, served, kept)?;
        vms.pop().ok_or_else(|| Fault::new(&keys::VM, 0, "none"))
    })
}

/// Resolves the rules that the keys of a table `[[service]]` make for the services of remotes, by their number, of a program that was
/// started with `configured` and serves these VMs.
///
/// # Errors
/// As in a file; and an `address`: what a remote has without announcing it is not known at run time.
pub fn service_rules(
    keys: toml::Table,
    configured: &Plan,
    served: &[VmPlan],
) -> Result<Vec<(usize, Rule)>, Box<KeyError>> {
    one_more(&keys::SERVICE, keys, |raw, text| resolve::resolve_rules(raw, text, configured, served))
}

/// Resolves one table more.
fn one_more<T>(
    key: &Key,
    keys: toml::Table,
    resolve: impl FnOnce(&raw::File, &str) -> Result<T, Fault>,
) -> Result<T, Box<KeyError>> {
    // By way of a text, so that both ways are checked by the same words.
    let table = toml::Value::Array(vec![toml::Value::Table(keys)]);
    let text = toml::Table::from_iter([(key.path.to_owned(), table)]).to_string();
    let resolved = match toml::Deserializer::parse(&text) {
        Ok(document) => from_toml(document, &text).and_then(|raw| resolve(&raw, &text)),
        Err(error) => Err(Fault::new(key, 0, error.message())),
    };
    resolved.map_err(|fault| Box::new(fault.at_place(None)))
}

/// The keys of a table.
#[cfg(test)]
pub(super) fn keys_of(table: &str) -> Vec<&'static str> {
    keys::KEYS
        .into_iter()
        .map(keys::Key::split)
        .filter(|(its, _)| *its == table)
        .map(|(_, key)| key)
        .collect()
}

fn from_toml(document: toml::Deserializer<'_>, text: &str) -> Result<raw::File, Fault> {
    serde_path_to_error::deserialize(document).map_err(|error| from_serde(text, &error))
}

/// Says in the words of [`keys`] what serde objects to.
fn from_serde(text: &str, error: &serde_path_to_error::Error<toml::de::Error>) -> Fault {
    let span = error.inner().span().unwrap_or_default();
    let message = error.inner().message();
    let mut path = key_path(error.path());
    if let Some(name) = message.strip_prefix("missing field `").and_then(|rest| rest.strip_suffix('`')) {
        if !path.is_empty() {
            path.push('.');
        }
        path.push_str(name);
        return match keys::find(&path) {
            Some(key) => Fault::new(key, span.start, "nothing"),
            None => Fault::of(path, span.start, "a value", "nothing"),
        };
    }
    if message.starts_with("unknown field ") {
        let table = path.rsplit_once('.').map_or("", |(table, _)| table);
        let expected = format!("one of {}", keys::names_in(table));
        return Fault::of(path, span.start, expected, "a key that is not known");
    }
    let found = text.get(span.clone()).unwrap_or_default();
    let found = found.lines().next().unwrap_or_default();
    match keys::find(&path) {
        Some(key) => Fault::of(path, span.start, key.value_with_type(), found),
        None => Fault::of(path, span.start, message, found),
    }
}

/// The path of a key as people write it: without indexes, and without what [`toml::Spanned`] puts into it.
fn key_path(path: &serde_path_to_error::Path) -> String {
    let names: Vec<_> = path
        .iter()
        .filter_map(|segment| match segment {
            serde_path_to_error::Segment::Map { key } if !key.starts_with("$__") => Some(key.as_str()),
            _ => None,
        })
        .collect();
    names.join(".")
}

/// Number of the line, from 1, that holds the byte at `at`.
fn line_at(text: &str, at: usize) -> usize {
    1 + text.bytes().take(at).filter(|byte| *byte == b'\n').count()
}

/// A place as the beginning of a message.
fn before(place: Option<&(PathBuf, usize)>) -> String {
    place.map_or_else(String::new, |(file, line)| format!("{}:{line}: ", file.display()))
}

/// A remedy as the end of a message.
fn behind(remedy: Option<&str>) -> String {
    remedy.map_or_else(String::new, |remedy| format!("; {remedy}"))
}

impl Fault {
    /// A value that is not what its key says it has to be.
    fn new(key: &keys::Key, at: usize, found: impl Into<String>) -> Self {
        Self::of(key.path, at, key.value, found)
    }

    fn of(key: impl Into<String>, at: usize, expected: impl Into<String>, found: impl Into<String>) -> Self {
        Fault { at, key: key.into(), expected: expected.into(), found: found.into(), remedy: None }
    }

    fn at_place(self, place: Option<(PathBuf, usize)>) -> KeyError {
        let Fault { at: _, key, expected, found, remedy } = self;
        KeyError { place, key, expected, found, remedy }
    }

    fn expected(mut self, expected: impl Into<String>) -> Self {
        self.expected = expected.into();
        self
    }

    fn remedy(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = Some(remedy.into());
        self
    }
}
