//! What no guest's kernel may say, whatever is done to its device.

/// Words and phrases by which Linux introduces a complaint.
const COMPLAINTS: [&str; 13] = [
    "BUG",
    "WARNING",
    "Call Trace",
    "Oops",
    "Kernel panic",
    "scheduling while atomic",
    "sleeping function called from invalid context",
    "hung task",
    "blocked for more than",
    "soft lockup",
    "self-detected stall",
    "detected stalls",
    "general protection fault",
];

/// The first complaint in a kernel log, with the lines after it that explain it.
pub(crate) fn find(log: &str) -> Option<String> {
    /// A stack trace seldom has more.
    const LINES: usize = 40;

    let lines = without_the_drivers_own(log);
    let first = lines.iter().position(|line| COMPLAINTS.iter().any(|complaint| says(line, complaint)))?;
    Some(lines[first..].iter().take(LINES).copied().collect::<Vec<_>>().join("\n"))
}

/// The lines of a log without what the stock driver does to a real-time kernel, whatever the device does: its interrupt
/// is a thread there, in an RCU section, and makes devices; where somebody else makes one at that moment it waits, and
/// the kernel remarks on that, once. Anything else of the kind is a complaint like any other.
fn without_the_drivers_own(log: &str) -> Vec<&str> {
    const BEGIN: &str = "[ cut here ]";
    const END: &str = "[ end trace ";

    let mut lines: Vec<_> = log.lines().collect();
    if !log.contains("PREEMPT_RT") {
        return lines;
    }
    let begin = lines.iter().position(|line| line.contains(BEGIN));
    let block = begin.and_then(|begin| {
        let len = lines[begin..].iter().position(|line| line.contains(END))? + 1;
        Some(begin..begin + len)
    });
    if let Some(block) = block {
        let says = |phrase| lines[block.clone()].iter().any(|line| line.contains(phrase));
        if says("Voluntary context switch within RCU") && says("rpmsg_recv_done") && says("vring_interrupt") {
            lines.drain(block);
        }
    }
    lines
}

/// Whether the phrase occurs, and is no part of longer words.
fn says(line: &str, phrase: &str) -> bool {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(phrase).any(|(start, _)| {
        let before = line[..start].chars().next_back();
        let after = line[start + phrase.len()..].chars().next();
        !before.is_some_and(is_word) && !after.is_some_and(is_word)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_that_comes_up_as_usual_has_no_complaint() {
        let log = "[    0.000000] Linux version 6.1.176 (rpmsg@guest) #1 SMP\n\
                   [    0.010000] debug: DEBUG_INFO is off, no BUGS here, rcu: Hierarchical RCU implementation.\n\
                   [    0.500000] virtio_rpmsg_bus virtio0: rpmsg host is online\n\
                   qemu-system-x86_64: warning: vhost-user backend supports VHOST_USER_PROTOCOL_F_CONFIG\n";
        assert_eq!(find(log), None);
    }

    /// As Linux 7.2 prints it.
    const DRIVERS_OWN: &str = "\
[    1.598495] ------------[ cut here ]------------
[    1.598569] Voluntary context switch within RCU read-side critical section!
[    1.598662] WARNING: kernel/rcu/tree_plugin.h:332 at rcu_note_context_switch+0x38/0x2cb, CPU#1: irq/22-virtio1/80
[    1.600531] Call Trace:
[    1.601840]  rpmsg_recv_done+0x161/0x1ee [virtio_rpmsg_bus]
[    1.601853]  vring_interrupt+0x76/0x7d
[    1.602000] ---[ end trace 0000000000000000 ]---
";

    #[test]
    fn what_the_stock_driver_does_to_a_real_time_kernel_is_not_the_devices_fault_once() {
        let real_time = "[    0.000000] Linux version 7.2.13 #1 SMP PREEMPT_RT\n";
        assert_eq!(find(&format!("{real_time}{DRIVERS_OWN}[    2.0] all is well\n")), None);
        assert!(find(DRIVERS_OWN).is_some(), "of another kernel");
        assert!(find(&format!("{real_time}{DRIVERS_OWN}{DRIVERS_OWN}")).is_some(), "twice");
        let other = DRIVERS_OWN.replace("rpmsg_recv_done", "other_driver");
        assert!(find(&format!("{real_time}{other}")).is_some(), "of another driver");
    }

    #[test]
    fn every_kind_of_complaint_is_found_with_what_follows() {
        for complaint in [
            "[    1.436944] BUG: scheduling while atomic: irq/21-virtio0/22/0x00000200",
            "[    0.388000] kernel BUG at kernel/sched/core.c:3607!",
            "[    2.000000] WARNING: CPU: 0 PID: 1 at kernel/softirq.c:358 __local_bh_enable_ip+0x63/0x70",
            "[    1.437901] Call Trace:",
            "[    0.388000] Oops: invalid opcode: 0000 [#1] SMP",
            "[    0.392000] Kernel panic - not syncing: Attempted to kill init! exitcode=0x0000000b",
            "[   90.000000] INFO: task modprobe:48 blocked for more than 60 seconds.",
            "[   30.000000] watchdog: BUG: soft lockup - CPU#0 stuck for 22s! [modprobe:48]",
            "[   21.000000] rcu: INFO: rcu_sched self-detected stall on CPU",
            "[   21.000000] rcu: INFO: rcu_preempt detected stalls on CPUs/tasks:",
            "[    5.000000] BUG: sleeping function called from invalid context at kernel/locking/mutex.c:580",
        ] {
            let log = format!("[    0.1] all is well\n{complaint}\n[    9.9]  mutex_lock+0x1b/0x1e\n");
            let found = find(&log).unwrap_or_else(|| panic!("not found: {complaint}"));
            assert!(found.starts_with(complaint), "{found}");
            assert!(found.ends_with("mutex_lock+0x1b/0x1e"), "{found}");
        }
    }
}
