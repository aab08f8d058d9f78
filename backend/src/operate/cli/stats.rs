//! The sub-commands that show what a running program serves and has counted.

use clap::Args;

use super::vm::To;
use crate::operate::control::Request;
use crate::operate::control::client::Call;

/// Whom to ask, and nothing more to say.
#[derive(Debug, Args)]
pub(super) struct Show {
    #[command(flatten)]
    to: To,
}

impl Show {
    /// What is asked.
    pub(super) fn ask(self, request: Request) -> Call {
        let (control, json) = self.to.into();
        Call { control, request, json }
    }
}
