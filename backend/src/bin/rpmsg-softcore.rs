//! A simulated remote core as a program: a memory file, a doorbell socket, and commands on standard input.
//!
//! `vhost-device-rpmsg` reaches it over its `socket` link, just as it would an emulated board. See
//! [`vhost_device_rpmsg::softcore`] for what it does.
#![forbid(unsafe_code)]

use std::error::Error;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use signal_hook::consts::TERM_SIGNALS;
use vhost_device_rpmsg::softcore::{
    Config, Control, Doorbell, Habits, Memory, Runner, ServiceSpec, SoftCore, StartError, UsedLength,
};

/// A simulated coprocessor that serves rpmsg in a memory file.
///
/// Commands come on standard input, one a line, each answered by one line: `announce
/// KIND[:NAME[@ADDRESS]]`, `withdraw NAME`, `say NAME ADDRESS TEXT`, `stats`, `host-services`, `hang`, `resume`,
/// `crash`, `reboot`, `quit`.
#[derive(Debug, Parser)]
#[command(version, args_override_self = true)]
struct Arguments {
    /// Memory file to create; removed at the end.
    #[arg(long, value_name = "FILE")]
    memory: PathBuf,

    /// Doorbell socket to listen on; removed at the end.
    #[arg(long, value_name = "SOCKET")]
    doorbell: PathBuf,

    /// Size of the memory in bytes, or with K or M behind; by default what the buffers need, at least 1M.
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    memory_size: Option<u64>,

    /// Device address of the memory.
    #[arg(long, value_name = "ADDRESS", default_value = "0x21000000", value_parser = parse_address)]
    device_address: u32,

    /// Buffers per direction: a power of two, 2 to 1024.
    #[arg(long, value_name = "N", default_value_t = 256)]
    buffers: u16,

    /// Alignment of the vrings in bytes: a power of two, 16 to 65536.
    #[arg(long, value_name = "N", default_value_t = 4096)]
    align: u32,

    /// Name the vrings' addresses in the resource table, instead of leaving them to the host.
    #[arg(long)]
    fixed_vrings: bool,

    /// Do not offer the name service.
    #[arg(long)]
    no_name_service: bool,

    /// Service to have, `KIND[:NAME[@ADDRESS]]`; may be repeated. By default one of each kind, from address 0x400 on.
    #[arg(long = "service", value_name = "KIND[:NAME[@ADDRESS]]")]
    services: Vec<ServiceSpec>,

    /// Spin so many microseconds for more work before sleeping.
    #[arg(long, value_name = "MICROSECONDS", default_value_t = 0)]
    spin: u64,

    /// Leave the memory file behind at the end.
    #[arg(long)]
    keep_memory: bool,

    /// Least severe messages to log on standard error: off, error, warn, info, debug, trace.
    #[arg(long, value_name = "LEVEL", default_value_t = log::LevelFilter::Warn)]
    log_level: log::LevelFilter,

    #[command(flatten)]
    habits: HabitArguments,
}

/// Habits of real firmware that a host has to survive.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Awkward habits")]
struct HabitArguments {
    /// Length in used elements: the bytes written, or the whole buffer as OpenAMP does.
    #[arg(long, value_enum, default_value_t = UsedLength::Exact)]
    used_length: UsedLength,

    /// Write buffer index and hold count into `reserved` of headers, as OpenAMP does.
    #[arg(long)]
    scribble_reserved: bool,

    /// Gather up to so many of the host's buffers and return them in random order.
    #[arg(long, value_name = "N", default_value_t = 0)]
    shuffle: u16,

    /// Seed of that order.
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,

    /// Keep so many of the host's buffers as long as the link is up.
    #[arg(long, value_name = "N", default_value_t = 0)]
    keep_buffers: u16,

    /// Never tell the host of consumed buffers, as rpmsg-lite.
    #[arg(long)]
    silent_consume: bool,

    /// Ask the host not to ring while the core is working anyway.
    #[arg(long)]
    suppress_kicks: bool,

    /// Keep only 16 bits of the address that an answer goes to, as TI's firmware.
    #[arg(long)]
    short_addresses: bool,
}

fn parse_size(text: &str) -> Result<u64, String> {
    let (digits, unit) = match text.strip_suffix(['K', 'k']) {
        Some(digits) => (digits, 1 << 10),
        None => text.strip_suffix(['M', 'm']).map_or((text, 1), |digits| (digits, 1 << 20)),
    };
    let count: Option<u64> = digits.parse().ok();
    count
        .and_then(|count| count.checked_mul(unit))
        .ok_or_else(|| "expected a number of bytes, or one with K or M behind".to_owned())
}

fn parse_address(text: &str) -> Result<u32, String> {
    let address = text.strip_prefix("0x").map_or_else(|| text.parse(), |hex| u32::from_str_radix(hex, 16));
    address.map_err(|error| format!("expected a decimal or 0x number of 32 bits: {error}"))
}

impl Arguments {
    fn config(&self) -> Config {
        let defaults = Config::default();
        let habits = &self.habits;
        Config {
            device_address: self.device_address,
            memory_size: self.memory_size,
            buffers: self.buffers,
            align: self.align,
            fixed_vrings: self.fixed_vrings,
            name_service: !self.no_name_service,
            services: if self.services.is_empty() { defaults.services } else { self.services.clone() },
            status_poll: true,
            spin: Duration::from_micros(self.spin),
            habits: Habits {
                used_length: habits.used_length,
                scribble_reserved: habits.scribble_reserved,
                shuffle: habits.shuffle,
                seed: habits.seed,
                keep: habits.keep_buffers,
                silent_consume: habits.silent_consume,
                suppress_kicks: habits.suppress_kicks,
                short_addresses: habits.short_addresses,
            },
        }
    }
}

/// A descriptor that becomes readable on SIGTERM and SIGINT.
fn stop_on_signals() -> io::Result<OwnedFd> {
    let (stop, signalled) = UnixStream::pair()?;
    for signal in TERM_SIGNALS {
        signal_hook::low_level::pipe::register(*signal, signalled.try_clone()?)?;
    }
    Ok(stop.into())
}

fn run(arguments: &Arguments) -> Result<(), StartError> {
    let stop = stop_on_signals().map_err(StartError::Loop)?;
    let config = arguments.config();
    let layout = config.layout()?;
    let doorbell = Doorbell::listen(&arguments.doorbell)?;
    let memory = Memory::create_file(&arguments.memory, &layout)?;
    let result = serve(config, memory, doorbell, stop, arguments);
    if !arguments.keep_memory {
        remove_memory(&arguments.memory);
    }
    result
}

fn serve(
    config: Config,
    memory: Memory,
    doorbell: Doorbell,
    stop: OwnedFd,
    arguments: &Arguments,
) -> Result<(), StartError> {
    let core = SoftCore::new(config, memory)?;
    let control = Control::new(
        io::stdin().as_fd().try_clone_to_owned().map_err(StartError::Loop)?,
        io::stdout().as_fd().try_clone_to_owned().map_err(StartError::Loop)?,
    );
    let layout = core.layout();
    // Whoever has started this program waits for this line; without a reader it serves all the same.
    let _ = writeln!(
        io::stdout(),
        "ready memory={} doorbell={} table={:#x} size={} pool={:#x}",
        arguments.memory.display(),
        arguments.doorbell.display(),
        layout.table_address(),
        layout.size(),
        layout.pool_address(),
    );
    Runner::new(core, doorbell, Some(control), stop).run().map_err(StartError::Loop)
}

fn remove_memory(path: &Path) {
    if let Err(error) = std::fs::remove_file(path) {
        log::warn!("cannot remove the memory file {}: {error}", path.display());
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    env_logger::Builder::new().filter_level(arguments.log_level).init();
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let mut line = format!("rpmsg-softcore: {error}");
            let mut cause = error.source();
            while let Some(next) = cause {
                line += &format!(": {next}");
                cause = next.source();
            }
            eprintln!("{line}");
            ExitCode::FAILURE
        }
    }
}
