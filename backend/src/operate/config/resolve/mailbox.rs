//! The mailbox of a remote core behind UIO.

use toml::Spanned;

use super::{absent, bytes, choice, number, start};
use crate::{
    operate::{
        config::{Fault, keys, keys::Key, raw},
        plan::MailboxPlan,
    },
    remote::{
        config::{HardwareMailbox, VringsConfig},
        mailbox::{IpccConfig, IpccNodes, IpiConfig, MuConfig, MuVersion, MuWord, OmapConfig, OmapVersion},
    },
};

/// Families of mailboxes, as far as their keys differ.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Family {
    Mu(MuVersion),
    Ipcc,
    Omap(OmapVersion),
    Ipi,
}

pub(super) fn mailbox(mailbox: &Spanned<raw::Mailbox>) -> Result<HardwareMailbox, Fault> {
    let table = start(mailbox);
    let mailbox = mailbox.get_ref();
    let kinds = [
        ("imx-mu", Family::Mu(MuVersion::V1)),
        ("imx-mu-v2", Family::Mu(MuVersion::V2)),
        ("stm32-ipcc", Family::Ipcc),
        ("omap-mailbox", Family::Omap(OmapVersion::Omap4)),
        ("omap2-mailbox", Family::Omap(OmapVersion::Omap2)),
        ("zynqmp-ipi", Family::Ipi),
    ];
    let family = choice(&keys::MAILBOX_KIND, Some(&mailbox.kind), &kinds)?;
    only_keys_of(family, mailbox)?;
    let address = bytes(&keys::MAILBOX_ADDRESS, &mailbox.address, |_| true)?;
    let required = |key: &Key, value: &Option<Spanned<i64>>, most: u8| match value {
        Some(value) => number(key, value, 0..=most),
        None => Err(Fault::new(key, table, "nothing")),
    };
    let mut channels = channels(mailbox.channels.as_deref())?;
    Ok(match family {
        Family::Mu(version) => HardwareMailbox::ImxMu {
            address,
            config: MuConfig {
                version,
                channel: optional(&keys::MAILBOX_CHANNEL, &mailbox.channel, 3)?.unwrap_or(1),
                word: choice(
                    &keys::MAILBOX_WORD,
                    mailbox.word.as_ref(),
                    &[("shifted", MuWord::Shifted), ("plain", MuWord::Plain)],
                )?,
            },
        },
        Family::Ipcc => HardwareMailbox::Stm32Ipcc {
            address,
            nodes: IpccNodes {
                receive: mailbox.receive_device.as_ref().map(|name| name.get_ref().clone()),
                transmit: mailbox.transmit_device.as_ref().map(|name| name.get_ref().clone()),
            },
            config: IpccConfig {
                processor: optional(&keys::MAILBOX_PROCESSOR, &mailbox.processor, 1)?.unwrap_or(0),
                vrings: channels.clone(),
                shut_down: of_its_own(&keys::MAILBOX_SHUT_DOWN, &mailbox.shut_down, &mut channels)?,
                detach: of_its_own(&keys::MAILBOX_DETACH, &mailbox.detach, &mut channels)?,
            },
        },
        Family::Omap(version) => HardwareMailbox::Omap {
            address,
            config: OmapConfig {
                version,
                receive_fifo: required(&keys::MAILBOX_RECEIVE_FIFO, &mailbox.receive_fifo, 15)?,
                transmit_fifo: {
                    let fifo = required(&keys::MAILBOX_TRANSMIT_FIFO, &mailbox.transmit_fifo, 15)?;
                    match &mailbox.transmit_fifo {
                        Some(value)
                            if mailbox.receive_fifo.as_ref().map(Spanned::get_ref)
                                == Some(value.get_ref()) =>
                        {
                            return Err(Fault::new(
                                &keys::MAILBOX_TRANSMIT_FIFO,
                                start(value),
                                fifo.to_string(),
                            ));
                        }
                        _ => fifo,
                    }
                },
                user: optional(&keys::MAILBOX_USER, &mailbox.user, 3)?.unwrap_or(0),
            },
        },
        Family::Ipi => HardwareMailbox::ZynqmpIpi(IpiConfig {
            channel: address,
            request_buffer: match &mailbox.request_buffer {
                Some(value) => bytes(&keys::MAILBOX_REQUEST_BUFFER, value, |_| true)?,
                None => return Err(Fault::new(&keys::MAILBOX_REQUEST_BUFFER, table, "nothing")),
            },
            remote: required(&keys::MAILBOX_REMOTE_BIT, &mailbox.remote_bit, 31)?,
        }),
    })
}

/// Demands that there are no keys of other families.
fn only_keys_of(family: Family, mailbox: &raw::Mailbox) -> Result<(), Fault> {
    let at = |value: &Option<Spanned<i64>>| value.as_ref().map(start);
    let text = |value: &Option<Spanned<String>>| value.as_ref().map(start);
    let mu = [(&keys::MAILBOX_CHANNEL, at(&mailbox.channel)), (&keys::MAILBOX_WORD, text(&mailbox.word))];
    let ipcc = [
        (&keys::MAILBOX_PROCESSOR, at(&mailbox.processor)),
        (&keys::MAILBOX_CHANNELS, mailbox.channels.as_ref().map(|list| list.first().map_or(0, start))),
        (&keys::MAILBOX_SHUT_DOWN, at(&mailbox.shut_down)),
        (&keys::MAILBOX_DETACH, at(&mailbox.detach)),
        (&keys::MAILBOX_RECEIVE_DEVICE, text(&mailbox.receive_device)),
        (&keys::MAILBOX_TRANSMIT_DEVICE, text(&mailbox.transmit_device)),
    ];
    let omap = [
        (&keys::MAILBOX_RECEIVE_FIFO, at(&mailbox.receive_fifo)),
        (&keys::MAILBOX_TRANSMIT_FIFO, at(&mailbox.transmit_fifo)),
        (&keys::MAILBOX_USER, at(&mailbox.user)),
    ];
    let ipi = [
        (&keys::MAILBOX_REQUEST_BUFFER, at(&mailbox.request_buffer)),
        (&keys::MAILBOX_REMOTE_BIT, at(&mailbox.remote_bit)),
    ];
    let with = format!("kind = {:?}", mailbox.kind.get_ref());
    let families: [(bool, &[_], &str); 4] = [
        (matches!(family, Family::Mu(_)), &mu, "kind = \"imx-mu\""),
        (family == Family::Ipcc, &ipcc, "kind = \"stm32-ipcc\""),
        (matches!(family, Family::Omap(_)), &omap, "kind = \"omap-mailbox\""),
        (family == Family::Ipi, &ipi, "kind = \"zynqmp-ipi\""),
    ];
    families
        .iter()
        .filter(|(is_its_own, ..)| !is_its_own)
        .try_for_each(|(_, keys, say)| absent(keys, &with, say))
}

fn optional(key: &Key, value: &Option<Spanned<i64>>, most: u8) -> Result<Option<u8>, Fault> {
    value.as_ref().map(|value| number(key, value, 0..=most)).transpose()
}

/// Channels of the vrings, two where nothing is said.
fn channels(values: Option<&[Spanned<i64>]>) -> Result<Vec<u8>, Fault> {
    let Some(values) = values else { return Ok(vec![0, 1]) };
    let mut channels = Vec::new();
    for value in values {
        let channel = number(&keys::MAILBOX_CHANNELS, value, 0..=15)?;
        if channels.contains(&channel) {
            return Err(Fault::new(&keys::MAILBOX_CHANNELS, start(value), format!("{channel} again")));
        }
        channels.push(channel);
    }
    Ok(channels)
}

/// A channel that is not among `taken`, and is then.
fn of_its_own(key: &Key, value: &Option<Spanned<i64>>, taken: &mut Vec<u8>) -> Result<Option<u8>, Fault> {
    let channel = optional(key, value, 15)?;
    if let (Some(value), Some(channel)) = (value, channel) {
        if taken.contains(&channel) {
            return Err(Fault::new(key, start(value), format!("{channel} again")));
        }
        taken.push(channel);
    }
    Ok(channel)
}

/// Demands that the mailbox has something to ring for every vring that is known to be used.
pub(super) fn covers(
    raw: Option<&Spanned<raw::Mailbox>>,
    mailbox: &MailboxPlan,
    vrings: VringsConfig,
) -> Result<(), Fault> {
    let MailboxPlan::Hardware(HardwareMailbox::Stm32Ipcc { config, .. }) = mailbox else { return Ok(()) };
    let devices = match vrings {
        VringsConfig::Static(layout) => layout.vdevs().into(),
        // At least one, or there is nothing to attach to.
        VringsConfig::Table(_)
        | VringsConfig::TableByHeader(_)
        | VringsConfig::TableByRegister { .. }
        | VringsConfig::TableOfFirmware => 1,
    };
    let found = config.vrings.len();
    if found >= 2 * devices {
        return Ok(());
    }
    let channels = raw.and_then(|raw| raw.get_ref().channels.as_ref()?.first());
    let at = channels.map(start).or_else(|| raw.map(start)).unwrap_or(0);
    Err(Fault::new(&keys::MAILBOX_CHANNELS, at, format!("{found} of them"))
        .expected(format!("{} channels, two for each of {devices} devices", 2 * devices)))
}
