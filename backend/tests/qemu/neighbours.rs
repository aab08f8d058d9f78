//! Two VMs on one remote core: whatever one of them does, the other one loses nothing.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread;

use super::guests::{LOAD_DRIVER, UNLOAD_DRIVERS, check_echoes, check_everything, wait_for_services};
use super::house::House;
use super::vm::{Form, Kernel, Kind, Vm};

/// A stream through the echo for a while: fails if a message is lost, doubled, changed or out of order.
const STREAM: &str = "guest-tool raw stream --seconds 0.5 --count 4000000 --window 16";

/// Does something while messages stream through this VM, from before its start until after its end.
pub(crate) fn while_streaming<T>(vm: &mut Vm, work: impl FnOnce() -> T) -> T {
    /// Also when the work fails, or the stream would never end.
    struct Stop<'a>(&'a AtomicBool);
    impl Drop for Stop<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }

    let stop = AtomicBool::new(false);
    let (streaming, has_begun) = mpsc::channel();
    thread::scope(|scope| {
        let stop = Stop(&stop);
        let flag = stop.0;
        scope.spawn(move || {
            loop {
                vm.run(STREAM);
                // Nobody listens any more once the work is being done.
                let _ = streaming.send(());
                if flag.load(Ordering::Relaxed) {
                    break;
                }
            }
        });
        has_begun.recv().expect("the stream has begun");
        let result = work();
        drop(stop);
        result
    })
}

#[test]
fn two_vms_stream_at_once() {
    let house = House::start(&["a", "b"]);
    let mut a = house.vm("a", Kind::of(Kernel::V6_1, Form::Pci));
    let mut b = house.vm("b", Kind::of(Kernel::Newest, Form::Mmio));
    for vm in [&mut a, &mut b] {
        vm.wait_ready();
        wait_for_services(vm);
    }

    thread::scope(|scope| {
        scope.spawn(|| check_everything(&mut a));
        scope.spawn(|| check_everything(&mut b));
    });
}

#[test]
fn a_vm_loses_nothing_while_the_driver_of_another_one_goes_and_comes_back() {
    let house = House::start(&["a", "b"]);
    let mut a = house.vm("a", Kind::of(Kernel::Newest, Form::Pci));
    let mut b = house.boot("b", Kind::with_threaded_interrupts(Form::Mmio));
    let driver = "/sys/bus/virtio/drivers/virtio_rpmsg_bus";
    let device = b.run(&format!("basename {driver}/virtio*"));
    b.run(LOAD_DRIVER);
    check_echoes(&mut b);
    a.wait_ready();
    wait_for_services(&mut a);

    while_streaming(&mut a, || {
        for round in 1..=3 {
            b.run(&format!("echo {device} > {driver}/unbind"));
            b.run("guest-tool wait --channel rpmsg-raw --gone");
            b.run(UNLOAD_DRIVERS);
            b.run(&format!("echo {device} > {driver}/bind"));
            b.wait_for_kernel("creating channel private", 1 + round);
            b.run(LOAD_DRIVER);
            check_echoes(&mut b);
        }
    });
}

#[test]
fn a_vm_loses_nothing_while_another_one_reboots() {
    let mut house = House::start(&["a", "b"]);
    let mut a = house.vm("a", Kind::of(Kernel::V6_1, Form::Mmio));
    let mut b = house.boot("b", Kind::of(Kernel::Newest, Form::Pci));
    wait_for_services(&mut b);
    a.wait_ready();
    wait_for_services(&mut a);

    while_streaming(&mut a, || {
        for round in 1..=2 {
            // In the midst of its own stream.
            b.run("guest-tool raw stream --service private --count 4000000 > /tmp/stream 2>&1 &");
            house.wait_for_private_messages(round * 1000);
            b.reboot();
            check_echoes(&mut b);
        }
    });
}

#[test]
fn a_vm_loses_nothing_while_another_one_is_killed_and_started_anew() {
    let mut house = House::start(&["a", "b"]);
    let mut a = house.vm("a", Kind::of(Kernel::Newest, Form::Pci));
    let kind = Kind::of(Kernel::V6_1, Form::Mmio);
    let mut b = house.boot("b", kind);
    wait_for_services(&mut b);
    a.wait_ready();
    wait_for_services(&mut a);

    while_streaming(&mut a, || {
        b.begin("guest-tool raw stream --service private --count 4000000");
        house.wait_for_private_messages(1000);
        drop(b);

        let mut b = house.boot("b", kind);
        check_echoes(&mut b);
        // A microvm's reboot is the end of its QEMU.
        b.reboot_and_end();
        check_echoes(&mut house.boot("b", kind));
    });
}
