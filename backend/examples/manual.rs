//! Writes what the package has of the command line: manual pages (`man/`) and shell completions (`bash/`, `zsh/`, `fish/`).
//!
//! `cargo run --example manual -- DIRECTORY`. An example and no part of the program, so that the crates which write all this
//! are none of the program's either.

use std::error::Error;
use std::fs::{self, File};
use std::io::Write;
use std::path::PathBuf;

use clap::CommandFactory;
use clap_complete::Shell;
use vhost_device_rpmsg::operate::cli::Cli;

const NAME: &str = "vhost-device-rpmsg";
const PAGE: &str = "vhost-device-rpmsg.1";
const ZSH: &str = "_vhost-device-rpmsg";
const FISH: &str = "vhost-device-rpmsg.fish";

/// What there is to say of the program beyond its options.
const MORE: &str = r#".SH FILES
.TP
\fI/etc/vhost\-device\-rpmsg.toml\fR
What \fBvhost\-device\-rpmsg.service\fR serves. Its keys are described in
\fI/usr/share/doc/vhost\-device\-rpmsg/configuration.md\fR; configurations of boards are beside it in \fIexamples\fR.
.TP
\fI/run/rpmsg\fR
Sockets of the service, and how far the vrings of its cores have got.
.SH SIGNALS
.TP
\fBSIGHUP\fR
The executable that is installed now takes over, with the configuration that was read at the start. No VM notices. Where it does not
start, the one from before goes on.
.TP
\fBSIGTERM\fR, \fBSIGINT\fR, \fBSIGQUIT\fR
The program ends in good order.
.SH ENVIRONMENT
.TP
\fBRUST_LOG\fR
What to log on standard error; goes before \fB\-\-log\-level\fR.
.TP
\fBLISTEN_FDS\fR, \fBLISTEN_FDNAMES\fR, \fBLISTEN_PID\fR
Sockets that the service manager has opened, see \fBsd_listen_fds\fR(3). One that has the name of a VM or the path of its socket is
used for that VM; one that is called \fBcontrol\fR, or has that path, for requests at run time. Any other is an error.
.TP
\fBNOTIFY_SOCKET\fR
Where the service manager is told when every VM can connect, see \fBsd_notify\fR(3).
.SH EXIT STATUS
0 after an end that was asked for, or when the last front-end has gone and none can come; 1 after an error, which is
said on standard error; 2 for a command line that is none.
.SH SEE ALSO
\fI/usr/share/doc/vhost\-device\-rpmsg\fR: configuration.md, control.md (the protocol of the control socket), service.md
"#;

fn main() -> Result<(), Box<dyn Error>> {
    let directory: PathBuf = std::env::args_os().nth(1).ok_or("expected a directory to write to")?.into();
    let place = |name| {
        let path = directory.join(name);
        fs::create_dir_all(&path).map(|()| path)
    };
    // What each shell looks for.
    let shells = [("bash", Shell::Bash, NAME), ("zsh", Shell::Zsh, ZSH), ("fish", Shell::Fish, FISH)];
    for (name, shell, file) in shells {
        let mut file = File::create(place(name)?.join(file))?;
        clap_complete::generate(shell, &mut Cli::command(), NAME, &mut file);
    }
    let pages = place("man")?;
    clap_mangen::generate_to(Cli::command(), &pages)?;
    let mut page = File::options().append(true).open(pages.join(PAGE))?;
    page.write_all(MORE.as_bytes())?;
    Ok(())
}
