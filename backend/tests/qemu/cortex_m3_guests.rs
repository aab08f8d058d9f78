//! Stock guests in front of the emulated Cortex-M3.

use std::thread;

use super::board::Board;
use super::guests::check_echoes;
use super::house::wait_until;
use super::vm::{Form, Kind, Vm};

#[test]
fn two_guests_get_their_samples_and_echoes_from_the_emulated_core_at_once() {
    let board = Board::start(&["a", "b"], "");
    // Guests that come up after the core have their services before any driver of these is loaded.
    let mut lab = board.lab();
    let kind = |form| Kind {
        arguments: "threadirqs rpmsg.noload=rpmsg_client_sample",
        ..Kind::with_threaded_interrupts(form)
    };
    let mut vms = [board.vm("a", kind(Form::Pci)), board.vm("b", kind(Form::Mmio))];
    for vm in &mut vms {
        vm.wait_ready();
    }

    thread::scope(|scope| {
        for vm in &mut vms {
            scope.spawn(|| {
                check_echoes(vm);
                let said = vm.run("modprobe rpmsg_client_sample && /etc/run/sample");
                assert_eq!(said.lines().last(), Some("sample: 100 of 100 messages answered"));
                vm.run("guest-tool raw stream --count 5000 --window 16");
                vm.run("guest-tool raw send --service sink --count 2000");
                vm.run("guest-tool raw receive --service source --count 200");
            });
        }
    });

    assert_eq!(lab.counter("rpmsg-client-sample", "received"), 200);
    assert_eq!(lab.counter("sink", "received"), 4000);
    assert_eq!(lab.counter("sink", "disordered"), 0);
}

/// Services for which a driver in the guests would make a device node: only the lab sees them (see `vm`).
const HIDDEN: &str = "[[service]]\nname = \"rpmsg-*\"\nvms = [\"lab\"]\n";

/// A stream through the echo for a while, which may lose messages, and then waits a second for them.
const STREAM: &str = "guest-tool raw stream --service echo --seconds 1 --window 16 --timeout 1 2>&1; true";

/// Waits until the guest has been told of the firmware's services for the `count`-th time.
fn wait_for_announcements(vm: &mut Vm, count: usize) {
    vm.wait_for_kernel("creating channel control", count);
}

#[test]
fn channels_go_and_come_back_with_the_emulated_core_ten_times_while_two_guests_stream() {
    let mut board = Board::start(&["a", "b"], HIDDEN);
    let mut lab = board.lab();
    let [a, b] = [("a", Form::Pci), ("b", Form::Mmio)];
    let mut vms = [a, b].map(|(name, form)| board.vm(name, Kind::with_threaded_interrupts(form)));
    for vm in &mut vms {
        vm.wait_ready();
        wait_for_announcements(vm, 1);
        vm.run("modprobe rpmsg_ctrl");
    }

    for round in 1..=10 {
        let before = lab.counter("echo", "received");
        for vm in &mut vms {
            vm.begin(STREAM);
        }
        wait_until(&mut lab, "streaming", |lab| lab.counter("echo", "received") >= before + 200);
        if round % 2 == 0 {
            lab.command("reset");
        } else {
            lab.command("hard-fault");
            wait_until(board.core(), "crashed", |core| core.trace().contains("fault at"));
            board.core().reset();
        }
        lab.wait_for_services_anew();
        for vm in &mut vms {
            let said = vm.end(STREAM);
            assert!(said.contains(" doubled=0 reordered=0 corrupt=0 foreign=0 "), "round {round}: {said}");
            vm.wait_for_kernel("destroying channel control ", round);
            wait_for_announcements(vm, 1 + round);
            vm.run("guest-tool raw stream --service echo --count 500 --window 16");
        }
    }
}
