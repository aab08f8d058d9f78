//! Firmware of another kind, with a resource table, vrings and addresses of its own: what the program makes of it, seen by
//! a driver without a VMM, and what the firmware makes of its doorbell.

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};

use tempfile::TempDir;
use vhost_device_rpmsg::remote::resource_table::Resource;
use vhost_device_rpmsg::rpmsg::MAX_PAYLOAD;
use vhost_device_rpmsg::softcore::{bell, pattern};

use super::board::{Board, CortexM3, Lab};
use super::driver::PATIENCE;
use super::harness::stream::EchoStream;
use super::house::wait_until;

/// An endpoint of the driver in these tests.
const HERE: u32 = 1024;

fn check_echo(lab: &mut Lab) {
    let echo = lab.guest.wait_service("rpmsg-raw");
    for len in [0, 1, 17, MAX_PAYLOAD] {
        lab.guest.echo(HERE, echo, &vec![0xA5; len]);
    }
}

#[test]
fn an_awkward_resource_table_is_served_as_it_asks() {
    let mut board = Board::start(&[], "");
    let mut lab = board.lab();
    check_echo(&mut lab);

    let table = board.core().table();
    let [console, rpmsg] = table.vdevs().collect::<Vec<_>>()[..] else { panic!("two virtio devices") };
    assert_eq!((console.id, console.status), (3, 0), "a device of another kind is left alone");
    assert_eq!((rpmsg.id, rpmsg.status, rpmsg.gfeatures), (7, 7, 1));
    let [to_host, from_host] = &rpmsg.vrings[..] else { panic!("two vrings") };
    assert_eq!((to_host.num, to_host.align, to_host.notifyid), (128, 64, 2));
    assert_eq!((from_host.num, from_host.align, from_host.notifyid), (64, 512, 3));
    assert_eq!(from_host.da, Some(0x2105_2000), "where the firmware wants it");
    let placed = to_host.da.expect("placed by the host");
    let fixed = table.entries().iter().filter_map(|entry| match &entry.resource {
        Resource::Carveout(carveout) => Some((carveout.da.expect("placed by the host"), carveout.size)),
        Resource::Trace(trace) => Some((trace.da.expect("fixed"), trace.size)),
        _ => None,
    });
    for (start, size) in fixed {
        assert!(!(start..start + size).contains(&placed), "vring 0 at {placed:#x} lies in {start:#x}..");
    }
    for left_alone in ["vdev id 3", "vendor's own, type 128", "unknown type 0x4d"] {
        board.program().wait_log(left_alone);
    }
    let trace = board.core().trace();
    assert_eq!(trace, "ready, waiting for a host\nlink is up, notifyids 2 and 3\n");
}

#[test]
fn every_payload_size_comes_back_from_the_emulated_core() {
    let board = Board::start(&[], "");
    let mut lab = board.lab();
    let echo = lab.guest.wait_service("echo");

    for size in 0..=MAX_PAYLOAD {
        let payload: Vec<u8> = (0..size).map(|i| (i * 7 + size).to_le_bytes()[0]).collect();
        lab.guest.echo(HERE, echo, &payload);
    }
}

#[test]
fn streams_to_and_from_the_emulated_core_lose_nothing() {
    const COUNT: u32 = 5000;

    let board = Board::start(&[], "");
    let mut lab = board.lab();
    let echo = lab.guest.wait_service("echo");
    EchoStream::new(1, HERE, echo).window(32).finish(&mut lab.guest, COUNT);

    let sink = lab.guest.wait_service("sink");
    for number in 0..COUNT {
        lab.guest.send(HERE, sink, &number.to_le_bytes());
    }
    assert_eq!(lab.counter("sink", "received"), u64::from(COUNT));
    for fault in ["disordered", "refused"] {
        assert_eq!(lab.counter("sink", fault), 0, "{fault} at the sink");
    }

    let source = lab.guest.wait_service("source");
    for size in [4_u32, 496] {
        let request: Vec<u8> = [COUNT, size, 0].into_iter().flat_map(u32::to_le_bytes).collect();
        lab.guest.send(HERE, source, &request);
        let mut expected = vec![0; size as usize];
        for number in 0..COUNT {
            pattern(number, &mut expected);
            let message = lab.guest.recv();
            assert_eq!((message.src, message.dst), (source, HERE));
            assert!(message.payload == expected, "message {number} of {size} bytes: {message:02x?}");
        }
    }
}

/// Gives a command after which the core is lost until `revive`, and checks that everything goes and comes back.
fn check_loss(command: &str, revive: impl FnOnce(&mut Board)) {
    let mut board = Board::start(&[], "");
    let mut lab = board.lab();
    check_echo(&mut lab);

    lab.command(command);
    revive(&mut board);

    lab.wait_for_services_anew();
    check_echo(&mut lab);
    assert_eq!(lab.counter("control", "received"), 1, "commands since the reset");
}

#[test]
fn services_go_with_a_hard_fault_of_the_core_and_come_back_after_its_reset() {
    check_loss("hard-fault", |board| {
        board.program().wait_log("it reports a crash");
        let trace = board.core().trace();
        assert!(trace.ends_with('\n') && trace.contains("a fault was asked for\nfault at 0x"), "{trace}");
        board.core().reset();
    });
}

#[test]
fn services_go_and_come_back_where_the_core_resets_itself() {
    check_loss("reset", |_| ());
}

#[test]
fn services_go_and_come_back_where_a_core_that_hangs_is_reset() {
    check_loss("hang", |board| {
        wait_until(board.core(), "hanging", |core| core.trace().contains("told to hang"));
        board.core().reset();
    });
}

/// The next byte that the firmware rings.
fn rung(doorbell: &mut UnixStream) -> u8 {
    let mut byte = [0];
    doorbell.read_exact(&mut byte).expect("the firmware rings in time");
    byte[0]
}

#[test]
fn the_firmware_answers_its_doorbell_as_the_socket_link_says() {
    let dir = TempDir::new().expect("temporary folder");
    let path = dir.path().join("doorbell");
    let listener = UnixListener::bind(&path).expect("doorbell socket");
    let mut core = CortexM3::start(&dir.path().join("memory"), &format!("unix:{}", path.display()));
    let (mut doorbell, _) = listener.accept().expect("QEMU connects");
    doorbell.set_read_timeout(Some(PATIENCE)).expect("time-out set");
    let ring = |mut doorbell: &UnixStream, bytes: &[u8]| doorbell.write_all(bytes).expect("doorbell rung");

    assert_eq!(rung(&mut doorbell), bell::READY);
    // Kicks before there is a link, and bytes without a meaning, are nothing to it.
    ring(&doorbell, &[0x00, 0x43, bell::LAST_KICK, 0xF8, 0xFF, bell::READY]);
    for (asked, answer) in [(bell::STATE, bell::RUNNING), (bell::ECHO_REQUEST, bell::ECHO_REPLY)] {
        for _ in 0..3 {
            ring(&doorbell, &[asked]);
            assert_eq!(rung(&mut doorbell), answer);
        }
    }
    // Ready once in a boot; nothing after it is shut down.
    core.reset();
    assert_eq!(rung(&mut doorbell), bell::READY);
    ring(&doorbell, &[bell::SHUT_DOWN]);
    assert_eq!(rung(&mut doorbell), bell::SHUTDOWN_DONE);
    assert!(core.trace().ends_with("shut down by the host\n"), "{}", core.trace());
    ring(&doorbell, &[bell::STATE]);
    core.reset();
    assert_eq!(rung(&mut doorbell), bell::READY);
}
