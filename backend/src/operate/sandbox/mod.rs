//! The sandbox: what the process that talks to guests and remote cores gives up before it does.
//!
//! In this order, on the first thread, before there is another one:
//!
//! 1. [`privileges`]: another user, no groups, no capabilities, no way to new ones, no core dump and no debugger of the
//!    same user. Started by root, an empty root directory too.
//! 2. [`files`]: landlock refuses every file, TCP, abstract sockets of others and signals to others, as far as the kernel
//!    can. It takes `no_new_privs`, so it comes second.
//! 3. [`filter`]: seccomp refuses every system call that is not in the list of [`calls`], which has none that the two
//!    before need.
//!
//! A thread inherits all three. What is open stays open: descriptors are all that such a process can work with, and the
//! keeper gives it what the plan names ([`host`](crate::remote::host)).

pub mod calls;
pub mod files;
pub mod filter;
pub mod privileges;

use std::panic::{PanicHookInfo, set_hook};

use log::{info, warn};
use thiserror::Error;

use files::FilesError;
use filter::{Filter, FilterError, Seccomp};
use privileges::{Account, PrivilegeError};

/// Exit status after a panic, as the standard library has it.
const PANICKED: i32 = 101;

/// Why the sandbox cannot be closed.
#[derive(Debug, Error)]
pub enum SandboxError {
    /// The privileges cannot be given up.
    #[error("cannot give up privileges")]
    Privileges(#[from] PrivilegeError),
    /// Landlock fails although the kernel has it.
    #[error("cannot close the file system")]
    Files(#[from] FilesError),
    /// The system calls cannot be restricted.
    #[error("cannot restrict system calls")]
    Filter(#[from] FilterError),
}

/// Closes the sandbox around this process, for good. No other thread may run yet.
///
/// # Errors
/// Whatever part of it does not work; the process is to end then.
pub fn close(account: Option<Account>, seccomp: Seccomp) -> Result<(), SandboxError> {
    // Asks the kernel once, by a call that is not in the list.
    rustix::param::page_size();
    privileges::give_up(account)?;
    let files = files::close()?;
    set_hook(Box::new(say_and_end));
    let user = rustix::process::geteuid().as_raw();
    match Filter::new(seccomp)? {
        Some(filter) => filter.apply()?,
        None => warn!("system calls are not restricted, as --seccomp none says"),
    }
    info!("in the sandbox: user {user}, {files}, seccomp {seccomp}");
    Ok(())
}

/// What a panic does in the sandbox: the standard library's own way would open files for the names in a backtrace, and
/// `abort` would send a signal.
fn say_and_end(panic: &PanicHookInfo<'_>) {
    eprintln!("thread {:?} {panic}", std::thread::current().name().unwrap_or("without a name"));
    if cfg!(panic = "abort") {
        std::process::exit(PANICKED);
    }
}
