//! Single values: of the right form and in their range.

use std::{ops::RangeInclusive, path::PathBuf, time::Duration};

use toml::Spanned;

use crate::{
    bridge::policy::Turns,
    operate::config::{Fault, keys::Key},
    rpmsg::{ANY_ADDRESS, NAME_SERVICE_ADDRESS},
};

/// Longest time that can be asked for.
const MAX_TIME: Duration = Turns::MAX_TIME;

pub(super) fn start<T>(value: &Spanned<T>) -> usize {
    value.span().start
}

/// Demands that keys are left out which do not go with what another key says. `say` is the remedy that keeps them.
pub(super) fn absent(keys: &[(&Key, Option<usize>)], with: &str, say: &str) -> Result<(), Fault> {
    match keys.iter().find_map(|(key, at)| Some((key, (*at)?))) {
        None => Ok(()),
        Some((key, at)) => Err(Fault::of(key.path, at, format!("no such key with {with}"), "one")
            .remedy(format!("remove it, or say {say}"))),
    }
}

/// What one of several words stands for; the first of them where the key is left out.
pub(super) fn choice<T: Copy>(
    key: &Key,
    value: Option<&Spanned<String>>,
    choices: &[(&str, T)],
) -> Result<T, Fault> {
    let Some(value) = value else { return Ok(choices[0].1) };
    match choices.iter().find(|(word, _)| word == value.get_ref()) {
        Some((_, choice)) => Ok(*choice),
        None => Err(Fault::new(key, start(value), format!("{:?}", value.get_ref()))),
    }
}

/// A number in a range.
pub(super) fn number<T>(key: &Key, value: &Spanned<i64>, range: RangeInclusive<T>) -> Result<T, Fault>
where
    T: TryFrom<i64> + PartialOrd,
{
    T::try_from(*value.get_ref())
        .ok()
        .filter(|number| range.contains(number))
        .ok_or_else(|| Fault::new(key, start(value), value.get_ref().to_string()))
}

/// A number of bytes that is not negative and meets `condition`.
pub(super) fn bytes(key: &Key, value: &Spanned<i64>, condition: impl Fn(u64) -> bool) -> Result<u64, Fault> {
    u64::try_from(*value.get_ref())
        .ok()
        .filter(|number| condition(*number))
        .ok_or_else(|| Fault::new(key, start(value), value.get_ref().to_string()))
}

/// A device address that is a multiple of `align`.
pub(super) fn device_address(key: &Key, value: &Spanned<i64>, align: u32) -> Result<u32, Fault> {
    address(key, value, |address| address.is_multiple_of(align))
}

/// The address of an endpoint at the remote.
pub(super) fn remote_address(key: &Key, value: &Spanned<i64>) -> Result<u32, Fault> {
    address(key, value, |address| address != ANY_ADDRESS && address != NAME_SERVICE_ADDRESS)
}

fn address(key: &Key, value: &Spanned<i64>, condition: impl Fn(u32) -> bool) -> Result<u32, Fault> {
    u32::try_from(*value.get_ref())
        .ok()
        .filter(|address| condition(*address))
        .ok_or_else(|| Fault::new(key, start(value), hex(*value.get_ref())))
}

/// A path that a file can have.
pub(super) fn path_of(key: &Key, path: &Spanned<String>) -> Result<PathBuf, Fault> {
    let text = path.get_ref();
    if text.is_empty() || text.contains('\0') {
        return Err(Fault::new(key, start(path), format!("{text:?}")));
    }
    Ok(PathBuf::from(text))
}

/// A time with its unit.
pub(super) fn time(key: &Key, value: &Spanned<String>) -> Result<Duration, Fault> {
    let text = value.get_ref().as_str();
    let (number, unit) = text.split_at(text.bytes().take_while(u8::is_ascii_digit).count());
    let milliseconds_per_unit = match unit {
        "ms" => Some(1),
        "s" => Some(1000),
        "min" => Some(60_000),
        _ => None,
    };
    milliseconds_per_unit
        .zip(number.parse::<u64>().ok())
        .and_then(|(unit, number)| number.checked_mul(unit))
        .map(Duration::from_millis)
        .filter(|time| !time.is_zero() && *time <= MAX_TIME)
        .ok_or_else(|| Fault::new(key, start(value), format!("{text:?}")))
}

/// An address as people write it, also where it is none.
fn hex(value: i64) -> String {
    if value < 0 { value.to_string() } else { format!("{value:#x}") }
}
