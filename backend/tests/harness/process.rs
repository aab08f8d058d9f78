//! A process that the tests have started: what it says, and that it ends.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open, pidfd_send_signal};

use super::driver::PATIENCE;

/// Lines that a process has written to one of its streams, as they come.
#[derive(Default)]
struct Lines {
    said: Mutex<Said>,
    more: Condvar,
}

#[derive(Default)]
struct Said {
    lines: Vec<String>,
    /// How many of the lines [`Lines::next`] has handed out.
    read: usize,
    ended: bool,
}

impl Lines {
    fn collect(self: Arc<Self>, stream: impl Read + Send + 'static) -> JoinHandle<()> {
        thread::spawn(move || {
            for line in BufReader::new(stream).split(b'\n').map_while(Result::ok) {
                self.said().lines.push(String::from_utf8_lossy(&line).into_owned());
                self.more.notify_all();
            }
            self.said().ended = true;
            self.more.notify_all();
        })
    }

    /// What was said so far, also after a test has failed while it looked.
    fn said(&self) -> MutexGuard<'_, Said> {
        self.said.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until `look` finds what it looks for; `None` if the stream ends before.
    fn wait<T>(&self, what: &str, mut look: impl FnMut(&mut Said) -> Option<T>) -> Option<T> {
        let deadline = Instant::now() + PATIENCE;
        let mut said = self.said();
        loop {
            if let Some(found) = look(&mut said) {
                return Some(found);
            }
            if said.ended {
                return None;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "stuck: no {what} within {PATIENCE:?}");
            said = self.more.wait_timeout(said, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn text(&self) -> String {
        self.said().lines.join("\n")
    }
}

/// How long those that a killed process has started may live on.
const LAST_BREATH: Duration = Duration::from_secs(20);

/// Waits until a process is gone, for so long at most. Returns whether it is.
pub fn has_ended(process: &OwnedFd, limit: Duration) -> bool {
    let limit = Timespec { tv_sec: limit.as_secs().cast_signed(), tv_nsec: 0 };
    let mut ended = [PollFd::new(process, PollFlags::IN)];
    rustix::io::retry_on_intr(|| poll(&mut ended, Some(&limit))).expect("poll") == 1
}

/// A running process. It is killed and reaped when dropped; what it wrote to stderr is shown if the test fails, and a
/// panic in it fails the test.
pub struct Process {
    name: String,
    child: Child,
    stdout: Arc<Lines>,
    stderr: Arc<Lines>,
    readers: Vec<JoinHandle<()>>,
    /// Whether the test has seen it end.
    seen_to_end: bool,
}

impl Process {
    /// Starts a process with its output on pipes.
    pub fn spawn(name: &str, stdin: Stdio, mut command: Command) -> Self {
        let mut child = command
            .stdin(stdin)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|e| panic!("start of {name} ({command:?}): {e}"));
        let (stdout, stderr) = (Arc::new(Lines::default()), Arc::new(Lines::default()));
        let readers = vec![
            Arc::clone(&stdout).collect(child.stdout.take().expect("piped")),
            Arc::clone(&stderr).collect(child.stderr.take().expect("piped")),
        ];
        Process { name: name.to_owned(), child, stdout, stderr, readers, seen_to_end: false }
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// The processes that it has started and that are there.
    pub fn children(&self) -> Vec<Pid> {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.id())).into_iter().flatten().flatten();
        let children = tasks.filter_map(|task| fs::read_to_string(task.path().join("children")).ok());
        let pid = |pid: &str| Pid::from_raw(pid.parse().ok()?);
        children.flat_map(|line| line.split_ascii_whitespace().filter_map(pid).collect::<Vec<_>>()).collect()
    }

    /// Its standard input.
    pub fn stdin(&mut self) -> &mut ChildStdin {
        self.child.stdin.as_mut().expect("piped")
    }

    /// The next line of its standard output.
    pub fn next_line(&mut self) -> String {
        let line = self.stdout.wait(&format!("line from {}", self.name), |said| {
            let line = said.lines.get(said.read)?.clone();
            said.read += 1;
            Some(line)
        });
        line.unwrap_or_else(|| panic!("{} ended without an answer", self.name))
    }

    /// Waits until it has written a line to stderr in which `text` occurs, and returns the line.
    pub fn wait_log(&self, text: &str) -> String {
        self.wait_log_again(text, 1)
    }

    /// The same for the line in which the text occurs for the `nth` time, from 1.
    pub fn wait_log_again(&self, text: &str, nth: usize) -> String {
        let what = format!("{text:?} ({nth}.) in the log of {}", self.name);
        let (mut next, mut line) = (0, String::new());
        for _ in 0..nth {
            (next, line) = self.wait_line(next, &what, |line| line.contains(text));
        }
        line
    }

    /// Waits until it has written a line to stderr that `is_it`, from the line numbered `from` on. Returns the number of the
    /// one behind it, and the line.
    pub fn wait_line(&self, from: usize, what: &str, is_it: impl Fn(&str) -> bool) -> (usize, String) {
        let found = self.stderr.wait(what, |said| {
            let at = from + said.lines.iter().skip(from).position(|line| is_it(line))?;
            Some((at + 1, said.lines[at].clone()))
        });
        found.unwrap_or_else(|| panic!("{} ended without {what}", self.name))
    }

    /// All it has written to stdout.
    pub fn stdout(&self) -> String {
        self.stdout.text()
    }

    /// All it has written to stderr.
    pub fn stderr(&self) -> String {
        self.stderr.text()
    }

    /// Asks it to end, as a service manager does.
    pub fn terminate(&self) {
        kill_process(Pid::from_child(&self.child), Signal::TERM).expect("SIGTERM sent");
    }

    /// Ends it without any warning.
    pub fn kill(&mut self) {
        self.child.kill().expect("SIGKILL sent");
        let status = self.wait_exit();
        assert_eq!(status.signal(), Some(Signal::KILL.as_raw()), "{} ended before: {status}", self.name);
    }

    /// Waits for its end.
    pub fn wait_exit(&mut self) -> ExitStatus {
        for stream in [&self.stdout, &self.stderr] {
            let ended = stream.wait::<()>(&format!("end of {}", self.name), |_| None);
            debug_assert!(ended.is_none());
        }
        self.seen_to_end = true;
        self.child.wait().expect("reaped")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let ended = if self.seen_to_end { None } else { self.child.try_wait().ok().flatten() };
        let children = self.children().into_iter();
        let children: Vec<_> = children.filter_map(|pid| pidfd_open(pid, PidfdFlags::empty()).ok()).collect();
        let _already_gone = self.child.kill();
        let _reaped = self.child.wait();
        let stuck: Vec<_> = children.iter().filter(|child| !has_ended(child, LAST_BREATH)).collect();
        for child in &stuck {
            let _gone_meanwhile = pidfd_send_signal(child, Signal::KILL);
        }
        for reader in self.readers.drain(..) {
            let _done = reader.join();
        }
        let log = self.stderr.text();
        if thread::panicking() {
            eprintln!("----- stderr of {} -----\n{log}\n-----", self.name);
            return;
        }
        assert!(stuck.is_empty(), "{} is outlived by what it has started:\n{log}", self.name);
        assert!(!log.contains("panicked"), "{} panicked:\n{log}", self.name);
        if let Some(status) = ended {
            panic!("{} ended by itself ({status}):\n{log}", self.name);
        }
    }
}
