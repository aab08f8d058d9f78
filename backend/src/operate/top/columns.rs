//! The columns: what they are called, what is in them, and which of them are left out where there is little room.

use std::cmp::Ordering;

use super::rates::{Flow, Row, Share};

/// A column of figures. The names of VMs and services are in one of their own, before all of these.
pub(super) struct Column {
    /// What stands over it and its neighbours.
    pub(super) group: &'static str,
    pub(super) heading: &'static str,
    pub(super) width: usize,
    /// Those of the highest rank are left out first.
    rank: u8,
    /// What rows are sorted by.
    value: fn(&Row) -> Option<f64>,
    cell: fn(&Row) -> String,
}

const TO_REMOTE: &str = "to remote";
const TO_GUEST: &str = "to guest";

/// All of them, from the left to the right.
pub(super) const COLUMNS: [Column; 13] = [
    messages_per_second(TO_REMOTE, |row| rate(row.to_remote.message_rate), |row| row.to_remote.message_rate),
    bytes_per_second(TO_REMOTE, |row| rate(row.to_remote.byte_rate), |row| row.to_remote.byte_rate),
    all_messages(TO_REMOTE, |row| row.to_remote.messages.to_string(), |row| total(row.to_remote)),
    messages_per_second(TO_GUEST, |row| rate(row.to_guest.message_rate), |row| row.to_guest.message_rate),
    bytes_per_second(TO_GUEST, |row| rate(row.to_guest.byte_rate), |row| row.to_guest.byte_rate),
    all_messages(TO_GUEST, |row| row.to_guest.messages.to_string(), |row| total(row.to_guest)),
    Column {
        group: "",
        heading: "DROP/s",
        width: 6,
        rank: 5,
        value: |row| row.dropping,
        cell: |row| rate(row.dropping),
    },
    Column {
        group: "",
        heading: "DROPS",
        width: 6,
        rank: 1,
        value: |row| Some(float(row.dropped)),
        cell: |row| short(float(row.dropped)),
    },
    Column {
        group: "",
        heading: "BUFFERS",
        width: 7,
        rank: 2,
        value: |row| row.share.map(|share| share.held.into()),
        cell: |row| of_share(row, |share| format!("{}/{}", share.held, share.of_held)),
    },
    Column {
        group: "",
        heading: "WAITING",
        width: 7,
        rank: 2,
        value: |row| row.share.map(|share| float(share.waiting as u64)),
        cell: |row| of_share(row, |share| format!("{}/{}", share.waiting, share.of_waiting)),
    },
    Column {
        group: "",
        heading: "STALL%",
        width: 6,
        rank: 2,
        value: |row| row.share.and_then(|share| share.stalled),
        cell: |row| of_share(row, |share| rate(share.stalled.map(|part| part * 100.0))),
    },
    Column {
        group: "",
        heading: "STALLS",
        width: 6,
        rank: 6,
        value: |row| row.share.map(|share| float(share.stalls)),
        cell: |row| of_share(row, |share| short(float(share.stalls))),
    },
    Column {
        group: "",
        heading: "MODE",
        width: 10,
        rank: 7,
        value: |_| None,
        cell: |row| row.mode.clone().unwrap_or_default(),
    },
];

type Cell = fn(&Row) -> String;
type Value = fn(&Row) -> Option<f64>;

const fn messages_per_second(group: &'static str, cell: Cell, value: Value) -> Column {
    Column { group, heading: "MSG/s", width: 6, rank: 0, value, cell }
}

const fn bytes_per_second(group: &'static str, cell: Cell, value: Value) -> Column {
    Column { group, heading: "BYTE/s", width: 6, rank: 3, value, cell }
}

const fn all_messages(group: &'static str, cell: Cell, value: Value) -> Column {
    Column { group, heading: "MESSAGES", width: 10, rank: 4, value, cell }
}

impl Column {
    /// What it shows of a row.
    pub(super) fn cell(&self, row: &Row) -> String {
        (self.cell)(row)
    }

    /// The row that has more of it first; what has nothing comes last.
    pub(super) fn compare(&self, one: &Row, other: &Row) -> Ordering {
        let [one, other] = [one, other].map(|row| (self.value)(row).unwrap_or(-1.0));
        other.total_cmp(&one)
    }

    /// Whether rows can be sorted by it.
    pub(super) fn is_figure(&self) -> bool {
        self.heading != "MODE"
    }
}

/// The columns, by their places in [`COLUMNS`], for which there is room in so many cells beside names of so many.
pub(super) fn shown(width: usize, names: usize) -> Vec<usize> {
    let mut shown: Vec<usize> = (0..COLUMNS.len()).collect();
    loop {
        let needed: usize = shown.iter().map(|at| COLUMNS[*at].width + 1).sum();
        let Some(last) = shown.iter().map(|at| COLUMNS[*at].rank).max() else { return shown };
        if needed + names <= width {
            return shown;
        }
        shown.retain(|at| COLUMNS[*at].rank != last);
    }
}

#[expect(clippy::cast_precision_loss, reason = "for people")]
fn float(count: u64) -> f64 {
    count as f64
}

fn total(flow: Flow) -> Option<f64> {
    Some(float(flow.messages))
}

fn of_share(row: &Row, cell: fn(Share) -> String) -> String {
    row.share.map(cell).unwrap_or_default()
}

/// A figure per second, where it is known.
pub(super) fn rate(rate: Option<f64>) -> String {
    rate.map_or_else(|| "-".to_owned(), short)
}

/// A number with three digits at least, in six characters at most.
pub(super) fn short(number: f64) -> String {
    let mut number = number;
    for unit in ["", "k", "M", "G", "T", "P", "E"] {
        let digits = match number {
            _ if number < 0.005 => 0,
            0.0..0.995 => 2,
            // A whole number has no others.
            0.995..9.95 if unit.is_empty() && number.fract() == 0.0 => 0,
            0.995..9.95 => {
                if unit.is_empty() {
                    1
                } else {
                    2
                }
            }
            9.95..99.95 if !unit.is_empty() => 1,
            _ => 0,
        };
        if number < 999.5 {
            return format!("{number:.digits$}{unit}");
        }
        number /= 1000.0;
    }
    "lots".to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_any_size_are_short_and_never_rounded_to_nothing_visible() {
        let numbers =
            [0.0, 0.02, 0.5, 1.0, 1.26, 42.0, 999.4, 999.6, 1234.0, 45_678.0, 999_600.0, 1.5e9, 1e30];
        let expected = [
            "0", "0.02", "0.50", "1", "1.3", "42", "999", "1.00k", "1.23k", "45.7k", "1.00M", "1.50G", "lots",
        ];
        assert_eq!(numbers.map(short), expected);
        for exponent in -30..60 {
            let number = 1.5_f64.powi(exponent * 2);
            assert!(short(number).len() <= 6, "{number}: {}", short(number));
        }
    }

    #[test]
    fn the_less_room_there_is_the_fewer_columns_are_shown_and_the_rates_stay_longest() {
        let headings = |width| shown(width, 20).into_iter().map(|at| COLUMNS[at].heading).collect::<Vec<_>>();
        assert_eq!(headings(200).len(), COLUMNS.len());
        assert_eq!(
            headings(80),
            ["MSG/s", "BYTE/s", "MSG/s", "BYTE/s", "DROPS", "BUFFERS", "WAITING", "STALL%"]
        );
        assert_eq!(headings(40), ["MSG/s", "MSG/s"]);
        assert_eq!(headings(10), [""; 0]);
    }
}
