//! What is read out of each board's tree is what is written down beside it.

use super::*;

#[track_caller]
fn reads_as_planned(tree: &str, node: &str, plan: &str) {
    let found =
        read(&board(tree), node).unwrap_or_else(|error| panic!("dts/{tree}.dts: {error}")).to_string();
    let plan = trees().join(format!("{plan}.plan"));
    let expected =
        std::fs::read_to_string(&plan).unwrap_or_else(|error| panic!("{}: {error}", plan.display()));
    assert!(found == expected, "expected, in {}:\n{expected}\nfound:\n{found}", plan.display());
}

#[test]
fn stm32mp157_has_two_devices_with_regions_and_channels_of_their_own() {
    reads_as_planned("stm32mp157", "m4_rproc", "stm32mp157");
}

#[test]
fn imx8mq_has_two_devices_at_fixed_places() {
    reads_as_planned("imx8mq-rpmsg", "/rpmsg@b8000000", "imx8mq-rpmsg");
}

#[test]
fn imx8mp_has_its_table_in_a_region_of_its_own() {
    reads_as_planned("imx8mp", "remoteproc0", "imx8mp");
}

#[test]
fn am62x_has_a_table_at_the_start_of_each_cores_first_region() {
    reads_as_planned("am62x", "mcu_m4fss", "am62x.mcu_m4fss");
    // The cluster stands for its only core.
    reads_as_planned("am62x", "wkup_r5fss0", "am62x.wkup_r5fss0_core0");
    reads_as_planned("am62x", "wkup_r5fss0_core0", "am62x.wkup_r5fss0_core0");
}

#[test]
fn zynqmp_has_its_tcm_at_other_addresses_and_a_header_for_its_table() {
    reads_as_planned("zynqmp", "r5f_0", "zynqmp");
    // The cluster's other core is disabled.
    reads_as_planned("zynqmp", "r5fss", "zynqmp");
}

#[test]
fn an_emulated_board_has_memory_and_table_and_nothing_else() {
    reads_as_planned("mps2-an385", "core", "mps2-an385");
}
