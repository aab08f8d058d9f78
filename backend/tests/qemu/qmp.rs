//! QEMU's control socket (its `docs/interop/qmp-spec.rst`): one JSON object a line.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;

use serde_json::{Value, json};

use super::driver::PATIENCE;
use super::process::Process;

/// An open control connection.
pub(crate) struct Qmp {
    input: BufReader<UnixStream>,
    output: UnixStream,
}

impl Qmp {
    /// Connects to a QEMU that has made its socket.
    pub(crate) fn connect(socket: &Path) -> Self {
        let output = UnixStream::connect(socket).expect("QEMU's control socket");
        output.set_read_timeout(Some(PATIENCE)).expect("time-out set");
        let input = BufReader::new(output.try_clone().expect("socket cloned"));
        let mut qmp = Qmp { input, output };
        greet(&mut qmp);
        qmp
    }

    /// Gives a command without arguments and waits until QEMU has carried it out.
    pub(crate) fn command(&mut self, command: &str) {
        execute(self, command);
    }
}

/// Lines to and from QEMU.
pub(crate) trait Lines {
    fn write(&mut self, line: &str);
    fn read(&mut self) -> String;
}

impl Lines for Qmp {
    fn write(&mut self, line: &str) {
        writeln!(self.output, "{line}").expect("QEMU takes commands");
    }

    fn read(&mut self) -> String {
        let mut line = String::new();
        self.input.read_line(&mut line).expect("QEMU answers in time");
        line
    }
}

/// QEMU's own input and output, where it was started with `-qmp stdio`.
impl Lines for Process {
    fn write(&mut self, line: &str) {
        writeln!(self.stdin(), "{line}").expect("QEMU takes commands");
    }

    fn read(&mut self) -> String {
        self.next_line()
    }
}

/// Waits for QEMU's greeting, which comes when all its devices and sockets are there.
pub(crate) fn greet(qemu: &mut impl Lines) {
    assert!(read(qemu).get("QMP").is_some(), "QEMU greets");
    execute(qemu, "qmp_capabilities");
}

/// Gives a command without arguments and waits until QEMU has carried it out.
pub(crate) fn execute(qemu: &mut impl Lines, command: &str) {
    qemu.write(&json!({ "execute": command }).to_string());
    loop {
        let message = read(qemu);
        if message.get("event").is_some() {
            continue;
        }
        assert!(message.get("return").is_some(), "QEMU answers {command} with {message}");
        return;
    }
}

fn read(qemu: &mut impl Lines) -> Value {
    let line = qemu.read();
    serde_json::from_str(&line).unwrap_or_else(|error| panic!("QEMU says {line:?}: {error}"))
}
