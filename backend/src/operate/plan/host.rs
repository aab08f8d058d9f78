//! What a plan needs of the host and does not find there. Nothing is opened or touched for that: it is looked for by
//! name, and access(2) tells whether it could be opened.

use std::ffi::OsStr;
use std::fmt::Display;
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{Access, AtFlags, CWD, accessat};

use super::{LinkPlan, MailboxPlan, MemorySource, Plan, RemotePlan};
use crate::causes::Causes;
use crate::operate::sandbox::privileges::Account;
use crate::remote::host::MailboxPart;
use crate::remote::mailbox::UioDevices;
use crate::remote::power::Switch;

impl Plan {
    /// What is not there, or may not be used, on this host now; in words. That need not be wrong: remotes may come up later.
    pub fn missing(&self) -> Vec<String> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let mut host = Host { uio: UioDevices::default(), path: &path, missing: Vec::new() };
        if let Err(error) = Account::resolve(self.user.as_deref()) {
            host.missing.push(Causes(&error).to_string());
        }
        self.remotes.iter().for_each(|remote| host.remote(remote));
        host.missing
    }
}

/// Looks around.
struct Host<'a> {
    uio: UioDevices,
    /// Where programs are, as in the variable `PATH`.
    path: &'a OsStr,
    missing: Vec<String>,
}

impl Host<'_> {
    fn remote(&mut self, remote: &RemotePlan) {
        let name = &remote.name;
        if let LinkPlan::Shared(link) = &remote.link {
            self.mailbox(name, &link.mailbox);
            for memory in &link.memory {
                match &memory.source {
                    MemorySource::File { path, .. } => self.file(name, "memory", path, READ_WRITE),
                    MemorySource::Uio => self.uio(name, "memory", memory.physical_address, memory.size, None),
                }
            }
        }
        if let Some(boot) = &remote.boot {
            if let Some(firmware) = &boot.firmware {
                self.file(name, "firmware", firmware, Access::READ_OK);
            }
            match &boot.switch {
                Switch::Command { start, stop } => {
                    self.program(name, "start", start);
                    self.program(name, "stop", stop);
                }
                Switch::Sysfs { directory, .. } => {
                    self.file(name, "remoteproc", &directory.join("state"), READ_WRITE);
                }
                Switch::Register(register) => self.file(name, "register", &register.file, READ_WRITE),
            }
        }
        if let Some(watchdog) = &remote.watch.watchdog {
            self.file(name, "watchdog", watchdog, READ_WRITE);
        }
        if let Some(directory) = &remote.dump {
            // With a dot behind it nothing but a directory will do.
            self.file(name, "dump", &directory.join("."), Access::WRITE_OK | Access::EXEC_OK);
        }
    }

    fn mailbox(&mut self, remote: &str, mailbox: &MailboxPlan) {
        match mailbox {
            MailboxPlan::Socket(path) => self.file(remote, "doorbell", path, READ_WRITE),
            MailboxPlan::Hardware(mailbox) => {
                for part in [MailboxPart::First, MailboxPart::Second] {
                    if let Some(wanted) = mailbox.registers(part) {
                        self.uio(remote, "mailbox", wanted.address, wanted.size, wanted.name);
                    }
                }
            }
        }
    }

    fn file(&mut self, remote: &str, what: &str, path: &Path, access: Access) {
        if let Err(error) = accessat(CWD, path, access, AtFlags::EACCESS) {
            self.note(remote, what, format_args!("{}: {}", path.display(), io::Error::from(error)));
        }
    }

    /// The UIO device with this physical address.
    fn uio(&mut self, remote: &str, what: &str, address: u64, size: u64, name: Option<&str>) {
        match self.uio.find(address, size, name) {
            Ok(map) => self.file(remote, what, &map.device, READ_WRITE),
            Err(error) => self.note(remote, what, Causes(&error)),
        }
    }

    /// A program as it would be found to be run.
    fn program(&mut self, remote: &str, what: &str, command: &[String]) {
        let Some(program) = command.first() else { return };
        if program.contains('/') {
            return self.file(remote, what, Path::new(program), Access::EXEC_OK);
        }
        let candidates = std::env::split_paths(self.path).map(|directory: PathBuf| directory.join(program));
        let is_there = |path: PathBuf| accessat(CWD, path, Access::EXEC_OK, AtFlags::EACCESS).is_ok();
        if !candidates.into_iter().any(is_there) {
            self.note(remote, what, format_args!("{program}: no such program in PATH"));
        }
    }

    fn note(&mut self, remote: &str, what: &str, why: impl Display) {
        let note = format!("remote {remote}: {what}: {why}");
        // Both controllers of a machine without UIO lack the same.
        if !self.missing.contains(&note) {
            self.missing.push(note);
        }
    }
}

const READ_WRITE: Access = Access::READ_OK.union(Access::WRITE_OK);

#[cfg(test)]
mod tests;
