//! The policy schema: built in, and compared with the file that stands beside the policies.

use cedar_policy::{CedarSchemaError, Schema};

use crate::access::{Action, Resource, Role};
use crate::fault::{Fault, Place};

/// The name of the schema's file in a policies directory.
pub const FILE: &str = "bursar.cedarschema";

/// The schema that this version judges by: the text of `policies/bursar.cedarschema`.
pub const TEXT: &str = include_str!("../../policies/bursar.cedarschema");

/// The schemas of earlier versions, as shipped. None yet.
const EARLIER: [&str; 0] = [];

/// The schema, parsed.
pub(super) fn parse(text: &str) -> Result<Schema, Box<CedarSchemaError>> {
    Schema::from_cedarschema_str(text).map(|(schema, _warnings)| schema).map_err(Box::new)
}

/// How a text stands to the schemas that were ever shipped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// It is this version's.
    Current,
    /// It is an earlier version's.
    Earlier,
    /// Nobody shipped it.
    Foreign,
}

/// How `bytes` stand to this version's schema and to those of `earlier` versions.
fn standing_among(bytes: &[u8], earlier: &[&str]) -> Standing {
    if bytes == TEXT.as_bytes() {
        Standing::Current
    } else if earlier.iter().any(|text| bytes == text.as_bytes()) {
        Standing::Earlier
    } else {
        Standing::Foreign
    }
}

/// How `bytes` stand to the schemas that were ever shipped.
pub(super) fn standing(bytes: &[u8]) -> Standing {
    standing_among(bytes, &EARLIER)
}

/// What is wrong with a schema file of this standing: nothing, a warning (`Ok`) or a fault (`Err`).
pub(super) fn verdict_on(standing: Standing, place: Place) -> Result<Option<Fault>, Fault> {
    match standing {
        Standing::Current => Ok(None),
        Standing::Earlier => {
            let what = format!("`{FILE}` is that of an earlier version; the schema built into the program is used");
            Ok(Some(Fault::new(place, what).help("copy the file that comes with this version, for your editor's sake")))
        }
        Standing::Foreign => {
            let what = format!("`{FILE}` differs from the schema that this program judges by");
            Err(Fault::new(place, what)
                .help("the schema cannot be changed: copy the file that comes with this version, or delete this one"))
        }
    }
}

/// Whether the schema knows such a question at all. What it does not know is denied before any rule is asked.
pub(super) const fn admits(role: Role, action: Action, resource: &Resource) -> bool {
    match (role, action, resource) {
        (Role::Workload, Action::Token | Action::Reject, Resource::Provider(_))
        | (Role::Workload, Action::Secret, Resource::Secret(_))
        | (Role::Operator, Action::Put | Action::Rotate, Resource::Secret(_))
        | (Role::Operator, Action::Revoke, Resource::Secret(_) | Resource::Provider(_))
        | (
            Role::Operator,
            Action::List
            | Action::Approve
            | Action::Reload
            | Action::Status
            | Action::Explain
            | Action::Audit
            | Action::Maintain,
            Resource::Agent,
        ) => true,
        (Role::Workload | Role::Operator, _, Resource::Provider(_) | Resource::Secret(_) | Resource::Agent) => false,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn what_is_admitted_is_what_the_schema_says() {
        let schema = parse(TEXT).unwrap();
        let by_schema: BTreeSet<_> = schema
            .request_envs()
            .map(|env| format!("{} {} {}", env.principal(), env.action(), env.resource()))
            .collect();
        let resources = [
            ("Provider", Resource::Provider("p".parse().unwrap())),
            ("Secret", Resource::Secret("s".parse().unwrap())),
            ("Agent", Resource::Agent),
        ];
        let mut by_us = BTreeSet::new();
        for (who, role) in [("Workload", Role::Workload), ("Operator", Role::Operator)] {
            for action in Action::ALL {
                for (kind, _) in resources.iter().filter(|(_, resource)| admits(role, action, resource)) {
                    by_us.insert(format!("{who} Action::\"{}\" {kind}", action.as_str()));
                }
            }
        }
        assert_eq!(by_us, by_schema);
    }

    #[test]
    fn an_earlier_schema_is_a_warning_and_a_foreign_one_a_fault() {
        let place = || Place::file(FILE);
        assert_eq!(standing_among(TEXT.as_bytes(), &["old"]), Standing::Current);
        assert_eq!(verdict_on(standing_among(b"old", &["old"]), place()).unwrap().unwrap().place, place());
        let edited = format!("{TEXT}\n");
        assert!(verdict_on(standing_among(edited.as_bytes(), &["old"]), place()).is_err());
        assert!(verdict_on(Standing::Current, place()).unwrap().is_none());
    }
}
