//! The keeper as the worker has it.

use std::ffi::CStr;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::thread::Builder;

use log::warn;
use rustix::net::SocketType;
use rustix::net::sockopt::socket_type;
use rustix::stdio::{dup2_stdin, stdin};
use serde_json::{Map, Value};
use signal_hook::consts::{SIGHUP, TERM_SIGNALS};
use thiserror::Error;

use super::calls::{Answer, KeptRule, KeptVm, Order, Reply, Request, ToKeeper, VERSION};
use super::channel::CallError;
use super::handover::Handover;
use crate::causes::Causes;
use crate::remote::host::{self, Host, HostError};

/// What the system calls the worker.
const NAME: &CStr = c"rpmsg-worker";

/// Why a process cannot become a worker.
#[derive(Debug, Error)]
pub enum HomeError {
    /// Somebody else has started it.
    #[error(
        "expected to be started as a worker process by vhost-device-rpmsg itself, found no channel to it"
    )]
    NoChannel(#[source] io::Error),
    /// Something that the system did not give.
    #[error("cannot set up {what}")]
    System {
        /// What.
        what: &'static str,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The keeper refuses, or is gone.
    #[error("the keeper process")]
    Call(#[from] CallError),
    /// The keeper has sent nothing.
    #[error("expected a file descriptor from the keeper process for {what}, found none")]
    NoFile {
        /// What for.
        what: &'static str,
    },
}

/// How a worker is to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parting {
    /// In good order: it is the end for everybody.
    InOrder,
    /// Leaving everything as it is to the next worker.
    Leaving,
}

/// The keeper, as a worker has it. Clones are the same.
#[derive(Clone, Debug)]
pub struct Home(Arc<ToKeeper>);

/// What a VM starts with at a worker.
#[derive(Debug)]
pub struct VmStart {
    /// Where the keeper connects for its front-ends.
    pub listener: UnixListener,
    /// A front-end is connected, and its session is going to be replayed.
    pub is_connected: bool,
}

impl Home {
    /// Makes this process the worker of whoever has started it. There is no other thread yet: of all that can be asked,
    /// only [`start`](Self::start) works before [`listen`](Self::listen).
    ///
    /// # Errors
    /// A process that nobody has started as a worker.
    pub fn of_this_process() -> Result<Self, HomeError> {
        let system = |what| move |source: io::Error| HomeError::System { what, source };
        let channel = stdin().try_clone_to_owned().map_err(HomeError::NoChannel)?;
        match socket_type(&channel) {
            Ok(SocketType::SEQPACKET) => {}
            Ok(_) => return Err(HomeError::NoChannel(io::ErrorKind::InvalidInput.into())),
            Err(errno) => return Err(HomeError::NoChannel(errno.into())),
        }
        let null = File::open("/dev/null").map_err(system("standard input"))?;
        dup2_stdin(null).map_err(|errno| system("standard input")(errno.into()))?;
        rustix::thread::set_name(NAME).map_err(|errno| system("the process name")(errno.into()))?;
        // A terminal or a service manager signals the keeper too, which says what is to be done.
        for signal in TERM_SIGNALS.iter().chain(&[SIGHUP]) {
            signal_hook::flag::register(*signal, Arc::default()).map_err(system("signal handling"))?;
        }
        Ok(Home(ToKeeper::new(channel)))
    }

    /// The keeper at the other end of a channel.
    #[cfg(test)]
    pub(crate) fn over(channel: OwnedFd) -> Self {
        Home(ToKeeper::new(channel))
    }

    /// Listens to the keeper on a thread. What is returned says when this process is to end.
    ///
    /// # Errors
    /// No thread to be had.
    pub fn listen(&self) -> Result<Receiver<Parting>, HomeError> {
        let (end, ends) = channel();
        let own = Arc::clone(&self.0);
        let listening = Builder::new().name("keeper".to_owned()).spawn(move || {
            let ended = end.clone();
            let served = own.serve(move |order, _| {
                let parting = match order {
                    Order::Ping => None,
                    Order::End => Some(Parting::InOrder),
                    Order::Leave => Some(Parting::Leaving),
                };
                let _told_already = parting.map(|parting| end.send(parting));
                Ok((Answer::Done, Vec::new()))
            });
            if let Err(error) = served {
                warn!("ending: {}", Causes(&error));
            }
            // Without a keeper there is nobody to serve.
            let _told_already = ended.send(Parting::InOrder);
        });
        let what = "the thread that listens to the keeper process";
        listening.map_err(|source| HomeError::System { what, source })?;
        Ok(ends)
    }

    /// How the program was started.
    ///
    /// # Errors
    /// A keeper of another version.
    pub fn start(&self) -> Result<Handover, HomeError> {
        let (_, files) = self.0.call_alone(&Request::Start { version: VERSION })?;
        let file =
            File::from(files.into_iter().next().ok_or(HomeError::NoFile { what: "the configuration" })?);
        Handover::from_file(file).map_err(|source| HomeError::System { what: "the configuration", source })
    }

    /// The socket for requests at run time, if there is one.
    ///
    /// # Errors
    /// A keeper that is gone.
    pub fn control(&self) -> Result<Option<UnixListener>, HomeError> {
        Ok(self.0.request(&Request::Control)?.map(Into::into))
    }

    /// The socket for metrics, if there is one.
    ///
    /// # Errors
    /// A keeper that is gone.
    pub fn metrics(&self) -> Result<Option<OwnedFd>, HomeError> {
        Ok(self.0.request(&Request::Metrics)?)
    }

    /// The memory for what happens, which outlives this process.
    ///
    /// # Errors
    /// A keeper that is gone, or that has none.
    pub fn events(&self) -> Result<File, HomeError> {
        let fd = self.0.request(&Request::Events)?;
        fd.map(File::from).ok_or(HomeError::NoFile { what: "events" })
    }

    /// The VMs that are to be served.
    ///
    /// # Errors
    /// A keeper that is gone.
    pub fn vms(&self) -> Result<Vec<KeptVm>, HomeError> {
        match self.0.call(&Request::Vms, &[])? {
            (Reply::Vms(vms), _) => Ok(vms),
            (other, _) => Err(CallError::OtherReply { found: format!("{other:?}") }.into()),
        }
    }

    /// Has the front-ends of a VM come in here.
    ///
    /// # Errors
    /// A VM that there is not.
    pub fn vm(&self, name: &str) -> Result<VmStart, HomeError> {
        match self.0.call(&Request::Vm { name: name.to_owned() }, &[])? {
            (Reply::Vm { is_connected }, fds) => {
                let listener = fds.into_iter().next().ok_or(HomeError::NoFile { what: "a VM" })?;
                Ok(VmStart { listener: listener.into(), is_connected })
            }
            (other, _) => Err(CallError::OtherReply { found: format!("{other:?}") }.into()),
        }
    }

    /// Has the keeper open the socket of one VM more, of which these are the keys.
    ///
    /// # Errors
    /// A socket that cannot be had.
    pub fn add_vm(&self, keys: Map<String, Value>) -> Result<(), CallError> {
        self.0.request(&Request::AddVm { keys }).map(drop)
    }

    /// Has the keeper disconnect the front-end of a VM, and close its socket.
    ///
    /// # Errors
    /// A VM that there is not.
    pub fn remove_vm(&self, name: &str) -> Result<(), CallError> {
        self.0.request(&Request::RemoveVm { name: name.to_owned() }).map(drop)
    }

    /// The rules that were set for services at run time.
    ///
    /// # Errors
    /// A keeper that is gone.
    pub fn rules(&self) -> Result<Vec<KeptRule>, HomeError> {
        match self.0.call(&Request::Rules, &[])? {
            (Reply::Rules(rules), _) => Ok(rules),
            (other, _) => Err(CallError::OtherReply { found: format!("{other:?}") }.into()),
        }
    }

    /// Has the keeper keep a rule for workers to come.
    ///
    /// # Errors
    /// Too many of them.
    pub fn set_rule(&self, rule: KeptRule) -> Result<(), CallError> {
        self.0.request(&Request::SetRule { rule: Box::new(rule) }).map(drop)
    }

    /// The memory about a remote that outlives this worker: the same file for each worker, all zero at first.
    ///
    /// # Errors
    /// A remote that there is not.
    pub fn state(&self, remote: &str) -> Result<File, HomeError> {
        let file = self.0.request(&Request::State { remote: remote.to_owned() })?;
        Ok(file.ok_or(HomeError::NoFile { what: "state memory" })?.into())
    }

    /// Who opens files and does what takes privileges for a remote.
    pub fn host(&self, remote: &str) -> Arc<dyn Host> {
        Arc::new(HostAtHome { home: self.clone(), remote: remote.to_owned() })
    }

    /// Everything that was configured is being served.
    ///
    /// # Errors
    /// A keeper that is gone.
    pub fn serving(&self) -> Result<(), HomeError> {
        Ok(self.0.request(&Request::Serving).map(drop)?)
    }

    /// Has the program that is installed now take over.
    ///
    /// # Errors
    /// A keeper that is gone.
    pub fn upgrade(&self) -> Result<(), CallError> {
        self.0.request(&Request::Upgrade).map(drop)
    }
}

/// A host that has the keeper carry out requests for a remote.
#[derive(Debug)]
struct HostAtHome {
    home: Home,
    remote: String,
}

impl Host for HostAtHome {
    fn ask(&self, request: &host::Request) -> Result<host::Answer, HostError> {
        let request = Request::Host { remote: self.remote.clone(), request: request.clone() };
        let (reply, fds) = self
            .home
            .0
            .call(&request, &[])
            .map_err(|error| HostError::Elsewhere(Causes(&error).to_string()))?;
        match reply {
            Reply::Host(told) => Ok(host::Answer { told, file: fds.into_iter().next() }),
            other => {
                let error = CallError::OtherReply { found: format!("{other:?}") };
                Err(HostError::Elsewhere(error.to_string()))
            }
        }
    }
}
