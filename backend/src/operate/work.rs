//! What the worker process does: it starts the remotes, serves the VMs, and ends all that in order.

use std::io;
use std::sync::Arc;

use log::info;
use thiserror::Error;

use super::cli::{Action, Cli, CliError, start_log};
use super::config::Sources;
use super::control::Control;
use super::events::{self, Rings, Who};
use super::metrics::Metrics;
use super::plan::Plan;
use super::remotes::{self, RemoteError};
use super::requests;
use super::sandbox::privileges::Account;
use super::sandbox::{self, SandboxError};
use super::vms::{AddError, Vms};
use crate::keeper::calls::KeptRule;
use crate::keeper::home::{Home, HomeError, Parting};
use crate::remote::memory::CarveoutError;
use crate::torn::handle_bus_errors;

/// Why a worker cannot do its work.
#[derive(Debug, Error)]
pub enum WorkError {
    /// The keeper.
    #[error(transparent)]
    Home(#[from] HomeError),
    /// The command line, or the configuration.
    #[error(transparent)]
    Cli(#[from] CliError),
    /// The command line of a program that has nothing to serve.
    #[error("expected the command line of a program that serves VMs, found {found}")]
    NotServing {
        /// What was found.
        found: String,
    },
    /// The sandbox.
    #[error(transparent)]
    Sandbox(#[from] SandboxError),
    /// A VM.
    #[error(transparent)]
    Vm(#[from] AddError),
    /// A remote.
    #[error(transparent)]
    Remote(#[from] RemoteError),
    /// The memory for what happens.
    #[error("cannot map the memory for events")]
    Events(#[from] CarveoutError),
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

/// Does what the keeper that has started this process says, until it says that it is the end.
///
/// # Errors
/// Anything that keeps it from starting. Nothing that front-ends, guests or remotes do later is an error here.
pub fn work() -> Result<(), WorkError> {
    let system = |what| move |source| WorkError::System { what, source };
    let home = Home::of_this_process()?;
    let handover = home.start()?;
    let not_serving = |found: String| WorkError::NotServing { found };
    let cli = Cli::from_args(handover.arguments).map_err(|error| not_serving(error.to_string()))?;
    start_log(cli.log_level());
    let (seccomp, poll) = (cli.seccomp(), cli.poll());
    let plan = match cli.action(&Sources::of(handover.files))? {
        Action::Serve(plan) => plan,
        other => return Err(not_serving(format!("{other:?}"))),
    };
    handle_bus_errors().map_err(system("the handling of bus errors"))?;

    let prepared = remotes::prepare(&plan.remotes)?;
    let account = Account::resolve(plan.user.as_deref()).map_err(SandboxError::from)?;
    // What was read until now comes from whoever has started the program. From here on it comes from guests and remotes.
    sandbox::close(account, seccomp)?;

    let ends = home.listen()?;
    events::record_in(Rings::open(&home.events()?, Who::Worker)?);
    let rules = home.rules()?;
    let remotes = remotes::start(&under(&rules, &plan), prepared, &home, poll)?;
    let (vm_count, remote_count) = (plan.vms.len(), plan.remotes.len());
    let vms = Arc::new(Vms::new(plan, remotes, rules, home.clone()));
    for kept in home.vms()? {
        vms.serve_again(kept)?;
    }
    vms.settle();
    let serve = |listener| {
        let vms = Arc::clone(&vms);
        Control::start(listener, move |request| requests::handle(&vms, request))
    };
    let control = home.control()?.map(serve).transpose().map_err(system("the control socket's thread"))?;
    let scraped = Arc::clone(&vms);
    let measure = |listener| Metrics::start(listener, move || requests::stats(&scraped));
    let metrics = home.metrics()?.map(measure).transpose().map_err(system("the metrics socket's thread"))?;
    home.serving()?;
    info!("serving {vm_count} VMs on {remote_count} remotes");

    // Whoever would say it is gone where nothing comes.
    let parting = ends.recv();
    drop(control);
    drop(metrics);
    if parting != Ok(Parting::Leaving) {
        vms.end();
    }
    Ok(())
}

/// The plan under rules that were set for services at run time, the last one first. A worker before this one has had them kept,
/// which may have been anybody's by then.
fn under(rules: &[KeptRule], plan: &Plan) -> Plan {
    let mut plan = plan.clone();
    for kept in rules.iter().rev().filter(|kept| kept.rule.is_sound()) {
        if let Some(remote) = plan.remotes.iter_mut().find(|remote| remote.name == kept.remote) {
            remote.policy.set(kept.rule.clone());
        }
    }
    plan
}
