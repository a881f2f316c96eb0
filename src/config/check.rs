//! `bursar check`: everything that is wrong and everything that is odd, before an agent meets it.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Serialize;

use super::host;
use super::load::load;
use super::meant::Settings;
use super::reading::Read;
use crate::fault::{Fault, Faults};

/// What a check found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// What is wrong: an agent does not start, or keeps what it has.
    pub faults: Faults,
    /// What is allowed and probably not meant.
    pub warnings: Vec<Fault>,
    /// How many of what was looked at, in the plural: `providers`, `rules`.
    pub checked: BTreeMap<&'static str, usize>,
}

/// One more thing to check, once the configuration itself can be read: the policies, their scenarios.
pub type Further<'a> = &'a dyn Fn(&Read, &mut Report);

/// Checks the configuration that begins at `file`, this host, and `further` things.
///
/// What was read comes with the report where the configuration itself has no fault.
#[must_use]
pub fn check(file: &Path, further: &[Further<'_>]) -> (Option<Read>, Report) {
    let mut report = Report::default();
    let read = match load(file) {
        Ok(read) => read,
        Err(faults) => return (None, Report { faults, ..report }),
    };
    report.warnings.extend(read.warnings.iter().cloned());
    report.checked.extend(counts(&read));
    host::look(&read, &mut report);
    for look in further {
        look(&read, &mut report);
    }
    (Some(read), report.sorted())
}

fn counts(read: &Read) -> impl Iterator<Item = (&'static str, usize)> {
    let Settings { providers, stores, secrets, deliveries, .. } = &read.settings;
    let files = read.places.files().count();
    [("files", files), ("providers", providers.len()), ("stores", stores.len()), ("secrets", secrets.len())]
        .into_iter()
        .chain((!deliveries.is_empty()).then_some(("delivered files", deliveries.len())))
}

impl Report {
    fn sorted(mut self) -> Self {
        self.faults = self.faults.or(()).err().unwrap_or_default();
        self.warnings.sort();
        self
    }
}
