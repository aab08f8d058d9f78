//! QEMU's control socket (its `docs/interop/qmp-spec.rst`): one JSON object a line.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;

use serde_json::{Value, json};

use super::driver::PATIENCE;

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
        assert!(qmp.read().get("QMP").is_some(), "QEMU greets");
        qmp.command("qmp_capabilities");
        qmp
    }

    /// Gives a command without arguments and waits until QEMU has carried it out.
    pub(crate) fn command(&mut self, command: &str) {
        writeln!(self.output, "{}", json!({ "execute": command })).expect("QEMU takes commands");
        loop {
            let message = self.read();
            if message.get("event").is_some() {
                continue;
            }
            assert!(message.get("return").is_some(), "QEMU answers {command} with {message}");
            return;
        }
    }

    fn read(&mut self) -> Value {
        let mut line = String::new();
        self.input.read_line(&mut line).expect("QEMU answers in time");
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("QEMU says {line:?}: {error}"))
    }
}
