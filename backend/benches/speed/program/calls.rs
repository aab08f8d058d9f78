//! Counts the system calls that a process makes, from outside, by `ptrace`.
//!
//! The thread that is counted is the one that has had most of its core so far: the one that moves messages. Each of its calls
//! stops it twice for some microseconds, so that it finds more to do after each: the count is right for what it did, and a
//! little low for what it would have done by itself. Calls of the vDSO (the clock) are none.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::{fs, io, thread};

use nix::errno::Errno;
use nix::sys::ptrace::{self, Options};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use crate::cores::{FAR, pin};

/// Counts the calls of a process's busiest thread while `work` is done. `wake` has to make it call something.
///
/// # Errors
/// This process may not trace that one: it needs `CAP_SYS_PTRACE`.
pub(super) fn count<T>(process: i32, work: impl FnOnce() -> T, wake: impl FnOnce()) -> Result<u64, Errno> {
    let busiest = busiest_thread(process).map_err(|_gone| Errno::ESRCH)?;
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let (begun, has_begun) = channel();
        let done = &done;
        let tracer = scope.spawn(move || {
            pin(FAR);
            attach(busiest)?;
            begun.send(()).map_err(|_gone| Errno::ECANCELED)?;
            follow(busiest, done)
        });
        if has_begun.recv().is_ok() {
            work();
            done.store(true, Ordering::SeqCst);
            // It sleeps by now or will soon: either is a call, and the tracer is waiting for one.
            wake();
        }
        tracer.join().expect("a tracer that does not panic")
    })
}

fn busiest_thread(process: i32) -> io::Result<Pid> {
    let mut busiest = (0, process);
    for thread in fs::read_dir(format!("/proc/{process}/task"))? {
        let thread = thread?;
        let text = fs::read_to_string(thread.path().join("schedstat"))?;
        let time: u64 = text.split(' ').next().and_then(|word| word.parse().ok()).unwrap_or(0);
        let number = thread.file_name().to_str().and_then(|name| name.parse().ok());
        busiest = busiest.max((time, number.unwrap_or(process)));
    }
    Ok(Pid::from_raw(busiest.1))
}

fn attach(thread: Pid) -> Result<(), Errno> {
    ptrace::seize(thread, Options::PTRACE_O_TRACESYSGOOD)?;
    ptrace::interrupt(thread)?;
    waitpid(thread, Some(WaitPidFlag::__WALL))?;
    ptrace::syscall(thread, None)
}

/// Counts until it is done, and lets go.
fn follow(thread: Pid, done: &AtomicBool) -> Result<u64, Errno> {
    let mut stops = 0_u64;
    loop {
        let signal = match waitpid(thread, Some(WaitPidFlag::__WALL))? {
            WaitStatus::Exited(..) | WaitStatus::Signaled(..) => return Err(Errno::ESRCH),
            WaitStatus::Stopped(_, signal) => Some(signal),
            WaitStatus::PtraceSyscall(_) => {
                stops += 1;
                None
            }
            _ => None,
        };
        if done.load(Ordering::SeqCst) {
            ptrace::detach(thread, signal)?;
            // One for the way in, and one for the way out.
            return Ok(stops / 2);
        }
        ptrace::syscall(thread, signal)?;
    }
}
