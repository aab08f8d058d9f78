//! Measuring again where the cores have moved.
//!
//! The host of a virtual machine may move the two cores apart or together at any time, and what passes between them then takes
//! several times as long or as short. A figure and the limit that it is held against have to be from one and the same state.

use super::floors::distance;
use super::report::Report;

/// Distances after and before, one against the other, that are the same.
const SAME: std::ops::Range<f64> = 0.7..1.4;
/// Times that a part is measured before it is left as it is.
const TRIES: usize = 3;

/// Measures a part of the run, and once more if the cores are not as far apart after it as before.
pub(crate) fn steadily(report: &mut Report, part: impl Fn(&mut Report)) {
    for number in 1..=TRIES {
        let (before, mark) = (distance(), report.mark());
        report.at_distance(before);
        part(report);
        let moved = distance() / before;
        if SAME.contains(&moved) {
            return;
        }
        let times = if moved > 1.0 { moved } else { 1.0 / moved };
        let how = if moved > 1.0 { "further apart" } else { "nearer" };
        print!("\nThe cores are {times:.1} times {how} now than when this part was begun: ");
        if number == TRIES {
            println!("its ratios are not to be trusted.");
            report.is_unsteady();
        } else {
            println!("it is measured once more.");
            report.forget_since(mark);
        }
    }
}
