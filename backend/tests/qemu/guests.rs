//! Every kernel on every transport: a guest comes up, finds the services, and does everything with them.

use super::house::House;
use super::vm::{Form, Kernel, Kind, Vm};

/// Modules that the guest loads because their device or channel has appeared.
const BY_UEVENT: [&str; 4] = ["virtio_rpmsg_bus", "rpmsg_ctrl", "rpmsg_char", "rpmsg_tty"];

/// Unloads the drivers that make device nodes for channels, none of which is open.
pub(crate) const UNLOAD_DRIVERS: &str = "rmmod rpmsg_tty rpmsg_char";

/// Loads the one of them that no channel brings by itself: `rpmsg_char` has no alias for rpmsg-raw, and is otherwise there
/// because `rpmsg_ctrl` needs it.
pub(crate) const LOAD_DRIVER: &str = "modprobe rpmsg_char";

/// What the kernel's sample client says of each message that it receives, and when it has received its last one.
const SAMPLE_RECEIVED: &str = ": incoming msg ";
const SAMPLE_DONE: &str = ": goodbye!";

/// Checks everything that a guest does with the services of the remote core.
pub(crate) fn check_everything(vm: &mut Vm) {
    check_echoes(vm);
    vm.run("guest-tool raw stream --count 20000 --window 32");
}

/// Checks that the services are there and answer right.
pub(crate) fn check_echoes(vm: &mut Vm) {
    wait_for_services(vm);
    assert_eq!(vm.run("guest-tool raw sizes"), "sizes=496/496");
    assert_eq!(vm.run("guest-tool tty sizes"), "sizes=496/496");
}

/// Waits until the guest has found the services and loaded their drivers.
pub(crate) fn wait_for_services(vm: &mut Vm) {
    for channel in ["rpmsg-raw", "rpmsg-tty"] {
        vm.run(&format!("guest-tool wait --channel {channel}"));
    }
}

fn check_guest(kind: Kind) {
    let mut house = House::start(&["a"]);
    let mut vm = house.boot("a", kind);

    let devices = vm.run("ls /sys/bus/virtio/drivers/virtio_rpmsg_bus");
    assert!(devices.contains("virtio"), "the driver has taken no device: {devices:?}");
    check_everything(&mut vm);
    let modules = vm.run("lsmod");
    for module in BY_UEVENT {
        assert!(modules.lines().any(|line| line.starts_with(module)), "no {module} among\n{modules}");
    }

    // The client sends its second message from the interrupt that brings the answer to the first. If that came before the
    // first had let go of the driver's mutex, the guest would hang: so the core answers when it has.
    house.core().command("hang");
    vm.run("modprobe rpmsg_client_sample");
    house.core().command("resume");
    vm.wait_log(SAMPLE_DONE);
    assert_eq!(vm.log().matches(SAMPLE_RECEIVED).count(), 100, "messages of the sample client");
}

#[test]
fn linux_6_1_does_everything_over_pci() {
    check_guest(Kind::of(Kernel::V6_1, Form::Pci));
}

#[test]
fn linux_6_1_does_everything_over_mmio() {
    check_guest(Kind::of(Kernel::V6_1, Form::Mmio));
}

#[test]
fn the_newest_linux_does_everything_over_pci() {
    check_guest(Kind::of(Kernel::Newest, Form::Pci));
}

#[test]
fn the_newest_linux_does_everything_over_mmio() {
    check_guest(Kind::of(Kernel::Newest, Form::Mmio));
}

#[test]
fn a_real_time_linux_does_everything_over_pci() {
    check_guest(Kind::of(Kernel::NewestRt, Form::Pci));
}

#[test]
fn a_real_time_linux_does_everything_over_mmio() {
    check_guest(Kind::of(Kernel::NewestRt, Form::Mmio));
}

#[test]
fn a_patched_linux_does_everything_over_pci() {
    check_guest(Kind::patched(Form::Pci));
}

#[test]
fn a_patched_linux_does_everything_over_mmio() {
    check_guest(Kind::patched(Form::Mmio));
}
