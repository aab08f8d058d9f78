//! TOML configurations: a plan that can be shown, or an error that names the file, and nothing else.

use vhost_device_rpmsg::causes::Causes;
use vhost_device_rpmsg::operate::config::{Sources, load};

use crate::{file_with, log_to_nobody};

/// The data is the file.
pub fn run(data: &[u8]) {
    log_to_nobody();
    // Trees are read from files of the host, which are not the fuzzer's to make up here.
    if data.windows(11).any(|word| word == b"device-tree") {
        return;
    }
    let (_file, path) = file_with(data);
    match load(&path, &Sources::of_host()) {
        Ok(plan) => std::hint::black_box(plan.to_string()),
        Err(error) => {
            let text = Causes(&error).to_string();
            assert!(text.contains(&path.display().to_string()), "names its file: {text}");
            text
        }
    };
}
