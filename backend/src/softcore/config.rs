//! What can be chosen about a soft core.

use std::time::Duration;

use thiserror::Error;

use super::{Kind, Layout, ServiceSpec};

/// Everything a [`super::SoftCore`] can be told before it starts.
#[derive(Clone, Debug)]
pub struct Config {
    /// Device address of the first byte of the memory. Memory must end below 2^32.
    pub device_address: u32,
    /// Size of the memory in bytes; `None` = what the buffers need, at least 1 MiB.
    pub memory_size: Option<u64>,
    /// Buffers (and descriptors) per direction: a power of two in 2..=1024.
    pub buffers: u16,
    /// Alignment of the vrings in bytes: a power of two in 16..=65536.
    pub align: u32,
    /// The resource table names the vrings' device addresses itself, instead of leaving them to the host.
    pub fixed_vrings: bool,
    /// Offer `VIRTIO_RPMSG_F_NS`, the name service.
    pub name_service: bool,
    /// Services that are there from each boot on. Those without an address get one from 0x400 on, in order.
    pub services: Vec<ServiceSpec>,
    /// Look at the vdev status by a timer: every millisecond while a host is connected but not up, every 50 ms
    /// while it is up. Without, only a doorbell makes the core look: no wake-ups at all when idle, but then the host
    /// has to ring after it has changed the status.
    pub status_poll: bool,
    /// How long to spin for more work before sleeping.
    pub spin: Duration,
    /// Habits of real firmware that a host has to survive.
    pub habits: Habits,
}

/// Habits of real firmware that a host has to survive. The default is a core without any.
#[derive(Clone, Debug, Default)]
pub struct Habits {
    /// What the core writes as the length of a used element.
    pub used_length: UsedLength,
    /// Write a buffer index and a hold count into `reserved` of the header: in what is sent, and in the host's own
    /// buffers as they are received (OpenAMP).
    pub scribble_reserved: bool,
    /// Gather up to this many of the host's buffers and return them in random order; whatever is gathered is
    /// returned when there is nothing else to do. 0 = in order.
    pub shuffle: u16,
    /// Seed of that order.
    pub seed: u64,
    /// Keep this many of the host's buffers as long as the link is up.
    pub keep: u16,
    /// Never tell the host of consumed buffers (rpmsg-lite).
    pub silent_consume: bool,
    /// Set `VRING_USED_F_NO_NOTIFY` while working, so that the host need not ring.
    pub suppress_kicks: bool,
    /// Keep only 16 bits of the address that an answer goes to (TI).
    pub short_addresses: bool,
}

/// What the core writes as the length of a used element.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum UsedLength {
    /// The bytes written: header and payload, or 0 for a buffer that was only read.
    #[default]
    Exact,
    /// The length of the whole buffer, whatever is in it (OpenAMP).
    Buffer,
}

/// Why a configuration cannot work.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum ConfigError {
    /// The number of buffers is not possible.
    #[error("{found} buffers per direction; expected a power of two from 2 to 1024")]
    Buffers {
        /// Number asked for.
        found: u16,
    },
    /// The alignment is not possible.
    #[error("vring alignment {found}; expected a power of two from 16 to 65536")]
    Align {
        /// Alignment asked for, in bytes.
        found: u32,
    },
    /// The memory does not hold the table, the vrings and the buffers.
    #[error(
        "memory of {found} bytes is too small for {buffers} buffers per direction, which need {needed} bytes"
    )]
    MemoryTooSmall {
        /// Size asked for, in bytes.
        found: u64,
        /// Buffers per direction.
        buffers: u16,
        /// Size that would do, in bytes.
        needed: u64,
    },
    /// The memory does not lie within the 32 bits of a device address.
    #[error("memory of {size} bytes at device address {address:#x} ends beyond 2^32")]
    BeyondAddressSpace {
        /// First device address.
        address: u32,
        /// Size in bytes.
        size: u64,
    },
    /// The device address does not begin a page.
    #[error("device address {found:#x}; expected a multiple of {expected:#x}")]
    Misaligned {
        /// Address asked for.
        found: u32,
        /// What it has to be a multiple of: a page, or the vring alignment where that is more.
        expected: u32,
    },
    /// The core would keep so many buffers that none is left to talk with.
    #[error(
        "keeping {keep} and gathering {shuffle} buffers leaves none of {buffers}; use less than that in all"
    )]
    KeepsAll {
        /// Buffers kept for good.
        keep: u16,
        /// Buffers gathered for shuffling.
        shuffle: u16,
        /// Buffers there are.
        buffers: u16,
    },
}

impl Default for Config {
    fn default() -> Self {
        Config {
            device_address: 0x2100_0000,
            memory_size: None,
            buffers: 256,
            align: 4096,
            fixed_vrings: false,
            name_service: true,
            services: Kind::ALL.into_iter().map(ServiceSpec::of_kind).collect(),
            status_poll: true,
            spin: Duration::ZERO,
            habits: Habits::default(),
        }
    }
}

impl Config {
    /// Where everything lies in the memory.
    ///
    /// # Errors
    /// The first thing that cannot be: see [`ConfigError`].
    pub fn layout(&self) -> Result<Layout, ConfigError> {
        let Habits { keep, shuffle, .. } = self.habits;
        if u32::from(keep) + u32::from(shuffle) >= u32::from(self.buffers) {
            return Err(ConfigError::KeepsAll { keep, shuffle, buffers: self.buffers });
        }
        Layout::new(self)
    }
}
