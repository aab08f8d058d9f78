//! How a remote core is started and stopped, and what is done when it has crashed.

use std::path::PathBuf;

use toml::Spanned;

use super::{absent, bytes, choice, number, path_of, start, time};
use crate::{
    operate::config::{Fault, keys, keys::Key, raw},
    remote::{
        config::BootConfig,
        power::{Register, Switch},
        recovery::{RecoveryConfig, RecoveryPolicy},
    },
};

/// Where the registers of the machine are, by their physical addresses.
const DEV_MEM: &str = "/dev/mem";

pub(super) fn boot(boot: &Spanned<raw::Boot>) -> Result<BootConfig, Fault> {
    let table = start(boot);
    let boot = boot.get_ref();
    let on_demand = choice(&keys::BOOT_WHEN, boot.when.as_ref(), &[("always", false), ("needed", true)])?;
    let command = [
        (&keys::BOOT_START, boot.start.as_ref().map(start)),
        (&keys::BOOT_STOP, boot.stop.as_ref().map(start)),
    ];
    let remoteproc = [(&keys::BOOT_REMOTEPROC, boot.remoteproc.as_ref().map(start))];
    let register = [
        (&keys::BOOT_REGISTER, boot.register.as_ref().map(start)),
        (&keys::BOOT_MASK, boot.mask.as_ref().map(start)),
        (&keys::BOOT_START_VALUE, boot.start_value.as_ref().map(start)),
        (&keys::BOOT_STOP_VALUE, boot.stop_value.as_ref().map(start)),
    ];
    let file = || boot.firmware.as_ref().map(|path| path_of(&keys::BOOT_FIRMWARE, path)).transpose();
    if let Some(directory) = &boot.remoteproc {
        absent(&command, "`remoteproc`", "`start` and `stop` alone")?;
        absent(&register, "`remoteproc`", "`register` alone")?;
        let directory = path_of(&keys::BOOT_REMOTEPROC, directory)?;
        // The kernel loads it.
        file()?;
        let firmware = boot.firmware.as_ref().map(|name| name.get_ref().clone());
        return Ok(BootConfig { firmware: None, switch: Switch::Sysfs { directory, firmware }, on_demand });
    }
    if let Some(address) = &boot.register {
        absent(&command, "`register`", "`start` and `stop` alone")?;
        let switch = Switch::Register(self::register(boot, address, table)?);
        return Ok(BootConfig { firmware: file()?, switch, on_demand });
    }
    absent(&register, "no `register`", "`register` too")?;
    absent(&remoteproc, "`start`", "`remoteproc` alone")?;
    let (Some(start), Some(stop)) = (&boot.start, &boot.stop) else {
        return Err(Fault::new(&keys::BOOT, table, "none of them")
            .remedy("a remote that somebody else starts has no such table"));
    };
    let switch =
        Switch::Command { start: words(&keys::BOOT_START, start)?, stop: words(&keys::BOOT_STOP, stop)? };
    Ok(BootConfig { firmware: file()?, switch, on_demand })
}

/// A program and its arguments.
fn words(key: &Key, command: &Spanned<Vec<String>>) -> Result<Vec<String>, Fault> {
    let words = command.get_ref();
    let is_command = words.first().is_some_and(|program| !program.is_empty())
        && !words.iter().any(|word| word.contains('\0'));
    if is_command { Ok(words.clone()) } else { Err(Fault::new(key, start(command), format!("{words:?}"))) }
}

fn register(boot: &raw::Boot, address: &Spanned<i64>, table: usize) -> Result<Register, Fault> {
    let base = bytes(&keys::BOOT_REGISTER, address, |address| address.is_multiple_of(4))?;
    let of = |key: &Key, value: &Option<Spanned<i64>>| match value {
        Some(value) => number(key, value, 0..=u32::MAX).map(|number| (number, start(value))),
        None => Err(Fault::new(key, table, "nothing")),
    };
    let (mask, at) = of(&keys::BOOT_MASK, &boot.mask)?;
    if mask == 0 {
        return Err(Fault::new(&keys::BOOT_MASK, at, "0"));
    }
    let within = |key: &Key, value| {
        let (value, at) = of(key, value)?;
        if value & !mask == 0 {
            return Ok(value);
        }
        Err(Fault::new(key, at, format!("{value:#x}")).expected(format!("bits of the mask {mask:#x}")))
    };
    Ok(Register {
        file: PathBuf::from(DEV_MEM),
        base,
        offset: 0,
        mask,
        start: within(&keys::BOOT_START_VALUE, &boot.start_value)?,
        stop: within(&keys::BOOT_STOP_VALUE, &boot.stop_value)?,
    })
}

/// `is_booted`: the remote is started by this program.
pub(super) fn recovery(
    recovery: Option<&Spanned<raw::Recovery>>,
    is_booted: bool,
) -> Result<RecoveryConfig, Fault> {
    let usual = if is_booted { RecoveryPolicy::Reboot } else { RecoveryPolicy::Reattach };
    let Some(recovery) = recovery.map(Spanned::get_ref) else {
        return Ok(RecoveryConfig { policy: usual, ..RecoveryConfig::default() });
    };
    let choices = [
        ("reattach", RecoveryPolicy::Reattach),
        ("reboot", RecoveryPolicy::Reboot),
        ("off", RecoveryPolicy::Off),
    ];
    let policy = match &recovery.policy {
        None => usual,
        given => choice(&keys::RECOVERY_POLICY, given.as_ref(), &choices)?,
    };
    if let Some(value) = recovery.policy.as_ref().filter(|_| policy == RecoveryPolicy::Reboot && !is_booted) {
        let fault = Fault::new(&keys::RECOVERY_POLICY, start(value), "\"reboot\"");
        return Err(fault
            .expected("\"reattach\" or \"off\" for a remote that somebody else starts")
            .remedy("say in `remote.boot` how it is started"));
    }
    let limit = recovery.limit.as_ref().map(|value| number(&keys::RECOVERY_LIMIT, value, 1..=1_000_000));
    let back_off = recovery.back_off.as_ref().map(|value| time(&keys::RECOVERY_BACK_OFF, value));
    Ok(RecoveryConfig {
        policy,
        limit: limit.transpose()?,
        back_off: back_off.transpose()?.unwrap_or(RecoveryConfig::BACK_OFF),
    })
}
