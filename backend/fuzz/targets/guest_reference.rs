//! See [`vhost_device_rpmsg_fuzz::guest_reference`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| vhost_device_rpmsg_fuzz::guest_reference::run(data));
