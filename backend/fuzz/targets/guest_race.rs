//! See [`vhost_device_rpmsg_fuzz::guest_race`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| vhost_device_rpmsg_fuzz::guest_race::run(data));
