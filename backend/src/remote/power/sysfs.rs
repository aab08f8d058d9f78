//! Linux's remoteproc, through its files in sysfs (`Documentation/ABI/testing/sysfs-class-remoteproc`).
//!
//! | file | read | written |
//! |---|---|---|
//! | `state` | `offline`, `running`, `crashed`, `attached`, `detached`, ... | `start`, `stop` |
//! | `firmware` | name of the firmware | another one, while offline |
//! | `recovery` | | `recover`: boot it anew after a crash |
//!
//! The kernel counts who has started a core and takes a crashed one as still started: `start` would do nothing then, and
//! `stop` is refused (`rproc_boot` and `rproc_shutdown` in `remoteproc_core.c`).

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use super::{PowerError, Step};

const OFFLINE: &str = "offline";
const RUNNING: &str = "running";
const CRASHED: &str = "crashed";
const ATTACHED: &str = "attached";
const DETACHED: &str = "detached";
/// All states (`rproc_state_string`).
const STATES: [&str; 8] = [OFFLINE, "suspended", RUNNING, CRASHED, "deleted", ATTACHED, DETACHED, "invalid"];

/// Between two looks at the state. The kernel does not tell of its changes, but mostly answers a write only when the
/// new state has come.
const INTERVAL: Duration = Duration::from_millis(10);

pub(super) fn start(directory: &Path, firmware: Option<&str>, limit: Duration) -> Result<(), PowerError> {
    let found = state(directory)?;
    match found.as_str() {
        OFFLINE => {
            if let Some(firmware) = firmware {
                write(directory, "firmware", firmware)?;
            }
            write(directory, "state", "start")?;
        }
        CRASHED => write(directory, "recovery", "recover")?,
        _ => {
            let remedy = match found.as_str() {
                RUNNING | ATTACHED => "stop it first, or attach to it as it is",
                DETACHED => "the boot loader has started it: attach to it as it is",
                _ => "the kernel's log may say more",
            };
            let (step, path) = (Step::Start, state_file(directory));
            return Err(PowerError::State {
                step,
                path,
                found,
                expected: "\"offline\" or \"crashed\"",
                remedy,
            });
        }
    }
    wait(directory, Step::Start, &found, RUNNING, limit)
}

pub(super) fn stop(directory: &Path, limit: Duration) -> Result<(), PowerError> {
    let found = state(directory)?;
    match found.as_str() {
        OFFLINE | CRASHED => return Ok(()),
        RUNNING | ATTACHED => write(directory, "state", "stop")?,
        _ => {
            let (step, path) = (Step::Stop, state_file(directory));
            let remedy = match found.as_str() {
                DETACHED => "have the kernel attach to it first, by writing \"start\" there",
                _ => "the kernel's log may say more",
            };
            return Err(PowerError::State {
                step,
                path,
                found,
                expected: "\"running\" or \"attached\"",
                remedy,
            });
        }
    }
    wait(directory, Step::Stop, &found, OFFLINE, limit)
}

/// Waits for a state to come after another.
fn wait(
    directory: &Path,
    step: Step,
    before: &str,
    expected: &'static str,
    limit: Duration,
) -> Result<(), PowerError> {
    let deadline = Instant::now() + limit;
    loop {
        let found = state(directory)?;
        if found == expected {
            return Ok(());
        }
        let path = state_file(directory);
        if found != before && STATES.contains(&found.as_str()) {
            return Err(PowerError::StateAfter { step, path, found, expected });
        }
        if Instant::now() >= deadline {
            return Err(PowerError::StateTimedOut { step, path, limit, found, expected });
        }
        thread::sleep(INTERVAL);
    }
}

fn state(directory: &Path) -> Result<String, PowerError> {
    let path = state_file(directory);
    match fs::read_to_string(&path) {
        Ok(state) => Ok(state.trim_end().to_owned()),
        Err(source) => Err(PowerError::ReadAttribute { path, source }),
    }
}

fn write(directory: &Path, attribute: &str, value: &str) -> Result<(), PowerError> {
    let path = directory.join(attribute);
    // In one piece: every write to such a file stands for itself.
    let written = OpenOptions::new()
        .write(true)
        .truncate(true)
        .open(&path)
        .and_then(|mut file| file.write_all(value.as_bytes()));
    written.map_err(|source| PowerError::WriteAttribute { path, value: value.to_owned(), source })
}

fn state_file(directory: &Path) -> PathBuf {
    directory.join("state")
}

#[cfg(test)]
mod tests {
    use std::mem::MaybeUninit;
    use std::thread::JoinHandle;

    use rustix::fs::inotify;
    use tempfile::TempDir;

    use super::super::{Switch, TIME_LIMIT};
    use super::*;

    /// What the kernel answers when a file has been written: the file, what was written, and the state that follows.
    type Answer = (&'static str, &'static str, &'static str);

    /// A directory in which a thread behaves as the kernel does, until it has given all its answers.
    struct Kernel {
        directory: TempDir,
        thread: Option<JoinHandle<()>>,
    }

    impl Kernel {
        fn new(state: &str, answers: Vec<Answer>) -> Self {
            let directory = tempfile::tempdir().unwrap();
            for (name, content) in [("state", state), ("firmware", "old.elf"), ("recovery", "disabled")] {
                fs::write(directory.path().join(name), format!("{content}\n")).unwrap();
            }
            let events = inotify::init(inotify::CreateFlags::CLOEXEC).unwrap();
            inotify::add_watch(&events, directory.path(), inotify::WatchFlags::CLOSE_WRITE).unwrap();
            let path = directory.path().to_owned();
            let thread = thread::spawn(move || {
                let mut buffer = [MaybeUninit::uninit(); 4096];
                let mut events = inotify::Reader::new(events, &mut buffer);
                for (name, value, next) in answers {
                    while fs::read_to_string(path.join(name)).unwrap() != value {
                        if events.next().unwrap().file_name() == Some(c"end") {
                            return;
                        }
                    }
                    fs::write(path.join("state"), format!("{next}\n")).unwrap();
                }
            });
            Kernel { directory, thread: Some(thread) }
        }

        fn switch(&self, firmware: Option<&str>) -> Switch {
            Switch::Sysfs {
                directory: self.directory.path().to_owned(),
                firmware: firmware.map(str::to_owned),
            }
        }

        fn content(&self, name: &str) -> String {
            fs::read_to_string(self.directory.path().join(name)).unwrap()
        }
    }

    impl Drop for Kernel {
        fn drop(&mut self) {
            fs::write(self.directory.path().join("end"), "").unwrap();
            let ended = self.thread.take().unwrap().join();
            assert!(ended.is_ok() || thread::panicking());
        }
    }

    #[test]
    fn an_offline_core_gets_its_firmware_and_is_started_and_stopped() {
        let kernel =
            Kernel::new("offline", vec![("state", "start", "running"), ("state", "stop", "offline")]);
        let switch = kernel.switch(Some("m4.elf"));
        switch.start().unwrap();
        assert_eq!(
            (kernel.content("state"), kernel.content("firmware")),
            ("running\n".into(), "m4.elf".into())
        );
        switch.stop().unwrap();
        assert_eq!(kernel.content("state"), "offline\n");
    }

    #[test]
    fn firmware_that_is_not_named_is_left_as_the_kernel_has_it() {
        let kernel = Kernel::new("offline", vec![("state", "start", "running")]);
        kernel.switch(None).start().unwrap();
        assert_eq!(kernel.content("firmware"), "old.elf\n");
    }

    #[test]
    fn an_attached_core_is_stopped() {
        let kernel = Kernel::new("attached", vec![("state", "stop", "offline")]);
        kernel.switch(None).stop().unwrap();
    }

    #[test]
    fn a_crashed_core_is_recovered_by_start_and_left_alone_by_stop() {
        let kernel = Kernel::new("crashed", vec![("recovery", "recover", "running")]);
        kernel.switch(None).stop().unwrap();
        assert_eq!(kernel.content("state"), "crashed\n");
        kernel.switch(None).start().unwrap();
        assert_eq!(kernel.content("state"), "running\n");
    }

    #[test]
    fn an_offline_core_is_stopped_already() {
        let kernel = Kernel::new("offline", Vec::new());
        kernel.switch(None).stop().unwrap();
        assert_eq!(kernel.content("state"), "offline\n");
    }

    #[test]
    fn a_core_that_runs_already_is_refused_with_what_to_do() {
        for (state, remedy) in [
            ("running", "stop it first"),
            ("attached", "stop it first"),
            ("detached", "boot loader"),
            ("deleted", "log"),
        ] {
            let kernel = Kernel::new(state, Vec::new());
            let error = kernel.switch(Some("m4.elf")).start().unwrap_err().to_string();
            assert!(error.contains(&format!("says \"{state}\"")) && error.contains(remedy), "{error}");
            assert_eq!(kernel.content("firmware"), "old.elf\n");
        }
        let error = Kernel::new("detached", Vec::new()).switch(None).stop().unwrap_err().to_string();
        assert!(error.contains("writing \"start\""), "{error}");
    }

    #[test]
    fn a_core_that_crashes_as_it_starts_is_told_at_once() {
        let kernel = Kernel::new("offline", vec![("state", "start", "crashed")]);
        let error = kernel.switch(None).start().unwrap_err();
        assert!(matches!(&error, PowerError::StateAfter { found, .. } if found == "crashed"), "{error}");
    }

    #[test]
    fn a_core_that_somebody_else_keeps_running_is_given_up_after_the_time_limit() {
        let kernel = Kernel::new("running", vec![("state", "stop", "running")]);
        let error = stop(kernel.directory.path(), Duration::ZERO).unwrap_err().to_string();
        assert!(
            error.contains("told to stop, but after 0 s") && error.contains("expected \"offline\""),
            "{error}"
        );
    }

    #[test]
    fn what_the_kernel_refuses_is_told_with_file_and_value() {
        let kernel = Kernel::new("offline", Vec::new());
        let firmware = kernel.directory.path().join("firmware");
        fs::remove_file(&firmware).unwrap();
        let error = kernel.switch(Some("m4.elf")).start().unwrap_err();
        assert!(
            matches!(&error, PowerError::WriteAttribute { path, value, .. } if *path == firmware && value == "m4.elf")
        );
        assert_eq!(kernel.content("state"), "offline\n", "it is not started with other firmware");
        let error = start(&kernel.directory.path().join("none"), None, TIME_LIMIT).unwrap_err();
        assert!(error.to_string().contains("is it a remoteproc directory"), "{error}");
    }
}
