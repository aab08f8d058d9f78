//! The command line.
//!
//! It follows the conventions for vhost-user back-ends of QEMU's `docs/interop/vhost-user.rst`: `--socket-path`, `--fd`,
//! `--print-capabilities`.

pub(super) mod capture;
mod remote;
mod service;
mod stats;
#[cfg(test)]
mod tests;
mod top;
mod vm;

use std::{ffi::OsString, fmt, os::fd::RawFd, path::PathBuf, str::FromStr, time::Duration};

use clap::{Parser, Subcommand, ValueEnum};
use thiserror::Error;

use self::{
    capture::Capture,
    remote::RemoteCommand,
    service::ServiceCommand,
    stats::Show,
    top::TopArguments,
    vm::{To, VmCommand},
};
use super::{
    capture::client::CaptureCall,
    config::{self, ConfigError, Sources},
    control::{Request, client::Call},
    events::Recorded,
    plan::{Plan, VmSocket, socket_path_fault},
    sandbox::filter::Seccomp,
    streams::StreamCall,
    top::Top,
};

/// What `--print-capabilities` prints on standard output: a `VHostUserBackendCapabilities` of QEMU's
/// `docs/interop/vhost-user.json`. Front-ends look for the list of features even where a type has none.
pub const CAPABILITIES: &str = r#"{
  "type": "rpmsg",
  "features": []
}"#;

const PRINT_CAPABILITIES: &str = "--print-capabilities";

/// Lets virtual machines share a physical coprocessor over rpmsg.
///
/// Without a configuration file, the VMs talk to a software core built into the program.
#[derive(Debug, Parser)]
#[command(version, args_conflicts_with_subcommands = true)]
pub struct Cli {
    /// vhost-user socket to listen on, for one VM in front of the built-in core
    #[arg(short, long, value_name = "PATH", conflicts_with_all = ["config", "fd"])]
    socket_path: Option<PathBuf>,

    /// Number of VMs, 1 to 127; with more than one the sockets are PATH0, PATH1...
    #[arg(short = 'c', long, value_name = "N", default_value_t = 1)]
    // Not implied by each other: clap does not ask for --socket-path where an option excludes it.
    #[arg(requires = "socket_path", conflicts_with_all = ["config", "fd"])]
    #[arg(value_parser = clap::value_parser!(u8).range(1..=127))]
    socket_count: u8,

    /// vhost-user socket that is already open: FD in place of --socket-path, NAME=FD for a VM of the configuration
    #[arg(long, value_name = "FD|NAME=FD")]
    fd: Vec<FdArgument>,

    /// Configuration file (TOML) that names remotes and VMs
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,

    /// Print what this back-end can do as JSON and exit, whatever else is asked for
    #[arg(long)]
    print_capabilities: bool,

    /// What to log on standard error; the variable RUST_LOG goes before it
    #[arg(long, value_name = "LEVEL", default_value = "info")]
    log_level: LogLevel,

    /// What becomes of the process that talks to guests when it makes a system call that it does not need: nothing, a line
    /// in the kernel's log, or its end
    #[arg(long, value_name = "MODE", default_value = "kill")]
    seccomp: Seccomp,

    /// How long to look for more after a message before going to sleep, in microseconds, 0 to 1000000. More shortens round
    /// trips of a guest or a firmware that takes its time, at the cost of a core that is busy meanwhile; 0 leaves it at all times.
    /// Where others want that core, it is less
    #[arg(long, value_name = "TIME", default_value_t = 50)]
    #[arg(value_parser = clap::value_parser!(u32).range(..=1_000_000))]
    poll_us: u32,

    #[command(subcommand)]
    command: Option<Command>,
}

/// Sub-commands.
#[derive(Debug, Subcommand)]
enum Command {
    /// Print what a configuration file resolves to and what of it is not on this host, or what is wrong with it, without
    /// touching anything
    Check {
        /// Configuration file (TOML)
        file: PathBuf,
    },
    /// Add, remove or list VMs of a running program, over its control socket
    Vm {
        #[command(subcommand)]
        command: VmCommand,
    },
    /// Change how services of a running program's remotes are shared, over its control socket
    Service {
        #[command(subcommand)]
        command: ServiceCommand,
    },
    /// Show what a running program serves, over its control socket: remotes, VMs, services, endpoints
    Ls(Show),
    /// Show what a running program has counted, over its control socket
    Stats(Show),
    /// Show what a running program counts as it goes on, on a terminal: rates by VM and service, buffers, latency
    Top(TopArguments),
    /// Show what has happened last in a running program, over its control socket
    Events(Show),
    /// Let the program that is installed now take over from a running one, over its control socket
    Upgrade {
        #[command(flatten)]
        to: To,
    },
    /// Start, stop or look at the remotes of a running program, over its control socket
    Remote {
        #[command(subcommand)]
        command: RemoteCommand,
    },
    /// Capture messages of a running program, over its control socket, until Ctrl-C: pcapng for Wireshark
    Capture(Capture),
}

/// Least severe messages that are logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogLevel {
    /// The program cannot do what it was asked to.
    Error,
    /// Something is wrong on the other side, or was lost.
    Warn,
    /// Comings and goings.
    Info,
    /// What happens within a session.
    Debug,
    /// Every message.
    Trace,
}

/// What is to be done.
#[derive(Debug, PartialEq, Eq)]
pub enum Action {
    /// Print [`CAPABILITIES`] and exit 0.
    PrintCapabilities,
    /// Print the plan and exit 0.
    Check(Plan),
    /// Serve the plan.
    Serve(Plan),
    /// Ask a running program for something.
    Call(Call),
    /// Show what a running program counts as it goes on.
    Top(Top),
    /// Capture messages of a running program.
    Capture(CaptureCall),
    /// Have a running program stream something.
    Stream(StreamCall),
}

/// The value of `--fd`.
#[derive(Clone, Debug, PartialEq, Eq)]
struct FdArgument {
    vm: Option<String>,
    fd: RawFd,
}

/// Why a command line that is well formed says nothing that can be done.
#[derive(Debug, Error)]
pub enum CliError {
    /// Nothing to serve is named.
    #[error("expected --socket-path PATH, --fd FD or --config FILE, found none of them; see --help")]
    NothingToServe,
    /// A socket path that cannot be used.
    #[error("--socket-path: expected a path that gives sockets of 1 to 107 bytes, found {found}")]
    SocketPath {
        /// What is wrong with it.
        found: String,
    },
    /// Several sockets for one VM.
    #[error(
        "--fd {fd}: expected one --fd FD for the one VM, found another; name VMs in a --config FILE for more"
    )]
    SeveralFds {
        /// The second one.
        fd: RawFd,
    },
    /// `--fd FD` beside a configuration, which does not say for which VM it is.
    #[error("--fd {fd}: expected NAME={fd} with --config, where NAME is one of {known}; found no name")]
    FdWithoutName {
        /// The file descriptor.
        fd: RawFd,
        /// Names of the VMs.
        known: String,
    },
    /// `--fd NAME=FD` without a configuration that would know the name.
    #[error(
        "--fd {name}={fd}: expected a --config FILE with a VM of this name, found none; without it, say --fd {fd}"
    )]
    NameWithoutConfig {
        /// The name.
        name: String,
        /// The file descriptor.
        fd: RawFd,
    },
    /// `--fd NAME=FD` for a VM that is not configured.
    #[error("--fd {name}={fd}: expected the name of a configured VM, one of {known}; found {name:?}")]
    UnknownVm {
        /// The name.
        name: String,
        /// The file descriptor.
        fd: RawFd,
        /// Names of the VMs.
        known: String,
    },
    /// The same VM, or the same file descriptor, twice.
    #[error("--fd {name}={fd}: expected every VM and every file descriptor once, found {what} again")]
    FdTwice {
        /// The name.
        name: String,
        /// The file descriptor.
        fd: RawFd,
        /// Which of them.
        what: String,
    },
    /// The configuration cannot be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
}

impl Cli {
    /// Takes a command line apart, program name first.
    ///
    /// # Errors
    /// What `clap` finds wrong, and `--help` and `--version`, which it treats alike: to be ended with
    /// [`clap::Error::exit`].
    pub fn from_args(args: impl IntoIterator<Item = OsString>) -> Result<Self, clap::Error> {
        let args: Vec<_> = args.into_iter().collect();
        // "Other options and arguments should be ignored" (vhost-user.rst), so they are not even looked at.
        if args.iter().skip(1).any(|arg| arg == PRINT_CAPABILITIES) {
            let program = args.into_iter().next().unwrap_or_default();
            return Self::try_parse_from([program, PRINT_CAPABILITIES.into()]);
        }
        Self::try_parse_from(args)
    }

    /// What to log where `RUST_LOG` does not say.
    pub fn log_level(&self) -> LogLevel {
        self.log_level
    }

    /// What becomes of a worker that makes a system call that it does not need.
    pub fn seccomp(&self) -> Seccomp {
        self.seccomp
    }

    /// How long a bridge looks for more after a message before it goes to sleep.
    pub fn poll(&self) -> Duration {
        Duration::from_micros(self.poll_us.into())
    }

    /// Decides what is to be done. Reads the configuration file from `sources`, where one is named.
    ///
    /// # Errors
    /// Options that do not go together, and a configuration that cannot be used.
    pub fn action(self, sources: &Sources) -> Result<Action, CliError> {
        if self.print_capabilities {
            return Ok(Action::PrintCapabilities);
        }
        match self.command {
            Some(Command::Check { file }) => return Ok(Action::Check(config::load(&file, sources)?)),
            Some(Command::Vm { command }) => return Ok(Action::Call(command.into())),
            Some(Command::Service { command }) => return Ok(Action::Call(command.into())),
            Some(Command::Ls(show)) => return Ok(Action::Call(show.ask(Request::List))),
            Some(Command::Stats(show)) => return Ok(Action::Call(show.ask(Request::Stats))),
            Some(Command::Top(arguments)) => return Ok(Action::Top(arguments.into())),
            Some(Command::Events(show)) => return Ok(Action::Call(show.ask(Request::Events))),
            Some(Command::Upgrade { to }) => {
                let (control, json) = to.into();
                return Ok(Action::Call(Call { control, request: Request::Upgrade, json }));
            }
            Some(Command::Remote { command }) => return Ok(command.into()),
            Some(Command::Capture(capture)) => return Ok(Action::Capture(capture.into())),
            None => {}
        }
        if let Some(file) = self.config {
            let mut plan = config::load(&file, sources)?;
            hand_over(&mut plan, &self.fd)?;
            return Ok(Action::Serve(plan));
        }
        let sockets = match self.socket_path {
            Some(path) => socket_paths(path, self.socket_count)?,
            None => vec![VmSocket::Fd(single_fd(&self.fd)?)],
        };
        Ok(Action::Serve(Plan::loopback(sockets)))
    }
}

/// PATH for one socket, PATH0, PATH1... for more.
fn socket_paths(path: PathBuf, count: u8) -> Result<Vec<VmSocket>, CliError> {
    let paths: Vec<PathBuf> = match count {
        1 => vec![path],
        _ => (0..count)
            .map(|number| {
                let mut numbered = path.clone().into_os_string();
                numbered.push(number.to_string());
                numbered.into()
            })
            .collect(),
    };
    match paths.iter().find_map(|path| socket_path_fault(path)) {
        Some(found) => Err(CliError::SocketPath { found }),
        None => Ok(paths.into_iter().map(VmSocket::Path).collect()),
    }
}

/// The one file descriptor that stands in place of a socket path.
fn single_fd(fds: &[FdArgument]) -> Result<RawFd, CliError> {
    if let Some((name, fd)) = fds.iter().find_map(|arg| Some((arg.vm.clone()?, arg.fd))) {
        return Err(CliError::NameWithoutConfig { name, fd });
    }
    match fds {
        [] => Err(CliError::NothingToServe),
        [only] => Ok(only.fd),
        [_, second, ..] => Err(CliError::SeveralFds { fd: second.fd }),
    }
}

/// Gives configured VMs the sockets that are already open.
fn hand_over(plan: &mut Plan, fds: &[FdArgument]) -> Result<(), CliError> {
    let names: Vec<_> = plan.vms.iter().map(|vm| vm.name.as_str()).collect();
    let known = names.join(", ");
    for (index, FdArgument { vm: name, fd }) in fds.iter().enumerate() {
        let (fd, earlier) = (*fd, &fds[..index]);
        let Some(name) = name.clone() else {
            return Err(CliError::FdWithoutName { fd, known });
        };
        let Some(vm) = plan.vms.iter_mut().find(|vm| vm.name == name) else {
            return Err(CliError::UnknownVm { name, fd, known });
        };
        let twice = |what| CliError::FdTwice { name: name.clone(), fd, what };
        if matches!(vm.socket, VmSocket::Fd(_)) {
            return Err(twice(format!("VM {name}")));
        }
        if earlier.iter().any(|earlier| earlier.fd == fd) {
            return Err(twice(format!("file descriptor {fd}")));
        }
        vm.socket = VmSocket::Fd(fd);
    }
    Ok(())
}

/// Starts logging on standard error: what `RUST_LOG` says, or else everything from `level` up.
pub fn start_log(level: LogLevel) {
    let environment = env_logger::Env::default().default_filter_or(level.to_string());
    let log = env_logger::Builder::from_env(environment).build();
    let most = log.filter().max(log::LevelFilter::Info);
    match log::set_boxed_logger(Box::new(Recorded(log))) {
        Ok(()) => log::set_max_level(most),
        Err(_) => log::warn!("the log was started already"),
    }
}

impl FromStr for FdArgument {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (vm, number) = match text.rsplit_once('=') {
            Some((name, number)) => (Some(name.to_owned()), number),
            None => (None, text),
        };
        match number.parse() {
            Ok(fd) if fd >= 0 => Ok(FdArgument { vm, fd }),
            _ => Err(format!("expected FD or NAME=FD, where FD is a number of 0 or more, found {text:?}")),
        }
    }
}

impl fmt::Display for LogLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            LogLevel::Error => "error",
            LogLevel::Warn => "warn",
            LogLevel::Info => "info",
            LogLevel::Debug => "debug",
            LogLevel::Trace => "trace",
        })
    }
}
