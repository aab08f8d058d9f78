//! What the file may say, and what comes of it.

use std::fs;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::{
    operate::plan::{LinkPlan, MailboxPlan, MemoryPlan, MemorySource, SharedPlan, VmSocket},
    remote::config::VringsConfig,
    rpmsg::address::Slot,
};

mod hardware;
mod life;
mod one_more;
mod reference;
mod refusals;
mod services;
mod trees;
mod vms;

/// The least that a remote behind a socket and a VM in front of it take. The remote opens in line 1, its memory in
/// line 6, the VM in line 11.
const MINIMAL: &str = r#"[[remote]]
name = "core"
link = "socket"
doorbell = "/run/core.doorbell"
resource-table = 0x21000000
[[remote.memory]]
path = "/dev/shm/core"
size = 0x100000
device-address = 0x21000000

[[vm]]
name = "a"
socket = "/run/a.sock"
"#;

const LOOPBACK: &str = "[[remote]]\nname = \"core\"\nlink = \"loopback\"\n";

fn parse(file: &Path, text: &str) -> Result<Plan, ConfigError> {
    super::parse(file, text, &Sources::of_host())
}

fn plan(text: &str) -> Plan {
    parse(Path::new("board.toml"), text).unwrap_or_else(|error| panic!("{error}"))
}

fn vm(name: &str, rest: &str) -> String {
    format!("[[vm]]\nname = \"{name}\"\nsocket = \"/run/{name}.sock\"\n{rest}\n")
}

fn slots(text: &str) -> Vec<u8> {
    plan(text).vms.iter().map(|vm| vm.slot.number()).collect()
}

#[test]
fn a_minimal_file_resolves_with_the_defaults() {
    let plan = plan(MINIMAL);
    let link = LinkPlan::Shared(SharedPlan {
        mailbox: MailboxPlan::Socket("/run/core.doorbell".into()),
        vrings: VringsConfig::Table(0x2100_0000),
        attach_after: None,
        memory: vec![MemoryPlan {
            source: MemorySource::File { path: "/dev/shm/core".into(), offset: 0 },
            size: 0x10_0000,
            device_address: 0x2100_0000,
            physical_address: 0x2100_0000,
            name: None,
            is_optional: false,
        }],
        found: None,
    });
    assert_eq!(plan.remotes.len(), 1);
    assert_eq!((plan.remotes[0].name.as_str(), &plan.remotes[0].link), ("core", &link));
    assert_eq!(plan.vms.len(), 1);
    let vm = &plan.vms[0];
    assert_eq!((vm.name.as_str(), vm.slot, vm.remote), ("a", Slot::ZERO, 0));
    assert_eq!(vm.socket, VmSocket::Path("/run/a.sock".into()));
}

#[test]
fn the_example_of_the_reference_resolves_as_check_prints_it() {
    assert_eq!(
        plan(reference::EXAMPLE).to_string(),
        "\
control           /run/rpmsg.control
user              rpmsg
state             /run/rpmsg
metrics           127.0.0.1:9478
remote core
  link            socket /run/core.doorbell
  resource table  0x21000000
  attach          when ready or running, or after 2s of silence
  memory          0x21000000..=0x210fffff in /dev/shm/core at offset 0x0, 0x100000 bytes
  after a crash   attach when it is back
  addresses       of 32 bits
  static service  \"sensor\" at 0x500
  service         \"rpmsg-openamp-*\": serialized, one reply within 500ms, or else quarantine for 5s, unsolicited \
         messages dropped; seen by all VMs
  service         \"rpmsg-tty\": exclusive to a; seen by all VMs
  service         \"sensor\": broadcast, nobody may send; seen by a, b
  service         any other: shared; seen by all VMs
vm a
  socket          /run/a.sock, mode 0660, group kvm
  remote          core
  slot            0, host addresses 0x00000000..=0x00ffffff
  sends to        services that it sees, and where nothing is announced
  overflow        drop
  share           weight 4
vm b
  socket          /run/b.sock
  remote          core
  slot            5, host addresses 0x05000000..=0x05ffffff
  sends to        services that it sees, 0x400; strict
  overflow        drop
  share           weight 1, at most 1000 messages/s, at most 100000 bytes/s
"
    );
}

#[test]
fn a_loopback_remote_is_printed_as_such() {
    let plan = plan(&[LOOPBACK, &vm("a", "")].concat());
    assert!(
        plan.to_string()
            .starts_with("remote core\n  link            loopback, the built-in core\n  addresses "),
        "{plan}"
    );
}

#[test]
fn times_are_taken_in_their_unit() {
    let time = |text: &str| {
        let with = format!("link = \"socket\"\nattach-after = \"{text}\"");
        match &plan(&MINIMAL.replace("link = \"socket\"", &with)).remotes[0].link {
            LinkPlan::Shared(link) => link.attach_after,
            LinkPlan::Loopback => None,
        }
    };
    assert_eq!(time("1ms"), Some(Duration::from_millis(1)));
    assert_eq!(time("2s"), Some(Duration::from_secs(2)));
    assert_eq!(time("60min"), Some(Duration::from_secs(3600)));
}

#[test]
fn slots_that_are_given_are_kept_and_the_others_filled_around_them() {
    let text =
        [LOOPBACK, &vm("a", ""), &vm("b", "slot = 0"), &vm("c", ""), &vm("d", "slot = 2"), &vm("e", "")]
            .concat();
    assert_eq!(slots(&text), [1, 0, 3, 2, 4]);
}

#[test]
fn every_remote_has_slots_of_its_own() {
    let text = [
        LOOPBACK,
        "[[remote]]\nname = \"dsp\"\nlink = \"loopback\"\n",
        &vm("a", "remote = \"core\"\nslot = 0"),
        &vm("b", "remote = \"dsp\"\nslot = 0"),
        &vm("c", "remote = \"dsp\""),
    ]
    .concat();
    assert_eq!(slots(&text), [0, 0, 1]);
    let remotes: Vec<_> = plan(&text).vms.iter().map(|vm| vm.remote).collect();
    assert_eq!(remotes, [0, 1, 1]);
}

#[test]
fn a_region_may_end_with_the_device_addresses_and_another_begin_where_one_ends() {
    let text = MINIMAL.replace("0x21000000", "0xFFF00000").replace(
        "[[vm]]",
        "[[remote.memory]]\npath = \"x\"\nsize = 0x1000\ndevice-address = 0xFFEFF000\n[[vm]]",
    );
    assert_eq!(plan(&text).remotes.len(), 1);
}

proptest! {
    #[test]
    fn whatever_is_typed_into_a_file_is_resolved_or_refused_with_a_line(
        at in 0..reference::EXAMPLE.len(),
        deleted in 0usize..8,
        typed in "[a-z0-9\\[\\]{}\"'=.\\-\n ]{0,8}",
    ) {
        let mut text = reference::EXAMPLE.to_owned();
        text.replace_range(at..(at + deleted).min(text.len()), &typed);
        match parse(Path::new("board.toml"), &text) {
            Ok(plan) => prop_assert!(!plan.to_string().is_empty()),
            Err(error) => {
                let error = error.to_string();
                let line = error.strip_prefix("board.toml:").and_then(|rest| rest.split(':').next());
                let line: usize = line.and_then(|line| line.parse().ok()).unwrap_or(0);
                prop_assert!((1..=text.lines().count().max(1) + 1).contains(&line), "{}", error);
            }
        }
    }
}
