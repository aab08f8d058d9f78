//! Where the resource table of a core is that runs already.

use thiserror::Error;

use super::config::VringsConfig;
use super::host::{Host, HostError};
use super::layout::Layout;
use super::memory::{CarveoutError, Carveouts};

/// `struct rsc_tbl_data` of Linux `drivers/remoteproc/xlnx_r5_remoteproc.c`, packed: offsets in bytes.
mod header {
    pub(super) const MAGIC: usize = 4;
    pub(super) const COMPLEMENT: usize = 8;
    pub(super) const ADDRESS: usize = 16;
    pub(super) const LEN: usize = 24;
    /// "xamp" (`RSC_TBL_XLNX_MAGIC`).
    pub(super) const XAMP: u32 = 0x7861_6D70;
}

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
    #[error(transparent)]
    Register(#[from] HostError),
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
    host: &dyn Host,
) -> Result<Layout, LocateError> {
    let address = match config {
        VringsConfig::Table(address) => address,
        VringsConfig::TableOfFirmware => of_firmware.ok_or(LocateError::NotInFirmware)?,
        VringsConfig::TableByHeader(address) => by_header(memory, address)?,
        VringsConfig::TableByRegister { register, mask } => by_register(host, register, mask)?,
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
fn by_register(host: &dyn Host, register: u64, mask: u32) -> Result<u64, LocateError> {
    let found = host.table_register()?;
    match found & mask {
        0 => Err(LocateError::EmptyRegister { register, found }),
        address => Ok(address.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::host::{Answer, Request, Told};
    use super::super::memory::Access;
    use super::super::memory::testing::carveouts;
    use super::*;

    /// A host that has nothing but the register, with this in it.
    #[derive(Debug)]
    struct Register(u32);

    impl Host for Register {
        fn ask(&self, request: &Request) -> Result<Answer, HostError> {
            assert_eq!(*request, Request::TableRegister);
            Ok(Told::Value(self.0).into())
        }
    }

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
        assert_eq!(
            layout(config, &memory, None, &Register(0)).unwrap(),
            Layout::Table { address: 0x3ED0_0100 }
        );

        header.write_u32(8, 0);
        let error = layout(config, &memory, None, &Register(0)).unwrap_err().to_string();
        assert!(error.contains("found 0x78616d70 and 0x0"), "{error}");
        let outside = VringsConfig::TableByHeader(0x3ED0_0FF0);
        assert!(matches!(layout(outside, &memory, None, &Register(0)), Err(LocateError::HeaderOutside(_))));
    }

    #[test]
    fn a_register_holds_the_address_of_the_table_once_the_core_was_started() {
        let memory = carveouts(0x1000, 0x1000_0000, Access::Normal);
        let held = |value, mask| {
            let config = VringsConfig::TableByRegister { register: 0x5C00_A144, mask };
            layout(config, &memory, None, &Register(value))
        };
        assert_eq!(held(0x1000_0401, !1).unwrap(), Layout::Table { address: 0x1000_0400 });
        let empty = held(1, !1).unwrap_err();
        assert!(matches!(empty, LocateError::EmptyRegister { found: 1, .. }), "{empty}");
    }

    #[test]
    fn firmware_without_a_table_is_told_apart() {
        let memory = Carveouts::default();
        assert_eq!(
            layout(VringsConfig::TableOfFirmware, &memory, Some(64), &Register(0)).unwrap(),
            Layout::Table { address: 64 }
        );
        assert!(matches!(
            layout(VringsConfig::TableOfFirmware, &memory, None, &Register(0)),
            Err(LocateError::NotInFirmware)
        ));
    }
}
