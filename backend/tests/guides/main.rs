//! The guides, `README.md` and `backend/docs`, are followed: what they say to type is typed, and what they say is printed is
//! what is printed.
//!
//! | file | what it is |
//! |---|---|
//! | `blocks` | the fenced blocks of a guide, and what each is |
//! | `desk` | where they are followed: a folder, terminals, VMs |
//! | `shown` | what a guide shows, beside what was printed |
//! | `form` | what can be said of a guide without following it |
//! | `boards` | what boards' device trees are told to have for UIO |
//!
//! VMs and the emulated core are those that `ci/setup demo` makes. Every wait is for an event.
#![forbid(unsafe_code)]

mod blocks;
mod boards;
mod desk;
mod form;
mod shown;

#[path = "../harness/mod.rs"]
#[allow(dead_code, reason = "shared with tests that use all of it")]
mod harness;

use desk::Desk;

#[test]
fn from_nothing_to_two_vms_in_five_minutes() {
    Desk::new().follow("backend/docs/first-steps.md");
}

#[test]
fn an_emulator_becomes_a_remote_core() {
    Desk::new().follow("backend/docs/socket-link.md");
}

#[test]
fn boards_are_prepared_for_before_one_is_on_the_bench() {
    Desk::new().follow("backend/docs/boards.md");
}

/// With a program that takes requests, in front of a remote called `m4`, as references have it.
fn served() -> Desk {
    let mut desk = Desk::new();
    desk.start("core", "rpmsg-softcore --memory memory --memory-size 1M --doorbell doorbell");
    desk.wait_for("core", "core", "ready ...");
    desk.make(
        "m4.toml",
        "control = \"rpmsg.control\"\n\
         [[remote]]\nname = \"m4\"\nlink = \"socket\"\ndoorbell = \"doorbell\"\nresource-table = 0x21000000\n\
         [[remote.memory]]\npath = \"memory\"\nsize = 0x100000\ndevice-address = 0x21000000\n\
         [[vm]]\nname = \"a\"\nsocket = \"a.sock\"\n",
    );
    desk.start("program", "vhost-device-rpmsg --config m4.toml");
    desk.wait_for("program", "program", "... remote m4: attached\n... serving ...");
    desk
}

#[test]
fn requests_are_carried_out_as_their_reference_shows() {
    served().follow_with("backend/docs/control.md", &[("/run/", "")]);
}

#[test]
fn messages_are_captured_and_wireshark_is_told_where_everything_is() {
    served().follow_with("backend/docs/capture.md", &[("/run/", "")]);
}

#[test]
fn what_the_front_page_says_can_be_typed() {
    Desk::new().follow_with("README.md", &[("/tmp/", "")]);
}
