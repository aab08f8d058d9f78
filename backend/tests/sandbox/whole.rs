//! The whole sandbox, closed around this program started anew.

use std::collections::HashMap;
use std::env::{args, current_exe};
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixListener;
use std::process::{Command, ExitCode, Output, Stdio};
use std::sync::mpsc::channel;
use std::thread;

use nix::libc;
use nix::unistd::{Uid, setuid};
use rustix::process::geteuid;
use vhost_device_rpmsg::operate::sandbox::filter::Seccomp;
use vhost_device_rpmsg::operate::sandbox::{close, privileges::Account};

/// The first argument of this program when it is to do something in the sandbox; the second one says what.
const INSIDE: &str = "--in-the-sandbox";
const REACH: &str = "reach";
const WORK: &str = "work";

/// Asks for the version of landlock (`LANDLOCK_CREATE_RULESET_VERSION`).
const LANDLOCK_VERSION: u32 = 1;
/// The first version that refuses TCP (Linux 6.7); before, seccomp alone does.
const REFUSES_TCP: i32 = 4;

/// A file that everybody may read.
const FILE: &str = "/etc/passwd";

/// What this program does where it was started to be in the sandbox.
pub(crate) fn main_inside() -> Option<ExitCode> {
    let mut args = args().skip(1);
    if args.next()? != INSIDE {
        return None;
    }
    match args.next()?.as_str() {
        REACH => reach(),
        _ => work(),
    }
    Some(ExitCode::SUCCESS)
}

fn inside(what: &str) -> Output {
    let mut command = Command::new(current_exe().unwrap());
    let mut child = command
        .args([INSIDE, what])
        .env("RUST_BACKTRACE", "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(b"word").unwrap();
    child.wait_with_output().unwrap()
}

/// Tries what must not work, without a filter, so that it is tried on everything else.
fn reach() {
    let before = fs::read_dir("/").unwrap().count();
    let file = File::open(FILE).unwrap();
    let socket = UnixListener::bind(std::env::temp_dir().join(format!("reach-{}", std::process::id())));
    let path = socket.unwrap().local_addr().unwrap().as_pathname().unwrap().to_owned();
    fs::remove_file(path).unwrap();
    // SAFETY: with this flag and no attributes, it only says which version the kernel has.
    let landlock = unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, 0, 0, LANDLOCK_VERSION) };
    close(Account::resolve(None).unwrap(), Seccomp::None).unwrap();
    println!("landlock={landlock}");
    let say = |what: &str, error: Option<io::Error>| {
        println!("{what}={}", error.and_then(|error| error.raw_os_error()).unwrap_or(0));
    };
    say("open", File::open(FILE).err());
    say("create", File::create("/tmp/new").err());
    say("list", fs::read_dir("/").err());
    say("exec", Command::new("/bin/true").status().err());
    say("connect", TcpStream::connect("127.0.0.1:9").err());
    say("listen", TcpListener::bind("127.0.0.1:0").err());
    say("root", setuid(Uid::from_raw(0)).err().map(Into::into));
    // SAFETY: signal 0 does nothing.
    say("signal", (unsafe { libc::kill(libc::getppid(), 0) } != 0).then(io::Error::last_os_error));
    println!("user={}", geteuid().as_raw());
    println!("before={before}");
    let mut text = String::new();
    println!("reads={}", (&file).read_to_string(&mut text).unwrap());
}

pub(crate) fn nothing_is_in_reach() {
    let output = inside(REACH);
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    let said: HashMap<_, i32> = said
        .lines()
        .filter_map(|line| line.split_once('='))
        .map(|(what, number)| (what, number.parse().unwrap()))
        .collect();
    let tcp: &[_] = if said["landlock"] >= REFUSES_TCP { &["connect", "listen"] } else { &[] };
    for what in ["open", "create", "list", "exec"].iter().chain(tcp).copied() {
        assert!([libc::EACCES, libc::ENOENT].contains(&said[what]), "{what}: {said:?}");
    }
    if geteuid().is_root() {
        assert_eq!(said["root"], libc::EPERM);
        assert_eq!(said["signal"], libc::EPERM);
        assert_ne!(said["user"], 0);
    }
    assert!(said["before"] > 0 && said["reads"] > 0, "what was open before stays so: {said:?}");
}

/// Does what the program does, under the filter.
fn work() {
    let file = File::open(FILE).unwrap();
    close(Account::resolve(None).unwrap(), Seccomp::Kill).unwrap();
    let (sender, receiver) = channel();
    let threads = (0..4).map(|number| {
        let sender = sender.clone();
        thread::Builder::new().name(format!("thread {number}")).spawn(move || {
            let mut blocks: Vec<Vec<u8>> = (0..64).map(|block| vec![1; block << 12]).collect();
            blocks.iter_mut().for_each(|block| block.resize(block.len() * 2, 1));
            sender.send(blocks.iter().flatten().map(|byte| usize::from(*byte)).sum::<usize>()).unwrap();
        })
    });
    threads.collect::<Vec<_>>().into_iter().for_each(|thread| thread.unwrap().join().unwrap());
    drop(sender);
    assert_eq!(receiver.iter().sum::<usize>(), 4 * 2 * (0..64 << 12).step_by(1 << 12).sum::<usize>());
    assert!(file.metadata().unwrap().len() > 0);
    let copy = file.try_clone().unwrap();
    let mut text = String::new();
    copy.take(1 << 20).read_to_string(&mut text).unwrap();
    let mut word = String::new();
    io::stdin().read_to_string(&mut word).unwrap();
    let panicked =
        thread::Builder::new().name("unlucky".into()).spawn(|| panic!("on purpose")).unwrap().join();
    println!("{word} {} {}", text.len() as u64 == file.metadata().unwrap().len(), panicked.is_err());
}

pub(crate) fn what_is_needed_works() {
    let output = inside(WORK);
    let (said, complaints) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{}: {said}{complaints}", output.status);
    assert_eq!(said, "word true true\n", "{complaints}");
    assert!(
        complaints.contains("thread \"unlucky\" panicked at ") && complaints.contains("on purpose"),
        "{complaints}"
    );
}
