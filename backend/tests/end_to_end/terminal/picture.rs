//! A picture of a terminal, for people: SVG.

use std::fmt::Write;

use vt100::{Cell, Screen};

/// Pixels of a character.
const WIDTH: usize = 8;
const HEIGHT: usize = 17;
/// From the top of a line to where its characters stand.
const BASE: usize = 13;
const MARGIN: usize = 8;
const DARK: &str = "#1c1e22";
const LIGHT: &str = "#d8dee4";

/// What makes characters look alike.
#[derive(Clone, Copy, PartialEq)]
struct Look {
    is_bold: bool,
    is_reversed: bool,
}

impl Look {
    fn of(cell: Option<&Cell>) -> Self {
        Look { is_bold: cell.is_some_and(Cell::bold), is_reversed: cell.is_some_and(Cell::inverse) }
    }
}

/// Draws what is seen.
pub(super) fn svg(screen: &Screen) -> String {
    let (rows, columns) = screen.size();
    let (rows, columns) = (rows.get(), columns.get());
    let (width, height) =
        (usize::from(columns) * WIDTH + 2 * MARGIN, usize::from(rows) * HEIGHT + 2 * MARGIN);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" font-family=\"monospace\" \
         font-size=\"13\">\n<rect width=\"100%\" height=\"100%\" rx=\"6\" fill=\"{DARK}\"/>\n"
    );
    for row in 0..rows {
        let looks: Vec<_> = (0..columns).map(|column| (column, Look::of(screen.cell(row, column)))).collect();
        for run in looks.chunk_by(|one, other| one.1 == other.1) {
            let character = |(column, _): &(u16, Look)| match screen.cell(row, *column).map(Cell::contents) {
                None | Some("") => " ",
                Some(character) => character,
            };
            draw(&mut svg, row, run[0], &run.iter().map(character).collect::<String>());
        }
    }
    svg + "</svg>\n"
}

fn draw(svg: &mut String, row: u16, (column, look): (u16, Look), text: &str) {
    let (x, y) = (MARGIN + usize::from(column) * WIDTH, MARGIN + usize::from(row) * HEIGHT);
    let width = text.chars().count() * WIDTH;
    let (ink, weight) = (
        if look.is_reversed { DARK } else { LIGHT },
        if look.is_bold { " font-weight=\"bold\"" } else { "" },
    );
    if look.is_reversed {
        let _ = writeln!(
            svg,
            "<rect x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{HEIGHT}\" fill=\"{LIGHT}\"/>"
        );
    }
    if text.trim().is_empty() {
        return;
    }
    let text = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    let base = y + BASE;
    let _ = writeln!(
        svg,
        "<text x=\"{x}\" y=\"{base}\" fill=\"{ink}\"{weight} textLength=\"{width}\" xml:space=\"preserve\">{text}</text>"
    );
}
