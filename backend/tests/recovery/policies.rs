//! What the program does about a core that is lost, and when it starts and stops one.

use std::fs;

use object::LittleEndian;
use object::elf::{FileHeader64, PT_LOAD};
use object::read::elf::{FileHeader, ProgramHeader};
use rustix::fs::{CWD, FileType, Mode, mknodat};
use tempfile::TempDir;
use vhost_device_rpmsg::remote::resource_table::ResourceTable;

use crate::booted::{House, Said};
use crate::harness::guest::Guest;
use crate::harness::rig::{Plan, Rig};
use crate::harness::softcore::{DEVICE_ADDRESS, MEMORY_SIZE};
use crate::harness::stream::EchoStream;
use crate::vm::ECHO;

const HERE: u32 = 1024;
/// Services of the soft core when it is left to itself.
const SERVICES: usize = 6;
/// What a host asks a core that it has doubts about.
const ECHO_REQUEST: u8 = 0xF4;
/// What a core says once it has booted.
const READY: u8 = 0xF0;

fn echoes(guest: &mut Guest) {
    let address = guest.wait_service(ECHO);
    guest.echo(HERE, address, b"are you there?");
}

/// Makes the core crash, and waits until the guest knows.
fn crash(house: &mut House, guest: &mut Guest) {
    let news = guest.news().len();
    house.command("core", "crash");
    guest.until("withdrawal of all services", |guest| {
        guest.drain();
        guest.news().len() >= news + SERVICES
    });
}

pub(crate) fn a_booted_core_that_crashes_is_stopped_and_started() {
    let mut house = House::start(&[("core", Said::default())]);
    let mut guest = house.guest("core", 0);
    echoes(&mut guest);

    crash(&mut house, &mut guest);

    echoes(&mut guest);
    assert_eq!(house.journal(), ["start core", "stop core", "start core"]);
    assert_eq!(guest.news().len(), 3 * SERVICES, "told, withdrawn, told again");
}

pub(crate) fn a_booted_core_is_left_to_boot_by_itself_where_it_is_only_to_be_attached_to() {
    let mut house = House::start(&[("core", Said { recovery: "policy = \"reattach\"", ..Said::default() })]);
    let mut guest = house.guest("core", 0);
    echoes(&mut guest);

    crash(&mut house, &mut guest);
    house.command("core", "reboot");

    echoes(&mut guest);
    assert_eq!(house.journal(), ["start core"]);
}

pub(crate) fn without_recovery_a_core_that_crashed_is_left_alone_even_if_it_boots() {
    let mut rig = Rig::start_with(Plan::with_sessions(1), |config| {
        // Behind the tables of the memory, before those of the VMs.
        config.replacen("[[vm]]", "[remote.recovery]\npolicy = \"off\"\n[[vm]]", 1)
    });
    let mut guest = rig.guest(0);
    echoes(&mut guest);
    let address = guest.wait_service(ECHO);

    rig.core().command("crash");
    guest.wait_service_gone(ECHO);
    rig.core().command("reboot");
    for _ in 0..10 {
        guest.send(HERE, address, b"anybody?");
        guest.flush();
    }

    assert!(rig.core().command("stats").starts_with("state=waiting boots=2 links=1 "));
    rig.program().wait_log("recovery is off");
    drop(guest);
    assert_eq!(rig.program().wait_dropped("vm0", 1)["remote core not running"], 10);
}

pub(crate) fn a_core_that_crashes_too_often_in_a_row_is_given_up() {
    let recovery = "limit = 2\nback-off = \"1ms\"";
    let mut house = House::start(&[("core", Said { recovery, ..Said::default() })]);
    let mut guest = house.guest("core", 0);
    for _ in 0..3 {
        echoes(&mut guest);
        crash(&mut house, &mut guest);
    }

    house.program().wait_log("given up after 3 crashes in a row; look at its trace and dump, then start it");

    guest.send(HERE, 0x400, b"anybody?");
    guest.flush();
    let expected = ["start core", "stop core", "start core", "stop core", "start core"];
    assert_eq!(house.journal(), expected, "it is left as it has crashed, to be looked at");
    assert!(house.is_alive("core"));
    house.end();
    assert!(!house.is_alive("core"), "a core that was given up is stopped all the same");
}

pub(crate) fn the_second_reboot_in_a_row_has_to_wait_and_the_first_has_not() {
    let mut house = House::start(&[("core", Said { recovery: "back-off = \"60min\"", ..Said::default() })]);
    let mut guest = house.guest("core", 0);
    echoes(&mut guest);
    crash(&mut house, &mut guest);
    echoes(&mut guest);
    let before = house.journal();
    assert_eq!(before, ["start core", "stop core", "start core"]);

    crash(&mut house, &mut guest);
    guest.send(HERE, 0x400, b"anybody?");
    guest.flush();
    assert_eq!(house.journal(), before);

    house.end();
    assert_eq!(house.journal()[3..], ["stop core"], "the end does not wait");
    assert!(!house.is_alive("core"));
}

pub(crate) fn the_memory_of_a_core_that_crashed_is_dumped_before_it_is_stopped() {
    const NEEDLE: &[u8] = b"a needle in the memory of the core";
    let dumps = TempDir::new().unwrap();
    let remote = format!("dump = {:?}", dumps.path());
    let mut house = House::start(&[("core", Said { remote: &remote, ..Said::default() })]);
    let mut guest = house.guest("core", 0);
    let address = guest.wait_service(ECHO);
    guest.echo(HERE, address, NEEDLE);

    crash(&mut house, &mut guest);

    let said = house.program().wait_log("its memory is in ");
    let path = said.rsplit_once("its memory is in ").unwrap().1;
    let bytes = fs::read(path).unwrap();
    let header = FileHeader64::<LittleEndian>::parse(&*bytes).unwrap();
    let programs = header.program_headers(LittleEndian, &*bytes).unwrap();
    let mut loads = programs.iter().filter(|program| program.p_type(LittleEndian) == PT_LOAD);
    let memory = loads.next().unwrap();
    assert!(loads.next().is_none());
    assert_eq!(memory.p_paddr(LittleEndian), u64::from(DEVICE_ADDRESS));
    let memory = memory.data(LittleEndian, &*bytes).unwrap();
    assert_eq!(memory.len() as u64, MEMORY_SIZE);
    assert!(memory.windows(NEEDLE.len()).any(|window| window == NEEDLE));
    let table = ResourceTable::parse(&memory[..1024]).unwrap();
    assert_eq!(table.vdevs().next().unwrap().status, 7, "as it was before the core was started anew");
    echoes(&mut guest);
}

pub(crate) fn a_core_that_is_needed_runs_from_the_first_vm_to_the_last() {
    let mut house = House::start(&[("core", Said { boot: "when = \"needed\"", ..Said::default() })]);
    let mut first = house.plug("core", 0);
    assert!(house.journal().is_empty(), "no driver is up");
    first.boot();
    echoes(&mut first);
    let mut second = house.guest("core", 1);
    echoes(&mut second);

    drop(first);
    house.program().wait_log("vm core0: front-end gone");
    echoes(&mut second);
    assert_eq!(house.journal(), ["start core"]);
    drop(second);
    house.program().wait_log("remote core: stopped");
    assert_eq!(house.journal(), ["start core", "stop core"]);
    assert!(!house.is_alive("core"));

    let mut again = house.guest("core", 0);
    echoes(&mut again);
    assert_eq!(house.journal(), ["start core", "stop core", "start core"]);
}

pub(crate) fn a_core_is_started_after_the_one_it_counts_on_and_stopped_before_it() {
    let mut house = House::start(&[
        ("first", Said { boot: "when = \"needed\"", ..Said::default() }),
        ("second", Said { remote: "after = [\"first\"]", boot: "when = \"needed\"", ..Said::default() }),
    ]);
    let mut guest = house.guest("second", 0);
    echoes(&mut guest);
    assert_eq!(house.journal(), ["start first", "start second"]);

    drop(guest);
    house.program().wait_log("remote first: stopped");
    assert_eq!(house.journal()[2..], ["stop second", "stop first"]);

    let mut guest = house.guest("second", 1);
    echoes(&mut guest);
    house.end();
    assert_eq!(house.journal()[4..], ["start first", "start second", "stop second", "stop first"]);
    assert!(!house.is_alive("first") && !house.is_alive("second"));
}

pub(crate) fn a_core_that_misses_a_heartbeat_is_started_anew() {
    let mut house = House::start(&[("core", Said { remote: "heartbeat = \"1s\"", ..Said::default() })]);
    let mut guest = house.guest("core", 0);
    echoes(&mut guest);

    house.command("core", "hang");
    house.program().wait_log("lost: it has not answered the last heartbeat");

    guest.wait_service_gone(ECHO);
    echoes(&mut guest);
    assert_eq!(house.journal(), ["start core", "stop core", "start core"]);
}

pub(crate) fn a_core_that_does_not_answer_for_a_while_and_goes_on_has_lost_nothing() {
    // However soon a silent core may be attached to, its table does not stand for an answer.
    let watches =
        ["heartbeat = \"1s\"", "hang-after = \"500ms\"", "heartbeat = \"1s\"\nattach-after = \"1ms\""];
    for watch in watches {
        goes_on_after_it_has_not_answered(watch);
    }
}

fn goes_on_after_it_has_not_answered(watch: &str) {
    let head = "name = \"core\"\n";
    let mut rig = Rig::start_with(Plan::with_sessions(1), |config| {
        config.replacen(head, &format!("{head}{watch}\n"), 1)
    });
    let mut guest = rig.guest(0);
    let address = guest.wait_service(ECHO);
    rig.core().command("hang");
    for number in 0..10_u8 {
        guest.send(HERE, address, &[number]);
    }
    guest.flush();

    guest.wait_service_gone(ECHO);
    let news = guest.news().len();
    rig.core().command("resume");

    for number in 0..10_u8 {
        assert_eq!(guest.recv().payload, [number]);
    }
    echoes(&mut guest);
    assert_eq!(guest.news().len(), news + SERVICES, "it was back once");
    rig.program().wait_log("it is back, going on");
}

pub(crate) fn a_core_whose_watchdog_fires_is_started_anew() {
    let dir = TempDir::new().unwrap();
    let watchdog = dir.path().join("watchdog");
    mknodat(CWD, &watchdog, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    let remote = format!("watchdog = {watchdog:?}");
    let mut house = House::start(&[("core", Said { remote: &remote, ..Said::default() })]);
    let mut guest = house.guest("core", 0);
    echoes(&mut guest);

    fs::write(&watchdog, "!").unwrap();
    house.program().wait_log("lost: its watchdog has fired");

    guest.wait_service_gone(ECHO);
    echoes(&mut guest);
    assert_eq!(house.journal(), ["start core", "stop core", "start core"]);
}

pub(crate) fn a_core_that_keeps_messages_but_answers_is_not_taken_for_hung_and_one_that_does_not_is() {
    let plan = Plan { core: vec!["--keep-buffers", "4"], ..Plan::with_sessions(1) };
    let mut rig = Rig::prepare(plan);
    let head = "name = \"core\"\n";
    let config = rig.config().replacen(head, &format!("{head}hang-after = \"300ms\"\n"), 1);
    fs::write(rig.config_path(), config).unwrap();
    let wire = rig.start_core_behind_a_wire();
    rig.start_program();
    let mut guest = rig.guest(0);
    let address = guest.wait_service(ECHO);
    for number in 0..4_u8 {
        guest.echo(HERE, address, &[number]);
    }

    wire.wait_to_core(ECHO_REQUEST, 3);

    for number in 0..100_u8 {
        guest.echo(HERE, address, &[number]);
    }
    assert_eq!(guest.news().len(), SERVICES);
    rig.core().command("hang");
    guest.send(HERE, address, b"anybody?");
    rig.program().wait_log("lost: it hangs: it has consumed nothing for ");
    guest.wait_service_gone(ECHO);
}

pub(crate) fn at_the_end_an_attached_core_has_its_clean_table_back_and_goes_on_without_us() {
    let mut rig = Rig::prepare(Plan::with_sessions(1));
    rig.start_core();
    let table = |rig: &Rig| fs::read(rig.place().memory).unwrap()[..1024].to_vec();
    let clean = table(&rig);
    for links in 1..=3 {
        rig.start_program();
        let mut guest = rig.guest(0);
        echoes(&mut guest);
        assert_ne!(table(&rig), clean);

        rig.program().terminate();
        assert!(rig.program().wait_exit().success());

        assert_eq!(table(&rig), clean);
        let stats = rig.core().command("stats");
        assert!(stats.contains(&format!(" boots=1 links={links} ")), "{stats}");
    }
}

pub(crate) fn at_the_end_a_booted_core_is_stopped() {
    let mut house = House::start(&[("core", Said::default())]);
    let mut guest = house.guest("core", 0);
    echoes(&mut guest);
    assert!(house.is_alive("core"));

    house.end();

    assert!(!house.is_alive("core"));
    assert_eq!(house.journal(), ["start core", "stop core"]);
}

pub(crate) fn a_core_that_says_ready_and_has_its_table_as_we_left_it_is_attached_to_again() {
    let mut rig = Rig::prepare(Plan::with_sessions(1));
    let wire = rig.start_core_behind_a_wire();
    rig.start_program();
    let mut guest = rig.guest(0);
    echoes(&mut guest);

    for cycles in 1..=3 {
        wire.put_to_host(&[READY]);

        guest.until("services told again", |guest| {
            guest.drain();
            guest.news().len() >= (1 + 2 * cycles) * SERVICES
        });
        echoes(&mut guest);
        assert_eq!(guest.news().len(), (1 + 2 * cycles) * SERVICES);
    }
}

pub(crate) fn a_crash_of_one_core_is_not_noticed_by_the_vms_of_another() {
    let mut house = House::start(&[("core", Said::default()), ("other", Said::default())]);
    let mut victim = house.guest("core", 0);
    let mut bystander = house.guest("other", 0);
    echoes(&mut victim);
    echoes(&mut bystander);
    let address = bystander.wait_service(ECHO);
    let mut stream = EchoStream::new(1, HERE, address).window(64);
    stream.run(&mut bystander, 200, 150);

    crash(&mut house, &mut victim);

    let (sent, received) = (stream.sent() + 200, stream.received() + 150);
    stream.run(&mut bystander, sent, received);
    echoes(&mut victim);
    stream.finish(&mut bystander, 200);
    assert_eq!(bystander.news().len(), SERVICES);
    let journal = house.journal();
    assert_eq!(journal.iter().filter(|line| line.ends_with("other")).count(), 1, "{journal:?}");
}

pub(crate) fn a_core_that_is_needed_on_and_off_in_quick_succession_is_started_and_stopped_in_turn() {
    let mut house = House::start(&[("core", Said { boot: "when = \"needed\"", ..Said::default() })]);
    for vm in [0, 1].repeat(10) {
        // Gone in the middle of the start, or of the stop after that.
        drop(house.guest("core", vm));
    }
    let mut guest = house.guest("core", 0);
    echoes(&mut guest);
    drop(guest);
    house.end();

    let journal = house.journal();
    let in_turn = ["start core", "stop core"].into_iter().cycle().take(journal.len());
    assert!(journal.iter().eq(in_turn), "{journal:?}");
    assert_eq!(journal.last().unwrap(), "stop core");
    assert!(!house.is_alive("core"));
}
