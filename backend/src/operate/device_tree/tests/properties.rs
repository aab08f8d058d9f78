//! What holds for every blob.

use std::sync::LazyLock;

use dtoolkit::{Node as _, Property as _, fdt};
use proptest::{collection::vec, prelude::*, sample::Index};

use super::*;

/// Each board's blob with the node of its core.
static BOARDS: LazyLock<Vec<(&str, Vec<u8>)>> = LazyLock::new(|| {
    let boards = [
        ("m4_rproc", "stm32mp157"),
        ("rpmsg", "imx8mq-rpmsg"),
        ("m7", "imx8mp"),
        ("mcu_m4fss", "am62x"),
        ("wkup_r5fss0", "am62x"),
        ("r5f_0", "zynqmp"),
        ("core", "mps2-an385"),
    ];
    boards.map(|(node, name)| (node, board(name))).into()
});

/// Paths of all nodes in order, each with the names and values of its properties.
type Contents = Vec<(String, Vec<(String, Vec<u8>)>)>;

fn ours(blob: &[u8]) -> Option<Contents> {
    let tree = Tree::new(blob).ok()?;
    let contents = tree.nodes().map(|node| {
        let properties =
            node.properties().map(|property| (property.name.to_owned(), property.value.to_vec()));
        (node.path(), properties.collect())
    });
    Some(contents.collect())
}

fn theirs(blob: &[u8]) -> Option<Contents> {
    fn add(node: &fdt::FdtNode, path: &str, contents: &mut Contents) {
        let properties =
            node.properties().map(|property| (property.name().to_owned(), property.value().to_vec()));
        contents.push((path.to_owned(), properties.collect()));
        for child in node.children() {
            add(&child, &format!("{}/{}", path.trim_end_matches('/'), child.name()), contents);
        }
    }
    let mut contents = Vec::new();
    add(&fdt::Fdt::new(blob).ok()?.root(), "/", &mut contents);
    Some(contents)
}

#[test]
fn the_boards_trees_are_read_as_another_reader_reads_them() {
    for (node, blob) in BOARDS.iter() {
        // The other one refuses names of more than 31 characters, and the labels of one board are longer.
        match theirs(blob) {
            Some(theirs) => assert_eq!(ours(blob), Some(theirs), "{node}"),
            None => assert!(
                ours(blob).unwrap().iter().any(|(_, all)| all.iter().any(|(name, _)| name.len() > 31)),
                "{node}"
            ),
        }
    }
}

#[test]
fn every_truncation_of_a_boards_tree_is_refused() {
    for (node, blob) in BOARDS.iter() {
        for len in 0..blob.len() {
            assert!(
                matches!(read(&blob[..len], node), Err(DeviceTreeError::Malformed { .. })),
                "{node}: {len} bytes"
            );
        }
    }
}

/// Changes to a blob: bytes anywhere, or numbers where numbers mostly are.
fn changes() -> impl Strategy<Value = Vec<(Index, Option<u32>, u8)>> {
    let number = prop_oneof![0u32..32, Just(u32::MAX), any::<u32>(), (0u32..32).prop_map(|bit| 1 << bit)];
    vec((any::<Index>(), proptest::option::of(number), any::<u8>()), 1..6)
}

fn changed(blob: &[u8], changes: &[(Index, Option<u32>, u8)]) -> Vec<u8> {
    let mut blob = blob.to_vec();
    for (at, number, byte) in changes {
        match number {
            Some(number) => {
                let at = at.index(blob.len() / 4) * 4;
                blob[at..at + 4].copy_from_slice(&number.to_be_bytes());
            }
            None => {
                let at = at.index(blob.len());
                blob[at] = *byte;
            }
        }
    }
    blob
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn a_changed_tree_never_panics_and_what_is_found_is_in_bounds(board: Index, changes in changes()) {
        let (node, blob) = board.get(&BOARDS);
        match read(&changed(blob, &changes), node) {
            Ok(found) => {
                for region in &found.memory {
                    prop_assert!(region.span.size > 0 && region.span.address.checked_add(region.span.size).is_some());
                    prop_assert!(u64::from(region.device_address) + region.span.size <= 1 << 32);
                }
                prop_assert!(found.vdevs.iter().all(|vdev| !vdev.queues.is_empty()));
                let printed = found.to_string();
                prop_assert!(printed.bytes().all(|byte| matches!(byte, b' '..=b'~' | b'\n')), "{}", printed);
            }
            Err(error) => {
                let printed = error.to_string();
                prop_assert!(printed.starts_with("device tree") && printed.contains("expected"), "{}", printed);
                prop_assert!(printed.bytes().all(|byte| matches!(byte, b' '..=b'~')), "{}", printed);
            }
        }
    }

    #[test]
    fn where_two_readers_take_a_changed_tree_they_read_the_same(board: Index, changes in changes()) {
        let (_, blob) = board.get(&BOARDS);
        let blob = changed(blob, &changes);
        if let (Some(ours), Some(theirs)) = (ours(&blob), theirs(&blob)) {
            prop_assert_eq!(ours, theirs);
        }
    }

    #[test]
    fn arbitrary_bytes_never_panic(mut bytes in vec(any::<u8>(), 0..256), magic_is_right: bool) {
        if let (true, Some(magic)) = (magic_is_right, bytes.get_mut(..4)) {
            magic.copy_from_slice(&0xd00d_feed_u32.to_be_bytes());
        }
        prop_assert!(read(&bytes, "/").is_err());
    }
}
