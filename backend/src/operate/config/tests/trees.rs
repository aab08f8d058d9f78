//! Each board's tree and the configuration beside it give exactly the plan that is written down there too.

use std::process::Command;

use super::*;

/// What the configurations of boards name as their tree, which is compiled for the test.
const TREES: [&str; 2] = ["/sys/firmware/fdt", "target/dts/mps2-an385.dtb"];

#[track_caller]
fn is_planned(board: &str) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../dts");
    let scratch = tempfile::tempdir().unwrap();
    let tree = scratch.path().join("tree.dtb");
    let source = folder.join(format!("{board}.dts"));
    let compiled = Command::new("dtc").args(["-q", "-@", "-o"]).arg(&tree).arg(source).status();
    assert!(compiled.expect("dtc, of Debian's device-tree-compiler").success());
    let file = folder.join(format!("{board}.toml"));
    let text = fs::read_to_string(&file).unwrap();
    let text = TREES.into_iter().fold(text, |text, name| text.replace(name, tree.to_str().unwrap()));

    let found = parse(&file, &text).unwrap_or_else(|error| panic!("{error}")).to_string();

    let check = folder.join(format!("{board}.check"));
    if std::env::var_os("UPDATE_REFERENCE").is_some() {
        fs::write(&check, &found).unwrap();
    }
    let expected = fs::read_to_string(&check).unwrap_or_default();
    assert!(found == expected, "expected, in {}:\n{expected}\nfound:\n{found}", check.display());
}

#[test]
fn stm32mp157_gives_two_devices_with_vrings_and_channels_of_their_own() {
    is_planned("stm32mp157");
}

#[test]
fn imx8mq_gives_vrings_at_fixed_places_and_one_pool() {
    is_planned("imx8mq-rpmsg");
}

#[test]
fn imx8mp_gives_a_table_in_a_region_of_its_own() {
    is_planned("imx8mp");
}

#[test]
fn am62x_gives_a_pool_with_the_table_at_its_start() {
    is_planned("am62x");
}

#[test]
fn zynqmp_gives_a_table_behind_a_header() {
    is_planned("zynqmp");
}

#[test]
fn an_emulated_board_takes_its_file_and_socket_from_the_configuration() {
    is_planned("mps2-an385");
}

#[test]
fn a_region_of_the_tree_without_a_file_is_asked_for_where_there_is_no_hardware() {
    let scratch = tempfile::tempdir().unwrap();
    let tree = scratch.path().join("tree.dtb");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../dts/mps2-an385.dts");
    assert!(Command::new("dtc").args(["-q", "-o"]).arg(&tree).arg(source).status().unwrap().success());
    let text = format!(
        "[[remote]]\nname = \"m3\"\nlink = \"socket\"\ndoorbell = \"/d\"\ndevice-tree = {tree:?}\nnode = \"/remoteproc\"\n{}",
        vm("a", "")
    );
    let error = parse(Path::new("board.toml"), &text).unwrap_err().to_string();
    assert_eq!(
        error,
        "board.toml:1: key remote.memory: expected a table [[remote.memory]] with name = \"psram\" and the path of a file, \
         found none called \"psram\"; the device tree does not say which file stands for the region"
    );
    let error =
        parse(Path::new("board.toml"), &text.replace("/remoteproc", "/nobody")).unwrap_err().to_string();
    assert!(
        error.starts_with("board.toml:6: key remote.node: expected a path, a label or an alias"),
        "{error}"
    );
}
