//! The services: what they resolve to, and what is said about those that cannot be.

use super::*;
use crate::{
    bridge::policy::{Mode, Pattern, Policy, Reply, Rule, Slots, Turns, Unsolicited},
    rpmsg::ServiceName,
};

/// One remote with the VMs a (slot 0), b (slot 1) and c (slot 2), to line 15.
fn one_remote(services: &str) -> String {
    [LOOPBACK, &vm("a", ""), &vm("b", ""), &vm("c", ""), services].concat()
}

/// Remotes core and dsp with the VMs a and b at core, c at dsp, to line 18.
fn two_remotes(services: &str) -> String {
    let at = |name: &str, remote: &str| vm(name, &format!("remote = \"{remote}\""));
    let dsp = LOOPBACK.replace("core", "dsp");
    [LOOPBACK, &dsp, &at("a", "core"), &at("b", "core"), &at("c", "dsp"), services].concat()
}

fn service(name: &str, rest: &str) -> String {
    format!("[[service]]\nname = \"{name}\"\n{rest}\n")
}

fn policy(services: &str) -> Policy {
    plan(&one_remote(services)).remotes.remove(0).policy
}

fn mode(rest: &str) -> Mode {
    policy(&service("x", rest)).rules[0].mode
}

fn refused(text: &str) -> String {
    parse(Path::new("board.toml"), text).unwrap_err().to_string()
}

/// What is said about a service with these lines, which start at line 18.
fn refusal(rest: &str) -> String {
    refused(&one_remote(&service("x", rest)))
}

fn slots(numbers: &[u8]) -> Slots {
    numbers.iter().filter_map(|number| Slot::new(*number)).collect()
}

fn rule(pattern: &str, visible_to: Slots, mode: Mode) -> Rule {
    Rule { pattern: Pattern::new(pattern), visible_to, mode }
}

#[test]
fn a_service_of_which_only_the_name_is_given_is_shared_by_all() {
    assert_eq!(policy(""), Policy::default());
    assert_eq!(policy(&service("rpmsg-*", "")).rules, [rule("rpmsg-*", Slots::ALL, Mode::Shared)]);
}

#[test]
fn vms_that_may_see_a_service_become_their_slots() {
    let visible = |vms: &str| policy(&service("x", &format!("vms = {vms}"))).rules[0].visible_to;
    assert_eq!(visible("[\"c\", \"a\"]"), slots(&[0, 2]));
    assert_eq!(visible("[]"), Slots::NONE);
}

#[test]
fn every_mode_has_its_defaults() {
    assert_eq!(mode("mode = \"shared\""), Mode::Shared);
    assert_eq!(mode("mode = \"exclusive\""), Mode::Exclusive { owner: None });
    assert_eq!(mode("mode = \"broadcast\""), Mode::Broadcast { owner: None });
    let turns = Turns {
        reply: Reply::One,
        time_out: Duration::from_secs(1),
        quarantine: Duration::from_secs(5),
        unsolicited: Unsolicited::Drop,
    };
    assert_eq!(mode("mode = \"serialized\""), Mode::Serialized(turns));
}

#[test]
fn owners_become_their_slots() {
    let owner = Slot::new(1);
    assert_eq!(mode("mode = \"exclusive\"\nowner = \"b\""), Mode::Exclusive { owner });
    assert_eq!(mode("mode = \"broadcast\"\nowner = \"b\"\nvms = [\"a\", \"b\"]"), Mode::Broadcast { owner });
}

#[test]
fn turns_are_taken_as_they_are_said() {
    let turns = |rest: &str| match mode(&format!("mode = \"serialized\"\n{rest}")) {
        Mode::Serialized(turns) => turns,
        other => panic!("{other:?}"),
    };
    let all = turns("time-out = \"1ms\"\nquarantine = \"60min\"\nreply = \"one\"\nunsolicited = \"all\"");
    let expected = Turns {
        reply: Reply::One,
        time_out: Duration::from_millis(1),
        quarantine: Duration::from_secs(3600),
        unsolicited: Unsolicited::All,
    };
    assert_eq!(all, expected);
    assert_eq!(turns("reply = \"none\"").reply, Reply::None);
    assert_eq!(turns("reply = \"several\"\ntime-out = \"2s\"").time_out, Duration::from_secs(2));
    assert_eq!(turns("unsolicited = \"drop\"").unsolicited, Unsolicited::Drop);
    assert_eq!(turns("unsolicited = \"b\"").unsolicited, Unsolicited::Vm(Slot::new(1).unwrap()));
}

#[test]
fn rules_keep_the_order_of_the_file() {
    let services = [service("a*", ""), service("a", "mode = \"exclusive\""), service("*", "")];
    let [specific, wide, rest] = [&services[1], &services[0], &services[2]];
    let rules = policy(&[specific.as_str(), wide, rest].concat()).rules;
    let patterns: Vec<_> = rules.iter().map(|rule| rule.pattern.to_string()).collect();
    assert_eq!(patterns, ["a", "a*", "*"]);
}

#[test]
fn a_static_service_is_a_service_and_a_rule() {
    let policy = policy(&service("uart", "address = 0x500\nmode = \"exclusive\""));
    assert_eq!(policy.static_services, [(ServiceName::new("uart").unwrap(), 0x500)]);
    assert_eq!(policy.rules, [rule("uart", Slots::ALL, Mode::Exclusive { owner: None })]);
}

#[test]
fn a_static_service_without_rules_of_its_own_follows_the_first_that_match() {
    let services = [
        service("rpmsg-raw", "address = 0x400\nmode = \"exclusive\""),
        service("rpmsg-raw", "address = 0x401"),
    ];
    let policy = policy(&services.concat());
    let name = ServiceName::new("rpmsg-raw").unwrap();
    assert_eq!(policy.static_services, [(name, 0x400), (name, 0x401)]);
    assert_eq!(policy.rules.len(), 1);
}

#[test]
fn a_service_without_a_remote_is_meant_at_every_remote() {
    let remotes = plan(&two_remotes(&service("x", "vms = [\"b\", \"c\"]\naddress = 7"))).remotes;
    assert_eq!(remotes[0].policy.rules, [rule("x", slots(&[1]), Mode::Shared)]);
    assert_eq!(remotes[1].policy.rules, [rule("x", slots(&[0]), Mode::Shared)]);
    assert_eq!(remotes[0].policy.static_services, remotes[1].policy.static_services);
}

#[test]
fn a_service_with_a_remote_is_meant_only_there() {
    let services = [
        service("x", "remote = \"dsp\"\nmode = \"exclusive\"\nowner = \"c\"\naddress = 7"),
        service("x", "address = 7\nremote = \"core\""),
        service("*", ""),
    ];
    let remotes = plan(&two_remotes(&services.concat())).remotes;
    let exclusive = Mode::Exclusive { owner: Some(Slot::ZERO) };
    let any = rule("*", Slots::ALL, Mode::Shared);
    assert_eq!(remotes[0].policy.rules, [rule("x", Slots::ALL, Mode::Shared), any.clone()]);
    assert_eq!(remotes[1].policy.rules, [rule("x", Slots::ALL, exclusive), any]);
}

#[test]
fn a_pattern_that_is_shadowed_at_some_remotes_holds_at_the_others() {
    let services = [service("x*", "remote = \"dsp\""), service("xy", "mode = \"exclusive\"")];
    let remotes = plan(&two_remotes(&services.concat())).remotes;
    assert_eq!(remotes[0].policy.rules, [rule("xy", Slots::ALL, Mode::Exclusive { owner: None })]);
    assert_eq!(remotes[1].policy.rules, [rule("x*", Slots::ALL, Mode::Shared)]);
}

#[test]
fn a_pattern_that_no_name_can_match_is_refused() {
    let expected = "board.toml:17: key service.name: expected 1 to 31 printable ASCII characters, where * stands for any \
                    characters and ? for one, found ";
    let long = "x".repeat(32);
    for (name, found) in [
        ("", "\"\"".to_owned()),
        ("\\u00e4", "\"ä\"".to_owned()),
        ("a\\tb", "\"a\\tb\"".to_owned()),
        ("a\\u0000", "\"a\\0\"".to_owned()),
        (&long, format!("\"{long}\", which has 32")),
    ] {
        assert_eq!(refused(&one_remote(&service(name, ""))), [expected, &found].concat());
    }
    assert_eq!(policy(&service(&long[1..], "")).rules.len(), 1);
}

#[test]
fn a_pattern_of_which_every_name_is_matched_before_is_refused_with_the_line() {
    for (earlier, name) in [("x", "x"), ("*", "rpmsg-*"), ("x*", "x?")] {
        let services = [service(earlier, ""), service(name, "mode = \"exclusive\"")].concat();
        assert_eq!(
            refused(&one_remote(&services)),
            format!(
                "board.toml:20: key service.name: expected a pattern that leaves it names of its own, found {name:?}, \
                 of which line 17 has matched every name before; the first match holds: put it before line 17, or \
                 remove one of them"
            )
        );
    }
    let services = [service("x", ""), service("x", "address = 7\nvms = []")].concat();
    assert!(
        refused(&one_remote(&services)).starts_with("board.toml:20: key service.name: expected a pattern")
    );
}

#[test]
fn a_static_service_with_a_pattern_for_a_name_is_refused() {
    assert_eq!(
        refused(&one_remote(&service("x?", "address = 7"))),
        "board.toml:17: key service.name: expected a name without * and ? beside an `address`, found \"x?\""
    );
}

#[test]
fn a_static_address_that_no_service_can_have_or_another_has_is_refused() {
    let expected = "a remote address from 0 to 0xfffffffe but 53, that no other table gives to a service of the same \
                    remote";
    for (address, found) in [("53", "0x35"), ("0xffffffff", "0xffffffff"), ("-1", "-1")] {
        assert_eq!(
            refusal(&format!("address = {address}")),
            format!("board.toml:18: key service.address: expected {expected}, found {found}")
        );
    }
    let services = [service("x", "address = 0x500"), service("y", "address = 0x500")].concat();
    assert_eq!(
        refused(&one_remote(&services)),
        format!(
            "board.toml:21: key service.address: expected {expected}, found 0x500, which line 18 has given already"
        )
    );
}

#[test]
fn a_mode_or_reply_that_does_not_exist_is_refused() {
    assert_eq!(
        refusal("mode = \"mine\""),
        "board.toml:18: key service.mode: expected \"shared\", \"exclusive\", \"serialized\" or \"broadcast\", found \
         \"mine\""
    );
    assert_eq!(
        refusal("mode = \"serialized\"\nreply = \"two\""),
        "board.toml:19: key service.reply: expected \"one\", \"none\" or \"several\", found \"two\""
    );
}

#[test]
fn keys_that_do_not_go_with_the_mode_are_refused_with_the_mode_they_go_with() {
    for mode in ["shared", "exclusive", "broadcast"] {
        for (key, value) in
            [("time-out", "1s"), ("quarantine", "1s"), ("reply", "one"), ("unsolicited", "all")]
        {
            assert_eq!(
                refusal(&format!("mode = \"{mode}\"\n{key} = \"{value}\"")),
                format!(
                    "board.toml:19: key service.{key}: expected no such key with mode = {mode:?}, found one; remove it, \
                     or say mode = \"serialized\""
                )
            );
        }
    }
    for mode in ["mode = \"shared\"", "mode = \"serialized\""] {
        assert_eq!(
            refusal(&format!("{mode}\nowner = \"a\"")),
            format!(
                "board.toml:19: key service.owner: expected no such key with {mode}, found one; remove it, or say mode \
                 = \"exclusive\" or \"broadcast\""
            )
        );
    }
    assert!(
        refusal("owner = \"a\"")
            .starts_with("board.toml:18: key service.owner: expected no such key with mode = ")
    );
}

#[test]
fn times_that_do_not_go_with_the_reply_are_refused() {
    for (reply, key) in [("none", "time-out"), ("none", "quarantine"), ("several", "quarantine")] {
        assert_eq!(
            refusal(&format!("mode = \"serialized\"\nreply = \"{reply}\"\n{key} = \"1s\"")),
            format!(
                "board.toml:20: key service.{key}: expected no such key with reply = {reply:?}, found one; remove it, \
                 or say reply = \"one\""
            )
        );
    }
}

#[test]
fn times_of_a_service_out_of_range_are_refused() {
    for key in ["time-out", "quarantine"] {
        for time in ["0s", "61min", "5"] {
            assert_eq!(
                refusal(&format!("mode = \"serialized\"\n{key} = \"{time}\"")),
                format!(
                    "board.toml:19: key service.{key}: expected a time from 1ms to 1h: a whole number with ms, s or \
                     min behind it, such as \"2s\", found \"{time}\""
                )
            );
        }
    }
}

#[test]
fn vms_that_are_not_there_are_refused_with_those_there_are() {
    let there_are = "the name of a VM, of which there are: a, b, c, found \"d\"";
    assert_eq!(
        refusal("vms = [\"a\", \"d\"]"),
        format!("board.toml:18: key service.vms: expected {there_are}")
    );
    assert_eq!(
        refusal("mode = \"exclusive\"\nowner = \"d\""),
        format!("board.toml:19: key service.owner: expected {there_are}")
    );
    assert_eq!(
        refusal("mode = \"serialized\"\nunsolicited = \"d\""),
        format!("board.toml:19: key service.unsolicited: expected \"drop\", \"all\" or {there_are}")
    );
    assert_eq!(
        refused(&["control = \"/c\"\n", LOOPBACK, &service("x", "vms = [\"a\"]")].concat()),
        "board.toml:7: key service.vms: expected the name of a VM, of which there are: none, found \"a\""
    );
}

#[test]
fn a_vm_that_is_named_twice_is_refused() {
    assert_eq!(
        refusal("vms = [\"a\", \"b\", \"a\"]"),
        "board.toml:18: key service.vms: expected names of VMs of the file, each of them once, found \"a\" again"
    );
}

#[test]
fn an_owner_who_does_not_see_the_service_is_refused() {
    assert_eq!(
        refusal("mode = \"broadcast\"\nowner = \"c\"\nvms = [\"a\", \"b\"]"),
        "board.toml:19: key service.owner: expected a VM that `vms` lets see the service, of which there are: a, b, \
         found \"c\""
    );
    assert_eq!(
        refusal("mode = \"serialized\"\nunsolicited = \"c\"\nvms = []"),
        "board.toml:19: key service.unsolicited: expected \"drop\", \"all\" or a VM that `vms` lets see the service, of \
         which there are: none, found \"c\""
    );
}

#[test]
fn vms_of_another_remote_are_refused() {
    let refusal = |rest: &str| refused(&two_remotes(&service("x", rest)));
    assert_eq!(
        refusal("remote = \"dsp\"\nvms = [\"c\", \"a\"]"),
        "board.toml:22: key service.vms: expected a VM of dsp, found \"a\", which is a VM of core"
    );
    assert_eq!(
        refusal("remote = \"dsp\"\nmode = \"exclusive\"\nowner = \"a\""),
        "board.toml:23: key service.owner: expected a VM of dsp, found \"a\", which is a VM of core"
    );
    assert_eq!(
        refusal("mode = \"exclusive\"\nowner = \"a\""),
        "board.toml:22: key service.owner: expected a VM of every remote that the table is for: core, dsp, found \"a\", \
         which is a VM of core; say remote = \"core\""
    );
}

#[test]
fn a_service_of_a_remote_that_is_not_there_is_refused() {
    assert_eq!(
        refusal("remote = \"dsp\""),
        "board.toml:18: key service.remote: expected the name of a remote, of which there are: core, found \"dsp\""
    );
}

#[test]
fn every_kind_of_rule_is_printed_for_check() {
    let services = [
        service("t", "mode = \"serialized\"\nreply = \"none\"\nunsolicited = \"b\"\nvms = [\"b\"]"),
        service("u", "mode = \"serialized\"\nreply = \"several\"\nunsolicited = \"all\""),
        service("v", "mode = \"exclusive\"\nvms = []"),
        service("w", "mode = \"broadcast\"\nowner = \"c\""),
    ];
    let plan = plan(&one_remote(&services.concat())).to_string();
    let rules: Vec<_> = plan.lines().filter_map(|line| line.strip_prefix("  service         ")).collect();
    assert_eq!(
        rules,
        [
            "\"t\": serialized, no reply, unsolicited messages to b; seen by b",
            "\"u\": serialized, replies until 1s of silence, unsolicited messages to all; seen by all VMs",
            "\"v\": exclusive to the first user; seen by nobody",
            "\"w\": broadcast, c may send; seen by all VMs",
            "any other: shared; seen by all VMs",
        ]
    );
}
