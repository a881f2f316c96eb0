//! What a workload may have: Cedar policies, loaded whole or not at all, judged fail-closed.
//!
//! A [`Snapshot`] is one immutable policy set with the groups and tags that it was loaded with. It answers
//! from nothing else, and its archive is whole: who has the archive decides as the agent did.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::sync::Arc;

use cedar_policy::{Authorizer, Effect, Entities, Request};

use crate::access::{
    Access, Action, Audiences, Denied, Grounds, Permit, Resource, Role, Scopes, SecretId, Verdict, Why, Workload,
};
use crate::crypto::Digest;
use crate::fault::{Fault, Faults};
use crate::name::Name;
use crate::telemetry::metrics::Counter;
use crate::time::{Minute, Wall};

use self::question::Ends;

mod archive;
mod expiry;
mod known;
mod load;
mod memory;
mod question;
mod rule;
pub mod scenario;
mod schema;
mod set;
mod slice;
mod statement;

pub use archive::{Entries, MAX_BYTES, MAX_FILE_BYTES, MAX_FILES, WORKLOADS, snapshot_digest};
pub use known::FILE as ENTITIES;
pub use load::Loaded;
pub use rule::{MAX_NESTING, MAX_OPERATORS, Rule};
pub use schema::{FILE as SCHEMA, TEXT as SCHEMA_TEXT};
pub use set::MAX_RULES;

/// What the configuration and `workloads.toml` know, so that a policy cannot name what is not there.
#[derive(Clone, Debug, Default)]
pub struct Known {
    /// Workloads, with their groups.
    pub workloads: BTreeMap<Name, Vec<Name>>,
    /// Operators, with their groups.
    pub operators: BTreeMap<Name, Vec<Name>>,
    /// Providers, with their tags.
    pub providers: BTreeMap<Name, Vec<Name>>,
    /// Secrets, with their tags.
    pub secrets: BTreeMap<SecretId, Vec<Name>>,
    /// What happens to ids that none of these lists.
    pub unknown: UnknownIds,
}

/// What happens to ids in policies that the configuration does not know.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum UnknownIds {
    /// They are a fault.
    #[default]
    Refuse,
    /// They are a warning: the set is shared by hosts that differ.
    Warn,
}

/// How many sets of four verdicts are remembered.
const VERDICT_SETS: usize = 2_048;

/// One policy set, immutable. What it remembers of its verdicts is never older than their minute.
pub struct Snapshot {
    digest: Digest,
    archive: Entries,
    rules: Vec<Rule>,
    entities: Entities,
    types: question::Types,
    index: slice::Index,
    authorizer: Authorizer,
    now: question::Now,
    verdicts: memory::Memory<VerdictKey, Ruling>,
    /// Where verdicts came from.
    pub judged: Judged,
}

/// Where a snapshot's verdicts came from, counted since it was loaded.
#[derive(Debug, Default)]
pub struct Judged {
    /// The same had been asked in the same minute.
    pub remembered: Counter,
    /// The rules were asked.
    pub decided: Counter,
}

/// Everything that a verdict depends on, beside the snapshot.
struct VerdictKey {
    role: Role,
    who: Name,
    action: Action,
    resource: Resource,
    scopes: Scopes,
    audience: Audiences,
    minute: Minute,
}

/// A verdict without its access.
#[derive(Clone)]
struct Ruling {
    denied: Option<Why>,
    policies: Arc<[Box<str>]>,
}

impl Snapshot {
    /// Reads a policy set from its files, given as name and bytes: any `*.cedar`, and where they are there
    /// `bursar.cedarschema` and `workloads.toml`.
    ///
    /// Gives the snapshot and what should be said although it does not stand in the way.
    ///
    /// # Errors
    /// Everything that is wrong with the set, each fault with its place.
    pub fn from_entries(entries: Entries, known: &Known) -> Result<(Self, Vec<Fault>), Faults> {
        with_room(|| set::read(Path::new(""), entries, known))
    }

    /// Reads a policy set from its archive: the very entries that [`Snapshot::archive`] gave.
    ///
    /// # Errors
    /// What is missing, and everything that the set would not have been loaded with in the first place.
    pub fn from_archive(entries: Entries) -> Result<Self, Faults> {
        with_room(|| set::read_archive(entries))
    }

    /// The whole set: every `.cedar`, the schema it is judged by, `workloads.toml`, and the groups and tags as
    /// `entities.json`. Sorted by name.
    #[must_use]
    pub fn archive(&self) -> &[(String, Vec<u8>)] {
        &self.archive
    }

    /// The digest of [`Snapshot::archive`].
    #[must_use]
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// The rules, sorted by their ids.
    #[must_use]
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// The rule with this id.
    #[must_use]
    pub fn rule(&self, id: &str) -> Option<&Rule> {
        let nth = self.rules.binary_search_by(|rule| (*rule.id).cmp(id)).ok()?;
        self.rules.get(nth)
    }

    /// What is to be said of rules that their `@expires` has ended by `now`: nothing satisfies them any more.
    #[must_use]
    pub fn expired(&self, now: Wall) -> Vec<Fault> {
        let over = self.rules.iter().filter_map(|rule| rule.expires.filter(|end| *end <= now).map(|end| (rule, end)));
        let fault = |(rule, end): (&Rule, Wall)| {
            Fault::new(rule.place.clone(), format!("the rule `{}` ended at {}", rule.id, end.rfc3339()))
                .help("take it out, or renew its condition and its `@expires` together")
        };
        over.map(fault).collect()
    }

    /// Judges `access` as of the minute that `now` lies in.
    ///
    /// A denial where no rule permits, where one forbids, and where any rule whose scope matches cannot be
    /// evaluated: Cedar would skip that one, and a `forbid` that is skipped allows.
    pub fn judge(&self, access: Access, now: Wall) -> Verdict {
        let minute = now.minute();
        let Ruling { denied, policies } = self.remembered(&access, minute);
        let grounds = Grounds { minute, policies, snapshot: self.digest };
        match denied {
            None => Verdict::Permit(Permit::grant(access, grounds)),
            Some(why) => Verdict::Denied(Denied { access, grounds, why }),
        }
    }

    /// Whether some rule could ever permit this, whatever its conditions say.
    #[must_use]
    pub fn may_ever(&self, who: &Workload, action: Action, resource: &Resource) -> bool {
        let ends = self.ends(who, action, resource);
        let permits = |rule: &slice::Scoped| rule.effect == Effect::Permit;
        schema::admits(who.role, action, resource) && self.index.matching(&ends, &self.entities).any(permits)
    }

    /// Whoever or whatever of `access` this snapshot does not know, as policy would write it.
    fn unknown_in(&self, access: &Access) -> Option<String> {
        let Ends { principal, resource, .. } = self.ends(&access.who, access.action, &access.resource);
        [principal, resource].into_iter().find(|uid| self.entities.get(uid).is_none()).map(|uid| uid.to_string())
    }

    fn remembered(&self, access: &Access, minute: Minute) -> Ruling {
        let Access { who, action, resource, scopes, audience } = access;
        let place = self.verdicts.place_of((who.role, &who.name, action, resource, scopes, audience, minute));
        let known = self.verdicts.recall(place, |key| key.asks(access, minute), Ruling::clone);
        known.inspect(|_| self.judged.remembered.add_one()).unwrap_or_else(|| {
            self.judged.decided.add_one();
            let ruling = self.decide(access, minute);
            self.verdicts.keep(place, VerdictKey::of(access, minute), ruling.clone());
            ruling
        })
    }

    fn decide(&self, access: &Access, minute: Minute) -> Ruling {
        if !schema::admits(access.who.role, access.action, &access.resource) {
            return Ruling::denied(Why::NoPermit, Vec::new());
        }
        let ends = self.ends(&access.who, access.action, &access.resource);
        let request = self.now.at(minute).and_then(|now| question::request(&ends, access, now));
        request.map_or_else(|| Ruling::denied(Why::Error, Vec::new()), |request| self.ask(&request, &ends))
    }

    /// Asks each rule whose scope matches. A `forbid` decides, else an error, else a permit.
    fn ask(&self, request: &Request, ends: &Ends) -> Ruling {
        let (mut permits, mut forbids, mut errors) = (Vec::new(), Vec::new(), Vec::new());
        for rule in self.index.matching(ends, &self.entities) {
            let answer = self.authorizer.is_authorized(request, &rule.alone, &self.entities);
            let satisfied = answer.diagnostics().reason().next().is_some();
            let erred = answer.diagnostics().errors().next().is_some();
            match (erred, satisfied, rule.effect) {
                (true, _, _) => errors.push(&*rule.id),
                (false, true, Effect::Permit) => permits.push(&*rule.id),
                (false, true, Effect::Forbid) => forbids.push(&*rule.id),
                (false, false, Effect::Permit | Effect::Forbid) => {}
            }
        }
        match (forbids.is_empty(), errors.is_empty(), permits.is_empty()) {
            (false, _, _) => Ruling::denied(Why::Forbidden, forbids),
            (true, false, _) => Ruling::denied(Why::Error, errors),
            (true, true, true) => Ruling::denied(Why::NoPermit, Vec::new()),
            (true, true, false) => Ruling::of(None, permits),
        }
    }

    fn ends(&self, who: &Workload, action: Action, resource: &Resource) -> Ends {
        Ends {
            principal: self.types.principal(who.role, who.name.as_str()),
            action: self.types.action(action),
            resource: self.types.resource(resource),
        }
    }
}

impl VerdictKey {
    fn of(access: &Access, minute: Minute) -> Self {
        Self {
            role: access.who.role,
            who: access.who.name.clone(),
            action: access.action,
            resource: access.resource.clone(),
            scopes: access.scopes.clone(),
            audience: access.audience.clone(),
            minute,
        }
    }

    fn asks(&self, access: &Access, minute: Minute) -> bool {
        self.minute == minute
            && self.role == access.who.role
            && self.action == access.action
            && self.who == access.who.name
            && self.resource == access.resource
            && self.scopes == access.scopes
            && self.audience == access.audience
    }
}

impl Ruling {
    fn of(denied: Option<Why>, mut determining: Vec<&str>) -> Self {
        determining.sort_unstable();
        Self { denied, policies: determining.into_iter().map(Box::from).collect() }
    }

    fn denied(why: Why, determining: Vec<&str>) -> Self {
        Self::of(Some(why), determining)
    }
}

impl fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Snapshot({}, {} rules)", self.digest, self.rules.len())
    }
}
/// Does `read` where there is stack enough, whatever thread this is: where Cedar's validator runs short of it, it stops
/// without a word and lets the rule pass.
fn with_room<T>(read: impl FnOnce() -> T) -> T {
    const ENOUGH: usize = 2 << 20;
    stacker::maybe_grow(ENOUGH, 2 * ENOUGH, read)
}
