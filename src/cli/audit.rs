//! `bursar audit verify` and `bursar audit query`: the log, on files alone.

use std::path::PathBuf;

use clap::Subcommand;

use super::{Globals, Outcome};

/// Read and verify the audit log; no agent is needed
#[derive(Debug, clap::Args)]
pub(super) struct Audit {
    /// Where the log is [default: `audit.dir` of the configuration]
    #[arg(long, global = true, value_name = "DIR")]
    dir: Option<PathBuf>,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Verify that no record is malformed, missing or out of place
    Verify,
    /// Print records
    Query {
        /// The decision, as a reply named it
        #[arg(value_parser = decision)]
        decision: Option<String>,
        /// Go on with records as they are written
        #[arg(short, long, conflicts_with = "decision")]
        follow: bool,
    },
}

impl Audit {
    pub(super) fn run(&self, globals: &Globals) -> Outcome {
        let _ = globals.audit_dir(self.dir.as_deref());
        match &self.verb {
            Verb::Verify => super::not_built("audit verify"),
            Verb::Query { decision: _, follow: _ } => super::not_built("audit query"),
        }
    }
}

/// A decision id: 8 hexadecimal digits, a hyphen, a number.
fn decision(text: &str) -> Result<String, String> {
    let valid = text.split_once('-').is_some_and(|(log, index)| {
        log.len() == 8 && log.bytes().all(|b| b.is_ascii_hexdigit()) && index.parse::<u64>().is_ok()
    });
    if valid { Ok(text.to_owned()) } else { Err("a decision looks like `0a1b2c3d-17`".to_owned()) }
}
