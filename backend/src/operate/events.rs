//! The flight recorder: the last few thousand events, in memory that outlives the worker.
//!
//! An event is a line of this program's own log from level info up, whatever of the log is printed: comings and goings, orders,
//! faults, drops by reason at the rate at which they are logged, deaths. No message makes one.
//!
//! There are two rings in a file that the keeper opens, one for the lines of each process. A record is a number, which is 0 while
//! the record is written, a time, a level, and a text of at most [`TEXT`] bytes. What a worker has left may be anything: it is
//! copied, checked and shown as text.

use std::fs::File;
use std::sync::atomic::{Ordering, fence};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use log::{Level, Log, Metadata, Record};
use serde::{Deserialize, Serialize};

use crate::remote::memory::{Access, CarveoutError, CarveoutSlice, Carveouts, Region};

/// Bytes of a record.
const RECORD: usize = 256;
/// Records of a ring.
const RECORDS: usize = 4096;
/// Bytes of both rings.
const BYTES: usize = 2 * RECORDS * RECORD;

const AT_TIME: usize = 8;
const AT_LEVEL: usize = 16;
const AT_LEN: usize = 18;
const AT_TEXT: usize = 20;
/// Bytes of a text.
const TEXT: usize = RECORD - AT_TEXT;

/// Size of the file in bytes.
pub(super) const SIZE: u64 = BYTES as u64;

/// Whose lines this process's are.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Who {
    Worker,
    Keeper,
}

/// Something that has happened.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct Event {
    /// When, in nanoseconds since 1970.
    pub(super) time_ns: u64,
    /// Which process has said so.
    pub(super) by: Who,
    /// `error`, `warn` or `info`.
    pub(super) level: String,
    /// What.
    pub(super) text: String,
}

/// The rings, and how far this process has got in its own.
#[derive(Debug)]
pub(super) struct Rings {
    memory: CarveoutSlice,
    who: Who,
    /// Number of the next record.
    next: u64,
}

/// Where the lines of this process are recorded.
static RINGS: Mutex<Option<Rings>> = Mutex::new(None);

fn rings() -> MutexGuard<'static, Option<Rings>> {
    RINGS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Has the lines of this process recorded from now on.
pub(super) fn record_in(opened: Rings) {
    *rings() = Some(opened);
}

/// What is recorded, oldest first.
pub(super) fn recorded() -> Vec<Event> {
    recorded_last(usize::MAX)
}

/// So many of the last events at most, oldest first.
pub(super) fn recorded_last(most: usize) -> Vec<Event> {
    // The lock is the bridge's too, for every line that it logs.
    let memory = rings().as_ref().map(|rings| rings.memory.clone());
    memory.map(|memory| last(&memory, most)).unwrap_or_default()
}

/// A log that is recorded too.
pub(super) struct Recorded(pub(super) env_logger::Logger);

impl Log for Recorded {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        is_event(metadata) || self.0.enabled(metadata)
    }

    fn log(&self, record: &Record<'_>) {
        if is_event(record.metadata())
            && let Some(rings) = &mut *rings()
        {
            rings.record(record.level(), &record.args().to_string());
        }
        self.0.log(record);
    }

    fn flush(&self) {
        self.0.flush();
    }
}

fn is_event(metadata: &Metadata<'_>) -> bool {
    metadata.level() <= Level::Info && metadata.target().starts_with(env!("CARGO_CRATE_NAME"))
}

impl Rings {
    /// The rings in a file, for this process to go on with.
    pub(super) fn open(file: &File, who: Who) -> Result<Self, CarveoutError> {
        let region = Region::map(file, 0, BYTES, 0, Access::Normal)?;
        let memory = Carveouts::new(vec![region]).slice(0, BYTES, 8)?;
        let mut rings = Rings { memory, who, next: 1 };
        let numbers = (0..RECORDS).map(|place| rings.memory.read_u64(at(who, place)));
        rings.next = numbers.max().unwrap_or(0).saturating_add(1);
        Ok(rings)
    }

    fn record(&mut self, level: Level, text: &str) {
        let place = usize::try_from(self.next % RECORDS as u64).unwrap_or(0);
        let at = at(self.who, place);
        let len = (0..=text.len().min(TEXT)).rev().find(|len| text.is_char_boundary(*len)).unwrap_or(0);
        let text = &text.as_bytes()[..len];
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        self.memory.write_u64(at, 0);
        fence(Ordering::Release);
        self.memory.write_u64(at + AT_TIME, u64::try_from(now.as_nanos()).unwrap_or(u64::MAX));
        self.memory.write_u16(at + AT_LEVEL, level as u16);
        self.memory.write_u16(at + AT_LEN, u16::try_from(text.len()).unwrap_or(0));
        self.memory.write_bytes(at + AT_TEXT, text);
        fence(Ordering::Release);
        self.memory.write_u64(at, self.next);
        self.next = self.next.wrapping_add(1);
    }
}

/// So many of the last events at most, oldest first.
fn last(memory: &CarveoutSlice, most: usize) -> Vec<Event> {
    let last_of = |who: Who| {
        let mut places: Vec<_> = (0..RECORDS).map(|place| (memory.read_u64(at(who, place)), place)).collect();
        places.sort_unstable_by(|one, other| other.cmp(one));
        places.into_iter().take(most).filter_map(move |(_, place)| event(memory, who, place))
    };
    let mut events: Vec<_> = [Who::Worker, Who::Keeper].into_iter().flat_map(last_of).collect();
    events.sort_by_key(|(number, event)| (event.time_ns, event.by, *number));
    let last = events.split_off(events.len().saturating_sub(most));
    last.into_iter().map(|(_, event)| event).collect()
}

/// The record at a place, unless there is none, or it is written anew at this moment.
fn event(memory: &CarveoutSlice, who: Who, place: usize) -> Option<(u64, Event)> {
    let at = at(who, place);
    let number = memory.read_u64(at);
    fence(Ordering::Acquire);
    let len = usize::from(memory.read_u16(at + AT_LEN));
    if number == 0 || len > TEXT {
        return None;
    }
    let mut text = vec![0; len];
    memory.read_into(at + AT_TEXT, &mut text);
    let level = memory.read_u16(at + AT_LEVEL);
    let level = Level::iter().find(|known| *known as u16 == level)?;
    let time_ns = memory.read_u64(at + AT_TIME);
    fence(Ordering::Acquire);
    let text = String::from_utf8_lossy(&text).replace(char::is_control, " ");
    let event = Event { time_ns, by: who, level: level.as_str().to_lowercase(), text };
    (memory.read_u64(at) == number).then_some((number, event))
}

/// Where a record is.
fn at(who: Who, place: usize) -> usize {
    let ring = match who {
        Who::Worker => 0,
        Who::Keeper => BYTES / 2,
    };
    ring + place * RECORD
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file() -> File {
        let file = tempfile::tempfile().unwrap();
        file.set_len(SIZE).unwrap();
        file
    }

    fn texts(rings: &Rings) -> Vec<(Who, String)> {
        last(&rings.memory, usize::MAX).into_iter().map(|event| (event.by, event.text)).collect()
    }

    #[test]
    fn what_both_processes_record_outlives_them_in_its_order() {
        let file = file();
        let open = |who| Rings::open(&file, who).unwrap();
        open(Who::Worker).record(Level::Info, "first");
        open(Who::Keeper).record(Level::Warn, "died");
        open(Who::Worker).record(Level::Error, "next\nline");
        let found = open(Who::Worker);
        let expected = [(Who::Worker, "first"), (Who::Keeper, "died"), (Who::Worker, "next line")];
        assert_eq!(texts(&found), expected.map(|(who, text)| (who, text.to_owned())));
        let levels: Vec<_> = last(&found.memory, usize::MAX).into_iter().map(|event| event.level).collect();
        assert_eq!(levels, ["info", "warn", "error"]);
        let last: Vec<_> = last(&found.memory, 2).into_iter().map(|event| event.text).collect();
        assert_eq!(last, ["died", "next line"]);
    }

    #[test]
    fn the_oldest_make_room_and_long_ones_are_cut_between_characters() {
        let mut rings = Rings::open(&file(), Who::Worker).unwrap();
        for number in 0..RECORDS + 10 {
            rings.record(Level::Info, &format!("{number} {}", "\u{e9}".repeat(TEXT)));
        }
        let found = texts(&rings);
        assert_eq!(found.len(), RECORDS);
        assert!(found[0].1.starts_with("10 ") && found[0].1.ends_with('\u{e9}') && found[0].1.len() <= TEXT);
    }

    #[test]
    fn whatever_a_worker_has_left_there_is_read() {
        let rings = Rings::open(&file(), Who::Worker).unwrap();
        for byte in [0xFF, 0x01, 0x80] {
            rings.memory.write_bytes(0, &vec![byte; BYTES]);
            let _ = last(&rings.memory, usize::MAX);
        }
        rings.memory.write_bytes(0, &vec![0xFF; BYTES]);
        assert_eq!(texts(&rings), []);
    }
}
