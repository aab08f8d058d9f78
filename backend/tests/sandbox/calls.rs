//! System calls, one by one.

use std::collections::HashSet;
use std::ptr::null_mut;

use nix::libc;
use vhost_device_rpmsg::operate::sandbox::calls::{ABSENT, CALLS};
use vhost_device_rpmsg::operate::sandbox::filter::{Filter, Seccomp};

use crate::child::{Ended, REFUSED, filter, try_call};

/// Beyond the last system call that there is (Linux 7.1 has 471).
const END: i64 = 512;
/// What marks a call of the x32 ABI (`__X32_SYSCALL_BIT`), which goes the same way on x86-64.
const X32: i64 = 0x4000_0000;

/// `uretprobe` and `uprobe` of x86-64, which new kernels do not show to filters (Linux 6.13, `__secure_computing`): they
/// do nothing where the kernel itself has not written them.
const UNFILTERED: [i64; 2] = if cfg!(target_arch = "x86_64") { [335, 336] } else { [-1, -1] };

const NOTHING: [u64; 6] = [0; 6];

pub(crate) fn others_kill() {
    let filter = filter(Seccomp::Kill);
    let known: HashSet<i64> =
        CALLS.iter().map(|call| call.number).chain(ABSENT.iter().map(|(number, _)| *number)).collect();
    for number in (0..END).filter(|number| !known.contains(number)) {
        let ended = try_call(&filter, number, NOTHING);
        let is_refused = ended == REFUSED || UNFILTERED.contains(&number) && ended != Ended::Returned(0);
        assert!(is_refused, "system call {number}: {ended:?}");
    }
    if cfg!(target_arch = "x86_64") {
        for number in 0..END {
            assert_eq!(try_call(&filter, X32 | number, NOTHING), REFUSED, "x32 system call {number}");
        }
    }
    for number in [i64::from(u32::MAX), i64::from(i32::MAX), -1] {
        assert_eq!(try_call(&filter, number, NOTHING), REFUSED, "system call {number}");
    }
}

pub(crate) fn absent_are_absent() {
    for seccomp in [Seccomp::Kill, Seccomp::Log] {
        let filter = filter(seccomp);
        for (number, name) in ABSENT {
            assert_eq!(try_call(&filter, *number, NOTHING), Ended::Returned(libc::ENOSYS), "{name}");
        }
    }
}

pub(crate) fn other_arguments_kill() {
    let filter = filter(Seccomp::Kill);
    let bits = |value: i32| u64::from(value.cast_unsigned());
    let protection =
        |value| [0, 4096, bits(value), bits(libc::MAP_PRIVATE | libc::MAP_ANONYMOUS), u64::MAX, 0];
    let (read, write, execute) = (libc::PROT_READ, libc::PROT_WRITE, libc::PROT_EXEC);
    let threads =
        libc::CLONE_VM | libc::CLONE_FS | libc::CLONE_FILES | libc::CLONE_SIGHAND | libc::CLONE_THREAD;
    let path = c"/etc/passwd".as_ptr().addr() as u64;
    let cases: &[(&str, i64, [u64; 6])] = &[
        ("executable memory", libc::SYS_mmap, protection(execute)),
        ("writable and executable memory", libc::SYS_mmap, protection(read | write | execute)),
        ("memory that becomes executable", libc::SYS_mprotect, protection(read | execute)),
        ("a process", libc::SYS_clone, [bits(libc::SIGCHLD), 0, 0, 0, 0, 0]),
        (
            "a process that shares memory",
            libc::SYS_clone,
            [bits(libc::CLONE_VM | libc::CLONE_VFORK), 0, 0, 0, 0, 0],
        ),
        ("a thread unlike those of glibc", libc::SYS_clone, [bits(threads), 0, 0, 0, 0, 0]),
        ("a user namespace", libc::SYS_clone, [bits(libc::CLONE_NEWUSER | libc::SIGCHLD), 0, 0, 0, 0, 0]),
        ("a file's status", libc::SYS_statx, [bits(libc::AT_FDCWD), path, 0, 0, 0, 0]),
        ("input to a terminal", libc::SYS_ioctl, [0, libc::TIOCSTI, 0, 0, 0, 0]),
        ("a terminal's state", libc::SYS_ioctl, [0, libc::TCGETS, 0, 0, 0, 0]),
        ("the owner of a descriptor", libc::SYS_fcntl, [0, bits(libc::F_SETOWN), 0, 0, 0, 0]),
        ("a lock on a file", libc::SYS_fcntl, [0, bits(libc::F_SETLK), 0, 0, 0, 0]),
        ("seals on a memfd", libc::SYS_fcntl, [0, bits(libc::F_ADD_SEALS), 0, 0, 0, 0]),
        ("a dumpable process", libc::SYS_prctl, [bits(libc::PR_SET_DUMPABLE), 1, 0, 0, 0, 0]),
        ("another filter", libc::SYS_prctl, [bits(libc::PR_SET_SECCOMP), 2, 0, 0, 0, 0]),
        ("another filter", libc::SYS_seccomp, NOTHING),
        (
            "memory that is removed from a file",
            libc::SYS_madvise,
            [0, 4096, bits(libc::MADV_REMOVE), 0, 0, 0],
        ),
        ("a TCP socket", libc::SYS_socket, [bits(libc::AF_INET), bits(libc::SOCK_STREAM), 0, 0, 0, 0]),
        ("a unix socket", libc::SYS_socket, [bits(libc::AF_UNIX), bits(libc::SOCK_STREAM), 0, 0, 0, 0]),
        ("a connection", libc::SYS_connect, NOTHING),
        #[cfg(target_arch = "x86_64")]
        ("a file, the old way", libc::SYS_open, [path, 0, 0, 0, 0, 0]),
        ("a file, the new way", libc::SYS_openat2, [bits(libc::AT_FDCWD), path, 0, 0, 0, 0]),
        ("a program", libc::SYS_execve, [path, 0, 0, 0, 0, 0]),
        ("another process", libc::SYS_kill, [1, 0, 0, 0, 0, 0]),
        ("another process's memory", libc::SYS_ptrace, [u64::from(libc::PTRACE_ATTACH), 1, 0, 0, 0, 0]),
    ];
    for (what, number, arguments) in cases {
        assert_eq!(try_call(&filter, *number, *arguments), REFUSED, "{what}");
        // What stands above the 32 bits that the kernel looks at lets nothing through.
        let wide = arguments.map(|argument| argument | 1 << 40);
        if *number != libc::SYS_statx && *number != libc::SYS_mmap && *number != libc::SYS_mprotect {
            assert_eq!(try_call(&filter, *number, wide), REFUSED, "{what}, with other high bits");
        }
    }
}

pub(crate) fn listed_arguments_work() {
    let filter = filter(Seccomp::Kill);
    let bits = |value: i32| u64::from(value.cast_unsigned());
    let anonymous = bits(libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
    let protection = bits(libc::PROT_READ | libc::PROT_WRITE);
    let name = c"name".as_ptr().addr() as u64;
    let empty = c"".as_ptr().addr() as u64;
    let mut status = [0_u64; 64];
    let cases: &[(&str, i64, [u64; 6])] = &[
        ("mmap", libc::SYS_mmap, [0, 4096, protection, anonymous, u64::MAX, 0]),
        ("mprotect", libc::SYS_mprotect, [0, 0, bits(libc::PROT_NONE), 0, 0, 0]),
        ("fcntl", libc::SYS_fcntl, [0, bits(libc::F_DUPFD_CLOEXEC), 3, 0, 0, 0]),
        ("prctl", libc::SYS_prctl, [bits(libc::PR_SET_NAME), name, 0, 0, 0, 0]),
        (
            "statx",
            libc::SYS_statx,
            [0, empty, bits(libc::AT_EMPTY_PATH), 0, status.as_mut_ptr().addr() as u64, 0],
        ),
        ("eventfd2", libc::SYS_eventfd2, NOTHING),
        ("futex", libc::SYS_futex, [null_mut::<u32>().addr() as u64, bits(libc::FUTEX_WAKE), 0, 0, 0, 0]),
    ];
    for (what, number, arguments) in cases {
        let ended = try_call(&filter, *number, *arguments);
        let is_carried_out = matches!(ended, Ended::Returned(0 | libc::EFAULT));
        assert!(is_carried_out, "{what}: {ended:?}");
    }
}

pub(crate) fn log_lets_through() {
    let filter = filter(Seccomp::Log);
    let socket = u64::from(libc::AF_UNIX.cast_unsigned());
    assert_eq!(try_call(&filter, libc::SYS_getppid, NOTHING), Ended::Returned(0));
    assert_eq!(try_call(&filter, libc::SYS_socket, [socket, 1, 0, 0, 0, 0]), Ended::Returned(0));
}

pub(crate) fn none_is_none() {
    assert!(Filter::new(Seccomp::None).unwrap().is_none());
}

pub(crate) fn the_list_is_in_order() {
    let mut seen = HashSet::new();
    for call in CALLS {
        assert!(seen.insert(call.number) && !call.why.is_empty(), "{}", call.name);
    }
    for (number, name) in ABSENT {
        assert!(seen.insert(*number), "{name}");
    }
}
