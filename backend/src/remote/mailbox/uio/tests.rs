//! UIO devices in a tree of ordinary files.

use std::os::unix::fs::FileExt;

use tempfile::TempDir;

use super::super::Registers;
use super::*;

/// Directories that look like `/sys/class/uio` and `/dev`.
pub(in crate::remote) struct Tree {
    folder: TempDir,
}

impl Tree {
    pub(in crate::remote) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("class")).unwrap();
        fs::create_dir(folder.path().join("dev")).unwrap();
        Tree { folder }
    }

    pub(in crate::remote) fn devices(&self) -> UioDevices {
        UioDevices::new(&self.folder.path().join("class"), &self.folder.path().join("dev"))
    }

    /// The device with these registers, open.
    pub(in crate::remote) fn open(&self, wanted: WantedRegisters<'_>) -> Result<UioDevice, UioError> {
        let map = self.devices().find(wanted.address, wanted.size, wanted.name)?;
        Ok(UioDevice { file: map.open()?, map })
    }

    /// These registers, for the test to look at.
    pub(in crate::remote) fn look_at(&self, wanted: WantedRegisters<'_>) -> MappedRegisters {
        let len = usize::try_from(wanted.size).unwrap();
        self.open(wanted).unwrap().map(len).unwrap()
    }

    /// Adds a device with maps of (address, size, offset). Its node is a file with a page for each map.
    pub(in crate::remote) fn add(&self, number: u32, name: &str, maps: &[(u64, u64, u64)]) -> File {
        let device = self.folder.path().join(format!("class/uio{number}"));
        fs::create_dir(&device).unwrap();
        fs::write(device.join("name"), format!("{name}\n")).unwrap();
        for (index, (address, size, offset)) in maps.iter().enumerate() {
            let map = device.join(format!("maps/map{index}"));
            fs::create_dir_all(&map).unwrap();
            fs::write(map.join("addr"), format!("{address:#018x}\n")).unwrap();
            fs::write(map.join("size"), format!("{size:#x}\n")).unwrap();
            fs::write(map.join("offset"), format!("{offset:#x}\n")).unwrap();
        }
        let path = self.node(number);
        fs::write(&path, []).unwrap();
        let node = File::options().read(true).write(true).open(path).unwrap();
        node.set_len((maps.len() * page_size()) as u64).unwrap();
        node
    }

    fn node(&self, number: u32) -> PathBuf {
        self.folder.path().join(format!("dev/uio{number}"))
    }
}

#[test]
fn a_controller_is_found_by_its_physical_address_and_its_registers_are_mapped() {
    let tree = Tree::new();
    tree.add(0, "other", &[(0x30AA_0000, 0x1000, 0)]);
    let node = tree.add(10, "mu", &[(0x3090_0000, 0x1000, 0), (0x30AB_0000, 0x1000, 0x140)]);
    let map = tree.devices().find(0x30AB_0140, 0x28, None).unwrap();
    assert_eq!(map, UioMap { device: tree.node(10), index: 1, offset: 0x140, size: 0x1000 - 0x140 });
    let registers = UioDevice { file: map.open().unwrap(), map }.map(0x28).unwrap();
    registers.write32(0x24, 0x1234_5678);
    let mut bytes = [0; 4];
    node.read_exact_at(&mut bytes, page_size() as u64 + 0x164).unwrap();
    assert_eq!(u32::from_le_bytes(bytes), 0x1234_5678);
}

#[test]
fn a_carveout_inside_a_map_is_found() {
    let tree = Tree::new();
    tree.add(3, "carveout", &[(0x9000_0000, 0x10_0000, 0)]);
    let map = tree.devices().find(0x9004_0000, 0xC_0000, None).unwrap();
    assert_eq!((map.index, map.offset, map.size, map.file_offset()), (0, 0x4_0000, 0xC_0000, 0));
    assert!(tree.devices().find(0x9004_0000, 0xC_0001, None).is_err(), "a range that reaches out of the map");
    assert!(tree.devices().find(u64::MAX, u64::MAX, None).is_err());
}

#[test]
fn of_controllers_in_one_page_the_one_that_starts_there_is_taken() {
    let tree = Tree::new();
    tree.add(1, "first", &[(0xFF99_0000, 0x1000, 0x400)]);
    tree.add(2, "second", &[(0xFF99_0000, 0x1000, 0x600)]);
    assert_eq!(tree.devices().find(0xFF99_0600, 0x20, None).unwrap().device, tree.node(2));
    assert_eq!(tree.devices().find(0xFF99_0620, 0x20, None).unwrap().device, tree.node(1));
}

#[test]
fn devices_with_the_same_address_are_told_apart_by_name() {
    let tree = Tree::new();
    tree.add(1, "ipcc-rx", &[(0x4C00_1000, 0x1000, 0)]);
    tree.add(2, "ipcc-tx", &[(0x4C00_1000, 0x1000, 0)]);
    assert_eq!(tree.devices().find(0x4C00_1000, 0x400, Some("ipcc-tx")).unwrap().device, tree.node(2));
    assert!(tree.devices().find(0x4C00_1000, 0x400, Some("ipcc")).is_err());
}

#[test]
fn what_was_looked_for_and_what_there_is_is_told() {
    let tree = Tree::new();
    let error = tree.devices().find(0x1000, 0x10, None).unwrap_err().to_string();
    assert!(
        error.starts_with("no UIO device maps the physical addresses 0x1000..0x1010, there are none;"),
        "{error}"
    );
    tree.add(12, "mailbox", &[(0x31F8_1000, 0x1000, 0)]);
    tree.add(2, "no-maps", &[]);
    let error = tree.devices().find(0x31F8_0000, 0x200, Some("mu")).unwrap_err().to_string();
    for part in
        ["called \"mu\"", "0x31f80000..0x31f80200", "uio12 \"mailbox\" map 0 0x31f81000..0x31f82000", "bind"]
    {
        assert!(error.contains(part), "{error}");
    }
}

#[test]
fn a_machine_without_uio_is_told_from_one_without_the_device() {
    let folder = tempfile::tempdir().unwrap();
    let devices = UioDevices::new(&folder.path().join("uio"), folder.path());
    let error = devices.find(0, 4, None).unwrap_err();
    assert!(matches!(error, UioError::NoClass { .. }), "{error}");
}

#[test]
fn a_node_that_cannot_be_opened_says_what_to_do() {
    let tree = Tree::new();
    tree.add(0, "mu", &[(0, 0x1000, 0)]);
    fs::remove_file(tree.node(0)).unwrap();
    let error = tree.devices().find(0, 4, None).unwrap().open().unwrap_err().to_string();
    assert!(error.contains("dev/uio0") && error.contains("udev"), "{error}");
}

#[test]
fn entries_that_are_no_maps_are_passed_over() {
    let tree = Tree::new();
    tree.add(0, "mu", &[(0x1000, 0x1000, 0)]);
    let class = tree.folder.path().join("class");
    fs::create_dir_all(class.join("uio0/maps/mapx")).unwrap();
    fs::create_dir_all(class.join("uio0/maps/map1")).unwrap();
    fs::write(class.join("uio0/maps/map1/addr"), "soon").unwrap();
    fs::create_dir_all(class.join("uiox/maps/map0")).unwrap();
    assert_eq!(tree.devices().find(0x1000, 4, None).unwrap().index, 0);
}

#[test]
fn a_controller_that_is_not_aligned_is_refused() {
    let tree = Tree::new();
    tree.add(0, "odd", &[(0x1000, 0x1000, 0)]);
    let map = tree.devices().find(0x1002, 4, None).unwrap();
    let error = UioDevice { file: map.open().unwrap(), map }.map(4).unwrap_err();
    assert!(matches!(error, UioError::Map { offset: 2, .. }), "{error}");
}
