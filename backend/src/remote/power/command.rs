//! Commands that start and stop a core.

use std::io::{self, Read};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};

use super::super::text::printable;
use super::{PowerError, Step};

/// Bytes of its standard error that are kept of a command, from the end.
const KEPT: usize = 1024;
/// Bytes that are read at a time.
const CHUNK: usize = 4096;
/// Reads that empty a pipe of the usual 64 KiB.
const READS_AFTER_END: usize = 16;

/// Runs a command until it has ended.
pub(super) fn run(step: Step, command: &[String], limit: Duration) -> Result<(), PowerError> {
    let Some((program, arguments)) = command.split_first() else {
        return Err(PowerError::NoCommand { step });
    };
    let failed = |source| PowerError::Run { step, command: command.to_vec(), source };
    let mut running = Running::spawn(program, arguments).map_err(failed)?;
    let status = running.wait(Instant::now() + limit).map_err(failed)?;
    match status {
        Some(status) if status.success() => Ok(()),
        Some(status) => {
            Err(PowerError::Failed { step, command: command.to_vec(), status, said: running.last_line() })
        }
        None => {
            Err(PowerError::TimedOut { step, command: command.to_vec(), limit, said: running.last_line() })
        }
    }
}

/// A command that runs. Dropped before it has ended, it is killed with all that it has started.
struct Running {
    child: Child,
    /// Its standard error, until that is closed.
    stderr: Option<ChildStderr>,
    /// The last that it said there.
    said: Vec<u8>,
}

impl Running {
    fn spawn(program: &str, arguments: &[String]) -> io::Result<Self> {
        let mut child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()?;
        Ok(Running { stderr: child.stderr.take(), child, said: Vec::new() })
    }

    /// Waits until it has ended; `None` if it has not done so in time. Its standard error is read meanwhile, as it
    /// would wait for that.
    fn wait(&mut self, deadline: Instant) -> io::Result<Option<ExitStatus>> {
        let ended = pidfd_open(Pid::from_child(&self.child), PidfdFlags::empty())?;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(None);
            }
            let mut ready = vec![PollFd::new(&ended, PollFlags::IN)];
            ready.extend(self.stderr.as_ref().map(|stderr| PollFd::new(stderr, PollFlags::IN)));
            wait_for(&mut ready, left)?;
            let has_ended = !ready[0].revents().is_empty();
            if ready.get(1).is_some_and(|stderr| !stderr.revents().is_empty()) {
                self.listen()?;
            }
            if has_ended {
                break;
            }
        }
        // Something that it has left in the background may keep its standard error open, and even write to it.
        for _ in 0..READS_AFTER_END {
            let Some(stderr) = &self.stderr else { break };
            if wait_for(&mut [PollFd::from_borrowed_fd(stderr.as_fd(), PollFlags::IN)], Duration::ZERO)? == 0
            {
                break;
            }
            self.listen()?;
        }
        self.child.wait().map(Some)
    }

    /// Reads once from its standard error, which must have something to read or be closed.
    fn listen(&mut self) -> io::Result<()> {
        let Some(stderr) = &mut self.stderr else { return Ok(()) };
        let mut chunk = [0; CHUNK];
        let count = stderr.read(&mut chunk)?;
        if count == 0 {
            self.stderr = None;
        }
        self.said.extend_from_slice(&chunk[..count]);
        self.said.drain(..self.said.len().saturating_sub(KEPT));
        Ok(())
    }

    fn last_line(&self) -> String {
        let line = self.said.trim_ascii_end().rsplit(|byte| *byte == b'\n').next();
        printable(line.unwrap_or_default())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // While it has not been waited for, nobody else can have got its number.
        if matches!(self.child.try_wait(), Ok(None)) {
            // The one error is that nobody is left in the group.
            let _ = kill_process_group(Pid::from_child(&self.child), Signal::KILL);
            let _ = self.child.wait();
        }
    }
}

/// Number of descriptors that became ready in time; none if a signal came in between.
fn wait_for(descriptors: &mut [PollFd<'_>], time: Duration) -> io::Result<usize> {
    let time = Timespec { tv_sec: time.as_secs().cast_signed(), tv_nsec: time.subsec_nanos().into() };
    match poll(descriptors, Some(&time)) {
        Err(Errno::INTR) => Ok(0),
        count => Ok(count?),
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{File, OpenOptions};
    use std::os::unix::fs::OpenOptionsExt;
    use std::path::{Path, PathBuf};

    use rustix::fs::{CWD, FileType, Mode, OFlags, mknodat};
    use tempfile::TempDir;

    use super::super::{Switch, TIME_LIMIT};
    use super::*;

    fn shell(script: &str, argument: &str) -> Vec<String> {
        ["sh", "-c", script, argument].map(str::to_owned).to_vec()
    }

    #[test]
    fn start_and_stop_run_each_its_own_command() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("core");
        let path = file.to_str().unwrap();
        let switch =
            Switch::Command { start: shell("echo up > \"$0\"", path), stop: shell("rm \"$0\"", path) };
        switch.start().unwrap();
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "up\n");
        switch.stop().unwrap();
        assert!(!file.exists());
        assert!(matches!(switch.stop(), Err(PowerError::Failed { step: Step::Stop, .. })));
    }

    #[test]
    fn a_command_that_fails_is_told_with_its_status_and_last_line() {
        let command = shell("echo first >&2; printf 'no such \\033core\\n\\n' >&2; exit 3", "");
        let error = run(Step::Start, &command, TIME_LIMIT).unwrap_err().to_string();
        assert!(error.contains("exit status: 3") && error.contains("\"no such \\u{1b}core\""), "{error}");

        let error = run(Step::Stop, &shell("kill -9 $$", ""), TIME_LIMIT).unwrap_err().to_string();
        assert!(error.contains("stop command") && error.contains("signal: 9"), "{error}");
    }

    #[test]
    fn a_command_that_does_not_exist_is_told_with_the_reason() {
        let error = run(Step::Start, &["/nonexistent/start".to_owned()], TIME_LIMIT).unwrap_err();
        assert!(
            matches!(&error, PowerError::Run { source, .. } if source.kind() == io::ErrorKind::NotFound),
            "{error}"
        );
        assert!(matches!(run(Step::Stop, &[], TIME_LIMIT), Err(PowerError::NoCommand { step: Step::Stop })));
    }

    #[test]
    fn a_command_that_says_more_than_a_pipe_holds_gets_to_its_end() {
        let script = "i=0; while [ $i -lt 3000 ]; do echo \"$i and so on until a line is well filled\"; i=$((i+1)); done >&2; exit 1";
        let error = run(Step::Start, &shell(script, ""), TIME_LIMIT).unwrap_err();
        assert!(matches!(&error, PowerError::Failed { said, .. } if said.starts_with("2999 and")), "{error}");
    }

    fn pipe(directory: &TempDir, name: &str) -> PathBuf {
        let path = directory.path().join(name);
        mknodat(CWD, &path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        path
    }

    /// The other end of a pipe that a command opens and never writes to.
    fn listen_to(pipe: &Path) -> File {
        let nonblocking = OFlags::NONBLOCK.bits().cast_signed();
        OpenOptions::new().read(true).custom_flags(nonblocking).open(pipe).unwrap()
    }

    /// Waits until nobody has the pipe open any more.
    fn wait_for_the_end(pipe: &File) {
        let mut end = [PollFd::new(pipe, PollFlags::IN)];
        assert_eq!(wait_for(&mut end, Duration::from_secs(30)).unwrap(), 1, "something still runs");
        assert!(end[0].revents().contains(PollFlags::HUP));
    }

    #[test]
    fn what_a_command_leaves_in_the_background_is_not_waited_for() {
        let directory = tempfile::tempdir().unwrap();
        let (input, life) = (pipe(&directory, "input"), pipe(&directory, "life"));
        let held = File::options().read(true).write(true).open(&input).unwrap();
        let listener = listen_to(&life);
        let script = "cd \"$0\"; exec 3< input 4> life; cat <&3 & exit 0";
        run(Step::Start, &shell(script, directory.path().to_str().unwrap()), TIME_LIMIT).unwrap();
        let mut end = [PollFd::new(&listener, PollFlags::IN)];
        assert_eq!(wait_for(&mut end, Duration::ZERO).unwrap(), 0, "it still runs");
        drop(held);
        wait_for_the_end(&listener);
    }

    #[test]
    fn a_command_that_takes_too_long_is_killed_with_all_it_has_started() {
        let directory = tempfile::tempdir().unwrap();
        let life = pipe(&directory, "life");
        let mut listener = listen_to(&life);
        let script = "exec 3> \"$0\"; sleep 1000 & echo up >&3; wait".to_owned();
        let mut running =
            Running::spawn("sh", &["-c".to_owned(), script, life.to_str().unwrap().to_owned()]).unwrap();
        let mut ready = [PollFd::new(&listener, PollFlags::IN)];
        assert_eq!(wait_for(&mut ready, Duration::from_secs(30)).unwrap(), 1);
        listener.read_exact(&mut [0; 3]).unwrap();
        assert_eq!(running.wait(Instant::now()).unwrap(), None);
        drop(running);
        wait_for_the_end(&listener);
    }

    #[test]
    fn a_command_that_takes_too_long_is_told_with_the_time_it_had() {
        let error = run(Step::Stop, &shell("exec sleep 1000", ""), Duration::from_millis(10)).unwrap_err();
        assert!(error.to_string().contains("had not ended after 0.01 s"), "{error}");
    }
}
