//! What of a remote the control socket streams: its trace as it is written, and its memory.

use std::ffi::OsStr;
use std::fs;

use object::LittleEndian;
use object::elf::{FileHeader64, PT_LOAD};
use object::read::elf::{FileHeader, ProgramHeader};

use crate::harness::program::Program;
use crate::harness::rig::{Plan, Rig};

/// A rig whose program takes requests, and whose core is attached to.
fn rig() -> Rig {
    let rig = Rig::start_with_control(Plan::with_sessions(1));
    rig.guest(0).wait_service("rpmsg-raw");
    rig
}

/// Starts `vhost-device-rpmsg remote`.
fn remote(rig: &Rig, args: &[&OsStr]) -> Program {
    let control = rig.path("control");
    let to = [OsStr::new("--control"), control.as_os_str()];
    Program::spawn([OsStr::new("remote")].iter().chain(args).chain(&to).copied())
}

#[test]
fn a_trace_is_followed_as_it_is_written() {
    let rig = rig();
    let [trace, core, follow, restart] = ["trace", "core", "--follow", "restart"].map(OsStr::new);
    let mut client = remote(&rig, &[trace, core, follow]);
    assert_eq!(client.next_line(), "ready, waiting for a host");
    assert!(client.next_line().starts_with("link is up"));
    assert!(remote(&rig, &[restart, core]).wait_exit().success());
    assert_eq!(client.next_line(), "link is down");
    assert!(client.next_line().starts_with("link is up"));
    client.terminate();
    client.wait_exit();
}

#[test]
fn so_many_are_served_at_a_time_and_no_more() {
    let rig = rig();
    let [trace, core, follow] = ["trace", "core", "--follow"].map(OsStr::new);
    let mut clients: Vec<_> = (0..16).map(|_| remote(&rig, &[trace, core, follow])).collect();
    clients.iter_mut().for_each(|client| assert_eq!(client.next_line(), "ready, waiting for a host"));
    let mut one_more = remote(&rig, &[trace, core, follow]);
    assert!(!one_more.wait_exit().success());
    assert!(one_more.stderr().contains("found too many"), "{}", one_more.stderr());
    for client in &mut clients {
        client.terminate();
        client.wait_exit();
    }
}

#[test]
fn the_memory_of_a_remote_is_dumped_while_it_runs() {
    let rig = rig();
    let file = rig.path("core.elf");
    let dump = [OsStr::new("dump"), OsStr::new("core"), file.as_os_str()];
    let mut client = remote(&rig, &dump);
    assert!(client.wait_exit().success(), "{}", client.stderr());

    let bytes = fs::read(&file).unwrap();
    let header = FileHeader64::<LittleEndian>::parse(&*bytes).unwrap();
    let programs = header.program_headers(LittleEndian, &*bytes).unwrap();
    let memory = programs.iter().find(|program| program.p_type(LittleEndian) == PT_LOAD).unwrap();
    let content = memory.data(LittleEndian, &*bytes).unwrap();
    let table = u32::from_le_bytes(content[..4].try_into().unwrap());
    assert_eq!((table, content.len()), (1, 1 << 20), "it begins with the resource table");

    let mut again = remote(&rig, &dump);
    assert!(!again.wait_exit().success());
    assert!(again.stderr().contains("a file that is there is not written over"), "{}", again.stderr());
    assert_eq!(fs::read(&file).unwrap(), bytes);
}
