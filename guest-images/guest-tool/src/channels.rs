//! Which rpmsg channels there are and what Linux has made of them, read from sysfs.

use std::fmt;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

/// Every channel of every rpmsg bus is a link in this folder.
const DEVICES: &str = "/sys/bus/rpmsg/devices";

/// How often sysfs is looked at while waiting.
const INTERVAL: Duration = Duration::from_millis(20);

/// RPMSG_ADDR_ANY: no address of its own yet.
pub(crate) const ANY: u32 = u32::MAX;

/// The names that a stock driver takes and makes a device node for.
const WITH_NODE: [&str; 3] = ["rpmsg-raw", "rpmsg-tty", "rpmsg_ctrl"];

/// One channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Channel {
    /// The service's name.
    pub(crate) name: String,
    /// The guest's address.
    pub(crate) src: u32,
    /// The remote's address.
    pub(crate) dst: u32,
    /// The driver that has taken the channel.
    pub(crate) driver: Option<String>,
    /// The device node that the driver has made.
    pub(crate) node: Option<PathBuf>,
    /// The channel's name in sysfs.
    pub(crate) device: String,
}

impl Channel {
    fn read(directory: &Path) -> anyhow::Result<Self> {
        let attribute = |name: &str| {
            let path = directory.join(name);
            fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
        };
        let address = |name: &str| -> anyhow::Result<u32> {
            let text = attribute(name)?;
            parse_address(text.trim()).with_context(|| format!("{name} of {}: '{text}'", directory.display()))
        };
        let file_name = |path: &Path| path.file_name().map(|name| name.to_string_lossy().into_owned());
        Ok(Self {
            name: attribute("name")?.trim_end_matches('\n').to_owned(),
            src: address("src")?,
            dst: address("dst")?,
            driver: fs::read_link(directory.join("driver")).ok().as_deref().and_then(file_name),
            node: node_of(directory),
            device: file_name(directory).unwrap_or_default(),
        })
    }

    /// Whether the driver has done what can be expected of it.
    fn is_usable(&self) -> bool {
        self.node.is_some() || !WITH_NODE.contains(&self.name.as_str())
    }
}

impl fmt::Display for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "name={} src={} dst={}", self.name, Address(self.src), Address(self.dst))?;
        write!(f, " driver={}", self.driver.as_deref().unwrap_or("-"))?;
        match &self.node {
            Some(node) => write!(f, " node={}", node.display())?,
            None => write!(f, " node=-")?,
        }
        write!(f, " device={}", self.device)
    }
}

struct Address(u32);

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == ANY { f.write_str("any") } else { self.0.fmt(f) }
    }
}

/// Linux writes a channel's addresses as 0x..., an endpoint's as signed decimal.
pub(crate) fn parse_address(text: &str) -> Option<u32> {
    match text.strip_prefix("0x") {
        Some(digits) => u32::from_str_radix(digits, 16).ok(),
        None => text.parse::<i32>().ok().map(i32::cast_unsigned),
    }
}

/// The node a channel's driver made: below the channel, in the folder of the driver's class.
fn node_of(directory: &Path) -> Option<PathBuf> {
    let in_class = |class: &str| {
        fs::read_dir(directory.join(class))
            .ok()?
            .flatten()
            .map(|entry| entry.file_name())
            .min()
            .map(|name| Path::new("/dev").join(name))
    };
    in_class("rpmsg").or_else(|| in_class("tty")).filter(|node| node.exists())
}

/// All channels there are now, by address.
pub(crate) fn all() -> anyhow::Result<Vec<Channel>> {
    matching(|_| true)
}

/// The channels of one name. Only these are looked into: while channels come and go, every look into sysfs is
/// one more lock that the driver may find taken, in an interrupt.
pub(crate) fn named(name: &str) -> anyhow::Result<Vec<Channel>> {
    let part = format!(".{name}.");
    let mut channels = matching(|device| device.contains(&part))?;
    channels.retain(|channel| channel.name == name);
    Ok(channels)
}

/// The channels whose name in sysfs, which is BUS.NAME.SRC.DST, is `wanted`.
fn matching(wanted: impl Fn(&str) -> bool) -> anyhow::Result<Vec<Channel>> {
    let entries = match fs::read_dir(DEVICES) {
        Ok(entries) => entries,
        // The bus is a module: without a device there is none, and thus no channel.
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error).context(DEVICES),
    };
    // A channel that disappears while it is looked at is not there.
    let mut channels: Vec<_> = entries
        .flatten()
        .filter(|entry| wanted(&entry.file_name().to_string_lossy()))
        .filter_map(|entry| Channel::read(&entry.path()).ok())
        .collect();
    channels.sort_by(|a, b| (a.dst, &a.name, &a.device).cmp(&(b.dst, &b.name, &b.device)));
    Ok(channels)
}

/// The first channel of that name, or an error that names those there are.
pub(crate) fn find(name: &str) -> anyhow::Result<Channel> {
    let channels = all()?;
    match channels.iter().find(|channel| channel.name == name) {
        Some(channel) => Ok(channel.clone()),
        None => bail!("no channel '{name}', there are: {}", names(&channels)),
    }
}

fn names(channels: &[Channel]) -> String {
    match channels {
        [] => "none".to_owned(),
        _ => channels.iter().map(|channel| channel.name.as_str()).collect::<Vec<_>>().join(" "),
    }
}

/// `list`: one line per channel.
pub(crate) fn list() -> anyhow::Result<()> {
    for channel in all()? {
        println!("{channel}");
    }
    Ok(())
}

/// Looks until `done` gives something, and fails with what `problem` says after `timeout`.
fn poll<T>(
    timeout: Duration,
    mut done: impl FnMut() -> anyhow::Result<Option<T>>,
    problem: impl FnOnce() -> String,
) -> anyhow::Result<T> {
    let start = Instant::now();
    loop {
        if let Some(found) = done()? {
            return Ok(found);
        }
        if start.elapsed() >= timeout {
            bail!("{} after {:.1} s", problem(), timeout.as_secs_f64());
        }
        std::thread::sleep(INTERVAL);
    }
}

/// Waits until there are `count` usable channels of that name.
pub(crate) fn wait_for(name: &str, count: usize, timeout: Duration) -> anyhow::Result<Vec<Channel>> {
    poll(
        timeout,
        || {
            let channels = named(name)?;
            Ok((channels.len() >= count && channels.iter().all(Channel::is_usable)).then_some(channels))
        },
        || {
            let channels = all().unwrap_or_default();
            let same: Vec<_> = channels.iter().filter(|channel| channel.name == name).collect();
            match same.iter().find(|channel| !channel.is_usable()) {
                Some(channel) => format!("the channel '{name}' has no device node (found: {channel})"),
                None => {
                    format!("{} of {count} channels '{name}', there are: {}", same.len(), names(&channels))
                }
            }
        },
    )
}

/// `wait`: prints the channels once they are there.
pub(crate) fn wait(name: &str, count: usize, timeout: Duration) -> anyhow::Result<()> {
    for channel in wait_for(name, count, timeout)? {
        println!("{channel}");
    }
    Ok(())
}

/// `wait --gone`.
pub(crate) fn wait_gone(name: &str, timeout: Duration) -> anyhow::Result<()> {
    let start = Instant::now();
    poll(
        timeout,
        || Ok(named(name)?.is_empty().then_some(())),
        || format!("the channel '{name}' is still there"),
    )?;
    println!("gone={name} after_ms={}", start.elapsed().as_millis());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_as_linux_writes_them() {
        assert_eq!(parse_address("0x401"), Some(1025));
        assert_eq!(parse_address("0xffffffff"), Some(ANY));
        assert_eq!(parse_address("-1"), Some(ANY));
        assert_eq!(parse_address("1025"), Some(1025));
        assert_eq!(parse_address(""), None);
    }

    #[test]
    fn a_channel_is_one_line() {
        let channel = Channel {
            name: "rpmsg-raw".into(),
            src: ANY,
            dst: 1024,
            driver: Some("rpmsg_chrdev".into()),
            node: None,
            device: "virtio0.rpmsg-raw.-1.1024".into(),
        };
        assert_eq!(
            channel.to_string(),
            "name=rpmsg-raw src=any dst=1024 driver=rpmsg_chrdev node=- device=virtio0.rpmsg-raw.-1.1024"
        );
        assert!(!channel.is_usable(), "a driver that makes a node has not made it yet");
    }
}
