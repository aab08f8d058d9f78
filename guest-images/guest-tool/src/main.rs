//! The program inside the test guests. It drives the character devices and terminals that the stock rpmsg
//! drivers of Linux offer, and checks every byte that comes back.
//!
//! A subcommand prints its result as one line of `key=value` pairs on stdout and exits with 0. When something
//! is wrong it says on stderr what was expected and what was found, and exits with 1 (2 for a command line it
//! does not understand).
//!
//! | module | what it knows |
//! |---|---|
//! | [`channels`] | which channels and device nodes there are, from sysfs; waiting for one |
//! | [`control`] | the requests of `/dev/rpmsg_ctrlN`: endpoints and channels made by the guest |
//! | [`endpoint`] | one `/dev/rpmsgN`: messages |
//! | [`tty`] | one `/dev/ttyRPMSGN`: bytes |
//! | [`pattern`] | contents that show where they come from; no I/O |
//! | [`order`] | each exactly once, in order; no I/O |
//! | [`echo`] | the tests against a peer that sends everything back |
//! | [`oneway`] | the tests in which messages go one way only |

mod channels;
mod control;
mod echo;
mod endpoint;
mod oneway;
mod order;
mod pattern;
mod tty;

use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

use endpoint::{Endpoint, Target};

/// The largest payload of a message: a buffer of 512 bytes less the header's 16 (Linux `virtio_rpmsg_bus.c`).
const MAX_PAYLOAD: usize = 496;

/// Drives and checks the rpmsg devices of a guest
#[derive(Parser)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// One line per channel: name, addresses, driver, device node
    List,
    /// Wait until a channel (and the device node that its driver makes) is there, or is gone
    Wait {
        /// The channel's name, such as rpmsg-raw
        #[arg(long)]
        channel: String,
        /// Wait until no channel of that name is left
        #[arg(long)]
        gone: bool,
        /// How many channels of that name
        #[arg(long, default_value_t = 1, conflicts_with = "gone")]
        count: usize,
        /// Seconds
        #[arg(long, default_value = "30", value_parser = seconds)]
        timeout: Duration,
    },
    /// Messages through /dev/rpmsgN
    #[command(subcommand)]
    Raw(Raw),
    /// Bytes through /dev/ttyRPMSGN
    #[command(subcommand)]
    Tty(Tty),
    /// Announce a channel of the guest's own, with a fixed address, and withdraw it again
    ///
    /// Linux tells the device only of a channel that one of its drivers takes: rpmsg-raw, or rpmsg-tty.
    Announce {
        /// The channel's name
        #[arg(long)]
        name: String,
        /// The guest's address of it
        #[arg(long, value_parser = address)]
        src: u32,
        /// Seconds to keep it and count the messages that arrive; 0 leaves it there for `withdraw`
        #[arg(long, default_value = "0", value_parser = seconds)]
        hold: Duration,
    },
    /// Withdraw a channel that `announce --hold 0` has left
    Withdraw {
        /// The channel's name
        #[arg(long)]
        name: String,
        /// The guest's address of it
        #[arg(long, value_parser = address)]
        src: u32,
    },
}

#[derive(Subcommand)]
enum Raw {
    /// Every payload size from 1 to 496, echoed and compared
    Sizes {
        #[command(flatten)]
        peer: Peer,
    },
    /// A numbered stream through the echo, several messages under way: each comes back exactly once and in
    /// order
    Stream {
        #[command(flatten)]
        peer: Peer,
        #[command(flatten)]
        stream: Stream,
    },
    /// Round trips, one message at a time
    Ping {
        #[command(flatten)]
        peer: Peer,
        /// Round trips that count; a tenth as many go before to warm up
        #[arg(long, default_value_t = 1000)]
        count: u64,
        /// Bytes of payload
        #[arg(long, default_value_t = 16, value_parser = payload)]
        size: usize,
    },
    /// Send as fast as the device takes it, and throw away what comes back
    Flood {
        #[command(flatten)]
        peer: Peer,
        /// How long
        #[arg(long, default_value = "5", value_parser = seconds)]
        seconds: Duration,
        /// Bytes of payload
        #[arg(long, default_value_t = MAX_PAYLOAD, value_parser = payload)]
        size: usize,
    },
    /// Send a number of messages that start with their number (u32, little-endian, from 0), and expect
    /// nothing back
    Send {
        #[command(flatten)]
        peer: Peer,
        /// Messages
        #[arg(long, default_value_t = 1000)]
        count: u32,
        /// Bytes of payload
        #[arg(long, default_value_t = MAX_PAYLOAD, value_parser = payload)]
        size: usize,
    },
    /// Ask a source for messages, and check that each comes whole, once and in order
    ///
    /// The request is {count, size, interval: u32}, little-endian. Each message starts with its number (u32,
    /// little-endian); after it the byte at place i is number + i, modulo 256.
    Receive {
        #[command(flatten)]
        peer: Peer,
        /// Messages
        #[arg(long, default_value_t = 1000)]
        count: u32,
        /// Bytes of payload
        #[arg(long, default_value_t = MAX_PAYLOAD, value_parser = numbered)]
        size: usize,
        /// Microseconds from one message to the next
        #[arg(long, default_value_t = 0)]
        interval: u32,
        /// Ask for nothing and expect nothing of the messages but their number
        #[arg(long, conflicts_with_all = ["size", "interval"])]
        silent: bool,
    },
}

#[derive(Subcommand)]
enum Tty {
    /// Every length from 1 to 496, echoed and compared
    Sizes {
        #[command(flatten)]
        line: Line,
    },
    /// A numbered stream through the echo
    Stream {
        #[command(flatten)]
        line: Line,
        #[command(flatten)]
        stream: Stream,
    },
}

/// Which endpoint to use, and how.
#[derive(Args)]
pub(crate) struct Peer {
    /// The channel whose remote address is meant
    #[arg(long, default_value = "rpmsg-raw")]
    service: String,
    /// A remote address, announced or not, instead of a service
    #[arg(long, value_parser = address)]
    dst: Option<u32>,
    /// The address of the guest's own end, where a new one is made (default: the kernel chooses)
    #[arg(long, value_parser = address)]
    src: Option<u32>,
    /// Use this device node as it is, such as /dev/rpmsg0
    #[arg(long, conflicts_with_all = ["dst", "src"])]
    node: Option<std::path::PathBuf>,
    /// Let the kernel fail instead of wait where it has no buffer, and try again from here
    ///
    /// Without it the kernel waits 15 s for the device's interrupt. A signal does not end that wait: the
    /// driver of Linux then turns in a loop until there is a buffer, so do not kill a sender that waits.
    #[arg(long)]
    nonblocking: bool,
    /// Seconds without any progress after which the peer is given up
    #[arg(long, default_value = "20", value_parser = seconds)]
    timeout: Duration,
}

/// Which terminal to use.
#[derive(Args)]
pub(crate) struct Line {
    /// The device node
    #[arg(long, default_value = "/dev/ttyRPMSG0")]
    node: std::path::PathBuf,
    /// Seconds without any progress after which the peer is given up
    #[arg(long, default_value = "20", value_parser = seconds)]
    timeout: Duration,
}

/// How a numbered stream goes.
#[derive(Args)]
pub(crate) struct Stream {
    /// Messages to send (default: 10000, or with --seconds as many as it takes)
    #[arg(long)]
    count: Option<u32>,
    /// Stop sending after so many seconds, and wait for what is still under way
    #[arg(long, value_parser = seconds)]
    seconds: Option<Duration>,
    /// Messages under way at the same time
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..))]
    window: u32,
    /// Bytes of each message, 12 or more; 0: all sizes from 12 to 496 in turn
    #[arg(long, default_value_t = 0, value_parser = frame)]
    size: usize,
}

fn seconds(text: &str) -> Result<Duration, String> {
    text.parse().map_err(|error| format!("expected a number of seconds: {error}")).and_then(|seconds| {
        Duration::try_from_secs_f64(seconds).map_err(|error| format!("not a time to wait: {error}"))
    })
}

fn address(text: &str) -> Result<u32, String> {
    let parsed = match text.strip_prefix("0x") {
        Some(digits) => u32::from_str_radix(digits, 16),
        None => text.parse(),
    };
    parsed.map_err(|error| format!("expected an address, decimal or 0x...: {error}"))
}

fn payload(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(size) if (1..=MAX_PAYLOAD).contains(&size) => Ok(size),
        _ => Err(format!("expected a payload of 1 to {MAX_PAYLOAD} bytes")),
    }
}

fn numbered(text: &str) -> Result<usize, String> {
    match payload(text) {
        Ok(size) if size >= 4 => Ok(size),
        _ => Err(format!("expected a payload of 4 to {MAX_PAYLOAD} bytes")),
    }
}

fn frame(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) => Ok(0),
        Ok(size) if (pattern::HEADER..=MAX_PAYLOAD).contains(&size) => Ok(size),
        _ => Err(format!("expected 0, or {} to {MAX_PAYLOAD} bytes", pattern::HEADER)),
    }
}

impl Peer {
    /// Opens the endpoint and throws away what was waiting in it.
    fn open(&self) -> anyhow::Result<Endpoint> {
        let target = match (&self.node, self.dst) {
            (Some(node), _) => Target::Node(node.clone()),
            (None, Some(dst)) => Target::Address { src: self.src, dst },
            (None, None) => Target::Service { name: self.service.clone(), src: self.src },
        };
        Endpoint::open(&target, !self.nonblocking)
    }
}

fn run(command: Command) -> anyhow::Result<()> {
    match command {
        Command::List => channels::list(),
        Command::Wait { channel, gone: true, timeout, .. } => channels::wait_gone(&channel, timeout),
        Command::Wait { channel, count, timeout, .. } => channels::wait(&channel, count, timeout),
        Command::Raw(Raw::Sizes { peer }) => echo::sizes(&mut peer.open()?, peer.timeout),
        Command::Raw(Raw::Stream { peer, stream }) => echo::stream(&mut peer.open()?, &stream, peer.timeout),
        Command::Raw(Raw::Ping { peer, count, size }) => {
            echo::ping(&mut peer.open()?, count, size, peer.timeout)
        }
        Command::Raw(Raw::Flood { peer, seconds, size }) => {
            oneway::flood(&mut peer.open()?, seconds, size, peer.timeout)
        }
        Command::Raw(Raw::Send { peer, count, size }) => {
            oneway::send(&mut peer.open()?, count, size, peer.timeout)
        }
        Command::Raw(Raw::Receive { peer, count, size, interval, silent }) => {
            let request = (!silent).then_some(oneway::Request { size, interval });
            oneway::receive(&mut peer.open()?, count, request, peer.timeout)
        }
        Command::Tty(Tty::Sizes { line }) => echo::sizes(&mut tty::Tty::open(&line.node)?, line.timeout),
        Command::Tty(Tty::Stream { line, stream }) => {
            echo::stream(&mut tty::Tty::open(&line.node)?, &stream, line.timeout)
        }
        Command::Announce { name, src, hold } => oneway::announce(&name, src, hold),
        Command::Withdraw { name, src } => oneway::withdraw(&name, src),
    }
}

fn main() -> ExitCode {
    match run(Cli::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("guest-tool: {error:#}");
            ExitCode::FAILURE
        }
    }
}
