//! What a request says: parameters of a form or a query, and the guard against requests that a browser or a
//! proxy was talked into. Pure.

use std::borrow::Cow;
use std::time::Duration;

use http::HeaderMap;
use http::header::{CONTENT_TYPE, FORWARDED, ORIGIN, REFERER, VIA};

use crate::access::{Audiences, Scopes, SecretId};
use crate::broker::{How, LONGEST_WAIT};
use crate::secret::Secret;
use crate::store::VersionId;
use crate::time::parse_duration;

/// The most parameters that a request may have.
const MOST_PARAMETERS: usize = 64;

/// The longest `min_ttl`: no token is kept for longer.
const LONGEST_TTL: Duration = Duration::from_secs(30 * 86_400);

/// Why a request is not understood. Nothing of the request is repeated: it may hold a credential.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// Neither the header nor a form that a browser could not have been talked into.
    #[error("send the header `Bursar: 1`")]
    Guard,
    /// The body is not a form.
    #[error("send `Content-Type: application/x-www-form-urlencoded`")]
    ContentType,
    /// A parameter that may stand once stands twice (RFC 6749 §3.2).
    #[error("the parameter `{0}` may be given once")]
    Repeated(&'static str),
    /// More parameters than any request needs.
    #[error("a request has at most 64 parameters")]
    TooMany,
    /// The text is not UTF-8.
    #[error("the parameters are not UTF-8")]
    NotUtf8,
    /// A required parameter is missing.
    #[error("the parameter `{0}` is required")]
    Missing(&'static str),
    /// A scope that is none.
    #[error(
        "a scope is 1 to 256 printable ASCII characters without space, `\"` and `\\`; scopes stand apart by one space"
    )]
    Scope,
    /// An audience or resource that is none.
    #[error("a resource or audience is 1 to 512 printable ASCII characters without space and `\"`")]
    Audience,
    /// A duration that is none.
    #[error("`min_ttl` is a whole number of seconds, or one with its unit, as in `90s`, `5m`")]
    MinTtl,
    /// A secret that is none.
    #[error("`from` is a secret's name, `STORE/NAME`")]
    From,
    /// A version that is none.
    #[error("a `version` is 1 to 64 of `A-Z a-z 0-9 -`")]
    Version,
    /// A wait that is none, or too long.
    #[error("`wait` is a whole number of seconds, or one with its unit, as in `30s`, and at most `5m`")]
    Wait,
    /// A grant that is not ours (RFC 6749 §5.2, `unsupported_grant_type`).
    #[error("the only `grant_type` is `client_credentials`")]
    GrantType,
}

/// A request for a token, as understood.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TokenForm {
    /// The `provider` parameter, for `POST /token`.
    pub provider: Option<String>,
    /// `scope`, empty if absent.
    pub scopes: Scopes,
    /// Every `resource` and `audience`.
    pub audience: Audiences,
    /// `min_ttl`: how long the token has to live at least.
    pub min_ttl: Duration,
}

/// How the parameters came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Carrier {
    /// In a form: `grant_type` is required (RFC 6749 §4.4.2).
    Form,
    /// In a query: there is no `grant_type`.
    Query,
}

impl TokenForm {
    /// Reads `application/x-www-form-urlencoded` bytes.
    ///
    /// Parameters without a value count as absent and unknown ones are ignored (RFC 6749 §3.2), so are
    /// `client_id`, `client_secret` and the like, which stock OAuth clients send.
    ///
    /// # Errors
    /// [`Malformed`].
    pub fn parse(bytes: &[u8], carrier: Carrier) -> Result<Self, Malformed> {
        let text = std::str::from_utf8(bytes).map_err(|_| Malformed::NotUtf8)?;
        let (mut provider, mut scope, mut grant_type, mut min_ttl) = (None, None, None, None);
        let mut audience = Vec::new();
        for parameter in parameters(text) {
            let (name, value) = parameter?;
            match &*name {
                "provider" => once("provider", &mut provider, value.into_owned())?,
                "scope" => once("scope", &mut scope, Scopes::parse(&value).map_err(|_| Malformed::Scope)?)?,
                "grant_type" => once("grant_type", &mut grant_type, value.into_owned())?,
                "resource" | "audience" => audience.push(value.parse().map_err(|_| Malformed::Audience)?),
                "min_ttl" => once("min_ttl", &mut min_ttl, duration(&value, LONGEST_TTL).ok_or(Malformed::MinTtl)?)?,
                _ => {}
            }
        }
        match (grant_type.as_deref(), carrier) {
            (Some("client_credentials"), _) | (None, Carrier::Query) => {}
            (None, Carrier::Form) => return Err(Malformed::Missing("grant_type")),
            (Some(_), _) => return Err(Malformed::GrantType),
        }
        let (scopes, audience) = (scope.unwrap_or_default(), audience.into_iter().collect());
        Ok(Self { provider, scopes, audience, min_ttl: min_ttl.unwrap_or_default() })
    }
}

/// What the query of a request for a secret says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SecretQuery {
    /// `version`: the one that is asked for; where the caller waits, the one that it has.
    pub version: Option<VersionId>,
    /// `wait`: how long it waits for another version than it has.
    pub wait: Option<Duration>,
}

impl SecretQuery {
    /// Reads a query; unknown parameters are ignored.
    ///
    /// # Errors
    /// [`Malformed`].
    pub fn parse(query: &[u8]) -> Result<Self, Malformed> {
        let text = std::str::from_utf8(query).map_err(|_| Malformed::NotUtf8)?;
        let (mut version, mut wait) = (None, None);
        for parameter in parameters(text) {
            let (name, value) = parameter?;
            match &*name {
                "version" => once("version", &mut version, value.parse().map_err(|_| Malformed::Version)?)?,
                "wait" => once("wait", &mut wait, duration(&value, LONGEST_WAIT).ok_or(Malformed::Wait)?)?,
                _ => {}
            }
        }
        Ok(Self { version, wait })
    }
}

/// What the query of an operator's request for a rotation says: what is to be done, and why.
///
/// # Errors
/// [`Malformed`].
pub(super) fn rotation(query: &[u8]) -> Result<(How, String), Malformed> {
    let text = std::str::from_utf8(query).map_err(|_| Malformed::NotUtf8)?;
    let (mut how, mut reason) = (None, None);
    for parameter in parameters(text) {
        let (name, value) = parameter?;
        match &*name {
            "how" => {
                let meant = How::ALL.into_iter().find(|how| how.word() == value).ok_or(Malformed::Missing("how"))?;
                once("how", &mut how, meant)?;
            }
            "reason" => once("reason", &mut reason, value.into_owned())?,
            _ => {}
        }
    }
    let (how, reason) = (how.ok_or(Malformed::Missing("how"))?, reason.unwrap_or_default());
    let has_to_say_why = matches!(how, How::Now | How::Leaked);
    if has_to_say_why && reason.trim().is_empty() { Err(Malformed::Missing("reason")) } else { Ok((how, reason)) }
}

/// What an operator's request says beside its path and body. Unknown parameters are ignored.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Options {
    /// `unless_same`: a value that is Current already is not put again.
    pub unless_same: bool,
    /// `dry_run`: nothing is put.
    pub dry_run: bool,
    /// `credential`: the new key is a credential of the agent.
    pub credential: bool,
    /// `from`: where the value to put is.
    pub from: Option<SecretId>,
    /// `version`: which one.
    pub version: Option<VersionId>,
}

impl Options {
    /// Reads a query.
    ///
    /// # Errors
    /// [`Malformed`].
    pub(super) fn parse(query: &[u8]) -> Result<Self, Malformed> {
        let text = std::str::from_utf8(query).map_err(|_| Malformed::NotUtf8)?;
        let (mut options, mut from, mut version) = (Self::default(), None, None);
        for parameter in parameters(text) {
            let (name, value) = parameter?;
            match &*name {
                "unless_same" => options.unless_same = true,
                "dry_run" => options.dry_run = true,
                "credential" => options.credential = true,
                "from" => once("from", &mut from, value.parse().map_err(|_| Malformed::From)?)?,
                "version" => once("version", &mut version, value.parse().map_err(|_| Malformed::Version)?)?,
                _ => {}
            }
        }
        Ok(Self { from, version, ..options })
    }
}

/// A token that an API refused, as a workload says it.
#[derive(Debug)]
pub struct RejectForm {
    /// The provider that gave it.
    pub provider: String,
    /// The token.
    pub token: Secret,
}

impl RejectForm {
    /// Reads `application/x-www-form-urlencoded` bytes; unknown parameters are ignored.
    ///
    /// # Errors
    /// [`Malformed`].
    pub fn parse(bytes: &[u8]) -> Result<Self, Malformed> {
        let text = std::str::from_utf8(bytes).map_err(|_| Malformed::NotUtf8)?;
        let (mut provider, mut token) = (None, None);
        for parameter in parameters(text) {
            let (name, value) = parameter?;
            match &*name {
                "provider" => once("provider", &mut provider, value.into_owned())?,
                "token" => once("token", &mut token, Secret::new(value.into_owned().into_bytes()))?,
                _ => {}
            }
        }
        let provider = provider.ok_or(Malformed::Missing("provider"))?;
        Ok(Self { provider, token: token.ok_or(Malformed::Missing("token"))? })
    }
}

/// The parameters that have a value (RFC 6749 §3.2), as many as a request may have.
fn parameters(text: &str) -> impl Iterator<Item = Result<(Cow<'_, str>, Cow<'_, str>), Malformed>> {
    let all = form_urlencoded::parse(text.as_bytes()).enumerate();
    let bounded = all.map(|(nth, pair)| if nth < MOST_PARAMETERS { Ok(pair) } else { Err(Malformed::TooMany) });
    bounded.filter(|pair| pair.as_ref().map_or(true, |(_, value)| !value.is_empty()))
}

/// Seconds, or a duration as configuration writes it; none for anything else, and for more than `most`.
fn duration(text: &str, most: Duration) -> Option<Duration> {
    let seconds = text.parse().ok().filter(|_| text.bytes().all(|b| b.is_ascii_digit())).map(Duration::from_secs);
    seconds.or_else(|| parse_duration(text).ok()).filter(|duration| *duration <= most)
}

fn once<T>(name: &'static str, slot: &mut Option<T>, value: T) -> Result<(), Malformed> {
    match slot.replace(value) {
        None => Ok(()),
        Some(_) => Err(Malformed::Repeated(name)),
    }
}

/// Whether the request carries the header `Bursar: 1`, which no browser and no blind proxy adds.
///
/// # Errors
/// [`Malformed::Guard`].
pub fn guarded(headers: &HeaderMap) -> Result<(), Malformed> {
    if headers.get("bursar").is_some_and(|value| value == "1") { Ok(()) } else { Err(Malformed::Guard) }
}

/// Whether a form may be taken: it says that it is one, and it carries the guard or no mark of a browser's page or a proxy.
///
/// # Errors
/// [`Malformed::ContentType`], [`Malformed::Guard`].
pub fn form_guarded(headers: &HeaderMap) -> Result<(), Malformed> {
    let kind = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim();
    if !kind.eq_ignore_ascii_case("application/x-www-form-urlencoded") {
        return Err(Malformed::ContentType);
    }
    let marked = [ORIGIN, REFERER, VIA, FORWARDED].iter().any(|name| headers.contains_key(name))
        || headers.keys().any(|name| name.as_str().starts_with("x-forwarded-"));
    if marked { guarded(headers) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn form(text: &str) -> Result<TokenForm, Malformed> {
        TokenForm::parse(text.as_bytes(), Carrier::Form)
    }

    #[test]
    fn a_form_is_read_as_rfc_6749_says() {
        let read = form("grant_type=client_credentials&scope=b+a&resource=urn%3Ax&audience=urn:y&client_id=z&new=1");
        let read = read.unwrap();
        assert_eq!((read.scopes.to_string(), read.audience.to_string()), ("a b".into(), "urn:x urn:y".into()));
        assert_eq!(form("grant_type=client_credentials&scope=").unwrap(), TokenForm::default());
        let demands = ["90", "90s"].map(|text| form(&format!("grant_type=client_credentials&min_ttl={text}")).unwrap());
        assert_eq!(demands.map(|form| form.min_ttl), [Duration::from_secs(90); 2]);
    }

    #[test]
    fn a_malformed_form_is_named() {
        assert_eq!(form("scope=a"), Err(Malformed::Missing("grant_type")));
        assert_eq!(form("grant_type=password"), Err(Malformed::GrantType));
        assert_eq!(form("grant_type=client_credentials&scope=a&scope=b"), Err(Malformed::Repeated("scope")));
        assert_eq!(form("grant_type=client_credentials&scope=%22"), Err(Malformed::Scope));
        assert_eq!(form("grant_type=client_credentials&resource=a%20b"), Err(Malformed::Audience));
        for odd in ["soon", "-1", "5 s", "31d", "99999999999999999999"] {
            assert_eq!(form(&format!("grant_type=client_credentials&min_ttl={odd}")), Err(Malformed::MinTtl), "{odd}");
        }
        assert_eq!(form(&"a=1&".repeat(65)), Err(Malformed::TooMany));
        assert_eq!(TokenForm::parse(b"\xff", Carrier::Form), Err(Malformed::NotUtf8));
    }

    #[test]
    fn a_query_names_a_version_or_none() {
        let read = |query: &[u8]| SecretQuery::parse(query).map(|read| (read.version, read.wait));
        let id = "01JD-3Z".parse().ok();
        assert_eq!(read(b""), Ok((None, None)));
        assert_eq!(read(b"version=01JD-3Z&new=1"), Ok((id.clone(), None)));
        assert_eq!(read(b"version=01JD-3Z&wait=30"), Ok((id, Some(Duration::from_secs(30)))));
        assert_eq!(read(b"wait=5m"), Ok((None, Some(Duration::from_secs(300)))));
        assert_eq!(read(b"version=a&version=b"), Err(Malformed::Repeated("version")));
        assert_eq!(read(b"wait=1&wait=1"), Err(Malformed::Repeated("wait")));
        assert_eq!(read(b"version=a%2Fb"), Err(Malformed::Version));
        assert_eq!(read(b"version=%ff"), Err(Malformed::Version));
        for odd in ["wait=301", "wait=6m", "wait=-1", "wait=soon"] {
            assert_eq!(read(odd.as_bytes()), Err(Malformed::Wait), "{odd}");
        }
    }

    #[test]
    fn an_operator_s_options_are_read_and_a_misread_one_is_refused() {
        let read = Options::parse(b"unless_same=1&dry_run=1&from=local/a&version=01JD-3Z&new=1").unwrap();
        let (from, version) = ("local/a".parse().ok(), "01JD-3Z".parse().ok());
        assert_eq!(read, Options { unless_same: true, dry_run: true, credential: false, from, version });
        assert_eq!(Options::parse(b""), Ok(Options::default()));
        assert_eq!(Options::parse(b"from=%2F"), Err(Malformed::From));
        assert_eq!(Options::parse(b"version=a&version=b"), Err(Malformed::Repeated("version")));
    }

    #[test]
    fn a_form_from_a_page_or_a_proxy_needs_the_guard() {
        let mut headers = HeaderMap::new();
        assert_eq!(form_guarded(&headers), Err(Malformed::ContentType));
        headers.insert(CONTENT_TYPE, "Application/x-www-form-urlencoded; charset=utf-8".parse().unwrap());
        assert_eq!(form_guarded(&headers), Ok(()));
        for name in ["origin", "referer", "via", "forwarded", "x-forwarded-for", "x-forwarded-proto"] {
            let mut marked = headers.clone();
            marked.insert(name, "x".parse().unwrap());
            assert_eq!(form_guarded(&marked), Err(Malformed::Guard), "{name}");
            marked.insert("bursar", "1".parse().unwrap());
            assert_eq!(form_guarded(&marked), Ok(()), "{name}, guarded");
        }
    }
}
