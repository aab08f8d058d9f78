//! What has to be known of a remote core beforehand.

use std::fs::File;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::host::MailboxPart;
use super::layout::StaticLayout;
use super::mailbox::{
    ImxMu, IpccConfig, IpccNodes, IpiConfig, MuConfig, OmapConfig, OmapMailbox, Stm32Ipcc, WantedRegisters,
    ZynqmpIpi,
};
use super::memory::Access;
use super::power::Switch;
use super::presence::Presence;
use super::recovery::RecoveryConfig;

/// Where a remote core is, how to reach it, and what to do about its life.
#[derive(Debug)]
pub struct RemoteConfig {
    /// Its name, for people.
    pub name: String,
    /// Its mailbox.
    pub mailbox: MailboxConfig,
    /// Its memory.
    pub memory: Vec<MemoryConfig>,
    /// How its vrings are found.
    pub vrings: VringsConfig,
    /// Attach by table and status alone when the remote answers nothing for this long.
    pub attach_after: Option<Duration>,
    /// How it is started; `None` for a core that somebody else starts.
    pub boot: Option<BootConfig>,
    /// What to do when it has crashed.
    pub recovery: RecoveryConfig,
    /// How it is found out that it has.
    pub watch: WatchConfig,
    /// Where its memory is dumped when it has crashed: a directory.
    pub dump: Option<PathBuf>,
    /// Whether what is remembered of it outlives the program, which then leaves a core that others have started as it is.
    pub is_remembered: bool,
    /// Cores that have to be up before it is, and stay up longer.
    pub after: Vec<Arc<Presence>>,
}

impl RemoteConfig {
    /// A core that is attached to when it is there, with everything else as it is by default.
    pub fn attached(
        name: &str,
        mailbox: MailboxConfig,
        memory: Vec<MemoryConfig>,
        vrings: VringsConfig,
    ) -> Self {
        RemoteConfig {
            name: name.to_owned(),
            mailbox,
            memory,
            vrings,
            attach_after: None,
            boot: None,
            recovery: RecoveryConfig::default(),
            watch: WatchConfig::default(),
            dump: None,
            is_remembered: false,
            after: Vec::new(),
        }
    }
}

/// The mailbox of a remote core.
#[derive(Debug)]
pub enum MailboxConfig {
    /// The doorbell socket that it listens on.
    Path(PathBuf),
    /// A doorbell connection that is already there. When it closes, the core is gone for good.
    Stream(Option<UnixStream>),
    /// Registers of the host's.
    Hardware(HardwareMailbox),
}

/// A mailbox of the host's: its family, and where it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HardwareMailbox {
    /// NXP i.MX messaging unit.
    ImxMu {
        /// Physical address of its registers.
        address: u64,
        /// What else is to be known.
        config: MuConfig,
    },
    /// ST inter-processor communication controller.
    Stm32Ipcc {
        /// Physical address of its registers.
        address: u64,
        /// Its UIO devices.
        nodes: IpccNodes,
        /// What else is to be known.
        config: IpccConfig,
    },
    /// TI/OMAP mailbox.
    Omap {
        /// Physical address of its registers.
        address: u64,
        /// What else is to be known.
        config: OmapConfig,
    },
    /// Zynq UltraScale+ inter-processor interrupt.
    ZynqmpIpi(IpiConfig),
}

impl HardwareMailbox {
    /// The registers that a UIO device of this mailbox must map; none where the mailbox has no such part.
    pub fn registers(&self, part: MailboxPart) -> Option<WantedRegisters<'_>> {
        match (self, part) {
            (HardwareMailbox::ImxMu { address, config }, MailboxPart::First) => {
                Some(ImxMu::registers(*address, *config))
            }
            (HardwareMailbox::Stm32Ipcc { address, nodes, .. }, MailboxPart::First) => {
                Some(Stm32Ipcc::registers(*address, nodes))
            }
            (HardwareMailbox::Stm32Ipcc { address, nodes, .. }, MailboxPart::Second) => {
                Stm32Ipcc::transmit_registers(*address, nodes)
            }
            (HardwareMailbox::Omap { address, .. }, MailboxPart::First) => {
                Some(OmapMailbox::registers(*address))
            }
            (HardwareMailbox::ZynqmpIpi(config), MailboxPart::First) => Some(ZynqmpIpi::registers(*config)),
            (HardwareMailbox::ZynqmpIpi(config), MailboxPart::Second) => Some(ZynqmpIpi::buffer(*config)),
            (HardwareMailbox::ImxMu { .. } | HardwareMailbox::Omap { .. }, MailboxPart::Second) => None,
        }
    }
}

/// How the vrings of a remote core are found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VringsConfig {
    /// The resource table at this device address names them.
    Table(u64),
    /// The resource table of the firmware that is loaded names them.
    TableOfFirmware,
    /// The resource table names them, whose address is in a header at this device address (ZynqMP).
    TableByHeader(u64),
    /// The resource table names them, whose device address is in a register of the host's (STM32).
    TableByRegister {
        /// Physical address of the register, a multiple of 4.
        register: u64,
        /// Bits of the register that are the address.
        mask: u32,
    },
    /// There is no table.
    Static(StaticLayout),
}

/// A stretch of a remote core's memory.
#[derive(Debug)]
pub struct MemoryConfig {
    /// The file that holds it.
    pub file: MemoryFile,
    /// Where in the file it starts, in bytes.
    pub offset: u64,
    /// Its size in bytes.
    pub size: usize,
    /// Where the remote core sees it.
    pub device_address: u64,
    /// Where descriptors say that it is.
    pub physical_address: u64,
    /// How the CPU reaches it.
    pub access: Access,
    /// What it is for, if not for anything.
    pub name: Option<String>,
    /// Whether it can be done without, where the host does not have it.
    pub is_optional: bool,
}

impl MemoryConfig {
    /// All of a file that is open already, as ordinary memory that has one address for everybody.
    pub fn whole(file: File, size: usize, device_address: u64) -> Self {
        MemoryConfig {
            file: MemoryFile::Open(file),
            offset: 0,
            size,
            device_address,
            physical_address: device_address,
            access: Access::Normal,
            name: None,
            is_optional: false,
        }
    }
}

/// A file with a remote core's memory.
#[derive(Debug)]
pub enum MemoryFile {
    /// By its path; opened when the core is there.
    Path(PathBuf),
    /// The UIO device that maps the physical address.
    Uio,
    /// Open already.
    Open(File),
}

/// How a core is started and stopped by us.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BootConfig {
    /// ELF file to be loaded into its memory; `None` where the switch sees to that.
    pub firmware: Option<PathBuf>,
    /// What starts and stops it.
    pub switch: Switch,
    /// Start with the first VM that uses the core and stop after the last, rather than with the program.
    pub on_demand: bool,
}

/// How it is noticed that a core is not well, besides what it says itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WatchConfig {
    /// Ask this often whether it is well; an answer that is not there when the next one is due is missing.
    pub heartbeat: Option<Duration>,
    /// It hangs when it has consumed nothing for this long, although it has messages.
    pub hang_after: Option<Duration>,
    /// A device that becomes readable when the core's watchdog has fired.
    pub watchdog: Option<PathBuf>,
}
