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
    let ways = ["from_guest", "to_remote", "from_remote", "to_guest"];
    let counts = ways.map(|way| report.counted(&format!("notifications_{way}")));
    report.goal(
        "P5",
        "notifications of an echo, the most of four ways",
        counts.into_iter().fold(0.0, f64::max),
        1.0 / 16.0,
    );
    report.goal("P6", "wake-ups a second, 8 idle VMs", report.counted("idle_wake_ups"), 0.0);
    let cost = report.counted("cost_64_vms") / report.counted("cost_1_vm");
    report.goal("P7", "the program's time for an echo, 64 VMs : 1 VM", cost, 1.3);
}
