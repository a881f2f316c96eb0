//! The rules whose scope matches a question, found without looking at the others.
//!
//! Cedar has no index and evaluates every policy of a set. A rule's scope (`principal == …`, `in …`,
//! `is …`) is a conjunction before its conditions that cannot fail, so a rule whose scope does not match
//! neither decides nor errs: leaving it out changes nothing. `tests/hermetic/policy_oracle.rs` holds this.

use std::collections::HashMap;

use cedar_policy::{
    ActionConstraint, Effect, Entities, EntityTypeName, EntityUid, Policy, PolicySet, PolicySetError,
    PrincipalConstraint, ResourceConstraint,
};

use super::question::Ends;

/// All rules, by what their scopes hold on to.
pub(super) struct Index {
    rules: Vec<Scoped>,
    holds: HashMap<Hold, usize>,
    /// Numbers of rules, by the holds of principal and resource.
    held: HashMap<(usize, usize), Vec<usize>>,
}

/// A rule with its scope.
pub(super) struct Scoped {
    /// Its `@id`.
    pub id: Box<str>,
    /// What it does when it is satisfied.
    pub effect: Effect,
    /// The rule alone, for Cedar: to gather the rules of each question into a set of their own would cost a fifth more.
    pub alone: PolicySet,
    principal: End,
    actions: Option<Vec<EntityUid>>,
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
#[derive(PartialEq, Eq, Hash)]
enum Hold {
    Any,
    Type(EntityTypeName),
    Entity(EntityUid),
}

impl Index {
    /// An index of `policies`, whose ids differ.
    pub(super) fn of(policies: impl IntoIterator<Item = Policy>) -> Result<Self, Box<PolicySetError>> {
        let mut index = Self { rules: Vec::new(), holds: HashMap::new(), held: HashMap::new() };
        for policy in policies {
            let rule = Scoped::of(policy)?;
            let holds = (index.number(rule.principal.hold()), index.number(rule.resource.hold()));
            index.held.entry(holds).or_default().push(index.rules.len());
            index.rules.push(rule);
        }
        Ok(index)
    }

    /// The rules whose scope matches.
    pub(super) fn matching<'a>(&'a self, ends: &'a Ends, entities: &Entities) -> impl Iterator<Item = &'a Scoped> {
        let (principals, resources) = (self.holds(&ends.principal, entities), self.holds(&ends.resource, entities));
        let pairs =
            principals.into_iter().flat_map(move |one| resources.clone().into_iter().map(move |other| (one, other)));
        let numbers = pairs.filter_map(|pair| self.held.get(&pair)).flatten();
        numbers.filter_map(|number| self.rules.get(*number)).filter(|rule| rule.matches(ends))
    }

    fn number(&mut self, hold: Hold) -> usize {
        let next = self.holds.len();
        *self.holds.entry(hold).or_insert(next)
    }

    /// The numbers of all holds under which a scope that matches `uid` can be filed.
    fn holds(&self, uid: &EntityUid, entities: &Entities) -> Vec<usize> {
        let above = entities.ancestors(uid).into_iter().flatten();
        let named = std::iter::once(uid).chain(above).cloned().map(Hold::Entity);
        let all = [Hold::Any, Hold::Type(uid.type_name().clone())].into_iter().chain(named);
        all.filter_map(|hold| self.holds.get(&hold).copied()).collect()
    }
}

impl Scoped {
    fn of(policy: Policy) -> Result<Self, Box<PolicySetError>> {
        let id: &str = policy.id().as_ref();
        let actions = match policy.action_constraint() {
            ActionConstraint::Any => None,
            ActionConstraint::Eq(action) => Some(vec![action]),
            // The schema has no groups of actions: to be in an action is to be it.
            ActionConstraint::In(actions) => Some(actions),
        };
        Ok(Self {
            id: id.into(),
            effect: policy.effect(),
            principal: policy.principal_constraint().into(),
            actions,
            resource: policy.resource_constraint().into(),
            alone: PolicySet::from_policies([policy]).map_err(Box::new)?,
        })
    }

    /// Whether the scope matches, for ends that are held by the holds that the rule is filed under.
    fn matches(&self, ends: &Ends) -> bool {
        let acts = self.actions.as_ref().is_none_or(|actions| actions.contains(&ends.action));
        acts && self.principal.matches(&ends.principal) && self.resource.matches(&ends.resource)
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

    /// What remains to be asked of a `uid` that is held: of its type, itself, or in the entity that is named.
    fn matches(&self, uid: &EntityUid) -> bool {
        match self {
            Self::Any | Self::Is(_) | Self::In(None, _) => true,
            Self::Equals(named) => uid == named,
            Self::In(Some(kind), _) => uid.type_name() == kind,
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
        let ends = Ends { principal, action, resource };
        let index = Index::of(parsed).unwrap();
        let mut ids: Vec<usize> = index.matching(&ends, &entities).map(|rule| rule.id.parse().unwrap()).collect();
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
