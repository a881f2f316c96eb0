//! `bursar whoami`: what bursar sees of me.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::ask::{as_application, granted};
use super::{Exit, Globals, Outcome, show};
use crate::api::client::Call;

/// Show what the agent sees of this process, and what it may have
#[derive(Debug, clap::Args)]
pub(super) struct Whoami {}

/// The members of the answer that are shown.
#[derive(Debug, Deserialize, Serialize)]
struct Seen {
    workload: Option<String>,
    seen: BTreeMap<String, String>,
    providers: Vec<String>,
    #[serde(default)]
    secrets: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<String>,
}

impl Whoami {
    #[expect(clippy::unused_self, reason = "every verb runs alike")]
    pub(super) fn run(&self, globals: &Globals) -> Outcome {
        let seen: Seen = granted(as_application(globals, Call::get("/whoami"))?)?;
        let exit = if seen.workload.is_some() { Exit::Done } else { Exit::Refused };
        if globals.json {
            show::json(&seen)?;
        } else {
            show::line(text_of(&seen))?;
        }
        Ok(exit)
    }
}

fn text_of(Seen { workload, seen, providers, secrets, problem }: &Seen) -> String {
    let mut lines = match (workload, problem) {
        (Some(name), _) => vec![format!("workload   {name}")],
        (None, problem) => vec![format!("workload   none: {}", problem.as_deref().unwrap_or("no entry matches"))],
    };
    lines.extend(seen.iter().map(|(fact, value)| format!("{fact:<10} {value}")));
    let names = |names: &[String]| if names.is_empty() { "none".to_owned() } else { names.join(", ") };
    lines.push(format!("providers  {}", names(providers)));
    lines.push(format!("secrets    {}", names(secrets)));
    lines.join("\n")
}
