//! Starting what the plan says, and ending it.

use std::io;
use std::sync::Arc;

use log::info;
use signal_hook::consts::TERM_SIGNALS;
use signal_hook::iterator::Signals;
use thiserror::Error;

use super::control::Control;
use super::plan::Plan;
use super::remotes::{self, RemoteError};
use super::requests;
use super::sockets::{self, Rights, SocketError};
use super::vms::{Opened, VmError, Vms};

/// Permissions of the control socket: whoever may use it has the program make sockets wherever it can.
const CONTROL_MODE: u32 = 0o600;

/// Why the plan cannot be served.
#[derive(Debug, Error)]
pub enum ServeError {
    /// A VM.
    #[error(transparent)]
    Vm(#[from] VmError),
    /// A remote.
    #[error(transparent)]
    Remote(#[from] RemoteError),
    /// The control socket.
    #[error("control")]
    Control(#[source] SocketError),
    /// Something that the system did not give.
    #[error("cannot set up {what}")]
    System {
        /// What.
        what: &'static str,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

/// Serves the plan until the program is told to end, or until every front-end it was started for has gone and none can
/// come.
///
/// # Errors
/// Anything that keeps it from starting. Nothing that front-ends, guests or remotes do later is an error here.
pub fn serve(plan: &Plan) -> Result<(), ServeError> {
    let system = |what| move |source| ServeError::System { what, source };
    let mut signals = Signals::new(TERM_SIGNALS).map_err(system("signal handling"))?;
    // All sockets first: where another program serves them already, its remotes are left alone.
    let rights = Rights { mode: Some(CONTROL_MODE), group: None };
    let control = plan.control.as_deref().map(|path| sockets::listen(path, rights));
    let control = control.transpose().map_err(ServeError::Control)?;
    let opened = plan.vms.iter().cloned().map(Opened::open).collect::<Result<Vec<_>, _>>()?;
    let remotes = remotes::start(&plan.remotes)?;

    let handle = signals.handle();
    let going = Arc::new(Going::new(move || handle.close()));
    let vms = Arc::new(Vms::new(plan.clone(), remotes));
    for vm in opened {
        vms.serve(vm, &going)?;
    }
    let control = control.map(|(listener, file)| {
        let (vms, going) = (Arc::clone(&vms), Arc::clone(&going));
        Ok((Control::start(listener, move |request| requests::handle(&vms, &going, request))?, file))
    });
    let control = control.transpose().map_err(system("the control socket's thread"))?;
    drop(going);
    info!("serving {} VMs on {} remotes", plan.vms.len(), plan.remotes.len());

    if let Some(signal) = signals.forever().next() {
        info!("ending on signal {signal}");
    }
    drop(control);
    vms.end();
    Ok(())
}

/// A reason for the program to go on, shared by all who have one: when the last of them drops it, the program ends.
pub(super) struct Going(Box<dyn Fn() + Send + Sync>);

impl Going {
    /// `end` is what ends the program.
    pub(super) fn new(end: impl Fn() + Send + Sync + 'static) -> Self {
        Going(Box::new(end))
    }
}

impl Drop for Going {
    fn drop(&mut self) {
        (self.0)();
    }
}
