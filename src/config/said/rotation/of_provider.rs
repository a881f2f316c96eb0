//! `[secret.NAME.rotation.oauth-client-secret]` and `[….signing-key]`: a provider's own credential.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::said::SecretRef;
use crate::config::words::Period;
use crate::name::Name;

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
