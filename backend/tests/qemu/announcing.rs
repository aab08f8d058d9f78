//! Services of the guests' own: the remote core hears of them, and of their end.

use super::guests::wait_for_services;
use super::house::{House, wait_until};
use super::softcore::Softcore;
use super::vm::{Form, Kernel, Kind};

/// The guest's address of its service.
const ADDRESS: u32 = 700;

/// The bits of an address at the core that count a VM's sessions (design, section 4).
const SESSION: u32 = 0x00F0_0000;

/// Waits until the core has heard of exactly one service, and returns its address at the core.
fn wait_for_service(core: &mut Softcore, name: &str) -> u32 {
    let mut address = 0;
    wait_until(core, "announced", |core| match core.host_services().as_slice() {
        [] => false,
        [(found, at)] => {
            assert_eq!(found, name);
            address = *at;
            true
        }
        several => panic!("announced: {several:?}"),
    });
    address
}

fn wait_for_no_service(core: &mut Softcore) {
    wait_until(core, "withdrawn", |core| core.host_services().is_empty());
}

#[test]
fn a_guests_own_service_is_announced_to_the_remote_core_and_withdrawn_with_the_guest() {
    let mut house = House::start(&["a"]);
    let mut vm = house.boot("a", Kind::of(Kernel::V6_1, Form::Pci));
    wait_for_services(&mut vm);

    // Withdrawn by the guest. In between, the core can use it.
    let announced = vm.run(&format!("guest-tool announce --name rpmsg-raw --src {ADDRESS}"));
    let address = wait_for_service(house.core(), "rpmsg-raw");
    assert_eq!(address & !SESSION, 1 << 24 | ADDRESS, "{address:#x} of the VM in slot 1");
    house.core().command(&format!("say rpmsg-raw {address:#x} hello"));
    let node = announced.split(' ').find_map(|word| word.strip_prefix("node=")).expect("a device node");
    assert_eq!(vm.run(&format!("dd if={node} bs=496 count=1 2>/dev/null; echo")), "hello");
    vm.run(&format!("guest-tool withdraw --name rpmsg-raw --src {ADDRESS}"));
    wait_for_no_service(house.core());

    // Withdrawn because the guest has been killed.
    vm.run(&format!("guest-tool announce --name rpmsg-tty --src {ADDRESS}"));
    wait_for_service(house.core(), "rpmsg-tty");
    drop(vm);
    wait_for_no_service(house.core());
}
