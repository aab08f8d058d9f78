//! What is accepted, what is refused and with which words.

use super::*;

mod properties;

/// Lays out a table of these entries, one behind the other.
fn table(entries: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for word in [1, u32::try_from(entries.len()).unwrap(), 0, 0] {
        bytes.extend(u32::to_le_bytes(word));
    }
    let mut offset = 16 + 4 * entries.len();
    for entry in entries {
        bytes.extend(u32::try_from(offset).unwrap().to_le_bytes());
        offset += entry.len();
    }
    bytes.extend(entries.concat());
    bytes
}

fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

fn padded(name: &str) -> Name {
    let mut bytes = [0; NAME_SIZE];
    bytes[..name.len()].copy_from_slice(name.as_bytes());
    Name(bytes)
}

/// The bytes of an entry, written down field by field and independently of the constants of the parser.
fn encode(resource: &Resource) -> Vec<u8> {
    let any = |da: Option<u32>| da.unwrap_or(ADDRESS_ANY);
    match resource {
        Resource::Carveout(c) => {
            [words(&[0, any(c.da), c.pa, c.size, c.flags, 0]), c.name.0.to_vec()].concat()
        }
        Resource::Devmem(d) => [words(&[1, d.da, d.pa, d.size, d.flags, 0]), d.name.0.to_vec()].concat(),
        Resource::Trace(t) => [words(&[2, any(t.da), t.size, 0]), t.name.0.to_vec()].concat(),
        Resource::Vdev(v) => {
            let mut bytes = words(&[3, v.id, v.notifyid, v.dfeatures, v.gfeatures, v.config_len]);
            bytes.extend([v.status, u8::try_from(v.vrings.len()).unwrap(), 0, 0]);
            for vring in &v.vrings {
                bytes.extend(words(&[any(vring.da), vring.align, vring.num, vring.notifyid, vring.pa]));
            }
            bytes.extend(std::iter::repeat_n(0xC5, usize::try_from(v.config_len).unwrap()));
            bytes
        }
        Resource::Vendor(opaque) | Resource::Unknown(opaque) => {
            let mut bytes = words(&[opaque.kind]);
            bytes.resize(opaque.len.unwrap_or(4), 0xA7);
            bytes
        }
    }
}

/// Moves a resource to where its entry lies, as the parser reports it.
fn at(mut resource: Resource, offset: usize) -> Entry {
    match &mut resource {
        Resource::Carveout(carveout) => carveout.offset = offset,
        Resource::Vdev(vdev) => {
            vdev.offset = offset;
            for (index, vring) in vdev.vrings.iter_mut().enumerate() {
                vring.offset = offset + 28 + 20 * index;
            }
        }
        _ => {}
    }
    Entry { offset, resource }
}

fn vring(da: Option<u32>, align: u32, num: u32) -> Vring {
    Vring { offset: 0, da, align, num, notifyid: ADDRESS_ANY, pa: 0 }
}

fn rpmsg_vdev() -> Resource {
    Resource::Vdev(Vdev {
        offset: 0,
        id: 7,
        notifyid: 0,
        dfeatures: 1,
        gfeatures: 0,
        config_len: 0,
        status: 0,
        vrings: vec![vring(Some(0x2100_1000), 16, 256), vring(None, 4096, 16)],
    })
}

fn trace_buffer() -> Resource {
    Resource::Trace(Trace { da: Some(0x2100_0800), size: 0x400, name: padded("log") })
}

/// Carveout at 0x1c, vdev at 0x54, trace at 0x98; 0xc8 bytes in all.
fn firmware_table() -> Vec<u8> {
    let carveout = Resource::Carveout(Carveout {
        offset: 0,
        da: None,
        pa: 0,
        size: 0x8000,
        flags: 0,
        name: padded("vdev0buffer"),
    });
    table(&[encode(&carveout), encode(&rpmsg_vdev()), encode(&trace_buffer())])
}

/// Parses the firmware's table after one change, and gives what is said about it.
fn refusal(change: impl FnOnce(&mut [u8])) -> String {
    let mut bytes = firmware_table();
    change(&mut bytes);
    ResourceTable::parse(&bytes).unwrap_err().to_string()
}

fn set(bytes: &mut [u8], offset: usize, value: u32) {
    bytes[offset..offset + 4].copy_from_slice(&value.to_le_bytes());
}

#[test]
fn a_table_as_firmware_has_it_is_decoded() {
    let table = ResourceTable::parse(&firmware_table()).unwrap();
    assert_eq!(
        table.to_string(),
        "3 entries, 200 bytes\n\
         entry 0 at 0x1c: carveout \"vdev0buffer\", da 0xffffffff (any), pa 0x0, 0x8000 bytes, flags 0x0\n\
         entry 1 at 0x54: vdev id 7, notifyid 0x0, dfeatures 0x1, gfeatures 0x0, status 0x0, 0 bytes of config\n  \
         vring 0: da 0x21001000, 256 descriptors, alignment 0x10, notifyid 0xffffffff, pa 0x0\n  \
         vring 1: da 0xffffffff (any), 16 descriptors, alignment 0x1000, notifyid 0xffffffff, pa 0x0\n\
         entry 2 at 0x98: trace \"log\", da 0x21000800, 0x400 bytes"
    );
    assert_eq!(table.vdevs().count(), 1);
    assert_eq!(table.carveouts().count(), 1);
    assert_eq!(table.traces().next().unwrap().da, Some(0x2100_0800));
}

#[test]
fn what_follows_the_table_in_memory_is_not_part_of_it() {
    let bytes = firmware_table();
    let longer = [bytes.clone(), vec![0xEE; 100]].concat();
    assert_eq!(ResourceTable::parse(&longer).unwrap().len(), bytes.len());
}

#[test]
fn a_value_written_at_its_offset_is_read_back_as_that_field_and_no_other() {
    let bytes = firmware_table();
    let table = ResourceTable::parse(&bytes).unwrap();
    let (vdev, carveout) = (table.vdevs().next().unwrap(), table.carveouts().next().unwrap());
    let written = |offset: usize| {
        let mut bytes = bytes.clone();
        set(&mut bytes, offset, 0x1230_0000);
        ResourceTable::parse(&bytes).unwrap()
    };
    let expect_vdev = |found: &ResourceTable, change: &dyn Fn(&mut Vdev)| {
        let mut expected = vdev.clone();
        change(&mut expected);
        assert_eq!(found.vdevs().next(), Some(&expected));
        assert_eq!(found.carveouts().next(), Some(carveout));
    };
    expect_vdev(&written(vdev.notifyid_offset()), &|vdev| {
        vdev.notifyid = 0x1230_0000;
    });
    expect_vdev(&written(vdev.gfeatures_offset()), &|vdev| {
        vdev.gfeatures = 0x1230_0000;
    });
    for ring in 0..2 {
        let vring = &vdev.vrings[ring];
        expect_vdev(&written(vring.da_offset()), &|vdev| {
            vdev.vrings[ring].da = Some(0x1230_0000);
        });
        expect_vdev(&written(vring.notifyid_offset()), &|vdev| {
            vdev.vrings[ring].notifyid = 0x1230_0000;
        });
        expect_vdev(&written(vring.pa_offset()), &|vdev| {
            vdev.vrings[ring].pa = 0x1230_0000;
        });
    }
    let mut with_status = bytes.clone();
    with_status[vdev.status_offset()] = 7;
    expect_vdev(&ResourceTable::parse(&with_status).unwrap(), &|vdev| {
        vdev.status = 7;
    });

    let expect_carveout = |found: &ResourceTable, change: &dyn Fn(&mut Carveout)| {
        let mut expected = carveout.clone();
        change(&mut expected);
        assert_eq!(found.carveouts().next(), Some(&expected));
        assert_eq!(found.vdevs().next(), Some(vdev));
    };
    expect_carveout(&written(carveout.da_offset()), &|carveout| {
        carveout.da = Some(0x1230_0000);
    });
    expect_carveout(&written(carveout.pa_offset()), &|carveout| {
        carveout.pa = 0x1230_0000;
    });
    expect_carveout(&written(carveout.size_offset()), &|carveout| {
        carveout.size = 0x1230_0000;
    });
}

#[test]
fn the_configuration_space_follows_the_vrings() {
    let Resource::Vdev(mut vdev) = rpmsg_vdev() else { unreachable!() };
    vdev.config_len = 3;
    let bytes = table(&[encode(&Resource::Vdev(vdev))]);
    let table = ResourceTable::parse(&bytes).unwrap();
    let at = table.vdevs().next().unwrap().config_offset();
    assert_eq!(bytes[at..], [0xC5; 3]);
    assert_eq!(table.len(), bytes.len());
}

#[test]
fn a_table_without_entries_is_a_table() {
    let table = ResourceTable::parse(&table(&[])).unwrap();
    assert_eq!((table.entries(), table.len()), ([].as_slice(), 16));
}

#[test]
fn entries_may_share_bytes_and_lie_in_any_order() {
    let mut bytes = firmware_table();
    set(&mut bytes, 16, 0x98);
    set(&mut bytes, 20, 0x98);
    set(&mut bytes, 24, 0x54);
    let table = ResourceTable::parse(&bytes).unwrap();
    assert_eq!(table.traces().count(), 2);
    assert_eq!(table.vdevs().count(), 1);
}

#[test]
fn what_is_not_understood_is_kept_to_be_reported() {
    let opaque = |kind, len| Opaque { kind, len };
    let bytes = table(&[words(&[4, 9]), words(&[128, 9, 9]), words(&[512]), words(&[513])]);
    let table = ResourceTable::parse(&bytes).unwrap();
    let resources: Vec<_> = table.entries().iter().map(|entry| entry.resource.clone()).collect();
    assert_eq!(
        resources,
        [
            Resource::Unknown(opaque(4, Some(8))),
            Resource::Vendor(opaque(128, Some(12))),
            Resource::Vendor(opaque(512, Some(4))),
            Resource::Unknown(opaque(513, None)),
        ]
    );
}

#[test]
fn names_that_differ_only_behind_the_nul_are_equal() {
    let plain = ResourceTable::parse(&firmware_table());
    let mut bytes = firmware_table();
    bytes[0x98 + 16 + 10] = b'x';
    assert_eq!(ResourceTable::parse(&bytes), plain);
}

#[test]
fn a_name_in_a_log_line_cannot_break_the_line() {
    let mut bytes = firmware_table();
    bytes[0x98 + 16..][..4].copy_from_slice(b"a\n\x1bb");
    let table = ResourceTable::parse(&bytes).unwrap();
    assert_eq!(table.traces().next().unwrap().name.to_string(), r"a\n\x1bb");
}

#[test]
fn memory_without_a_table_is_told_from_a_broken_table() {
    assert_eq!(
        ResourceTable::parse(&[0; 64]).unwrap_err().to_string(),
        "resource table: version at offset 0x0 is 0x0, expected 1; check that the firmware has put its table at this \
         address, and has already done so"
    );
    assert_eq!(
        ResourceTable::parse(&[1; 15]).unwrap_err().to_string(),
        "resource table of 15 bytes, expected at least the 16 bytes of its header"
    );
}

#[test]
fn a_malformed_header_is_refused_with_the_reason() {
    assert_eq!(
        refusal(|bytes| set(bytes, 12, 5)),
        "resource table: reserved word at offset 0xc of the header is 0x5, expected 0"
    );
    assert_eq!(
        refusal(|bytes| set(bytes, 4, u32::MAX)),
        "resource table: the number of entries at offset 0x4 is 4294967295, whose offsets end at 0x40000000c, expected \
         an end within the 0xc8 bytes that are there"
    );
    assert_eq!(
        refusal(|bytes| set(bytes, 20, 0x1B)),
        "resource table: entry 1 starts at offset 0x1b and so within the header, expected 0x1c or more"
    );
}

#[test]
fn an_entry_that_does_not_end_within_the_table_is_refused_with_the_reason() {
    let bytes = firmware_table();
    let cut = |len: usize| ResourceTable::parse(&bytes[..len]).unwrap_err().to_string();
    assert_eq!(
        cut(0xC7),
        "resource table: entry 2 (trace) at offset 0x98 needs 48 bytes, found 47 up to the end of the table"
    );
    assert_eq!(
        cut(0x97),
        "resource table: entry 1 (vdev) at offset 0x54 needs 68 bytes, found 67 up to the end of the table"
    );
    assert_eq!(
        refusal(|bytes| set(bytes, 24, 0xFFFF_FFF0)),
        "resource table: entry 2 (type unknown) at offset 0xfffffff0 needs 4 bytes, found 0 up to the end of the table"
    );
    assert_eq!(
        refusal(|bytes| set(bytes, 0x54 + 20, u32::MAX)),
        "resource table: entry 1 (vdev) at offset 0x54 needs 4294967363 bytes, found 116 up to the end of the table"
    );
}

#[test]
fn a_reserved_field_that_is_set_is_refused_with_the_reason() {
    assert_eq!(
        refusal(|bytes| set(bytes, 0x1C + 20, 1)),
        "resource table: entry 0 (carveout): reserved field at offset 0x30 is 0x1, expected 0"
    );
    assert_eq!(
        refusal(|bytes| bytes[0x54 + 27] = 2),
        "resource table: entry 1 (vdev): reserved field at offset 0x6e is 0x200, expected 0"
    );
    assert_eq!(
        refusal(|bytes| set(bytes, 0x98 + 12, 3)),
        "resource table: entry 2 (trace): reserved field at offset 0xa4 is 0x3, expected 0"
    );
}

#[test]
fn a_region_beyond_32_bits_is_refused_and_one_up_to_their_end_is_not() {
    assert_eq!(
        refusal(|bytes| set(bytes, 0x98 + 4, 0xFFFF_FC01)),
        "resource table: entry 2 (trace): device address 0xfffffc01 at offset 0x9c with 0x400 bytes, expected an end \
         within 32 bits"
    );
    let mut bytes = firmware_table();
    set(&mut bytes, 0x98 + 4, 0xFFFF_FC00);
    assert!(ResourceTable::parse(&bytes).is_ok());
}

#[test]
fn an_impossible_vring_is_refused_with_the_reason() {
    assert_eq!(
        refusal(|bytes| bytes[0x54 + 25] = 3),
        "resource table: entry 1 (vdev): number of vrings at offset 0x6d is 3, expected at most 2"
    );
    for align in [0, 1, 2, 6] {
        assert_eq!(
            refusal(|bytes| set(bytes, 0x54 + 28 + 4, align)),
            format!(
                "resource table: entry 1 (vdev), vring 0: alignment at offset 0x74 is {align}, expected a power of two \
                 of at least 4"
            )
        );
    }
    for num in [0, 3, 65536] {
        assert_eq!(
            refusal(|bytes| set(bytes, 0x54 + 48 + 8, num)),
            format!(
                "resource table: entry 1 (vdev), vring 1: number of descriptors at offset 0x8c is {num}, expected a \
                 power of two of at most 32768"
            )
        );
    }
    assert_eq!(
        refusal(|bytes| set(bytes, 0x54 + 28, 0x2100_1008)),
        "resource table: entry 1 (vdev), vring 0: device address at offset 0x70 is 0x21001008, expected a multiple of \
         the vring's alignment 0x10, or 0xffffffff for any"
    );
}
