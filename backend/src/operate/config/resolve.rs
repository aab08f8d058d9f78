//! From what the file says to a [`Plan`]: every value in its range, and all of them fitting together.

mod boot;
mod mailbox;
mod memory;
mod remotes;
mod services;
mod tree;
mod values;
mod vms;

use std::{
    collections::{BTreeMap, HashMap, hash_map::Entry},
    fmt,
    hash::Hash,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use toml::Spanned;

use self::values::{absent, bytes, choice, device_address, number, path_of, remote_address, start, time};
use super::{Fault, KeptSlot, Sources, keys, keys::Key, line_at, raw};
use crate::{
    bridge::policy::Rule,
    operate::plan::{
        LinkPlan, MailboxPlan, MetricsPlan, Plan, RemotePlan, SharedPlan, VmPlan, VmSocket, socket_path_fault,
    },
    rpmsg::address::Slot,
};

/// The user who has all privileges.
const ROOT: &str = "root";

/// What is known while a file is resolved.
struct Resolver<'a> {
    text: &'a str,
    sources: &'a Sources,
    page_size: u64,
    /// Every socket path so far.
    sockets: HashMap<PathBuf, Holder>,
    /// Every name of a VM so far.
    vm_names: HashMap<String, Holder>,
    /// Every slot so far, by remote.
    slots: HashMap<(usize, Slot), Holder>,
}

/// Who has something that only one can have.
#[derive(Clone, Debug)]
enum Holder {
    /// Something that is said in this line.
    Line(usize),
    /// This VM, which is being served.
    Vm(String),
    /// Nobody now, but it is kept for the VM that the configuration calls so.
    Kept(String),
    /// The program itself.
    Program,
}

/// Resolves a file; `text` is what its spans point into, `page_size` the host's in bytes.
pub(super) fn resolve(
    file: &raw::File,
    text: &str,
    sources: &Sources,
    page_size: u64,
) -> Result<Plan, Fault> {
    let mut resolver = Resolver::new(text, sources, page_size);
    let control = file.control.as_ref().map(|path| resolver.socket(&keys::CONTROL, path)).transpose()?;
    let metrics = file.metrics.as_ref().map(|place| resolver.metrics(place)).transpose()?;
    let mut remotes = resolver.remotes(&file.remote)?;
    let vms = resolver.vms(&file.vm, &remotes, control.is_some())?;
    resolver.services(&file.service, &mut remotes, &vms)?;
    let user = file.user.as_ref().map(user).transpose()?;
    let state = file.state.as_ref().map(|path| path_of(&keys::STATE, path)).transpose()?;
    Ok(Plan { control, user, state, metrics, remotes, vms })
}

/// Resolves a file that names only VMs, which are to be served beside `served`, at the remotes of `configured`.
pub(super) fn resolve_more(
    file: &raw::File,
    text: &str,
    configured: &Plan,
    served: &[VmPlan],
    kept: &[KeptSlot],
) -> Result<Vec<VmPlan>, Fault> {
    let no_files = Sources::of(BTreeMap::new());
    let mut resolver = Resolver::new(text, &no_files, 1);
    for (remote, slot, name) in kept {
        resolver.slots.insert((*remote, *slot), Holder::Kept(name.clone()));
    }
    resolver.hold(configured, served);
    resolver.vms(&file.vm, &configured.remotes, true)
}

/// Resolves a file that names only services, whose rules are to hold at the remotes of `configured` for the VMs that are `served`.
pub(super) fn resolve_rules(
    file: &raw::File,
    text: &str,
    configured: &Plan,
    served: &[VmPlan],
) -> Result<Vec<(usize, Rule)>, Fault> {
    for service in &file.service {
        let address = service.get_ref().address.as_ref().map(start);
        absent(&[(&keys::SERVICE_ADDRESS, address)], "`service set`", "the configuration")?;
    }
    let no_files = Sources::of(BTreeMap::new());
    let mut remotes = configured.remotes.clone();
    remotes.iter_mut().for_each(|remote| remote.policy.rules.clear());
    Resolver::new(text, &no_files, 1).services(&file.service, &mut remotes, served)?;
    let rules = remotes.into_iter().enumerate();
    Ok(rules
        .flat_map(|(remote, plan)| plan.policy.rules.into_iter().map(move |rule| (remote, rule)))
        .collect())
}

impl<'a> Resolver<'a> {
    fn new(text: &'a str, sources: &'a Sources, page_size: u64) -> Self {
        let (sockets, vm_names, slots) = Default::default();
        Resolver { text, sources, page_size, sockets, vm_names, slots }
    }

    /// Takes note of what a program has that is being served.
    fn hold(&mut self, configured: &Plan, served: &[VmPlan]) {
        let doorbells = configured.remotes.iter().filter_map(|remote| match &remote.link {
            LinkPlan::Shared(SharedPlan { mailbox: MailboxPlan::Socket(doorbell), .. }) => Some(doorbell),
            LinkPlan::Shared(_) | LinkPlan::Loopback => None,
        });
        let metrics = match &configured.metrics {
            Some(MetricsPlan::Socket(path)) => Some(path),
            Some(MetricsPlan::Address(_)) | None => None,
        };
        let own = doorbells.chain(&configured.control).chain(metrics);
        self.sockets.extend(own.map(|path| (path.clone(), Holder::Program)));
        // The rules for services know a VM by its slot: nobody else is to come into its rights.
        for vm in &configured.vms {
            if configured.remotes[vm.remote].policy.names(vm.slot) {
                self.slots.insert((vm.remote, vm.slot), Holder::Kept(vm.name.clone()));
            }
        }
        for vm in served {
            let holder = Holder::Vm(vm.name.clone());
            if let VmSocket::Path(path) = &vm.socket {
                self.sockets.insert(path.clone(), holder.clone());
            }
            self.vm_names.insert(vm.name.clone(), holder.clone());
            self.slots.insert((vm.remote, vm.slot), holder);
        }
    }

    /// Where metrics are to be had: at a path that nothing else uses, or at an address that nobody else can reach.
    fn metrics(&mut self, place: &Spanned<String>) -> Result<MetricsPlan, Fault> {
        let text = place.get_ref();
        if text.starts_with('/') {
            return self.socket(&keys::METRICS, place).map(MetricsPlan::Socket);
        }
        match text.parse::<SocketAddr>() {
            Ok(address) if address.ip().is_loopback() => Ok(MetricsPlan::Address(address)),
            _ => Err(Fault::new(&keys::METRICS, start(place), format!("{text:?}"))),
        }
    }

    /// Checks the path of a socket, and that nothing else uses it.
    fn socket(&mut self, key: &Key, path: &Spanned<String>) -> Result<PathBuf, Fault> {
        let value = Path::new(path.get_ref());
        if let Some(found) = socket_path_fault(value) {
            return Err(Fault::new(key, start(path), found));
        }
        take(
            &mut self.sockets,
            value.to_owned(),
            self.text,
            key,
            start(path),
            &format!("{:?}", path.get_ref()),
        )?;
        Ok(value.to_owned())
    }
}

/// The name of a user. Whether there is such a user is for whoever becomes it to find out.
fn user(value: &Spanned<String>) -> Result<String, Fault> {
    let text = value.get_ref();
    if text.is_empty() || text.contains('\0') || text == ROOT {
        return Err(Fault::new(&keys::USER, start(value), format!("{text:?}")));
    }
    Ok(text.clone())
}

/// Checks a name, and that it is nobody else's.
fn name(
    key: &Key,
    name: &Spanned<String>,
    text: &str,
    names: &mut HashMap<String, Holder>,
) -> Result<String, Fault> {
    let value = name.get_ref();
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte);
    if value.is_empty() || !value.bytes().all(allowed) {
        return Err(Fault::new(key, start(name), format!("{value:?}")));
    }
    take(names, value.clone(), text, key, start(name), &format!("{value:?}"))?;
    Ok(value.clone())
}

/// Notes that a value is taken, which is `written` at this place of the text, unless it was before.
fn take<T: Eq + Hash>(
    taken: &mut HashMap<T, Holder>,
    value: T,
    text: &str,
    key: &Key,
    at: usize,
    written: &str,
) -> Result<(), Fault> {
    match taken.entry(value) {
        Entry::Vacant(entry) => {
            entry.insert(Holder::Line(line_at(text, at)));
            Ok(())
        }
        Entry::Occupied(entry) => Err(Fault::new(key, at, format!("{written}, which {}", entry.get()))),
    }
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Holder::Line(line) => write!(f, "line {line} has given already"),
            Holder::Vm(name) => write!(f, "VM {name} has already"),
            Holder::Kept(name) => write!(f, "the configuration keeps for VM {name}"),
            Holder::Program => write!(f, "the program itself uses"),
        }
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
