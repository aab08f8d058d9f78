//! The crash matrix: the remote core is lost in every way there is while VMs use it, and comes back.
//!
//! Real program, real core in another process, guests over vhost-user. Every cell is a test of its own. It ends with a
//! table of what became of all messages, which is why this is a program with a harness of its own: libtest would keep the
//! table to itself.
#![forbid(unsafe_code)]

#[path = "../harness/mod.rs"]
#[allow(dead_code, reason = "written for several test binaries")]
mod harness;
#[path = "../sharing/ledger.rs"]
#[allow(dead_code, reason = "written for the life matrix, which tests it")]
mod ledger;

mod booted;
mod cell;
mod figures;
mod policies;
mod table;
mod vm;

use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};

use libtest_mimic::{Arguments, Failed, Trial, run};

use cell::{Event, Load};
use table::Table;

/// How many VMs there are.
const COUNTS: [u8; 2] = [1, 3];

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let table = Arc::new(Mutex::new(Table::default()));
    let mut trials = policy_trials();
    for event in Event::ALL {
        for load in Load::ALL {
            trials.extend(COUNTS.map(|count| cell_trial(event, load, count, &table)));
        }
    }
    let figures = Trial::test("figures", || {
        figures::print_all();
        Ok(())
    });
    trials.push(figures.with_ignored_flag(true));
    let conclusion = run(&arguments, trials);
    print!("{}", table.lock().unwrap_or_else(PoisonError::into_inner));
    conclusion.exit_code()
}

/// The test of one cell.
fn cell_trial(event: Event, load: Load, count: u8, table: &Arc<Mutex<Table>>) -> Trial {
    let happens = match event {
        Event::Crash => "crashes",
        Event::Cut => "is_cut_off",
        Event::Kill => "is_killed",
        Event::Hang => "hangs",
        Event::Reset => "is_reset_with_messages_in_its_vrings",
        Event::Garbage => "has_garbage_in_a_vring",
        Event::ReadyTwice => "is_ready_twice",
    };
    let load_name = match load {
        Load::Idle => "are_idle",
        Load::Streaming => "stream",
    };
    let name = format!("the_core_{happens}_while_{count}_vms_{load_name}");
    let table = Arc::clone(table);
    Trial::test(name, move || {
        let outcome = cell::play(event, load, count);
        table.lock().unwrap_or_else(PoisonError::into_inner).add(event, load, count, outcome);
        if outcome.is_clean() { Ok(()) } else { Err(Failed::from(format!("{outcome:?}"))) }
    })
}

/// The tests of what is done about a core that is lost, and of when one is started and stopped.
fn policy_trials() -> Vec<Trial> {
    macro_rules! trials {
        ($($name:ident),* $(,)?) => {
            vec![$(Trial::test(concat!("policies::", stringify!($name)), || {
                policies::$name();
                Ok(())
            })),*]
        };
    }
    trials![
        a_booted_core_that_crashes_is_stopped_and_started,
        a_booted_core_is_left_to_boot_by_itself_where_it_is_only_to_be_attached_to,
        without_recovery_a_core_that_crashed_is_left_alone_even_if_it_boots,
        a_core_that_crashes_too_often_in_a_row_is_given_up,
        the_second_reboot_in_a_row_has_to_wait_and_the_first_has_not,
        the_memory_of_a_core_that_crashed_is_dumped_before_it_is_stopped,
        a_core_that_is_needed_runs_from_the_first_vm_to_the_last,
        a_core_is_started_after_the_one_it_counts_on_and_stopped_before_it,
        a_core_that_misses_a_heartbeat_is_started_anew,
        a_core_that_does_not_answer_for_a_while_and_goes_on_has_lost_nothing,
        a_core_whose_watchdog_fires_is_started_anew,
        a_core_that_keeps_messages_but_answers_is_not_taken_for_hung_and_one_that_does_not_is,
        at_the_end_an_attached_core_has_its_clean_table_back_and_goes_on_without_us,
        at_the_end_a_booted_core_is_stopped,
        a_core_that_says_ready_and_has_its_table_as_we_left_it_is_attached_to_again,
        a_crash_of_one_core_is_not_noticed_by_the_vms_of_another,
        a_core_that_is_needed_on_and_off_in_quick_succession_is_started_and_stopped_in_turn,
    ]
}
