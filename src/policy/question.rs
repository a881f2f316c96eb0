//! An access as Cedar asks it.

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use cedar_policy::{Context, EntityId, EntityTypeName, EntityUid, Request, RestrictedExpression};

use super::known::AGENT;
use crate::access::{Access, Action, Resource, Role};
use crate::time::Minute;

/// The entity types of the schema, parsed once: the parser costs more than a verdict.
pub(super) struct Types {
    workload: EntityTypeName,
    operator: EntityTypeName,
    provider: EntityTypeName,
    secret: EntityTypeName,
    agent: EntityTypeName,
    action: EntityTypeName,
}

impl Types {
    /// None would mean that Cedar no longer takes these words for names.
    pub(super) fn parse() -> Option<Self> {
        let name = |text: &str| text.parse().ok();
        Some(Self {
            workload: name("Workload")?,
            operator: name("Operator")?,
            provider: name("Provider")?,
            secret: name("Secret")?,
            agent: name(AGENT.0)?,
            action: name("Action")?,
        })
    }

    pub(super) fn principal(&self, role: Role, name: &str) -> EntityUid {
        let kind = match role {
            Role::Workload => &self.workload,
            Role::Operator => &self.operator,
        };
        uid(kind, name)
    }

    pub(super) fn action(&self, action: Action) -> EntityUid {
        uid(&self.action, action.as_str())
    }

    pub(super) fn resource(&self, resource: &Resource) -> EntityUid {
        match resource {
            Resource::Provider(name) => uid(&self.provider, name.as_str()),
            Resource::Secret(id) => uid(&self.secret, &id.to_string()),
            Resource::Agent => uid(&self.agent, AGENT.1),
        }
    }
}

fn uid(kind: &EntityTypeName, id: &str) -> EntityUid {
    EntityUid::from_type_name_and_id(kind.clone(), EntityId::new(id))
}

/// The principal, action and resource of a question.
#[derive(Clone)]
pub(super) struct Ends {
    pub principal: EntityUid,
    pub action: EntityUid,
    pub resource: EntityUid,
}

/// The question at the minute that is `now`; none where Cedar does not take it.
pub(super) fn request(ends: &Ends, access: &Access, now: RestrictedExpression) -> Option<Request> {
    let strings = |words: &mut dyn Iterator<Item = &str>| {
        RestrictedExpression::new_set(words.map(|word| RestrictedExpression::new_string(word.to_owned())))
    };
    let context = Context::from_pairs([
        ("scopes".to_owned(), strings(&mut access.scopes.iter().map(|scope| scope.as_str()))),
        ("audience".to_owned(), strings(&mut access.audience.iter().map(|audience| audience.as_str()))),
        ("now".to_owned(), now),
    ]);
    let Ends { principal, action, resource } = ends.clone();
    Request::new(principal, action, resource, context.ok()?, None).ok()
}

/// The present minute in Cedar's words. Cedar parses the name of its own function to say it: once a minute is enough.
#[derive(Default)]
pub(super) struct Now(ArcSwapOption<(Minute, RestrictedExpression)>);

impl Now {
    /// `minute` in Cedar's words; none where it has none.
    pub(super) fn at(&self, minute: Minute) -> Option<RestrictedExpression> {
        if let Some(said) = self.0.load().as_ref().filter(|said| said.0 == minute) {
            return Some(said.1.clone());
        }
        let said = RestrictedExpression::new_datetime(datetime(minute)?);
        self.0.store(Some(Arc::new((minute, said.clone()))));
        Some(said)
    }
}

/// The beginning of `minute` as Cedar's `datetime` reads it; none outside the years 0000 to 9999.
fn datetime(minute: Minute) -> Option<String> {
    const YEAR_0: Minute = Minute::new(-1_036_120_320);
    const YEAR_10000: Minute = Minute::new(4_223_371_680);
    let text = minute.begins().rfc3339();
    let seconds = text.as_str().get(..19)?;
    (YEAR_0 <= minute && minute < YEAR_10000).then(|| format!("{seconds}Z"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_minute_that_cedar_cannot_say_is_no_question() {
        assert_eq!(datetime(Minute::new(0)).as_deref(), Some("1970-01-01T00:00:00Z"));
        assert_eq!(datetime(Minute::new(-1_036_120_320)).as_deref(), Some("0000-01-01T00:00:00Z"));
        assert_eq!(datetime(Minute::new(4_223_371_679)).as_deref(), Some("9999-12-31T23:59:00Z"));
        for outside in [i64::MIN, -1_036_120_321, 4_223_371_680, i64::MAX] {
            assert_eq!(datetime(Minute::new(outside)), None);
        }
    }
}
