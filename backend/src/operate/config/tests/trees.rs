//! Each board's tree and the configuration beside it give exactly the plan that is written down there too.

use std::process::Command;

use super::*;

/// What the configurations of boards name as their tree, which is compiled for the test.
const TREES: [&str; 2] = ["/sys/firmware/fdt", "target/dts/mps2-an385.dtb"];
const TREES_OF_BOARDS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../dts");
const PACKAGING: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/packaging");

/// What the configuration of a board resolves to.
#[track_caller]
fn planned(board: &str, file: &Path) -> Plan {
    let scratch = tempfile::tempdir().unwrap();
    let tree = scratch.path().join("tree.dtb");
    let source = Path::new(TREES_OF_BOARDS).join(format!("{board}.dts"));
    let compiled = Command::new("dtc").args(["-q", "-@", "-o"]).arg(&tree).arg(source).status();
    assert!(compiled.expect("dtc, of Debian's device-tree-compiler").success());
    let text = fs::read_to_string(file).unwrap();
    let text = TREES.into_iter().fold(text, |text, name| text.replace(name, tree.to_str().unwrap()));
    parse(file, &text).unwrap_or_else(|error| panic!("{error}"))
}

#[track_caller]
fn is_planned(board: &str) {
    let folder = Path::new(TREES_OF_BOARDS);
    let found = planned(board, &folder.join(format!("{board}.toml"))).to_string();

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

/// What the package installs serves as it is in the sandbox of its unit, which lets the service make sockets and files in
/// these places only.
#[track_caller]
fn is_for_the_service(file: &Path, plan: &Plan) {
    let file = file.display();
    assert_eq!(plan.control.as_deref(), Some(Path::new("/run/rpmsg/control")), "{file}");
    assert_eq!(plan.state.as_deref(), Some(Path::new("/run/rpmsg")), "{file}");
    for vm in &plan.vms {
        let VmSocket::Path(socket) = &vm.socket else { panic!("{file}: vm {} has no path", vm.name) };
        assert_eq!(socket.parent(), Some(Path::new("/run/rpmsg")), "{file}");
    }
    for remote in &plan.remotes {
        assert!(remote.dump.as_deref().is_none_or(|dump| dump == Path::new("/var/lib/rpmsg")), "{file}");
    }
}

#[test]
fn every_board_has_an_example_in_the_package_that_is_accepted() {
    let named = |folder: &Path, kind: &str| {
        let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        let of_kind = files.filter(|path| path.extension().is_some_and(|found| found == kind));
        let mut names: Vec<_> = of_kind.map(|path| path.file_stem().unwrap().to_owned()).collect();
        names.sort();
        names
    };
    let examples = Path::new(PACKAGING).join("examples");
    let boards = named(Path::new(TREES_OF_BOARDS), "dts");
    assert_eq!(named(&examples, "toml"), boards);
    for board in boards {
        let file = examples.join(&board).with_extension("toml");
        is_for_the_service(&file, &planned(board.to_str().unwrap(), &file));
    }
}

#[test]
fn the_configuration_of_the_package_is_accepted() {
    let file = Path::new(PACKAGING).join("vhost-device-rpmsg.toml");
    let plan = parse(&file, &fs::read_to_string(&file).unwrap()).unwrap_or_else(|error| panic!("{error}"));
    is_for_the_service(&file, &plan);
}
