//! `rpmsg-softcore` as a child process that does not outlive its test.

use std::fs::OpenOptions;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Output, Stdio};

use tempfile::TempDir;

use crate::host::Host;

/// A running core.
#[derive(Debug)]
pub(crate) struct Program {
    pub(crate) folder: TempDir,
    pub(crate) child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
    pub(crate) size: u64,
    pub(crate) table: u32,
}

fn command(folder: &TempDir, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rpmsg-softcore"));
    command
        .arg("--memory")
        .arg(folder.path().join("memory"))
        .arg("--doorbell")
        .arg(folder.path().join("bell"))
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// Starts a core that is expected to refuse; its end.
pub(crate) fn refused(folder: &TempDir, arguments: &[&str]) -> Output {
    let output = command(folder, arguments).output().unwrap();
    assert!(!output.status.success(), "{output:?}");
    output
}

impl Program {
    /// Starts a core and waits until it listens.
    pub(crate) fn start(arguments: &[&str]) -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), arguments)
    }

    /// The same in a folder that may hold what an earlier one has left.
    pub(crate) fn start_in(folder: TempDir, arguments: &[&str]) -> Self {
        let mut child = command(&folder, arguments).spawn().unwrap();
        let mut program = Program {
            input: child.stdin.take(),
            output: BufReader::new(child.stdout.take().unwrap()),
            child,
            folder,
            size: 0,
            table: 0,
        };
        let ready = program.line();
        assert!(ready.starts_with("ready "), "{ready}{}", program.errors());
        let field = |name: &str| ready.split(' ').find_map(|word| word.strip_prefix(name)).unwrap().trim();
        program.size = field("size=").parse().unwrap();
        program.table = u32::from_str_radix(field("table=0x"), 16).unwrap();
        program
    }

    pub(crate) fn memory(&self) -> PathBuf {
        self.folder.path().join("memory")
    }

    pub(crate) fn bell(&self) -> PathBuf {
        self.folder.path().join("bell")
    }

    /// A host that is connected, with nothing brought up.
    pub(crate) fn host(&self) -> Host {
        let memory = OpenOptions::new().read(true).write(true).open(self.memory()).unwrap();
        let bell = UnixStream::connect(self.bell()).unwrap();
        Host::new(memory, self.size, self.table, Some(bell))
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        line
    }

    /// The answer to a command.
    pub(crate) fn answer(&mut self, command: &str) -> String {
        writeln!(self.input.as_mut().unwrap(), "{command}").unwrap();
        self.line().trim_end().to_owned()
    }

    /// The answer to a command that succeeds, without its `ok`.
    pub(crate) fn ok(&mut self, command: &str) -> String {
        let answer = self.answer(command);
        let text = answer.strip_prefix("ok").unwrap_or_else(|| panic!("{command}: {answer}"));
        text.trim().to_owned()
    }

    /// A counter of the core itself, or of a service.
    pub(crate) fn stat(&mut self, service: Option<&str>, name: &str) -> String {
        let stats = self.ok("stats");
        let part = match service {
            None => stats.split(" | ").next(),
            Some(service) => stats.split(" | ").find(|part| part.starts_with(&format!("{service} "))),
        };
        let field = format!("{name}=");
        let found = part.unwrap().split(' ').find_map(|word| word.strip_prefix(&field));
        found.unwrap_or_else(|| panic!("{name} in {stats}")).to_owned()
    }

    /// Asks until the core is in this state.
    pub(crate) fn wait_for_state(&mut self, state: &str) {
        let start = std::time::Instant::now();
        while self.stat(None, "state") != state {
            assert!(start.elapsed() < crate::host::PATIENCE, "{}", self.ok("stats"));
            std::thread::yield_now();
        }
    }

    /// No more commands.
    pub(crate) fn close_input(&mut self) {
        self.input = None;
    }

    /// Kills the core and returns what it has said on standard error.
    pub(crate) fn errors(&mut self) -> String {
        let _ = self.child.kill();
        let mut text = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut text).unwrap();
        text
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
