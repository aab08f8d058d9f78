//! A real terminal with a shell in it: what is typed there, what is seen there, and a recording of all that.
//!
//! The recording is an asciicast, version 2, which `asciinema play` shows; a picture of what is seen can be drawn too. Both are
//! kept under `target/`, for people.

mod picture;

use std::fs::{self, File};
use std::io::{Read, Write};
use std::num::NonZeroU16;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};
use rustix::pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt};
use rustix::termios::{LocalModes, Winsize, tcgetattr, tcgetpgrp, tcsetwinsize};
use serde_json::json;
use vt100::{Parser, Screen};

use crate::harness::driver::PATIENCE;
use crate::harness::process::has_ended;
use crate::harness::program::EXECUTABLE;

/// What the shell says when it is ready for a command.
const PROMPT: &str = "$ ";
/// How long a shell and what runs in it may live on when their terminal is gone.
const LAST_BREATH: Duration = Duration::from_secs(20);

/// Where recordings are kept.
fn recordings() -> PathBuf {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("recordings");
    fs::create_dir_all(&directory).expect("a directory for recordings");
    directory
}

/// What is seen, and the file that it is recorded in.
struct Seen {
    parser: Parser,
    recording: File,
    start: Instant,
    has_ended: bool,
}

/// A terminal with a shell in it.
pub(super) struct Terminal {
    shell: Child,
    ours: File,
    seen: Arc<(Mutex<Seen>, Condvar)>,
    reader: Option<JoinHandle<()>>,
}

impl Terminal {
    /// Opens a terminal of so many columns and rows, with a shell that works in a directory and has the program in its path.
    pub(super) fn open((columns, rows): (u16, u16), directory: &Path, recording: &str) -> Self {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let ours = openpt(flags).expect("a pseudo-terminal");
        grantpt(&ours).and_then(|()| unlockpt(&ours)).expect("a pseudo-terminal that can be used");
        let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&ours, size).expect("the size of a terminal");
        let theirs = || ioctl_tiocgptpeer(&ours, flags).expect("the other end of a terminal");
        let programs = Path::new(EXECUTABLE).parent().expect("a directory").display();
        let mut command = Command::new("setsid");
        command.args(["--ctty", "/bin/sh"]).current_dir(directory).env_clear();
        command.envs([
            ("TERM", "xterm-256color"),
            ("PS1", PROMPT),
            ("PATH", &format!("{programs}:/usr/bin:/bin")),
        ]);
        let shell = command.stdin(theirs()).stdout(theirs()).stderr(theirs()).spawn().expect("a shell");
        // It keeps copies of the other end.
        drop(command);

        let mut recording = File::create(recordings().join(recording)).expect("a file for the recording");
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("a time after 1970").as_secs();
        let header = json!({"version": 2, "width": columns, "height": rows, "timestamp": now,
                            "env": {"TERM": "xterm-256color", "SHELL": "/bin/sh"}});
        writeln!(recording, "{header}").expect("a recording that is written to");
        let size = |cells| NonZeroU16::new(cells).expect("a size");
        let parser = Parser::new(size(rows), size(columns), 0);
        let seen = Seen { parser, recording, start: Instant::now(), has_ended: false };
        let seen = Arc::new((Mutex::new(seen), Condvar::new()));
        let ours = File::from(ours);
        let (output, shared) = (ours.try_clone().expect("a descriptor"), Arc::clone(&seen));
        let reader = Some(thread::spawn(move || read(output, &shared)));
        let terminal = Terminal { shell, ours, seen, reader };
        terminal.wait_prompt();
        terminal
    }

    /// Types a text, or presses keys.
    pub(super) fn press(&self, keys: &str) {
        (&self.ours).write_all(keys.as_bytes()).expect("a terminal that takes keys");
    }

    /// Runs a command to its end, and returns what is seen then.
    pub(super) fn run(&self, command: &str) -> String {
        self.press(command);
        // Until then the prompt that is seen is the last one.
        self.wait("command", |screen| screen.contents().contains(command).then_some(()));
        self.press("\n");
        self.wait_prompt()
    }

    /// Signals the program that has the terminal now.
    pub(super) fn signal(&self, signal: Signal) {
        let foreground = tcgetpgrp(&self.ours).expect("a program that has the terminal");
        kill_process(foreground, signal).expect("a signal sent");
    }

    /// Waits until the shell is ready for a command, on the screen that it has always had, and returns what is seen there.
    pub(super) fn wait_prompt(&self) -> String {
        self.wait("prompt", |screen| {
            let text = screen.contents();
            let (row, column) = screen.cursor_position();
            let line = screen.rows(0, u16::MAX).nth(row.into())?;
            // Before it may stand what a key has left, as ^C.
            let column = usize::from(column);
            let begun: String = format!("{line:column$}").chars().take(column).collect();
            let is_ready = !screen.alternate_screen() && begun.ends_with(PROMPT);
            is_ready.then_some(text)
        })
    }

    /// Waits until what is seen is what `look` looks for.
    pub(super) fn wait<T>(&self, what: &str, mut look: impl FnMut(&Screen) -> Option<T>) -> T {
        let deadline = Instant::now() + PATIENCE;
        let (seen, more) = &*self.seen;
        let mut seen = lock(seen);
        loop {
            let screen = seen.parser.screen();
            if let Some(found) = look(screen) {
                return found;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero() && !seen.has_ended, "no {what} on the terminal:\n{}", screen.contents());
            seen = more.wait_timeout(seen, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Whether it takes a line at a time, shows what is typed and has its cursor, as a shell wants it.
    pub(super) fn is_as_it_was(&self) -> bool {
        let modes = tcgetattr(&self.ours).expect("the modes of a terminal").local_modes;
        let is_cooked = modes.contains(LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG);
        let seen = lock(&self.seen.0);
        let screen = seen.parser.screen();
        is_cooked && !screen.alternate_screen() && !screen.hide_cursor()
    }

    /// Keeps a picture of what is seen now.
    pub(super) fn keep_picture(&self, name: &str) {
        let seen = lock(&self.seen.0);
        fs::write(recordings().join(name), picture::svg(seen.parser.screen()))
            .expect("a picture that is kept");
    }
}

fn lock(seen: &Mutex<Seen>) -> MutexGuard<'_, Seen> {
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Takes what is written to the terminal, until nobody has it any more.
fn read(mut output: File, shared: &(Mutex<Seen>, Condvar)) {
    let mut chunk = [0; 4096];
    let mut begun = Vec::new();
    // A terminal that nobody has any more says EIO.
    while let Ok(count @ 1..) = output.read(&mut chunk) {
        let seen = &mut *lock(&shared.0);
        seen.parser.process(&chunk[..count]);
        begun.extend_from_slice(&chunk[..count]);
        // A character that has only begun is recorded with what follows.
        let whole = match std::str::from_utf8(&begun) {
            Err(error) if error.error_len().is_none() => error.valid_up_to(),
            _ => begun.len(),
        };
        let text = String::from_utf8_lossy(&begun[..whole]).into_owned();
        begun.drain(..whole);
        let event = json!([seen.start.elapsed().as_secs_f64(), "o", text]);
        writeln!(seen.recording, "{event}").expect("a recording that is written to");
        shared.1.notify_all();
    }
    lock(&shared.0).has_ended = true;
    shared.1.notify_all();
}

impl Drop for Terminal {
    /// Ends the shell: the kernel hangs up on whatever has the terminal then.
    fn drop(&mut self) {
        let children = format!("/proc/{0}/task/{0}/children", self.shell.id());
        let children = fs::read_to_string(children).unwrap_or_default();
        let open = |pid: &str| pidfd_open(Pid::from_raw(pid.parse().ok()?)?, PidfdFlags::empty()).ok();
        let children: Vec<OwnedFd> = children.split_ascii_whitespace().filter_map(open).collect();
        let _already_gone = self.shell.kill();
        let _reaped = self.shell.wait();
        let stuck = children.iter().filter(|child| !has_ended(child, LAST_BREATH)).count();
        let _read_to_its_end = self.reader.take().map(JoinHandle::join);
        assert!(stuck == 0 || thread::panicking(), "{stuck} processes outlive their terminal");
    }
}
