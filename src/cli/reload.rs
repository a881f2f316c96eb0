//! `bursar reload`: configuration and policies anew, all or nothing.

use serde::Deserialize;

use super::ask::{as_operator, granted};
use super::{Exit, Globals, Outcome, show};
use crate::api::client::Call;
use crate::fault::Faults;

/// Let the agent read configuration and policies anew, all or nothing
#[derive(Debug, clap::Args)]
pub(super) struct Reload {}

#[derive(Debug, Deserialize)]
struct Reloaded {
    faults: Faults,
}

impl Reload {
    #[expect(clippy::unused_self, reason = "every verb runs alike")]
    pub(super) fn run(&self, globals: &Globals) -> Outcome {
        let Reloaded { faults } = granted(as_operator(globals, Call::post("/reload"))?)?;
        if !faults.is_empty() && !globals.json {
            show::line("not reloaded: the old configuration and policies stay in force")?;
        }
        faults.or(())?;
        if globals.json {
            show::json(&serde_json::json!({ "reloaded": true }))?;
        } else {
            show::line("reloaded: the new configuration and policies are in force")?;
        }
        Ok(Exit::Done)
    }
}
