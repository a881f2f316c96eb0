//! Policies and their scenarios.

use std::collections::BTreeMap;
use std::path::Path;

use bursar::name::Name;
use bursar::policy::scenario::ScenarioFile;
use bursar::policy::{Entries, Known, Snapshot};

use super::input::faults_are_told;

/// A policy set: files, each after a line `--- NAME`. What loads is what its own archive loads as.
pub fn policy_set(bytes: &[u8]) {
    let entries = entries(bytes);
    match Snapshot::from_entries(entries.clone(), &known()) {
        Ok((snapshot, _)) => {
            let again = Snapshot::from_archive(snapshot.archive().to_vec()).expect("an archive that is read again");
            assert_eq!((again.digest(), again.rules().len()), (snapshot.digest(), snapshot.rules().len()));
        }
        Err(faults) => assert!(faults.iter().next().is_some()),
    }
    // An archive that somebody changed is read too.
    let _ = Snapshot::from_archive(entries);
}

fn entries(bytes: &[u8]) -> Entries {
    let mut entries = Entries::new();
    for line in bytes.split_inclusive(|byte| *byte == b'\n') {
        match (line.strip_prefix(b"--- "), entries.last_mut()) {
            (Some(name), _) => entries.push((String::from_utf8_lossy(name.trim_ascii()).into_owned(), Vec::new())),
            (None, Some((_, text))) => text.extend_from_slice(line),
            (None, None) => entries.push(("a.cedar".to_owned(), line.to_vec())),
        }
    }
    entries
}

fn known() -> Known {
    let name = |text: &str| text.parse::<Name>().unwrap();
    Known {
        workloads: BTreeMap::from([(name("checkout"), vec![name("pci")]), (name("reports"), vec![])]),
        operators: BTreeMap::from([(name("root"), vec![])]),
        providers: BTreeMap::from([(name("stripe"), vec![name("payments")]), (name("crm"), vec![])]),
        secrets: BTreeMap::from([("local/stripe-client".parse().unwrap(), vec![])]),
        ..Known::default()
    }
}

/// A file of scenarios.
pub fn scenarios(bytes: &[u8]) {
    if let Err(faults) = ScenarioFile::parse(Path::new("scenarios/a.toml"), bytes) {
        faults_are_told(&faults, &String::from_utf8_lossy(bytes));
    }
}
