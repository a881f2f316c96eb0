//! What a token endpoint's answer is worth: bytes in, [`Grant`] or [`Failure`] out. Pure.
//!
//! `docs/providers.md` has the table of odd answers; each line of it is a test in `tests/hermetic/oauth.rs`.

use std::time::Duration;

use http::HeaderMap;
use http::header::CONTENT_TYPE;
use serde_json::{Number, Value};

use super::client_auth::ClientAuth;
use super::object::Object;
use super::refusal;
use super::settings::Rules;
use super::shown::Withheld;
use super::{Ask, Failure, Grant};
use crate::access::Scopes;
use crate::secret::Secret;
use crate::time::Moment;

pub use crate::wire::Answer;

/// How much of a body is read.
pub const MOST_BODY_BYTES: usize = 64 * 1024;

/// The longest access token: beyond it no HTTP server would take it in a header.
pub const MOST_TOKEN_BYTES: usize = 16 * 1024;

/// The longest life that a token is believed to have.
pub const LONGEST_LIFETIME: Duration = Duration::from_secs(30 * 86_400);

/// What was asked, and by which rules the answer is read.
#[derive(Clone, Copy)]
pub struct Asked<'a> {
    /// What was asked.
    pub ask: &'a Ask,
    /// What is accepted beyond it.
    pub rules: &'a Rules,
    /// How we said who we are, for the help in messages.
    pub client_auth: ClientAuth,
    /// What no message may repeat.
    pub withheld: &'a Withheld,
    /// When the request was sent.
    pub sent: Moment,
}

/// Reads an answer of a token endpoint (RFC 6749 §5).
///
/// # Errors
/// Every answer that is not exactly a usable grant, by whose fault it is.
pub fn read(answer: &Answer, asked: &Asked<'_>) -> Result<Grant, Failure> {
    if answer.status != 200 {
        return Err(refusal::read(answer, asked));
    }
    let mut object = object(answer)?;
    if object.text("error").is_some() && object.text("access_token").is_none() {
        return Err(refusal::of_success(&object, asked));
    }
    bearer(object.take("token_type"), asked.withheld)?;
    if object.take("cnf").is_some() {
        return nonsense(
            "it is bound to a key (`cnf`) that the workload does not have: turn sender-constrained tokens off for this client",
        );
    }
    Ok(Grant {
        scopes: scopes(object.take("scope"), asked)?,
        lifetime: lifetime(object.take("expires_in"), asked.rules.lifetime_if_missing)?,
        token: token(object.take("access_token"))?,
        sent: asked.sent,
    })
}

fn nonsense<T>(what: impl Into<String>) -> Result<T, Failure> {
    Err(Failure::Nonsense(what.into()))
}

/// The one JSON object that a success must be (RFC 6749 §5.1).
fn object(answer: &Answer) -> Result<Object, Failure> {
    if !answer.whole {
        return nonsense(format!("status 200 with a body of more than {} KiB", MOST_BODY_BYTES / 1024));
    }
    let object = if is_json(&answer.headers) { Object::read(&answer.body).ok() } else { None };
    object.map_or_else(|| nonsense(format!("status 200, but {}", refusal::kind_of_body(answer))), Ok)
}

/// Whether the content type is `application/json`, or is not said, as some servers do: the body then shows what it is.
pub(super) fn is_json(headers: &HeaderMap) -> bool {
    let Some(said) = headers.get(CONTENT_TYPE) else { return true };
    let media_type = said.as_bytes().split(|b| *b == b';').next().unwrap_or_default();
    media_type.trim_ascii().eq_ignore_ascii_case(b"application/json")
}

/// RFC 6749 §7.1: a client must not use a token whose type it does not understand.
fn bearer(token_type: Option<Value>, withheld: &Withheld) -> Result<(), Failure> {
    match token_type {
        Some(Value::String(word)) if word.eq_ignore_ascii_case("Bearer") => Ok(()),
        Some(Value::String(word)) => {
            nonsense(format!("`token_type` is `{}`, and bursar serves `Bearer` only", withheld.show(&word, 20)))
        }
        Some(_) => nonsense("`token_type` is not a text"),
        None => nonsense("`token_type` is missing, and RFC 6749 §5.1 requires it"),
    }
}

/// The token itself: printable ASCII without space, so that it goes into a header as it is (RFC 6750 §2.1, widened
/// to what servers send: `|`, `:` and `!` are seen).
fn token(value: Option<Value>) -> Result<Secret, Failure> {
    let Some(value) = value else { return nonsense("`access_token` is missing") };
    let Value::String(text) = value else { return nonsense("`access_token` is not a text") };
    match text.as_bytes() {
        [] => nonsense("`access_token` is empty"),
        bytes if bytes.len() > MOST_TOKEN_BYTES => {
            nonsense(format!("`access_token` is longer than {} KiB", MOST_TOKEN_BYTES / 1024))
        }
        bytes if !bytes.iter().all(u8::is_ascii_graphic) => {
            nonsense("`access_token` holds something else than printable ASCII without spaces")
        }
        _ => Ok(Secret::new(text.into_bytes())),
    }
}

/// RFC 6749 §5.1: absent means as asked. More than that is taken only where the rules list it.
fn scopes(value: Option<Value>, asked: &Asked<'_>) -> Result<Scopes, Failure> {
    let granted = match value {
        None => return Ok(asked.ask.scopes.clone()),
        Some(Value::String(text)) => {
            Scopes::parse(&text).or_else(|why| nonsense(format!("`scope` is not a scope: {why}")))?
        }
        Some(_) => return nonsense("`scope` is not a text"),
    };
    let listed = |list: &Scopes| asked.withheld.show(&list.to_string(), 200);
    let extra = without(&granted, &[&asked.ask.scopes, &asked.rules.extra_scopes]);
    if !extra.is_empty() {
        return nonsense(format!(
            "it grants more than was asked, `{}`: if that is meant, list it in `extra_scopes`",
            listed(&extra)
        ));
    }
    let missing = without(&asked.ask.scopes, &[&granted]);
    if asked.rules.require_all_scopes && !missing.is_empty() {
        return nonsense(format!("it does not grant `{}`, and `require_all_scopes` is set", listed(&missing)));
    }
    Ok(granted)
}

fn without(scopes: &Scopes, known: &[&Scopes]) -> Scopes {
    scopes.iter().filter(|scope| !known.iter().any(|known| known.contains(scope))).cloned().collect()
}

/// RFC 6749 §5.1 says a number of seconds; servers also send it as a float and as a text.
fn lifetime(value: Option<Value>, if_missing: Duration) -> Result<Option<Duration>, Failure> {
    let seconds = match value {
        None => return Ok((!if_missing.is_zero()).then(|| if_missing.min(LONGEST_LIFETIME))),
        Some(Value::Number(number)) => seconds(&number),
        Some(Value::String(text)) => text.parse().ok().and_then(|number: Number| seconds(&number)),
        Some(Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_)) => None,
    };
    match seconds {
        Some(seconds) => Ok(Some(seconds.min(LONGEST_LIFETIME))),
        None => nonsense("`expires_in` is not a whole number of seconds from 0 up"),
    }
}

fn seconds(number: &Number) -> Option<Duration> {
    if let Some(whole) = number.as_u64() {
        return Some(Duration::from_secs(whole));
    }
    let float = number.as_f64().filter(|float| *float >= 0.0 && float.fract() == 0.0)?;
    Some(Duration::try_from_secs_f64(float).unwrap_or(LONGEST_LIFETIME))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lifetime_of(json: &str) -> Option<u64> {
        lifetime(Some(serde_json::from_str(json).unwrap()), Duration::ZERO).ok().flatten().map(|life| life.as_secs())
    }

    #[test]
    fn expires_in_is_a_whole_number_in_any_dress() {
        for (json, life) in
            [("3600", 3600), ("3600.0", 3600), ("\"3600\"", 3600), ("0", 0), ("\"0\"", 0), ("3.6e3", 3600)]
        {
            assert_eq!(lifetime_of(json), Some(life), "{json}");
        }
        for bad in
            ["-5", "-0.5", "3600.5", "null", "true", "[]", "{}", "\"\"", "\"soon\"", "\"-1\"", "\" 1\"", "\"1h\""]
        {
            assert_eq!(lifetime_of(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_life_is_believed_up_to_thirty_days() {
        for huge in ["9007199254740993", "18446744073709551616", "1e300", "\"99999999999999999999999\""] {
            assert_eq!(lifetime_of(huge), Some(LONGEST_LIFETIME.as_secs()), "{huge}");
        }
    }
}
