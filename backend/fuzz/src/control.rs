//! Lines on the control socket: each is answered by one line of JSON, in order.

use vhost_device_rpmsg::operate::control::fuzzing::converse;

use crate::log_to_nobody;

/// The data is what a client sends, in pieces that end at each zero byte.
pub fn run(data: &[u8]) {
    log_to_nobody();
    let pieces: Vec<_> = data.split(|byte| *byte == 0).collect();
    converse(&pieces);
}
