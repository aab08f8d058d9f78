//! How a node is named, and which of a cluster's cores is taken.

use super::*;

#[test]
fn a_node_is_found_by_its_path_its_alias_and_its_label() {
    let small = small("");
    for name in ["/core", "//core/", "remoteproc0", "core"] {
        assert_eq!(read(&small, name).unwrap().node, "/core", "{name}");
    }
}

#[test]
fn an_address_in_a_path_may_be_left_out_where_nothing_else_has_the_name() {
    let zynqmp = board("zynqmp");
    assert_eq!(read(&zynqmp, "/remoteproc/r5f@0").unwrap().node, "/remoteproc@ffe00000/r5f@0");
    assert_eq!(
        read(&zynqmp, "/remoteproc/r5f").unwrap_err().to_string(),
        "device tree: '/remoteproc/r5f' may be any of /remoteproc@ffe00000/r5f@0, /remoteproc@ffe00000/r5f@100000000, \
         expected the name of one of them"
    );
}

#[test]
fn a_name_that_nothing_has_is_refused_with_what_names_there_may_be() {
    assert_eq!(
        read(&small(""), "/bus/core").unwrap_err().to_string(),
        "device tree: no node '/bus/core'; expected a node 'core' below /bus"
    );
    assert_eq!(
        read(&small(""), "cores").unwrap_err().to_string(),
        "device tree: no node 'cores'; expected a path that starts with '/', an alias of /aliases, or a label"
    );
    assert_eq!(
        read(&blob("/dts-v1/; / {};"), "core").unwrap_err().to_string(),
        "device tree: no node 'core'; expected a path that starts with '/', an alias of /aliases, and for labels, of \
         which this tree has none, one that was compiled with dtc -@"
    );
}

#[test]
fn a_node_that_is_no_remote_core_is_refused_with_the_kinds_that_are_known() {
    let error = read(&small(""), "unit").unwrap_err().to_string();
    let start = "device tree: /bus/mailbox@500 is compatible with \"fsl,imx6sx-mu\", expected a remote core: st,stm32mp1-m4, ";
    assert!(error.starts_with(start), "{error}");
    assert!(error.contains("rproc-emulated"), "{error}");
    let error = read(&small(""), "/").unwrap_err().to_string();
    assert!(
        error.starts_with("device tree: / is compatible with nothing, expected a remote core: "),
        "{error}"
    );
}

#[test]
fn a_cluster_with_two_cores_is_refused_until_one_is_named_or_disabled() {
    let both = changed_board("zynqmp", "&r5f_1 { status = \"okay\"; };");
    assert_eq!(
        read(&both, "r5fss").unwrap_err().to_string(),
        "device tree: '/remoteproc@ffe00000' may be any of /remoteproc@ffe00000/r5f@0, \
         /remoteproc@ffe00000/r5f@100000000, expected the name of one of them"
    );
    assert_eq!(read(&both, "r5f_0").unwrap().node, "/remoteproc@ffe00000/r5f@0");
    let none = changed_board("zynqmp", "&r5f_0 { status = \"disabled\"; };");
    assert!(matches!(read(&none, "r5fss"), Err(DeviceTreeError::NotARemote { .. })));
}
