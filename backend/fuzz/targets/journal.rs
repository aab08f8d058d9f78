//! See [`vhost_device_rpmsg_fuzz::journal`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| vhost_device_rpmsg_fuzz::journal::run(data));
