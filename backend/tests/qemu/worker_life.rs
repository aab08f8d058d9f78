//! The worker process dies, or another one takes over: QEMU stays connected and does not notice, though it could not bear a
//! back-end that comes back.

use std::time::Instant;

use rustix::process::{Pid, Signal, kill_process};

use super::guests::{check_echoes, wait_for_services};
use super::house::House;
use super::loopback::Alone;
use super::vm::{Form, Kernel, Kind};

#[test]
fn qemu_stays_connected_when_workers_die_and_are_replaced() {
    let mut alone = Alone::start();
    let Alone { vm, program, .. } = &mut alone;
    check_echoes(vm);
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
        check_echoes(vm);
    }
}

/// Kills the worker in the midst of a guest's stream, again and again. Nothing of the stream is lost, and neither the guest's
/// kernel nor QEMU has a word to say about it: both write to the same log.
fn check_killed(times: u64) {
    /// Messages from one kill to the next: more than are under way, so that the next worker has relayed some.
    const STEP: u64 = 150;

    let mut house = House::start(&["a"]);
    let mut vm = house.boot("a", Kind::of(Kernel::V6_1, Form::Pci));
    wait_for_services(&mut vm);
    let mut qmp = vm.qmp();
    let count = (times + 1) * STEP;
    let stream = format!("guest-tool raw stream --service private --count {count} --window 32");
    vm.begin(&stream);
    house.wait_for_private_messages(STEP / 2);
    let log = vm.log();
    let begun = Instant::now();

    for kill in 1..=times {
        house.wait_for_private_messages(kill * STEP);
        house.program().kill_worker();
        qmp.command("query-status");
    }

    let said = vm.end(&stream);
    println!(
        "{times} workers killed in {:.1} s under a guest in QEMU: {said}",
        begun.elapsed().as_secs_f64()
    );
    assert!(said.contains(&format!("sent={count} ")), "{said}");
    assert_eq!(vm.log(), log, "the guest's kernel and QEMU have nothing to say");
    check_echoes(&mut vm);
}

#[test]
fn a_guest_in_the_midst_of_a_stream_notices_nothing_of_ten_workers_that_are_killed() {
    check_killed(10);
}

/// The long form.
#[test]
#[ignore = "the short form is an ordinary test"]
fn a_guest_in_the_midst_of_a_stream_notices_nothing_of_a_hundred_workers_that_are_killed() {
    check_killed(100);
}
