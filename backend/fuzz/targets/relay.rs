//! See [`vhost_device_rpmsg_fuzz::relay`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| vhost_device_rpmsg_fuzz::relay::run(data));
