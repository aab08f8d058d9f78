//! See [`vhost_device_rpmsg_fuzz::rpmsg_codec`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| vhost_device_rpmsg_fuzz::rpmsg_codec::run(data));
