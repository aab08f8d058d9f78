//! See [`vhost_device_rpmsg_fuzz::hostile_remote`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| vhost_device_rpmsg_fuzz::hostile_remote::run(data));
