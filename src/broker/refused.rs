//! Why a request is refused, and what the caller may read of it.

use std::borrow::Cow;
use std::time::Duration;

use crate::access::Role;
use crate::audit::{DecisionId, NotDurable, Receipt};
use crate::kept;
use crate::oauth::{Failure, NoCredential};
use crate::peer::Unidentified;
use crate::store::StoreError;
use crate::token::{NotListed, Unavailable};

/// A refusal, and the record of it.
#[derive(Clone, Debug)]
pub struct Refused {
    /// Why.
    pub why: Why,
    /// The record, where there is one.
    pub decision: Option<DecisionId>,
}

/// Why a request is refused, in the words that the caller may read.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Why {
    /// The peer is no workload, or two; at the admin socket no operator, or two.
    #[error("{}", .0.caller(*.1))]
    Unidentified(Unidentified, Role),
    /// Policy refuses, or there is no such thing for this workload.
    #[error("policy does not allow this")]
    AccessDenied,
    /// The request is malformed.
    #[error("{0}")]
    InvalidRequest(String),
    /// A scope that is malformed or not listed.
    #[error("{0}")]
    InvalidScope(String),
    /// A resource or audience that is malformed or not listed.
    #[error("{0}")]
    InvalidTarget(String),
    /// Another grant than `client_credentials`.
    #[error("the only `grant_type` is `client_credentials`")]
    UnsupportedGrantType,
    /// No such path.
    #[error("there is no such path")]
    NotFound,
    /// The path has other methods.
    #[error("the path does not take this method")]
    MethodNotAllowed,
    /// The body is too long.
    #[error("the body is too long")]
    TooLarge,
    /// A limit of ours.
    #[error("{what}")]
    SlowDown {
        /// Which.
        what: Cow<'static, str>,
        /// When to ask again.
        wait: Duration,
    },
    /// The provider refused us, or answered what cannot be used.
    #[error("the provider gave no token: it refused bursar, or answered what cannot be used")]
    Provider {
        /// The provider's own error code, if it is a registered one.
        error: Option<&'static str>,
    },
    /// The provider cannot be reached, and no token is alive.
    #[error("the provider cannot be reached now, and no token of it is alive")]
    TemporarilyUnavailable {
        /// When to ask again.
        wait: Duration,
    },
    /// Our own credential for the provider cannot be used, and no token is alive. Which, the record says.
    #[error("{}", no_credential(*.missing))]
    NoCredential {
        /// Whether nobody has put it into its store.
        missing: bool,
        /// When to ask again.
        wait: Duration,
    },
    /// The secret that was asked for, and is permitted, is not in its store.
    #[error("its store has no such version of this secret that is served")]
    NoSecret,
    /// The store of the secret cannot be read, and no value is known. Which and why, the record says.
    #[error("the store of this secret cannot be read now, and no value of it is known")]
    NoStore {
        /// When to ask again.
        wait: Duration,
    },
    /// A store refuses or cannot be reached. Operators alone see this, so it says all.
    #[error("{0}")]
    Store(StoreError),
    /// The record could not be made durable.
    #[error("the audit record could not be written, so nothing is handed out")]
    AuditUnavailable,
    /// The agent is stopping.
    #[error("the agent is stopping")]
    Draining,
    /// A fault of ours.
    #[error("a fault inside bursar: {0}")]
    Internal(&'static str),
}

impl Why {
    /// The codes that the broker gives, for what counts them. Two more are the door's alone: it names no method
    /// or body that it does not take.
    pub(super) const CODES: [&str; 19] = [
        "unidentified",
        "access_denied",
        "invalid_request",
        "invalid_scope",
        "invalid_target",
        "unsupported_grant_type",
        "not_found",
        "slow_down",
        "provider_error",
        "temporarily_unavailable",
        "store_not_found",
        "store_conflict",
        "store_read_only",
        "store_setup",
        "store_damaged",
        "store_unavailable",
        "audit_unavailable",
        "draining",
        "internal_error",
    ];

    /// The stable code: `error` in replies, `code` in records.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Unidentified(..) => "unidentified",
            Self::AccessDenied => "access_denied",
            Self::InvalidRequest(_) => "invalid_request",
            Self::InvalidScope(_) => "invalid_scope",
            Self::InvalidTarget(_) => "invalid_target",
            Self::UnsupportedGrantType => "unsupported_grant_type",
            Self::NotFound | Self::NoSecret => "not_found",
            Self::MethodNotAllowed => "method_not_allowed",
            Self::TooLarge => "too_large",
            Self::SlowDown { .. } => "slow_down",
            Self::Provider { .. } => "provider_error",
            Self::TemporarilyUnavailable { .. } | Self::NoCredential { .. } | Self::NoStore { .. } => {
                "temporarily_unavailable"
            }
            Self::Store(error) => error.code(),
            Self::AuditUnavailable => "audit_unavailable",
            Self::Draining => "draining",
            Self::Internal(_) => "internal_error",
        }
    }

    /// The provider's own error code, where it refused us with a registered one.
    #[must_use]
    pub fn provider_error(&self) -> Option<&'static str> {
        if let Self::Provider { error } = self { *error } else { None }
    }

    /// When to ask again, where that is known.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::SlowDown { wait, .. }
            | Self::TemporarilyUnavailable { wait }
            | Self::NoCredential { wait, .. }
            | Self::NoStore { wait } => Some(*wait),
            Self::AuditUnavailable | Self::Draining | Self::Store(StoreError::Unavailable(_)) => {
                Some(Duration::from_secs(1))
            }
            Self::Unidentified(..)
            | Self::AccessDenied
            | Self::InvalidRequest(_)
            | Self::InvalidScope(_)
            | Self::InvalidTarget(_)
            | Self::UnsupportedGrantType
            | Self::NotFound
            | Self::NoSecret
            | Self::MethodNotAllowed
            | Self::TooLarge
            | Self::Provider { .. }
            | Self::Store(_)
            | Self::Internal(_) => None,
        }
    }
}

impl From<NotDurable> for Refused {
    fn from(why: NotDurable) -> Self {
        let why = match why {
            NotDurable::TooLong(_) => {
                Why::InvalidRequest("the request is too long to be recorded: ask for less at once".into())
            }
            NotDurable::Stopped => Why::Draining,
            NotDurable::Io(_) | NotDurable::Behind(_) | NotDurable::Hangs => Why::AuditUnavailable,
        };
        Self { why, decision: None }
    }
}

impl From<NotListed> for Why {
    fn from(why: NotListed) -> Self {
        match why {
            NotListed::Scope(_) | NotListed::ScopeRequired => Self::InvalidScope(why.to_string()),
            NotListed::Audience(_) => Self::InvalidTarget(why.to_string()),
        }
    }
}

impl From<kept::Unavailable> for Why {
    fn from(why: kept::Unavailable) -> Self {
        match why {
            kept::Unavailable::Missing(_) => Self::NoSecret,
            kept::Unavailable::Store { retry_after: wait, .. } => Self::NoStore { wait },
            kept::Unavailable::Internal(what) => Self::Internal(what),
        }
    }
}

impl From<Unavailable> for Why {
    fn from(why: Unavailable) -> Self {
        match why {
            Unavailable::Provider { failure, retry_after } | Unavailable::Resting { failure, wait: retry_after } => {
                match failure {
                    Failure::Refused { error, .. } => Self::Provider { error },
                    Failure::Nonsense(_) | Failure::Unsupported => Self::Provider { error: None },
                    Failure::Unavailable { .. } => Self::TemporarilyUnavailable { wait: retry_after },
                    Failure::Credential(why) => {
                        Self::NoCredential { missing: matches!(why, NoCredential::Missing(_)), wait: retry_after }
                    }
                }
            }
            Unavailable::Budget(wait) => {
                Self::SlowDown { what: "the provider's `budget` of token requests is used up".into(), wait }
            }
            Unavailable::Mints(wait) => {
                Self::SlowDown { what: "your `limits.mints_per_workload` is used up".into(), wait }
            }
            Unavailable::TooShort(lifetime) => Self::InvalidRequest(format!(
                "no token of this provider lives as long as `min_ttl` says: it gives them {} s",
                lifetime.as_secs()
            )),
            Unavailable::Audit(why) => Refused::from(why).why,
            Unavailable::Full(_) => {
                let what = "bursar holds as many different tokens of this provider as it will, for you or for all";
                Self::SlowDown { what: what.into(), wait: Duration::from_secs(30) }
            }
            Unavailable::Busy(_) => {
                let what = "as many requests to this provider are under way as bursar lets be, for you or for all";
                Self::SlowDown { what: what.into(), wait: Duration::from_secs(1) }
            }
            Unavailable::Internal(what) => Self::Internal(what),
        }
    }
}

/// No name: which store keeps what is the operator's matter.
const fn no_credential(missing: bool) -> &'static str {
    if missing {
        "bursar's own credential for this provider is missing: an operator has to put it into its store"
    } else {
        "bursar's own credential for this provider cannot be used, and no token of it is alive"
    }
}

/// What an operator's action came to, and the record of it.
#[derive(Debug)]
pub struct Done<T> {
    /// What came of it.
    pub result: T,
    /// The record.
    pub decision: DecisionId,
}

impl<T> Done<T> {
    /// The result of an act on a store, once its record is durable.
    pub(super) fn of(result: Result<T, StoreError>, receipt: Receipt) -> Result<Self, Refused> {
        let decision = receipt.decision();
        match result {
            Ok(result) => Ok(Self { result, decision }),
            Err(error) => Err(Refused { why: Why::Store(error), decision: Some(decision) }),
        }
    }
}
