//! The worker process dies, or another one takes over: QEMU stays connected and does not notice, though it could not bear a
//! back-end that comes back.

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::guests::check_echoes;
use super::house::Room;
use super::program::Program;
use super::vm::{Form, Kernel, Kind, Vm};

#[test]
fn qemu_stays_connected_when_workers_die_and_are_replaced() {
    let _room = Room::take(1);
    let dir = TempDir::new().expect("temporary folder");
    let socket = dir.path().join("socket");
    let program = Program::spawn(["--socket-path".as_ref(), socket.as_os_str()]);
    program.wait_ready();
    let mut vm = Vm::start(Kind::of(Kernel::V6_1, Form::Pci), &socket, dir.path().join("qmp"));
    vm.wait_ready();
    check_echoes(&mut vm);
    let mut qmp = vm.qmp();

    for round in 1..=4 {
        // The built-in core dies with the worker, so what the guest has under way is over.
        qmp.command("stop");
        if round % 2 == 0 {
            program.kill_worker();
        } else {
            let keeper = Pid::from_raw(program.id().cast_signed()).expect("not 0");
            kill_process(keeper, Signal::HUP).expect("SIGHUP sent");
        }
        program.wait_log_again("vm vm0: session handed on", round);
        qmp.command("system_reset");
        qmp.command("cont");
        vm.wait_ready();
        check_echoes(&mut vm);
    }
}
