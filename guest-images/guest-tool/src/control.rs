//! The requests of `/dev/rpmsg_ctrlN` (Linux `include/uapi/linux/rpmsg.h`).

use std::fs::{self, File, OpenOptions};
use std::os::fd::{AsFd, AsRawFd};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

use crate::channels;

/// `struct rpmsg_endpoint_info`.
#[repr(C)]
pub(crate) struct EndpointInfo {
    name: [u8; NAME_SIZE],
    src: u32,
    dst: u32,
}

/// RPMSG_NAME_SIZE, with the terminating zero.
const NAME_SIZE: usize = 32;

/// The type of all rpmsg requests.
const TYPE: u8 = 0xb5;

nix::ioctl_write_ptr!(create_endpoint, TYPE, 1, EndpointInfo);
nix::ioctl_none!(destroy_endpoint, TYPE, 2);
nix::ioctl_write_ptr!(create_channel, TYPE, 3, EndpointInfo);
nix::ioctl_write_ptr!(release_channel, TYPE, 4, EndpointInfo);

impl EndpointInfo {
    fn new(name: &str, src: u32, dst: u32) -> anyhow::Result<Self> {
        let mut info = Self { name: [0; NAME_SIZE], src, dst };
        match info.name.get_mut(..name.len()) {
            Some(space) if name.len() < NAME_SIZE => space.copy_from_slice(name.as_bytes()),
            _ => bail!("the name '{name}' is longer than {} bytes", NAME_SIZE - 1),
        }
        Ok(info)
    }
}

/// The device's own channel, through which the guest asks its kernel for endpoints and channels.
pub(crate) struct Control {
    file: File,
    node: PathBuf,
}

impl Control {
    /// Opens the first one: a guest of the tests has one rpmsg device.
    pub(crate) fn open() -> anyhow::Result<Self> {
        let channel = channels::find("rpmsg_ctrl")?;
        let node = channel.node.with_context(|| format!("no device node for {}", channel.device))?;
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .open(&node)
            .with_context(|| format!("cannot open {}", node.display()))?;
        Ok(Self { file, node })
    }

    /// Makes an endpoint device that sends to `dst`; gives its node.
    pub(crate) fn create_endpoint(&self, src: u32, dst: u32) -> anyhow::Result<PathBuf> {
        // The name goes nowhere but into sysfs, where it tells this endpoint from those of others.
        let name = format!("guest-tool.{}", std::process::id());
        let info = EndpointInfo::new(&name, src, dst)?;
        // SAFETY: the file is an rpmsg control device, whose request 1 reads a `struct rpmsg_endpoint_info`
        // at the address given; `info` is one and outlives the call.
        unsafe { create_endpoint(self.file.as_raw_fd(), &raw const info) }.with_context(|| {
            format!("{}: cannot create an endpoint for address {dst}", self.node.display())
        })?;
        endpoint_named(&name).with_context(|| format!("{}: made no endpoint", self.node.display()))
    }

    /// Makes a channel with a fixed address of the guest's own.
    pub(crate) fn create_channel(&self, name: &str, src: u32) -> anyhow::Result<()> {
        let info = EndpointInfo::new(name, src, channels::ANY)?;
        // SAFETY: as in `create_endpoint`, for request 3.
        unsafe { create_channel(self.file.as_raw_fd(), &raw const info) }.with_context(|| {
            format!("{}: cannot create the channel '{name}' at {src}", self.node.display())
        })?;
        Ok(())
    }

    /// Takes back what `create_channel` has made.
    pub(crate) fn release_channel(&self, name: &str, src: u32) -> anyhow::Result<()> {
        let info = EndpointInfo::new(name, src, channels::ANY)?;
        // SAFETY: as in `create_endpoint`, for request 4.
        unsafe { release_channel(self.file.as_raw_fd(), &raw const info) }.with_context(|| {
            format!("{}: cannot release the channel '{name}' at {src}", self.node.display())
        })?;
        Ok(())
    }
}

/// Removes the endpoint device that the open file belongs to.
pub(crate) fn destroy(endpoint: &impl AsFd) -> nix::Result<()> {
    // SAFETY: request 2 of an rpmsg endpoint device takes no argument.
    unsafe { destroy_endpoint(endpoint.as_fd().as_raw_fd()) }.map(drop)
}

fn endpoint_named(name: &str) -> Option<PathBuf> {
    fs::read_dir("/sys/class/rpmsg").ok()?.flatten().find_map(|entry| {
        let found = fs::read_to_string(entry.path().join("name")).ok()?;
        (found.trim_end() == name).then(|| Path::new("/dev").join(entry.file_name()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_leave_room_for_the_terminating_zero() {
        assert!(EndpointInfo::new(&"n".repeat(31), 0, 0).is_ok());
        assert!(EndpointInfo::new(&"n".repeat(32), 0, 0).is_err());
        assert!(EndpointInfo::new(&"n".repeat(33), 0, 0).is_err());
    }

    #[test]
    fn the_layout_is_the_kernels() {
        assert_eq!(size_of::<EndpointInfo>(), 40);
    }
}
