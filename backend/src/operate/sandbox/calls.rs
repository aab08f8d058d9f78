//! The system calls that the worker makes, each with its reason.
//!
//! The list was measured by `strace` under the test suites (glibc 2.36 and its malloc, Rust 1.95, x86-64); only brk,
//! clock_gettime, clock_nanosleep and restart_syscall stand there for what tests do not meet. Numbers come from `libc`, so
//! that aarch64 has the same list with its own numbers, under which the same suites pass (`ci/arm64`); a call that only one of
//! the two has stands there by its architecture.
//!
//! Arguments are restricted where they decide what a call can do: no executable memory, no processes, no files, no sockets
//! but what is handed over. Their low 32 bits are compared: the kernel looks at no more of any of them.

use nix::libc;

/// A system call, and how it may be made.
#[derive(Debug)]
pub struct Call {
    /// Its number.
    pub number: i64,
    /// Its name.
    pub name: &'static str,
    /// What it is needed for.
    pub why: &'static str,
    /// What its arguments may be: everything in one of these. Anything, where there are none.
    pub ways: &'static [&'static [Is]],
}

/// What an argument has to be. The first is number 0.
#[derive(Clone, Copy, Debug)]
pub enum Is {
    /// This.
    Exactly(u8, u64),
    /// With only these bits looked at, this: argument, mask, value.
    Masked(u8, u64, u64),
}

use Is::{Exactly, Masked};

/// Calls that are answered as if the kernel did not have them, as the C library and malloc know how to go on without.
pub const ABSENT: &[(i64, &str)] = &[
    (
        libc::SYS_clone3,
        "clone3: its flags are in memory, where no filter sees them; glibc takes clone instead",
    ),
    (
        libc::SYS_sched_getaffinity,
        "sched_getaffinity: glibc asks for it beside the bounds of a thread's stack",
    ),
    (
        libc::SYS_set_robust_list,
        "set_robust_list: for mutexes shared between processes, of which there are none",
    ),
    (libc::SYS_openat, "openat: malloc wants to read overcommit_memory when it first gives a heap back"),
    (libc::SYS_mremap, "mremap: malloc copies large blocks instead"),
];

/// Flags of a thread as glibc makes one (`sysdeps/unix/sysv/linux/createthread.c`).
const THREAD: u64 = bits(
    libc::CLONE_VM
        | libc::CLONE_FS
        | libc::CLONE_FILES
        | libc::CLONE_SIGHAND
        | libc::CLONE_THREAD
        | libc::CLONE_SYSVSEM
        | libc::CLONE_SETTLS
        | libc::CLONE_PARENT_SETTID
        | libc::CLONE_CHILD_CLEARTID,
);

/// Protections that memory may have: any but to be executed.
const NOT_EXECUTABLE: Is = Masked(2, bits(libc::PROT_EXEC), 0);

/// All of them.
pub const CALLS: &[Call] = &[
    call(libc::SYS_read, "read", "event descriptors, timers, interrupts of UIO devices, firmware"),
    call(libc::SYS_write, "write", "event descriptors, interrupts of UIO devices, the log, dumps"),
    call(libc::SYS_recvfrom, "recvfrom", "doorbells, control connections, metrics"),
    call(libc::SYS_sendto, "sendto", "doorbells, control connections, metrics"),
    call(libc::SYS_recvmsg, "recvmsg", "vhost-user and the keeper: messages with descriptors"),
    call(libc::SYS_sendmsg, "sendmsg", "vhost-user and the keeper: messages with descriptors"),
    call(libc::SYS_accept4, "accept4", "connections to sockets that the keeper has opened"),
    call(
        libc::SYS_shutdown,
        "shutdown",
        "ending a connection that another thread waits on, hanging up a doorbell",
    ),
    call(libc::SYS_close, "close", "descriptors of VMs and remote cores that have gone"),
    restricted(
        libc::SYS_fcntl,
        "fcntl",
        "duplicates of descriptors; doorbells and interrupts that do not block",
        &[
            &[Exactly(1, bits(libc::F_DUPFD_CLOEXEC))],
            &[Exactly(1, bits(libc::F_GETFD))],
            &[Exactly(1, bits(libc::F_GETFL))],
            &[Exactly(1, bits(libc::F_SETFL))],
        ],
    ),
    restricted(libc::SYS_ioctl, "ioctl", "connections that do not block", &[&[Exactly(1, libc::FIONBIO)]]),
    restricted(
        libc::SYS_statx,
        "statx",
        "the size of a file that is to be mapped, and whether it is another one than before",
        &[&[Exactly(2, bits(libc::AT_EMPTY_PATH))]],
    ),
    call(libc::SYS_ppoll, "ppoll", "waiting for a connection or its end"),
    #[cfg(target_arch = "x86_64")]
    call(libc::SYS_epoll_wait, "epoll_wait", "event loops"),
    #[cfg(not(target_arch = "x86_64"))]
    call(libc::SYS_epoll_pwait, "epoll_pwait", "event loops"),
    call(libc::SYS_epoll_ctl, "epoll_ctl", "event loops"),
    call(libc::SYS_epoll_create1, "epoll_create1", "the event loop of a VM that has come"),
    call(libc::SYS_eventfd2, "eventfd2", "the descriptors of a VM that has come"),
    call(libc::SYS_timerfd_create, "timerfd_create", "the timer of a bridge"),
    call(libc::SYS_timerfd_settime, "timerfd_settime", "the timer of a bridge"),
    restricted(
        libc::SYS_mmap,
        "mmap",
        "memory of guests and remote cores, stacks of threads, malloc; in the place of memory that was torn away",
        &[&[NOT_EXECUTABLE]],
    ),
    call(libc::SYS_munmap, "munmap", "memory of guests and remote cores that have gone, stacks, malloc"),
    restricted(
        libc::SYS_mprotect,
        "mprotect",
        "guard pages of stacks, growing heaps of threads",
        &[&[NOT_EXECUTABLE]],
    ),
    restricted(
        libc::SYS_madvise,
        "madvise",
        "giving back the stack of a thread that has ended, heaps",
        &[&[Exactly(2, bits(libc::MADV_DONTNEED))]],
    ),
    call(libc::SYS_brk, "brk", "malloc on the first thread"),
    restricted(libc::SYS_clone, "clone", "threads, and nothing but threads", &[&[Exactly(0, THREAD)]]),
    call(libc::SYS_rseq, "rseq", "glibc gives a thread up that cannot register"),
    call(libc::SYS_sigaltstack, "sigaltstack", "the stack on which a thread handles a bus error"),
    call(libc::SYS_rt_sigprocmask, "rt_sigprocmask", "glibc blocks signals while a thread comes or goes"),
    call(
        libc::SYS_rt_sigaction,
        "rt_sigaction",
        "glibc with the first thread; a bus error that is our own fault",
    ),
    call(libc::SYS_rt_sigreturn, "rt_sigreturn", "back from the handler of bus errors and of SIGTERM"),
    restricted(libc::SYS_prctl, "prctl", "names of threads", &[&[Exactly(0, bits(libc::PR_SET_NAME))]]),
    call(libc::SYS_gettid, "gettid", "the handler of stack overflows knows threads by it"),
    call(libc::SYS_futex, "futex", "locks, channels, threads that are waited for"),
    call(
        libc::SYS_clock_gettime,
        "clock_gettime",
        "the time, where the clock is none that a process can read by itself",
    ),
    call(
        libc::SYS_clock_nanosleep,
        "clock_nanosleep",
        "a pause after connections that could not be accepted",
    ),
    call(libc::SYS_restart_syscall, "restart_syscall", "a wait that SIGSTOP and SIGCONT have interrupted"),
    call(libc::SYS_getrandom, "getrandom", "hash tables that nobody can make collide"),
    call(libc::SYS_exit, "exit", "the end of a thread"),
    call(libc::SYS_exit_group, "exit_group", "the end"),
];

const fn call(number: i64, name: &'static str, why: &'static str) -> Call {
    Call { number, name, why, ways: &[] }
}

const fn restricted(
    number: i64,
    name: &'static str,
    why: &'static str,
    ways: &'static [&'static [Is]],
) -> Call {
    Call { number, name, why, ways }
}

/// A constant of the C library's, none of which is negative, as an argument.
const fn bits(constant: i32) -> u64 {
    constant.cast_unsigned() as u64
}
