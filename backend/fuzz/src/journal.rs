//! An area of state memory: snapshot and log.

use vhost_device_rpmsg::bridge::journal::fuzzing::open;

use crate::log_to_nobody;

/// The data is what stands in the area behind its magic number and version.
pub fn run(data: &[u8]) {
    log_to_nobody();
    open(data);
}
