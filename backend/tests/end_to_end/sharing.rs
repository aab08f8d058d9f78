//! Several VMs on one core: all see the same services, each gets its own messages only.

use std::thread;

use vhost_device_rpmsg::rpmsg::address::{HostAddress, from_host};

use crate::harness::guest::Guest;
use crate::harness::rig::{Plan, Rig};
use crate::harness::stream::{EchoStream, scaled};

/// The endpoint that every guest in these tests has.
const HERE: u32 = 1024;

/// Messages that a VM of eight may have under way: what the core has buffers for, shared out.
const SHARE: u32 = 31;

/// The services of the soft core, in the order of their addresses.
const SERVICES: [&str; 6] =
    ["rpmsg-client-sample", "rpmsg-tty", "rpmsg-raw", "sink", "source", "latching-echo"];

fn vms(count: u8) -> Plan {
    Plan { vms: count, ..Plan::default() }
}

fn wait_all_services(guest: &mut Guest) {
    for (name, address) in SERVICES.into_iter().zip(0x400..) {
        assert_eq!(guest.wait_service(name), address, "address of {name}");
    }
}

#[test]
fn a_late_vm_is_told_of_all_services() {
    let rig = Rig::start(vms(2));
    let mut early = rig.guest(0);
    wait_all_services(&mut early);
    Rig::settle(&mut early);

    let mut late = rig.guest(1);

    wait_all_services(&mut late);
    Rig::settle(&mut late);
    assert_eq!(late.news().len(), SERVICES.len());
    Rig::settle(&mut early);
    assert_eq!(early.news().len(), SERVICES.len(), "the early VM is told nothing more");
}

#[test]
fn services_that_come_and_go_at_run_time_do_so_in_every_vm() {
    let mut rig = Rig::start(vms(3));
    let mut guests = [0, 1, 2].map(|vm| rig.guest(vm));
    for guest in &mut guests {
        wait_all_services(guest);
    }

    rig.core().command("announce rpmsg-raw:lately@0x500");
    for guest in &mut guests {
        let lately = guest.wait_service("lately");
        assert_eq!(lately, 0x500);
        guest.echo(HERE, lately, b"hello");
    }

    rig.core().command("withdraw lately");
    for guest in &mut guests {
        guest.wait_service_gone("lately");
        Rig::settle(guest);
        assert_eq!(guest.news().len(), SERVICES.len() + 2);
    }

    rig.core().command("announce rpmsg-raw:lately@0x501");
    for guest in &mut guests {
        assert_eq!(guest.wait_service("lately"), 0x501);
    }
}

#[test]
fn what_a_service_has_said_arrives_before_the_guest_is_told_of_its_end() {
    let mut rig = Rig::start(Plan::with_sessions(1).observed());
    let mut guest = rig.guest(0);
    rig.core().command("announce rpmsg-raw:lately@0x500");
    let lately = guest.wait_service("lately");
    rig.core().command("hang");
    for number in 0..10u8 {
        guest.send(HERE, lately, &[number]);
    }
    guest.flush();
    let heard = guest.news().len();

    guest.pause();
    rig.core().command("resume");
    rig.settle_all();
    rig.core().command("withdraw lately");
    rig.settle_all();
    guest.resume();

    for number in 0..10u8 {
        let message = guest.recv();
        assert_eq!((message.payload[0], message.heard), (number, heard));
    }
    guest.wait_service_gone("lately");
}

#[test]
fn eight_vms_with_the_same_addresses_get_their_own_answers_only() {
    let rig = Rig::start(vms(8));
    thread::scope(|scope| {
        for vm in 0..8 {
            let rig = &rig;
            scope.spawn(move || {
                let mut guest = rig.guest(vm);
                let (raw, tty) = (guest.wait_service("rpmsg-raw"), guest.wait_service("rpmsg-tty"));
                let stream = u64::from(vm) << 8;
                for round in 0..4 {
                    EchoStream::new(stream | round, HERE, raw)
                        .window(SHARE)
                        .finish(&mut guest, scaled(10_000));
                    EchoStream::new(stream | round | 4, HERE + 1, tty)
                        .window(SHARE)
                        .finish(&mut guest, scaled(2_500));
                }
            });
        }
    });
}

/// Where the core sees the service `name`, whose announcement it has taken already.
fn seen_by_core(rig: &mut Rig, name: &str) -> Vec<u32> {
    let services = rig.core().host_services();
    services.into_iter().filter(|(known, _)| known == name).map(|(_, address)| address).collect()
}

#[test]
fn a_guests_own_service_is_announced_to_the_core_in_the_guests_name() {
    let mut rig = Rig::start(Plan::with_sessions(1));
    let mut guest = rig.guest(0);

    guest.announce("guest-made", HERE);
    Rig::settle(&mut guest);

    let [address] = seen_by_core(&mut rig, "guest-made")[..] else {
        panic!("{:?}", rig.core().host_services());
    };
    let HostAddress::Guest { slot, address: local, .. } = from_host(address) else {
        panic!("{address:#x} is no guest's");
    };
    assert_eq!((slot.number(), local), (1, HERE));
    guest.open(HERE);
    rig.core().command(&format!("say rpmsg-raw {address:#x} hello"));
    assert_eq!(guest.recv().payload, b"hello");

    guest.withdraw("guest-made", HERE);
    Rig::settle(&mut guest);
    assert!(seen_by_core(&mut rig, "guest-made").is_empty());
}

#[test]
fn a_guest_in_slot_zero_is_announced_as_on_bare_metal() {
    let mut rig = Rig::start(vms(1));
    let mut guest = rig.guest(0);

    guest.announce("guest-made", HERE);
    Rig::settle(&mut guest);

    assert_eq!(seen_by_core(&mut rig, "guest-made"), [HERE]);
}

#[test]
fn services_of_the_same_name_and_address_in_several_guests_are_kept_apart() {
    let mut rig = Rig::start(vms(3));
    let mut guests = [0, 1, 2].map(|vm| rig.guest(vm));

    for guest in &mut guests {
        guest.announce("guest-made", HERE);
        guest.open(HERE);
        Rig::settle(guest);
    }

    let addresses = seen_by_core(&mut rig, "guest-made");
    assert_eq!(addresses.len(), 3);
    for address in addresses {
        let HostAddress::Guest { slot, .. } = from_host(address) else {
            panic!("{address:#x} is no guest's");
        };
        rig.core().command(&format!("say rpmsg-raw {address:#x} {slot:?}"));
        let heard = guests[usize::from(slot.number())].recv();
        assert_eq!(heard.payload, format!("{slot:?}").as_bytes());
    }
}

#[test]
fn the_services_of_a_guest_are_withdrawn_from_the_core_when_it_is_reset() {
    let mut rig = Rig::start(Plan::with_sessions(1));
    let mut guest = rig.guest(0);
    guest.announce("guest-made", HERE);
    guest.announce("guest-made-too", HERE + 1);
    Rig::settle(&mut guest);
    assert_eq!(rig.core().host_services().len(), 2);

    guest.reset_driver();
    Rig::settle(&mut guest);

    assert_eq!(rig.core().host_services(), []);
}

#[test]
fn the_services_of_a_guest_are_withdrawn_from_the_core_when_it_is_gone() {
    let mut rig = Rig::start(vms(2));
    let mut stays = rig.guest(0);
    let mut leaves = rig.guest(1);
    for guest in [&mut stays, &mut leaves] {
        guest.announce("guest-made", HERE);
        Rig::settle(guest);
    }
    assert_eq!(rig.core().host_services().len(), 2);

    drop(leaves);
    let mut back = rig.guest(1);
    Rig::settle(&mut back);

    assert_eq!(rig.core().host_services(), [("guest-made".to_owned(), HERE)]);
}
