//! The goals of design section 12, and whether this run meets them: always as ratios of what this run has measured.
//!
//! Not judged here are system calls per message (of P5), what an idle VM costs a sweep (of P6), many endpoints (of P7), P8, which
//! `cargo bench --bench sharing` does, and P9, which is a test.

use crate::report::Report;

/// Sets what was measured against each goal that can be told from it.
pub(crate) fn judge(report: &mut Report) {
    let spinning = report.distribution("round_trip_spinning");
    let blocking = report.distribution("round_trip_blocking");
    let relay = report.median("spinning_relay");
    let epoll = report.median("epoll_relay_split");
    report.goal("P1", "spinning round trip : spinning relay", spinning.together / relay, 2.0);
    report.goal("P1", "spinning round trip, p99 : median", spinning.p99 / spinning.median, 1.2);
    let ratio = report.counted("large_one_way_cost_1_vm") / report.median("copy_512");
    report.goal("P2", "time for 496 bytes to the remote : one copy", ratio, 2.0);
    let ratio = report.counted("large_echo_cost_1_vm") / report.median("copy_512");
    report.goal("P2", "time for an echo of 496 bytes : one copy", ratio, 4.0);
    let ratio = report.counted("one_way_cost_1_vm") / report.median("virtqueue_pop_push_batch_32");
    report.goal("P3", "time for 16 bytes to the remote : pop and push", ratio, 0.25);
    report.goal("P4", "blocking round trip : epoll relay across cores", blocking.together / epoll, 0.25);
    let ways = ["from_guest", "to_remote", "from_remote", "to_guest"];
    let counts = ways.map(|way| report.counted(&format!("notifications_{way}")));
    let most = counts.into_iter().fold(0.0, f64::max);
    report.goal("P5", "notifications of an echo, the most of four ways", most, 1.0 / 16.0);
    report.goal("P6", "wake-ups a second, 8 idle VMs", report.counted("idle_wake_ups"), 0.0);
    let ratio = report.counted("echo_cost_64_vms") / report.counted("echo_cost_1_vm");
    report.goal("P7", "time for an echo, 64 VMs : 1 VM", ratio, 1.3);
}
