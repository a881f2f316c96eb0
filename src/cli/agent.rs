//! `bursar agent`: the daemon.

use super::{Globals, Outcome};
use crate::config::{self, Report};

/// Run the agent
///
/// SIGHUP and `bursar reload` read configuration and policies anew, all or nothing. SIGTERM drains and stops.
#[derive(Debug, clap::Args)]
pub(super) struct Agent {}

impl Agent {
    pub(super) fn run(&self, globals: &Globals) -> Outcome {
        let (read, Report { faults, warnings: _ }) = config::check(&globals.config, &[]);
        faults.or(())?;
        let _ = read;
        super::not_built("agent")
    }
}
