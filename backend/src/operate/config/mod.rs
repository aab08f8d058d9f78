//! The configuration file: TOML in, [`Plan`] out, and an error that names file, line and key for all that is wrong.
//!
//! serde takes the file apart (`raw`), `resolve` checks what it says and how it fits together, and both speak of a key
//! with the words of `keys`, from which `backend/docs/configuration.md` is made too.

mod keys;
mod raw;
mod resolve;
#[cfg(test)]
mod tests;

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use thiserror::Error;

use super::plan::Plan;

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
#[error("{}:{line}: key {key}: expected {expected}, found {found}{}", file.display(), behind(remedy.as_deref()))]
pub struct KeyError {
    /// The file.
    pub file: PathBuf,
    /// Where, counted from 1: the value, or the head of the table that lacks it.
    pub line: usize,
    /// The key with its tables, such as `remote.memory.size`.
    pub key: String,
    /// What would be right.
    pub expected: String,
    /// What is there.
    pub found: String,
    /// What to do about it, where that is not plain from the rest.
    pub remedy: Option<String>,
}

/// A [`KeyError`] that does not yet know its file: its place is an offset in the text.
#[derive(Debug)]
struct Fault {
    at: usize,
    key: String,
    expected: String,
    found: String,
    remedy: Option<String>,
}

/// Reads a configuration file and resolves it.
///
/// # Errors
/// A file that cannot be read or is no TOML; a key that is unknown, missing or has a wrong value; values that do not fit
/// together. The first one found is reported.
pub fn load(file: &Path) -> Result<Plan, ConfigError> {
    let text =
        fs::read_to_string(file).map_err(|source| ConfigError::Read { file: file.to_owned(), source })?;
    parse(file, &text)
}

/// Resolves the text of a configuration; `file` is what errors call it.
fn parse(file: &Path, text: &str) -> Result<Plan, ConfigError> {
    let document = toml::Deserializer::parse(text).map_err(|error| ConfigError::Syntax {
        file: file.to_owned(),
        line: line_at(text, error.span().map_or(0, |span| span.start)),
        message: error.message().to_owned(),
    })?;
    serde_path_to_error::deserialize(document)
        .map_err(|error| from_serde(text, &error))
        .and_then(|raw| resolve::resolve(&raw, text, rustix::param::page_size() as u64))
        .map_err(|fault| {
            ConfigError::Key(Box::new(KeyError {
                file: file.to_owned(),
                line: line_at(text, fault.at),
                key: fault.key,
                expected: fault.expected,
                found: fault.found,
                remedy: fault.remedy,
            }))
        })
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

    fn expected(mut self, expected: impl Into<String>) -> Self {
        self.expected = expected.into();
        self
    }

    fn remedy(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = Some(remedy.into());
        self
    }
}
