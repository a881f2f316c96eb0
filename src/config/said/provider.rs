//! `[provider.NAME]`: an authorization server, our registration there, and what we accept from it.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Limit, SecretRef};
use crate::access::{Audience, Scope};
use crate::config::words::{Period, Rate};
use crate::name::Name;

/// An authorization server, and our registration there.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Provider {
    /// The issuer: its metadata says where the token endpoint is (RFC 8414, OpenID Connect Discovery).
    #[serde(default)]
    #[schemars(extend("examples" = ["https://login.example.com"]))]
    pub issuer: Option<String>,
    /// The token endpoint, where it is not to be discovered.
    #[serde(default)]
    #[schemars(extend("examples" = ["https://login.example.com/token"]))]
    pub token_endpoint: Option<OneOrMany>,
    /// Who we are there. Required, unless `registration` says it.
    #[serde(default)]
    #[schemars(
        regex(pattern = r"^[\x20-\x7E]{1,512}$"),
        extend(
            "examples" = ["bursar"],
            "patternErrorMessage" = "not a client id: use 1 to 512 printable ASCII characters (RFC 6749 appendix A.1)"
        )
    )]
    pub client_id: Option<String>,
    /// How we prove it.
    #[serde(default)]
    pub client_auth: ClientAuth,
    /// The client secret: a reference to a store, never the secret itself.
    #[serde(default)]
    pub client_secret: Option<SecretRef>,
    /// Client id and client secret in one, in place of both: a secret with the JSON of RFC 7591 §3.2.1. Where a client is
    /// rotated by registering another, both change together.
    #[serde(default)]
    #[schemars(extend("examples" = [{ "store": "local", "name": "stripe-client" }]))]
    pub registration: Option<SecretRef>,
    /// The private key (PEM, PKCS #8) that signs our assertions.
    #[serde(default)]
    pub private_key: Option<SecretRef>,
    /// The algorithm with which it signs. Without one its kind decides: an RSA key signs `RS256`.
    #[serde(default)]
    pub signing_alg: Option<SigningAlg>,
    /// The id under which the provider knows the key.
    #[serde(default)]
    #[schemars(regex(pattern = r"^[\x21-\x7E]{1,200}$"), extend("patternErrorMessage" = KEY_ID, "examples" = ["ec1"]))]
    pub key_id: Option<String>,
    /// Whom our assertions are for. Without one it is `issuer`, or the token endpoint where no issuer is given.
    #[serde(default)]
    #[schemars(extend("examples" = ["https://login.example.com"]))]
    pub assertion_audience: Option<Audience>,
    /// The certificate with which we connect (PEM, with those between it and its authority).
    #[serde(default)]
    #[schemars(extend("examples" = ["/etc/bursar/stripe.pem"]))]
    pub certificate: Option<PathBuf>,
    /// The private key of `certificate` (PEM).
    #[serde(default)]
    pub certificate_key: Option<SecretRef>,
    /// The file that holds the assertion of another identity provider: read anew for each request.
    #[serde(default)]
    #[schemars(extend("examples" = ["/run/tokens/stripe.jwt"]))]
    pub assertion_file: Option<PathBuf>,
    /// Where tokens are ended (RFC 7009), where the metadata of `issuer` does not say it.
    #[serde(default)]
    #[schemars(extend("examples" = ["https://login.example.com/revoke"]))]
    pub revocation_endpoint: Option<String>,
    /// Whether the tokens that are held are ended at the provider when the agent stops. Workloads that still use one then lose it.
    #[serde(default)]
    pub revoke_at_shutdown: bool,
    /// The most that is ever asked for. `[]` says that the server knows no scopes.
    #[schemars(extend("examples" = [["charges:read", "charges:write"]]))]
    pub scopes: BTreeSet<Scope>,
    /// What a request without scope asks for.
    #[serde(default)]
    #[schemars(extend("examples" = [["charges:read"]]))]
    pub default_scopes: BTreeSet<Scope>,
    /// The resources that tokens are for (RFC 8707). A request without one asks for all of them.
    #[serde(default)]
    #[schemars(extend("examples" = [["https://api.example.com"]]))]
    pub resources: BTreeSet<Audience>,
    /// The same, where the provider wants the parameter `audience`.
    #[serde(default)]
    #[schemars(extend("examples" = [["https://api.example.com"]]))]
    pub audience: BTreeSet<Audience>,
    /// The scopes that the server may add unasked. More than that is refused.
    #[serde(default)]
    #[schemars(extend("examples" = [["profile", "email"]]))]
    pub extra_scopes: BTreeSet<Scope>,
    /// Whether a token with fewer scopes than were asked for is refused.
    #[serde(default)]
    pub require_all_scopes: bool,
    /// How long a token lives whose answer does not say it. `0s`: it is served once and not kept.
    #[serde(default = "serve_once")]
    pub lifetime_if_missing: Period,
    /// Who shares a token.
    #[serde(default)]
    pub share: Share,
    /// The certificate authorities that vouch for the server (PEM). Without one, those of the system.
    #[serde(default)]
    #[schemars(extend("examples" = ["/etc/bursar/idp-ca.pem"]))]
    pub ca_file: Option<PathBuf>,
    /// The most time for name resolution, connection and TLS handshake together.
    #[serde(default = "connect_timeout")]
    pub connect_timeout: Period,
    /// The most time for one request.
    #[serde(default = "timeout")]
    pub timeout: Period,
    /// After which part of its lifetime a token in use is refreshed; jitter is added.
    #[serde(default = "refresh_at")]
    #[schemars(range(min = 0.05, max = 0.95))]
    pub refresh_at: f64,
    /// How many token requests the provider gets: so many at once, and then one by one.
    #[serde(default = "budget")]
    #[schemars(extend("examples" = ["60/m"]))]
    pub budget: Limit,
    /// Who answers for it.
    #[serde(default)]
    #[schemars(regex(pattern = r"^[^\u0000-\u001F\u007F-\u009F\u2028-\u202E\u2066-\u2069]{1,200}$"), extend("patternErrorMessage" = LABEL, "examples" = ["payments"]))]
    pub owner: Option<String>,
    /// Where it is written what to do when it fails.
    #[serde(default)]
    #[schemars(extend("examples" = ["https://wiki.example.com/stripe"]))]
    pub runbook: Option<String>,
    /// What kind of data its tokens open.
    #[serde(default)]
    #[schemars(regex(pattern = r"^[^\u0000-\u001F\u007F-\u009F\u2028-\u202E\u2066-\u2069]{1,200}$"), extend("patternErrorMessage" = LABEL, "examples" = ["pci"]))]
    pub data_class: Option<String>,
    /// What it belongs to. In policy: `resource in Tag::"…"`.
    #[serde(default)]
    #[schemars(extend("examples" = [["payments"]]))]
    pub tags: BTreeSet<Name>,
}

/// Room for a host that starts with some hundred workloads, and an end to a loop.
fn budget() -> Limit {
    Limit::At(Rate { count: 600, every: Duration::from_secs(60) })
}

const KEY_ID: &str = "not a key id: use 1 to 200 printable ASCII characters without spaces";
const LABEL: &str = "not a label: use 1 to 200 characters without control characters";

const fn serve_once() -> Period {
    Period(Duration::ZERO)
}

const fn connect_timeout() -> Period {
    Period(Duration::from_secs(2))
}

const fn timeout() -> Period {
    Period(Duration::from_secs(5))
}

const fn refresh_at() -> f64 {
    0.7
}

/// One text, or several.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum OneOrMany {
    /// One.
    One(String),
    /// Several: the next is used when the one before fails. In this version only one may be listed.
    Many(#[schemars(length(min = 1))] Vec<String>),
}

/// How we prove who we are (OpenID Connect Core §9, RFC 8705 §2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ClientAuth {
    /// The client secret in the Authorization header.
    #[default]
    ClientSecretBasic,
    /// The client secret in the form.
    ClientSecretPost,
    /// An assertion signed with the client secret.
    ClientSecretJwt,
    /// An assertion signed with a private key.
    PrivateKeyJwt,
    /// A certificate of an authority that the provider trusts.
    TlsClientAuth,
    /// A certificate that the provider knows.
    SelfSignedTlsClientAuth,
    /// The assertion of another identity provider, from a file.
    FederatedAssertion,
}

/// An algorithm of a signed assertion (RFC 7518 §3.1, RFC 8037 §3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum SigningAlg {
    /// ECDSA on P-256 with SHA-256.
    #[serde(rename = "ES256")]
    Es256,
    /// ECDSA on P-384 with SHA-384.
    #[serde(rename = "ES384")]
    Es384,
    /// Ed25519.
    #[serde(rename = "EdDSA")]
    EdDsa,
    /// RSA PKCS #1 v1.5 with SHA-256.
    #[serde(rename = "RS256")]
    Rs256,
    /// RSA PSS with SHA-256.
    #[serde(rename = "PS256")]
    Ps256,
}

/// Who shares a token.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Share {
    /// Each workload has its own: it can be attributed and revoked for one service.
    #[default]
    Workload,
    /// All workloads of the host have one: for servers that meter tokens.
    Host,
}
