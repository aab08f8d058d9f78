//! The sub-command `capture`.

use std::path::PathBuf;

use clap::Args;

use crate::operate::capture::{Ring, client::CaptureCall};
use crate::operate::control::client::Call;
use crate::operate::control::{CaptureRequest, Request};
use crate::rpmsg::HEADER_LEN;

/// What is to be captured.
#[derive(Debug, Args)]
pub(in crate::operate) struct What {
    /// Remote whose messages are captured; needed where there are several
    #[arg(long, value_name = "NAME")]
    remote: Option<String>,
    /// VM whose messages are captured, instead of every VM's
    #[arg(long, value_name = "NAME")]
    vm: Vec<String>,
    /// Service whose messages are captured, instead of every message
    #[arg(long, value_name = "NAME")]
    service: Vec<String>,
    /// Most bytes of each message that are captured, its header of 16 bytes included
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(HEADER_LEN as i64..))]
    snap_length: Option<u32>,
}

/// A capture and where it goes.
#[derive(Debug, Args)]
pub(super) struct Capture {
    /// Control socket of the running program
    #[arg(long, value_name = "PATH")]
    control: PathBuf,
    #[command(flatten)]
    what: What,
    /// File or pipe to write to; the standard output where it is - or not said
    #[arg(long, value_name = "PATH")]
    file: Option<PathBuf>,
    /// Write to files PATH_00001 and so on, and keep the last N of them
    #[arg(long, value_name = "N", requires_all = ["file_size", "file"])]
    #[arg(value_parser = clap::value_parser!(u32).range(1..))]
    files: Option<u32>,
    /// Size at which the next of the files is begun: bytes, or with K, M or G behind the number
    #[arg(long, value_name = "SIZE", requires = "files", value_parser = size)]
    file_size: Option<u64>,
}

impl What {
    /// The request, to the program with this control socket.
    pub(in crate::operate) fn of(self, control: PathBuf) -> Call {
        let What { remote, vm, service, snap_length } = self;
        let request = Request::Capture(CaptureRequest { remote, vms: vm, services: service, snap_length });
        Call { control, request, json: false }
    }
}

impl From<Capture> for CaptureCall {
    fn from(Capture { control, what, file, files, file_size }: Capture) -> Self {
        let files = files.and_then(|files| usize::try_from(files).ok());
        CaptureCall {
            call: what.of(control),
            file: file.filter(|path| path.as_os_str() != "-"),
            ring: files.zip(file_size).map(|(files, size)| Ring { files, size }),
        }
    }
}

/// A number of bytes.
fn size(text: &str) -> Result<u64, String> {
    let (number, unit) = match text.split_at_checked(text.len().saturating_sub(1)) {
        Some((number, "K")) => (number, 1 << 10),
        Some((number, "M")) => (number, 1 << 20),
        Some((number, "G")) => (number, 1 << 30),
        _ => (text, 1),
    };
    let size = number.parse::<u64>().ok().and_then(|number| number.checked_mul(unit));
    size.filter(|size| *size > 0).ok_or_else(|| {
        format!("expected a number of bytes above 0, perhaps with K, M or G behind it, found {text:?}")
    })
}
