//! `bursar check`: configuration, policies and scenarios, offline.

use super::show::{self, Weight};
use super::{Exit, Globals, Outcome};
use crate::config::{self, Read, Report};

/// Check configuration, policies and scenarios, and print every fault with its place
///
/// Nothing is started and nobody is asked: it works without an agent and without a network.
#[derive(Debug, clap::Args)]
pub(super) struct Check {}

impl Check {
    pub(super) fn run(&self, globals: &Globals) -> Outcome {
        let (read, report) = config::check(&globals.config, &[&crate::agent::check_policies]);
        let exit = if report.faults.is_empty() { Exit::Done } else { Exit::Failed };
        if globals.json {
            show::json(&report)?;
            return Ok(exit);
        }
        tell(&report)?;
        if let Some(read) = read.filter(|_| exit == Exit::Done) {
            show::line(summary(globals, &read))?;
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

fn summary(globals: &Globals, read: &Read) -> String {
    let settings = &read.settings;
    let counts = [
        (read.places.files().count(), "file"),
        (settings.providers.len(), "provider"),
        (settings.stores.len(), "store"),
        (settings.secrets.len(), "secret"),
    ];
    let counts: Vec<_> =
        counts.iter().map(|(n, what)| format!("{n} {what}{}", if *n == 1 { "" } else { "s" })).collect();
    format!("ok: {}: {}", globals.config.display(), counts.join(", "))
}
