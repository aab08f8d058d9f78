//! The keys of a VM beyond its name and place, and the control socket that brings more of them.

use super::*;
use crate::{
    bridge::policy::{Overflow, VmPolicy},
    operate::plan::GroupPlan,
};

/// The only VM of a file in which it has these lines; they start at line 7.
fn only(lines: &str) -> crate::operate::plan::VmPlan {
    plan(&[LOOPBACK, &vm("a", lines)].concat()).vms.remove(0)
}

fn refusal(lines: &str) -> String {
    parse(Path::new("board.toml"), &[LOOPBACK, &vm("a", lines)].concat()).unwrap_err().to_string()
}

#[test]
fn a_vm_of_which_nothing_is_said_is_unlimited() {
    let vm = only("");
    assert_eq!(vm.policy, VmPolicy::unlimited(Overflow::Block));
    assert_eq!((vm.mode, vm.group), (None, None));
}

#[test]
fn every_key_of_a_vm_reaches_its_plan() {
    let vm = only(
        "mode = \"0660\"\ngroup = \"qemu\"\nweight = 100\naddresses = [0x400, 0, 0xfffffffe]\nstrict = true\n\
         overflow = \"drop\"\nmessages-per-second = 1000\nbytes-per-second = 496",
    );
    assert_eq!((vm.mode, vm.group), (Some(0o660), Some(GroupPlan::Name("qemu".to_owned()))));
    let policy = VmPolicy {
        addresses: vec![0x400, 0, 0xFFFF_FFFE],
        strict: true,
        overflow: Overflow::Drop,
        weight: 100,
        messages_per_second: Some(1000),
        bytes_per_second: Some(496),
    };
    assert_eq!(vm.policy, policy);
}

#[test]
fn a_group_that_looks_like_a_number_is_one() {
    assert_eq!(only("group = \"107\"").group, Some(GroupPlan::Number(107)));
    assert_eq!(only("group = \"107a\"").group, Some(GroupPlan::Name("107a".to_owned())));
}

#[test]
fn overflow_blocks_only_where_the_vm_is_the_only_one_that_its_remote_can_have() {
    let overflows =
        |text: &[&str]| plan(&text.concat()).vms.iter().map(|vm| vm.policy.overflow).collect::<Vec<_>>();
    let dsp = "[[remote]]\nname = \"dsp\"\nlink = \"loopback\"\n";
    let at = |name: &str, remote: &str| vm(name, &format!("remote = \"{remote}\""));
    assert_eq!(overflows(&[LOOPBACK, &vm("a", "")]), [Overflow::Block]);
    assert_eq!(
        overflows(&[LOOPBACK, dsp, &at("a", "core"), &at("b", "dsp"), &at("c", "core")]),
        [Overflow::Drop, Overflow::Block, Overflow::Drop]
    );
    assert_eq!(overflows(&["control = \"/c\"\n", LOOPBACK, &vm("a", "")]), [Overflow::Drop]);
    assert_eq!(
        overflows(&[LOOPBACK, &vm("a", "overflow = \"block\""), &vm("b", "")]),
        [Overflow::Block, Overflow::Drop]
    );
}

#[test]
fn permissions_that_are_not_octal_or_more_than_permissions_are_refused() {
    for mode in ["", "66", "0o660", "0668", "1777", "00660", "rw-rw----"] {
        assert_eq!(
            refusal(&format!("mode = \"{mode}\"")),
            format!(
                "board.toml:7: key vm.mode: expected permissions as 3 or 4 octal digits from \"000\" to \"0777\", such \
                 as \"0660\", found \"{mode}\""
            )
        );
    }
    assert!(refusal("mode = 0o660").contains("expected a string: permissions"));
    assert_eq!(only("mode = \"777\"").mode, Some(0o777));
    assert_eq!(only("mode = \"0000\"").mode, Some(0));
}

#[test]
fn a_group_that_there_cannot_be_is_refused() {
    for (group, found) in [("", "\"\""), ("4294967295", "\"4294967295\""), ("a\\u0000", "\"a\\0\"")] {
        assert_eq!(
            refusal(&format!("group = \"{group}\"")),
            format!(
                "board.toml:7: key vm.group: expected the name of a group, or its number, as in \"107\", found {found}"
            )
        );
    }
}

#[test]
fn addresses_that_no_endpoint_can_have_or_that_are_given_twice_are_refused() {
    for (addresses, found) in [
        ("[53]", "0x35"),
        ("[0x400, 0xffffffff]", "0xffffffff"),
        ("[-1]", "-1"),
        ("[0x400, 1024]", "0x400 again"),
    ] {
        assert_eq!(
            refusal(&format!("addresses = {addresses}")),
            format!(
                "board.toml:7: key vm.addresses: expected remote addresses from 0 to 0xfffffffe but 53, each of them \
                 once, found {found}"
            )
        );
    }
    assert_eq!(
        refusal("addresses = [\"x\"]"),
        "board.toml:7: key vm.addresses: expected an array of integers: remote addresses from 0 to 0xfffffffe but 53, \
         each of them once, found \"x\""
    );
}

#[test]
fn a_flag_or_word_that_is_none_is_refused_with_those_there_are() {
    assert_eq!(
        refusal("strict = \"yes\""),
        "board.toml:7: key vm.strict: expected true or false, found \"yes\""
    );
    assert_eq!(
        refusal("overflow = \"wait\""),
        "board.toml:7: key vm.overflow: expected \"block\" or \"drop\", found \"wait\""
    );
}

#[test]
fn weights_and_limits_out_of_range_are_refused() {
    for weight in ["0", "101", "-1"] {
        assert_eq!(
            refusal(&format!("weight = {weight}")),
            format!("board.toml:7: key vm.weight: expected a number from 1 to 100, found {weight}")
        );
    }
    for limit in ["0", "4294967296"] {
        assert_eq!(
            refusal(&format!("messages-per-second = {limit}")),
            format!(
                "board.toml:7: key vm.messages-per-second: expected a number from 1 to 4294967295, found {limit}"
            )
        );
    }
    assert_eq!(
        refusal("bytes-per-second = 495"),
        "board.toml:7: key vm.bytes-per-second: expected a number of bytes, at least the 496 of the longest message, \
         found 495"
    );
}

#[test]
fn with_a_control_socket_the_vms_may_all_come_later() {
    let plan = plan(&["control = \"/run/c\"\n", LOOPBACK].concat());
    assert_eq!(plan.control, Some("/run/c".into()));
    assert!(plan.vms.is_empty());
}

#[test]
fn a_control_socket_that_something_else_uses_is_refused_at_the_second() {
    let text = format!("control = \"/run/a.sock\"\n{MINIMAL}");
    assert_eq!(
        parse(Path::new("board.toml"), &text).unwrap_err().to_string(),
        "board.toml:14: key vm.socket: expected the path of a unix socket, 1 to 107 bytes, that nothing else in the \
         file uses, found \"/run/a.sock\", which line 1 has given already"
    );
    let text = format!("control = \"/run/core.doorbell\"\n{MINIMAL}");
    assert!(parse(Path::new("board.toml"), &text).unwrap_err().to_string().contains(
        "board.toml:5: key remote.doorbell: expected the path of a unix socket, 1 to 107 bytes, that nothing else in \
         the file uses, found \"/run/core.doorbell\", which line 1 has given already"
    ));
    let text = format!("control = \"\"\n{MINIMAL}");
    assert!(
        parse(Path::new("board.toml"), &text)
            .unwrap_err()
            .to_string()
            .starts_with("board.toml:1: key control: ")
    );
}

#[test]
fn metrics_are_at_a_path_of_their_own_or_at_a_loopback_address() {
    use crate::operate::plan::MetricsPlan;
    let metrics = |value: &str| {
        let text = format!("metrics = \"{value}\"\n{MINIMAL}");
        parse(Path::new("board.toml"), &text).map(|plan| plan.metrics.unwrap())
    };
    assert_eq!(metrics("/run/m").unwrap(), MetricsPlan::Socket("/run/m".into()));
    for address in ["127.0.0.1:9478", "127.9.9.9:1", "[::1]:9478"] {
        assert_eq!(metrics(address).unwrap(), MetricsPlan::Address(address.parse().unwrap()));
    }
    for wrong in
        ["0.0.0.0:9478", "192.168.0.1:80", "[::]:9478", "localhost:9478", "127.0.0.1", "9478", "run/m", ""]
    {
        let refusal = metrics(wrong).unwrap_err().to_string();
        assert!(
            refusal.starts_with("board.toml:1: key metrics: expected the path of a unix socket, "),
            "{refusal}"
        );
        assert!(refusal.ends_with(&format!("found {wrong:?}")), "{refusal}");
    }
    let taken = metrics("/run/a.sock").unwrap_err().to_string();
    assert!(taken.contains("which line 1 has given already"), "{taken}");
}

#[test]
fn firmware_with_short_addresses_is_said_so() {
    use crate::bridge::policy::AddressBits;
    let bits = |line: &str| parse(Path::new("board.toml"), &[LOOPBACK, line, &vm("a", "")].concat());
    let known = |line: &str| bits(line).unwrap().remotes[0].policy.address_bits;
    assert_eq!(known(""), AddressBits::All);
    assert_eq!(known("address-bits = 32\n"), AddressBits::All);
    assert_eq!(known("address-bits = 16\n"), AddressBits::Low16);
    assert_eq!(
        bits("address-bits = 24\n").unwrap_err().to_string(),
        "board.toml:4: key remote.address-bits: expected 32 or 16, found 24"
    );
}
