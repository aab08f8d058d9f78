//! How it is drawn: a title, what is wrong if anything is, the remotes, the VMs with their services, the keys.
//!
//! Nothing is said by colour or style alone, and everything is ASCII: consoles of boards have little else.

use std::time::Duration;

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::{Modifier, Style};

use super::columns::{COLUMNS, rate, shown};
use super::rates::{DeviceView, RemoteView, Row};
use super::view::View;
use crate::operate::control::{Percentiles, time};

/// What is to be seen.
#[derive(Debug)]
pub(super) struct Seen {
    /// The control socket.
    pub(super) control: String,
    /// Between two answers.
    pub(super) interval: Duration,
    pub(super) remotes: Vec<RemoteView>,
    /// Why there is no later answer, and how old the last one is.
    pub(super) trouble: Option<(String, Duration)>,
}

const BOLD: Style = Style::new().add_modifier(Modifier::BOLD);
const REVERSED: Style = Style::new().add_modifier(Modifier::REVERSED);
const PLAIN: Style = Style::new();

/// Cells of a bar, with its ends.
const BAR: usize = 22;
/// Names are cut rather than columns left out beyond this.
const NAMES: usize = 22;
const INDENT: &str = "  ";
const KEYS: &str = "q quit  j/k scroll  s sort by another column  r reverse";

/// A line, and how it is drawn.
type Line = (String, Style);

/// Draws everything. The view is told what there is room for.
pub(super) fn draw(buffer: &mut Buffer, seen: &Seen, view: &mut View) {
    let area = buffer.area;
    let (width, height) = (usize::from(area.width), usize::from(area.height));
    let mut rows = table(seen, view);
    let names = rows.iter().map(|row| row.name.chars().count()).max().unwrap_or(0).clamp(16, NAMES);
    view.shown = shown(width, names);
    let figures: usize = view.shown.iter().map(|at| COLUMNS[*at].width + 1).sum();
    let longest = rows.iter().map(|row| row.name.chars().count()).max().unwrap_or(0).max(names);
    let names = longest.min(width.saturating_sub(figures));

    let mut lines = vec![title(seen, view, width)];
    match &seen.trouble {
        Some((what, age)) => lines.extend(trouble(what, *age, width)),
        None => lines.push((String::new(), PLAIN)),
    }
    lines.extend(remotes(seen, width, height / 2));
    lines.push((String::new(), PLAIN));
    lines.push((groups(names, view), PLAIN));
    lines.push((headings(names, view), BOLD));

    let room = height.saturating_sub(lines.len() + 1);
    view.fit(rows.len(), room);
    let (first, count) = (view.first(), rows.len());
    let visible: Vec<_> = rows.drain(first..).take(room).collect();
    let last = first + visible.len();
    lines.extend(visible.into_iter().map(|entry| entry.line(names, view)));
    lines.truncate(height.saturating_sub(1));
    for (y, (text, style)) in (area.top()..).zip(&lines) {
        write(buffer, y, text, *style);
    }
    if height > 0 {
        let more =
            if count > last - first { format!("{}-{last} of {count}  ", first + 1) } else { String::new() };
        write(buffer, area.bottom() - 1, &format!("{more}{KEYS}"), PLAIN);
    }
}

/// A line from the left edge on, and its style to the right one.
fn write(buffer: &mut Buffer, y: u16, text: &str, style: Style) {
    let area = buffer.area;
    buffer.set_stringn(area.left(), y, text, area.width.into(), style);
    buffer.set_style(Rect { y, height: 1, ..area }, style);
}

fn title(seen: &Seen, view: &View, width: usize) -> Line {
    let every = seen.interval.as_secs_f64();
    let left = format!("rpmsg top  {}", seen.control);
    let right = format!("every {every} s  by {}", view.order());
    let room = width.saturating_sub(right.len() + 2);
    (format!("{:room$}  {right}", cut(&left, room)), BOLD)
}

/// Lines at most that say why there is no answer.
const REASON: usize = 3;

fn trouble(what: &str, age: Duration, width: usize) -> Vec<Line> {
    let text = format!("NO ANSWER, these figures are {} s old: {what}", age.as_secs());
    let lines = wrapped(text.split(' '), " ", width).into_iter().take(REASON);
    lines.map(|line| (line, REVERSED)).collect()
}

/// Lines of so many characters at most, where no part is longer; all but the first are indented.
fn wrapped<'a>(parts: impl IntoIterator<Item = &'a str>, between: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for part in parts {
        match lines.last_mut() {
            Some(line) if line.chars().count() + between.len() + part.chars().count() <= width => {
                *line += between;
                *line += part;
            }
            Some(_) => lines.push(format!("{INDENT}{part}")),
            None => lines.push(part.to_owned()),
        }
    }
    lines
}

/// The remotes in so many lines at most: with bars if there is room, or else a line each.
fn remotes(seen: &Seen, width: usize, room: usize) -> Vec<Line> {
    let long: Vec<_> = seen.remotes.iter().flat_map(|remote| in_full(remote, width)).collect();
    if long.len() <= room {
        return long;
    }
    let mut short: Vec<_> = seen.remotes.iter().map(|remote| (in_short(remote), BOLD)).collect();
    if short.len() > room {
        let left_out = short.len() - room.saturating_sub(1);
        short.truncate(room.saturating_sub(1));
        short.push((format!("and {left_out} remotes more"), PLAIN));
    }
    short
}

fn in_full(remote: &RemoteView, width: usize) -> Vec<Line> {
    let RemoteView { name, state, heard, latency, devices } = remote;
    let about = |device: &DeviceView| {
        let DeviceView { rung, misdirected, malformed, worker_restarts, .. } = device;
        vec![
            format!("rung {}/s", rate(*rung)),
            format!("misdirected {misdirected}"),
            format!("malformed {malformed}"),
            format!("restarts {worker_restarts}"),
        ]
    };
    let lines = |first: String, more: Vec<String>, style| {
        let parts = [first].into_iter().chain(more).collect::<Vec<_>>();
        let lines = wrapped(parts.iter().map(String::as_str), "  ", width).into_iter();
        lines.map(move |line| (line, style)).collect::<Vec<_>>()
    };
    let is_one = matches!(&devices[..], [only] if only.name == *name);
    let heard = format!("heard {}/s", rate(*heard));
    let own = if is_one { devices.iter().flat_map(about).collect() } else { Vec::new() };
    let mut all = lines(format!("remote {name}: {state}"), [heard].into_iter().chain(own).collect(), BOLD);
    for device in devices {
        if !is_one {
            all.extend(lines(format!("{INDENT}{}", device.name), about(device), PLAIN));
        }
        let (to_remote, to_guest) = (percentiles(&latency.to_remote), percentiles(&latency.to_guest));
        let [to_remote, to_guest] = match device.buffers {
            Some(of) => [
                format!("{}  {to_remote}", gauge(of.in_flight, of.to_remote, "in flight")),
                format!("{}  {to_guest}", gauge(of.held, of.from_remote, "held")),
            ],
            None => ["not attached".to_owned(), "not attached".to_owned()],
        };
        all.push((format!("{INDENT}to remote {to_remote}"), PLAIN));
        all.push((format!("{INDENT}to guest  {to_guest}"), PLAIN));
    }
    all
}

fn in_short(remote: &RemoteView) -> String {
    let of = |device: &DeviceView| match device.buffers {
        Some(of) => {
            format!("{}/{} in flight {}/{} held", of.in_flight, of.to_remote, of.held, of.from_remote)
        }
        None => "not attached".to_owned(),
    };
    let devices: Vec<_> = remote.devices.iter().map(of).collect();
    let latency = &remote.latency;
    let p99 = [&latency.to_remote, &latency.to_guest].map(|of| of.p99_ns).into_iter().max();
    let p99 = time(p99.unwrap_or(0));
    format!("remote {}: {}  {}  p99 {p99}", remote.name, remote.state, devices.join(", "))
}

fn percentiles(of: &Percentiles) -> String {
    match of.samples {
        0 => String::new(),
        _ => format!("p50 {:>7}  p99 {:>7}", time(of.p50_ns), time(of.p99_ns)),
    }
}

/// A bar, and the figures that it is about.
fn gauge(part: u16, whole: u16, what: &str) -> String {
    let cells = BAR - 2;
    // Something is shown wherever there is something, and room wherever there is room.
    let full = (usize::from(part) * cells).div_ceil(usize::from(whole).max(1)).min(cells);
    let full = if part < whole { full.min(cells - 1) } else { full };
    let bar = format!("[{}{}]", "|".repeat(full), " ".repeat(cells - full));
    format!("{bar} {:<17}", format!("{part}/{whole} {what}"))
}

/// A row of the table.
struct Entry<'a> {
    name: String,
    style: Style,
    /// None for what is no VM and no service.
    row: Option<&'a Row>,
}

impl Entry<'_> {
    fn line(&self, names: usize, view: &View) -> Line {
        let mut text = pad(&self.name, names);
        if let Some(row) = self.row {
            for column in view.columns() {
                let width = column.width + 1;
                // Words begin where their heading does.
                text += &match column.is_figure() {
                    true => format!("{:>width$}", column.cell(row)),
                    false => format!(" {:<width$}", column.cell(row), width = column.width),
                };
            }
        }
        (text, self.style)
    }
}

/// The rows in their order: VMs by the column, and below each its services by the same.
fn table<'a>(seen: &'a Seen, view: &View) -> Vec<Entry<'a>> {
    let mut entries = Vec::new();
    let devices: Vec<_> = seen.remotes.iter().flat_map(|remote| &remote.devices).collect();
    let is_one = devices.len() == 1;
    for device in devices {
        let indent = if is_one { "" } else { INDENT };
        if !is_one {
            entries.push(Entry { name: format!("at {}:", device.name), style: PLAIN, row: None });
        }
        if device.vms.is_empty() {
            entries.push(Entry { name: format!("{indent}no VM"), style: PLAIN, row: None });
        }
        let mut vms: Vec<_> = device.vms.iter().collect();
        vms.sort_by(|one, other| view.compare(&one.all, &other.all));
        for vm in vms {
            let name = format!("{indent}{}", vm.all.name);
            entries.push(Entry { name, style: BOLD, row: Some(&vm.all) });
            let mut services: Vec<_> = vm.services.iter().collect();
            services.sort_by(|one, other| view.compare(one, other));
            entries.extend(services.into_iter().map(|row| {
                let name = format!("{indent}{INDENT}{}", row.name);
                Entry { name, style: PLAIN, row: Some(row) }
            }));
        }
    }
    entries
}

/// What stands over several columns.
fn groups(names: usize, view: &View) -> String {
    let mut line = pad("", names);
    let columns: Vec<_> = view.columns().collect();
    for group in columns.chunk_by(|one, other| one.group == other.group) {
        let width: usize = group.iter().map(|column| column.width + 1).sum::<usize>() - 1;
        line += &match group[0].group {
            "" => " ".repeat(width + 1),
            name => format!(" {:-^width$}", format!(" {name} ")),
        };
    }
    line
}

fn headings(names: usize, view: &View) -> String {
    let mut line = pad("VM, SERVICE", names);
    for column in view.columns() {
        line += &match column.is_figure() {
            true => format!(" {:>width$}", column.heading, width = column.width),
            false => format!(" {:<width$}", column.heading, width = column.width),
        };
    }
    line
}

fn pad(text: &str, width: usize) -> String {
    format!("{:width$}", cut(text, width))
}

/// A text of so many characters at most. Of a long one the end is shown too, which has the address of a service.
fn cut(text: &str, width: usize) -> String {
    let count = text.chars().count();
    if count <= width {
        return text.to_owned();
    }
    let Some(room) = width.checked_sub(1) else { return String::new() };
    let end = (room / 2).min(8);
    let begin: String = text.chars().take(room - end).collect();
    let end: String = text.chars().skip(count - end).collect();
    format!("{begin}~{end}")
}
