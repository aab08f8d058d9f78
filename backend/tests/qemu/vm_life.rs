//! A VM is paused and reset from outside.

use super::guests::{check_echoes, wait_for_services};
use super::house::House;
use super::vm::{Form, Kernel, Kind};

#[test]
fn a_vm_that_is_paused_in_the_midst_of_a_stream_goes_on_with_it() {
    const STREAM: &str = "guest-tool raw stream --service private --count 20000 --window 32";

    let mut house = House::start(&["a", "b"]);
    let mut paused = house.vm("a", Kind::of(Kernel::V6_1, Form::Mmio));
    let mut other = house.boot("b", Kind::of(Kernel::Newest, Form::Pci));
    wait_for_services(&mut other);
    paused.wait_ready();
    wait_for_services(&mut paused);
    let mut qmp = paused.qmp();

    paused.begin(STREAM);
    for messages in [1000, 5000, 9000] {
        house.wait_for_private_messages(messages);
        qmp.command("stop");
        other.run("guest-tool raw sizes");
        qmp.command("cont");
    }
    paused.end(STREAM);
}

fn check_reset(form: Form) {
    let mut house = House::start(&["a"]);
    let mut vm = house.boot("a", Kind::of(Kernel::Newest, form));
    wait_for_services(&mut vm);
    let mut qmp = vm.qmp();

    vm.begin("guest-tool raw stream --service private --count 4000000");
    house.wait_for_private_messages(1000);
    qmp.command("system_reset");
    vm.wait_ready();

    check_echoes(&mut vm);
}

#[test]
fn a_vm_that_is_reset_in_the_midst_of_a_stream_starts_anew() {
    check_reset(Form::Pci);
}
