//! A lease, and the account that the record gives of it.
//!
//! A [`Lease`] is what a workload is about to receive. It is made from a [`Permit`], which it consumes,
//! and it can leave the process only together with the receipt of its own record: lease, account and
//! receipt carry the same [`Nonce`].

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::access::{Access, Grounds, Permit, Scopes};
use crate::crypto::Fingerprint;
use crate::secret::Secret;
use crate::time::{Deadline, Moment, Wall};

/// Ties a lease to the record of it. Never the same twice in one process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Nonce(u64);

impl Nonce {
    fn next() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        Self(NEXT.fetch_add(1, Ordering::Relaxed))
    }
}

/// What a workload is about to receive: a token or a version of a secret, with the permission for it.
#[derive(Debug)]
#[must_use]
pub struct Lease {
    value: Arc<Secret>,
    terms: Terms,
    permit: Permit,
    nonce: Nonce,
}

/// What is said of a value when it is handed over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Terms {
    /// It is an access token.
    Token(TokenTerms),
    /// It is a version of a secret.
    Secret(SecretTerms),
}

impl Terms {
    /// How fresh the value is.
    #[must_use]
    pub const fn freshness(&self) -> Freshness {
        match self {
            Self::Token(terms) => terms.freshness,
            Self::Secret(terms) => terms.freshness,
        }
    }

    /// When the value ends, where that is known.
    #[must_use]
    pub const fn expires(&self) -> Option<Deadline> {
        match self {
            Self::Token(terms) => terms.expires,
            Self::Secret(_) => None,
        }
    }
}

/// What is said of a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenTerms {
    /// What the provider granted.
    pub scopes: Scopes,
    /// When it was asked for: its age counts from here.
    pub obtained: Moment,
    /// When it ends; none where the provider did not say: such a token is served once.
    pub expires: Option<Deadline>,
    /// How fresh it is at this moment.
    pub freshness: Freshness,
    /// Whether the API that it is for has rejected it, and the provider gave no other.
    pub rejected: bool,
    /// What the record says of it.
    pub fingerprint: Fingerprint,
    /// The index of the intent record of the request that brought it.
    pub intent: u64,
}

/// What is said of a version of a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretTerms {
    /// The id of the version in its store.
    pub version: Arc<str>,
    /// When the version was made.
    pub created: Wall,
    /// When the store was asked for it: its age counts from here.
    pub obtained: Moment,
    /// How fresh it is at this moment.
    pub freshness: Freshness,
    /// How its value is written.
    pub encoding: Encoding,
    /// After how long its reader should ask again.
    pub reread_after: Duration,
}

/// How the value of a secret is written in a reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// As the text that it is.
    Utf8,
    /// As base64 (RFC 4648 §4).
    Base64,
}

/// How fresh a value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Freshness {
    /// Before its refresh point.
    Fresh,
    /// Past its refresh point, its refresh on the way.
    Ahead,
    /// Its source fails; the value is still valid, and declared.
    Stale,
}

impl Freshness {
    /// The word in records and replies.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Fresh => "fresh",
            Self::Ahead => "ahead",
            Self::Stale => "stale",
        }
    }
}

impl Lease {
    /// Called by the engines, and nowhere else: `tests/house.rs` lists the places.
    pub(crate) fn grant(permit: Permit, value: Arc<Secret>, terms: Terms) -> Self {
        Self { value, terms, permit, nonce: Nonce::next() }
    }

    /// What the record says of it.
    #[must_use]
    pub fn account(&self) -> Account<'_> {
        Account { access: self.permit.access(), grounds: self.permit.grounds(), terms: &self.terms, nonce: self.nonce }
    }

    /// Opens the lease for the holder of a receipt with `nonce`: the value and its terms.
    ///
    /// Called by `broker::release`, and nowhere else.
    pub(crate) fn open(self, nonce: Option<Nonce>) -> Option<(Arc<Secret>, Terms)> {
        (nonce == Some(self.nonce)).then_some((self.value, self.terms))
    }
}

/// What a record says of a lease: everything but its value.
#[derive(Clone, Copy, Debug)]
pub struct Account<'a> {
    /// What was allowed.
    pub access: &'a Access,
    /// On what the permission rests.
    pub grounds: &'a Grounds,
    /// What is said of the value.
    pub terms: &'a Terms,
    nonce: Nonce,
}

impl Account<'_> {
    /// The lease's nonce, for the receipt.
    #[must_use]
    pub(crate) const fn nonce(&self) -> Nonce {
        self.nonce
    }
}
