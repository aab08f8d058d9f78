//! The program alone, without a configuration: its built-in core serves a guest.

use tempfile::TempDir;

use super::guests::check_everything;
use super::house::Room;
use super::program::Program;
use super::vm::{Form, Kernel, Kind, Vm};

#[test]
fn the_program_alone_serves_a_guest() {
    let _room = Room::take(1);
    let dir = TempDir::new().expect("temporary folder");
    let socket = dir.path().join("socket");
    let program = Program::spawn(["--socket-path".as_ref(), socket.as_os_str()]);
    program.wait_ready();

    let mut vm = Vm::start(Kind::of(Kernel::V6_1, Form::Pci), &socket, dir.path().join("qmp"));
    vm.wait_ready();

    check_everything(&mut vm);
}
