//! `[secret.NAME.rotation]`: when a secret is rotated, how carefully, and by what.

mod access_key;
mod exec;
mod http;
mod of_provider;

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::SecretRef;
use crate::config::words::Period;

pub use access_key::AccessKey;
pub use exec::{Exec, ExecInvents};
pub use http::{Http, HttpCall, HttpFound, HttpMade, HttpMethod, HttpOverlap, Preset};
pub use of_provider::{KeyAlgorithm, Method, OauthClientSecret, Register, SigningKey, TwoSecrets};

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
    /// The password of a PostgreSQL role, or of two that take turns.
    pub postgres: Option<Postgres>,
    /// The client secret by which a provider entry authenticates.
    #[serde(rename = "oauth-client-secret")]
    pub oauth_client_secret: Option<OauthClientSecret>,
    /// The private key with which a provider entry signs its assertions.
    #[serde(rename = "signing-key")]
    pub signing_key: Option<SigningKey>,
    /// An access key of an IAM user.
    #[serde(rename = "aws-iam-access-key")]
    pub aws_iam_access_key: Option<Box<AccessKey>>,
    /// A password of a Redis user.
    #[serde(rename = "redis-acl")]
    pub redis_acl: Option<RedisAcl>,
    /// Calls to an HTTP service.
    pub http: Option<Box<Http>>,
    /// A program.
    pub exec: Option<Box<Exec>>,
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
    /// Those of every agent that shares the secret; at a store of kind `openbao`.
    Store,
}

/// The password of a PostgreSQL role, or of two that take turns.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Postgres {
    /// Where the server listens: `HOST:PORT`, or the directory of its unix socket. TLS, except to this host.
    #[schemars(extend("examples" = ["db.example.com:5432"]))]
    pub address: String,
    /// The database that readers and bursar connect to.
    #[schemars(extend("examples" = ["app"]))]
    pub database: String,
    /// The certificate authorities that vouch for it. Without one, those of the system. With one, TLS to this host too.
    #[serde(default)]
    #[schemars(extend("examples" = ["/etc/bursar/db-ca.pem"]))]
    pub ca_file: Option<PathBuf>,
    /// The login with which bursar sets passwords: JSON with `username` and `password`. It may alter the roles.
    #[schemars(extend("examples" = [{ "store": "local", "name": "db-admin" }]))]
    pub admin: SecretRef,
    /// The role, where it is one: its former password ends with the rotation.
    #[serde(default)]
    #[schemars(extend("examples" = ["app"]))]
    pub user: Option<String>,
    /// Two roles that take turns: the former login stays valid for the grace period.
    #[serde(default)]
    #[schemars(extend("examples" = [["app_a", "app_b"]]))]
    pub users: Vec<String>,
}

/// A password of a Redis user: it may have several at once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RedisAcl {
    /// Where the server listens: `HOST:PORT`, or its unix socket. TLS, except to this host.
    #[schemars(extend("examples" = ["redis.example.com:6379"]))]
    pub address: String,
    /// The certificate authorities that vouch for it. Without one, those of the system. With one, TLS to this host too.
    #[serde(default)]
    #[schemars(extend("examples" = ["/etc/bursar/redis-ca.pem"]))]
    pub ca_file: Option<PathBuf>,
    /// The login with which bursar sets passwords: JSON with `username` and `password`.
    #[schemars(extend("examples" = [{ "store": "local", "name": "redis-admin" }]))]
    pub admin: SecretRef,
    /// The user.
    #[schemars(extend("examples" = ["app"]))]
    pub user: String,
    /// How the server keeps the password over its own restart.
    #[serde(default)]
    pub persist: Persist,
    /// Whether the password that bursar found is bursar's to end, too: the one that was put into the store by hand.
    #[serde(default)]
    pub exclusive: bool,
}

/// How a Redis server keeps what it was told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Persist {
    /// In its `aclfile`, by `ACL SAVE`.
    #[default]
    AclSave,
    /// In its configuration file, by `CONFIG REWRITE`.
    ConfigRewrite,
    /// Not at all: a restart of the server loses the password.
    Nothing,
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
