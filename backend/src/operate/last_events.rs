//! What has happened last, written down where a worker has died: a file for whoever comes later and finds the program well again.
//!
//! The files stand beside the dumps of remotes, or else beside the state; without either, what was recorded is to be had by
//! `events` as long as the program runs.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, channel};
use std::thread::Builder;

use jiff::Timestamp;
use log::{info, warn};

use super::control::{Events, printed};
use super::events;
use super::plan::Plan;
use crate::keeper::supervise::Event;

/// Events that are written down.
const EVENTS: usize = 50;
/// Most files that are kept: workers that die again and again must not fill the disk.
const FILES: usize = 5;
const START: &str = "events-";
const END: &str = ".log";

/// Where the files of a program stand.
pub(super) fn directory(plan: &Plan) -> Option<PathBuf> {
    plan.remotes.iter().find_map(|remote| remote.dump.clone()).or_else(|| plan.state.clone())
}

/// Passes on what is told to the keeper. Where that is the death of a worker, what has happened until then is written down
/// first: there is no other worker yet that could record more.
pub(super) fn written_down(told: Receiver<Event>, directory: Option<PathBuf>) -> io::Result<Receiver<Event>> {
    let Some(directory) = directory else { return Ok(told) };
    let (sender, passed_on) = channel();
    let pass_on = move || {
        let mut has_served = false;
        for event in told {
            match &event {
                Event::Serving(_) => has_served = true,
                // What keeps the first one from serving is said in the log, and there is nothing more to know.
                Event::Done { status, .. }
                    if has_served && !status.is_some_and(|status| status.success()) =>
                {
                    write_and_say(&directory);
                }
                _ => {}
            }
            if sender.send(event).is_err() {
                return;
            }
        }
    };
    Builder::new().name("last events".to_owned()).spawn(pass_on)?;
    Ok(passed_on)
}

fn write_and_say(directory: &Path) {
    match write(directory, Timestamp::now()) {
        Ok(path) => info!("what happened before the end of the worker is in {}", path.display()),
        Err(error) => warn!(
            "what happened before the end of the worker cannot be written to {}: {error}",
            directory.display()
        ),
    }
}

/// Writes what is recorded last to a new file that only its owner may read, and removes the oldest files.
fn write(directory: &Path, now: Timestamp) -> io::Result<PathBuf> {
    let events = events::recorded_last(EVENTS);
    let path = directory.join(format!("{START}{}{END}", now.strftime("%Y%m%d-%H%M%S.%6f")));
    let mut file = File::options().write(true).create_new(true).mode(0o600).open(&path)?;
    file.write_all(printed(&Events { events }).as_bytes())?;
    remove_oldest(directory, &path)?;
    Ok(path)
}

/// Removes the oldest files, but never the newest one, whatever the clock says.
fn remove_oldest(directory: &Path, newest: &Path) -> io::Result<()> {
    let names = fs::read_dir(directory)?.map(|entry| Ok(entry?.file_name().into_string().ok()));
    let names = names.collect::<io::Result<Vec<_>>>()?.into_iter().flatten();
    let is_ours = |name: &String| name.starts_with(START) && name.ends_with(END);
    let mut others: Vec<_> = names.filter(|name| is_ours(name) && directory.join(name) != newest).collect();
    others.sort_unstable();
    others.truncate((others.len() + 1).saturating_sub(FILES));
    others.into_iter().try_for_each(|name| fs::remove_file(directory.join(name)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_files_are_kept_also_where_the_clock_was_set_back_and_others_are_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("m4.state"), "").unwrap();
        let at = |second| Timestamp::from_second(second).unwrap();
        for second in [100, 101, 102, 103, 104, 105, 7] {
            write(folder.path(), at(second)).unwrap();
        }
        let names = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name());
        let mut names: Vec<_> = names.map(|name| name.into_string().unwrap()).collect();
        names.sort();
        let times = ["000007", "000142", "000143", "000144", "000145"];
        let expected = times.map(|time| format!("events-19700101-{time}.000000.log"));
        assert_eq!(names[..5], expected);
        assert_eq!(names[5..], ["m4.state"]);
    }
}
