//! The goals of design section 12, and whether this run meets them: always as ratios of what this run has measured.

use crate::report::Report;

/// Sets what was measured against each goal that can be told from it.
pub(crate) fn judge(report: &mut Report) {
    let spinning = report.distribution("round_trip_spinning");
    let blocking = report.distribution("round_trip_blocking");
    let relay = report.median("spinning_relay");
    let epoll = report.median("epoll_relay_split");
    report.goal("P1", "spinning round trip : spinning relay", spinning.together / relay, 2.0);
    report.goal("P1", "spinning round trip, p99 : median", spinning.p99 / spinning.median, 1.2);
    report.goal("P4", "blocking round trip : epoll relay across cores", blocking.together / epoll, 0.25);
}
