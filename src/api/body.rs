//! The bodies on the wire: what a released token and an error look like. Pure.

use std::io::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::StatusCode;
use serde::Serialize;

use crate::access::Role;
use crate::account::{Encoding, Freshness, SecretTerms, Terms, TokenTerms};
use crate::broker::{Refused, Released, Why};
use crate::store::{StoreError, VersionId};
use crate::token::Rejection;

/// What was released, as it is written; `name` is that of the secret or provider.
#[must_use]
pub(super) fn of(name: &str, released: &Released) -> Bytes {
    match released.terms() {
        Terms::Token(terms) => token(terms, released),
        Terms::Secret(terms) => secret(name, terms, released),
    }
}

/// A token as RFC 6749 §5.1 writes it, with `age` (seconds since it was asked for) and `stale` beside it.
///
/// `expires_in` is whole seconds, rounded down; it is absent where the provider did not say. `scope` is
/// absent for a token without scopes.
fn token(terms: &TokenTerms, released: &Released) -> Bytes {
    let value = released.value().expose();
    let mut out = Vec::with_capacity(value.len() + 192);
    out.extend_from_slice(b"{\"access_token\":\"");
    escape(value, &mut out);
    out.extend_from_slice(b"\",\"token_type\":\"Bearer\"");
    // Writing to a vector does not fail.
    let _ = rest(terms, released, &mut out);
    Bytes::from(out)
}

fn rest(terms: &TokenTerms, released: &Released, out: &mut Vec<u8>) -> std::io::Result<()> {
    let now = released.at();
    if let Some(expires) = terms.expires {
        write!(out, ",\"expires_in\":{}", expires.left(now).as_secs())?;
    }
    if !terms.scopes.is_empty() {
        // No scope holds a character that JSON escapes (RFC 6749 §3.3).
        write!(out, ",\"scope\":\"{}\"", terms.scopes)?;
    }
    let stale = terms.freshness == Freshness::Stale;
    write!(out, ",\"age\":{},\"stale\":{stale}", now.since(terms.obtained).as_secs())?;
    // The provider gave the same token again, or none.
    out.extend_from_slice(if terms.rejected { b",\"rejected\":true}" } else { b"}" });
    Ok(())
}

/// A version of a secret. `rotates_at` is `null` where only an operator rotates it, or nobody. `age` is in seconds, since the store was asked.
fn secret(name: &str, terms: &SecretTerms, released: &Released) -> Bytes {
    let value = released.value().expose();
    // Text that was escaped grows where it has line ends or quotes: a key in PEM has few.
    let mut out = Vec::with_capacity(value.len() + value.len() / 8 + 256);
    let SecretTerms { version, created, obtained, freshness, encoding, reread_after } = terms;
    // Writing to a vector does not fail. Neither a name nor the id of a version holds a character that JSON escapes.
    let _ = write!(out, "{{\"name\":\"{name}\",\"version\":\"{version}\",\"value\":\"");
    match encoding {
        Encoding::Utf8 => escape(value, &mut out),
        Encoding::Base64 => {
            out.extend_from_slice(STANDARD.encode(value).as_bytes());
            out.extend_from_slice(b"\",\"encoding\":\"base64");
        }
    }
    let (created, reread_after) = (created.rfc3339(), reread_after.as_secs());
    let (age, stale) = (released.at().since(*obtained).as_secs(), *freshness == Freshness::Stale);
    let _ = write!(out, "\",\"created_at\":\"{}\",\"rotates_at\":", created.as_str());
    let _ = match released.rotates_at() {
        Some(at) => write!(out, "\"{}\"", at.rfc3339()),
        None => write!(out, "null"),
    };
    let _ = write!(out, ",\"reread_after\":{reread_after},\"age\":{age},\"stale\":{stale}}}");
    Bytes::from(out)
}

/// UTF-8 text within a JSON string (RFC 8259 §7).
fn escape(text: &[u8], out: &mut Vec<u8>) {
    let special = |byte: &u8| matches!(byte, 0..0x20 | b'"' | b'\\');
    for part in text.chunks(64) {
        // Hardly any has one. Without an early end and in bytes, the compiler looks at sixteen at a time.
        if part.iter().fold(0, |found, byte| found | u8::from(special(byte))) == 0 {
            out.extend_from_slice(part);
            continue;
        }
        for &byte in part {
            match byte {
                b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
                b'\n' => out.extend_from_slice(b"\\n"),
                0..0x20 => drop(write!(out, "\\u{byte:04x}")),
                0x20.. => out.push(byte),
            }
        }
    }
}

/// The tag of a released version (RFC 9110 §8.8.3): weak, since `age` is another each time.
#[must_use]
pub(super) fn tag(terms: &Terms) -> Option<String> {
    match terms {
        Terms::Secret(terms) => Some(tagged(&terms.version)),
        Terms::Token(_) => None,
    }
}

/// The tag of the version `id`.
#[must_use]
pub(super) fn tag_of(id: &VersionId) -> String {
    tagged(id.as_str())
}

fn tagged(version: &str) -> String {
    format!("W/\"{version}\"")
}

/// The versions that an `If-None-Match` names (RFC 9110 §13.1.2), weak or strong. `*` is none: who asks for a secret wants to
/// know which version it has.
pub(super) fn versions_in(tags: &str) -> impl Iterator<Item = VersionId> {
    let opaque = |tag: &str| tag.trim().trim_start_matches("W/").strip_prefix('"')?.strip_suffix('"')?.parse().ok();
    tags.split(',').filter_map(opaque)
}

/// What became of a token that an API refused.
#[must_use]
pub(super) fn rejection(rejection: Rejection) -> Bytes {
    format!("{{\"rejected\":true,\"outcome\":\"{}\"}}", rejection.as_str()).into()
}

/// The one error body: OAuth's members (RFC 6749 §5.2), `decision` and `remedy`, and those of RFC 9457.
#[derive(Debug, Serialize)]
struct ErrorBody<'a> {
    /// The stable code.
    pub error: &'a str,
    /// What is wrong, for people.
    pub error_description: &'a str,
    /// The record of it, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decision: Option<String>,
    /// The provider's own code, where it refused us with a registered one (RFC 6749 §5.2, RFC 8707 §2).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub provider_error: Option<&'static str>,
    /// What to do next.
    pub remedy: &'a str,
    /// RFC 9457: `urn:bursar:error:<code>`.
    pub r#type: String,
    /// RFC 9457: the status in words.
    pub title: &'a str,
    /// RFC 9457: the status.
    pub status: u16,
    /// RFC 9457: the same as `error_description`.
    pub detail: &'a str,
}

/// How a refusal is shown: the one map from errors to HTTP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Shown {
    /// The status.
    pub status: StatusCode,
    /// The stable code.
    pub error: &'static str,
    /// What is wrong.
    pub description: String,
    /// What to do next.
    pub remedy: &'static str,
    /// `Retry-After`, in whole seconds, at least 1.
    pub retry_after: Option<u64>,
}

impl Shown {
    /// How `why` is shown.
    #[must_use]
    pub(super) fn of(why: &Why) -> Self {
        let (status, remedy) = match why {
            Why::Unidentified(_, Role::Workload) => (
                StatusCode::FORBIDDEN,
                "run `bursar whoami` as this process; an entry of `workloads.toml` has to match what it prints, and only one",
            ),
            Why::Unidentified(_, Role::Operator) => (
                StatusCode::FORBIDDEN,
                "an `[operator.NAME]` of `workloads.toml` has to match this process, and only one; as shipped that is root, by `uid = 0`",
            ),
            Why::AccessDenied => (
                StatusCode::FORBIDDEN,
                "ask for less, or ask those who own the policies for a permit and name this decision to them",
            ),
            Why::InvalidRequest(_) | Why::InvalidScope(_) | Why::InvalidTarget(_) | Why::UnsupportedGrantType => {
                (StatusCode::BAD_REQUEST, "correct the request as the description says")
            }
            Why::NotFound => (StatusCode::NOT_FOUND, "correct the path"),
            Why::NoSecret => (
                StatusCode::NOT_FOUND,
                "an operator has to put it there, `bursar secret put`; a version that was asked for by its id may be over",
            ),
            Why::NoStore { .. } => (
                StatusCode::SERVICE_UNAVAILABLE,
                "try again as `Retry-After` says; the operator finds the store and its fault in the record of this decision",
            ),
            Why::MethodNotAllowed => (StatusCode::METHOD_NOT_ALLOWED, "correct the method"),
            Why::TooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "send less"),
            Why::SlowDown { .. } => {
                (StatusCode::TOO_MANY_REQUESTS, "try again as `Retry-After` says, and ask less often")
            }
            Why::Provider { .. } => (
                StatusCode::BAD_GATEWAY,
                "the operator finds the provider's answer in the record of this decision: `bursar audit query`",
            ),
            Why::TemporarilyUnavailable { .. } => (StatusCode::SERVICE_UNAVAILABLE, "try again as `Retry-After` says"),
            Why::NoCredential { .. } => (
                StatusCode::SERVICE_UNAVAILABLE,
                "the operator finds the credential's name in the record of this decision: `bursar audit query`",
            ),
            Why::Store(error) => (store_status(error), "the description says what to do"),
            Why::AuditUnavailable => (
                StatusCode::SERVICE_UNAVAILABLE,
                "nothing is handed out that cannot be recorded: the operator has to look at the audit log's disk",
            ),
            Why::Draining => (
                StatusCode::SERVICE_UNAVAILABLE,
                "try again as `Retry-After` says: bursar is stopping or being replaced",
            ),
            Why::Internal(_) => {
                (StatusCode::INTERNAL_SERVER_ERROR, "this is bursar's fault: the operator finds more in its log")
            }
        };
        let retry_after = why.retry_after().map(|wait| wait.as_secs_f64().ceil().max(1.0) as u64);
        Self { status, error: why.code(), description: why.to_string(), remedy, retry_after }
    }
}

fn store_status(error: &StoreError) -> StatusCode {
    match error {
        StoreError::NotFound(_) => StatusCode::NOT_FOUND,
        StoreError::Fenced(_) | StoreError::Taken(..) => StatusCode::CONFLICT,
        StoreError::ReadOnly(_) | StoreError::Invalid(_) => StatusCode::BAD_REQUEST,
        StoreError::Setup(_) | StoreError::Damaged(_) => StatusCode::INTERNAL_SERVER_ERROR,
        StoreError::Unavailable(_) => StatusCode::SERVICE_UNAVAILABLE,
    }
}

/// The bytes of the error body for `refused`.
#[must_use]
pub(super) fn error(shown: &Shown, refused: &Refused) -> Bytes {
    let body = ErrorBody {
        error: shown.error,
        error_description: &shown.description,
        decision: refused.decision.map(|decision| decision.to_string()),
        provider_error: refused.why.provider_error(),
        remedy: shown.remedy,
        r#type: format!("urn:bursar:error:{}", shown.error),
        title: shown.status.canonical_reason().unwrap_or_default(),
        status: shown.status.as_u16(),
        detail: &shown.description,
    };
    Bytes::from(serde_json::to_vec(&body).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_text_is_a_json_string_and_reads_as_it_was() {
        let text: String = (0..0x180).filter_map(char::from_u32).chain("\u{2028}🔑".chars()).collect();
        let mut out = b"\"".to_vec();
        escape(text.as_bytes(), &mut out);
        out.push(b'"');
        assert_eq!(serde_json::from_slice::<String>(&out).unwrap(), text);
    }

    #[test]
    fn a_tag_is_found_weak_or_strong_among_others() {
        for (tags, found) in [
            ("W/\"v-1\"", true),
            ("\"v-1\"", true),
            ("\"v-0\", W/\"v-1\"", true),
            ("\"v-11\"", false),
            ("v-1", false),
            ("*", false),
            ("", false),
        ] {
            assert_eq!(versions_in(tags).any(|id| id.as_str() == "v-1"), found, "{tags}");
        }
    }

    #[test]
    fn the_error_body_is_the_one_of_the_formats() {
        let formats = include_str!("../../docs/formats.md");
        let example = formats.lines().find(|line| line.starts_with("{\"error\":")).expect("an example");
        let refused = Refused { why: Why::AccessDenied, decision: "6ba7b810-4".parse().ok() };
        assert_eq!(error(&Shown::of(&refused.why), &refused), example);
    }
}
