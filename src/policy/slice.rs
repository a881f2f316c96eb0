//! The rules whose scope can match a question, found without looking at the others.
//!
//! Cedar has no index and evaluates every policy of a set. A rule's scope (`principal == …`, `in …`,
//! `is …`) is a conjunction before its conditions that cannot fail, so a rule whose scope does not match
//! neither decides nor errs: leaving it out changes nothing. `tests/hermetic/policy_oracle.rs` holds this.

use std::collections::{HashMap, HashSet};

use cedar_policy::{
    ActionConstraint, Effect, Entities, EntityTypeName, EntityUid, Policy, PolicySet, PrincipalConstraint,
    ResourceConstraint,
};

/// All rules, by what their scopes hold on to.
pub(super) struct Index {
    scoped: Vec<Scoped>,
    /// Numbers of rules, by what holds the principal and then by what holds the resource.
    held: HashMap<Hold, HashMap<Hold, Vec<usize>>>,
}

/// A rule with its scope.
struct Scoped {
    policy: Policy,
    principal: End,
    actions: Option<HashSet<EntityUid>>,
    resource: End,
}

/// What a scope says of principal or resource.
enum End {
    Any,
    Is(EntityTypeName),
    Equals(EntityUid),
    /// Of the type, if one is named; and the entity itself or below it.
    In(Option<EntityTypeName>, EntityUid),
}

/// The one thing by which an [`End`] is filed.
#[derive(Clone, PartialEq, Eq, Hash)]
enum Hold {
    Any,
    Type(EntityTypeName),
    Entity(EntityUid),
}

/// What a question asks about: an entity, and all that it is in.
struct Asked<'a> {
    uid: &'a EntityUid,
    above: HashSet<&'a EntityUid>,
}

/// The rules whose scope matches one principal, action and resource.
pub(super) struct Slice {
    /// They, for Cedar.
    pub policies: PolicySet,
    /// Whether one of them is a permit.
    pub permits: bool,
}

impl Index {
    /// An index of `policies`, whose ids differ.
    pub(super) fn of(policies: impl IntoIterator<Item = Policy>) -> Self {
        let mut index = Self { scoped: Vec::new(), held: HashMap::new() };
        for (number, policy) in policies.into_iter().enumerate() {
            let scoped = Scoped::of(policy);
            let by_resource = index.held.entry(scoped.principal.hold()).or_default();
            by_resource.entry(scoped.resource.hold()).or_default().push(number);
            index.scoped.push(scoped);
        }
        index
    }

    /// The rules whose scope matches.
    pub(super) fn slice(
        &self,
        principal: &EntityUid,
        action: &EntityUid,
        resource: &EntityUid,
        entities: &Entities,
    ) -> Slice {
        let mut slice = Slice { policies: PolicySet::new(), permits: false };
        let (principal, resource) = (Asked::of(principal, entities), Asked::of(resource, entities));
        let action = Asked::of(action, entities);
        for scoped in self.candidates(&principal, &resource).filter(|s| s.matches(&principal, &action, &resource)) {
            slice.permits |= scoped.policy.effect() == Effect::Permit;
            // Ids differ and no policy is linked, so that adding cannot fail; a set that lacks a `forbid` must
            // not be judged by, so that a failure would have to empty the slice, which denies.
            if slice.policies.add(scoped.policy.clone()).is_err() {
                return Slice { policies: PolicySet::new(), permits: false };
            }
        }
        slice
    }

    fn candidates<'a>(&'a self, principal: &Asked<'_>, resource: &Asked<'_>) -> impl Iterator<Item = &'a Scoped> {
        let resources = resource.holds();
        let by_resource: Vec<_> = principal.holds().iter().filter_map(|hold| self.held.get(hold)).collect();
        by_resource
            .into_iter()
            .flat_map(move |held| resources.iter().filter_map(|hold| held.get(hold)).collect::<Vec<_>>())
            .flatten()
            .filter_map(|number| self.scoped.get(*number))
    }
}

impl Scoped {
    fn of(policy: Policy) -> Self {
        let actions = match policy.action_constraint() {
            ActionConstraint::Any => None,
            ActionConstraint::Eq(action) => Some(HashSet::from([action])),
            ActionConstraint::In(actions) => Some(actions.into_iter().collect()),
        };
        let (principal, resource) = (policy.principal_constraint().into(), policy.resource_constraint().into());
        Self { policy, principal, actions, resource }
    }

    fn matches(&self, principal: &Asked<'_>, action: &Asked<'_>, resource: &Asked<'_>) -> bool {
        let acts = self.actions.as_ref().is_none_or(|listed| listed.iter().any(|one| action.is_in(one)));
        acts && self.principal.matches(principal) && self.resource.matches(resource)
    }
}

impl End {
    fn hold(&self) -> Hold {
        match self {
            Self::Any => Hold::Any,
            Self::Is(kind) => Hold::Type(kind.clone()),
            Self::Equals(uid) | Self::In(_, uid) => Hold::Entity(uid.clone()),
        }
    }

    fn matches(&self, asked: &Asked<'_>) -> bool {
        match self {
            Self::Any => true,
            Self::Is(kind) => asked.uid.type_name() == kind,
            Self::Equals(uid) => asked.uid == uid,
            Self::In(kind, uid) => kind.as_ref().is_none_or(|kind| asked.uid.type_name() == kind) && asked.is_in(uid),
        }
    }
}

impl From<PrincipalConstraint> for End {
    fn from(constraint: PrincipalConstraint) -> Self {
        match constraint {
            PrincipalConstraint::Any => Self::Any,
            PrincipalConstraint::Is(kind) => Self::Is(kind),
            PrincipalConstraint::Eq(uid) => Self::Equals(uid),
            PrincipalConstraint::In(uid) => Self::In(None, uid),
            PrincipalConstraint::IsIn(kind, uid) => Self::In(Some(kind), uid),
        }
    }
}

impl From<ResourceConstraint> for End {
    fn from(constraint: ResourceConstraint) -> Self {
        match constraint {
            ResourceConstraint::Any => Self::Any,
            ResourceConstraint::Is(kind) => Self::Is(kind),
            ResourceConstraint::Eq(uid) => Self::Equals(uid),
            ResourceConstraint::In(uid) => Self::In(None, uid),
            ResourceConstraint::IsIn(kind, uid) => Self::In(Some(kind), uid),
        }
    }
}

impl<'a> Asked<'a> {
    fn of(uid: &'a EntityUid, entities: &'a Entities) -> Self {
        Self { uid, above: entities.ancestors(uid).into_iter().flatten().collect() }
    }

    fn is_in(&self, uid: &EntityUid) -> bool {
        self.uid == uid || self.above.contains(uid)
    }

    /// Every hold under which a matching scope can be filed.
    fn holds(&self) -> Vec<Hold> {
        let entities = std::iter::once(self.uid).chain(self.above.iter().copied()).cloned().map(Hold::Entity);
        [Hold::Any, Hold::Type(self.uid.type_name().clone())].into_iter().chain(entities).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ENTITIES: &str = r#"[{"uid":{"type":"W","id":"a"},"attrs":{},"parents":[{"type":"G","id":"g"}]},
        {"uid":{"type":"P","id":"p"},"attrs":{},"parents":[{"type":"T","id":"t"}]}]"#;

    fn ids(rules: &[&str], (principal, resource): (&str, &str)) -> Vec<usize> {
        let parsed = rules.iter().enumerate().map(|(nth, rule)| {
            Policy::parse(Some(cedar_policy::PolicyId::new(nth.to_string())), format!("permit ({rule});")).unwrap()
        });
        let entities = Entities::from_json_str(ENTITIES, None).unwrap();
        let [principal, action, resource] = [principal, r#"Action::"x""#, resource].map(|uid| uid.parse().unwrap());
        let slice = Index::of(parsed).slice(&principal, &action, &resource, &entities);
        let mut ids: Vec<_> =
            slice.policies.policies().map(|policy| policy.id().to_string().parse().unwrap()).collect();
        ids.sort_unstable();
        ids
    }

    #[test]
    fn a_slice_holds_exactly_the_rules_whose_scope_matches() {
        let rules = [
            r"principal, action, resource",
            r#"principal == W::"a", action, resource"#,
            r#"principal == W::"b", action, resource"#,
            r#"principal in G::"g", action, resource in T::"t""#,
            r#"principal in W::"a", action, resource is P"#,
            r#"principal is W in G::"g", action, resource"#,
            r#"principal is O in G::"g", action, resource"#,
            r#"principal == G::"g", action, resource"#,
            r#"principal is W, action == Action::"x", resource == P::"p""#,
            r#"principal, action == Action::"y", resource"#,
            r#"principal, action in [Action::"y", Action::"x"], resource is P in T::"t""#,
            r#"principal, action in [Action::"y"], resource"#,
            r#"principal, action, resource in T::"u""#,
        ];
        assert_eq!(ids(&rules, (r#"W::"a""#, r#"P::"p""#)), [0, 1, 3, 4, 5, 8, 10]);
        assert_eq!(ids(&rules, (r#"W::"nobody""#, r#"P::"nothing""#)), [0]);
    }
}
