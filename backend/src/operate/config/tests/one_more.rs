//! A VM that is added while others are served.

use super::*;
use crate::{bridge::policy::Overflow, operate::plan::VmPlan};

/// What the program was started with: a and b at core, where only a may see the console; c at dsp.
fn configured() -> Plan {
    let at = |name: &str, remote: &str| vm(name, &format!("remote = \"{remote}\""));
    let console = "[[service]]\nname = \"console\"\nremote = \"core\"\nvms = [\"a\"]\n";
    let dsp = LOOPBACK.replace("core", "dsp");
    let remote = MINIMAL.split_once("[[vm]]").unwrap().0;
    plan(
        &[
            "control = \"/run/c\"\n",
            remote,
            &dsp,
            &at("a", "core"),
            &at("b", "core"),
            &at("c", "dsp"),
            console,
        ]
        .concat(),
    )
}

fn add(keys: &str, served: impl FnOnce(&mut Vec<VmPlan>)) -> Result<VmPlan, String> {
    let configured = configured();
    let mut vms = configured.vms.clone();
    served(&mut vms);
    one_more_vm(keys.parse().unwrap(), &configured, &vms, &[]).map_err(|error| error.to_string())
}

fn beside_all(keys: &str) -> Result<VmPlan, String> {
    add(keys, |_| ())
}

fn beside_b(keys: &str) -> Result<VmPlan, String> {
    add(keys, |vms| vms.retain(|vm| vm.name == "b"))
}

fn beside_a(keys: &str) -> Result<VmPlan, String> {
    add(keys, |vms| vms.retain(|vm| vm.name == "a"))
}

#[test]
fn a_vm_more_takes_the_keys_of_the_file() {
    let vm = beside_all("name = \"d\"\nsocket = \"/run/d\"\nremote = \"core\"\nweight = 7\nmode = \"0600\"")
        .unwrap();
    assert_eq!((vm.name.as_str(), vm.remote, vm.slot.number()), ("d", 0, 2));
    assert_eq!(vm.socket, VmSocket::Path("/run/d".into()));
    assert_eq!((vm.policy.weight, vm.mode), (7, Some(0o600)));
}

#[test]
fn a_vm_more_never_blocks_the_remote_unless_asked_to() {
    let overflow = |more: &str| {
        let vm = beside_all(&format!("name = \"d\"\nsocket = \"/d\"\nremote = \"dsp\"\n{more}"));
        vm.unwrap().policy.overflow
    };
    assert_eq!(overflow(""), Overflow::Drop);
    assert_eq!(overflow("overflow = \"block\""), Overflow::Block);
}

#[test]
fn a_name_slot_or_socket_that_a_served_vm_has_is_refused() {
    assert_eq!(
        beside_all("name = \"a\"\nsocket = \"/d\"\nremote = \"core\"").unwrap_err(),
        "key vm.name: expected a name of letters, digits, '_', '-' and '.' that no other VM has, found \"a\", which VM \
         a has already"
    );
    assert_eq!(
        beside_all("name = \"d\"\nsocket = \"/run/c.sock\"\nremote = \"core\"").unwrap_err(),
        "key vm.socket: expected the path of a unix socket, 1 to 107 bytes, that nothing else in the file uses, found \
         \"/run/c.sock\", which VM c has already"
    );
    assert_eq!(
        beside_all("name = \"d\"\nsocket = \"/d\"\nremote = \"core\"\nslot = 1").unwrap_err(),
        "key vm.slot: expected a number from 0 to 126 that no other VM of the same remote has, found 1, which VM b has \
         already"
    );
}

#[test]
fn a_socket_that_the_program_itself_uses_is_refused() {
    for path in ["/run/c", "/run/core.doorbell"] {
        let refusal =
            beside_all(&format!("name = \"d\"\nsocket = \"{path}\"\nremote = \"core\"")).unwrap_err();
        assert!(refusal.ends_with(&format!("found \"{path}\", which the program itself uses")), "{refusal}");
    }
}

#[test]
fn unknown_keys_and_wrong_values_are_refused_as_in_a_file() {
    let refusal = beside_all("name = \"d\"\nsocket = \"/d\"\nservice = \"x\"").unwrap_err();
    assert!(refusal.starts_with("key vm.service: expected one of name, socket, mode, "), "{refusal}");
    assert_eq!(
        beside_all("name = \"d\"\nsocket = \"/d\"\nremote = \"core\"\nslot = \"x\"").unwrap_err(),
        "key vm.slot: expected an integer: a number from 0 to 126 that no other VM of the same remote has, found \"x\""
    );
    assert_eq!(
        beside_all("name = \"d\"\nsocket = \"/d\"").unwrap_err(),
        "key vm.remote: expected the name of a remote, of which there are: core, dsp, found nothing"
    );
}

#[test]
fn a_configured_vm_comes_back_to_the_slot_by_which_rules_know_it() {
    let back = "name = \"a\"\nsocket = \"/run/a.sock\"\nremote = \"core\"\n";
    assert_eq!(beside_b(back).unwrap().slot, Slot::ZERO);
    assert_eq!(beside_b(&format!("{back}slot = 0")).unwrap().slot, Slot::ZERO);
    assert_eq!(
        beside_b(&format!("{back}slot = 5")).unwrap_err(),
        "key vm.slot: expected 0, which rules for services mean by this VM, found 5"
    );
}

#[test]
fn nobody_else_comes_into_the_rights_of_a_configured_vm() {
    let other = "name = \"d\"\nsocket = \"/d\"\nremote = \"core\"\n";
    assert_eq!(beside_b(other).unwrap().slot.number(), 2);
    assert_eq!(
        beside_b(&format!("{other}slot = 0")).unwrap_err(),
        "key vm.slot: expected a number from 0 to 126 that no other VM of the same remote has, found 0, which the \
         configuration keeps for VM a"
    );
}

#[test]
fn a_slot_that_no_rule_names_is_free_once_its_vm_is_gone() {
    assert_eq!(beside_a("name = \"d\"\nsocket = \"/d\"\nremote = \"core\"").unwrap().slot.number(), 1);
    assert_eq!(
        beside_a("name = \"d\"\nsocket = \"/d\"\nremote = \"core\"\nslot = 1").unwrap().slot.number(),
        1
    );
}
