//! The desk: who asks for a token, whether it may have one, and what the answer says on a bad day.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use axum::http::{HeaderMap, header};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::day::{BadDay, Course};
use super::fault::{Lifetime, Reach, WIDER};
use super::keys::{Keys, NoKey};
use super::ledger::Ledger;
use super::{Client, Settings};
use crate::access::Scopes;

/// The most tokens that are remembered, for `same-token`.
const MOST_GIVEN: usize = 1_000;

/// The issuer behind its routes.
pub(super) struct Desk {
    pub(super) settings: Settings,
    /// `http://127.0.0.1:<port>`.
    pub(super) issuer: String,
    keys: Mutex<Keys>,
    ledger: Mutex<Ledger>,
    given: Mutex<HashMap<Wish, Given>>,
}

/// What a token is for.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Wish {
    client: String,
    scopes: String,
    audience: Vec<String>,
}

/// A token that was given, and when it ends, in seconds since the epoch.
#[derive(Clone)]
struct Given {
    token: String,
    ends: u64,
}

#[derive(Serialize)]
struct Claims<'a> {
    iss: &'a str,
    sub: &'a str,
    client_id: &'a str,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    aud: &'a [String],
    scope: String,
    iat: u64,
    exp: u64,
    jti: String,
}

impl Desk {
    pub(super) fn open(issuer: String, settings: Settings) -> Result<Self, NoKey> {
        let keys = Mutex::new(Keys::new()?);
        Ok(Self { settings, issuer, keys, ledger: Mutex::default(), given: Mutex::default() })
    }

    pub(super) fn keys(&self) -> MutexGuard<'_, Keys> {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn begin(&self, day: BadDay) -> Result<(), NoKey> {
        let (rolls, day) = day.without_rolling();
        if rolls {
            self.keys().roll()?;
        }
        self.ledger().begin(day);
        Ok(())
    }

    /// The answer to a token request, or the error code of RFC 6749 §5.2.
    pub(super) fn issue(
        &self,
        headers: &HeaderMap,
        form: &[(String, String)],
        course: &Course,
    ) -> Result<Value, &'static str> {
        let (id, secret) = basic(headers).or_else(|| posted(form)).ok_or("invalid_client")?;
        let client = self.settings.clients.get(&id).filter(|client| client.secret == secret).ok_or("invalid_client")?;
        if value(form, "grant_type") != Some("client_credentials") {
            return Err("unsupported_grant_type");
        }
        let asked = Scopes::parse(value(form, "scope").unwrap_or_default()).map_err(|_| "invalid_scope")?;
        if !client.scopes.contains_all(&asked) {
            return Err("invalid_scope");
        }
        let audience = form.iter().filter(|(name, _)| name == "resource" || name == "audience");
        let audience = audience.map(|(_, value)| value.clone()).collect();
        let wish = Wish { client: id, scopes: granted(&asked, course), audience };
        let (token, seconds) = self.token_for(wish.clone(), client, course).map_err(|NoKey| "server_error")?;
        Ok(answer(token, seconds, &wish.scopes, course))
    }

    /// The token and the seconds that it has left: a new one, or the one from before.
    fn token_for(&self, wish: Wish, client: &Client, course: &Course) -> Result<(String, u64), NoKey> {
        let now = self.seconds_now();
        let mut given = self.given.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(before) = given.get(&wish).filter(|before| course.same_token && before.ends > now) {
            return Ok((before.token.clone(), before.ends - now));
        }
        let lifetime = client.lifetime.as_secs();
        let iat = now.saturating_add_signed(i64::from(course.minutes_ahead) * 60);
        let token = self.sign(&wish, iat, iat.saturating_add(lifetime))?;
        if given.len() >= MOST_GIVEN {
            given.clear();
        }
        given.insert(wish, Given { token: token.clone(), ends: now.saturating_add(lifetime) });
        Ok((token, lifetime))
    }

    fn sign(&self, wish: &Wish, iat: u64, exp: u64) -> Result<String, NoKey> {
        let mut id = [0; 16];
        self.settings.random.fill(&mut id).map_err(|_| NoKey)?;
        self.keys().sign(&Claims {
            iss: &self.issuer,
            sub: &wish.client,
            client_id: &wish.client,
            aud: &wish.audience,
            scope: wish.scopes.clone(),
            iat,
            exp,
            jti: URL_SAFE_NO_PAD.encode(id),
        })
    }

    fn seconds_now(&self) -> u64 {
        u64::try_from(self.settings.clock.now().wall.micros() / 1_000_000).unwrap_or(0)
    }
}

/// RFC 6749 §5.1, as far as the day lets it.
fn answer(token: String, seconds: u64, scopes: &str, course: &Course) -> Value {
    let expires_in = match course.lifetime {
        None => Some(seconds.into()),
        Some(Lifetime::Text) => Some(seconds.to_string().into()),
        Some(Lifetime::Fraction) => Some((seconds as f64 + 0.5).into()),
        Some(Lifetime::Negative) => Some((-1).into()),
        Some(Lifetime::Null) => Some(Value::Null),
        Some(Lifetime::Missing) => None,
        Some(Lifetime::Huge) => Some(u64::MAX.into()),
        Some(Lifetime::Seconds(seconds)) => Some(seconds.into()),
    };
    let mut answer = Map::new();
    answer.insert("access_token".into(), token.into());
    answer.insert("token_type".into(), json!("Bearer"));
    answer.extend(expires_in.map(|value| ("expires_in".to_owned(), value)));
    answer.insert("scope".into(), scopes.into());
    Value::Object(answer)
}

/// The scopes that the token has.
fn granted(asked: &Scopes, course: &Course) -> String {
    let mut scopes: Vec<_> = asked.iter().map(ToString::to_string).collect();
    match course.reach {
        None => {}
        Some(Reach::Wider) => scopes.push(WIDER.to_owned()),
        Some(Reach::Narrower) => drop(scopes.pop()),
    }
    scopes.join(" ")
}

/// RFC 6749 §2.3.1: id and secret are form-urlencoded before they are joined and base64-encoded.
fn basic(headers: &HeaderMap) -> Option<(String, String)> {
    let encoded = headers.get(header::AUTHORIZATION)?.to_str().ok()?.strip_prefix("Basic ")?;
    let joined = String::from_utf8(STANDARD.decode(encoded).ok()?).ok()?;
    let (id, secret) = joined.split_once(':')?;
    let decoded =
        |text: &str| form_urlencoded::parse(format!("x={text}").as_bytes()).next().map(|(_, value)| value.into_owned());
    Some((decoded(id)?, decoded(secret)?))
}

fn posted(form: &[(String, String)]) -> Option<(String, String)> {
    Some((value(form, "client_id")?.to_owned(), value(form, "client_secret")?.to_owned()))
}

fn value<'a>(form: &'a [(String, String)], name: &str) -> Option<&'a str> {
    form.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
}
