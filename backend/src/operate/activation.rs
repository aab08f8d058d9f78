//! Sockets that the service manager has opened before it started the program: systemd's socket activation
//! (`sd_listen_fds(3)`).
//!
//! Such a socket is used in place of one that the program would make. Whose it is says its name (`FileDescriptorName=` of the
//! socket unit), which is that of a VM or [`CONTROL`], or else its path. What lies at the path belongs to the service manager:
//! the program neither changes its rights nor removes it.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::os::fd::RawFd;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::path::Path;

use thiserror::Error;

use super::plan::{Plan, VmSocket};
use super::sockets::{SocketError, take_over_listening};

/// What a socket is called that is to be the control socket.
pub const CONTROL: &str = "control";

/// Why the sockets of the service manager cannot be used.
#[derive(Debug, Error)]
pub enum ActivationError {
    /// What the service manager says of them is malformed.
    #[error(
        "expected sockets of the service manager as LISTEN_FDS and LISTEN_FDNAMES say, found something else"
    )]
    Environment(#[source] io::Error),
    /// One of them is no socket to be used.
    #[error("socket {name:?} of the service manager")]
    Socket {
        /// What the service manager calls it.
        name: String,
        /// What is wrong with it.
        #[source]
        source: SocketError,
    },
    /// One of them is nobody's.
    #[error(
        "socket {name:?} of the service manager: expected the name or the path of a socket that is configured, one of {known}; \
         found another; set FileDescriptorName= or ListenStream= in its unit, or configure what it is for"
    )]
    Unknown {
        /// What the service manager calls it.
        name: String,
        /// What is configured.
        known: String,
    },
    /// One of them is for what has a socket already.
    #[error("socket {name:?} of the service manager: expected one socket for {place}, found another")]
    Twice {
        /// What the service manager calls it.
        name: String,
        /// Whose it is.
        place: String,
    },
}

/// The sockets of the service manager, by whose they are.
#[derive(Debug, Default)]
pub struct Passed(BTreeMap<Place, UnixListener>);

/// Whose a socket is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Place {
    Control,
    Vm(String),
}

impl Passed {
    /// What this process was started with. Everything that was passed has to be of use.
    ///
    /// # Errors
    /// A socket that is nobody's, or none on which a front-end can come in.
    pub fn to_this_process(plan: &Plan) -> Result<Self, ActivationError> {
        Passed::sort(plan, sd_notify::listen_fds_with_names().map_err(ActivationError::Environment)?)
    }

    fn sort(plan: &Plan, sockets: impl Iterator<Item = (RawFd, String)>) -> Result<Self, ActivationError> {
        let places = places(plan);
        let mut passed = Passed::default();
        for (fd, name) in sockets {
            // The command line says already whose it is.
            if plan.vms.iter().any(|vm| vm.socket == VmSocket::Fd(fd)) {
                continue;
            }
            let listener = take_over_listening(fd)
                .map_err(|source| ActivationError::Socket { name: name.clone(), source })?;
            let address = listener.local_addr().ok();
            let path = address.as_ref().and_then(SocketAddr::as_pathname);
            let named = places.iter().find(|(place, _)| place.name() == name);
            let found = named.or_else(|| places.iter().find(|(_, own)| path.is_some() && *own == path));
            let Some((place, own)) = found else {
                let known: Vec<_> = places.iter().map(|(place, _)| place.name()).collect();
                return Err(ActivationError::Unknown { name, known: known.join(", ") });
            };
            if own.is_none() || passed.0.insert(place.clone(), listener).is_some() {
                return Err(ActivationError::Twice { name, place: place.to_string() });
            }
        }
        Ok(passed)
    }

    /// The control socket, if it was passed.
    pub(super) fn control(&mut self) -> Option<UnixListener> {
        self.0.remove(&Place::Control)
    }

    /// The socket of a VM, if it was passed.
    pub(super) fn vm(&mut self, name: &str) -> Option<UnixListener> {
        self.0.remove(&Place::Vm(name.to_owned()))
    }
}

/// Who has a socket, and its path where the program would make it.
fn places(plan: &Plan) -> Vec<(Place, Option<&Path>)> {
    let control = plan.control.as_deref().map(|path| (Place::Control, Some(path)));
    let vms = plan.vms.iter().map(|vm| {
        let path = match &vm.socket {
            VmSocket::Path(path) => Some(path.as_path()),
            VmSocket::Fd(_) => None,
        };
        (Place::Vm(vm.name.clone()), path)
    });
    control.into_iter().chain(vms).collect()
}

impl Place {
    fn name(&self) -> &str {
        match self {
            Place::Control => CONTROL,
            Place::Vm(name) => name,
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Control => f.write_str("requests at run time"),
            Place::Vm(name) => write!(f, "vm {name}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd;
    use std::os::unix::net::{UnixDatagram, UnixStream};
    use std::path::PathBuf;

    use tempfile::TempDir;

    use super::*;
    use crate::causes::Causes;

    /// A plan with VMs `vm0` and `vm1` and a control socket, all in a folder of their own.
    fn plan() -> (TempDir, Plan) {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let mut plan = Plan::loopback([VmSocket::Path(path("0")), VmSocket::Path(path("1"))]);
        plan.control = Some(path("requests"));
        (folder, plan)
    }

    fn listener(path: PathBuf) -> UnixListener {
        UnixListener::bind(path).unwrap()
    }

    fn sort(plan: &Plan, sockets: &[(&dyn AsRawFd, &str)]) -> Result<Passed, String> {
        let sockets: Vec<_> = sockets.iter().map(|(fd, name)| (fd.as_raw_fd(), (*name).to_owned())).collect();
        Passed::sort(plan, sockets.into_iter()).map_err(|error| Causes(&error).to_string())
    }

    #[test]
    fn a_socket_belongs_to_whom_its_name_says_and_else_its_path() {
        let (folder, plan) = plan();
        let control = listener(folder.path().join("anywhere"));
        let first = listener(folder.path().join("0"));
        let second = listener(folder.path().join("elsewhere"));
        let sockets: [(&dyn AsRawFd, &str); 3] =
            [(&second, "vm1"), (&first, "x.socket"), (&control, CONTROL)];
        let mut passed = sort(&plan, &sockets).unwrap();
        let path = |listener: Option<UnixListener>| {
            listener.unwrap().local_addr().unwrap().as_pathname().unwrap().to_owned()
        };
        assert_eq!(path(passed.vm("vm0")), folder.path().join("0"));
        assert_eq!(path(passed.vm("vm1")), folder.path().join("elsewhere"));
        assert_eq!(path(passed.control()), folder.path().join("anywhere"));
    }

    #[test]
    fn a_socket_that_is_nobodys_is_refused() {
        let (folder, mut plan) = plan();
        let other = listener(folder.path().join("other"));
        let refusal = |known| {
            format!(
                "socket \"other.socket\" of the service manager: expected the name or the path of a socket that is \
                 configured, one of {known}; found another; set FileDescriptorName= or ListenStream= in its unit, or \
                 configure what it is for"
            )
        };
        assert_eq!(sort(&plan, &[(&other, "other.socket")]).unwrap_err(), refusal("control, vm0, vm1"));
        plan.control = None;
        assert_eq!(sort(&plan, &[(&other, "other.socket")]).unwrap_err(), refusal("vm0, vm1"));
        sort(&plan, &[(&other, CONTROL)]).unwrap_err();
    }

    #[test]
    fn a_second_socket_for_the_same_is_refused() {
        let (folder, mut plan) = plan();
        let (one, other) = (listener(folder.path().join("0")), listener(folder.path().join("x")));
        let expected = "socket \"vm0\" of the service manager: expected one socket for vm vm0, found another";
        assert_eq!(sort(&plan, &[(&one, "unknown"), (&other, "vm0")]).unwrap_err(), expected);
        plan.vms[0].socket = VmSocket::Fd(one.as_raw_fd());
        assert_eq!(sort(&plan, &[(&other, "vm0")]).unwrap_err(), expected);
        // But this is the one that the command line means.
        assert!(sort(&plan, &[(&one, "unknown")]).unwrap().0.is_empty());
    }

    #[test]
    fn a_socket_on_which_nobody_can_come_in_is_refused() {
        let (_folder, plan) = plan();
        let (stream, _other) = UnixStream::pair().unwrap();
        let refusal = sort(&plan, &[(&stream, "vm0")]).unwrap_err();
        assert!(refusal.ends_with("expected a socket that listens, found one that does not"), "{refusal}");
        let refusal = sort(&plan, &[(&UnixDatagram::unbound().unwrap(), "vm0")]).unwrap_err();
        assert!(refusal.ends_with("expected a unix stream socket, found something else"), "{refusal}");
        let refusal = Passed::sort(&plan, [(1 << 20, "vm0".to_owned())].into_iter()).unwrap_err();
        assert!(matches!(refusal, ActivationError::Socket { source: SocketError::NotOpen { .. }, .. }));
    }
}
