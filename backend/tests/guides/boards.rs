//! What a board's device tree is told to have for UIO is what the program will look for.

use super::blocks::{Kind, blocks_of};
use super::desk::Desk;

const GUIDE: &str = "backend/docs/boards.md";

/// Physical addresses that the program will look for among UIO devices: first address and size of each, and whether the
/// program does without.
fn wanted(plan: &str) -> Vec<(u64, u64, bool)> {
    let number = |text: &str| {
        let digits = text.trim().trim_start_matches("0x").split(|c: char| !c.is_ascii_hexdigit()).next();
        u64::from_str_radix(digits.unwrap_or_default(), 16).expect("a number")
    };
    let mut wanted = Vec::new();
    for line in plan.lines().map(str::trim_start) {
        if line.contains("in the UIO device with it") {
            let (_, place) = line.split_once("physical address ").expect("an address");
            let (address, size) = place.split_once(", ").expect("a size");
            wanted.push((number(address), number(size), line.ends_with("if it is there")));
        }
        if let Some(registers) = line.strip_prefix("registers ") {
            let (first, last) = registers.trim().split_once("..=").expect("a range");
            // Controllers have more registers than the program uses; all are within the first page.
            wanted.push((number(first), (number(last) - number(first) + 1).min(0x1000), false));
        }
        if let Some((_, request)) = line.split_once("transmit 0x") {
            wanted.push((number(request), 0x20, false));
        }
    }
    wanted
}

/// The registers of the nodes for UIO in a compiled tree, in whose root addresses and sizes are so many cells.
fn given(desk: &Desk, tree: &str) -> Vec<(u64, u64)> {
    let nodes = desk.run("nodes", &format!("fdtget -l {tree} / | grep ^uio-"));
    let cells =
        desk.run("cells", &format!("fdtget {tree} / '#address-cells'")).trim().parse().expect("a count");
    let mut given = Vec::new();
    for node in nodes.lines() {
        let compatible = desk.run("node", &format!("fdtget {tree} /{node} compatible"));
        assert_eq!(compatible.trim(), "generic-uio", "{tree}: {node}");
        let registers = desk.run("node", &format!("fdtget -t x {tree} /{node} reg"));
        let numbers: Vec<u64> =
            registers.split_whitespace().map(|cell| u64::from_str_radix(cell, 16).expect("a cell")).collect();
        let wide = |cells: &[u64]| cells.iter().fold(0, |sum, cell| sum << 32 | cell);
        let maps: Vec<_> =
            numbers.chunks(2 * cells).map(|map| (wide(&map[..cells]), wide(&map[cells..]))).collect();
        assert!(maps.len() <= 5, "{tree}: {node}: UIO has 5 maps a device");
        given.extend(maps);
    }
    given
}

#[test]
fn every_address_that_the_program_looks_for_is_in_a_uio_node_and_in_no_drivers_hands() {
    let mut boards = 0;
    for block in blocks_of(GUIDE) {
        let Kind::Tree(name) = &block.kind else { continue };
        let board = name.strip_suffix("-uio.dts").expect("BOARD-uio.dts");
        let desk = Desk::new();
        desk.make(name, &block.text);
        desk.run("dtc", &format!("dtc -@ -q -I dts -O dtb -o tree.dtb {name}"));
        let configuration = desk.run("example", &format!("cat backend/packaging/examples/{board}.toml"));
        let plan = desk.check(&configuration.replace("/sys/firmware/fdt", "tree.dtb")).expect("a plan");
        let given = given(&desk, "tree.dtb");
        let is_given = |address: u64, size: u64| {
            given.iter().any(|(start, len)| *start <= address && address + size <= start + len)
        };
        for (address, size, is_optional) in wanted(&plan) {
            assert!(
                is_optional || is_given(address, size),
                "{name}: {address:#x}, {size:#x} bytes, are in no UIO node"
            );
        }
        // The core and its mailbox, so that no driver of the kernel takes them.
        assert!(plan.matches("\n    disabled ").count() >= 2, "{name}: {plan}");
        boards += 1;
    }
    assert_eq!(boards, 4);
}
