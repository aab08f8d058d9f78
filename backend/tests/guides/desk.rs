//! A reader's desk: a folder like the repository's root, terminals, and what was printed there.

use std::fs;
use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;

use super::blocks::{Block, Kind, blocks_of, root};
use super::harness::process::Process;
use super::harness::program::EXECUTABLE;
use super::shown::{assert_shown, is_shown};

/// What a guest's shell begins its lines with.
const PROMPT: &str = "/ # ";

/// A terminal in which something goes on.
struct Terminal {
    name: String,
    process: Process,
    /// Lines that were looked at.
    seen: usize,
}

/// Where a guide is followed. Terminals are closed before the folder goes.
pub(crate) struct Desk {
    terminals: Vec<Terminal>,
    /// What the last block has printed.
    printed: String,
    folder: TempDir,
}

impl Desk {
    /// A folder with links to what the repository has, and to what was built for this test in place of a release.
    pub(crate) fn new() -> Self {
        let folder = TempDir::new().expect("temporary folder");
        let link = |to: &Path, name: &str| symlink(to, folder.path().join(name)).expect("a link");
        for name in ["backend", "ci", "dts", "guest-images"] {
            link(&root().join(name), name);
        }
        fs::create_dir(folder.path().join("target")).expect("a folder");
        for name in ["guests", "qemu", "firmware"] {
            link(&root().join("target").join(name), &format!("target/{name}"));
        }
        link(&programs(), "target/release");
        Desk { terminals: Vec::new(), printed: String::new(), folder }
    }

    /// Does everything that a guide says, in order, and ends what goes on.
    pub(crate) fn follow(self, guide: &str) {
        self.follow_with(guide, &[]);
    }

    /// The same with other paths than those of the guide.
    pub(crate) fn follow_with(mut self, guide: &str, paths: &[(&str, &str)]) {
        for mut block in blocks_of(guide) {
            for (there, here) in paths {
                block.text = block.text.replace(there, here);
            }
            self.step(&block);
        }
        self.end();
    }

    /// Starts a command that goes on, in a terminal of its own.
    pub(crate) fn start(&mut self, name: &str, command: &str) {
        let shell = self.shell(&format!("exec 1>&2\nexec {command}"));
        let process = Process::spawn(name, Stdio::piped(), shell);
        self.terminals.push(Terminal { name: name.to_owned(), process, seen: 0 });
    }

    fn step(&mut self, block: &Block) {
        let Block { kind, place, text, .. } = block;
        match kind {
            Kind::Run => self.printed = self.run(place, text),
            Kind::Terminal(name) => self.start(name, text),
            Kind::Interrupted(said) => {
                for command in text.lines() {
                    self.start(command, command);
                    self.wait_for(place, command, &format!("...{said}..."));
                    self.close();
                }
            }
            Kind::Guest(name) => self.printed = self.terminal(name).type_in(place, text),
            Kind::Output(None) => assert_shown(place, text, &self.printed),
            Kind::Output(Some(name)) => self.wait_for(place, name, text),
            Kind::Toml(Some(name)) => {
                self.make(name, text);
                self.run(place, &format!("vhost-device-rpmsg check {name}"));
            }
            Kind::Tree(name) => self.make(name, text),
            Kind::Setup
            | Kind::Board
            | Kind::Elsewhere
            | Kind::Tested(_)
            | Kind::Form(_)
            | Kind::Toml(None)
            | Kind::Source(_)
            | Kind::Json => {}
        }
    }

    /// Waits until these lines were said in a terminal, among others, since the last time.
    pub(crate) fn wait_for(&mut self, place: &str, terminal: &str, shown: &str) {
        self.terminal(terminal).wait_for(place, shown);
    }

    pub(crate) fn make(&self, name: &str, text: &str) {
        fs::write(self.folder.path().join(name), text).expect("a file");
    }

    /// Runs commands to their end and returns what they print.
    pub(crate) fn run(&self, place: &str, text: &str) -> String {
        let mut process = Process::spawn(place, Stdio::null(), self.shell(&format!("exec 2>&1\n{text}")));
        let status = process.wait_exit();
        let printed = process.stdout();
        assert!(status.success(), "{place}: {status} after\n{text}\nwhich prints\n{printed}");
        printed
    }

    /// Whether `check` accepts a configuration; what it says about it.
    pub(crate) fn check(&self, configuration: &str) -> Result<String, String> {
        self.make("checked.toml", configuration);
        let mut process = Process::spawn(
            "check",
            Stdio::null(),
            self.shell("exec 2>&1\nvhost-device-rpmsg check checked.toml"),
        );
        let status = process.wait_exit();
        if status.success() { Ok(process.stdout()) } else { Err(process.stdout()) }
    }

    /// Whether the program takes a command line, whatever comes of it.
    pub(crate) fn takes(&self, place: &str, command: &str) {
        // Whoever uses the program on this host is not to be asked for anything.
        let command =
            command.replace("/run/", "nowhere/").replace("/tmp/", "nowhere/").replace("/etc/", "nowhere/");
        let mut process = Process::spawn(place, Stdio::null(), self.shell(&format!("exec {command}")));
        let status = process.wait_exit();
        assert_eq!(status.code(), Some(1), "{place}: {command:?} ends with {status}: {}", process.stderr());
    }

    /// A shell on this desk, which stops at the first command that fails.
    fn shell(&self, text: &str) -> Command {
        let path = std::env::var("PATH").unwrap_or_default();
        let qemu = root().join("target/qemu/bin");
        let mut shell = Command::new("bash");
        shell
            .args(["-e", "-u", "-o", "pipefail", "-c", text])
            .current_dir(self.folder.path())
            .env("PATH", format!("{}:{}:{path}", programs().display(), qemu.display()))
            .env("HOME", self.folder.path())
            .env_remove("RUST_LOG")
            .env("RUST_BACKTRACE", "1");
        shell
    }

    /// The last terminal of this name.
    fn terminal(&mut self, name: &str) -> &mut Terminal {
        let found = self.terminals.iter_mut().rev().find(|terminal| terminal.name == name);
        found.unwrap_or_else(|| panic!("no terminal {name}"))
    }

    /// Closes the newest terminal: what runs there ends in good order.
    fn close(&mut self) {
        let Some(mut terminal) = self.terminals.pop() else { return };
        terminal.process.terminate();
        let status = terminal.process.wait_exit();
        assert!(status.success(), "{} ends with {status}: {}", terminal.name, terminal.process.stderr());
    }

    fn end(mut self) {
        while !self.terminals.is_empty() {
            self.close();
        }
    }
}

impl Drop for Desk {
    fn drop(&mut self) {
        while self.terminals.pop().is_some() {}
    }
}

impl Terminal {
    /// Lines that several threads say come in no certain order.
    fn wait_for(&mut self, place: &str, shown: &str) {
        let from = self.seen;
        for shown in shown.lines().filter(|line| *line != "...") {
            let what = format!("{place}: line like {shown:?}");
            let (next, _) = self.process.wait_line(from, &what, |line| is_shown(shown, line));
            self.seen = self.seen.max(next);
        }
    }

    /// Types commands in a guest's shell, each of which must succeed, and returns what they print. The console is also the
    /// kernel's, whose lines are left out; empty ones are too.
    fn type_in(&mut self, place: &str, text: &str) -> String {
        let mut printed = String::new();
        for command in text.lines() {
            // The terminal repeats what is typed; only what is printed has the number behind the signs.
            writeln!(self.process.stdin(), "{command}; echo \"@@\"\"$?\"").expect("the guest takes commands");
            let (end, _) = self.process.wait_line(self.seen, command, |line| line.starts_with("@@"));
            let said = self.process.stderr();
            let lines: Vec<_> = said.lines().take(end).skip(self.seen).map(str::trim_end).collect();
            self.seen = end;
            let (code, lines) = lines.split_last().expect("a code");
            assert_eq!(*code, "@@0", "{place}: {command:?} prints {lines:?}");
            let is_said_besides =
                |line: &str| line.starts_with('[') || line.starts_with(PROMPT) || line.ends_with("\"$?\"");
            let lines = lines.iter().filter(|line| !line.is_empty() && !is_said_besides(line));
            printed.extend(lines.map(|line| format!("{line}\n")));
        }
        printed
    }
}

/// Where the programs were built.
fn programs() -> PathBuf {
    Path::new(EXECUTABLE).parent().expect("a folder").to_owned()
}
