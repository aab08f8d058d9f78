//! The life matrix: VMs come, go, die and come back while others stream, whatever the way in which they share services.
//!
//! Every cell is a test of its own: real program, real core in another process, guests over vhost-user. It ends with a
//! table of what became of all messages, which is why this is a program with a harness of its own: libtest would keep
//! the table to itself.
#![forbid(unsafe_code)]

#[path = "../harness/mod.rs"]
#[allow(dead_code, reason = "written for several test binaries")]
mod harness;

mod cell;
#[allow(dead_code, reason = "the soak needs more of it")]
mod ledger;
mod table;
mod vm;

use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};

use libtest_mimic::{Arguments, Failed, Trial, run};

use cell::{Cell, Event, Mode};
use table::Table;

/// How many VMs there are.
const COUNTS: [u8; 3] = [2, 8, 64];

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let table = Arc::new(Mutex::new(Table::default()));
    let mut trials = ledger_trials();
    for count in COUNTS {
        for mode in Mode::ALL {
            trials.extend(Event::ALL.map(|event| cell_trial(count, mode, event, &table)));
        }
    }
    let conclusion = run(&arguments, trials);
    print!("{}", table.lock().unwrap_or_else(PoisonError::into_inner));
    conclusion.exit_code()
}

/// The test of one cell.
fn cell_trial(count: u8, mode: Mode, event: Event, table: &Arc<Mutex<Table>>) -> Trial {
    let shared = match mode {
        Mode::Shared => "shared_services",
        Mode::Exclusive => "exclusive_services",
        Mode::Serialized => "a_serialized_service",
        Mode::Broadcast => "a_broadcast_service",
    };
    let happens = match event {
        Event::Reset => "are_reset",
        Event::Unbind => "lose_their_driver_for_a_while",
        Event::Reboot => "reboot",
        Event::Kill => "are_killed",
        Event::Return => "are_killed_and_return",
    };
    let name = format!("{count}_vms_stream_over_{shared}_while_some_{happens}");
    let table = Arc::clone(table);
    Trial::test(name, move || {
        let tally = Cell::play(count, mode, event);
        table.lock().unwrap_or_else(PoisonError::into_inner).add(count, mode, event, tally);
        if tally.is_clean() { Ok(()) } else { Err(Failed::from(format!("{tally:?}"))) }
    })
}

/// The tests of what decides in the others.
fn ledger_trials() -> Vec<Trial> {
    macro_rules! trials {
        ($($name:ident),* $(,)?) => {
            vec![$(Trial::test(concat!("ledger::", stringify!($name)), || {
                ledger::tests::$name();
                Ok(())
            })),*]
        };
    }
    trials![
        a_stream_as_it_should_be_is_clean,
        a_lost_message_is_seen_wherever_it_was,
        a_doubled_message_is_seen_at_once_and_later,
        a_reordered_message_is_seen_and_not_taken_for_lost_or_doubled,
        a_misdelivered_message_is_seen_whoever_it_was_for,
        a_changed_byte_is_seen_wherever_it_is,
        a_listener_that_joins_late_may_miss_what_was_sent_before_and_nothing_else,
        what_was_under_way_to_a_vm_that_died_is_not_lost_but_a_gap_before_it_is,
    ]
}
