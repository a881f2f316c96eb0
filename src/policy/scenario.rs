//! Scenarios: what a policy set is expected to answer, written beside it and run by `check` and `policy test`.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use schemars::JsonSchema;
use serde::Deserialize;

use super::{Snapshot, schema};
use crate::access::{Access, Action, Audience, Grounds, Resource, Role, Scope, SecretId, Verdict, Why, Workload};
use crate::document;
use crate::fault::{Fault, Faults, Place};
use crate::name::Name;
use crate::time::Wall;

pub use super::load::scenarios as load;

/// One file of scenarios, read.
#[derive(Clone, Debug)]
pub struct ScenarioFile {
    /// The file.
    pub file: PathBuf,
    /// Its scenarios, in their order.
    pub scenarios: Vec<Scenario>,
}

/// One expectation.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// What it says, for people.
    pub name: String,
    /// Where it begins.
    pub place: Place,
    /// The question.
    pub access: Access,
    /// When it is asked.
    pub at: Wall,
    /// The answer that is expected.
    pub expect: Expect,
    /// The ids of the determining rules that are expected, sorted; none: any.
    pub by: Option<BTreeSet<String>>,
}

/// The answer that is expected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Expect {
    /// It is allowed.
    Permit,
    /// It is denied.
    Deny,
}

/// What came of a run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// How many answers were as expected.
    pub passed: usize,
    /// The others, each at the place of its scenario.
    pub failures: Vec<Fault>,
}

/// Asks `snapshot` every scenario of `file`.
///
/// A scenario about a workload, operator, provider or secret that the snapshot does not know fails: it would else
/// pass for the wrong reason, since what is not known is denied.
#[must_use]
pub fn run(snapshot: &Snapshot, file: &ScenarioFile) -> Report {
    let mut report = Report::default();
    for scenario in &file.scenarios {
        match scenario.failure(snapshot) {
            None => report.passed += 1,
            Some(failure) => report.failures.push(failure),
        }
    }
    report
}

impl Scenario {
    fn failure(&self, snapshot: &Snapshot) -> Option<Fault> {
        let fault = |what: String| Fault::new(self.place.clone(), format!("scenario `{}`: {what}", self.name));
        if let Some(unknown) = snapshot.unknown_in(&self.access) {
            return Some(
                fault(format!("`{unknown}` is not known here"))
                    .help("correct the name, or add it to the configuration"),
            );
        }
        let (answer, grounds, said) = answer(snapshot.judge(self.access.clone(), self.at));
        let ids: BTreeSet<String> = grounds.policies.iter().map(ToString::to_string).collect();
        if answer != self.expect {
            return Some(fault(format!("expected {}, but {said}", self.expect.as_str())).help(by_whom(&ids)));
        }
        let expected = self.by.as_ref().filter(|expected| **expected != ids)?;
        Some(fault(format!("expected to be determined by {}", listed(expected))).help(by_whom(&ids)))
    }
}

impl Expect {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Permit => "a permit",
            Self::Deny => "a denial",
        }
    }
}

fn answer(verdict: Verdict) -> (Expect, Grounds, &'static str) {
    match verdict {
        Verdict::Permit(permit) => (Expect::Permit, permit.grounds().clone(), "it is permitted"),
        Verdict::Denied(denied) => {
            let said = match denied.why {
                Why::NoPermit => "no rule permits it",
                Why::Forbidden => "a rule forbids it",
                Why::Error => "a rule cannot be evaluated, which denies",
            };
            (Expect::Deny, denied.grounds, said)
        }
    }
}

fn by_whom(ids: &BTreeSet<String>) -> String {
    if ids.is_empty() { "no rule determines it".to_owned() } else { format!("determined by {}", listed(ids)) }
}

fn listed(ids: &BTreeSet<String>) -> String {
    if ids.is_empty() {
        return "no rule".to_owned();
    }
    ids.iter().map(|id| format!("`{id}`")).collect::<Vec<_>>().join(", ")
}

/// A scenario file as it is written.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Written {
    /// When the scenarios of this file are asked, unless one says another time: RFC 3339, in quotes.
    at: String,
    /// The scenarios.
    #[serde(default)]
    scenario: Vec<WrittenScenario>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct WrittenScenario {
    /// What it says, for people.
    name: String,
    /// Who asks: a workload, or …
    #[schemars(with = "Option<String>")]
    workload: Option<Name>,
    /// … an operator.
    #[schemars(with = "Option<String>")]
    operator: Option<Name>,
    /// To do what: an action of the schema.
    action: String,
    /// To which provider, or …
    #[schemars(with = "Option<String>")]
    provider: Option<Name>,
    /// … to which secret. Neither: to the agent itself.
    secret: Option<String>,
    /// The scopes that are asked for; none by default.
    #[serde(default)]
    #[schemars(with = "Vec<String>")]
    scopes: Vec<Scope>,
    /// The audiences that are asked for; none by default.
    #[serde(default)]
    #[schemars(with = "Vec<String>")]
    audience: Vec<Audience>,
    /// When it is asked, if not at the file's time.
    at: Option<String>,
    /// `permit` or `deny`.
    expect: Expect,
    /// The ids of exactly the rules that determine the answer; `[]`: none does.
    by: Option<BTreeSet<String>>,
}

impl ScenarioFile {
    /// Reads `bytes`, the whole of `file`.
    ///
    /// # Errors
    /// Everything that is wrong with it, each fault with its place.
    pub fn parse(file: &Path, bytes: &[u8]) -> Result<Self, Faults> {
        let text =
            std::str::from_utf8(bytes).map_err(|_| Fault::new(Place::file(file), "the file is not UTF-8 text"))?;
        let Written { at, scenario } = document::read(file, text)?;
        let mut faults = Faults::default();
        let mut scenarios = Vec::new();
        for (written, place) in scenario.into_iter().zip(places(file, text)) {
            match written.meant(&place, &at) {
                Ok(scenario) => scenarios.push(scenario),
                Err(fault) => faults.push(fault),
            }
        }
        faults.or(Self { file: file.to_owned(), scenarios })
    }
}

/// Where the scenarios of a file begin, in their order; the file itself where that is not known.
fn places(file: &Path, text: &str) -> impl Iterator<Item = Place> {
    let tree = toml_edit::Document::parse(text).ok();
    let spans: Vec<_> = tree
        .iter()
        .filter_map(|tree| tree.get("scenario")?.as_array_of_tables())
        .flat_map(toml_edit::ArrayOfTables::iter)
        .map(|table| table.span().map_or_else(|| Place::file(file), |span| Place::of_offset(file, text, span.start)))
        .collect();
    let file = Place::file(file);
    spans.into_iter().chain(std::iter::repeat(file))
}

impl WrittenScenario {
    fn meant(self, place: &Place, at: &str) -> Result<Scenario, Fault> {
        let fault = |what: String| Fault::new(place.clone(), format!("scenario `{}`: {what}", self.name));
        let (role, name) = match (&self.workload, &self.operator) {
            (Some(name), None) => (Role::Workload, name),
            (None, Some(name)) => (Role::Operator, name),
            (None, None) | (Some(_), Some(_)) => {
                return Err(fault("who asks is not clear".into()).help("give either `workload` or `operator`"));
            }
        };
        let action = Action::ALL.into_iter().find(|action| action.as_str() == self.action);
        let actions = Action::ALL.map(|action| format!("`{}`", action.as_str())).join(", ");
        let action = action
            .ok_or_else(|| fault(format!("`{}` is no action", self.action)).help(format!("actions: {actions}")))?;
        let resource = self.resource().map_err(|(what, help)| fault(what).help(help))?;
        if !schema::admits(role, action, &resource) {
            let what = format!("the schema knows no `{}` of `{resource}` by such a principal", action.as_str());
            return Err(fault(what).help(format!("see the actions in `{}`", schema::FILE)));
        }
        let at = self.at.as_deref().unwrap_or(at);
        let at = Wall::parse(at).map_err(|error| fault(error.to_string()))?;
        let who = Workload { name: name.clone(), role, uid: 0, facts: Arc::new([]) };
        let (scopes, audience) = (self.scopes.into_iter().collect(), self.audience.into_iter().collect());
        let access = Access { who: Arc::new(who), action, resource, scopes, audience };
        Ok(Scenario { name: self.name, place: place.clone(), access, at, expect: self.expect, by: self.by })
    }

    fn resource(&self) -> Result<Resource, (String, &'static str)> {
        match (&self.provider, &self.secret) {
            (Some(name), None) => Ok(Resource::Provider(name.clone())),
            (None, Some(id)) => {
                let id: Result<SecretId, _> = id.parse();
                id.map(Resource::Secret).map_err(|error| (error.to_string(), "write an entry's name, or `store/name`"))
            }
            (None, None) => Ok(Resource::Agent),
            (Some(_), Some(_)) => Err(("what is asked for is not clear".into(), "give either `provider` or `secret`")),
        }
    }
}
