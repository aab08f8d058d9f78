//! Fuzz targets: what comes from guests, front-ends, remote cores and files, made up by a coverage-guided fuzzer.
//!
//! `ci/fuzz SECONDS` builds them and runs them all, each from the seeds in `seeds/NAME`. Each module is a target with one
//! function, `run`, that panics where something is wrong; the programs in `targets/` hand it to libFuzzer.
//!
//! | target | what is made up |
//! |---|---|
//! | [`rpmsg_codec`] | message headers, name service messages, addresses |
//! | [`resource_table`] | resource tables, and attaching by them |
//! | [`device_tree`] | device tree blobs |
//! | [`firmware`] | ELF files |
//! | [`config`] | TOML configurations |
//! | [`control`] | lines on the control socket |
//! | [`guest_queue`] | a guest's rings, changed between any two steps of the device |
//! | [`guest_race`] | the same, changed by another thread meanwhile |
//! | [`guest_reference`] | what a guest does to its rings, with the `virtio-queue` crate's device beside ours |
//! | [`vrings`] | what a remote core writes to its vrings and buffers |
//! | [`hostile_remote`] | the same, with the whole relay and guests behind it |
//! | [`relay`] | what guests do at a relay whose remote behaves, held against a simple model |
//! | [`keeper`] | vhost-user messages as the keeper remembers and replays them |
//! | [`journal`] | an area of state memory: snapshot and log |
//! | [`vhost_user`] | vhost-user messages and file descriptors, through the real gate and bridge |
//!
//! Seeds with a name are made by hand, those with a number were found by the fuzzer to lead somewhere. Device trees for
//! seeds are compiled from `dts/`.
//!
//! There is no address sanitizer: the memory that matters here is mapped, not allocated, and the sanitizer does not know
//! its bounds. So each target checks by itself that what it is given lies where it should.

use std::fs::File;
use std::io::Write;
use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::sync::Once;

use rustix::fs::{MemfdFlags, memfd_create};

pub mod config;
pub mod control;
pub mod device_tree;
pub mod firmware;
pub mod guest_queue;
pub mod guest_race;
pub mod guest_reference;
pub mod hostile_remote;
pub mod journal;
pub mod keeper;
pub mod relay;
pub mod resource_table;
pub mod rpmsg_codec;
pub mod vhost_user;
pub mod vrings;

/// A file of these bytes, and a path by which the code under test finds it, as long as the file is open.
fn file_with(bytes: &[u8]) -> (File, PathBuf) {
    let mut file = File::from(memfd_create("fuzz", MemfdFlags::CLOEXEC).expect("a memfd"));
    file.write_all(bytes).expect("a memfd takes what it is given");
    let path = PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()));
    (file, path)
}

/// Has everything that is logged put into words, which nobody reads: that must not go wrong either.
fn log_to_nobody() {
    struct Nobody;

    impl log::Log for Nobody {
        fn enabled(&self, _: &log::Metadata<'_>) -> bool {
            true
        }
        fn log(&self, record: &log::Record<'_>) {
            std::hint::black_box(record.args().to_string());
        }
        fn flush(&self) {}
    }

    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        log::set_logger(&Nobody).expect("nobody else sets a logger");
        log::set_max_level(log::LevelFilter::Info);
    });
}
