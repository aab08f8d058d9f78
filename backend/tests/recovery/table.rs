//! The summary of the crash matrix.

use std::collections::BTreeMap;
use std::fmt;

use crate::cell::{Event, Load, Outcome};

/// What became of all messages, cell by cell.
#[derive(Default)]
pub(crate) struct Table {
    rows: BTreeMap<(Event, Load, u8), Outcome>,
}

impl Table {
    /// Adds a cell that was played to its end.
    pub(crate) fn add(&mut self, event: Event, load: Load, count: u8, outcome: Outcome) {
        self.rows.insert((event, load, count), outcome);
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.rows.is_empty() {
            return Ok(());
        }
        writeln!(
            f,
            "{:<10} {:<9} {:>3} {:>6} {:>9} {:>5} {:>12} {:>11} {:>8} {:>10} {:>8}",
            "the core",
            "VMs are",
            "VMs",
            "sent",
            "consumed",
            "lost",
            "not running",
            "unexplained",
            "doubled",
            "reordered",
            "back, ms"
        )?;
        for ((event, load, count), outcome) in &self.rows {
            let event = format!("{event:?}").to_lowercase();
            let load = format!("{load:?}").to_lowercase();
            let Outcome { sent, consumed, lost, not_running, unexplained, received, back_after } = outcome;
            writeln!(
                f,
                "{event:<10} {load:<9} {count:>3} {sent:>6} {consumed:>9} {lost:>5} {not_running:>12} {unexplained:>11} \
                 {:>8} {:>10} {:>8.1}",
                received.doubled,
                received.reordered,
                back_after.as_secs_f64() * 1e3
            )?;
        }
        writeln!(f)
    }
}
