//! The summary of the life matrix.

use std::collections::BTreeMap;
use std::fmt;

use crate::cell::{Event, Mode};
use crate::ledger::Tally;

/// What became of all messages, by the number of VMs and the mode.
#[derive(Default)]
pub(crate) struct Table {
    rows: BTreeMap<(u8, usize), Row>,
}

#[derive(Default)]
struct Row {
    events: Vec<Event>,
    tally: Tally,
}

impl Table {
    /// Adds a cell that was played to its end.
    pub(crate) fn add(&mut self, count: u8, mode: Mode, event: Event, tally: Tally) {
        let row = self.rows.entry((count, mode as usize)).or_default();
        row.events.push(event);
        row.tally += tally;
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.rows.is_empty() {
            return Ok(());
        }
        writeln!(
            f,
            "{:>3} {:<10} {:>9} {:>5} {:>8} {:>10} {:>13} {:>8}  what happened to some of the VMs",
            "VMs", "mode", "messages", "lost", "doubled", "reordered", "misdelivered", "damaged"
        )?;
        for ((count, mode), Row { events, tally }) in &self.rows {
            let Tally { messages, lost, doubled, reordered, misdelivered, damaged } = tally;
            let events = Event::ALL.into_iter().filter(|event| events.contains(event));
            let events: Vec<_> = events.map(|event| format!("{event:?}").to_lowercase()).collect();
            let mode = format!("{:?}", Mode::ALL[*mode]).to_lowercase();
            writeln!(
                f,
                "{count:>3} {mode:<10} {messages:>9} {lost:>5} {doubled:>8} {reordered:>10} {misdelivered:>13} \
                 {damaged:>8}  {}",
                events.join(", ")
            )?;
        }
        writeln!(f)
    }
}
