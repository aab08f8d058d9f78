//! The tests against a peer that sends back what it gets.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, bail};

use nix::time::{ClockId, clock_getres};

use crate::endpoint::Link;
use crate::order::Order;
use crate::pattern::{self, Frame};
use crate::{MAX_PAYLOAD, Stream};

/// Every size from one byte to a whole buffer, one at a time.
pub(crate) fn sizes<L: Link>(link: &mut L, timeout: Duration) -> anyhow::Result<()> {
    // One byte more than can come, so that a message that is too long shows.
    let mut buffer = [0; MAX_PAYLOAD + 1];
    for size in 1..=MAX_PAYLOAD {
        let message = &mut buffer[..size];
        pattern::fill(message);
        link.send(message, timeout)
            .with_context(|| format!("{} of {MAX_PAYLOAD} sizes were right, then", size - 1))?;
        buffer.fill(0);
        let length = link.receive(&mut buffer, size, timeout)?.with_context(|| {
            format!("nothing back for {size} bytes within {:.1} s", timeout.as_secs_f64())
        })?;
        pattern::check(&buffer[..length], size).map_err(|problem| anyhow!("{problem}"))?;
    }
    println!("sizes={MAX_PAYLOAD}/{MAX_PAYLOAD}");
    Ok(())
}

/// A numbered stream, several messages under way.
pub(crate) fn stream<L: Link>(link: &mut L, options: &Stream, timeout: Duration) -> anyhow::Result<()> {
    // Tells this run's frames from those of an earlier one, or of another guest.
    let run = RandomState::new().build_hasher().finish().to_le_bytes();
    let run = u32::from_le_bytes([run[0], run[1], run[2], run[3]]);
    let start = Instant::now();
    let mut account = Account { order: Order::default(), sent: 0, corrupt: 0, foreign: 0 };
    let outcome = exchange(link, options, timeout, run, &mut account);
    let seconds = start.elapsed().as_secs_f64();

    account.order.ends_at(account.sent);
    let Account { order, sent, corrupt, foreign } = account;
    println!(
        "sent={sent} {order} corrupt={corrupt} foreign={foreign} seconds={seconds:.3} {}_per_second={:.0}",
        L::UNIT,
        f64::from(sent) / seconds
    );
    outcome?;
    if corrupt > 0 || foreign > 0 || !order.is_clean() {
        bail!("{corrupt} corrupt, {foreign} of another stream; {}", order.problems());
    }
    Ok(())
}

struct Account {
    order: Order,
    sent: u32,
    corrupt: u64,
    foreign: u64,
}

fn exchange<L: Link>(
    link: &mut L,
    options: &Stream,
    timeout: Duration,
    run: u32,
    account: &mut Account,
) -> anyhow::Result<()> {
    let start = Instant::now();
    let count = options.count.unwrap_or(if options.seconds.is_some() { u32::MAX } else { 10_000 });
    let mut buffer = [0; MAX_PAYLOAD + 1];
    loop {
        let in_time = options.seconds.is_none_or(|limit| start.elapsed() < limit);
        let more = account.sent < count && in_time;
        let under_way = u64::from(account.sent).saturating_sub(account.order.distinct() + account.corrupt);
        if more && under_way < u64::from(options.window) {
            let frame = &mut buffer[..pattern::size_of(account.sent, options.size)];
            pattern::encode(frame, account.sent, run);
            link.send(frame, timeout)?;
            account.sent += 1;
            continue;
        }
        if !more && under_way == 0 {
            return Ok(());
        }
        let expected = pattern::size_of(u32::try_from(account.order.received())?, options.size);
        let Some(length) = link.receive(&mut buffer, expected, timeout)? else {
            bail!(
                "nothing came back for {:.1} s with {under_way} {} under way",
                timeout.as_secs_f64(),
                L::UNIT
            );
        };
        match pattern::decode(&buffer[..length], run) {
            Frame::Whole(number) if number < account.sent => account.order.arrived(number),
            Frame::Foreign => account.foreign += 1,
            Frame::Whole(_) | Frame::Corrupt => account.corrupt += 1,
        }
        if account.corrupt > 100 {
            bail!("given up after {} corrupt {}", account.corrupt, L::UNIT);
        }
    }
}

/// Round trips, one at a time.
pub(crate) fn ping<L: Link>(link: &mut L, count: u64, size: usize, timeout: Duration) -> anyhow::Result<()> {
    if count == 0 {
        bail!("expected at least one round trip, found --count 0");
    }
    let mut message = vec![0; size];
    pattern::fill(&mut message);
    let mut buffer = [0; MAX_PAYLOAD + 1];
    let mut times = Vec::new();
    for round in 0..count + count / 10 {
        let start = Instant::now();
        link.send(&message, timeout)?;
        let length = link.receive(&mut buffer, size, timeout)?.with_context(|| {
            format!("round trip {round}: nothing back within {:.1} s", timeout.as_secs_f64())
        })?;
        let time = start.elapsed();
        if buffer[..length] != message {
            bail!("round trip {round}: what came back is not what was sent");
        }
        if round >= count / 10 {
            times.push(time.as_nanos());
        }
    }
    times.sort_unstable();
    let at = |percent: usize| times[(times.len() - 1) * percent / 100];
    println!(
        "count={} size={size} clock_ns={} min_ns={} p50_ns={} p99_ns={} max_ns={}",
        times.len(),
        clock_resolution()?.as_nanos(),
        at(0),
        at(50),
        at(99),
        at(100)
    );
    Ok(())
}

/// A guest whose TSC could not be measured while it booted (on a busy host) counts in ticks of milliseconds,
/// and so do its results.
fn clock_resolution() -> anyhow::Result<Duration> {
    Ok(clock_getres(ClockId::CLOCK_MONOTONIC).context("clock_getres")?.into())
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::*;

    /// A peer in memory; `change` may drop, double or spoil what it sends back.
    struct Loop<F> {
        queue: VecDeque<Vec<u8>>,
        change: F,
        count: u32,
    }

    impl<F: FnMut(u32, Vec<u8>) -> Vec<Vec<u8>>> Link for Loop<F> {
        const UNIT: &'static str = "messages";

        fn send(&mut self, data: &[u8], _: Duration) -> anyhow::Result<()> {
            self.queue.extend((self.change)(self.count, data.to_vec()));
            self.count += 1;
            Ok(())
        }

        fn receive(&mut self, buffer: &mut [u8], _: usize, _: Duration) -> anyhow::Result<Option<usize>> {
            Ok(self.queue.pop_front().map(|message| {
                buffer[..message.len()].copy_from_slice(&message);
                message.len()
            }))
        }
    }

    fn peer<F: FnMut(u32, Vec<u8>) -> Vec<Vec<u8>>>(change: F) -> Loop<F> {
        Loop { queue: VecDeque::new(), change, count: 0 }
    }

    fn stream_of(count: u32) -> Stream {
        Stream { count: Some(count), seconds: None, window: 8, size: 0 }
    }

    #[test]
    fn an_honest_echo_passes() {
        let mut honest = peer(|_, message| vec![message]);
        sizes(&mut honest, Duration::ZERO).unwrap();
        stream(&mut honest, &stream_of(1000), Duration::ZERO).unwrap();
        ping(&mut honest, 10, 16, Duration::ZERO).unwrap();
    }

    #[test]
    fn a_lost_message_is_named() {
        let mut loses = peer(|count, message| if count == 5 { vec![] } else { vec![message] });
        let error = stream(&mut loses, &stream_of(100), Duration::ZERO).unwrap_err();
        assert!(error.to_string().contains("1 messages under way"), "{error}");
    }

    #[test]
    fn a_doubled_message_is_named() {
        let mut doubles =
            peer(|count, message| if count == 5 { vec![message.clone(), message] } else { vec![message] });
        let error = stream(&mut doubles, &stream_of(100), Duration::ZERO).unwrap_err();
        assert!(error.to_string().contains("1 doubled, the first of them number 5"), "{error}");
    }

    #[test]
    fn a_spoilt_message_is_counted() {
        let mut spoils = peer(|count, mut message| {
            if count == 5 {
                message[9] ^= 0x80;
            }
            vec![message]
        });
        assert!(stream(&mut spoils, &stream_of(100), Duration::ZERO).is_err());
    }

    #[test]
    fn a_size_that_comes_back_shorter_is_refused() {
        let mut cuts = peer(|_, mut message| {
            message.truncate(300);
            vec![message]
        });
        let error = sizes(&mut cuts, Duration::ZERO).unwrap_err();
        assert!(error.to_string().contains("expected 301 bytes back, found 300"), "{error}");
    }
}
