//! What an answer other than 200 means, by whose fault, and what the operator is told. Pure.

use std::time::{Duration, UNIX_EPOCH};

use http::HeaderMap;
use http::header::{CONTENT_TYPE, LOCATION, RETRY_AFTER, WWW_AUTHENTICATE};

use super::Failure;
use super::answer::{Answer, Asked, is_json};
use super::client_auth::ClientAuth;
use super::object::Object;
use super::shown::Withheld;
use crate::time::Wall;

/// The longest that a provider's `Retry-After` is followed.
pub const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(3600);

/// How long a provider is left alone that throttles us and does not say for how long.
const REST_WHEN_THROTTLED: Duration = Duration::from_secs(5);

/// How much of a provider's description is shown.
const MOST_DESCRIPTION_CHARS: usize = 200;

/// Reads an answer whose status is not 200 (RFC 6749 §5.2).
#[must_use]
pub fn read(answer: &Answer, asked: &Asked<'_>) -> Failure {
    let said = Said::read(answer, asked.withheld);
    match answer.status {
        300..=399 => {
            Failure::Refused { status: answer.status, error: None, what: redirected(&answer.headers, asked.withheld) }
        }
        408 | 425 | 429 | 500..=599 => unavailable(answer, asked, &said),
        400..=499 if said.is_passing => unavailable(answer, asked, &said),
        400..=499 => Failure::Refused {
            status: answer.status,
            error: said.error,
            what: format!("{}; {}", said.text, remedy(answer.status, said.error, asked.client_auth)),
        },
        other => Failure::Nonsense(format!("status {other}, where RFC 6749 §5.1 says 200: {}", said.text)),
    }
}

/// A refusal that comes as a success, as some servers send it: status 200 with an `error`.
pub(super) fn of_success(object: &Object, asked: &Asked<'_>) -> Failure {
    let said = Said::of(object, asked.withheld);
    let what = format!("{}; {}", said.text, remedy(200, said.error, asked.client_auth));
    Failure::Refused { status: 200, error: said.error, what }
}

fn unavailable(answer: &Answer, asked: &Asked<'_>, said: &Said) -> Failure {
    let said_when = retry_after(&answer.headers, asked.sent.wall);
    // Who counts requests and does not say when there may be more is not asked again at once.
    let retry_after = said_when.or((answer.status == 429).then_some(REST_WHEN_THROTTLED));
    Failure::Unavailable { what: format!("status {}: {}", answer.status, said.text), retry_after }
}

/// What the body says of the refusal.
struct Said {
    error: Option<&'static str>,
    is_passing: bool,
    text: String,
}

impl Said {
    fn read(answer: &Answer, withheld: &Withheld) -> Self {
        let object = Some(answer).filter(|a| a.whole && is_json(&a.headers)).and_then(|a| Object::read(&a.body).ok());
        let mut said = match object {
            Some(object) => Self::of(&object, withheld),
            None => Self { error: None, is_passing: false, text: kind_of_body(answer) },
        };
        if let Some(challenge) = text_of(&answer.headers, &WWW_AUTHENTICATE) {
            said.text.push_str(&format!(" (`www-authenticate: {}`)", withheld.show(challenge, 100)));
        }
        said
    }

    fn of(object: &Object, withheld: &Withheld) -> Self {
        let Some(code) = object.text("error") else {
            return Self { error: None, is_passing: false, text: "a JSON body without `error`".to_owned() };
        };
        let error = registered(code);
        let mut text = match error {
            Some(code) => format!("`{code}`"),
            None => format!("`{}`, which is no registered error code", withheld.show(code, 60)),
        };
        if let Some(description) = object.text("error_description") {
            text.push_str(&format!(", \"{}\"", withheld.show(description, MOST_DESCRIPTION_CHARS)));
        }
        Self { error, is_passing: matches!(code, "temporarily_unavailable" | "server_error" | "slow_down"), text }
    }
}

/// The error codes of a token endpoint that are passed on: RFC 6749 §5.2 and RFC 8707 §2.
fn registered(code: &str) -> Option<&'static str> {
    const CODES: [&str; 7] = [
        "invalid_request",
        "invalid_client",
        "invalid_grant",
        "unauthorized_client",
        "unsupported_grant_type",
        "invalid_scope",
        "invalid_target",
    ];
    CODES.into_iter().find(|known| *known == code)
}

/// What the operator does next.
fn remedy(status: u16, error: Option<&str>, auth: ClientAuth) -> String {
    let credential = || format!("check `client_id`, {} and `client_auth` (now `{}`)", what_proves(auth), auth.as_str());
    match (error, status) {
        (Some("invalid_client"), _) | (None, 401) => credential(),
        (Some("unauthorized_client" | "unsupported_grant_type"), _) => {
            "allow the grant `client_credentials` for this client at the provider".to_owned()
        }
        (Some("invalid_scope"), _) => "compare `scopes` with what this client is registered for".to_owned(),
        (Some("invalid_target"), _) => "compare `resources` or `audience` with what the provider knows".to_owned(),
        (None, 403) => format!("some servers answer so to a wrong secret: {}", credential()),
        (None, 404 | 405 | 410) => "check `token_endpoint` or `issuer`: this is no token endpoint".to_owned(),
        (Some(_) | None, _) => "the provider's own log may say more".to_owned(),
    }
}

/// What may be wrong with our proof.
const fn what_proves(auth: ClientAuth) -> &'static str {
    match auth {
        ClientAuth::ClientSecretBasic | ClientAuth::ClientSecretPost => "the stored client secret",
        ClientAuth::ClientSecretJwt => "the stored client secret, this host's clock",
        ClientAuth::PrivateKeyJwt => {
            "the stored private key, `signing_alg`, `key_id`, `assertion_audience`, this host's clock"
        }
        ClientAuth::TlsClientAuth | ClientAuth::SelfSignedTlsClientAuth => {
            "that the provider knows `certificate`, that it has not expired"
        }
        ClientAuth::FederatedAssertion => {
            "that the provider trusts the assertion's issuer and subject, that each assertion may be used more than once"
        }
    }
}

fn redirected(headers: &HeaderMap, withheld: &Withheld) -> String {
    let to = text_of(headers, &LOCATION).map_or_else(
        || "elsewhere".to_owned(),
        |to| {
            let without_query = to.split(['?', '#']).next().unwrap_or_default();
            format!("to `{}`", withheld.show(without_query, 120))
        },
    );
    format!("it redirects {to}, and a client secret is not sent after a redirect: set `token_endpoint` to where it is")
}

/// What a body is that is not the JSON that was expected, without any of its text.
pub(super) fn kind_of_body(answer: &Answer) -> String {
    let start = answer.body.trim_ascii_start();
    if start.is_empty() {
        return "an empty body".to_owned();
    }
    let said = answer.headers.get(CONTENT_TYPE).map(|said| said.as_bytes().to_ascii_lowercase()).unwrap_or_default();
    if said.starts_with(b"text/html") || start.starts_with(b"<") {
        return "an HTML page instead of JSON: is this the token endpoint, or does a proxy or login page stand before it?"
            .to_owned();
    }
    match Object::read(&answer.body) {
        Err(why) => why.to_string(),
        Ok(_) => "a content type that is not `application/json`".to_owned(),
    }
}

/// `Retry-After` as seconds or as a date (RFC 9110 §10.2.3), counted from `sent`, at most [`LONGEST_RETRY_AFTER`].
#[must_use]
pub fn retry_after(headers: &HeaderMap, sent: Wall) -> Option<Duration> {
    let text = text_of(headers, &RETRY_AFTER)?.trim();
    let wait = if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
        Duration::from_secs(text.parse().unwrap_or(u64::MAX))
    } else {
        let since_epoch = httpdate::parse_http_date(text).ok()?.duration_since(UNIX_EPOCH).ok()?;
        Wall::default() + since_epoch - sent
    };
    Some(wait.min(LONGEST_RETRY_AFTER))
}

fn text_of<'a>(headers: &'a HeaderMap, name: &http::HeaderName) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wait(text: &str) -> Option<u64> {
        let headers = [(RETRY_AFTER, text.parse().unwrap())].into_iter().collect();
        retry_after(&headers, Wall::from_micros(784_111_777_000_000)).map(|wait| wait.as_secs())
    }

    #[test]
    fn retry_after_is_seconds_or_a_date_and_bounded() {
        for (text, seconds) in [
            ("2", 2),
            ("0", 0),
            ("99999999999999999999999999", 3600),
            ("Sun, 06 Nov 1994 08:50:07 GMT", 30),
            ("Sunday, 06-Nov-94 08:50:07 GMT", 30),
            ("Sun Nov  6 08:50:07 1994", 30),
            ("Sat, 05 Nov 1994 08:49:37 GMT", 0),
            ("Fri, 31 Dec 9999 23:59:59 GMT", 3600),
        ] {
            assert_eq!(wait(text), Some(seconds), "{text}");
        }
        for bad in ["", "-1", "2.5", "soon", "2 s"] {
            assert_eq!(wait(bad), None, "{bad}");
        }
    }
}
