//! Where an issuer's token endpoint is: RFC 8414 and OpenID Connect Discovery 1.0. Pure, with a memory that
//! is told the time; the requests go out in [`super::http`].

use std::time::Duration;

use serde_json::Value;
use url::Url;

use super::Failure;
use super::answer::{Answer, MOST_BODY_BYTES, is_json};
use super::object::Object;
use super::refusal;
use super::settings::{EndpointUrl, Issuer};
use super::shown::Withheld;
use crate::time::{Deadline, Moment};

/// How long metadata counts as fresh.
pub const FRESH_FOR: Duration = Duration::from_secs(3600);
/// How long it is used beyond that while it cannot be had anew.
pub const USABLE_FOR: Duration = Duration::from_secs(86_400);
/// How long a failure is remembered, and metadata not asked for again.
pub const FAILURE_FOR: Duration = Duration::from_secs(10);

/// What we take from an issuer's metadata.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Metadata {
    /// Its token endpoint.
    pub token_endpoint: EndpointUrl,
    /// Where tokens are ended (RFC 7009), if it says so, and a secret may be sent there.
    pub revocation_endpoint: Option<EndpointUrl>,
}

/// By what we are known there: it decides which of two doors is ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Door {
    /// What stands in the request.
    Plain,
    /// The certificate of the connection: where metadata has `mtls_endpoint_aliases`, these count (RFC 8705 §5).
    Certificate,
}

/// The places where metadata may stand, in the order in which they are asked.
///
/// RFC 8414 §3.1 puts the well-known part before the issuer's path, OpenID Connect Discovery §4 after it;
/// RFC 8414 §5 knows the OpenID document at the first place too.
#[must_use]
pub fn places(issuer: &Issuer) -> Vec<Url> {
    let base = issuer.url().url();
    let path = base.path().trim_end_matches('/');
    let mut paths = vec![
        format!("/.well-known/oauth-authorization-server{path}"),
        format!("/.well-known/openid-configuration{path}"),
    ];
    if !path.is_empty() {
        paths.push(format!("{path}/.well-known/openid-configuration"));
    }
    paths.iter().map(|path| with_path(base, path)).collect()
}

fn with_path(base: &Url, path: &str) -> Url {
    let mut url = base.clone();
    url.set_path(path);
    url
}

/// What one place said.
#[derive(Debug)]
pub enum Found {
    /// The issuer's metadata.
    Metadata(Metadata),
    /// No metadata stands here: ask the next place. What stands here instead.
    Nothing(String),
    /// It does stand here, or may, but cannot be used: asking elsewhere would only hide that.
    Failed(Failure),
}

/// Reads what one place answered (RFC 8414 §3.2, §3.3).
#[must_use]
pub fn read(issuer: &Issuer, door: Door, answer: &Answer, sent: Moment) -> Found {
    match answer.status {
        200 => metadata(issuer, door, answer),
        408 | 425 | 429 | 500..=599 => Found::Failed(Failure::Unavailable {
            what: format!("the metadata of the issuer `{issuer}` answers status {}", answer.status),
            retry_after: refusal::retry_after(&answer.headers, sent.wall),
        }),
        other => Found::Nothing(format!("status {other}")),
    }
}

fn metadata(issuer: &Issuer, door: Door, answer: &Answer) -> Found {
    if !answer.whole {
        return Found::Nothing(format!("more than {} KiB", MOST_BODY_BYTES / 1024));
    }
    let Some(mut object) = Some(answer).filter(|a| is_json(&a.headers)).and_then(|a| Object::read(&a.body).ok()) else {
        return Found::Nothing(refusal::kind_of_body(answer));
    };
    match endpoints_of(issuer, door, &mut object) {
        Ok(metadata) => Found::Metadata(metadata),
        Err(what) => Found::Failed(Failure::Nonsense(format!("the metadata of the issuer `{issuer}` {what}"))),
    }
}

fn endpoints_of(issuer: &Issuer, door: Door, object: &mut Object) -> Result<Metadata, String> {
    match object.text("issuer") {
        None => return Err("names no `issuer`".to_owned()),
        // Exactly: else one tenant's document could send our secret to another's endpoint (RFC 8414 §3.3).
        Some(named) if named != issuer.as_str() => {
            return Err(format!("names the issuer `{}`: write `issuer` exactly so, if that is meant", shown(named)));
        }
        Some(_) => {}
    }
    let aliases = object.take("mtls_endpoint_aliases").filter(|_| door == Door::Certificate);
    let text = |name| {
        let alias = aliases.as_ref().and_then(|aliases| aliases.get(name)).and_then(Value::as_str);
        alias.or_else(|| object.text(name))
    };
    let token = text("token_endpoint");
    let token = token.ok_or("names no `token_endpoint`: set `token_endpoint` instead of `issuer`")?;
    Ok(Metadata {
        token_endpoint: endpoint(issuer, token)?,
        // Tokens can be had without it.
        revocation_endpoint: text("revocation_endpoint").and_then(|text| endpoint(issuer, text).ok()),
    })
}

fn endpoint(issuer: &Issuer, text: &str) -> Result<EndpointUrl, String> {
    let endpoint: EndpointUrl =
        text.parse().map_err(|why| format!("names the endpoint `{}`, which {why}", shown(text)))?;
    if endpoint.is_plain() && !issuer.url().is_plain() {
        return Err(format!("names the endpoint `{}`, which is plain http though the issuer is not", shown(text)));
    }
    Ok(endpoint)
}

fn shown(text: &str) -> String {
    Withheld::default().show(text, 120)
}

/// What is remembered of an issuer's metadata between requests.
#[derive(Debug, Default)]
pub struct Memory {
    known: Option<Known>,
    failed: Option<(Failure, Deadline)>,
}

#[derive(Debug)]
struct Known {
    metadata: Metadata,
    fresh: Deadline,
    usable: Deadline,
}

impl Memory {
    /// The answer without asking, or `None`: ask, and [`Memory::learn`].
    #[must_use]
    pub fn recall(&self, now: Moment) -> Option<Result<Metadata, Failure>> {
        if let Some(known) = self.known.as_ref().filter(|known| !known.fresh.passed(now)) {
            return Some(Ok(known.metadata.clone()));
        }
        let (failure, until) = self.failed.as_ref().filter(|(_, until)| !until.passed(now))?;
        Some(self.fall_back(failure, until.left(now), now))
    }

    /// Remembers what asking brought, and says what holds now.
    ///
    /// # Errors
    /// The failure, unless metadata from before can still be used: only while the issuer is unavailable.
    pub fn learn(&mut self, asked: Result<Metadata, Failure>, now: Moment) -> Result<Metadata, Failure> {
        match asked {
            Ok(metadata) => {
                let (fresh, usable) = (now.deadline(FRESH_FOR), now.deadline(FRESH_FOR + USABLE_FOR));
                *self = Self { known: Some(Known { metadata: metadata.clone(), fresh, usable }), failed: None };
                Ok(metadata)
            }
            Err(failure) => {
                let answer = self.fall_back(&failure, FAILURE_FOR, now);
                self.failed = Some((failure, now.deadline(FAILURE_FOR)));
                answer
            }
        }
    }

    /// Forgets the metadata: the endpoint that it named has gone.
    pub fn forget(&mut self) {
        self.known = None;
    }

    /// What holds after `failure`, which is remembered for `wait` more: sooner there is no use in asking again.
    fn fall_back(&self, failure: &Failure, wait: Duration, now: Moment) -> Result<Metadata, Failure> {
        let usable = self.known.as_ref().filter(|known| !known.usable.passed(now));
        match (failure, usable) {
            (Failure::Unavailable { .. }, Some(known)) => Ok(known.metadata.clone()),
            (Failure::Unavailable { what, retry_after }, None) => {
                let retry_after = Some(retry_after.unwrap_or_default().max(wait));
                Err(Failure::Unavailable { what: what.clone(), retry_after })
            }
            (Failure::Refused { .. } | Failure::Nonsense(_) | Failure::Credential(_) | Failure::Unsupported, _) => {
                Err(failure.clone())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::{Clock, ManualClock};

    fn answer(status: u16, body: &str) -> Answer {
        Answer { status, headers: http::HeaderMap::new(), body: body.as_bytes().to_vec(), whole: true }
    }

    fn found(issuer: &str, body: &str) -> Found {
        read(&issuer.parse().unwrap(), Door::Plain, &answer(200, body), Moment::default())
    }

    fn metadata_at(url: &str) -> Metadata {
        Metadata { token_endpoint: url.parse().unwrap(), revocation_endpoint: None }
    }

    fn down() -> Failure {
        Failure::Unavailable { what: "down".into(), retry_after: None }
    }

    fn down_for(seconds: u64) -> Failure {
        Failure::Unavailable { what: "down".into(), retry_after: Some(Duration::from_secs(seconds)) }
    }

    #[test]
    fn the_well_known_part_stands_before_the_path_and_for_openid_also_after_it() {
        let of = |issuer: &str| places(&issuer.parse().unwrap()).iter().map(Url::to_string).collect::<Vec<_>>();
        let plain = ["https://h/.well-known/oauth-authorization-server", "https://h/.well-known/openid-configuration"];
        assert_eq!(of("https://h"), plain);
        assert_eq!(of("https://h/"), plain);
        assert_eq!(
            of("https://h/realms/a"),
            [
                "https://h/.well-known/oauth-authorization-server/realms/a",
                "https://h/.well-known/openid-configuration/realms/a",
                "https://h/realms/a/.well-known/openid-configuration",
            ]
        );
    }

    #[test]
    fn the_issuer_must_be_repeated_exactly() {
        let named = |issuer: &str| format!(r#"{{"issuer":"{issuer}","token_endpoint":"https://h/t"}}"#);
        assert!(matches!(found("https://h", &named("https://h")), Found::Metadata(_)));
        for other in ["https://h/", "https://H", "https://h:443", "https://evil"] {
            assert!(matches!(found("https://h", &named(other)), Found::Failed(Failure::Nonsense(_))), "{other}");
        }
        assert!(matches!(found("https://h", r#"{"token_endpoint":"https://h/t"}"#), Found::Failed(_)));
    }

    #[test]
    fn metadata_cannot_lead_a_secret_out_of_tls() {
        for endpoint in ["http://h/t", "http://127.0.0.1:9/t", "ftp://h/t", "/t"] {
            let body = format!(r#"{{"issuer":"https://h","token_endpoint":"{endpoint}"}}"#);
            assert!(matches!(found("https://h", &body), Found::Failed(Failure::Nonsense(_))), "{endpoint}");
        }
        let plain = r#"{"issuer":"http://127.0.0.1:1","token_endpoint":"http://127.0.0.1:1/t"}"#;
        assert!(matches!(found("http://127.0.0.1:1", plain), Found::Metadata(_)));
    }

    fn endpoints(door: Door, members: &str) -> Option<(String, Option<String>)> {
        let body = format!(r#"{{"issuer":"https://h","token_endpoint":"https://h/t"{members}}}"#);
        match read(&"https://h".parse().unwrap(), door, &answer(200, &body), Moment::default()) {
            Found::Metadata(found) => {
                Some((found.token_endpoint.to_string(), found.revocation_endpoint.map(|url| url.to_string())))
            }
            Found::Nothing(_) | Found::Failed(_) => None,
        }
    }

    #[test]
    fn who_comes_with_a_certificate_is_sent_to_the_door_for_it() {
        let both = r#","revocation_endpoint":"https://h/r","mtls_endpoint_aliases":{"token_endpoint":"https://m/t"}"#;
        let (plain, ours) = ("https://h/t".to_owned(), "https://m/t".to_owned());
        let revocation = Some("https://h/r".to_owned());
        assert_eq!(endpoints(Door::Plain, both), Some((plain.clone(), revocation.clone())));
        assert_eq!(endpoints(Door::Certificate, both), Some((ours, revocation)), "what has no alias has one door");
        assert_eq!(endpoints(Door::Certificate, r#","mtls_endpoint_aliases":[]"#), Some((plain, None)));
        let plain_alias = r#","mtls_endpoint_aliases":{"token_endpoint":"http://127.0.0.1/t"}"#;
        assert_eq!(endpoints(Door::Certificate, plain_alias), None, "it is as safe as the issuer");
    }

    #[test]
    fn a_revocation_endpoint_that_no_secret_may_be_sent_to_is_none() {
        for bad in [r#""http://h/r""#, r#""http://127.0.0.1/r""#, "7", r#""/r""#] {
            let found = endpoints(Door::Plain, &format!(r#","revocation_endpoint":{bad}"#));
            assert_eq!(found, Some(("https://h/t".to_owned(), None)), "{bad}");
        }
    }

    #[test]
    fn the_next_place_is_asked_only_where_nothing_stands() {
        let issuer = "https://h".parse().unwrap();
        for (status, body) in [(404, ""), (200, "<html>"), (200, ""), (302, ""), (401, "{}")] {
            assert!(
                matches!(read(&issuer, Door::Plain, &answer(status, body), Moment::default()), Found::Nothing(_)),
                "{status}"
            );
        }
        for status in [429, 500, 503] {
            let found = read(&issuer, Door::Plain, &answer(status, ""), Moment::default());
            assert!(matches!(found, Found::Failed(Failure::Unavailable { .. })), "{status}");
        }
    }

    #[test]
    fn metadata_is_asked_for_anew_after_an_hour_and_a_failure_after_ten_seconds() {
        let (clock, mut memory) = (ManualClock::default(), Memory::default());
        assert_eq!(memory.recall(clock.now()), None);
        assert_eq!(memory.learn(Err(down()), clock.now()), Err(down_for(10)));
        clock.advance(Duration::from_secs(4));
        assert_eq!(memory.recall(clock.now()), Some(Err(down_for(6))), "who asks is told how long it is remembered");
        clock.advance(Duration::from_secs(6));
        assert_eq!(memory.recall(clock.now()), None);
        let known = metadata_at("https://h/t");
        assert_eq!(memory.learn(Ok(known.clone()), clock.now()), Ok(known.clone()));
        assert_eq!(memory.recall(clock.now()), Some(Ok(known)));
        clock.advance(FRESH_FOR);
        assert_eq!(memory.recall(clock.now()), None);
    }

    #[test]
    fn old_metadata_bridges_an_outage_but_not_a_contradiction() {
        let (clock, mut memory) = (ManualClock::default(), Memory::default());
        let known = metadata_at("https://h/t");
        memory.learn(Ok(known.clone()), clock.now()).unwrap();
        clock.advance(FRESH_FOR);
        assert_eq!(memory.learn(Err(down()), clock.now()), Ok(known.clone()));
        assert_eq!(memory.recall(clock.now()), Some(Ok(known)), "and is not asked for at each request meanwhile");
        let contradiction = Failure::Nonsense("another issuer".into());
        assert_eq!(memory.learn(Err(contradiction.clone()), clock.now()), Err(contradiction));
        clock.advance(USABLE_FOR);
        assert_eq!(memory.learn(Err(down_for(60)), clock.now()), Err(down_for(60)), "the server's own wait is longer");
    }
}
