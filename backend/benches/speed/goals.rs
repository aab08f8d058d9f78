//! The goals of design section 12, and whether this run meets them: always as ratios of what this run has measured.

use crate::program::FLOODED_VMS;
use crate::report::Report;

/// Messages of a VM's turn.
const TURN: f64 = 8.0;

/// Sets what was measured against each goal that can be told from it.
pub(crate) fn judge(report: &mut Report) {
    let relay = report.typical("spinning_relay");
    for (size, name) in [(16, "round_trip_spinning"), (496, "large_round_trip_spinning")] {
        let times = report.times(name).clone();
        let what = format!("spinning round trip of {size} bytes : spinning relay");
        report.goal("P1", &what, times.together.typical / relay, 2.0);
        let what = format!("spinning round trip of {size} bytes, p99 : median");
        report.goal("P1", &what, times.p99 / times.median, 1.2);
    }
    let copy = report.typical("copy_512");
    let ratio = report.typical("large_one_way_time") / copy;
    report.goal("P2", "time of 496 bytes to the remote : one copy", ratio, 2.0);
    let ratio = report.typical("large_echo_time") / copy;
    report.goal("P2", "time of an echo of 496 bytes : one copy", ratio, 4.0);
    let ratio = report.typical("relay_batch_32") / report.typical("virtqueue_pop_push_batch_32");
    report.goal("P3", "a relayed message : pop and push, 32 at a time", ratio, 0.25);
    let ratio = report.typical("relay_batch_1") / report.typical("virtqueue_pop_push");
    report.goal("P3", "a relayed message : pop and push", ratio, 1.0 / 3.0);
    let blocking = report.times("round_trip_blocking").together.typical;
    let ratio = blocking / report.typical("epoll_relay_split");
    report.goal("P4", "blocking round trip : epoll relay across cores", ratio, 0.25);
    let ways = ["from_guest", "to_remote", "from_remote", "to_guest"];
    let counts = ways.map(|way| report.typical(&format!("notifications_{way}")));
    let most = counts.into_iter().fold(0.0, f64::max);
    report.goal("P5", "notifications of an echo, the most of four ways", most, 1.0 / 16.0);
    if report.find("system_calls").is_some() {
        // None belongs to a message: what is left is that other things are looked at now and then.
        report.goal("P5", "system calls of an echo while polling", report.typical("system_calls"), 0.01);
    }
    report.goal("P6", "wake-ups a second, 8 idle VMs", report.typical("idle_wake_ups"), 0.0);
    report.goal("P6", "nanoseconds that an idle VM costs a sweep", report.typical("idle_vm"), 4.0);
    // Nothing, as far as can be seen.
    report.goal("P6", "nanoseconds that a parked VM costs a sweep", report.typical("parked_vm"), 0.5);
    for (name, what) in [("one_way", "a message"), ("echo", "an echo")] {
        let rate = |vms: u8| report.typical(&format!("{name}_rate_{vms}_vms"));
        report.goal("P7", &format!("time of {what}, 64 VMs : 1 VM"), rate(1) / rate(64), 1.3);
    }
    let ratio = report.typical("echo_cost_65536_endpoints") / report.typical("echo_cost_16_endpoints");
    report.goal("P7", "cost of an echo, 65536 endpoints : 16 endpoints", ratio, 1.1);
    let ratio = report.typical("one_way_cost_500_services") / report.typical("one_way_cost_6_services");
    report.goal("P7", "cost of a message, 500 services : 6 services", ratio, 1.1);
    let ratio = report.typical("replay_500_services") / report.typical("replay_64_services");
    report.goal("P7", "a VM told of a service, 500 services : 64 services", ratio, 1.3);
    let turns = f64::from(FLOODED_VMS) * TURN * report.typical("flood_cost");
    let bound = report.times("victim_alone").p99 + turns;
    let ratio = report.times("victim_flooded").p99 / bound;
    report.goal("P8", "a victim's p99 : its p99 alone and a turn of each VM", ratio, 1.0);
    report.goal(
        "P8",
        "what Jain's index of 63 flooders lacks of 1",
        report.typical("flood_unfairness"),
        0.01,
    );
    let ratio =
        report.typical("three_flooders_cost_beside_bad_receiver") / report.typical("three_flooders_cost");
    report.goal("P8", "a message, beside a VM that takes nothing : without it", ratio, 1.0 / 0.95);
    report
        .elsewhere("P9", "a_message_is_copied_once_each_way_and_nothing_is_allocated, a test of the bridge");
}
