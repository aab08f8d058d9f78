//! `vhost-device-rpmsg`: see the crate's documentation for the map of the house, and `--help` for the options.

use std::error::Error;
use std::ffi::OsString;
use std::process::ExitCode;

use vhost_device_rpmsg::causes::Causes;
use vhost_device_rpmsg::keeper::WORKER;
use vhost_device_rpmsg::keeper::handover::Handover;
use vhost_device_rpmsg::operate::capture::extcap::{Answer, Extcap};
use vhost_device_rpmsg::operate::cli::{Action, CAPABILITIES, Cli, start_log};
use vhost_device_rpmsg::operate::config::Sources;
use vhost_device_rpmsg::operate::keep::keep;
use vhost_device_rpmsg::operate::work::work;

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().collect();
    if arguments.get(1).is_some_and(|argument| argument == WORKER) {
        return exit_code(work().map_err(Into::into));
    }
    if let Some(extcap) = Extcap::of(&arguments) {
        return match extcap.answer() {
            Answer::Print(text) => {
                print!("{text}");
                ExitCode::SUCCESS
            }
            Answer::Capture(capture) => exit_code(capture.run().map_err(Into::into)),
        };
    }
    let cli = Cli::from_args(arguments.clone()).unwrap_or_else(|error| error.exit());
    start_log(cli.log_level());
    exit_code(run(cli, arguments))
}

fn run(cli: Cli, arguments: Vec<OsString>) -> Result<(), Box<dyn Error>> {
    let sources = Sources::of_host();
    match cli.action(&sources)? {
        Action::PrintCapabilities => println!("{CAPABILITIES}"),
        Action::Check(plan) => {
            print!("{plan}");
            plan.missing().iter().for_each(|note| println!("not on this host: {note}"));
        }
        Action::Serve(plan) => {
            return match keep(&plan, &Handover { arguments, files: sources.into_files() }) {
                // Not to be said twice.
                Err(error) if error.is_said() => std::process::exit(1),
                ended => Ok(ended?),
            };
        }
        Action::Call(call) => call.run(&mut std::io::stdout())?,
        Action::Top(top) => top.run()?,
        Action::Capture(capture) => capture.run()?,
        Action::Stream(stream) => stream.run()?,
    }
    Ok(())
}

fn exit_code(ended: Result<(), Box<dyn Error>>) -> ExitCode {
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("vhost-device-rpmsg: {}", Causes(&*error));
            ExitCode::FAILURE
        }
    }
}
