//! `@expires`: a promise that a rule makes about itself, and that its own condition has to keep.
//!
//! Expiry is written in Cedar (`context.now < datetime("…")`), so that every Cedar tool decides alike. The
//! annotation says the same for people, reviews and `check`; a rule whose annotation says more than its
//! condition is refused, since it would outlive its date.

use cedar_policy::Policy;
use serde_json::{Value, json};

use crate::fault::{Fault, Place};
use crate::time::Wall;

/// Why an `@expires` is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// It is not a date, nor a whole minute in UTC.
    NotAMinute,
    /// The rule's condition does not end then.
    NotKept,
}

impl Refusal {
    pub(super) fn fault(self, text: &str, place: Place) -> Fault {
        match self {
            Self::NotAMinute => Fault::new(place, "`@expires` is neither a date nor a whole minute in UTC")
                .help("write `@expires(\"2027-01-31\")` or `@expires(\"2027-01-31T18:00:00Z\")`"),
            Self::NotKept => {
                Fault::new(place, format!("the rule's condition does not end it at its `@expires(\"{text}\")`")).help(
                    format!("add `when {{ context.now < datetime(\"{text}\") }}` to the rule, with the same text"),
                )
            }
        }
    }
}

/// When the rule ends, by its annotation `text` and by its condition.
pub(super) fn check(text: &str, policy: &Policy) -> Result<Wall, Refusal> {
    let moment = moment(text).ok_or(Refusal::NotAMinute)?;
    let body = policy.to_json().map_err(|_| Refusal::NotKept)?;
    if ends_at(&body, text) { Ok(moment) } else { Err(Refusal::NotKept) }
}

/// The point in time of `2027-01-31` or `2027-01-31T18:00:00Z`, where it is a whole minute: policies see no finer
/// time, so that a rule would outlive any other point by up to a minute.
fn moment(text: &str) -> Option<Wall> {
    let whole = if text.len() == 10 { format!("{text}T00:00:00Z") } else { text.to_owned() };
    let at = Wall::parse(&whole).ok()?;
    let canonical = at.rfc3339().as_str().get(..16).map(|minute| format!("{minute}:00Z"));
    (canonical? == whole).then_some(at)
}

/// Whether one of the `when`s of a policy, in Cedar's JSON form, is false from `text` on.
fn ends_at(policy: &Value, text: &str) -> bool {
    let end = json!({"<": {
        "left": {".": {"left": {"Var": "context"}, "attr": "now"}},
        "right": {"datetime": [{"Value": text}]},
    }});
    let conditions = policy.get("conditions").and_then(Value::as_array);
    let bodies = conditions.into_iter().flatten().filter(|condition| condition.get("kind") == Some(&json!("when")));
    bodies.filter_map(|condition| condition.get("body")).any(|body| has_conjunct(body, &end))
}

fn has_conjunct(body: &Value, end: &Value) -> bool {
    let both = body.get("&&").map(|sides| (sides.get("left"), sides.get("right")));
    match both {
        Some((left, right)) => [left, right].into_iter().flatten().any(|side| has_conjunct(side, end)),
        None => body == end,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(text: &str, condition: &str) -> Result<Wall, Refusal> {
        check(text, &format!("permit (principal, action, resource) {condition};").parse().unwrap())
    }

    #[test]
    fn an_expiry_is_kept_by_the_condition_or_refused() {
        let kept = [
            r#"when { context.now < datetime("2027-01-31") }"#,
            r#"when { true && (context.scopes.isEmpty() && context.now < datetime("2027-01-31")) }"#,
            r#"when { true } when { context["now"] < datetime("2027-01-31") } unless { false }"#,
        ];
        for condition in kept {
            assert_eq!(
                checked("2027-01-31", condition),
                Ok(Wall::parse("2027-01-31T00:00:00Z").unwrap()),
                "{condition}"
            );
        }
        let not_kept = [
            "",
            r#"when { context.now < datetime("2027-02-01") }"#,
            r#"when { context.now <= datetime("2027-01-31") }"#,
            r#"when { true || context.now < datetime("2027-01-31") }"#,
            r#"when { !(context.now < datetime("2027-01-31")) }"#,
            r#"unless { context.now < datetime("2027-01-31") }"#,
            r#"when { datetime("2027-01-31") < context.now }"#,
        ];
        for condition in not_kept {
            assert_eq!(checked("2027-01-31", condition), Err(Refusal::NotKept), "{condition}");
        }
    }

    #[test]
    fn an_expiry_is_a_date_or_a_whole_minute() {
        for text in
            ["", "soon", "2027-13-01", "2027-01-31T18:00:30Z", "2027-01-31T18:00:00+01:00", "2027-01-31 18:00:00Z"]
        {
            let condition = format!(r#"when {{ context.now < datetime("{text}") }}"#);
            assert_eq!(moment(text), None, "{condition}");
        }
        assert!(moment("2027-01-31T18:00:00Z").is_some());
    }
}
