//! What is said about a file that says something else.

use super::*;

pub(super) fn refusal(text: &str) -> String {
    parse(Path::new("board.toml"), text).unwrap_err().to_string()
}

/// What is said about the minimal file with one change.
fn refusal_with(from: &str, to: &str) -> String {
    assert!(MINIMAL.contains(from), "{from}");
    refusal(&MINIMAL.replacen(from, to, 1))
}

#[test]
fn an_unreadable_file_is_named_with_the_cause() {
    let error = load(Path::new("no/such/file.toml"), &Sources::of_host()).unwrap_err();
    assert_eq!(error.to_string(), "cannot read the configuration no/such/file.toml");
    let cause = std::error::Error::source(&error).unwrap();
    assert_eq!(cause.to_string(), "No such file or directory (os error 2)");
}

#[test]
fn text_that_is_no_toml_is_refused_with_the_line() {
    assert_eq!(
        refusal("[[remote]]\nname = core\n"),
        "board.toml:2: not TOML: string values must be quoted, expected literal string"
    );
    assert_eq!(
        refusal_with("name = \"core\"", "name = \"core\"\nname = \"dsp\""),
        "board.toml:3: not TOML: duplicate key"
    );
}

#[test]
fn an_unknown_key_is_refused_with_those_there_are() {
    assert_eq!(
        refusal_with("size =", "sise ="),
        "board.toml:8: key remote.memory.sise: expected one of path, offset, size, device-address, physical-address, name, found a key that is \
         not known"
    );
    assert_eq!(
        refusal_with("socket = ", "service = 3\nsocket = "),
        "board.toml:13: key vm.service: expected one of name, socket, mode, group, slot, remote, device, addresses, strict, \
         overflow, weight, messages-per-second, bytes-per-second, found a key that is not known"
    );
    assert_eq!(
        refusal("[[services]]\n"),
        "board.toml:1: key services: expected one of control, user, state, metrics, remote, vm, service, found a key that is not known"
    );
}

#[test]
fn a_missing_key_is_refused_with_what_it_has_to_be() {
    let missing = |line: &str| refusal(&MINIMAL.replacen(&format!("{line}\n"), "", 1));
    assert_eq!(
        missing("name = \"core\""),
        "board.toml:1: key remote.name: expected a name of letters, digits, '_', '-' and '.' that no other remote has, \
         found nothing"
    );
    assert_eq!(
        missing("link = \"socket\""),
        "board.toml:1: key remote.link: expected \"uio\", \"socket\" or \"loopback\", found nothing"
    );
    assert_eq!(
        missing("doorbell = \"/run/core.doorbell\""),
        "board.toml:1: key remote.doorbell: expected the path of a unix socket, 1 to 107 bytes, that nothing else in \
         the file uses, found nothing"
    );
    assert_eq!(
        missing("resource-table = 0x21000000"),
        "board.toml:1: key remote.resource-table: expected a device address, a multiple of 4 from 0 to 0xffffffff, \
         found nothing"
    );
    assert_eq!(
        missing("path = \"/dev/shm/core\""),
        "board.toml:6: key remote.memory.path: expected the path of a file, found nothing"
    );
    assert_eq!(
        missing("size = 0x100000"),
        "board.toml:6: key remote.memory.size: expected a number of bytes, 1 or more, found nothing"
    );
    assert_eq!(
        missing("device-address = 0x21000000"),
        "board.toml:6: key remote.memory.device-address: expected a device address, a multiple of 16 from 0 to \
         0xfffffff0, found nothing"
    );
    assert_eq!(
        missing("socket = \"/run/a.sock\""),
        "board.toml:11: key vm.socket: expected the path of a unix socket, 1 to 107 bytes, that nothing else in the \
         file uses, found nothing"
    );
}

#[test]
fn a_user_that_is_root_or_nobody_at_all_is_refused() {
    for user in ["root", "", "a\\u0000"] {
        let said = refusal(&format!("user = \"{user}\"\n{MINIMAL}"));
        let expected =
            "board.toml:1: key user: expected the name of an unprivileged user of this host, found ";
        assert!(said.starts_with(expected), "{said}");
    }
    assert_eq!(plan(&format!("user = \"rpmsg\"\n{MINIMAL}")).user.as_deref(), Some("rpmsg"));
}

#[test]
fn a_file_without_a_remote_or_a_vm_is_refused() {
    assert_eq!(
        refusal(&vm("a", "")),
        "board.toml:1: key remote: expected one or more tables [[remote]], found none; without a configuration file \
         there is a loopback core, with one it is to be named"
    );
    assert_eq!(
        refusal(LOOPBACK),
        "board.toml:1: key vm: expected one or more tables [[vm]], found none; without `control` there would never be \
         one"
    );
}

#[test]
fn a_socket_remote_without_memory_is_refused() {
    let (head, rest) = MINIMAL.split_once("[[remote.memory]]").unwrap();
    let (_, vm) = rest.split_once("\n\n").unwrap();
    assert_eq!(
        refusal(&[head, vm].concat()),
        "board.toml:1: key remote.memory: expected one or more tables [[remote.memory]] that do not overlap in device \
         addresses, found nothing"
    );
}

#[test]
fn a_value_of_the_wrong_type_is_refused_with_what_it_has_to_be() {
    assert_eq!(
        refusal_with("size = 0x100000", "size = \"1M\""),
        "board.toml:8: key remote.memory.size: expected an integer: a number of bytes, 1 or more, found \"1M\""
    );
    assert_eq!(
        refusal_with("name = \"a\"", "name = 5"),
        "board.toml:12: key vm.name: expected a string: a name of letters, digits, '_', '-' and '.' that no other VM has, found 5"
    );
    assert_eq!(
        refusal_with("0x21000000", "99999999999999999999"),
        "board.toml:5: key remote.resource-table: expected an integer: a device address, a multiple of 4 from 0 to 0xffffffff, \
         found 99999999999999999999"
    );
    assert_eq!(
        refusal_with("[[vm]]", "[vm]"),
        "board.toml:11: key vm: expected one or more tables [[vm]], found [vm]"
    );
}

#[test]
fn a_name_that_is_empty_or_cannot_stand_on_a_command_line_is_refused() {
    for name in ["", "a b", "a=b", "ä"] {
        assert_eq!(
            refusal_with("name = \"a\"", &format!("name = \"{name}\"")),
            format!(
                "board.toml:12: key vm.name: expected a name of letters, digits, '_', '-' and '.' that no other VM has, \
                 found {name:?}"
            )
        );
    }
}

#[test]
fn a_name_that_is_given_twice_is_refused_with_the_other_line() {
    assert_eq!(
        refusal(&[LOOPBACK, LOOPBACK].concat()),
        "board.toml:5: key remote.name: expected a name of letters, digits, '_', '-' and '.' that no other remote has, \
         found \"core\", which line 2 has given already"
    );
    assert_eq!(
        refusal(&[LOOPBACK, &vm("a", ""), "[[vm]]\nname = \"a\"\nsocket = \"/b\"\n"].concat()),
        "board.toml:9: key vm.name: expected a name of letters, digits, '_', '-' and '.' that no other VM has, found \
         \"a\", which line 5 has given already"
    );
}

#[test]
fn a_link_that_does_not_exist_is_refused() {
    assert_eq!(
        refusal_with("\"socket\"", "\"vfio\""),
        "board.toml:3: key remote.link: expected \"uio\", \"socket\" or \"loopback\", found \"vfio\""
    );
}

#[test]
fn a_loopback_remote_with_keys_of_a_socket_is_refused() {
    let with = |key: &str| refusal(&[LOOPBACK, key, &vm("a", "")].concat());
    for (key, text) in [
        ("doorbell", "doorbell = \"/d\"\n"),
        ("resource-table", "resource-table = 0\n"),
        ("attach-after", "attach-after = \"2s\"\n"),
        ("memory", "[[remote.memory]]\npath = \"/m\"\nsize = 1\ndevice-address = 0\n"),
    ] {
        assert_eq!(
            with(text),
            format!(
                "board.toml:4: key remote.{key}: expected no such key with link = \"loopback\", found one; remove it, or \
                 say link = \"socket\""
            )
        );
    }
}

#[test]
fn a_socket_path_that_cannot_be_one_is_refused() {
    let long = format!("/{}", "x".repeat(107));
    assert_eq!(
        refusal_with("/run/a.sock", &long),
        format!(
            "board.toml:13: key vm.socket: expected the path of a unix socket, 1 to 107 bytes, that nothing else in the \
             file uses, found 108 bytes: {long}"
        )
    );
    assert!(refusal_with("/run/a.sock", "").ends_with("found an empty one"));
    assert!(refusal_with("/run/a.sock", "a\\u0000b").ends_with("found \"a\\0b\" with a NUL in it"));
    assert_eq!(plan(&MINIMAL.replace("/run/a.sock", &long[..107])).vms.len(), 1);
}

#[test]
fn a_socket_that_is_used_twice_is_refused_with_the_other_line() {
    assert_eq!(
        refusal_with("/run/a.sock", "/run//core.doorbell"),
        "board.toml:13: key vm.socket: expected the path of a unix socket, 1 to 107 bytes, that nothing else in the \
         file uses, found \"/run//core.doorbell\", which line 4 has given already"
    );
}

#[test]
fn a_resource_table_outside_the_memory_is_refused_with_where_the_memory_is() {
    for address in ["0x20fffffc", "0x210ffff4", "0x21100000"] {
        assert_eq!(
            refusal_with("0x21000000", address),
            format!(
                "board.toml:5: key remote.resource-table: expected an address with at least 16 bytes behind it in the \
                 remote's memory, 0x21000000..=0x210fffff, found {address}"
            )
        );
    }
    for (value, found) in [("0x21000002", "0x21000002"), ("-4", "-4"), ("0x100000000", "0x100000000")] {
        assert_eq!(
            refusal_with("0x21000000", value),
            format!(
                "board.toml:5: key remote.resource-table: expected a device address, a multiple of 4 from 0 to \
                 0xffffffff, found {found}"
            )
        );
    }
}

#[test]
fn a_time_without_unit_or_out_of_range_is_refused() {
    for time in
        ["2", "s", "2h", "0s", "3601s", "1.5s", "-1s", "99999999999999999999s", "18446744073709551615min"]
    {
        assert_eq!(
            refusal_with("link = \"socket\"", &format!("link = \"socket\"\nattach-after = \"{time}\"")),
            format!(
                "board.toml:4: key remote.attach-after: expected a time from 1ms to 1h: a whole number with ms, s or \
                 min behind it, such as \"2s\", found \"{time}\""
            )
        );
    }
}

#[test]
fn a_region_that_no_file_or_core_can_have_is_refused() {
    assert_eq!(
        refusal_with("size = 0x100000", "size = 0"),
        "board.toml:8: key remote.memory.size: expected a number of bytes, 1 or more, found 0"
    );
    assert_eq!(
        refusal_with("size = 0x100000", "size = 0xDF000001"),
        "board.toml:8: key remote.memory.size: expected at most 0xdf000000 bytes, up to the end of the 32-bit device \
         addresses, found 0xdf000001"
    );
    assert_eq!(
        refusal_with("device-address = 0x21000000", "device-address = 0x21000008"),
        "board.toml:9: key remote.memory.device-address: expected a device address, a multiple of 16 from 0 to \
         0xfffffff0, found 0x21000008"
    );
    assert_eq!(
        refusal_with("/dev/shm/core", ""),
        "board.toml:7: key remote.memory.path: expected the path of a file, found \"\""
    );
    let page = rustix::param::page_size();
    assert_eq!(
        refusal_with("size = 0x100000", "offset = 100\nsize = 0x100000"),
        format!(
            "board.toml:8: key remote.memory.offset: expected a number of bytes, 0 or a multiple of the page size, \
             found 100; this host has pages of {page} bytes"
        )
    );
    assert_eq!(
        refusal_with("size = 0x100000", "offset = 0x7fffffffffff0000\nsize = 0x100000"),
        "board.toml:8: key remote.memory.offset: expected an offset that with 0x100000 bytes behind it is below 2^63, \
         found 0x7fffffffffff0000"
    );
}

#[test]
fn regions_that_overlap_are_refused_with_the_other_line() {
    let second = "[[remote.memory]]\npath = \"x\"\nsize = 0x1000\ndevice-address = 0x210ff000\n[[vm]]";
    assert_eq!(
        refusal_with("[[vm]]", second),
        "board.toml:14: key remote.memory.device-address: expected a region that overlaps no other of this remote, \
         found 0x210ff000..=0x210fffff, which overlaps 0x21000000..=0x210fffff of line 9"
    );
}

#[test]
fn a_slot_that_does_not_exist_or_is_taken_is_refused() {
    for slot in ["-1", "127", "256"] {
        assert_eq!(
            refusal(&[LOOPBACK, &vm("a", &format!("slot = {slot}"))].concat()),
            format!(
                "board.toml:7: key vm.slot: expected a number from 0 to 126 that no other VM of the same remote has, \
                 found {slot}"
            )
        );
    }
    assert_eq!(
        refusal(&[LOOPBACK, &vm("a", "slot = 3"), &vm("b", "slot = 3")].concat()),
        "board.toml:11: key vm.slot: expected a number from 0 to 126 that no other VM of the same remote has, found 3, \
         which line 7 has given already"
    );
}

#[test]
fn more_vms_than_slots_are_refused() {
    let vms = |count: u8| (0..count).map(|number| vm(&format!("v{number}"), "")).collect::<String>();
    assert_eq!(slots(&[LOOPBACK, &vms(127)].concat()), (0..127).collect::<Vec<_>>());
    assert_eq!(
        refusal(&[LOOPBACK, &vms(128)].concat()),
        "board.toml:512: key vm.slot: expected at most 127 VMs at one remote, which is how many slots there are, found \
         one more at remote core"
    );
}

#[test]
fn a_remote_that_is_not_there_or_not_said_is_refused_with_those_there_are() {
    let two = [LOOPBACK, "[[remote]]\nname = \"dsp\"\nlink = \"loopback\"\n"].concat();
    assert_eq!(
        refusal(&[&two, vm("a", "remote = \"cpu\"").as_str()].concat()),
        "board.toml:10: key vm.remote: expected the name of a remote, of which there are: core, dsp, found \"cpu\""
    );
    assert_eq!(
        refusal(&[&two, vm("a", "").as_str()].concat()),
        "board.toml:7: key vm.remote: expected the name of a remote, of which there are: core, dsp, found nothing"
    );
}
