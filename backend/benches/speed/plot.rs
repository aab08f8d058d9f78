//! Drawings of what was measured, as SVG, for people.

use std::error::Error;
use std::path::Path;

use plotters::coord::ranged1d::{NoDefaultFormatting, Ranged, ValueFormatter};
use plotters::prelude::*;

use super::program::VMS;
use super::report::{Report, RoundTrip};

/// Pixels.
const SIZE: (u32, u32) = (900, 540);
const MARGIN: u32 = 18;
const FONT: &str = "sans-serif";

/// Why there is no drawing. The crate's errors depend on where it draws.
type Failed = Box<dyn Error>;

/// How long round trips take: which part of them takes no longer than what.
pub(crate) fn latency(report: &Report, path: &Path) -> Result<(), Failed> {
    let trips = [
        ("round_trip_spinning", "guest and remote spinning", BLUE),
        ("round_trip_blocking", "guest and remote blocking", RED),
    ];
    let drawn: Vec<_> = trips
        .into_iter()
        .filter_map(|(name, legend, color)| {
            Some((report.round_trips.iter().find(|trip| trip.name == name)?, legend, color))
        })
        .collect();
    let microseconds =
        || drawn.iter().flat_map(|(trip, ..)| trip.times.curve.iter().map(|(_, time)| time / 1e3));
    let least = microseconds().fold(f64::INFINITY, f64::min);
    let most = microseconds().fold(0.0, f64::max);
    let rarest = drawn.iter().map(|(trip, ..)| rareness_of(trip)).fold(1.0, f64::max);
    let area = SVGBackend::new(path, SIZE).into_drawing_area();
    area.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&area)
        .caption("Round trip of 16 bytes: guest, program, remote core, and back", (FONT, 22))
        .margin(MARGIN)
        .x_label_area_size(52)
        .y_label_area_size(72)
        .build_cartesian_2d(Percentile { rarest }, (least * 0.7..most * 1.4).log_scale())?;
    chart
        .configure_mesh()
        .x_desc("round trips that take no longer, in percent")
        .y_desc("time in microseconds")
        .y_label_formatter(&|time| plain(*time))
        .axis_desc_style((FONT, 16))
        .label_style((FONT, 14))
        .light_line_style(WHITE)
        .draw()?;
    for (trip, legend, color) in drawn {
        let points = trip.times.curve.iter().map(|(part, time)| (1.0 / (1.0 - part), time / 1e3));
        line(&mut chart, points, legend, color)?;
    }
    label(&mut chart, SeriesLabelPosition::UpperLeft)?;
    area.present()?;
    Ok(())
}

fn rareness_of(trip: &RoundTrip) -> f64 {
    trip.times.curve.last().map_or(1.0, |(part, _)| 1.0 / (1.0 - part))
}

/// How many messages there are a second, by the number of VMs that send them.
pub(crate) fn throughput(report: &Report, path: &Path) -> Result<(), Failed> {
    let kinds = [("one_way", "to the remote core", BLUE), ("echo", "to the remote core and back", RED)];
    let rates = |kind: &str| -> Vec<(f64, f64)> {
        VMS.iter()
            .filter_map(|count| {
                let figure = report.find(&format!("{kind}_rate_{count}_vms"))?;
                Some((f64::from(*count), figure.spread.typical / 1e6))
            })
            .collect()
    };
    let drawn = kinds.map(|(kind, legend, color)| (rates(kind), legend, color));
    let most = drawn.iter().flat_map(|(rates, ..)| rates).map(|(_, rate)| *rate).fold(0.0, f64::max);
    let last = VMS.last().copied().map_or(1.0, f64::from);
    let area = SVGBackend::new(path, SIZE).into_drawing_area();
    area.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&area)
        .caption("Messages of 16 bytes by number of VMs, all sending as fast as they can", (FONT, 22))
        .margin(MARGIN)
        .x_label_area_size(52)
        .y_label_area_size(72)
        .build_cartesian_2d((1.0..last * 1.08).log_scale().base(2.0), 0.0..most * 1.2)?;
    chart
        .configure_mesh()
        .x_desc("VMs")
        .y_desc("million messages a second")
        .x_label_formatter(&|count| format!("{count:.0}"))
        .axis_desc_style((FONT, 16))
        .label_style((FONT, 14))
        .light_line_style(WHITE)
        .draw()?;
    for (rates, legend, color) in drawn {
        chart.draw_series(rates.iter().map(|point| Circle::new(*point, 4, color.filled())))?;
        line(&mut chart, rates, legend, color)?;
    }
    label(&mut chart, SeriesLabelPosition::UpperRight)?;
    area.present()?;
    Ok(())
}

type Chart<'a, 'b, X, Y> = ChartContext<'a, SVGBackend<'b>, Cartesian2d<X, Y>>;

/// Draws one of the lines.
fn line<X: Ranged<ValueType = f64>, Y: Ranged<ValueType = f64>>(
    chart: &mut Chart<'_, '_, X, Y>,
    points: impl IntoIterator<Item = (f64, f64)>,
    legend: &str,
    color: RGBColor,
) -> Result<(), Failed> {
    chart
        .draw_series(LineSeries::new(points, color.stroke_width(2)))?
        .label(legend)
        .legend(move |(x, y)| PathElement::new([(x, y), (x + 24, y)], color.stroke_width(2)));
    Ok(())
}

/// Says which line is which, once all are drawn.
fn label<'a, 'b: 'a, X: Ranged<ValueType = f64>, Y: Ranged<ValueType = f64>>(
    chart: &mut Chart<'a, 'b, X, Y>,
    position: SeriesLabelPosition,
) -> Result<(), Failed> {
    chart
        .configure_series_labels()
        .position(position)
        .background_style(WHITE)
        .border_style(BLACK)
        .label_font((FONT, 15))
        .draw()?;
    Ok(())
}

/// An axis of percentiles on which 90, 99 and 99.9 are as far apart: its values are 10, 100 and 1000, one in how many is
/// beyond.
struct Percentile {
    rarest: f64,
}

impl Ranged for Percentile {
    type FormatOption = NoDefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, limit: (i32, i32)) -> i32 {
        let part = value.max(1.0).ln() / self.rarest.ln();
        #[allow(clippy::cast_possible_truncation, reason = "a pixel of the drawing")]
        let pixels = (part * f64::from(limit.1 - limit.0)).round() as i32;
        limit.0 + pixels
    }

    fn key_points<Hint: plotters::coord::ranged1d::KeyPointHint>(&self, _hint: Hint) -> Vec<f64> {
        let tens = (1..).map(|power| 10_f64.powi(power));
        [1.0, 2.0].into_iter().chain(tens.take_while(|ten| *ten <= self.rarest * 1.001)).collect()
    }

    fn range(&self) -> std::ops::Range<f64> {
        1.0..self.rarest
    }
}

impl ValueFormatter<f64> for Percentile {
    fn format(value: &f64) -> String {
        let percent = 100.0 - 100.0 / value;
        let digits = (value.log10().ceil() - 2.0).max(0.0);
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a few digits")]
        let digits = digits as usize;
        format!("{percent:.digits$}")
    }
}

/// A number without what does not matter of it.
fn plain(number: f64) -> String {
    if number < 10.0 { format!("{number:.1}") } else { format!("{number:.0}") }
}
