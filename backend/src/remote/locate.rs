//! Where the resource table of a core is that runs already.

use std::io;
use std::path::Path;

use thiserror::Error;

use super::config::VringsConfig;
use super::layout::Layout;
use super::memory::{self, CarveoutError, Carveouts, open_uncached};

/// `struct rsc_tbl_data` of Linux `drivers/remoteproc/xlnx_r5_remoteproc.c`, packed: offsets in bytes.
mod header {
    pub(super) const MAGIC: usize = 4;
    pub(super) const COMPLEMENT: usize = 8;
    pub(super) const ADDRESS: usize = 16;
    pub(super) const LEN: usize = 24;
    /// "xamp" (`RSC_TBL_XLNX_MAGIC`).
    pub(super) const XAMP: u32 = 0x7861_6D70;
}

/// Where the registers of the machine are, by their physical addresses.
const DEV_MEM: &str = "/dev/mem";

/// Why nobody knows where the table is.
#[derive(Debug, Error)]
pub(super) enum LocateError {
    /// The firmware that was loaded has no table.
    #[error(
        "the firmware has no section `.resource_table` that is loaded; link it with one, or configure `vrings`"
    )]
    NotInFirmware,
    /// The header is not in the configured memory.
    #[error("the header with the address of the resource table is not in the remote core's memory")]
    HeaderOutside(#[source] CarveoutError),
    /// There is no header.
    #[error(
        "no header with the address of the resource table at device address {address:#x}: expected the magic numbers \
         {:#x} and {:#x}, found {magic:#x} and {complement:#x}; is the firmware up?",
        header::XAMP, !header::XAMP
    )]
    NoHeader {
        /// Where it should be.
        address: u64,
        /// The first magic number.
        magic: u32,
        /// The second one.
        complement: u32,
    },
    /// The register cannot be read.
    #[error(
        "cannot open {DEV_MEM} to read the register at {register:#x}, which has the address of the resource table"
    )]
    OpenRegister {
        /// Physical address of the register.
        register: u64,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The register cannot be mapped.
    #[error("cannot read the register at {register:#x}, which has the address of the resource table")]
    MapRegister {
        /// Physical address of the register.
        register: u64,
        /// Why.
        #[source]
        source: CarveoutError,
    },
    /// The register has no address.
    #[error(
        "the register at {register:#x} has no address of a resource table: found {found:#x}; has the bootloader started \
         the remote core?"
    )]
    EmptyRegister {
        /// Physical address of the register.
        register: u64,
        /// What is in it.
        found: u32,
    },
}

/// Finds out where the vrings of a core are, or what says it. `of_firmware` is the address of the table in firmware that
/// was loaded.
pub(super) fn layout(
    config: VringsConfig,
    memory: &Carveouts,
    of_firmware: Option<u64>,
) -> Result<Layout, LocateError> {
    let address = match config {
        VringsConfig::Table(address) => address,
        VringsConfig::TableOfFirmware => of_firmware.ok_or(LocateError::NotInFirmware)?,
        VringsConfig::TableByHeader(address) => by_header(memory, address)?,
        VringsConfig::TableByRegister { register, mask } => by_register(Path::new(DEV_MEM), register, mask)?,
        VringsConfig::Static(layout) => return Ok(Layout::Static(layout)),
    };
    Ok(Layout::Table { address })
}

/// The way of the ZynqMP: a header in the first region of the core's memory names the table.
fn by_header(memory: &Carveouts, address: u64) -> Result<u64, LocateError> {
    let header = memory.slice(address, header::LEN, 8).map_err(LocateError::HeaderOutside)?;
    let (magic, complement) = (header.read_u32(header::MAGIC), header.read_u32(header::COMPLEMENT));
    if magic != header::XAMP || complement != !header::XAMP {
        return Err(LocateError::NoHeader { address, magic, complement });
    }
    Ok(header.read_u64(header::ADDRESS))
}

/// The way of the STM32: whoever starts the core leaves the table's device address in a backup register.
fn by_register(file: &Path, register: u64, mask: u32) -> Result<u64, LocateError> {
    let file = open_uncached(file).map_err(|source| LocateError::OpenRegister { register, source })?;
    let memory = memory::register(&file, register);
    let found = memory.map_err(|source| LocateError::MapRegister { register, source })?.read_u32(0);
    match found & mask {
        0 => Err(LocateError::EmptyRegister { register, found }),
        address => Ok(address.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use rustix::param::page_size;

    use super::super::memory::Access;
    use super::super::memory::testing::carveouts;
    use super::*;

    #[test]
    fn a_header_with_its_magic_numbers_names_the_table() {
        let memory = carveouts(0x1000, 0x3ED0_0000, Access::Device);
        let header = memory.slice(0x3ED0_0000, 24, 8).unwrap();
        header.write_u32(0, 1);
        header.write_u32(4, 0x7861_6D70);
        header.write_u32(8, !0x7861_6D70);
        header.write_u32(12, 0x100);
        header.write_u64(16, 0x3ED0_0100);
        let config = VringsConfig::TableByHeader(0x3ED0_0000);
        assert_eq!(layout(config, &memory, None).unwrap(), Layout::Table { address: 0x3ED0_0100 });

        header.write_u32(8, 0);
        let error = layout(config, &memory, None).unwrap_err().to_string();
        assert!(error.contains("found 0x78616d70 and 0x0"), "{error}");
        let outside = VringsConfig::TableByHeader(0x3ED0_0FF0);
        assert!(matches!(layout(outside, &memory, None), Err(LocateError::HeaderOutside(_))));
    }

    #[test]
    fn a_register_holds_the_address_of_the_table_once_the_core_was_started() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        let mut registers = vec![0; 2 * page_size()];
        let at = page_size() + 0x144;
        registers[at..at + 4].copy_from_slice(&0x1000_0400_u32.to_le_bytes());
        file.write_all(&registers).unwrap();
        assert_eq!(by_register(file.path(), at as u64, u32::MAX).unwrap(), 0x1000_0400);
        let empty = by_register(file.path(), at as u64 + 4, u32::MAX).unwrap_err();
        assert!(matches!(empty, LocateError::EmptyRegister { found: 0, .. }), "{empty}");
        let beyond = by_register(file.path(), 4 * page_size() as u64, u32::MAX);
        assert!(matches!(beyond, Err(LocateError::MapRegister { .. })));
    }

    #[test]
    fn firmware_without_a_table_is_told_apart() {
        let memory = Carveouts::default();
        assert_eq!(
            layout(VringsConfig::TableOfFirmware, &memory, Some(64)).unwrap(),
            Layout::Table { address: 64 }
        );
        assert!(matches!(
            layout(VringsConfig::TableOfFirmware, &memory, None),
            Err(LocateError::NotInFirmware)
        ));
    }
}
