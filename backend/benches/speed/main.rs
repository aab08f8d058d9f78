//! How fast the program is (design section 12), and how fast anything on this machine can be: the floors that it is held against.
//!
//! Absolute figures move from machine to machine and from hour to hour; ratios within one run hardly do. So one run
//! measures everything, on two cores: guest and remote core are at [`cores::NEAR`], what is between them at [`cores::FAR`].
//!
//! | file | what is in it |
//! |---|---|
//! | `floors` | what the machine, the kernel and the virtio-queue crate cost |
//! | `program` | the real program between a guest and a remote core |
//! | `goals` | which goals are met |
//! | `repeat` | warming up, repeating, showing how far it is |
//! | `report` | the tables, and the JSON file and its format |
//! | `cores` | which core is whose |
//! | `peer` | a process of its own that answers |
//!
//! Run by `ci/bench`, or by `cargo bench --bench speed`.
#![forbid(unsafe_code)]

mod cores;
mod floors;
mod goals;
mod lean;
mod peer;
mod program;
mod repeat;
mod report;

#[path = "../../tests/harness/mod.rs"]
#[allow(dead_code, reason = "the bench needs only part of the harness")]
mod harness;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;

use peer::Part;
use report::Report;

/// Measures the program and the limits of this machine
#[derive(Parser)]
struct Arguments {
    /// Write the figures to this file too, as JSON
    #[arg(long)]
    json: Option<PathBuf>,
    /// Answer the process that has started this one, see `peer`
    #[arg(long, hide = true, requires = "core")]
    part: Option<Part>,
    /// The core to answer on
    #[arg(long, hide = true)]
    core: Option<usize>,
    /// What `cargo bench` passes to every benchmark
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if let (Some(part), Some(core)) = (arguments.part, arguments.core) {
        part.play(core);
    }
    if let Err(error) = cores::check() {
        eprintln!("speed: {error}");
        return ExitCode::FAILURE;
    }
    let mut report = Report::new();
    floors::measure(&mut report);
    program::measure(&mut report);
    goals::judge(&mut report);
    let Some(path) = arguments.json else { return ExitCode::SUCCESS };
    match report.write(&path) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("speed: cannot write the figures to {}: {error}", path.display());
            ExitCode::FAILURE
        }
    }
}
