//! `[secret.NAME]`: a secret that workloads may read, and how it is rotated.

use std::collections::BTreeSet;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::SecretRef;
use crate::config::words::Period;
use crate::name::{Name, StoredName};

/// A secret that policy speaks of by a name of its own.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Secret {
    /// The store: a `[store.NAME]` of this configuration.
    #[schemars(extend("examples" = ["local"]))]
    pub store: Name,
    /// Its name in the store. Without one it is the entry's own.
    #[serde(default)]
    #[schemars(extend("examples" = ["stripe/api-key"]))]
    pub path: Option<StoredName>,
    /// What it belongs to. In policy: `resource in Tag::"…"`.
    #[serde(default)]
    pub tags: BTreeSet<Name>,
    /// The member that is meant, where the value is a JSON object.
    #[serde(default)]
    #[schemars(extend("examples" = ["password"]))]
    pub field: Option<String>,
    /// How the value is written in a reply. Without it text is written as text, and other bytes as base64.
    #[serde(default)]
    pub encoding: Option<Encoding>,
    /// How it is rotated.
    #[serde(default)]
    #[schemars(extend("x-later" = true))]
    pub rotation: Option<Box<Rotation>>,
}

/// How a value is written in a reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Encoding {
    /// As text.
    Utf8,
    /// As base64.
    Base64,
}

/// How a secret is rotated: when, how carefully, and the rotator with a table of its own.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Rotation {
    /// How often.
    #[schemars(extend("examples" = ["30d"]))]
    pub every: Option<Period>,
    /// When, by the calendar.
    #[schemars(extend("examples" = ["0 3 * * SUN"]))]
    pub cron: Option<String>,
    /// The time zone of `cron` and `window`.
    #[schemars(extend("examples" = ["UTC"]))]
    pub timezone: Option<String>,
    /// Between which times of day.
    #[schemars(extend("examples" = ["02:00-05:00"]))]
    pub window: Option<String>,
    /// How long the former version stays valid. Only where the rotator keeps two valid at once.
    #[schemars(extend("examples" = ["24h"]))]
    pub grace: Option<Period>,
    /// Whose readers are waited for before the former version is revoked.
    pub uptake: Option<Uptake>,
    /// How long they are waited for.
    #[schemars(extend("examples" = ["72h"]))]
    pub uptake_deadline: Option<Period>,
    /// PostgreSQL roles.
    pub postgres: Option<Rotator>,
    /// The client secret of an OAuth client.
    #[serde(rename = "oauth-client-secret")]
    pub oauth_client_secret: Option<Rotator>,
    /// A key that signs assertions.
    #[serde(rename = "signing-key")]
    pub signing_key: Option<Rotator>,
    /// An access key of an IAM user.
    #[serde(rename = "aws-iam-access-key")]
    pub aws_iam_access_key: Option<Rotator>,
    /// A user of Redis.
    #[serde(rename = "redis-acl")]
    pub redis_acl: Option<Rotator>,
    /// Calls to an HTTP service.
    pub http: Option<Rotator>,
    /// A program.
    pub exec: Option<Rotator>,
    /// A random value, for which there is no far side.
    pub random: Option<Rotator>,
}

/// Whose readers are waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Uptake {
    /// Those of this agent.
    Local,
    /// Those of every agent that shares the store.
    Store,
}

/// What every rotator has.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Rotator {
    /// The credential with which it acts.
    pub admin: Option<SecretRef>,
    /// Whether nobody else makes credentials there, so that what belongs to no version is ours.
    pub exclusive: bool,
}
