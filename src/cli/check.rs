//! `bursar check`: configuration, policies and scenarios, offline.

use super::show::{self, Weight};
use super::{Exit, Globals, Outcome};
use crate::config::{self, Report};
use crate::fault::counted;

/// Check configuration, policies and scenarios, and print every fault with its place
///
/// Nothing is started and nobody is asked: it works without an agent and without a network.
#[derive(Debug, clap::Args)]
pub(super) struct Check {}

impl Check {
    pub(super) fn run(&self, globals: &Globals) -> Outcome {
        let (_, report) = config::check(&globals.config, &[&crate::agent::check_policies]);
        let exit = if report.faults.is_empty() { Exit::Done } else { Exit::Failed };
        if globals.json {
            show::json(&report)?;
            return Ok(exit);
        }
        tell(&report)?;
        if exit == Exit::Done {
            show::line(summary(globals, &report))?;
        }
        Ok(exit)
    }
}

fn tell(report: &Report) -> Result<(), super::Trouble> {
    if !report.faults.is_empty() {
        show::faults(report.faults.iter(), Weight::Error)?;
    }
    if !report.warnings.is_empty() {
        show::faults(report.warnings.iter(), Weight::Warning)?;
    }
    Ok(())
}

/// `ok: FILE: 1 file, 2 providers, …`, in the order of their names.
fn summary(globals: &Globals, report: &Report) -> String {
    let count = |(what, n): (&&str, &usize)| counted(*n as u64, what.trim_end_matches('s'));
    let counts: Vec<_> = report.checked.iter().map(count).collect();
    format!("ok: {}: {}", globals.config.display(), counts.join(", "))
}
