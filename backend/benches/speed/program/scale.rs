//! What a message costs with many VMs, many endpoints and many services, and how long a VM is told of services.

use super::SMALL;
use super::load::{burst, stream};
use super::sides::Messages;
use super::stepped::SERVICES;
use super::world::World;
use crate::lean::Notifications;
use crate::repeat::a_few_times;
use crate::report::{Report, Unit};

/// Numbers of VMs.
pub(crate) const VMS: [u8; 5] = [1, 2, 8, 32, 64];
/// Numbers of endpoints of one VM.
const ENDPOINTS: [u32; 4] = [16, 256, 4096, 65_536];
/// Numbers of services.
const MANY_SERVICES: [usize; 3] = [SERVICES, 64, 500];

/// Many VMs.
pub(super) fn vms(report: &mut Report) {
    VMS.into_iter().for_each(|count| some_vms(report, count));
}

fn some_vms(report: &mut Report, count: u8) {
    let world = World::new(count);
    let mut sides = world.sides(Notifications::Unwanted);
    let of = if count == 1 { "1 VM".to_owned() } else { format!("{count} VMs") };
    for (name, what, messages) in [
        ("one_way", "16 bytes to the remote", Messages::one_way(SMALL)),
        ("echo", "echo of 16 bytes", Messages::echo(SMALL)),
    ] {
        let what = format!("{what}, {of}, in a stream");
        let (time, used) = stream(&what, &world, &mut sides, messages);
        let rate = time.map(|nanoseconds| 1e9 / nanoseconds);
        report.figure(&format!("{name}_rate_{count}_vms"), &what, Unit::PerSecond, &rate, None);
        let what = format!("{what}, processor time");
        report.figure(&format!("{name}_cpu_{count}_vms"), &what, Unit::Nanoseconds, &used, None);
    }
}

/// Many endpoints: each message is from another one than the one before it.
pub(super) fn endpoints(report: &mut Report) {
    let world = World::new(1);
    let mut sides = world.sides(Notifications::Unwanted);
    for endpoints in ENDPOINTS {
        let what = format!("echo of 16 bytes, {endpoints} endpoints, in a burst");
        let cost = burst(&what, &mut sides, Messages { endpoints, ..Messages::echo(SMALL) });
        report.figure(&format!("echo_cost_{endpoints}_endpoints"), &what, Unit::Nanoseconds, &cost, None);
    }
}

/// Many services: each message is to another one than the one before it.
pub(super) fn services(report: &mut Report) {
    MANY_SERVICES.into_iter().for_each(|count| some_services(report, count));
}

fn some_services(report: &mut Report, count: usize) {
    let mut world = World::with(2, count, &[]);
    let what = format!("a VM's driver comes up, {count} services, for each");
    let replay = a_few_times(&what, || world.time_replay(1).as_secs_f64() * 1e9 / count as f64);
    report.figure(&format!("replay_{count}_services"), &what, Unit::Nanoseconds, &replay, None);
    let mut sides = world.sides(Notifications::Unwanted);
    // All those that do not answer are behind the first three.
    let services = u32::try_from(count).expect("few services") - 3;
    let what = format!("16 bytes to the remote, {count} services, in a burst");
    let cost = burst(&what, &mut sides, Messages { services, ..Messages::one_way(SMALL) });
    report.figure(&format!("one_way_cost_{count}_services"), &what, Unit::Nanoseconds, &cost, None);
}
