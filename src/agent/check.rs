//! (E) What `bursar check` looks at beyond the configuration: the policies, who is who, and their scenarios.

use super::rules::Book;
use crate::config::{Read, Report};
use crate::policy::scenario;

/// Adds to `report` what is wrong with the policies directory of `read`, and every scenario that does not hold.
pub fn policies(read: &Read, report: &mut Report) {
    let book = match Book::read(&read.settings) {
        Ok(book) => book,
        Err(faults) => return report.faults.append(faults),
    };
    if let Err(faults) = book.refuse_missing_privilege() {
        report.faults.append(faults);
    }
    report.warnings.extend(book.warnings);
    match scenario::load(&read.settings.agent.policies) {
        Ok(files) => {
            let failures = files.iter().flat_map(|file| scenario::run(&book.policy, file).failures);
            failures.for_each(|failure| report.faults.push(failure));
        }
        Err(faults) => report.faults.append(faults),
    }
}
