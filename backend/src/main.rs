//! `vhost-device-rpmsg`: see the crate's documentation for the map of the house, and `--help` for the options.

use std::error::Error;
use std::process::ExitCode;

use vhost_device_rpmsg::causes::Causes;
use vhost_device_rpmsg::operate::cli::{Action, CAPABILITIES, Cli, start_log};
use vhost_device_rpmsg::operate::serve::serve;
use vhost_device_rpmsg::torn::handle_bus_errors;

fn main() -> ExitCode {
    let cli = Cli::from_args(std::env::args_os()).unwrap_or_else(|error| error.exit());
    start_log(cli.log_level());
    match run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("vhost-device-rpmsg: {}", Causes(&*error));
            ExitCode::FAILURE
        }
    }
}

fn run(cli: Cli) -> Result<(), Box<dyn Error>> {
    match cli.action()? {
        Action::PrintCapabilities => println!("{CAPABILITIES}"),
        Action::Check(plan) => {
            print!("{plan}");
            plan.missing().iter().for_each(|note| println!("not on this host: {note}"));
        }
        Action::Serve(plan) => {
            handle_bus_errors()?;
            serve(&plan)?;
        }
        Action::Call(call) => call.run(&mut std::io::stdout())?,
    }
    Ok(())
}
