//! The sandbox, tried from inside: every system call, every restricted argument, files, sockets, privileges.
//!
//! System calls are tried in children of this process that have the filter and do nothing else. The whole sandbox is
//! closed around this program started anew, as it has to be closed before there is a second thread.

mod calls;
mod child;
mod whole;

use std::process::ExitCode;

use libtest_mimic::{Arguments, Trial};

fn main() -> ExitCode {
    if let Some(code) = whole::main_inside() {
        return code;
    }
    let trial = |name: &str, test: fn()| {
        Trial::test(name, move || {
            test();
            Ok(())
        })
    };
    let trials = vec![
        trial("every_system_call_that_is_not_in_the_list_ends_the_process", calls::others_kill),
        trial("calls_that_are_answered_as_absent_do_no_harm", calls::absent_are_absent),
        trial(
            "calls_with_other_arguments_than_those_in_the_list_end_the_process",
            calls::other_arguments_kill,
        ),
        trial("calls_with_arguments_of_the_list_are_carried_out", calls::listed_arguments_work),
        trial("with_log_other_calls_are_carried_out", calls::log_lets_through),
        trial("without_a_filter_there_is_none", calls::none_is_none),
        trial("no_call_stands_in_the_list_twice_or_without_a_reason", calls::the_list_is_in_order),
        trial("files_sockets_and_privileges_are_out_of_reach", whole::nothing_is_in_reach),
        trial("threads_memory_and_descriptors_work_under_the_filter", whole::what_is_needed_works),
    ];
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}
