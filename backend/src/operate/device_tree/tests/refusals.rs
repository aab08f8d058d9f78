//! What makes no sense is refused with the node, the property, what is there and what was expected.

use super::*;
use crate::remote::mailbox::MuVersion;

/// Why the small tree with these changes is refused.
fn refusal(changes: &str) -> String {
    read(&small(changes), "core").unwrap_err().to_string()
}

/// Why a board's tree with these changes is refused.
fn board_refusal(board: &str, node: &str, changes: &str) -> String {
    read(&changed_board(board, changes), node).unwrap_err().to_string()
}

#[test]
fn the_small_tree_itself_is_read() {
    let found = read(&small(""), "core").unwrap();
    assert_eq!(found.memory.len(), 3);
    assert_eq!(found.vdevs.len(), 1);
    assert_eq!(found.mailbox.unwrap().registers, Span { address: 0x4000_0500, size: 0x100 });
    assert_eq!(found.table, Table::Unknown);
    assert_eq!(found.disabled, [""; 0]);
}

#[test]
fn phandles_that_no_node_or_that_two_nodes_have_are_refused() {
    assert_eq!(
        refusal("&core { memory-region = <&first 0x99>; };"),
        "device tree: property 'memory-region' of /core refers to phandle 0x99, expected the phandle of a node"
    );
    assert_eq!(
        refusal("&core { mboxes = <0 0 1>, <&unit 1 1>; };"),
        "device tree: property 'mboxes' of /core refers to phandle 0x0, expected the phandle of a node"
    );
    // dtc does not make two of the same.
    let mut blob = small("&first { phandle = <0x7777001>; }; &second { phandle = <0x7777002>; };");
    for at in 0..blob.len() - 4 {
        if blob[at..at + 4] == 0x777_7002_u32.to_be_bytes() {
            blob[at + 3] = 1;
        }
    }
    assert_eq!(
        read(&blob, "core").unwrap_err().to_string(),
        "device tree: /reserved-memory/vdev0vring0@1000 and /reserved-memory/vdev0vring1@2000 both have phandle \
         0x7777001, expected one node of each phandle"
    );
}

#[test]
fn numbers_that_do_not_fill_the_cells_are_refused() {
    assert_eq!(
        refusal("&first { reg = <0x1000>; };"),
        "device tree: property 'reg' of /reserved-memory/vdev0vring0@1000 is <0x1000>, expected groups of 2 numbers, as \
         the cells of the buses say"
    );
    assert_eq!(
        refusal("&first { reg = [00 01 02 03 04]; };"),
        "device tree: property 'reg' of /reserved-memory/vdev0vring0@1000 is [00 01 02 03 04], expected numbers of 4 \
         bytes each"
    );
    assert_eq!(
        refusal("&unit { phandle = <0x50>; #mbox-cells = <6>; };"),
        "device tree: property 'mboxes' of /core is <0x50 0x0 0x1 0x50 0x1 0x1>, expected 6 numbers after the phandle \
         0x50 of /bus/mailbox@500"
    );
    assert_eq!(
        refusal("&unit { interrupts = <0 5>; };"),
        "device tree: property 'interrupts' of /bus/mailbox@500 is <0x0 0x5>, expected groups of 3 numbers, as \
         /interrupt-controller has them"
    );
    assert_eq!(
        refusal("&bus { #address-cells = <3>; };"),
        "device tree: property '#address-cells' of /bus is 3, expected 1 to 2, for a bus with memory"
    );
}

#[test]
fn addresses_that_lead_nowhere_are_refused() {
    assert_eq!(
        refusal("&bus { /delete-property/ ranges; };"),
        "device tree: /bus has no property 'ranges', expected it, so that /bus/mailbox@500 can be reached"
    );
    assert_eq!(
        refusal("&bus { ranges = <0x0 0x40000000 0x580>; };"),
        "device tree: property 'ranges' of /bus is <0x0 0x40000000 0x580>, expected an entry for 0x100 bytes at 0x500, \
         where /bus/mailbox@500 is"
    );
    assert_eq!(
        refusal("&first { reg = <0x1000 0>; };"),
        "device tree: property 'reg' of /reserved-memory/vdev0vring0@1000 is <0x1000 0x0>, expected sizes other than 0"
    );
    assert_eq!(
        refusal("&first { reg = <0xfffff000 0x1001>; };"),
        "device tree: property 'reg' of /reserved-memory/vdev0vring0@1000 is <0xfffff000 0x1001>, expected a place that \
         the core sees within its 32 bits, not 0x1001 bytes at 0xfffff000"
    );
    // The very last byte is fine.
    assert!(read(&small("&first { reg = <0xfffff000 0x1000>; };"), "core").is_ok());
    assert_eq!(
        board_refusal("stm32mp157", "m4_rproc", "&retram { reg = <0x38000000 0x10001>; };"),
        "device tree: property 'dma-ranges' of /ahb is <0x0 0x38000000 0x10000 0x10000000 0x10000000 0x60000 0x30000000 \
         0x30000000 0x60000>, expected an entry for 0x10001 bytes at 0x38000000"
    );
}

#[test]
fn references_in_a_circle_are_refused_or_do_no_harm() {
    assert_eq!(
        refusal("&core { phandle = <0x50>; memory-region = <&core>; };"),
        "device tree: property 'memory-region' of /core is <0x50>, expected children of /reserved-memory, which /core is \
         not"
    );
    assert_eq!(
        refusal("&core { phandle = <0x50>; mboxes = <&core>; };"),
        "device tree: /core has no property '#mbox-cells', expected it, since 'mboxes' of /core refers here"
    );
    let itself = small("&unit { interrupt-parent = <&unit>; #interrupt-cells = <3>; };");
    let mailbox = read(&itself, "core").unwrap().mailbox.unwrap();
    assert_eq!(mailbox.interrupts[0].controller, mailbox.node);
}

#[test]
fn regions_that_make_no_device_are_refused() {
    assert_eq!(
        refusal("&core { /delete-property/ memory-region; };"),
        "device tree: /core has no property 'memory-region', expected the reserved regions of its memory"
    );
    for regions in ["<&second>, <&buffers>", "<&first>, <&first>"] {
        let error = refusal(&format!("&core {{ memory-region = {regions}; }};"));
        let end = "expected one region each of vdev0vring0, vdev0vring1 and so on, at most 8";
        assert!(error.ends_with(end), "{error}");
    }
    let error = refusal("&core { memory-region = <&first>, <&second>, <&buffers>, <&buffers>; };");
    assert!(error.ends_with("expected one region vdev0buffer"), "{error}");
}

#[test]
fn channels_of_the_wrong_kind_or_name_or_controller_are_refused() {
    let wrong = |expected: &str, changes: &str| {
        let error = refusal(changes);
        assert!(error.ends_with(expected), "{error}");
    };
    wrong(
        "expected \"tx\" to be a transmit channel: 0 and a number from 0 to 3",
        "&core { mboxes = <&unit 1 1>, <&unit 0 1>; };",
    );
    wrong(
        "expected \"rx\" to be a receive channel: 1 and a number from 0 to 3",
        "&core { mboxes = <&unit 0 1>, <&unit 1 4>; };",
    );
    wrong("is \"tx\", expected 2 names, as many as there are 'mboxes'", "&core { mbox-names = \"tx\"; };");
    wrong(
        "is \"tx\", \"xr\", expected a channel named \"rx\" in 'mbox-names'",
        "&core { mbox-names = \"tx\", \"xr\"; };",
    );
    wrong(
        "expected channels of one controller, as the first is of /bus/mailbox@500",
        "&core { mboxes = <&unit 0 1>, <&other 1 1>; };",
    );
    wrong(
        "/core has no property 'mboxes', expected the mailbox channels to the core",
        "&core { /delete-property/ mboxes; };",
    );
    wrong(
        "property 'compatible' of /bus/mailbox@500 is \"fsl,imx7ulp-mu\", expected a mailbox of a kind that is known here: \
         \"fsl,imx6sx-mu\" or \"fsl,imx8ulp-mu\" or \"fsl,imx95-mu\"",
        "&unit { compatible = \"fsl,imx7ulp-mu\"; };",
    );
    wrong(
        "/bus/mailbox@500 has no property 'interrupt-parent', expected the interrupt controller, here or in a parent",
        "&unit { /delete-property/ interrupt-parent; };",
    );
    wrong("expected printable strings, each ended by a NUL", "&core { mbox-names = [74 78 07 00]; };");
}

#[test]
fn the_second_layout_of_messaging_units_is_told_from_the_first() {
    let found =
        read(&small("&unit { compatible = \"fsl,imx93-mu\", \"fsl,imx8ulp-mu\"; };"), "core").unwrap();
    let family = Family::ImxMu { version: MuVersion::V2, transmit: 1, receive: 1, doorbell: None };
    assert_eq!(found.mailbox.unwrap().family, family);
}

#[test]
fn a_table_in_the_tcm_of_an_imx93_is_where_the_core_sees_its_tcm() {
    let changes = "&core { compatible = \"fsl,imx93-cm33\"; memory-region = <&table>; };
        &{/reserved-memory} { table: rsc-table@2021e000 { reg = <0x2021e000 0x1000>; }; };";
    let found = read(&small(changes), "core").unwrap();
    assert_eq!(found.table, Table::At(0x2001_e000));
    assert_eq!(found.memory[0].span.address, 0x2021_e000);
}

#[test]
fn regions_are_called_what_their_user_calls_them() {
    let memory = |changes: &str| read(&small(changes), "core").map(|found| (found.memory, found.vdevs));
    let named = |names: &str| memory(&format!("&core {{ memory-region-names = {names}; }};"));
    let (regions, vdevs) = named("\"a\", \"vdev3vring0\", \"rpu1vdev3buffer\"").unwrap();
    assert_eq!(
        regions.iter().map(|region| &*region.name).collect::<Vec<_>>(),
        ["a", "vdev3vring0", "vdev3buffer"]
    );
    assert_eq!(
        (vdevs[0].index, vdevs[0].queues[0].vring, vdevs[0].buffers),
        (3, regions[1].span, Some(regions[2].span))
    );
    let error = named("\"a\"").unwrap_err().to_string();
    assert!(
        error.ends_with("is \"a\", expected 3 names, as many as there are in 'memory-region'"),
        "{error}"
    );
}

#[test]
fn whatever_is_disabled_is_reported() {
    let changes =
        "&core { status = \"disabled\"; }; &unit { status = \"fail\"; }; &first { status = \"okay\"; };
        &second { status = \"reserved\"; };";
    let found = read(&small(changes), "core").unwrap();
    assert_eq!(found.disabled, ["/core", "/reserved-memory/vdev0vring1@2000", "/bus/mailbox@500"]);
}

#[test]
fn a_region_that_core_and_device_both_name_is_there_once() {
    let both = changed_board("stm32mp157", "&m4_rproc { memory-region = <&retram>, <&vdev0vring0>; };");
    let names: Vec<_> =
        read(&both, "m4_rproc").unwrap().memory.into_iter().map(|region| region.name).collect();
    assert_eq!(names[..4], ["retram", "vdev0vring0", "vdev0vring1", "vdev0buffer"]);
}

#[test]
fn a_disabled_device_is_left_out_and_reported() {
    let changes = "&{/ahb/m4@10000000/vdev@0} { status = \"disabled\"; };";
    let found = read(&changed_board("stm32mp157", changes), "m4_rproc").unwrap();
    assert_eq!(found.disabled, ["/ahb/m4@10000000/vdev@0"]);
    assert_eq!(found.vdevs.iter().map(|vdev| vdev.index).collect::<Vec<_>>(), [1]);
}

#[test]
fn stm32mp157_without_nodes_for_devices_has_one_by_the_names_of_regions_and_channels() {
    let changes = "&m4_rproc {
        memory-region = <&retram>, <&vdev0vring0>, <&vdev0vring1>, <&vdev0buffer>;
        mboxes = <&ipcc 0>, <&ipcc 1>, <&ipcc 2>;
        mbox-names = \"vq0\", \"vq1\", \"shutdown\";
        /delete-node/ vdev@0;
        /delete-node/ vdev@1;
    };";
    let found = read(&changed_board("stm32mp157", changes), "m4_rproc").unwrap();
    let channels: Vec<_> = found.vdevs[0].queues.iter().map(|queue| queue.channel).collect();
    assert_eq!((found.vdevs.len(), found.vdevs[0].virtio_id, channels), (1, None, vec![Some(0), Some(1)]));
    let family = Family::Stm32Ipcc { processor: 0, shutdown: Some(2), detach: None };
    assert_eq!(found.mailbox.unwrap().family, family);
}

#[test]
fn nodes_of_devices_that_make_no_sense_are_refused() {
    let wrong = |expected: &str, changes: &str| {
        let error = board_refusal(
            "stm32mp157",
            "m4_rproc",
            &format!("&{{/ahb/m4@10000000/vdev@1}} {{ {changes} }};"),
        );
        assert!(error.ends_with(expected), "{error}");
    };
    wrong("is <0x0>, expected a number that no other device of this core has", "reg = <0>;");
    wrong(
        "has no property 'virtio,id', expected the virtio id of the device, which is 7 for rpmsg",
        "/delete-property/ virtio,id;",
    );
    wrong("expected one named vdev1vring0 among them", "memory-region = <&vdev0vring0>;");
    wrong("expected one number from 0 to 15 for each channel", "mboxes = <&ipcc 4>, <&ipcc 16>;");
}

#[test]
fn a_device_has_channels_exactly_where_each_virtqueue_has_its_own() {
    let wrong = |error: &str, expected: &str| assert!(error.ends_with(expected), "{error}");
    let vdev = |change: &str| {
        board_refusal("stm32mp157", "m4_rproc", &format!("&{{/ahb/m4@10000000/vdev@1}} {{ {change} }};"))
    };
    wrong(
        &vdev("/delete-property/ mboxes;"),
        "vdev@1 has no property 'mboxes', expected the mailbox channels to the core",
    );
    wrong(
        &vdev("mbox-names = \"vq0\", \"vq2\";"),
        "is \"vq0\", \"vq2\", expected a channel named \"vq1\" in 'mbox-names'",
    );
    let named = "&m4_rproc {
        memory-region = <&vdev0vring0>;
        /delete-property/ mboxes;
        /delete-node/ vdev@0;
        /delete-node/ vdev@1;
    };";
    wrong(
        &board_refusal("stm32mp157", "m4_rproc", named),
        "m4@10000000 has no property 'mboxes', expected the mailbox channels to the core",
    );
    let node = |mboxes: &str| {
        format!(
            "&core {{ vdev {{ compatible = \"rproc-virtio\"; reg = <5>; virtio,id = <7>; memory-region = <&ring>; {mboxes} }}; }};
            &{{/reserved-memory}} {{ ring: vdev5vring0@9000 {{ reg = <0x9000 0x1000>; }}; }};"
        )
    };
    wrong(
        &refusal(&node("mboxes = <&unit 0 1>;")),
        "expected none: all virtqueues of this core share its channels",
    );
    let found = read(&small(&node("")), "core").unwrap();
    let queue = Queue { vring: Span { address: 0x9000, size: 0x1000 }, channel: None };
    assert_eq!(found.vdevs, [Vdev { index: 5, virtio_id: Some(7), queues: vec![queue], buffers: None }]);
}

#[test]
fn what_only_one_kind_of_board_has_is_checked_too() {
    let wrong = |board, node, expected: &str, changes: &str| {
        let error = board_refusal(board, node, changes);
        assert!(error.ends_with(expected), "{error}");
    };
    let offset = "expected the offset of a 32-bit register within 0x400 bytes";
    wrong("stm32mp157", "m4_rproc", offset, "&m4_rproc { st,syscfg-rsc-tbl = <&tamp 0x3fe 0xffffffff>; };");
    wrong("stm32mp157", "m4_rproc", offset, "&m4_rproc { st,syscfg-rsc-tbl = <&tamp 0x400 0xffffffff>; };");
    let room = "expected 0x20000 bytes for 2 devices at a multiple of 0x1000";
    wrong("imx8mq-rpmsg", "rpmsg", room, "&rpmsg { reg = <0x0 0xb8000000 0x0 0x1ffff>; };");
    wrong("imx8mq-rpmsg", "rpmsg", "is <0x9>, expected a number from 0 to 8", "&rpmsg { vdev-nums = <9>; };");
    wrong("imx8mq-rpmsg", "rpmsg", "is <0x0>, expected at least one device", "&rpmsg { vdev-nums = <0>; };");
    let fifo = "expected a FIFO below 16, an interrupt's index and a user below 4";
    wrong("am62x", "mcu_m4fss", fifo, "&mbox_m4_0 { ti,mbox-tx = <16 0 0>; };");
    let interrupt = "expected an interrupt's index below 2, the number that the cluster has";
    wrong("am62x", "mcu_m4fss", interrupt, "&mbox_m4_0 { ti,mbox-rx = <0 2 0>; };");
    let child = "expected a child of /bus@f0000/mailbox@29000000, which /bus@f0000/mailbox@29000000 is not";
    wrong("am62x", "mcu_m4fss", child, "&mcu_m4fss { mboxes = <&mailbox0_cluster0 &mailbox0_cluster0>; };");
    wrong(
        "zynqmp",
        "r5f_0",
        "is <0xb>, expected a number from 0 to 10",
        "&zynqmp_ipi1 { xlnx,ipi-id = <11>; };",
    );
    wrong(
        "mps2-an385",
        "core",
        "expected an address within the core's 'memory-region'",
        "&core { resource-table = <0x22000000>; };",
    );
}

#[test]
fn the_tcms_of_an_r5f_are_where_its_switches_say() {
    let own = |changes: &str| {
        let blob = changed_board("am62x", &format!("&wkup_r5fss0_core0 {{ {changes} }};"));
        let memory = read(&blob, "wkup_r5fss0").unwrap().memory;
        memory.into_iter().skip(2).map(|region| (region.name, region.device_address)).collect::<Vec<_>>()
    };
    assert_eq!(own("ti,loczrama = <0>;"), [("atcm".to_owned(), 0x4101_0000), ("btcm".to_owned(), 0)]);
    assert_eq!(own("/delete-property/ ti,atcm-enable;"), [("btcm".to_owned(), 0x4101_0000)]);
}

#[test]
fn bytes_that_are_no_tree_are_refused_with_the_offset() {
    let wrong = |expected: &str, at: usize, bytes: &[u8]| {
        let mut blob = small("");
        blob[at..at + bytes.len()].copy_from_slice(bytes);
        let error = read(&blob, "core").unwrap_err().to_string();
        assert!(error.starts_with(&format!("device tree blob: {expected}")), "{error}");
    };
    wrong("magic at offset 0x0: expected 0xd00dfeed, found 0xd00dfeee;", 0, &[0xd0, 0x0d, 0xfe, 0xee]);
    wrong(
        "size of the whole at offset 0x4: expected no more than is there, found 0xff000000 in ",
        4,
        &[0xff, 0, 0, 0],
    );
    wrong("version at offset 0x14: expected 17 or compatible with it, found 16 ", 0x14, &[0, 0, 0, 16]);
    wrong(
        "structure at offset 0x8: expected a place between the header and the end, found ",
        8,
        &[0xff, 0xff, 0xff, 0xf0],
    );
    let structure = u32::from_be_bytes(small("")[8..12].try_into().unwrap()) as usize;
    wrong(&format!("token at offset {structure:#x}: expected a begin"), structure, &[0, 0, 0, 7]);
    wrong(&format!("token at offset {structure:#x}: expected no property (0x3)"), structure, &[0, 0, 0, 3]);
    wrong(
        &format!("root's name at offset {:#x}: expected none, found 'x'", structure + 4),
        structure + 4,
        b"x",
    );
    assert_eq!(
        read(&[], "core").unwrap_err().to_string(),
        "device tree blob: magic at offset 0x0: expected more bytes, found 0 bytes up to the end of its block; check that \
         it is a whole compiled tree (.dtb)"
    );
}
