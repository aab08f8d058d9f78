//! The program alone, without a configuration: its built-in core serves a guest.

use tempfile::TempDir;

use super::guests::check_everything;
use super::house::Room;
use super::program::Program;
use super::vm::{Form, Kernel, Kind, Vm};

/// The program with its built-in core, and one guest in front of it that is up. Dropped in the order of its fields.
pub(super) struct Alone {
    pub(super) vm: Vm,
    pub(super) program: Program,
    _dir: TempDir,
    _room: Room,
}

impl Alone {
    pub(super) fn start() -> Self {
        let room = Room::take(1);
        let dir = TempDir::new().expect("temporary folder");
        let socket = dir.path().join("socket");
        let program = Program::spawn(["--socket-path".as_ref(), socket.as_os_str()]);
        program.wait_ready();
        let mut vm = Vm::start(Kind::of(Kernel::V6_1, Form::Pci), &socket, dir.path().join("qmp"));
        vm.wait_ready();
        Alone { vm, program, _dir: dir, _room: room }
    }
}

#[test]
fn the_program_alone_serves_a_guest() {
    check_everything(&mut Alone::start().vm);
}
