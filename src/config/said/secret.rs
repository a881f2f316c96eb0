//! `[secret.NAME]`: a secret that workloads may read, and how it is rotated.

use std::collections::BTreeSet;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Rotation;
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
