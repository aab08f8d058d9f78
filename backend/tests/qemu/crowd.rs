//! Three VMs on one remote core at once: the measuring one among troublemakers, and all at one service.

use std::thread;

use super::guests::{check_echoes, wait_for_services};
use super::house::{House, PRIVATE, wait_until};
use super::neighbours::while_streaming;
use super::vm::{Form, Kernel, Kind, Vm};

/// Messages that have come to a service of the core.
fn received(house: &mut House, service: &str) -> u64 {
    house.core().counter(service, "received")
}

/// Starts three VMs of every kind together and waits until each has its services.
fn boot_three(house: &House, names: [&str; 3]) -> [Vm; 3] {
    let kinds = [
        Kind::of(Kernel::V6_1, Form::Pci),
        Kind::of(Kernel::Newest, Form::Pci),
        Kind::of(Kernel::V6_1, Form::Mmio),
    ];
    let mut started = names.into_iter().zip(kinds).map(|(name, kind)| house.vm(name, kind));
    let mut vms = std::array::from_fn(|_| started.next().expect("as many kinds as names"));
    for vm in &mut vms {
        vm.wait_ready();
        wait_for_services(vm);
    }
    vms
}

#[test]
fn a_vm_loses_nothing_and_gets_its_turns_while_one_floods_and_one_reboots_again_and_again() {
    /// Reboots.
    const ROUNDS: u64 = 3;
    /// Messages that each of the two troublemakers has sent before a reboot, of every round anew.
    const TROUBLE: u64 = 1000;
    /// Messages of the flooder for one of the measuring VM, which waits for its answers. Seen are 4 and 5; the rest is room for
    /// how the host shares out its own cores.
    const AT_MOST: u64 = 20;

    let mut house = House::start(&["flooder", "rebooter", "measurer"]);
    let [mut flooder, mut rebooter, mut measurer] = boot_three(&house, ["flooder", "rebooter", "measurer"]);

    // Ends with its VM.
    flooder.run(&format!("guest-tool raw flood --service {PRIVATE} --seconds 3600 > /tmp/flood 2>&1 &"));
    house.wait_for_private_messages(1);
    let [measured_before, flooded_before] = ["rpmsg-raw", PRIVATE].map(|name| received(&mut house, name));
    while_streaming(&mut measurer, || {
        for _ in 0..ROUNDS {
            // In the midst of its own stream.
            let sent = received(&mut house, "sink");
            rebooter.run("guest-tool raw send --service sink --count 4000000 > /tmp/send 2>&1 &");
            wait_until(house.core(), "sending", |core| core.counter("sink", "received") >= sent + TROUBLE);
            let flooded = received(&mut house, PRIVATE);
            house.wait_for_private_messages(flooded + TROUBLE);
            rebooter.reboot();
            check_echoes(&mut rebooter);
        }
    });
    // Of what came to rpmsg-raw, the rebooting VM has sent one message of each size in a round.
    let measured = received(&mut house, "rpmsg-raw") - measured_before - ROUNDS * 496;
    let flooded = received(&mut house, PRIVATE) - flooded_before;

    assert!(
        measured * AT_MOST >= flooded,
        "starved: {measured} messages measured while the flooder sent {flooded}"
    );
}

#[test]
fn three_vms_at_once_each_get_their_own_answers_from_a_service_that_latches_its_first_client() {
    const NAMES: [&str; 3] = ["a", "b", "c"];
    const COUNT: u64 = 1000;

    let mut house =
        House::start_with(&NAMES, "[[service]]\nname = \"latching-echo\"\nmode = \"serialized\"\n");
    let mut vms = boot_three(&house, NAMES);

    // Each message carries the number of its run: one of another VM's is foreign, and a failure.
    thread::scope(|scope| {
        for vm in &mut vms {
            scope.spawn(|| {
                vm.run(&format!("guest-tool raw stream --service latching-echo --count {COUNT} --window 4"))
            });
        }
    });

    let asked = received(&mut house, "latching-echo");
    assert_eq!(asked, 3 * COUNT, "requests at the core");
    assert_eq!(house.core().counter("latching-echo", "sent"), asked, "answers of the core");
}
