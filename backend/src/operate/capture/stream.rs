//! The program's side: a thread that writes what is captured to a client of the control socket.
//!
//! It ends when the client says something, or hangs up, or shuts its half of the connection down: then what is in the rings is
//! still written, and the statistics. While the client does not read, the thread waits, and the rings lose records.

use std::io::{self, Write};
use std::os::unix::net::UnixStream;
use std::thread::Builder;

use log::{info, warn};

use super::blocks::Blocks;
use crate::bridge::capture::{Capture, Waited};
use crate::causes::Causes;
use crate::operate::control::Stream;

/// Most rounds of records that are written once the client wants no more.
const LAST_ROUNDS: usize = 64;

/// What writes this capture to a client, behind the line that tells of it.
pub(in crate::operate) fn stream(remote: &str, snap_length: usize, capture: Capture) -> Stream {
    let remote = remote.to_owned();
    Box::new(move |client, line| {
        let thread = Builder::new().name("capture".to_owned()).spawn(move || {
            info!("remote {remote}: a capture begins");
            match write(&client, &line, &remote, snap_length, capture) {
                Ok(()) => info!("remote {remote}: the capture has ended"),
                Err(error) => info!("remote {remote}: the capture has ended: {}", Causes(&error)),
            }
        });
        if let Err(error) = thread {
            warn!("control: no thread for a capture: {error}");
        }
    })
}

fn write(
    mut client: &UnixStream,
    line: &[u8],
    remote: &str,
    snap_length: usize,
    mut capture: Capture,
) -> io::Result<()> {
    client.set_nonblocking(false)?;
    client.write_all(line)?;
    let mut blocks = Blocks::new(remote, snap_length).map_err(io::Error::other)?;
    let mut waited = Waited::News;
    while waited == Waited::News {
        let taken = capture.take(&mut blocks);
        blocks.statistics(|slot| capture.lost(slot), false);
        client.write_all(&blocks.take())?;
        waited = capture.wait(client, taken > 0)?;
    }
    for _ in 0..LAST_ROUNDS {
        if capture.take(&mut blocks) == 0 {
            break;
        }
        client.write_all(&blocks.take())?;
    }
    blocks.statistics(|slot| capture.lost(slot), true);
    client.write_all(&blocks.take())
}
