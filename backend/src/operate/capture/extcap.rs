//! What Wireshark asks of a program in its extcap folder (`wireshark/doc/extcap.adoc`).
//!
//! The program answers so where it is called by the name [`NAME`], which is that of a symbolic link.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use clap::{CommandFactory, Parser};

use super::blocks::LINK_TYPE;
use super::client::CaptureCall;
use crate::operate::cli::capture::What;

/// The name of the program as an extcap.
pub const NAME: &str = "rpmsg-extcap";

/// The only interface that there is.
const INTERFACE: &str = "rpmsg";

/// Messages between virtual machines and a remote core, for Wireshark.
#[derive(Debug, Parser)]
#[command(name = NAME, version)]
pub struct Extcap {
    /// Print the interfaces
    #[arg(long, group = "question")]
    extcap_interfaces: bool,
    /// Print the link types of the interface
    #[arg(long, group = "question", requires = "extcap_interface")]
    extcap_dlts: bool,
    /// Print the options of the interface
    #[arg(long, group = "question", requires = "extcap_interface")]
    extcap_config: bool,
    /// Capture
    #[arg(long, group = "question", requires_all = ["extcap_interface", "fifo", "control"])]
    capture: bool,
    /// The interface
    #[arg(long, value_name = "NAME", value_parser = [INTERFACE])]
    extcap_interface: Option<String>,
    /// Version of the program that asks
    #[arg(long, value_name = "VERSION", num_args = 0..=1)]
    extcap_version: Option<String>,
    /// Pipe to write to
    #[arg(long, value_name = "PATH")]
    fifo: Option<PathBuf>,
    /// Control socket of the running program
    #[arg(long, value_name = "PATH")]
    control: Option<PathBuf>,
    #[command(flatten)]
    what: What,
}

/// What is to be done.
#[derive(Debug, PartialEq, Eq)]
pub enum Answer {
    /// Print this.
    Print(String),
    /// Capture.
    Capture(CaptureCall),
}

impl Extcap {
    /// Takes a command line apart, if it is that of an extcap. Wireshark leaves no choice but to end where it is wrong.
    pub fn of(arguments: &[OsString]) -> Option<Self> {
        let name = arguments.first().and_then(|program| Path::new(program).file_name());
        (name == Some(OsStr::new(NAME)))
            .then(|| Self::try_parse_from(arguments).unwrap_or_else(|error| error.exit()))
    }

    /// Decides what is to be done.
    pub fn answer(self) -> Answer {
        if self.extcap_interfaces {
            return Answer::Print(format!(
                "extcap {{version={}}}{{display=rpmsg}}\n\
                 interface {{value={INTERFACE}}}{{display=rpmsg of virtual machines}}\n",
                env!("CARGO_PKG_VERSION")
            ));
        }
        if self.extcap_dlts {
            return Answer::Print(format!("dlt {{number={LINK_TYPE}}}{{name=USER0}}{{display=rpmsg}}\n"));
        }
        match (self.capture, self.control, self.fifo) {
            (true, Some(control), Some(fifo)) => {
                Answer::Capture(CaptureCall { call: self.what.of(control), file: Some(fifo), ring: None })
            }
            _ if self.extcap_config => Answer::Print(options()),
            _ => Answer::Print(Self::command().render_help().to_string()),
        }
    }
}

/// The options of the interface, for a dialogue.
fn options() -> String {
    let options = [
        (
            "--control",
            "Control socket",
            "fileselect",
            "{required=true}",
            "The key control of the configuration",
        ),
        ("--remote", "Remote", "string", "", "Needed where there are several"),
        ("--vm", "VM", "string", "", "Messages of this VM only"),
        ("--service", "Service", "string", "", "Messages of this service only"),
        ("--snap-length", "Snap length", "unsigned", "", "Most bytes of each message, its header included"),
    ];
    let line = |(number, (call, display, kind, more, tip)): (usize, (&str, &str, &str, &str, &str))| {
        format!(
            "arg {{number={number}}}{{call={call}}}{{display={display}}}{{type={kind}}}{more}{{tooltip={tip}}}\n"
        )
    };
    options.into_iter().enumerate().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(arguments: &[&str]) -> Answer {
        let arguments: Vec<_> = ["/usr/lib/wireshark/extcap/rpmsg-extcap"]
            .iter()
            .chain(arguments)
            .map(|argument| OsString::from(*argument))
            .collect();
        Extcap::of(&arguments).expect("called by this name").answer()
    }

    #[test]
    fn wireshark_is_told_of_one_interface_with_its_link_type_and_options() {
        let Answer::Print(interfaces) = answer(&["--extcap-interfaces", "--extcap-version=4.0"]) else {
            panic!("no answer")
        };
        assert!(interfaces.contains("interface {value=rpmsg}"), "{interfaces}");
        let of = ["--extcap-interface", "rpmsg"];
        assert_eq!(
            answer(&[&["--extcap-dlts"], &of[..]].concat()),
            Answer::Print("dlt {number=147}{name=USER0}{display=rpmsg}\n".to_owned())
        );
        let Answer::Print(config) = answer(&[&["--extcap-config"], &of[..]].concat()) else {
            panic!("no answer")
        };
        assert_eq!(config.lines().count(), 5);
        assert!(config.starts_with("arg {number=0}{call=--control}"), "{config}");
    }

    #[test]
    fn a_program_of_another_name_is_no_extcap() {
        assert!(Extcap::of(&["vhost-device-rpmsg".into(), "--extcap-interfaces".into()]).is_none());
    }
}
