//! Commands to a running core, one a line, each answered by one line: `ok ...` or `error: ...`.

use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use super::SoftCore;
use super::service::{ServiceSpec, number};

/// Longest command line, in bytes.
const MAX_LINE: usize = 4096;
/// The commands, for whoever asks for one that is none.
const COMMANDS: &str = "announce KIND[:NAME[@ADDRESS]], withdraw NAME, say NAME ADDRESS TEXT, stats, host-services, \
                        hang, resume, crash, reboot, quit";

/// Where commands come from and answers go to.
#[derive(Debug)]
pub struct Control {
    input: Option<File>,
    output: File,
    line: Vec<u8>,
}

/// Whether to go on after a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flow {
    GoOn,
    Quit,
}

impl Control {
    /// Commands from `input`, answers to `output`. The end of the input is no more than the end of the commands.
    pub fn new(input: OwnedFd, output: OwnedFd) -> Self {
        Control { input: Some(input.into()), output: output.into(), line: Vec::new() }
    }

    /// What to wait for, as long as there may be more commands.
    pub(super) fn source(&self) -> Option<BorrowedFd<'_>> {
        self.input.as_ref().map(AsFd::as_fd)
    }

    /// Reads once and carries out the commands that are complete.
    pub(super) fn serve(&mut self, core: &mut SoftCore) -> Flow {
        let mut bytes = [0; MAX_LINE];
        let count = match self.input.as_mut().map_or(Ok(0), |input| input.read(&mut bytes)) {
            Ok(count) => count,
            Err(error) if matches!(error.kind(), ErrorKind::Interrupted | ErrorKind::WouldBlock) => {
                return Flow::GoOn;
            }
            Err(error) => {
                log::warn!("commands: {error}; there will be no more");
                0
            }
        };
        if count == 0 {
            self.input = None;
        }
        for byte in &bytes[..count] {
            if *byte != b'\n' {
                self.line.push(*byte);
                self.line.truncate(MAX_LINE + 1);
                continue;
            }
            let line = std::mem::take(&mut self.line);
            let (answer, flow) = if line.len() > MAX_LINE {
                (Err(format!("command of more than {MAX_LINE} bytes")), Flow::GoOn)
            } else {
                execute(core, String::from_utf8_lossy(&line).trim())
            };
            if let Err(error) = self.answer(&answer) {
                log::warn!("commands: nobody reads the answers: {error}");
            }
            if flow == Flow::Quit {
                return Flow::Quit;
            }
        }
        Flow::GoOn
    }

    fn answer(&mut self, answer: &Result<String, String>) -> io::Result<()> {
        let line = match answer {
            Ok(text) if text.is_empty() => "ok\n".to_owned(),
            Ok(text) => format!("ok {text}\n"),
            Err(text) => format!("error: {text}\n"),
        };
        self.output.write_all(line.as_bytes())
    }
}

/// Carries out one command.
fn execute(core: &mut SoftCore, line: &str) -> (Result<String, String>, Flow) {
    let (command, rest) = line.split_once(' ').unwrap_or((line, ""));
    let unless = |done: bool, why: &str| {
        if done { Ok(String::new()) } else { Err(why.to_owned()) }
    };
    let answer = match command {
        "announce" => announce(core, rest),
        "withdraw" => match core.withdraw(rest) {
            0 => Err(format!("no service is called {rest:?}")),
            count => Ok(format!("withdrawn={count}")),
        },
        "say" => say(core, rest),
        "stats" => Ok(core.stats()),
        "host-services" => Ok(core.host_services().join(" ")),
        "hang" => unless(core.hang(), "the core does not run"),
        "resume" => unless(core.resume(), "the core does not hang"),
        "crash" => {
            core.crash();
            Ok(String::new())
        }
        "reboot" => core.reboot().map(|()| String::new()).map_err(|error| error.to_string()),
        "quit" => return (Ok(String::new()), Flow::Quit),
        _ => Err(format!("unknown command {command:?}; known are {COMMANDS}")),
    };
    (answer, Flow::GoOn)
}

fn announce(core: &mut SoftCore, rest: &str) -> Result<String, String> {
    let spec: ServiceSpec = rest.parse().map_err(|error| format!("{error}"))?;
    let address = core.announce(spec).map_err(|error| error.to_string())?;
    Ok(format!("address={address:#x}"))
}

fn say(core: &mut SoftCore, rest: &str) -> Result<String, String> {
    let mut words = rest.splitn(3, ' ');
    let (Some(name), Some(address), Some(text)) = (words.next(), words.next(), words.next()) else {
        return Err("expected: say NAME ADDRESS TEXT".to_owned());
    };
    let dst =
        number(address).ok_or_else(|| format!("address {address:?}; expected a decimal or 0x number"))?;
    core.say(name, dst, text).map(|()| String::new()).map_err(|why| format!("{why}; nothing was sent"))
}
