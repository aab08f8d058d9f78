//! Configurations and remote cores that are not what they should be: the error names the thing, what was expected and what
//! was found; nothing panics, and where the trouble can end, work goes on when it has.

use std::fs;

use crate::harness::doorbell::HollowCore;
use crate::harness::program::Program;
use crate::harness::rig::{Plan, Rig};
use crate::harness::softcore::MEMORY_SIZE;

/// Runs the program with the rig's configuration after `from` was replaced by `to`; it has to fail and say all of `words`.
fn refused(from: &str, to: &str, words: &[&str]) {
    let rig = Rig::prepare(Plan::with_sessions(2));
    let config = rig.config();
    assert!(config.contains(from), "{from:?} is not in {config}");
    fs::write(rig.config_path(), config.replacen(from, to, 1)).unwrap();

    let said = Program::failing(["--config".as_ref(), rig.config_path().as_os_str()]);

    for word in words.iter().chain([&"config.toml"]) {
        assert!(said.contains(word), "{word:?} expected in: {said}");
    }
}

#[test]
fn an_unknown_key_is_refused() {
    refused("slot = 1", "slott = 1", &["slott", "slot"]);
}

#[test]
fn an_unknown_remote_is_refused() {
    refused("remote = \"core\"", "remote = \"cure\"", &["config.toml:15", "vm.remote", "\"cure\"", "core"]);
}

#[test]
fn a_slot_that_is_taken_is_refused() {
    refused("slot = 2", "slot = 1", &["config.toml:19", "vm.slot", "found 1", "line 14"]);
}

#[test]
fn a_slot_that_cannot_be_is_refused() {
    refused("slot = 2", "slot = 127", &["config.toml:19", "vm.slot", "found 127", "0 to 126"]);
}

#[test]
fn a_name_that_is_taken_is_refused() {
    refused("name = \"vm1\"", "name = \"vm0\"", &["vm0"]);
}

#[test]
fn an_unknown_kind_of_link_is_refused() {
    refused("link = \"socket\"", "link = \"sockets\"", &["sockets", "socket", "loopback"]);
}

#[test]
fn a_link_without_its_doorbell_is_refused() {
    refused("doorbell =", "# doorbell =", &["doorbell"]);
}

#[test]
fn text_that_is_no_toml_is_refused_with_its_place() {
    refused("slot = 1", "slot = = 1", &["config.toml:14", "not TOML"]);
}

#[test]
fn a_configuration_that_does_not_exist_is_refused_by_name() {
    let said = Program::failing(["--config", "/nonexistent/config.toml"]);
    assert!(said.contains("/nonexistent/config.toml"), "{said}");
}

/// A remote core that answers its doorbell, with `memory` as its memory. The program has to say all of `words` in one
/// line, to go on, and to find a proper core afterwards.
fn a_core_is_complained_about(memory: Option<&[u8]>, words: &[&str]) {
    let mut rig = Rig::prepare(Plan::with_sessions(1));
    let place = rig.place();
    if let Some(memory) = memory {
        fs::write(&place.memory, memory).unwrap();
    }
    let hollow = HollowCore::start(&place.doorbell);
    rig.start_program();

    let line = rig.program().wait_log(words[0]);

    for word in words {
        assert!(line.contains(word), "{word:?} expected in: {line}");
    }
    drop(hollow);
    let _never_made = fs::remove_file(&place.memory);
    rig.start_core();
    Rig::settle(&mut rig.guest(0));
}

/// Memory with these little-endian words at its start.
fn memory_with(words: &[u32]) -> Vec<u8> {
    let mut bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    bytes.resize(usize::try_from(MEMORY_SIZE).unwrap(), 0);
    bytes
}

/// A resource table with one vdev of virtio id `id` and vrings at the given device addresses.
fn table_with_vdev(id: u32, vrings: &[[u32; 2]]) -> Vec<u8> {
    let count = u32::try_from(vrings.len()).unwrap();
    let mut words = vec![1, 1, 0, 0, 20, 3, id, 0, 1, 0, 0, count << 8];
    for [address, entries] in vrings {
        words.extend([*address, 4096, *entries, 0, 0]);
    }
    memory_with(&words)
}

#[test]
fn a_missing_resource_table_is_named() {
    let memory = memory_with(&[]);
    a_core_is_complained_about(
        Some(&memory),
        &["resource table", "0x21000000", "version", "is 0x0", "expected 1"],
    );
}

#[test]
fn a_resource_table_of_another_version_is_named() {
    let memory = memory_with(&[2, 0, 0, 0]);
    a_core_is_complained_about(
        Some(&memory),
        &["resource table", "0x21000000", "version", "is 0x2", "expected 1"],
    );
}

#[test]
fn a_resource_table_whose_entries_are_outside_is_named() {
    let memory = memory_with(&[1, 1, 0, 0, 0x7FFF_0000]);
    a_core_is_complained_about(Some(&memory), &["resource table", "0x21000000", "0x7fff0000"]);
}

#[test]
fn a_resource_table_without_rpmsg_is_named() {
    let memory = table_with_vdev(3, &[[0xFFFF_FFFF, 256], [0xFFFF_FFFF, 256]]);
    a_core_is_complained_about(Some(&memory), &["resource table", "id 7", "3"]);
}

#[test]
fn a_vring_outside_the_memory_is_named() {
    let memory = table_with_vdev(7, &[[0x3000_0000, 256], [0xFFFF_FFFF, 256]]);
    a_core_is_complained_about(Some(&memory), &["vdev0vring0", "0x30000000", "0x21000000"]);
}

#[test]
fn a_vring_of_an_impossible_size_is_named() {
    let memory = table_with_vdev(7, &[[0xFFFF_FFFF, 100], [0xFFFF_FFFF, 256]]);
    a_core_is_complained_about(Some(&memory), &["vring 0", "100", "power of two"]);
}

#[test]
fn a_device_with_one_vring_is_named() {
    let memory = table_with_vdev(7, &[[0xFFFF_FFFF, 256]]);
    a_core_is_complained_about(Some(&memory), &["1 vring", "expected 2"]);
}

#[test]
fn a_memory_file_that_is_too_small_is_named() {
    a_core_is_complained_about(Some(&[0; 4096]), &["/memory", "0x1000", "0x100000"]);
}

#[test]
fn a_memory_file_that_is_missing_is_named() {
    a_core_is_complained_about(None, &["/memory", "No such file"]);
}

#[test]
fn a_device_that_has_a_driver_already_is_refused_with_what_to_do() {
    let mut rig = Rig::start(Plan::with_sessions(1));
    Rig::settle(&mut rig.guest(0));
    rig.program().kill();

    rig.start_program();

    rig.program().wait_log("already has a driver");
    rig.core().command("reboot");
    Rig::settle(&mut rig.guest(0));
}
