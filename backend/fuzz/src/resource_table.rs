//! Resource tables: reading, showing, and attaching to a remote core whose memory begins with one.

use vhost_device_rpmsg::remote::attach::{attach, read_table};
use vhost_device_rpmsg::remote::layout::Layout;
use vhost_device_rpmsg::remote::memory::{Access, Carveouts, Region};
use vhost_device_rpmsg::remote::resource_table::ResourceTable;
use vhost_device_rpmsg::remote::trace::TraceBuffer;

use crate::{file_with, log_to_nobody};

/// Where the remote sees its memory.
const BASE: u64 = 0x2100_0000;
/// Bytes of it: enough for small vrings and their buffers.
const SIZE: usize = 0x2_0000;

/// The data is what the memory begins with.
pub fn run(data: &[u8]) {
    log_to_nobody();
    if let Ok(table) = ResourceTable::parse(data) {
        assert!(table.len() <= data.len(), "a table within its bytes");
        std::hint::black_box(table.to_string());
    }
    let data = &data[..data.len().min(SIZE)];
    let (file, _) = file_with(data);
    file.set_len(SIZE as u64).expect("a memfd grows");
    let region = Region::map(&file, 0, SIZE, BASE, Access::Normal).expect("a memfd that is long enough");
    let carveouts = Carveouts::new(vec![region]);
    let bytes = |carveouts: &Carveouts| {
        let mut bytes = vec![0; data.len()];
        carveouts.slice(BASE, data.len(), 1).expect("the region").read_into(0, &mut bytes);
        bytes
    };
    let mut len = 0;
    if let Ok((table, ..)) = read_table(&carveouts, BASE) {
        len = table.len().min(data.len());
        for trace in table.traces() {
            if let Ok(Some(buffer)) = TraceBuffer::new(&carveouts, trace) {
                std::hint::black_box(buffer.text());
            }
        }
    }
    match attach(&carveouts, &Layout::Table { address: BASE }, 1, &mut |_| {}) {
        Ok((attachment, mut devices)) => {
            assert!(!devices.is_empty() && attachment.is_untouched());
            for device in &mut devices {
                // An idle remote: nothing has come, everything can be sent.
                assert!(matches!(device.inbound.take(), Ok(None)));
                assert_eq!(device.outbound.in_flight(), 0);
            }
            // Entries may share bytes, so what is written to one may be nonsense in another.
            attachment.detach();
            assert_eq!(bytes(&carveouts)[..len], data[..len], "the table is put back");
        }
        Err(error) => {
            std::hint::black_box(vhost_device_rpmsg::causes::Causes(&error).to_string());
            assert_eq!(bytes(&carveouts), data, "nothing is written where nothing is attached: {error}");
        }
    }
}
