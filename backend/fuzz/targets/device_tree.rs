//! See [`vhost_device_rpmsg_fuzz::device_tree`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| vhost_device_rpmsg_fuzz::device_tree::run(data));
