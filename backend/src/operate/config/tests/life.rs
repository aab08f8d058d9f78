//! How a remote is started, watched and recovered, and vrings without a table: what `check` prints, and what it refuses.

use super::refusals::refusal;
use super::*;

/// The minimal file with keys added to the remote and tables behind it. The keys are in line 6.
fn remote(keys: &str, tables: &str) -> String {
    let line = "resource-table = 0x21000000\n";
    MINIMAL.replace(line, &format!("{line}{keys}\n")).replace("\n[[vm]]", &format!("{tables}\n[[vm]]"))
}

/// The minimal file with a table [remote.boot], which opens in line 11.
fn boot(keys: &str) -> String {
    remote("", &format!("[remote.boot]\n{keys}\n"))
}

/// The minimal file with vrings at fixed places, in line 9.
fn vrings(keys: &str) -> String {
    let text = MINIMAL.replace("resource-table = 0x21000000\n", "");
    text.replace("\n[[vm]]", &format!("[remote.vrings]\n{keys}\n\n[[vm]]"))
}

fn found(text: &str) -> String {
    refusal(text).strip_prefix("board.toml:").unwrap().to_owned()
}

const COMMANDS: &str = "start = [\"core-on\", \"0\"]\nstop = [\"core-off\"]";

#[test]
fn the_life_of_a_remote_is_printed() {
    let keys = "heartbeat = \"1s\"\nhang-after = \"5s\"\nwatchdog = \"/dev/uio3\"\ndump = \"/var/dumps\"";
    let tables = format!(
        "[remote.boot]\nfirmware = \"/lib/m4.elf\"\nwhen = \"needed\"\n{COMMANDS}\n\
         [remote.recovery]\nlimit = 3\nback-off = \"2s\"\n"
    );
    let text = plan(&remote(keys, &tables)).to_string();
    let expected = "  boot            when needed
  firmware        /lib/m4.elf
  start           [\"core-on\", \"0\"]
  stop            [\"core-off\"]
  heartbeat       every 1s
  hangs           after 5s
  watchdog        /dev/uio3
  after a crash   reboot, the second time in a row after 2s; given up after 3 in a row; dump to /var/dumps
";
    assert!(text.contains(expected), "{text}");

    for (keys, expected) in [
        (
            "remoteproc = \"/sys/class/remoteproc/remoteproc0\"\nfirmware = \"m4.elf\"",
            "  boot            always\n  start, stop     by /sys/class/remoteproc/remoteproc0 with firmware \"m4.elf\"\n",
        ),
        (
            "register = 0x30390000\nmask = 0xf\nstart-value = 5\nstop-value = 0",
            "  start, stop     register 0x30390000, bits 0xf: 0x5 starts, 0x0 stops; through /dev/mem\n",
        ),
    ] {
        let text = plan(&boot(keys)).to_string();
        assert!(text.contains(expected), "{text}");
    }
    for (policy, expected) in [
        ("off", "  after a crash   nothing, until it is started\n"),
        ("reattach", "  after a crash   attach when it is back\n"),
    ] {
        let text = plan(&remote("", &format!("[remote.recovery]\npolicy = \"{policy}\"\n"))).to_string();
        assert!(text.contains(expected), "{text}");
    }
}

#[test]
fn a_remote_is_started_in_one_way_and_that_is_said_whole() {
    let remoteproc = "remoteproc = \"/sys/class/remoteproc/remoteproc0\"";
    for (keys, expected) in [
        (
            "when = \"always\"",
            "11: key remote.boot: expected a table [remote.boot] with one of `start` and `stop`, `remoteproc`, or \
             `register`, found none of them; a remote that somebody else starts has no such table",
        ),
        (
            "start = [\"on\"]",
            "11: key remote.boot: expected a table [remote.boot] with one of `start` and `stop`, `remoteproc`, or \
             `register`, found none of them; a remote that somebody else starts has no such table",
        ),
        (
            "start = []\nstop = [\"off\"]",
            "12: key remote.boot.start: expected a program and its arguments, found []",
        ),
        (
            "start = [\"on\"]\nstop = [\"\"]",
            "13: key remote.boot.stop: expected a program and its arguments, found [\"\"]",
        ),
        (
            &format!("{remoteproc}\n{COMMANDS}"),
            "13: key remote.boot.start: expected no such key with `remoteproc`, found one; remove it, or say `start` and \
             `stop` alone",
        ),
        (
            &format!("{remoteproc}\nregister = 0"),
            "13: key remote.boot.register: expected no such key with `remoteproc`, found one; remove it, or say \
             `register` alone",
        ),
        (
            &format!("register = 0\n{COMMANDS}"),
            "13: key remote.boot.start: expected no such key with `register`, found one; remove it, or say `start` and \
             `stop` alone",
        ),
        (
            &format!("{COMMANDS}\nmask = 1"),
            "14: key remote.boot.mask: expected no such key with no `register`, found one; remove it, or say `register` \
             too",
        ),
        (
            "remoteproc = \"\"",
            "12: key remote.boot.remoteproc: expected the path of a directory \"/sys/class/remoteproc/remoteprocN\", \
             found \"\"",
        ),
        (
            &format!("{remoteproc}\nfirmware = \"\""),
            "13: key remote.boot.firmware: expected the path of an ELF file; with `remoteproc` a name for the kernel to \
             look for, found \"\"",
        ),
        (
            &format!("{COMMANDS}\nwhen = \"now\""),
            "14: key remote.boot.when: expected \"always\" or \"needed\", found \"now\"",
        ),
    ] {
        assert_eq!(found(&boot(keys)), expected);
    }
}

#[test]
fn a_register_has_a_mask_and_values_within_it() {
    for (keys, expected) in [
        (
            "register = 2",
            "12: key remote.boot.register: expected a physical address, a multiple of 4, found 2",
        ),
        ("register = 4", "11: key remote.boot.mask: expected a number from 1 to 0xffffffff, found nothing"),
        (
            "register = 4\nmask = 0",
            "13: key remote.boot.mask: expected a number from 1 to 0xffffffff, found 0",
        ),
        ("register = 4\nmask = 1", "11: key remote.boot.start-value: expected bits of `mask`, found nothing"),
        (
            "register = 4\nmask = 1\nstart-value = 3",
            "14: key remote.boot.start-value: expected bits of the mask 0x1, found 0x3",
        ),
        (
            "register = 4\nmask = 1\nstart-value = 1\nstop-value = 2",
            "15: key remote.boot.stop-value: expected bits of the mask 0x1, found 0x2",
        ),
    ] {
        assert_eq!(found(&boot(keys)), expected);
    }
}

#[test]
fn recovery_and_watch_that_cannot_be_are_refused() {
    let time = "a time from 1ms to 1h: a whole number with ms, s or min behind it, such as \"2s\"";
    let recovery = |keys: &str| found(&remote("", &format!("[remote.recovery]\n{keys}\n")));
    assert_eq!(
        recovery("policy = \"reboot\""),
        "12: key remote.recovery.policy: expected \"reattach\" or \"off\" for a remote that somebody else starts, found \
         \"reboot\"; say in `remote.boot` how it is started"
    );
    assert_eq!(
        recovery("policy = \"on\""),
        "12: key remote.recovery.policy: expected \"reattach\", \"reboot\" or \"off\", found \"on\""
    );
    assert_eq!(
        recovery("limit = 0"),
        "12: key remote.recovery.limit: expected a number from 1 to 1000000, found 0"
    );
    assert_eq!(
        recovery("back-off = \"0s\""),
        format!("12: key remote.recovery.back-off: expected {time}, found \"0s\"")
    );
    for key in ["heartbeat", "hang-after"] {
        assert_eq!(
            found(&remote(&format!("{key} = \"2\""), "")),
            format!("6: key remote.{key}: expected {time}, found \"2\"")
        );
    }
    assert_eq!(
        found(&remote("watchdog = \"\"", "")),
        "6: key remote.watchdog: expected the path of a device, such as \"/dev/uio3\", found \"\""
    );
    assert_eq!(
        found(&remote("dump = \"a\\u0000b\"", "")),
        "6: key remote.dump: expected the path of a directory, found \"a\\0b\""
    );
    for key in
        ["heartbeat = \"1s\"", "dump = \"/d\"", "watchdog = \"/w\"", "hang-after = \"1s\"", "after = [\"x\"]"]
    {
        let error = refusal(&[LOOPBACK, key, "\n", &vm("a", "")].concat());
        assert!(error.contains("expected no such key with link = \"loopback\""), "{error}");
    }
}

#[test]
fn a_remote_comes_after_others_that_stand_before_it() {
    let first = "[[remote]]\nname = \"first\"\nlink = \"loopback\"\n";
    let after = |names: &str, tables: &str| {
        let second =
            remote(&format!("after = [{names}]"), tables).replace("[[vm]]", "[[vm]]\nremote = \"core\"");
        [first, &second].concat()
    };
    let booted = format!("[remote.boot]\n{COMMANDS}\n");
    let plan = plan(&after("\"first\"", &booted));
    assert_eq!(plan.remotes[1].after, [0]);
    assert!(plan.to_string().contains("  after           first\n"), "{plan}");
    assert_eq!(
        found(&after("\"first\"", "")),
        "9: key remote.after: expected no such key without `boot`, found it; a remote that somebody else starts is not \
         waited for"
    );
    for name in ["core", "none"] {
        assert_eq!(
            found(&after(&format!("{name:?}"), &booted)),
            format!(
                "9: key remote.after: expected a remote before it, of which there are: first, found {name:?}"
            )
        );
    }
    assert_eq!(
        found(&after("\"first\", \"first\"", &booted)),
        "9: key remote.after: expected names of other remotes, of those that stand before this one in the file, found \
         \"first\" again"
    );
}

#[test]
fn the_table_is_that_of_firmware_which_this_program_loads() {
    let without = |keys: &str| boot(keys).replace("resource-table = 0x21000000\n", "");
    let plan = plan(&without(&format!("{COMMANDS}\nfirmware = \"/m4.elf\"")));
    assert!(plan.to_string().contains("  resource table  that of the firmware\n"), "{plan}");
    for keys in [COMMANDS, "remoteproc = \"/sys/class/remoteproc/remoteproc0\"\nfirmware = \"m4.elf\""] {
        assert_eq!(
            found(&without(keys)),
            "1: key remote.resource-table: expected a device address, a multiple of 4 from 0 to 0xffffffff, found nothing"
        );
    }
}

#[test]
fn vrings_at_fixed_places_are_printed_and_refused_where_they_cannot_be() {
    let printed = plan(&vrings("address = 0x21000000\ndevices = 2\ndescriptors = 64")).to_string();
    let expected = "  vrings 0        0x21000000 and 0x21008000, 64 descriptors
  vrings 1        0x21010000 and 0x21018000, 64 descriptors
";
    assert!(printed.contains(expected), "{printed}");
    let address = "a device address, a multiple of 0x1000 from which on the vrings lie below 2^32";
    for (keys, expected) in [
        ("devices = 1", format!("9: key remote.vrings.address: expected {address}, found nothing")),
        (
            "address = 0x21000800",
            format!("10: key remote.vrings.address: expected {address}, found 0x21000800"),
        ),
        (
            "address = 0x20ff0000",
            "10: key remote.vrings.address: expected 0x8000 bytes for each vring in the remote's memory, \
             0x21000000..=0x210fffff, found a vring at 0x20ff0000"
                .to_owned(),
        ),
        (
            "address = 0x210f0000\ndevices = 2",
            "10: key remote.vrings.address: expected 0x8000 bytes for each vring in the remote's memory, \
             0x21000000..=0x210fffff, found a vring at 0x21100000"
                .to_owned(),
        ),
        (
            "address = 0x21000000\ndevices = 9",
            "11: key remote.vrings.devices: expected a number from 1 to 8, found 9".to_owned(),
        ),
        (
            "address = 0x21000000\ndescriptors = 100",
            "11: key remote.vrings.descriptors: expected a power of two from 2 to 1024, found 100".to_owned(),
        ),
    ] {
        assert_eq!(found(&vrings(keys)), expected);
    }
    assert_eq!(
        found(&remote("", "[remote.vrings]\naddress = 0x21000000\n")),
        "11: key remote.vrings: expected one of them, found both it and `remote.resource-table`; remove the one that the \
         firmware does not have"
    );
}

#[test]
fn a_vm_is_in_front_of_a_device_that_can_be_there() {
    let second =
        |text: &str| text.replace("socket = \"/run/a.sock\"", "socket = \"/run/a.sock\"\ndevice = 1");
    assert_eq!(plan(&second(MINIMAL)).vms[0].device, 1, "a table may have it");
    assert_eq!(plan(&second(&vrings("address = 0x21000000\ndevices = 2"))).vms[0].device, 1);
    assert_eq!(
        found(&second(&vrings("address = 0x21000000"))),
        "15: key vm.device: expected a number below 1, which is how many devices remote core has, found 1"
    );
    assert_eq!(
        refusal(&[LOOPBACK, &vm("a", "device = 1")].concat()),
        "board.toml:7: key vm.device: expected a number below 1, which is how many devices remote core has, found 1"
    );
}
