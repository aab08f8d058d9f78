//! What the keys change: the order of the rows, and which of them are seen.

use std::cmp::Ordering;

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::columns::{COLUMNS, Column};
use super::rates::Row;

/// What is seen, and how it is sorted.
#[derive(Debug, Default)]
pub(super) struct View {
    /// The columns that there is room for, by their places in [`COLUMNS`].
    pub(super) shown: Vec<usize>,
    /// The column that rows are sorted by; by name without one.
    by: Option<usize>,
    is_reversed: bool,
    first: usize,
    /// Rows that there is room for.
    room: usize,
}

/// What a key is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pressed {
    Quit,
    Other,
}

impl View {
    /// Does what a key says.
    pub(super) fn press(&mut self, key: KeyEvent) -> Pressed {
        match key.code {
            KeyCode::Char('c') if key.modifiers.contains(KeyModifiers::CONTROL) => return Pressed::Quit,
            KeyCode::Char('q') | KeyCode::Esc => return Pressed::Quit,
            KeyCode::Char('j') | KeyCode::Down => self.first = self.first.saturating_add(1),
            KeyCode::Char('k') | KeyCode::Up => self.first = self.first.saturating_sub(1),
            KeyCode::PageDown => self.first = self.first.saturating_add(self.room),
            KeyCode::PageUp => self.first = self.first.saturating_sub(self.room),
            KeyCode::Home => self.first = 0,
            KeyCode::End => self.first = usize::MAX,
            KeyCode::Char('s') => self.by = self.next_column(),
            KeyCode::Char('r') => self.is_reversed = !self.is_reversed,
            _ => {}
        }
        Pressed::Other
    }

    /// The next column that is seen; by name again after the last.
    fn next_column(&self) -> Option<usize> {
        let mut shown = self.shown.iter().copied().filter(|at| COLUMNS[*at].is_figure());
        shown.find(|at| self.by.is_none_or(|by| *at > by))
    }

    /// There are so many rows, and room for so many.
    pub(super) fn fit(&mut self, rows: usize, room: usize) {
        self.room = room;
        self.first = self.first.min(rows.saturating_sub(room));
    }

    /// The first row that is seen.
    pub(super) fn first(&self) -> usize {
        self.first
    }

    /// The columns that are seen.
    pub(super) fn columns(&self) -> impl Iterator<Item = &'static Column> {
        self.shown.iter().map(|at| &COLUMNS[*at])
    }

    /// Which of two rows is seen first.
    pub(super) fn compare(&self, one: &Row, other: &Row) -> Ordering {
        let by_name = one.name.cmp(&other.name);
        let order = match self.by {
            Some(by) => COLUMNS[by].compare(one, other).then(by_name),
            None => by_name,
        };
        if self.is_reversed { order.reverse() } else { order }
    }

    /// How rows are sorted, in words.
    pub(super) fn order(&self) -> String {
        let by = match self.by.map(|by| &COLUMNS[by]) {
            None => "name".to_owned(),
            Some(Column { group: "", heading, .. }) => (*heading).to_owned(),
            Some(Column { group, heading, .. }) => format!("{heading} {group}"),
        };
        if self.is_reversed { format!("{by}, reversed") } else { by }
    }
}
