//! Giving up privileges.
//!
//! The order matters. The bounding set can be emptied only with CAP_SETPCAP, the root directory changed only with
//! CAP_SYS_CHROOT, groups only with CAP_SETGID: all of that while still root. Groups go before the user, who may not
//! change them. What a change of user leaves of capabilities (all of them if there is none, as with
//! `AmbientCapabilities=` of systemd) goes after it. Then the process is made not dumpable, which a change of user has
//! set anew (`fs.suid_dumpable`).

use std::io;

use nix::unistd::{Gid, Uid, User, setgroups, setresgid, setresuid};
use rustix::io::Errno;
use rustix::process::{DumpableBehavior, chdir, chroot, geteuid, getgroups, set_dumpable_behavior};
use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, clear_ambient_capability_set,
    remove_capability_from_bounding_set, set_capabilities, set_no_new_privs,
};
use thiserror::Error;

/// Who the process becomes when it was started by root and nothing is configured.
pub const DEFAULT_USER: &str = "nobody";

/// An unprivileged user and its group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Account {
    user: u32,
    group: u32,
}

/// Why privileges cannot be given up.
#[derive(Debug, Error)]
pub enum PrivilegeError {
    /// There is no such user.
    #[error("expected a user of this host for `user`, found {name:?}, which is none")]
    NoSuchUser {
        /// The name.
        name: String,
    },
    /// The users of the host cannot be read.
    #[error("cannot look up user {name:?}")]
    LookUp {
        /// The name.
        name: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The user is root.
    #[error("expected an unprivileged user for `user`, found {name:?}, which is root")]
    Root {
        /// The name.
        name: String,
    },
    /// Another user is asked for by somebody who cannot become it.
    #[error(
        "cannot become user {wanted}, as this is user {found}; start the program as root, or leave `user` out of the \
         configuration"
    )]
    NotRoot {
        /// The number of the user that is configured.
        wanted: u32,
        /// The number of the user that runs the program.
        found: u32,
    },
    /// The system refuses.
    #[error("cannot {what}")]
    System {
        /// What was to be done.
        what: &'static str,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Something is left of them.
    #[error("expected no privileges after giving them up, found {found}")]
    Left {
        /// What is left.
        found: String,
    },
}

impl Account {
    /// Whom the process is to become: the user that is configured, or [`DEFAULT_USER`] where root has started it. `None`:
    /// it stays who it is. Reads the host's list of users.
    ///
    /// # Errors
    /// A user that does not exist, is root, or that this process cannot become.
    pub fn resolve(configured: Option<&str>) -> Result<Option<Self>, PrivilegeError> {
        let now = geteuid();
        let name = match configured {
            Some(name) => name,
            None if now.is_root() => DEFAULT_USER,
            None => return Ok(None),
        };
        let found = User::from_name(name)
            .map_err(|error| PrivilegeError::LookUp { name: name.to_owned(), source: error.into() })?;
        let Some(user) = found else { return Err(PrivilegeError::NoSuchUser { name: name.to_owned() }) };
        let account = Account { user: user.uid.as_raw(), group: user.gid.as_raw() };
        if account.user == 0 || account.group == 0 {
            return Err(PrivilegeError::Root { name: name.to_owned() });
        }
        match now.as_raw() {
            0 => Ok(Some(account)),
            same if same == account.user => Ok(None),
            found => Err(PrivilegeError::NotRoot { wanted: account.user, found }),
        }
    }
}

/// Gives up all privileges, becoming another user if one is named. Only the calling thread loses its capabilities, so no
/// other may run yet.
///
/// # Errors
/// Whatever the system refuses.
pub fn give_up(account: Option<Account>) -> Result<(), PrivilegeError> {
    let system = |what| move |source: Errno| PrivilegeError::System { what, source: source.into() };
    if let Some(account) = account {
        for capability in CapabilitySet::all().iter() {
            match remove_capability_from_bounding_set(capability) {
                // One that this kernel does not know.
                Ok(()) | Err(Errno::INVAL) => {}
                Err(error) => return Err(system("empty the capability bounding set")(error)),
            }
        }
        empty_root()?;
        become_user(account)?;
    }
    clear_ambient_capability_set().map_err(system("clear the ambient capabilities"))?;
    let none = CapabilitySet::empty();
    let sets = CapabilitySets { effective: none, permitted: none, inheritable: none };
    set_capabilities(None, sets).map_err(system("give up capabilities"))?;
    set_dumpable_behavior(DumpableBehavior::NotDumpable).map_err(system("make the process not dumpable"))?;
    set_no_new_privs(true).map_err(system("set no_new_privs"))?;
    check(account)
}

/// Puts the process into an empty directory that has no name any more, and in which so nothing can be made either.
fn empty_root() -> Result<(), PrivilegeError> {
    let failed = |source| PrivilegeError::System { what: "change to an empty root directory", source };
    let directory = tempfile::tempdir().map_err(failed)?;
    chdir(directory.path()).map_err(|error| failed(error.into()))?;
    directory.close().map_err(failed)?;
    chroot(".").map_err(|error| failed(error.into()))
}

fn become_user(account: Account) -> Result<(), PrivilegeError> {
    let system = |what| move |error: nix::Error| PrivilegeError::System { what, source: error.into() };
    let (user, group) = (Uid::from_raw(account.user), Gid::from_raw(account.group));
    setgroups(&[]).map_err(system("leave all groups"))?;
    setresgid(group, group, group).map_err(system("change the group"))?;
    setresuid(user, user, user).map_err(system("change the user"))
}

/// Looks whether everything is gone.
fn check(account: Option<Account>) -> Result<(), PrivilegeError> {
    let left = |found| Err(PrivilegeError::Left { found });
    let system = |what| move |source: Errno| PrivilegeError::System { what, source: source.into() };
    let sets = capabilities(None).map_err(system("look at the capabilities"))?;
    if !(sets.effective | sets.permitted | sets.inheritable).is_empty() {
        return left(format!("capabilities {sets:?}"));
    }
    let Some(account) = account else { return Ok(()) };
    let groups = getgroups().map_err(system("look at the groups"))?;
    if !groups.is_empty() {
        return left(format!("groups {groups:?}"));
    }
    if geteuid().as_raw() != account.user {
        return left(format!("user {}", geteuid().as_raw()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_not_a_user_or_is_root_is_refused() {
        let refusal = |name| Account::resolve(Some(name)).unwrap_err();
        assert!(matches!(refusal("no such user"), PrivilegeError::NoSuchUser { .. }));
        assert!(matches!(refusal("root"), PrivilegeError::Root { .. }));
    }

    #[test]
    fn root_becomes_nobody_and_others_stay_who_they_are() {
        let account = Account::resolve(None).unwrap();
        assert_eq!(account.is_some(), geteuid().is_root());
    }
}
