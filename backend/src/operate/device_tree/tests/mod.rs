//! Device trees are compiled from source by `dtc`, those of boards and small ones alike.

mod boards;
mod names;
mod properties;
mod refusals;

use std::{
    ffi::OsStr,
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use super::*;

/// The repository's folder of device trees.
fn trees() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../dts")
}

/// The blob of `dts/NAME.dts`.
fn board(name: &str) -> Vec<u8> {
    compile(trees().join(format!("{name}.dts")).as_os_str(), "")
}

/// The blob of `dts/NAME.dts` with changes.
fn changed_board(name: &str, changes: &str) -> Vec<u8> {
    let source = trees().join(format!("{name}.dts"));
    blob(&format!("/include/ \"{}\"\n{changes}", source.display()))
}

/// The blob of a source.
fn blob(source: &str) -> Vec<u8> {
    compile(OsStr::new("-"), source)
}

/// A core with two vrings, buffers and a messaging unit behind a bus that shifts addresses. What is to be different
/// follows.
const SMALL: &str = r#"
    /dts-v1/;
    / {
        #address-cells = <1>;
        #size-cells = <1>;
        aliases { remoteproc0 = &core; };
        reserved-memory {
            #address-cells = <1>;
            #size-cells = <1>;
            ranges;
            first: vdev0vring0@1000 { reg = <0x1000 0x1000>; };
            second: vdev0vring1@2000 { reg = <0x2000 0x1000>; };
            buffers: vdev0buffer@3000 { reg = <0x3000 0x1000>; };
        };
        gic: interrupt-controller { #interrupt-cells = <3>; };
        bus: bus {
            #address-cells = <1>;
            #size-cells = <1>;
            ranges = <0x0 0x40000000 0x10000>;
            unit: mailbox@500 {
                compatible = "fsl,imx6sx-mu";
                reg = <0x500 0x100>;
                interrupt-parent = <&gic>;
                interrupts = <0 5 4>;
                #mbox-cells = <2>;
            };
            other: mailbox@600 {
                compatible = "fsl,imx6sx-mu";
                #mbox-cells = <2>;
            };
        };
        core: core {
            compatible = "fsl,imx8ulp-cm33";
            memory-region = <&first>, <&second>, <&buffers>;
            mboxes = <&unit 0 1>, <&unit 1 1>;
            mbox-names = "tx", "rx";
        };
    };
"#;

/// The blob of [`SMALL`] with changes.
fn small(changes: &str) -> Vec<u8> {
    blob(&format!("{SMALL}{changes}"))
}

/// Compiles, with labels. Warnings are of no interest: sources in tests are as short as can be.
fn compile(file: &OsStr, input: &str) -> Vec<u8> {
    let mut dtc = Command::new("dtc")
        .args(["-@", "-q", "-I", "dts", "-O", "dtb", "-o", "-"])
        .arg(file)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("this test needs dtc on PATH: run ci/setup, or install the package device-tree-compiler");
    // dtc reads all of its input before it writes anything.
    dtc.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = dtc.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "dtc refuses {}: {said}", file.display());
    output.stdout
}
