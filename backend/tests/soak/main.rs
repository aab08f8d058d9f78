//! Hours of everything at once: VMs stream near to what the machine carries, while workers are killed, the remote core
//! crashes and is restarted, and VMs are reset and cut off.
//!
//! | file | what it is |
//! |---|---|
//! | `vm` | a VM that streams, and explains each message that it has not got back |
//! | `weather` | what happens to all of them |
//! | `account` | what has come of it: messages, events, what the program holds |
//!
//! At the end everything is accounted for. Only a core that is lost may cost messages, those that were under way, and a VM that
//! begins anew those of its own; a worker's death costs none. And neither process of the program holds more than at first.
#![forbid(unsafe_code)]

#[path = "../harness/mod.rs"]
#[allow(dead_code, reason = "written for several test binaries")]
mod harness;
#[path = "../sharing/ledger.rs"]
#[allow(dead_code, reason = "written for the life matrix, which tests it")]
mod ledger;

mod account;
mod vm;
mod weather;

use std::time::Duration;

#[test]
fn everything_at_once_costs_no_message_but_what_a_lost_core_or_a_vm_had_under_way() {
    weather::soak(Duration::from_secs(20));
}

/// As many minutes as the variable `MINUTES` says, for `ci/soak`.
#[test]
#[ignore = "takes as long as it is told"]
fn everything_at_once_for_as_long_as_told() {
    let minutes: u64 = std::env::var("MINUTES").map_or(60, |text| text.parse().expect("a number"));
    weather::soak(Duration::from_secs(60 * minutes));
}
