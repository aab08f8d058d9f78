//! A child of this process that has the filter, makes one system call and ends.

use nix::libc;
use vhost_device_rpmsg::operate::sandbox::filter::{Filter, Seccomp};

/// The filter as the program has it by default.
pub(crate) fn filter(seccomp: Seccomp) -> Filter {
    Filter::new(seccomp).expect("a filter for this processor").expect("one is wanted")
}

/// How a child has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// The call has come back: what `errno` was, or 0 for none.
    Returned(i32),
    /// A signal has ended it.
    Killed(i32),
}

/// Killed by the filter.
pub(crate) const REFUSED: Ended = Ended::Killed(libc::SIGSYS);

/// What the child says where its filter could not be applied; no `errno`.
const NO_FILTER: i32 = 255;

/// Has a child make a system call.
pub(crate) fn try_call(filter: &Filter, number: i64, arguments: [u64; 6]) -> Ended {
    let [a, b, c, d, e, f] = arguments;
    let before = std::io::Error::last_os_error();
    // SAFETY: the child makes system calls only, and neither allocates nor takes a lock.
    let child = unsafe { libc::fork() };
    assert!(child >= 0, "fork: {before}");
    if child == 0 {
        if filter.apply().is_err() {
            // SAFETY: it does not come back.
            unsafe { libc::_exit(NO_FILTER) };
        }
        // SAFETY: whatever the call does, it does to this child, which is about to end.
        let result = unsafe { libc::syscall(number, a, b, c, d, e, f) };
        // SAFETY: the variable of this thread.
        let errno = if result == -1 { unsafe { *libc::__errno_location() } } else { 0 };
        // SAFETY: it does not come back.
        unsafe { libc::_exit(errno) };
    }
    let mut status = 0;
    // SAFETY: the status is written to a variable of ours; nobody else waits for this child.
    let waited = unsafe { libc::waitpid(child, &raw mut status, 0) };
    assert_eq!(waited, child);
    if libc::WIFSIGNALED(status) {
        return Ended::Killed(libc::WTERMSIG(status));
    }
    let code = libc::WEXITSTATUS(status);
    assert_ne!(code, NO_FILTER, "the filter was not applied");
    Ended::Returned(code)
}
