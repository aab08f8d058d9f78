//! The tests in which messages go one way only, and the channels that the guest announces itself.

use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, bail};

use crate::MAX_PAYLOAD;
use crate::channels;
use crate::control::Control;
use crate::endpoint::{Endpoint, Link, Target};
use crate::order::Order;
use crate::pattern;

/// While sending at full speed, what has come back is thrown away after so many messages.
const BATCH: u64 = 32;

/// How long a driver may take to find a new channel: it may be a module that is loaded first.
const DRIVER: Duration = Duration::from_secs(5);

/// Sends as fast as the device takes it.
pub(crate) fn flood(
    link: &mut Endpoint,
    limit: Duration,
    size: usize,
    timeout: Duration,
) -> anyhow::Result<()> {
    let mut message = vec![0; size];
    pattern::fill(&mut message);
    let mut buffer = [0; MAX_PAYLOAD];
    let (mut sent, mut received) = (0_u64, 0_u64);
    let start = Instant::now();
    let mut outcome = Ok(());
    while start.elapsed() < limit && outcome.is_ok() {
        outcome = link.send(&message, timeout);
        sent += u64::from(outcome.is_ok());
        if sent.is_multiple_of(BATCH) {
            while link.receive(&mut buffer, 0, Duration::ZERO)?.is_some() {
                received += 1;
            }
        }
    }
    let seconds = start.elapsed().as_secs_f64();
    println!(
        "sent={sent} received={received} seconds={seconds:.3} messages_per_second={:.0}",
        rate(sent, seconds)
    );
    outcome
}

/// Sends numbered messages.
pub(crate) fn send(link: &mut Endpoint, count: u32, size: usize, timeout: Duration) -> anyhow::Result<()> {
    let mut message = vec![0; size.max(4)];
    pattern::fill(&mut message);
    let start = Instant::now();
    for number in 0..count {
        message[..4].copy_from_slice(&number.to_le_bytes());
        link.send(&message, timeout)
            .with_context(|| format!("{number} of {count} messages were sent, then"))?;
    }
    let seconds = start.elapsed().as_secs_f64();
    println!("sent={count} seconds={seconds:.3} messages_per_second={:.0}", rate(u64::from(count), seconds));
    Ok(())
}

/// What a source is asked for, beside the number of messages.
#[derive(Clone, Copy)]
pub(crate) struct Request {
    /// Bytes of payload.
    pub(crate) size: usize,
    /// Microseconds from one message to the next.
    pub(crate) interval: u32,
}

/// Receives numbered messages.
pub(crate) fn receive(
    link: &mut Endpoint,
    count: u32,
    request: Option<Request>,
    timeout: Duration,
) -> anyhow::Result<()> {
    if count == 0 {
        bail!("expected at least one message, found --count 0");
    }
    if let Some(Request { size, interval }) = request {
        let words = [count, u32::try_from(size)?, interval];
        let message: Vec<_> = words.into_iter().flat_map(u32::to_le_bytes).collect();
        link.send(&message, timeout)?;
    }
    let mut buffer = [0; MAX_PAYLOAD];
    // A source that was asked starts at 0. One that runs by itself is joined at whatever number it has.
    let mut order = request.is_some().then(Order::default);
    let mut numbers: Option<(u32, u32)> = None;
    let mut corrupt = 0_u64;
    let start = Instant::now();
    let mut outcome = Ok(());
    while order.as_ref().map_or(0, Order::received) + corrupt < u64::from(count) {
        let Some(length) = link.receive(&mut buffer, 0, timeout)? else {
            outcome = Err(anyhow!("nothing came for {:.1} s", timeout.as_secs_f64()));
            break;
        };
        let message = &buffer[..length];
        let number = pattern::word(message, 0)
            .with_context(|| format!("expected a number of 4 bytes, found a message of {length}"))?;
        if request.as_ref().is_some_and(|request| !pattern::is_of_source(message, number, request.size)) {
            corrupt += 1;
            continue;
        }
        numbers = Some((numbers.map_or(number, |(first, _)| first), number));
        order.get_or_insert_with(|| Order::starting_at(number)).arrived(number);
    }
    let seconds = start.elapsed().as_secs_f64();
    let mut order = order.unwrap_or_default();
    if request.is_some() {
        order.ends_at(count);
    }
    let (first, last) = numbers.unwrap_or_default();
    println!(
        "{order} corrupt={corrupt} first={first} last={last} seconds={seconds:.3} messages_per_second={:.0}",
        rate(order.received(), seconds)
    );
    outcome?;
    if corrupt > 0 || !order.is_clean() {
        bail!("{corrupt} corrupt; {}", order.problems());
    }
    Ok(())
}

/// Announces a channel, counts what arrives while it is held, and withdraws it.
pub(crate) fn announce(name: &str, src: u32, hold: Duration) -> anyhow::Result<()> {
    let control = Control::open()?;
    control.create_channel(name, src)?;
    let channel = wait_for_driver(name, src).inspect_err(|_| {
        // Not announced, and not to be left behind. What is to be reported is why.
        let _ = control.release_channel(name, src);
    })?;
    println!("{channel}");
    if hold.is_zero() {
        return Ok(());
    }
    let received = match &channel.node {
        Some(node) if channel.driver.as_deref() == Some("rpmsg_chrdev") => {
            let mut endpoint = Endpoint::open(&Target::Node(node.clone()), true)?;
            count(&mut endpoint, hold)?
        }
        _ => {
            std::thread::sleep(hold);
            0
        }
    };
    control.release_channel(name, src)?;
    println!("withdrawn={name} src={src} received={received}");
    Ok(())
}

/// Withdraws a channel.
pub(crate) fn withdraw(name: &str, src: u32) -> anyhow::Result<()> {
    Control::open()?.release_channel(name, src)?;
    println!("withdrawn={name} src={src}");
    Ok(())
}

fn count(endpoint: &mut Endpoint, hold: Duration) -> anyhow::Result<u64> {
    let start = Instant::now();
    let mut buffer = [0; MAX_PAYLOAD];
    let mut received = 0;
    while endpoint.receive(&mut buffer, 0, hold.saturating_sub(start.elapsed()))?.is_some() {
        received += 1;
    }
    Ok(received)
}

fn wait_for_driver(name: &str, src: u32) -> anyhow::Result<channels::Channel> {
    let start = Instant::now();
    loop {
        let found = channels::named(name)?.into_iter().find(|channel| channel.src == src);
        let channel = found.with_context(|| format!("the kernel made no channel '{name}' at {src}"))?;
        if channel.driver.is_some() {
            return Ok(channel);
        }
        if start.elapsed() > DRIVER {
            bail!(
                "no driver takes a channel '{name}' (rpmsg-raw and rpmsg-tty have one), so Linux does not announce it"
            );
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[expect(clippy::cast_precision_loss, reason = "a rate for people to read")]
fn rate(count: u64, seconds: f64) -> f64 {
    count as f64 / seconds
}
