//! Attaching by a resource table, and detaching.

use super::*;

#[test]
fn attaching_writes_addresses_notifyids_and_features_and_detaching_puts_the_clean_table_back() {
    for fixed_vrings in [false, true] {
        let still = Still::new(Config { fixed_vrings, ..Config::default() });
        let clean = still.table();
        let device = still.attach().unwrap();
        let (table, vdev) = (still.table(), still.vdev());
        let word = |at: usize| u32::from_le_bytes(table[at..at + 4].try_into().unwrap());
        assert_eq!((table[vdev + 24], word(vdev + 16)), (7, 1), "status and accepted features");
        for (vring, notifyid) in [(vdev + 28, 0), (vdev + 48, 1)] {
            let end = still.device_address() + still.core.memory().size();
            assert!((still.device_address()..end).contains(&word(vring).into()), "address of the vring");
            assert_eq!(word(vring + 12), notifyid);
        }
        device.detach();
        assert_eq!(still.table(), clean);
    }
}

#[test]
fn features_that_are_not_understood_are_never_accepted() {
    let still = Still::new(Config::default());
    still.poke(still.vdev() + 12, &0xFFFF_FFFF_u32.to_le_bytes());
    still.attach().unwrap();
    assert_eq!(still.table()[still.vdev() + 16..][..4], [1, 0, 0, 0]);
}

#[test]
fn a_table_that_is_missing_or_wrong_is_refused_with_the_reason() {
    let still = Still::new(Config::default());
    still.poke(0, &[0; 4]);
    let text = still.refusal();
    assert!(text.contains("no valid resource table at device address") && text.contains("version"), "{text}");

    let elsewhere = attach_once(&still.carveouts(), &Layout::Table { address: 0x100 }).unwrap_err();
    assert!(Causes(&elsewhere).to_string().contains("the regions are"), "{}", Causes(&elsewhere));
}

#[test]
fn a_table_without_a_usable_rpmsg_device_is_refused_with_what_it_has() {
    let still = Still::new(Config::default());
    still.poke(still.vdev() + 4, &[3]);
    assert!(
        still.refusal().contains("no virtio device with id 7 (rpmsg); it has id 3"),
        "{}",
        still.refusal()
    );
    still.poke(still.vdev_of(3) + 4, &[7]);
    still.poke(still.vdev() + 25, &[1]);
    assert!(still.refusal().contains("has 1 vrings, expected 2"), "{}", still.refusal());
}

#[test]
fn a_device_with_a_driver_is_left_alone_with_what_to_do_about_it() {
    let still = Still::new(Config::default());
    still.poke(still.vdev() + 24, &[7]);
    let before = still.table();
    assert!(still.refusal().contains("restart the remote core"), "{}", still.refusal());
    assert_eq!(still.table(), before);
}

#[test]
fn vrings_that_would_destroy_the_table_or_each_other_are_refused_before_anything_is_written() {
    let still = Still::new(Config { fixed_vrings: true, ..Config::default() });
    let word = |at: usize| u32::from_le_bytes(still.table()[at..at + 4].try_into().unwrap());
    let [first, second] = [still.vdev() + 28, still.vdev() + 48];
    let second_was = word(second);
    still.poke(second, &word(first).to_le_bytes());
    let before = still.table();
    assert!(still.refusal().contains("where vdev0vring0 is already"), "{}", still.refusal());
    assert_eq!(still.table(), before);

    still.poke(second, &second_was.to_le_bytes());
    let table = u32::try_from(still.table_address()).unwrap();
    still.poke(first, &table.to_le_bytes());
    assert!(still.refusal().contains("where the resource table is already"), "{}", still.refusal());
}

#[test]
fn vrings_outside_memory_and_memory_that_is_too_small_are_refused_before_anything_is_written() {
    let still = Still::new(Config { fixed_vrings: true, ..Config::default() });
    still.poke(still.vdev() + 28, &0x4000_0000_u32.to_le_bytes());
    let before = still.table();
    let text = still.refusal();
    assert!(
        text.contains("vdev0vring0 is not in the remote core's memory") && text.contains("0x40000000"),
        "{text}"
    );
    assert_eq!(still.table(), before);

    let still = Still::new(Config::default());
    let small = attach_once(&still.carveouts_of(0x8000), &still.layout()).unwrap_err();
    assert!(matches!(small, AttachError::NoRoom { .. }), "{}", Causes(&small));
}
