//! RFC 6749 §4.4: what is asked of a token endpoint, and what may come back.
//!
//! The way of one token: [`settings`] say where the provider is and who we are there; [`discovery`] finds
//! its token endpoint; [`client_auth`] proves who we are; [`http`] sends the request; [`answer`] and
//! [`refusal`] decide what the answer is worth. [`revocation`] ends a token before its time (RFC 7009).

pub mod answer;
pub mod assertion;
pub mod certificate;
pub mod client_auth;
pub mod discovery;
pub mod federated;
pub mod http;
pub mod object;
pub mod public_key;
pub mod refusal;
pub mod registration;
pub mod revocation;
pub mod settings;
pub mod shown;
pub mod signing_key;
mod wire;

pub use crate::wire::tls;

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;

use crate::access::{Audiences, Scopes};
use crate::secret::Secret;
use crate::time::Moment;

use certificate::CertificateChain;
use settings::ClientId;

/// One request for a token: what is judged is what is sent.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Ask {
    /// The scopes to send; when empty, no `scope` parameter is sent.
    pub scopes: Scopes,
    /// The resources (RFC 8707) or audiences to send.
    pub audience: Audiences,
}

/// A token that the provider granted, checked against what was asked.
#[derive(Debug)]
pub struct Grant {
    /// The access token.
    pub token: Secret,
    /// The scopes it has: as answered, else as asked (RFC 6749 §5.1).
    pub scopes: Scopes,
    /// Its lifetime, counted from `sent`; `None` where it is to be served once and not kept.
    pub lifetime: Option<Duration>,
    /// When the request was sent.
    pub sent: Moment,
}

/// A token endpoint. The real one is in `http`; tests have their own.
pub trait TokenEndpoint: Send + Sync + 'static {
    /// Where it is, for operators: the address of the endpoint, or that of the issuer whose metadata names it.
    fn place(&self) -> String;

    /// Asks once for a token, within the provider's own time limits.
    fn fetch<'a>(&'a self, ask: &'a Ask) -> BoxFuture<'a, Result<Grant, Failure>>;

    /// Ends `token` at the provider (RFC 7009 §2), within its own time limits.
    fn revoke<'a>(&'a self, token: &'a Secret) -> BoxFuture<'a, Result<(), Failure>> {
        let _ = token;
        futures_util::future::ready(Err(Failure::Unsupported)).boxed()
    }
}

/// Reads the credential with which we authenticate, each time it is needed, so that a rotated one is used at once.
pub trait Credential: Send + Sync + 'static {
    /// The current value.
    fn current(&self) -> BoxFuture<'_, Result<Material, NoCredential>>;
}

/// What proves who we are.
#[derive(Clone, Debug)]
pub struct Material {
    /// The client secret, the private key (PEM), the key of `certificate` (PEM), or the assertion.
    pub secret: Arc<Secret>,
    /// The certificate with which we connect, where we do.
    pub certificate: Option<CertificateChain>,
    /// Who it proves that we are, where that comes with it: a registration that bursar makes anew has another client id.
    pub client: Option<ClientId>,
    /// Which value of the credential it is, where its store tells them apart.
    pub version: Option<Box<str>>,
}

impl From<Secret> for Material {
    fn from(secret: Secret) -> Self {
        Self { secret: Arc::new(secret), certificate: None, client: None, version: None }
    }
}

/// Why our own credential cannot be used. The texts say to the operator what to do, without any part of the value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoCredential {
    /// Nobody has put it into its store.
    #[error("{0}")]
    Missing(String),
    /// Its store does not give it, or it is none.
    #[error("{0}")]
    Unusable(String),
}

/// Why no token came, by whose fault it is.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// The provider refused us: asking again will not help until something is changed.
    #[error("the provider refused with status {status}: {what}")]
    Refused {
        /// The HTTP status.
        status: u16,
        /// The error code, if it is registered (RFC 6749 §5.2, RFC 8707 §2).
        error: Option<&'static str>,
        /// For the operator: what was answered, without secrets, and what to do.
        what: String,
    },
    /// The provider answered what cannot be used.
    #[error("the provider's answer cannot be used: {0}")]
    Nonsense(String),
    /// The provider cannot answer now: asking later may help.
    #[error("the provider is unavailable: {what}")]
    Unavailable {
        /// For the operator: what happened.
        what: String,
        /// How long the provider asked us to wait (RFC 9110 §10.2.3).
        retry_after: Option<Duration>,
    },
    /// Our own credential cannot be used.
    #[error("the provider was not asked: {0}")]
    Credential(NoCredential),
    /// The provider has no endpoint for this, as far as we know.
    #[error("the provider has no revocation endpoint that bursar knows of: set `revocation_endpoint`, if it has one")]
    Unsupported,
}

impl Failure {
    /// The word for it in records.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Refused { error, .. } => error.unwrap_or("refused"),
            Self::Nonsense(_) => "nonsense",
            Self::Unavailable { .. } => "unavailable",
            Self::Credential(_) => "credential",
            Self::Unsupported => "unsupported",
        }
    }

    /// Whether whatever else was asked for would be refused as well: it is bursar that is not known, or its credential.
    #[must_use]
    pub fn concerns_bursar(&self) -> bool {
        match self {
            Self::Refused { error, .. } => matches!(error, Some("invalid_client" | "unauthorized_client")),
            Self::Credential(_) => true,
            Self::Nonsense(_) | Self::Unavailable { .. } | Self::Unsupported => false,
        }
    }

    /// Whether a credential that has just been replaced would be refused so. Some servers answer 403 without a code.
    #[must_use]
    pub fn may_be_an_old_credential(&self) -> bool {
        match self {
            Self::Refused { error: Some(error), .. } => *error == "invalid_client",
            Self::Refused { status, error: None, .. } => matches!(status, 401 | 403),
            Self::Nonsense(_) | Self::Unavailable { .. } | Self::Credential(_) | Self::Unsupported => false,
        }
    }

    /// By whose fault, in one word for metrics.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Refused { .. } => "refused",
            Self::Nonsense(_) => "nonsense",
            Self::Unavailable { .. } => "unavailable",
            Self::Credential(_) => "credential",
            Self::Unsupported => "unsupported",
        }
    }

    /// For the operator: what happened, without secrets.
    #[must_use]
    pub fn detail(&self) -> &str {
        match self {
            Self::Refused { what, .. } | Self::Nonsense(what) | Self::Unavailable { what, .. } => what,
            Self::Credential(NoCredential::Missing(what) | NoCredential::Unusable(what)) => what,
            Self::Unsupported => "no `revocation_endpoint` is configured or discovered",
        }
    }
}
