//! From what the file says to a [`Plan`]: every value in its range, and all of them fitting together.

mod remotes;
mod services;
mod values;
mod vms;

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
};

use toml::Spanned;

use self::values::{absent, bytes, choice, device_address, number, remote_address, start, time};
use super::{Fault, keys, keys::Key, line_at, raw};
use crate::operate::plan::{Plan, RemotePlan, socket_path_fault};

/// What is known while a file is resolved. Places are offsets in the text.
struct Resolver<'a> {
    text: &'a str,
    page_size: u64,
    /// Every socket path so far, and where it stands.
    sockets: HashMap<PathBuf, usize>,
}

/// Resolves a file; `text` is what its spans point into, `page_size` the host's in bytes.
pub(super) fn resolve(file: &raw::File, text: &str, page_size: u64) -> Result<Plan, Fault> {
    let mut resolver = Resolver { text, page_size, sockets: HashMap::new() };
    let control = file.control.as_ref().map(|path| resolver.socket(&keys::CONTROL, path)).transpose()?;
    let mut remotes = resolver.remotes(&file.remote)?;
    let vms = resolver.vms(&file.vm, &remotes, control.is_some())?;
    resolver.services(&file.service, &mut remotes, &vms)?;
    Ok(Plan { control, remotes, vms })
}

impl Resolver<'_> {
    /// Checks a name, and that it is nobody else's.
    fn name(
        &self,
        key: &Key,
        name: &Spanned<String>,
        names: &mut HashMap<String, usize>,
    ) -> Result<String, Fault> {
        let value = name.get_ref();
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte);
        if value.is_empty() || !value.bytes().all(allowed) {
            return Err(Fault::new(key, start(name), format!("{value:?}")));
        }
        match names.insert(value.clone(), start(name)) {
            None => Ok(value.clone()),
            Some(earlier) => Err(self.given_twice(key, start(name), &format!("{value:?}"), earlier)),
        }
    }

    /// Checks the path of a socket, and that nothing else uses it.
    fn socket(&mut self, key: &Key, path: &Spanned<String>) -> Result<PathBuf, Fault> {
        let value = Path::new(path.get_ref());
        if let Some(found) = socket_path_fault(value) {
            return Err(Fault::new(key, start(path), found));
        }
        match self.sockets.insert(value.to_owned(), start(path)) {
            None => Ok(value.to_owned()),
            Some(earlier) => {
                let line = line_at(self.text, earlier);
                let found = format!("{:?}, which line {line} uses already", path.get_ref());
                Err(Fault::new(key, start(path), found))
            }
        }
    }

    /// A value that only one may have.
    fn given_twice(&self, key: &Key, at: usize, value: &str, earlier: usize) -> Fault {
        let line = line_at(self.text, earlier);
        Fault::new(key, at, format!("{value}, which line {line} has given already"))
    }
}

/// The remote of this name, an index.
fn named_remote(key: &Key, name: &Spanned<String>, remotes: &[RemotePlan]) -> Result<usize, Fault> {
    remotes.iter().position(|remote| remote.name == *name.get_ref()).ok_or_else(|| {
        Fault::new(key, start(name), format!("{:?}", name.get_ref())).expected(a_remote_of(remotes))
    })
}

fn a_remote_of(remotes: &[RemotePlan]) -> String {
    let names = remotes.iter().map(|remote| remote.name.as_str());
    format!("the name of a remote, of which there are: {}", list(names))
}

/// Names as a list for people.
fn list<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    let names: Vec<_> = names.into_iter().collect();
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}
