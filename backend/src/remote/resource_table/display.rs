//! The table for people: what Linux shows in its debugfs file `resource_table`, a line per entry and vring.

use std::fmt;

use super::{ADDRESS_ANY, Entry, Name, Resource, ResourceTable, Vring};

impl fmt::Display for ResourceTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} entries, {} bytes", self.entries.len(), self.len)?;
        for (index, entry) in self.entries.iter().enumerate() {
            write!(f, "\nentry {index} {entry}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "at {:#x}: {}", self.offset, self.resource)
    }
}

impl fmt::Display for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Resource::Carveout(carveout) => write!(
                f,
                "carveout \"{}\", da {}, pa {:#x}, {:#x} bytes, flags {:#x}",
                carveout.name,
                address(carveout.da),
                carveout.pa,
                carveout.size,
                carveout.flags
            ),
            Resource::Devmem(devmem) => write!(
                f,
                "devmem \"{}\", da {:#x}, pa {:#x}, {:#x} bytes, flags {:#x}",
                devmem.name, devmem.da, devmem.pa, devmem.size, devmem.flags
            ),
            Resource::Trace(trace) => {
                write!(f, "trace \"{}\", da {}, {:#x} bytes", trace.name, address(trace.da), trace.size)
            }
            Resource::Vdev(vdev) => {
                write!(
                    f,
                    "vdev id {}, notifyid {:#x}, dfeatures {:#x}, gfeatures {:#x}, status {:#x}, {} bytes of config",
                    vdev.id, vdev.notifyid, vdev.dfeatures, vdev.gfeatures, vdev.status, vdev.config_len
                )?;
                for (index, vring) in vdev.vrings.iter().enumerate() {
                    write!(f, "\n  vring {index}: {vring}")?;
                }
                Ok(())
            }
            Resource::Vendor(opaque) => write!(f, "vendor's own, type {}", opaque.kind),
            Resource::Unknown(opaque) => write!(f, "unknown type {:#x}, ignored", opaque.kind),
        }
    }
}

impl fmt::Display for Vring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "da {}, {} descriptors, alignment {:#x}, notifyid {:#x}, pa {:#x}",
            address(self.da),
            self.num,
            self.align,
            self.notifyid,
            self.pa
        )
    }
}

impl fmt::Display for Name {
    /// Prints the name with everything that is not printable ASCII escaped: it comes from the remote and ends up in
    /// logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.as_bytes().escape_ascii())
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}

/// A device address that may have been left to the host.
fn address(da: Option<u32>) -> impl fmt::Display {
    struct Address(Option<u32>);
    impl fmt::Display for Address {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            match self.0 {
                Some(da) => write!(f, "{da:#x}"),
                None => write!(f, "{ADDRESS_ANY:#x} (any)"),
            }
        }
    }
    Address(da)
}
