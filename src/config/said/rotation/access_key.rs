//! `[secret.NAME.rotation.aws-iam-access-key]`: the access keys of an IAM user.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::said::SecretRef;
use crate::config::words::Period;

/// The access keys of an IAM user of AWS. What is served is JSON: `access_key_id` and `secret_access_key`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AccessKey {
    /// The user whose key is rotated: it has no other.
    #[schemars(extend("examples" = ["checkout"]), length(min = 1, max = 64))]
    pub user: String,
    /// The region whose STS says whether a key is accepted.
    #[schemars(extend("examples" = ["eu-central-1"]), length(min = 1, max = 64))]
    pub region: String,
    /// Another endpoint than AWS's own, for IAM and STS: `https`, or `http` to this host alone.
    #[serde(default)]
    pub endpoint: Option<String>,
    /// The certificate authorities that vouch for it (PEM). Without one, the system's.
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
    /// The access key of another user, who may change the keys of this one: JSON like what is served.
    pub admin: SecretRef,
    /// Whether nobody else makes keys for this user, so that what belongs to no version is ours.
    #[serde(default)]
    pub exclusive: bool,
    /// How long a new key may take to be accepted: `1m` without it.
    #[serde(default)]
    #[schemars(extend("examples" = ["1m"]))]
    pub settles_within: Option<Period>,
}
