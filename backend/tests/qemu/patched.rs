//! A guest whose kernel has the patches in `guest-images/patches`: what a stock guest is kept from (see `vm`) does it no
//! harm. Its kernel looks for locks that could deadlock and for sleeping where that is forbidden, and has no complaint.

use super::guests::{check_echoes, wait_for_services};
use super::house::{House, SERVICES, wait_until};
use super::vm::{Form, Kind, Vm};

/// The sample client says so when it has received its last message.
const SAMPLE_DONE: &str = ": goodbye!";

/// Has the guest use both drivers that make device nodes until these go away, and waits until it does: a stream through the
/// echo and an open terminal. The stream is at the channel's own endpoint: `rpmsg_char` cannot bear that a program removes an
/// endpoint which it has made while the driver removes it too.
fn use_nodes(house: &mut House, vm: &mut Vm) {
    let before = house.core().counter("rpmsg-raw", "received");
    let list = vm.run("guest-tool list");
    let channel = list.lines().find(|line| line.starts_with("name=rpmsg-raw ")).expect("its channel");
    let node = channel.split(' ').find_map(|word| word.strip_prefix("node=")).expect("a device node");
    vm.run(&format!("guest-tool raw stream --node {node} --count 4000000 > /tmp/stream 2>&1 &"));
    vm.run("(exec 3<>/dev/ttyRPMSG0 && echo > /tmp/open && cat <&3) > /dev/null 2>&1 &");
    vm.run("until [ -e /tmp/open ]; do usleep 10000; done; rm /tmp/open");
    wait_until(house.core(), "streaming", |core| core.counter("rpmsg-raw", "received") >= before + 1000);
}

/// Waits until the channels and the nodes of these drivers are gone.
fn wait_until_gone(vm: &mut Vm) {
    for service in SERVICES {
        vm.run(&format!("guest-tool wait --channel {service} --gone"));
    }
}

/// Checks that the kernel has looked at its locks until now: it stops with its first complaint, and when it is out of memory
/// for that.
fn check_that_locks_are_watched(vm: &mut Vm) {
    let watching = vm.run("grep debug_locks /proc/lockdep_stats");
    assert!(watching.trim_end().ends_with(" 1"), "{watching}");
}

fn check_guest(form: Form) {
    let mut house = House::start(&["a"]);
    let mut vm = house.boot("a", Kind::patched(form));
    check_echoes(&mut vm);

    // The remote core crashes and comes back, with all drivers loaded and in use.
    for round in 1..=2 {
        use_nodes(&mut house, &mut vm);
        house.core().command("crash");
        wait_until_gone(&mut vm);
        house.core().command("reboot");
        vm.wait_for_kernel("creating channel private", 1 + round);
        check_echoes(&mut vm);
    }

    // The driver goes and comes back.
    let driver = "/sys/bus/virtio/drivers/virtio_rpmsg_bus";
    let device = vm.run(&format!("basename {driver}/virtio*"));
    for round in 1..=2 {
        use_nodes(&mut house, &mut vm);
        vm.run(&format!("echo {device} > {driver}/unbind"));
        wait_until_gone(&mut vm);
        vm.run(&format!("echo {device} > {driver}/bind"));
        vm.wait_for_kernel("creating channel private", 3 + round);
        check_echoes(&mut vm);
    }
    check_that_locks_are_watched(&mut vm);
}

#[test]
fn services_and_the_driver_come_and_go_while_a_patched_guest_uses_them_over_pci() {
    check_guest(Form::Pci);
}

#[test]
fn services_and_the_driver_come_and_go_while_a_patched_guest_uses_them_over_mmio() {
    check_guest(Form::Mmio);
}

#[test]
fn a_patched_guest_with_one_cpu_sends_from_its_receive_callback() {
    const ROUNDS: usize = 5;

    let house = House::start(&["a"]);
    let mut vm = house.boot("a", Kind { cpus: 1, ..Kind::patched(Form::Pci) });
    for round in 1..=ROUNDS {
        vm.run("modprobe rpmsg_client_sample");
        vm.wait_for_kernel(SAMPLE_DONE, round);
        vm.run("rmmod rpmsg_client_sample");
    }
    check_that_locks_are_watched(&mut vm);
}

#[test]
fn a_sender_of_a_patched_guest_waits_for_a_buffer_and_can_be_killed_meanwhile() {
    let mut house = House::start(&["a"]);
    let mut vm = house.boot("a", Kind::patched(Form::Mmio));
    wait_for_services(&mut vm);

    // With nothing to receive they sleep only where the driver has no buffer for them.
    house.core().command("hang");
    for sender in ["killed", "patient"] {
        vm.run(&format!(
            "guest-tool raw send --service sink > /tmp/{sender} 2>&1 & echo $! > /tmp/{sender}.pid"
        ));
        vm.run(&format!(
            "until grep -q 'S (sleeping)' /proc/$(cat /tmp/{sender}.pid)/status; do usleep 10000; done"
        ));
    }
    vm.run(
        "kill $(cat /tmp/killed.pid); while [ -e /proc/$(cat /tmp/killed.pid)/exe ]; do usleep 10000; done",
    );
    house.core().command("resume");
    vm.run("until grep -q ^sent=1000 /tmp/patient; do usleep 10000; done");
    check_echoes(&mut vm);
    check_that_locks_are_watched(&mut vm);
}

#[test]
fn a_patched_guest_restarts_in_the_midst_of_a_stream() {
    let mut house = House::start(&["a"]);
    let mut vm = house.boot("a", Kind::patched(Form::Pci));
    wait_for_services(&mut vm);
    use_nodes(&mut house, &mut vm);

    vm.reboot();

    check_echoes(&mut vm);
    check_that_locks_are_watched(&mut vm);
}
