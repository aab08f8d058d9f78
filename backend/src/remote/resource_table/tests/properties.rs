//! What holds for every table.

use proptest::{collection::vec, prelude::*};

use super::*;

fn any_name() -> impl Strategy<Value = Name> {
    "[ -~]{0,32}".prop_map(|name| padded(&name))
}

fn any_region() -> impl Strategy<Value = (Option<u32>, u32)> {
    (proptest::option::of(0..ADDRESS_ANY), any::<u32>())
        .prop_map(|(da, size)| (da, size.min(u32::MAX - da.unwrap_or(0))))
}

fn any_vring() -> impl Strategy<Value = Vring> {
    let da = proptest::option::of(0..ADDRESS_ANY);
    (da, 2u32..32, 0u32..16, any::<u32>(), any::<u32>()).prop_map(|(da, align, num, notifyid, pa)| Vring {
        offset: 0,
        da: da.map(|da| da & !((1 << align) - 1)),
        align: 1 << align,
        num: 1 << num,
        notifyid,
        pa,
    })
}

fn any_vdev() -> impl Strategy<Value = Vdev> {
    (any::<[u32; 4]>(), 0u32..40, any::<u8>(), vec(any_vring(), 0..=MAX_VRINGS)).prop_map(
        |([id, notifyid, dfeatures, gfeatures], config_len, status, vrings)| Vdev {
            offset: 0,
            id,
            notifyid,
            dfeatures,
            gfeatures,
            config_len,
            status,
            vrings,
        },
    )
}

fn any_understood() -> impl Strategy<Value = Resource> {
    prop_oneof![
        (any_region(), any::<[u32; 2]>(), any_name()).prop_map(|((da, size), [pa, flags], name)| {
            Resource::Carveout(Carveout { offset: 0, da, pa, size, flags, name })
        }),
        (any::<[u32; 4]>(), any_name()).prop_map(|([da, pa, size, flags], name)| {
            Resource::Devmem(Devmem { da, pa, size, flags, name })
        }),
        (any_region(), any_name()).prop_map(|((da, size), name)| Resource::Trace(Trace { da, size, name })),
        any_vdev().prop_map(Resource::Vdev),
    ]
}

/// Any resource but at the end of a table, where the length of what is not understood cannot be known.
fn any_resource() -> impl Strategy<Value = Resource> {
    let len = (4usize..40).prop_map(Some);
    let vendor = (128u32..=512, len.clone()).prop_map(|(kind, len)| Resource::Vendor(Opaque { kind, len }));
    let unknown = (prop_oneof![4u32..128, 513..=u32::MAX], len)
        .prop_map(|(kind, len)| Resource::Unknown(Opaque { kind, len }));
    prop_oneof![4 => any_understood(), 1 => vendor, 1 => unknown]
}

fn any_resources() -> impl Strategy<Value = Vec<Resource>> {
    (vec(any_resource(), 0..8), any_understood()).prop_map(|(mut resources, last)| {
        resources.push(last);
        resources
    })
}

proptest! {
    #[test]
    fn every_well_formed_table_is_read_as_it_was_written(resources in any_resources()) {
        let entries: Vec<_> = resources.iter().map(encode).collect();
        let bytes = table(&entries);
        let parsed = ResourceTable::parse(&bytes).unwrap();

        let mut offset = 16 + 4 * entries.len();
        let mut expected = Vec::new();
        for (resource, entry) in resources.into_iter().zip(&entries) {
            expected.push(at(resource, offset));
            offset += entry.len();
        }
        prop_assert_eq!(parsed.entries(), expected);
        prop_assert_eq!(parsed.len(), bytes.len());
    }

    #[test]
    fn every_truncation_of_a_table_is_refused_with_the_reason(resources in any_resources()) {
        let bytes = table(&resources.iter().map(encode).collect::<Vec<_>>());
        for len in 0..bytes.len() {
            let reason = ResourceTable::parse(&bytes[..len]).unwrap_err().to_string();
            prop_assert!(reason.starts_with("resource table"), "{}", reason);
        }
    }

    #[test]
    fn a_table_with_arbitrary_bytes_in_it_never_panics_and_what_is_accepted_lies_within(
        resources in any_resources(),
        changes in vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
    ) {
        let mut bytes = table(&resources.iter().map(encode).collect::<Vec<_>>());
        for (at, value) in changes {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        if let Ok(table) = ResourceTable::parse(&bytes) {
            prop_assert!(table.len() <= bytes.len());
            for vdev in table.vdevs() {
                prop_assert!(vdev.config_offset() + usize::try_from(vdev.config_len).unwrap() <= table.len());
            }
            prop_assert!(!table.to_string().is_empty());
        }
    }

    #[test]
    fn arbitrary_bytes_never_panic(mut bytes in vec(any::<u8>(), 0..256), version_is_right: bool) {
        if let (true, Some(version)) = (version_is_right, bytes.get_mut(..4)) {
            version.copy_from_slice(&1u32.to_le_bytes());
        }
        let _ = ResourceTable::parse(&bytes);
    }
}
