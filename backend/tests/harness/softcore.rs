//! The remote core in a process of its own, and its standard input by which it is made to do things.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::process::Process;

/// Device address at which the core's memory begins; the resource table is there.
pub const DEVICE_ADDRESS: u32 = 0x2100_0000;
/// Size of the core's memory in bytes.
pub const MEMORY_SIZE: u64 = 1 << 20;

/// Where a core has its memory and its doorbell.
#[derive(Clone, Debug)]
pub struct CorePlace {
    pub memory: PathBuf,
    pub doorbell: PathBuf,
}

impl CorePlace {
    /// In this directory.
    pub fn within(dir: &Path) -> Self {
        CorePlace { memory: dir.join("memory"), doorbell: dir.join("doorbell") }
    }
}

/// A running `rpmsg-softcore`.
pub struct Softcore(Process);

impl Softcore {
    /// Starts a core and waits until its resource table is in place. `args` may give it services and habits.
    pub fn start(place: &CorePlace, args: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_rpmsg-softcore"));
        command.arg("--memory").arg(&place.memory).arg("--doorbell").arg(&place.doorbell);
        command.args(["--memory-size", "1M", "--device-address", &format!("{DEVICE_ADDRESS:#x}")]);
        command.args(args);
        let mut process = Process::spawn("rpmsg-softcore", Stdio::piped(), command);
        let line = process.next_line();
        assert!(line.starts_with("ready"), "rpmsg-softcore says {line:?} in place of ready");
        Softcore(process)
    }

    /// Gives a command and returns what follows "ok" in the answer.
    pub fn command(&mut self, command: &str) -> String {
        writeln!(self.0.stdin(), "{command}").expect("rpmsg-softcore takes a command");
        let answer = self.0.next_line();
        let Some(rest) = answer.strip_prefix("ok") else {
            panic!("rpmsg-softcore answers {answer:?} to {command:?}");
        };
        rest.trim().to_owned()
    }

    /// A counter of the core as a whole.
    pub fn total(&mut self, counter: &str) -> u64 {
        let stats = self.command("stats");
        let totals = stats.split(" | ").next().unwrap_or_default();
        value(totals, counter).unwrap_or_else(|| panic!("no {counter} in {stats:?}"))
    }

    /// A counter of one of its services.
    pub fn counter(&mut self, service: &str, counter: &str) -> u64 {
        counter_of(&self.command("stats"), service, counter)
    }

    /// Services that the host has announced to it, with their addresses.
    pub fn host_services(&mut self) -> Vec<(String, u32)> {
        let text = self.command("host-services");
        let service = |word: &str| {
            let (name, address) = word.rsplit_once("@0x")?;
            Some((name.to_owned(), u32::from_str_radix(address, 16).ok()?))
        };
        text.split_whitespace()
            .map(|word| service(word).unwrap_or_else(|| panic!("host service {word:?}")))
            .collect()
    }

    /// Ends it without any warning, as a power cut does.
    pub fn kill(mut self) {
        self.0.kill();
    }
}

/// A counter of one service in a core's statistics.
pub fn counter_of(stats: &str, service: &str, counter: &str) -> u64 {
    let line = stats.split(" | ").find(|part| part.split(' ').next() == Some(service));
    let value = line.and_then(|line| value(line, counter));
    value.unwrap_or_else(|| panic!("no {counter} of {service} in {stats:?}"))
}

/// The number behind `name=` in a line of counters.
fn value(line: &str, name: &str) -> Option<u64> {
    let pairs = line.split_whitespace().filter_map(|pair| pair.split_once('='));
    pairs.filter(|(key, _)| *key == name).find_map(|(_, value)| value.parse().ok())
}
