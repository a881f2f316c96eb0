//! What OpenBao's answers are worth: bytes in, what they say out. Pure.
//!
//! No error holds anything of a body: it may be a secret, or echo one.

use std::collections::BTreeMap;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::mark;
use crate::crypto::Digest;
use crate::secret::Secret;
use crate::store::{Posted, StoreError, VersionId};
use crate::time::Wall;

/// How much of a body is read: OpenBao itself takes entries of up to 1 MiB.
pub const MOST_BODY_BYTES: usize = 1 << 20;
/// The longest lease of a token that is believed.
const LONGEST_LEASE: Duration = Duration::from_secs(30 * 86_400);

/// What a status means for a request that may be answered in these ways.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Said {
    /// Done; the body says what.
    Done,
    /// Nothing is there; of a deleted version the body has the metadata.
    Missing,
    /// The check-and-set found another version.
    Conflict,
    /// The request itself is not taken.
    Refused,
    /// The token is not good for this, or not good at all.
    Denied,
}

/// Reads a status, and of the body only which of the known complaints it holds.
///
/// # Errors
/// [`StoreError::Unavailable`] when it cannot answer now, [`StoreError::Setup`] when it never will as it is set up.
pub fn said(status: u16, body: &[u8]) -> Result<Said, StoreError> {
    let complains = |word: &str| complaints(body).iter().any(|complaint| complaint.contains(word));
    let unavailable = |what: &str| Err(StoreError::Unavailable(what.into()));
    match status {
        200 | 204 => Ok(Said::Done),
        300..=399 => Err(StoreError::Setup(format!(
            "it redirects (status {status}), which is never followed: set `address` to the server that answers itself"
        ))),
        400 if complains("check-and-set") => Ok(Said::Conflict),
        400 if complains("Upgrading") => unavailable("its KV engine is being upgraded to version 2: wait for it"),
        400 => Ok(Said::Refused),
        403 => Ok(Said::Denied),
        404 if complains("no handler for route") || complains("unsupported path") => Err(StoreError::Setup(
            "there is no KV engine of version 2 at `mount`: `bao secrets list -detailed` shows what there is".into(),
        )),
        404 => Ok(Said::Missing),
        429 => unavailable("it throttles (status 429): raise its rate limit quota, or ask less often"),
        503 if complains("sealed") => unavailable("it is sealed: unseal it with `bao operator unseal`"),
        500..=599 => unavailable(&format!("it answers with status {status}: look at its log")),
        _ => unavailable(&format!("it answers with status {status}, which is not OpenBao's: check `address`")),
    }
}

fn complaints(body: &[u8]) -> Vec<String> {
    #[derive(Deserialize)]
    struct Errors {
        #[serde(default)]
        errors: Vec<String>,
    }
    serde_json::from_slice::<Errors>(body).map(|body| body.errors).unwrap_or_default()
}

/// A version of KV: its number, and what it holds; none when it is deleted or destroyed.
pub struct Shown<T> {
    /// Its number, from 1.
    pub version: u64,
    /// What OpenBao says of when it was written.
    pub created: String,
    /// What it holds.
    pub data: Option<T>,
}

/// A version of a secret's path: what readers there get.
pub struct Face {
    /// Its number, from 1.
    pub version: u64,
    /// Our id where we wrote it; another's has one made of its number and time.
    pub id: VersionId,
    /// Whether we wrote it.
    pub ours: bool,
    /// When it was written.
    pub created: Wall,
    /// Its value; none when it is deleted or destroyed.
    pub value: Option<Secret>,
}

#[derive(Deserialize)]
struct Envelope<T> {
    data: T,
}

#[derive(Deserialize)]
struct Versioned<T> {
    data: Option<T>,
    metadata: Metadata,
}

#[derive(Deserialize)]
struct Metadata {
    version: u64,
    created_time: String,
}

/// Reads the answer to `GET …/data/…`, also that of a deleted version. None where nothing ever was.
///
/// # Errors
/// [`StoreError::Setup`] for what KV version 2 does not answer.
pub fn shown<T: DeserializeOwned>(body: &[u8], found: bool) -> Result<Option<Shown<T>>, StoreError> {
    match serde_json::from_slice::<Envelope<Versioned<T>>>(body) {
        Ok(Envelope { data: Versioned { data, metadata } }) => {
            let data = data.filter(|_| found);
            Ok(Some(Shown { version: metadata.version, created: metadata.created_time, data }))
        }
        Err(_) if !found => Ok(None),
        Err(_) => Err(not_kv()),
    }
}

/// Reads the answer to `GET …/data/…` of a secret's path.
///
/// # Errors
/// [`StoreError::Setup`] for what KV version 2 does not answer; [`StoreError::Invalid`] for `value_base64` that is not.
pub fn face(body: &[u8], found: bool) -> Result<Option<Face>, StoreError> {
    let Some(Shown { version, created, data }) = shown::<BTreeMap<String, Value>>(body, found)? else {
        return Ok(None);
    };
    let marked = data.as_ref().and_then(|data| data.get(mark::MEMBER)).and_then(Value::as_str);
    let marked = marked.and_then(|text| mark::read(text, version));
    let ours = marked.is_some();
    let id = match marked {
        Some(id) => id,
        None => another_s(version, &created)?,
    };
    let created = Wall::parse(&created).map_err(|_| not_kv())?;
    Ok(Some(Face { version, id, ours, created, value: data.map(value).transpose()? }))
}

/// Reads the answer to `GET …/data/…` of a notice: its text, which is empty where it is too long; none where nothing stands.
///
/// # Errors
/// [`StoreError::Setup`] for what KV version 2 does not answer.
pub fn notice(body: &[u8], found: bool) -> Result<Option<String>, StoreError> {
    let Some(Shown { data: Some(data), .. }) = shown::<BTreeMap<String, Value>>(body, found)? else {
        return Ok(None);
    };
    let text = serde_json::to_string(&data).map_err(|_| not_kv())?;
    Ok(Some(if text.len() <= Posted::MOST_BYTES { text } else { String::new() }))
}

/// The id of a version that somebody else wrote: a number begins anew when all of a path is deleted, its time does not.
fn another_s(version: u64, created: &str) -> Result<VersionId, StoreError> {
    let digest = Digest::of(created.as_bytes()).to_string();
    format!("kv-{version}-{}", digest.get(..16).unwrap_or_default()).parse()
}

/// The value of a path's data: `value`, or `value_base64`; of other members the whole as a JSON object.
fn value(mut data: BTreeMap<String, Value>) -> Result<Secret, StoreError> {
    match (data.remove("value"), data.remove("value_base64")) {
        (Some(Value::String(text)), None) => Ok(Secret::new(text.into_bytes())),
        (None, Some(Value::String(text))) => decode(&text),
        (value, encoded) => {
            data.remove(mark::MEMBER);
            data.extend(value.map(|value| ("value".into(), value)));
            data.extend(encoded.map(|value| ("value_base64".into(), value)));
            let text = serde_json::to_vec(&data).map_err(|_| not_kv())?;
            Ok(Secret::new(text))
        }
    }
}

/// Reads base64 (RFC 4648 §4).
///
/// # Errors
/// [`StoreError::Invalid`].
pub(super) fn decode(text: &str) -> Result<Secret, StoreError> {
    let refused = || StoreError::Invalid("`value_base64` is not base64: write it again".into());
    STANDARD.decode(text).map(Secret::new).map_err(|_| refused())
}

/// Reads the answer to a write: the number of the version that was written.
///
/// # Errors
/// [`StoreError::Setup`].
pub fn written(body: &[u8]) -> Result<u64, StoreError> {
    #[derive(Deserialize)]
    struct Written {
        version: u64,
    }
    let read = serde_json::from_slice::<Envelope<Written>>(body);
    read.map(|answer| answer.data.version).map_err(|_| not_kv())
}

/// Reads the answer to `GET …/metadata/…?list=true`: the keys; folders end with `/`.
///
/// # Errors
/// [`StoreError::Setup`].
pub fn keys(body: &[u8]) -> Result<Vec<String>, StoreError> {
    #[derive(Deserialize)]
    struct Keys {
        keys: Vec<String>,
    }
    serde_json::from_slice::<Envelope<Keys>>(body).map(|answer| answer.data.keys).map_err(|_| not_kv())
}

/// A token, and how long it is good.
pub struct Granted {
    /// The token.
    pub token: Secret,
    /// How long it is good; zero: for ever.
    pub lease: Duration,
    /// Whether its lease can be renewed.
    pub renewable: bool,
}

/// Reads the answer to a login or to the renewal of a token.
///
/// # Errors
/// [`StoreError::Setup`].
pub fn granted(body: &[u8]) -> Result<Granted, StoreError> {
    #[derive(Deserialize)]
    struct Login {
        auth: Auth,
    }
    #[derive(Deserialize)]
    struct Auth {
        client_token: String,
        lease_duration: u64,
        renewable: bool,
    }
    let not = || StoreError::Setup("its answer is not that of an AppRole login: check `address`".into());
    let Auth { client_token, lease_duration, renewable } =
        serde_json::from_slice::<Login>(body).map_err(|_| not())?.auth;
    if client_token.is_empty() || !client_token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(not());
    }
    let lease = Duration::from_secs(lease_duration).min(LONGEST_LEASE);
    Ok(Granted { token: Secret::new(client_token.into_bytes()), lease, renewable })
}

fn not_kv() -> StoreError {
    StoreError::Setup("its answer is not that of a KV engine of version 2: check `address` and `mount`".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(data: &str, version: u64) -> Face {
        let body = format!(
            r#"{{"data":{{"data":{data},"metadata":{{"version":{version},"created_time":"2026-11-21T06:00:00.1Z"}}}}}}"#
        );
        face(body.as_bytes(), true).unwrap().unwrap()
    }

    fn value_of(data: &str) -> String {
        String::from_utf8(read(data, 1).value.unwrap().expose().to_vec()).unwrap()
    }

    #[test]
    fn a_value_is_value_or_the_whole() {
        assert_eq!(value_of(r#"{"value":"v"}"#), "v");
        assert_eq!(value_of(r#"{"value_base64":"dg==","bursar":"1 x"}"#), "v");
        assert_eq!(value_of(r#"{"user":"u","password":"p","bursar":"1 x"}"#), r#"{"password":"p","user":"u"}"#);
        assert_eq!(value_of(r#"{"value":7}"#), r#"{"value":7}"#);
    }

    #[test]
    fn a_mark_counts_for_the_version_it_was_written_with() {
        let ours = read(r#"{"value":"v","bursar":"3 abc"}"#, 3);
        assert_eq!((ours.id.as_str(), ours.ours), ("abc", true));
        let patched = read(r#"{"value":"w","bursar":"3 abc"}"#, 4);
        assert!(!patched.ours && patched.id.as_str().starts_with("kv-4-"));
    }

    #[test]
    fn each_status_says_what_to_do() {
        let sealed = said(503, br#"{"errors":["Vault is sealed"]}"#).unwrap_err();
        assert!(sealed.to_string().contains("bao operator unseal"));
        assert!(matches!(said(307, b""), Err(StoreError::Setup(_))));
        assert!(matches!(said(429, b""), Err(StoreError::Unavailable(_))));
        let conflict = br#"{"errors":["check-and-set parameter did not match the current version"]}"#;
        assert_eq!(said(400, conflict), Ok(Said::Conflict));
        assert_eq!(said(404, br#"{"errors":[]}"#), Ok(Said::Missing));
        let no_engine = br#"{"errors":["no handler for route \"kv/data/x\". route entry not found."]}"#;
        assert!(matches!(said(404, no_engine), Err(StoreError::Setup(_))));
    }

    #[test]
    fn no_error_repeats_the_body() {
        for body in ["hunter2", r#"{"data":"hunter2"}"#, r#"{"auth":"hunter2"}"#, r#"{"errors":["hunter2"]}"#] {
            let body = body.as_bytes();
            let errors = [face(body, true).err(), written(body).err(), keys(body).err(), granted(body).err()];
            let errors =
                errors.into_iter().chain([400, 403, 404, 418, 500, 503].map(|status| said(status, body).err()));
            assert!(errors.flatten().all(|error| !error.to_string().contains("hunter2")));
        }
    }
}
