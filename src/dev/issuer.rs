//! (E) The embedded issuer: a real token endpoint on loopback, for the tour and for tests of applications.
//!
//! It speaks RFC 6749 §4.4 with `client_secret_basic` and `client_secret_post`, publishes its metadata
//! (RFC 8414 and OpenID discovery) and its keys (RFC 7517), and signs access tokens as RFC 9068 says.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use serde::Serialize;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::access::Scopes;
use crate::crypto::Random;
use crate::time::Clock;

/// A client that the issuer knows.
#[derive(Clone)]
pub struct Client {
    /// Its secret. It protects nothing: it is made for this run, or stands in a test.
    pub secret: String,
    /// What it may have.
    pub scopes: Scopes,
    /// How long its tokens live, in whole seconds.
    pub lifetime: Duration,
}

/// What the issuer needs.
pub struct Settings {
    /// Its clients by id.
    pub clients: BTreeMap<String, Client>,
    /// Where time comes from.
    pub clock: Arc<dyn Clock>,
    /// Where keys and token ids come from.
    pub random: Arc<dyn Random>,
}

/// A running issuer; it stops when it is dropped.
pub struct Issuer {
    address: SocketAddr,
    desk: Arc<Desk>,
    task: JoinHandle<()>,
}

struct Desk {
    settings: Settings,
    issuer: String,
    signing: EncodingKey,
    /// The public key as a JWK.
    jwk: serde_json::Value,
    issued: AtomicU64,
}

#[derive(Serialize)]
struct Claims<'a> {
    iss: &'a str,
    sub: &'a str,
    client_id: &'a str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    aud: Vec<String>,
    scope: String,
    iat: u64,
    exp: u64,
    jti: String,
}

impl Issuer {
    /// Starts on `listen`, which must be loopback; port 0 takes a free one.
    ///
    /// # Errors
    /// When the address is not loopback or taken, or a key cannot be made.
    pub async fn start(listen: SocketAddr, settings: Settings) -> std::io::Result<Self> {
        if !listen.ip().is_loopback() {
            return Err(std::io::Error::other(format!("`{listen}` is not a loopback address")));
        }
        let listener = TcpListener::bind(listen).await?;
        let address = listener.local_addr()?;
        let desk = Arc::new(Desk::open(address, settings)?);
        let router = router(Arc::clone(&desk));
        let task = tokio::spawn(async move {
            // It ends with its task.
            let _ = axum::serve(listener, router).await;
        });
        Ok(Self { address, desk, task })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its issuer identifier: `http://127.0.0.1:<port>`.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.desk.issuer
    }

    /// How many tokens it has issued.
    #[must_use]
    pub fn issued(&self) -> u64 {
        self.desk.issued.load(Ordering::Relaxed)
    }
}

impl Drop for Issuer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn router(desk: Arc<Desk>) -> Router {
    Router::new()
        .route("/.well-known/openid-configuration", get(metadata))
        .route("/.well-known/oauth-authorization-server", get(metadata))
        .route("/jwks", get(keys))
        .route("/token", post(token))
        .with_state(desk)
}

async fn metadata(State(desk): State<Arc<Desk>>) -> Response {
    let issuer = &desk.issuer;
    let scopes: std::collections::BTreeSet<_> =
        desk.settings.clients.values().flat_map(|client| client.scopes.iter().map(ToString::to_string)).collect();
    json_of(
        StatusCode::OK,
        &json!({
            "issuer": issuer,
            "token_endpoint": format!("{issuer}/token"),
            "jwks_uri": format!("{issuer}/jwks"),
            "grant_types_supported": ["client_credentials"],
            "response_types_supported": [],
            "scopes_supported": scopes,
            "token_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post"],
        }),
    )
}

async fn keys(State(desk): State<Arc<Desk>>) -> Response {
    json_of(StatusCode::OK, &json!({ "keys": [desk.jwk] }))
}

async fn token(State(desk): State<Arc<Desk>>, headers: HeaderMap, body: Bytes) -> Response {
    let form: Vec<(String, String)> = form_urlencoded::parse(&body).into_owned().collect();
    match desk.issue(&headers, &form) {
        Ok(answer) => json_of(StatusCode::OK, &answer),
        Err(error) => {
            let status = if error == "invalid_client" { StatusCode::UNAUTHORIZED } else { StatusCode::BAD_REQUEST };
            json_of(status, &json!({ "error": error }))
        }
    }
}

fn json_of(status: StatusCode, value: &serde_json::Value) -> Response {
    let headers = [(header::CONTENT_TYPE, "application/json"), (header::CACHE_CONTROL, "no-store")];
    (status, headers, value.to_string()).into_response()
}

impl Desk {
    fn open(address: SocketAddr, settings: Settings) -> std::io::Result<Self> {
        let random = ring::rand::SystemRandom::new();
        let failed = |_| std::io::Error::other("the issuer's key could not be made");
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).map_err(failed)?;
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8.as_ref(), &random)
            .map_err(|_| std::io::Error::other("the issuer's key could not be read"))?;
        // SEC 1 §2.3.3: 0x04, then x and y of 32 bytes each.
        let point = pair.public_key().as_ref();
        let coordinate = |range: std::ops::Range<usize>| URL_SAFE_NO_PAD.encode(point.get(range).unwrap_or_default());
        let jwk = json!({
            "kty": "EC", "crv": "P-256", "use": "sig", "alg": "ES256", "kid": "dev",
            "x": coordinate(1..33), "y": coordinate(33..65),
        });
        let signing = EncodingKey::from_ec_der(pkcs8.as_ref());
        Ok(Self { settings, issuer: format!("http://{address}"), signing, jwk, issued: AtomicU64::new(0) })
    }

    /// The answer to a token request, or the error code of RFC 6749 §5.2.
    fn issue(&self, headers: &HeaderMap, form: &[(String, String)]) -> Result<serde_json::Value, &'static str> {
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
        let access_token =
            self.sign((&id, client.lifetime), &asked, audience.map(|(_, value)| value.clone()).collect())?;
        self.issued.fetch_add(1, Ordering::Relaxed);
        Ok(json!({
            "access_token": access_token,
            "token_type": "Bearer",
            "expires_in": client.lifetime.as_secs(),
            "scope": asked.to_string(),
        }))
    }

    fn sign(
        &self,
        (client, lifetime): (&str, Duration),
        scopes: &Scopes,
        aud: Vec<String>,
    ) -> Result<String, &'static str> {
        let mut id = [0; 16];
        self.settings.random.fill(&mut id).map_err(|_| "server_error")?;
        let iat = u64::try_from(self.settings.clock.now().wall.micros() / 1_000_000).unwrap_or(0);
        let claims = Claims {
            iss: &self.issuer,
            sub: client,
            client_id: client,
            aud,
            scope: scopes.to_string(),
            iat,
            exp: iat + lifetime.as_secs(),
            jti: URL_SAFE_NO_PAD.encode(id),
        };
        let head = Header { typ: Some("at+jwt".into()), kid: Some("dev".into()), ..Header::new(Algorithm::ES256) };
        jsonwebtoken::encode(&head, &claims, &self.signing).map_err(|_| "server_error")
    }
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
