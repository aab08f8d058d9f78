//! What front-ends change under a running guest: memory, event fds, the whole connection.

use crate::harness::driver::{RX, TX};
use crate::harness::guest::Guest;
use crate::harness::options::{DriverOptions, GuestOptions};
use crate::harness::rig::{Plan, Rig};
use crate::harness::stream::EchoStream;
use crate::harness::vmm::MemoryMessages;

const HERE: u32 = 1024;
/// The first service of the core, for guests that nobody tells of services.
const FIRST_SERVICE: u32 = 0x400;

/// Runs a stream during which `change` happens again and again; the session goes on and nothing is told twice.
fn a_stream_survives(options: GuestOptions, mut change: impl FnMut(&mut Guest)) {
    let rig = Rig::start(Plan::with_sessions(1));
    let mut guest = rig.guest_with(0, options);
    let raw = guest.wait_service("rpmsg-raw");
    Rig::settle(&mut guest);
    let news = guest.news().len();
    let mut stream = EchoStream::new(8, HERE, raw);

    for _ in 0..50 {
        let (sent, received) = (stream.sent() + 400, stream.received() + 300);
        stream.run(&mut guest, sent, received);
        change(&mut guest);
    }

    stream.finish(&mut guest, 100);
    assert_eq!(guest.news().len(), news, "nothing is told twice");
}

#[test]
fn a_stream_survives_a_memory_table_that_is_sent_again() {
    let options = GuestOptions { memory: MemoryMessages::Table, ..GuestOptions::default() };
    a_stream_survives(options, |guest| {
        let main = guest.ram().main_region();
        guest.vmm().set_memory_table(&[main]).unwrap();
    });
}

#[test]
fn a_stream_survives_a_memory_table_that_grows_and_shrinks() {
    let options = GuestOptions { memory: MemoryMessages::Table, ..GuestOptions::default() };
    a_stream_survives(options, |guest| {
        let (main, more) = (guest.ram().main_region(), guest.ram().hotplug_region());
        guest.vmm().set_memory_table(&[main, more]).unwrap();
        guest.vmm().set_memory_table(&[main]).unwrap();
    });
}

#[test]
fn a_stream_survives_memory_that_is_plugged_and_unplugged() {
    a_stream_survives(GuestOptions::default(), |guest| {
        let more = guest.ram().hotplug_region();
        guest.vmm().add_region(&more).unwrap();
        guest.vmm().remove_region(&more).unwrap();
    });
}

#[test]
fn a_stream_survives_other_call_fds() {
    a_stream_survives(GuestOptions::default(), |guest| {
        guest.change_call_fd(RX);
        guest.change_call_fd(TX);
    });
}

#[test]
fn other_call_fds_cost_no_message_even_where_the_core_waits_for_nobody() {
    // Two VMs, and as much under way as the guest has buffers for, which is more than its share of the core's.
    let rig = Rig::start(Plan::with_sessions(2));
    let mut guest = rig.guest(0);
    let raw = guest.wait_service("rpmsg-raw");
    Rig::settle(&mut guest);
    let mut stream = EchoStream::new(16, HERE, raw).window(240);

    for _ in 0..200 {
        let (sent, received) = (stream.sent() + 400, stream.received() + 200);
        stream.run(&mut guest, sent, received);
        guest.change_call_fd(RX);
        guest.change_call_fd(TX);
    }

    stream.finish(&mut guest, 100);
}

#[test]
fn what_arrives_while_the_interrupt_is_masked_is_signalled_when_it_is_unmasked() {
    let rig = Rig::start(Plan::with_sessions(1).observed());
    let mut guest = rig.guest(0);
    let raw = guest.wait_service("rpmsg-raw");
    Rig::settle(&mut guest);

    for _ in 0..50 {
        guest.vmm().mask(RX).unwrap();
        guest.send(HERE, raw, b"hello");
        rig.settle_all();
        guest.unmask(RX);
        assert_eq!(guest.recv().payload, b"hello");
    }
}

#[test]
fn a_change_of_call_fds_before_the_first_delivery_is_no_reset() {
    let mut rig = Rig::start(Plan::with_sessions(1).observed());
    // The driver knows no name service, so nothing is delivered to it at first.
    let driver = DriverOptions { name_service: false, ..DriverOptions::default() };
    let mut guest = rig.guest_with(0, GuestOptions::with_driver(driver));
    rig.settle_all();
    rig.core().command("hang");
    guest.send(HERE, FIRST_SERVICE, b"hello");
    guest.flush();

    guest.change_call_fd(RX);
    guest.change_call_fd(TX);
    rig.core().command("resume");

    assert_eq!(guest.recv().payload, b"hello");
}

#[test]
fn a_guest_without_the_name_service_works_through_known_addresses() {
    let rig = Rig::start(Plan::with_sessions(1).observed());
    rig.settle_all();
    let mut guest = rig.guest_with(0, GuestOptions::cloud_hypervisor());

    EchoStream::new(9, HERE, FIRST_SERVICE).window(100).finish(&mut guest, 1000);

    assert_eq!(guest.news().len(), 0);
}

#[test]
fn the_device_offers_what_the_design_says() {
    use vhost::VhostBackend;
    use vhost::vhost_user::message::VhostUserProtocolFeatures as Protocol;
    use vhost::vhost_user::{VhostUserFrontend, message::VhostUserConfigFlags};

    let rig = Rig::start(Plan::default());
    let mut guest = rig.guest(0);

    let protocol = Protocol::MQ
        | Protocol::REPLY_ACK
        | Protocol::CONFIGURE_MEM_SLOTS
        | Protocol::RESET_DEVICE
        | Protocol::CONFIG;
    assert_eq!(guest.vmm().protocol(), protocol);
    // NS, INDIRECT_DESC, EVENT_IDX, PROTOCOL_FEATURES, VERSION_1
    assert_eq!(guest.vmm().offered(), 1 | 1 << 28 | 1 << 29 | 1 << 30 | 1 << 32);
    // A front-end that reads the configuration space, which the device has not got, has to get an answer.
    let mut frontend = guest.vmm().frontend();
    let config = frontend.get_config(0, 8, VhostUserConfigFlags::empty(), &[0; 8]);
    assert_eq!(config.unwrap().1, [0; 8]);
    assert!(frontend.get_features().is_ok());
}

#[test]
fn a_second_connection_waits_until_the_first_is_gone() {
    let rig = Rig::start(Plan::with_sessions(1));
    let mut first = rig.guest(0);
    Rig::settle(&mut first);

    std::thread::scope(|scope| {
        let second = scope.spawn(|| Rig::settle(&mut rig.guest(0)));
        Rig::settle(&mut first);
        assert!(!second.is_finished());
        drop(first);
    });
}
