//! (E) What `bursar check` looks at beyond the configuration: the policies, who is who, and their scenarios.

use std::io;

use super::rules::Book;
use crate::config::{self, Read, Report};
use crate::fault::{AS_THE_AGENT, Fault, Place};
use crate::policy::scenario::{self, ScenarioFile};

/// Adds to `report` what is wrong with the policies directory of `read`, and every scenario that does not hold.
pub fn policies(read: &Read, report: &mut Report) {
    report.warnings.extend(config::kept_out(read));
    let dir = &read.settings.agent.policies;
    match std::fs::read_dir(dir) {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            let fault = Fault::new(Place::file(dir), "may not be read by this user").help(AS_THE_AGENT);
            return report.faults.push(fault);
        }
        // The look at the host has said it.
        Err(_) => return,
    }
    let scenarios = scenario::load(dir);
    match Book::read(read) {
        Ok(book) => judged(book, scenarios.as_deref().unwrap_or_default(), report),
        Err(faults) => report.faults.append(faults),
    }
    report.faults.append(scenarios.err().unwrap_or_default());
}

fn judged(book: Book, scenarios: &[ScenarioFile], report: &mut Report) {
    // The agent may have the privilege that this process lacks.
    report.warnings.extend(book.refuse_missing_privilege().err().unwrap_or_default().iter().cloned());
    let runs: Vec<_> = scenarios.iter().map(|file| scenario::run(&book.policy, file)).collect();
    let ran = runs.iter().map(|run| run.passed + run.failures.len()).sum();
    report.checked.extend([
        ("workloads", book.registry.workloads().len()),
        ("rules", book.policy.rules().len()),
        ("scenarios", ran),
    ]);
    report.warnings.extend(book.warnings);
    runs.into_iter().flat_map(|run| run.failures).for_each(|failure| report.faults.push(failure));
}
