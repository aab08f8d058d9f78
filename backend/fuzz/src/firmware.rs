//! ELF files: they are loaded within the remote core's memory, or refused and nothing is written.

use std::fs::File;

use vhost_device_rpmsg::causes::Causes;
use vhost_device_rpmsg::remote::firmware::Firmware;
use vhost_device_rpmsg::remote::memory::{Access, Carveouts, Region};

use crate::{file_with, log_to_nobody};

/// Bytes of each of the two regions, which lie behind one another with a gap.
const SIZE: usize = 0x1_0000;
const REGIONS: [u64; 2] = [0x0, 0x2000_0000];

/// The data is the file.
pub fn run(data: &[u8]) {
    log_to_nobody();
    let (_file, path) = file_with(data);
    let file = File::open(&path).expect("a memfd");
    let firmware = match Firmware::read(&path, &file) {
        Ok(firmware) => firmware,
        Err(error) => {
            std::hint::black_box(Causes(&error).to_string());
            return;
        }
    };
    let (backing, _) = file_with(&[]);
    backing.set_len(2 * SIZE as u64).expect("a memfd grows");
    let map = |(number, address)| {
        let offset = number * SIZE as u64;
        Region::map(&backing, offset, SIZE, address, Access::Device).expect("a memfd that is long enough")
    };
    let carveouts = Carveouts::new((0..).zip(REGIONS).map(map).collect());
    match firmware.load(&carveouts) {
        Ok(loaded) => assert_eq!(loaded.table, firmware.resource_table()),
        Err(error) => {
            std::hint::black_box(Causes(&error).to_string());
            for (_, slice) in carveouts.slices() {
                let mut bytes = vec![0; SIZE];
                slice.read_into(0, &mut bytes);
                assert!(bytes.iter().all(|byte| *byte == 0), "refused, and written nevertheless: {error}");
            }
        }
    }
}
