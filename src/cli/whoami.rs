//! `bursar whoami`: what bursar sees of me.

use super::{Globals, Outcome};

/// Show what the agent sees of this process, and what it may have
#[derive(Debug, clap::Args)]
pub(super) struct Whoami {}

impl Whoami {
    pub(super) fn run(&self, globals: &Globals) -> Outcome {
        let _ = globals.socket();
        super::not_built("whoami")
    }
}
