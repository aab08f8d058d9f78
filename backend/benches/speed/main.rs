//! How fast the program is (design section 12), and how fast anything on this machine can be: the floors that it is held against.
//!
//! Absolute figures move from machine to machine and from hour to hour; ratios within one run hardly do. So one run
//! measures everything, on two cores: guest and remote core are at [`cores::NEAR`], what is between them at [`cores::FAR`].
//!
//! | file | what is in it |
//! |---|---|
//! | `floors` | what the machine, the kernel and the virtio-queue crate cost |
//! | `lean` | a guest's driver and a remote's firmware that do no more than they must |
//! | `program` | the real program between guests and a remote core |
//! | `goals` | which goals are met |
//! | `repeat` | warming up, repeating, showing how far it is |
//! | `steady` | measuring again where the cores have moved |
//! | `report` | the tables, and the JSON file and its format |
//! | `compare` | this run beside an earlier one |
//! | `plot` | drawings of it |
//! | `cores` | which core is whose |
//! | `peer` | a process of its own that answers |
//!
//! Run by `ci/bench`, or by `cargo bench --features bench --bench speed`.
#![forbid(unsafe_code)]

mod compare;
mod cores;
mod floors;
mod goals;
mod lean;
mod peer;
mod plot;
mod program;
mod repeat;
mod report;
mod steady;

#[path = "../../tests/harness/mod.rs"]
#[allow(dead_code, reason = "the bench needs only part of the harness")]
mod harness;
#[path = "../relay.rs"]
#[allow(dead_code, reason = "a benchmark of its own, too")]
mod relay;

use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use vhost_device_rpmsg::causes::Causes;

use peer::Part;
use report::Report;

/// Measures the program and the limits of this machine
#[derive(Parser)]
struct Arguments {
    /// Write the figures to this file too, as JSON, and drawings of them beside it
    #[arg(long)]
    json: Option<PathBuf>,
    /// Compare with the JSON file of an earlier run
    #[arg(long)]
    against: Option<PathBuf>,
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
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("speed: {}", Causes(&*error));
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<(), Box<dyn Error>> {
    cores::check()?;
    // Whether that works is better known before everything is measured.
    let earlier = arguments.against.as_deref().map(compare::read).transpose()?;
    let mut report = Report::new();
    program::measure(&mut report);
    goals::judge(&mut report);
    if let Some(earlier) = &earlier {
        compare::print(earlier, &report);
    }
    if let Some(path) = &arguments.json {
        report.write(path)?;
        plot::latency(&report, &path.with_file_name("latency.svg"))?;
        plot::throughput(&report, &path.with_file_name("throughput.svg"))?;
    }
    Ok(())
}
