//! `bursar reload`: configuration and policies anew, all or nothing.

use super::{Globals, Outcome};

/// Let the agent read configuration and policies anew, all or nothing
#[derive(Debug, clap::Args)]
pub(super) struct Reload {}

impl Reload {
    pub(super) fn run(&self, globals: &Globals) -> Outcome {
        let _ = globals.admin_socket();
        super::not_built("reload")
    }
}
