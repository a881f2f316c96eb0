//! `bursar completions SHELL`.

use clap_complete::Shell;

use super::{Exit, Globals, Outcome, command, show};

/// Print completions for a shell
#[derive(Debug, clap::Args)]
pub(super) struct Completions {
    /// The shell
    shell: Shell,
}

impl Completions {
    pub(super) fn run(&self, _globals: &Globals) -> Outcome {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut command(), "bursar", &mut script);
        show::bytes(&script)?;
        Ok(Exit::Done)
    }
}
