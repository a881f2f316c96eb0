//! `bursar status`: how the agent is.

use super::{Globals, Outcome};

/// Show how the agent is: providers, stores, log, limits
#[derive(Debug, clap::Args)]
pub(super) struct Status {}

impl Status {
    pub(super) fn run(&self, globals: &Globals) -> Outcome {
        let _ = globals.admin_socket();
        super::not_built("status")
    }
}
