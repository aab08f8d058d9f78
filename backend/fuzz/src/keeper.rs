//! Vhost-user messages as the keeper remembers and replays them.

use vhost_device_rpmsg::keeper::fuzzing::converse;

use crate::log_to_nobody;

/// The data is what a front-end sends, in pieces: how many descriptors come with it, its length, and so many bytes.
pub fn run(data: &[u8]) {
    log_to_nobody();
    let mut pieces = Vec::new();
    let mut rest = data;
    while let [fds, len, tail @ ..] = rest {
        let (piece, tail) = tail.split_at(tail.len().min(usize::from(*len)));
        pieces.push((usize::from(*fds % 10), piece));
        rest = tail;
        if pieces.len() > 64 {
            break;
        }
    }
    converse(&pieces);
}
