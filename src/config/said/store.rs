//! `[store.NAME]`: where secrets live, and the reference by which the rest of the file names one.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::words::Period;
use crate::name::{Name, StoredName};

/// Where secrets live.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Store {
    /// Embedded: a file of this host, sealed at rest.
    Sealed {
        /// The file. Without one it is `NAME.db` in `state_dir`.
        #[serde(default)]
        path: Option<PathBuf>,
        /// The key that seals it. Without one it is the file `NAME.key` in `state_dir`, made at first start.
        #[serde(default)]
        key: Option<KeySource>,
        /// How long a cached value counts as fresh, `1s` to `1d`.
        #[serde(default)]
        #[schemars(extend("examples" = ["5m"]))]
        stale_after: Option<Period>,
    },
    /// A directory of this host, one file a secret, read-only.
    Files {
        /// The directory.
        #[schemars(extend("examples" = ["/run/secrets"]))]
        path: PathBuf,
        /// How long a cached value counts as fresh, `1s` to `1d`.
        #[serde(default)]
        #[schemars(extend("examples" = ["5m"]))]
        stale_after: Option<Period>,
    },
    /// AWS Secrets Manager.
    AwsSecretsmanager {
        /// The region.
        #[schemars(extend("examples" = ["eu-central-1"]))]
        region: String,
        /// Another endpoint than the region's: `https`, or `http` to this host alone.
        #[serde(default)]
        #[schemars(extend("examples" = ["https://vpce-0123456789abcdef0.secretsmanager.eu-central-1.vpce.amazonaws.com"]))]
        endpoint: Option<String>,
        /// What the names of our secrets begin with.
        #[serde(default)]
        #[schemars(extend("examples" = ["prod/"]))]
        prefix: Option<String>,
        /// Another region, to which the secrets are replicated: they are read there while `region` cannot answer.
        #[serde(default)]
        #[schemars(extend("examples" = ["eu-west-1"]))]
        replica_region: Option<String>,
        /// How long a cached value counts as fresh.
        #[serde(default)]
        #[schemars(extend("examples" = ["5m"]))]
        stale_after: Option<Period>,
    },
    /// OpenBao, or HashiCorp Vault: KV version 2.
    Openbao {
        /// Where it is: `https`, or `http` to this host alone.
        #[schemars(extend("examples" = ["https://bao.example.com:8200"]))]
        address: String,
        /// The mount of the KV engine.
        #[schemars(extend("examples" = ["kv"]))]
        mount: StoredName,
        /// What the paths of our secrets begin with.
        #[serde(default)]
        #[schemars(extend("examples" = ["apps"]))]
        prefix: Option<StoredName>,
        /// The namespace of the mount and of the login.
        #[serde(default)]
        #[schemars(extend("examples" = ["team-a"]))]
        namespace: Option<StoredName>,
        /// The certificate authorities that vouch for it. Without one, those of the system.
        #[serde(default)]
        #[schemars(extend("examples" = ["/etc/bursar/bao-ca.pem"]))]
        ca_file: Option<PathBuf>,
        /// How we log in.
        auth: OpenbaoAuth,
        /// How long a cached value counts as fresh, `1s` to `1d`.
        #[serde(default)]
        #[schemars(extend("examples" = ["5m"]))]
        stale_after: Option<Period>,
    },
}

/// Where the key of a sealed store comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
#[schemars(extend("examples" = [{ "file": "store.key" }]))]
pub enum KeySource {
    /// A file. Made at first start if it is in `state_dir`; elsewhere it has to be there.
    File(PathBuf),
    /// A credential that systemd passes (`LoadCredential=`, `LoadCredentialEncrypted=`).
    #[schemars(extend("examples" = ["bursar-store-key"]))]
    Credential(String),
}

/// How we log in at OpenBao.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
#[schemars(extend("examples" = [{ "token_file": "/run/bao/token" }]))]
pub enum OpenbaoAuth {
    /// AppRole, at `auth/approle`.
    Approle(AppRole),
    /// A token that something else keeps fresh in a file. It is read anew for each request.
    #[schemars(extend("examples" = ["/run/bao/token"]))]
    TokenFile(PathBuf),
}

/// An AppRole of OpenBao.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AppRole {
    /// The role's id.
    #[schemars(extend("examples" = ["5fdb81e2-0c77-4f5b-9e5e-6b8f3f0f8a52"]))]
    pub role_id: String,
    /// The file that holds the secret id. It is read anew at each login.
    #[schemars(extend("examples" = ["/etc/bursar/secret-id"]))]
    pub secret_id_file: PathBuf,
}

/// A secret in a store. A secret itself never stands in this file: a reference stands in its place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("examples" = [{ "store": "local", "name": "stripe-client" }]))]
pub struct SecretRef {
    /// The store: a `[store.NAME]` of this configuration.
    pub store: Name,
    /// The secret's name there.
    pub name: StoredName,
}
