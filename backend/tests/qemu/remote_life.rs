//! The remote core comes and goes: what guests see of it are their channels.

use super::guests::{LOAD_DRIVER, UNLOAD_DRIVERS, check_echoes};
use super::house::{House, SERVICES, SERVICES_WITHOUT_NODES};
use super::vm::{Form, Kernel, Kind, Vm};

/// Waits until all services have been announced to the guest for the `count`-th time.
fn wait_for_announcements(vm: &mut Vm, count: usize) {
    vm.wait_for_kernel("creating channel private", count);
    vm.run(LOAD_DRIVER);
}

/// Waits until these services have been withdrawn from the guest for the `count`-th time, and checks that it has no channels.
fn wait_for_withdrawals(vm: &mut Vm, services: &[&str], count: usize) {
    for service in services {
        vm.wait_for_kernel(&format!("destroying channel {service} "), count);
        vm.run(&format!("guest-tool wait --channel {service} --gone --timeout 0"));
    }
}

/// What has become of the channels, by their names.
fn channels(vm: &mut Vm) -> Vec<String> {
    let list = vm.run("guest-tool list");
    let name = |line: &str| line.strip_prefix("name=")?.split(' ').next().map(str::to_owned);
    let mut names: Vec<_> = list.lines().filter_map(name).collect();
    names.sort();
    names
}

#[test]
fn a_guest_that_starts_before_the_remote_core_gets_its_services_when_they_are_there() {
    let mut house = House::prepare(&["a"]);
    house.start_program();
    let mut vm = house.boot("a", Kind::with_threaded_interrupts(Form::Mmio));
    vm.run("guest-tool wait --channel rpmsg-raw --gone --timeout 0");

    house.start_core(&SERVICES);

    wait_for_announcements(&mut vm, 1);
    check_echoes(&mut vm);
}

#[test]
fn a_guest_that_starts_long_after_the_remote_core_gets_the_services_that_there_are_by_then() {
    let mut house = House::start(&["a", "b"]);
    let mut early = house.boot("a", Kind::with_threaded_interrupts(Form::Pci));
    wait_for_announcements(&mut early, 1);
    check_echoes(&mut early);
    house.core().command("withdraw sink");
    house.core().command("announce rpmsg-raw:late");
    early.wait_for_kernel("destroying channel sink", 1);
    early.wait_for_kernel("creating channel late", 1);

    let mut late = house.boot("b", Kind::of(Kernel::V6_1, Form::Mmio));

    check_echoes(&mut late);
    let found = channels(&mut late);
    assert_eq!(found, channels(&mut early));
    assert!(found.contains(&"late".to_owned()) && !found.contains(&"sink".to_owned()), "{found:?}");
}

#[test]
fn channels_vanish_with_the_remote_core_and_come_back_with_it() {
    let mut house = House::start(&["a"]);
    let mut vm = house.boot("a", Kind::with_threaded_interrupts(Form::Pci));
    wait_for_announcements(&mut vm, 1);
    check_echoes(&mut vm);

    vm.run(UNLOAD_DRIVERS);
    house.kill_core();
    wait_for_withdrawals(&mut vm, &SERVICES, 1);
    house.start_core(&SERVICES);
    wait_for_announcements(&mut vm, 2);
    check_echoes(&mut vm);

    vm.run(UNLOAD_DRIVERS);
    house.core().command("crash");
    wait_for_withdrawals(&mut vm, &SERVICES, 2);
    house.core().command("reboot");
    wait_for_announcements(&mut vm, 3);
    check_echoes(&mut vm);
}

#[test]
fn channels_vanish_while_a_guest_sends() {
    let mut house = House::prepare(&["a"]);
    house.start_core(&SERVICES_WITHOUT_NODES);
    house.start_program();
    let mut vm = house.boot("a", Kind::with_threaded_interrupts(Form::Mmio));
    wait_for_announcements(&mut vm, 1);
    vm.run("modprobe rpmsg_ctrl");

    vm.run("guest-tool raw stream --service private --count 4000000 > /tmp/stream 2>&1 &");
    house.wait_for_private_messages(1000);
    house.core().command("crash");
    wait_for_withdrawals(&mut vm, &SERVICES_WITHOUT_NODES, 1);
    house.core().command("reboot");

    wait_for_announcements(&mut vm, 2);
    vm.run("guest-tool raw sizes --service private");
}
