//! The seccomp filter that the list of [`calls`](super::calls) makes.

use std::collections::BTreeMap;
use std::env::consts::ARCH;
use std::fmt;

use clap::ValueEnum;
use nix::libc;
use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch, apply_filter_all_threads,
};
use thiserror::Error;

use super::calls::{ABSENT, CALLS, Call, Is};

/// What becomes of a system call that is not in the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Seccomp {
    /// It is carried out: there is no filter.
    None,
    /// It is carried out, and the kernel writes it to its log.
    Log,
    /// It ends the process.
    Kill,
}

impl fmt::Display for Seccomp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Seccomp::None => "none",
            Seccomp::Log => "log",
            Seccomp::Kill => "kill",
        })
    }
}

/// Why system calls cannot be restricted.
#[derive(Debug, Error)]
pub enum FilterError {
    /// The filter cannot be made.
    #[error(
        "cannot make a seccomp filter for this processor, {ARCH}; start with --seccomp none to go without"
    )]
    Make(#[source] BackendError),
    /// The kernel does not take it.
    #[error("the kernel refuses the seccomp filter; start with --seccomp none to go without")]
    Apply(#[source] seccompiler::Error),
}

/// A filter that is ready.
#[derive(Clone, Debug)]
pub struct Filter {
    /// The kernel does what the strictest of them says.
    programs: [BpfProgram; 2],
}

impl Filter {
    /// Makes the filter; `None` where none is wanted.
    ///
    /// # Errors
    /// A processor that there is no list for.
    pub fn new(seccomp: Seccomp) -> Result<Option<Self>, FilterError> {
        let otherwise = match seccomp {
            Seccomp::None => return Ok(None),
            Seccomp::Log => SeccompAction::Log,
            Seccomp::Kill => SeccompAction::KillProcess,
        };
        let absent = ABSENT.iter().map(|(number, _)| (*number, Vec::new())).collect();
        let absent =
            program(absent, SeccompAction::Allow, SeccompAction::Errno(libc::ENOSYS.unsigned_abs()))?;
        // What is answered as absent must not be killed before.
        let mut rules: BTreeMap<_, _> = ABSENT.iter().map(|(number, _)| (*number, Vec::new())).collect();
        for call in CALLS {
            rules.insert(call.number, call.rules().map_err(FilterError::Make)?);
        }
        Ok(Some(Filter { programs: [absent, program(rules, otherwise, SeccompAction::Allow)?] }))
    }

    /// Restricts all threads of this process, for good.
    ///
    /// # Errors
    /// A kernel that does not take the filter.
    pub fn apply(&self) -> Result<(), FilterError> {
        self.programs
            .iter()
            .try_for_each(|program| apply_filter_all_threads(program))
            .map_err(FilterError::Apply)
    }
}

fn program(
    rules: BTreeMap<i64, Vec<SeccompRule>>,
    otherwise: SeccompAction,
    matching: SeccompAction,
) -> Result<BpfProgram, FilterError> {
    let arch = TargetArch::try_from(ARCH).map_err(FilterError::Make)?;
    SeccompFilter::new(rules, otherwise, matching, arch)
        .and_then(BpfProgram::try_from)
        .map_err(FilterError::Make)
}

impl Call {
    /// One rule for each way in which it may be made; none where it does not matter.
    fn rules(&self) -> Result<Vec<SeccompRule>, BackendError> {
        let rule = |ways: &&[Is]| {
            let conditions = ways.iter().map(|is| {
                let (argument, operator, value) = match *is {
                    Is::Exactly(argument, value) => (argument, SeccompCmpOp::Eq, value),
                    Is::Masked(argument, mask, value) => (argument, SeccompCmpOp::MaskedEq(mask), value),
                };
                SeccompCondition::new(argument, SeccompCmpArgLen::Dword, operator, value)
            });
            conditions.collect::<Result<_, _>>().and_then(SeccompRule::new)
        };
        self.ways.iter().map(rule).collect()
    }
}
