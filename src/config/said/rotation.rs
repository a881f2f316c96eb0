//! `[secret.NAME.rotation]`: when a secret is rotated, how carefully, and by what.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::SecretRef;
use crate::config::words::Period;
use crate::name::Name;

/// How a secret is rotated: when, how carefully, and the rotator with a table of its own.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Rotation {
    /// How long after the last rotation. Without `every` and `cron` an operator starts each one.
    #[schemars(extend("examples" = ["30d"]))]
    pub every: Option<Period>,
    /// At which times of the calendar: minute, hour, day of month, month, day of week.
    #[schemars(extend("examples" = ["0 3 * * SUN"]))]
    pub cron: Option<String>,
    /// The time zone of `cron` and `window`: `UTC`, or one of the system's.
    #[schemars(extend("examples" = ["Europe/Berlin"]))]
    pub timezone: Option<String>,
    /// Between which times of day a rotation may begin by itself.
    #[schemars(extend("examples" = ["02:00-05:00"]))]
    pub window: Option<String>,
    /// Up to how much later than due, so that not all are rotated at once; all agents that share a store agree on it.
    #[schemars(extend("examples" = ["1h"]))]
    pub jitter: Option<Period>,
    /// How old a version may get: from then on no window is waited for.
    #[schemars(extend("examples" = ["45d"]))]
    pub max_age: Option<Period>,
    /// How long the former version stays valid; `1h` without it. Only where the rotator keeps two valid at once.
    #[schemars(extend("examples" = ["24h"]))]
    pub grace: Option<Period>,
    /// Whose readers are waited for before the former version is revoked.
    pub uptake: Uptake,
    /// How long after the promotion they are waited for; `24h` without it.
    #[schemars(extend("examples" = ["72h"]))]
    pub uptake_deadline: Option<Period>,
    /// PostgreSQL roles.
    #[schemars(extend("x-later" = true))]
    pub postgres: Option<Rotator>,
    /// The client secret by which a provider entry authenticates.
    #[serde(rename = "oauth-client-secret")]
    pub oauth_client_secret: Option<OauthClientSecret>,
    /// The private key with which a provider entry signs its assertions.
    #[serde(rename = "signing-key")]
    pub signing_key: Option<SigningKey>,
    /// An access key of an IAM user.
    #[serde(rename = "aws-iam-access-key")]
    #[schemars(extend("x-later" = true))]
    pub aws_iam_access_key: Option<Rotator>,
    /// A user of Redis.
    #[serde(rename = "redis-acl")]
    #[schemars(extend("x-later" = true))]
    pub redis_acl: Option<Rotator>,
    /// Calls to an HTTP service.
    #[schemars(extend("x-later" = true))]
    pub http: Option<Rotator>,
    /// A program.
    #[schemars(extend("x-later" = true))]
    pub exec: Option<Rotator>,
    /// A random text, for which there is no far side.
    pub random: Option<Random>,
}

/// Whose readers are waited for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Uptake {
    /// Those of this agent.
    #[default]
    Local,
    /// Those of every agent that shares the store.
    #[schemars(extend("x-later" = true))]
    Store,
}

/// What every rotator has that is not built yet.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Rotator {
    /// The credential with which it acts.
    pub admin: Option<SecretRef>,
    /// Whether nobody else makes credentials there, so that what belongs to no version is ours.
    pub exclusive: bool,
}

/// The client secret by which a provider entry authenticates. One of `two_secrets` and `register` says what its server allows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OauthClientSecret {
    /// The `[provider.NAME]` whose `client_secret`, or `registration`, this secret is.
    #[schemars(extend("examples" = ["stripe"]))]
    pub provider: Name,
    /// The bearer token with which the server is told: of its administration, or the initial access token (RFC 7591 §3.1).
    #[serde(default)]
    #[schemars(extend("examples" = [{ "store": "local", "name": "stripe-admin" }]))]
    pub admin: Option<SecretRef>,
    /// A server that holds two secrets of a client at once.
    #[serde(default)]
    pub two_secrets: Option<TwoSecrets>,
    /// A server where another client can be registered (RFC 7591), and the former one deleted (RFC 7592).
    #[serde(default)]
    pub register: Option<Register>,
}

/// The call by which a server is told which secrets of a client are valid.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TwoSecrets {
    /// Where the client is administered.
    #[schemars(extend("examples" = ["https://login.example.com/admin/clients/bursar"]))]
    pub url: String,
    /// The method of the call.
    #[serde(default)]
    pub method: Method,
    /// The JSON that makes `{new}` and `{old}` valid, and no other.
    #[schemars(extend("examples" = [r#"{"secrets":["{new}","{old}"]}"#]))]
    pub both: String,
    /// The JSON that makes `{new}` valid, and no other.
    #[schemars(extend("examples" = [r#"{"secrets":["{new}"]}"#]))]
    pub only: String,
}

/// The method of a call that says what is valid.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum Method {
    /// `PUT`.
    #[default]
    Put,
    /// `POST`.
    Post,
    /// `PATCH`.
    Patch,
}

/// The registration of another client.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Register {
    /// The server's `registration_endpoint`.
    #[schemars(extend("examples" = ["https://login.example.com/register"]))]
    pub endpoint: String,
    /// More client metadata (RFC 7591 §2), as a JSON object.
    #[serde(default)]
    #[schemars(extend("examples" = [r#"{"contacts":["ops@example.com"]}"#]))]
    pub metadata: Option<String>,
    /// Whether the client that was put into the store by hand is bursar's to delete, too.
    #[serde(default)]
    pub exclusive: bool,
}

/// The private key with which a provider entry signs its assertions. The provider reads the public keys at `jwks_uri`:
/// `jwks_file` and `jwks_listen` say where they are published, one or both.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SigningKey {
    /// The `[provider.NAME]` whose `private_key` this secret is.
    #[schemars(extend("examples" = ["stripe"]))]
    pub provider: Name,
    /// Which keys are made.
    #[serde(default)]
    pub algorithm: KeyAlgorithm,
    /// The file of the key set, which a web server passes on. It is replaced whole, and everybody may read it.
    #[serde(default)]
    #[schemars(extend("examples" = ["/srv/www/jwks.json"]))]
    pub jwks_file: Option<PathBuf>,
    /// Where the key set is served, at `/jwks.json`: an address of this host, for a proxy that the provider reaches.
    #[serde(default)]
    #[schemars(extend("examples" = ["127.0.0.1:9465"]))]
    pub jwks_listen: Option<String>,
    /// How long the provider may keep an older key set; `15m` without it.
    #[serde(default)]
    #[schemars(extend("examples" = ["1h"]))]
    pub settles_within: Option<Period>,
}

/// The algorithm of a key that is made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum KeyAlgorithm {
    /// ECDSA on P-256.
    #[default]
    #[serde(rename = "ES256")]
    Es256,
    /// ECDSA on P-384.
    #[serde(rename = "ES384")]
    Es384,
    /// Ed25519.
    #[serde(rename = "EdDSA")]
    EdDsa,
}

/// A random text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Random {
    /// How many characters it has.
    #[schemars(range(min = 16, max = 4096))]
    pub length: u32,
    /// Which characters.
    pub alphabet: Alphabet,
}

impl Default for Random {
    fn default() -> Self {
        Self { length: 43, alphabet: Alphabet::default() }
    }
}

/// Which characters a random text has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Alphabet {
    /// `A-Z a-z 0-9`.
    #[default]
    Alphanumeric,
    /// `0-9 a-f`.
    Hex,
    /// `A-Z a-z 0-9 - _`.
    Base64url,
}
