//! The book: records, and the receipts that prove them durable. The format is `docs/formats.md`.

use std::fmt;
use std::time::Duration;

use crate::access::{Access, Action, Audiences, Grounds, Resource, Scopes, Workload};
use crate::account::{Account, Nonce};
use crate::crypto::Fingerprint;
use crate::name::Name;

/// What is written down. Rendered to one line by [`line`]; the journal adds version, index and time.
#[derive(Clone, Debug)]
pub enum Record<'a> {
    /// Decided, obtained, and about to be handed to the kernel.
    Release(Release<'a>),
    /// Refused, by whomever.
    Refusal(Refusal<'a>),
    /// Refusals that were counted and not written singly.
    Suppressed(Suppressed<'a>),
    /// About to have an effect at the far side.
    Intent(Intent<'a>),
    /// What became of an intent.
    Outcome(Outcome<'a>),
    /// An operator's action was done (or failed); its permission is part of it.
    Operation(Operation<'a>),
    /// Configuration and policy were read anew.
    Reload(Reload<'a>),
}

/// See [`Record::Release`].
#[derive(Clone, Copy, Debug)]
pub struct Release<'a> {
    /// What is handed over.
    pub account: Account<'a>,
    /// From the end of the request's head to here.
    pub took: Duration,
    /// The trace id of the caller's `traceparent`, if it sent one.
    pub trace: Option<TraceId>,
}

/// The trace id of W3C Trace Context: 16 bytes, not all zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceId(pub [u8; 16]);

/// See [`Record::Refusal`].
#[derive(Clone, Copy, Debug)]
pub struct Refusal<'a> {
    /// The error code that the caller saw.
    pub code: &'static str,
    /// Who was refused, where that is known.
    pub who: Option<&'a Workload>,
    /// The uid of the connector.
    pub uid: Option<u32>,
    /// What was asked, as far as it was understood. A resource that does not exist stands without its name.
    pub asked: Option<Asked<'a>>,
    /// On what the refusal rests, where policy refused.
    pub grounds: Option<&'a Grounds>,
    /// What the operator should know and the caller did not see: no secret, at most 200 characters are kept.
    pub detail: &'a str,
    /// The trace id of the caller's `traceparent`, if it sent one.
    pub trace: Option<TraceId>,
}

/// What was asked, as far as it was understood.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// The action.
    pub action: Action,
    /// The resource; none where it does not exist.
    pub resource: Option<&'a Resource>,
    /// The scopes that would have been sent.
    pub scopes: Option<&'a Scopes>,
    /// The audiences that would have been sent.
    pub audience: Option<&'a Audiences>,
}

impl<'a> Asked<'a> {
    /// All of `access`.
    #[must_use]
    pub fn of(access: &'a Access) -> Self {
        Self {
            action: access.action,
            resource: Some(&access.resource),
            scopes: Some(&access.scopes),
            audience: Some(&access.audience),
        }
    }
}

/// See [`Record::Suppressed`].
#[derive(Clone, Copy, Debug)]
pub struct Suppressed<'a> {
    /// The uid whose refusals were counted; none: all unidentified peers together.
    pub uid: Option<u32>,
    /// How many, by error code, sorted by code.
    pub counts: &'a [(&'static str, u64)],
}

/// On whose behalf something is done at the far side.
#[derive(Clone, Copy, Debug)]
pub enum Actor<'a> {
    /// A workload's or operator's request.
    Workload(&'a Workload),
    /// bursar itself: a background refresh, a rotation.
    Bursar,
}

/// See [`Record::Intent`].
#[derive(Clone, Copy, Debug)]
pub struct Intent<'a> {
    /// On whose behalf.
    pub actor: Actor<'a>,
    /// What will be done.
    pub effect: Effect<'a>,
}

/// An act at the far side.
#[derive(Clone, Copy, Debug)]
pub enum Effect<'a> {
    /// A token is asked for.
    Mint {
        /// Of which provider.
        provider: &'a Name,
        /// With which scopes.
        scopes: &'a Scopes,
        /// For which audiences.
        audience: &'a Audiences,
    },
}

/// See [`Record::Outcome`].
#[derive(Clone, Copy, Debug)]
pub struct Outcome<'a> {
    /// The index of the intent.
    pub intent: u64,
    /// What came of it.
    pub result: OutcomeOf<'a>,
    /// How long the act took.
    pub took: Duration,
}

/// What came of an act at the far side.
#[derive(Clone, Copy, Debug)]
pub enum OutcomeOf<'a> {
    /// A token came.
    Minted {
        /// Its fingerprint.
        fingerprint: Fingerprint,
        /// The scopes that were granted.
        scopes: &'a Scopes,
        /// Its lifetime from the moment the request was sent.
        lifetime: Duration,
    },
    /// It failed, or its success is not known.
    Failed {
        /// The error code.
        code: &'static str,
        /// Why, without secrets; at most 200 characters are kept.
        detail: &'a str,
    },
}

/// See [`Record::Operation`].
#[derive(Clone, Copy, Debug)]
pub struct Operation<'a> {
    /// What was allowed.
    pub access: &'a Access,
    /// On what the permission rests.
    pub grounds: &'a Grounds,
    /// `ok`, or the error code.
    pub result: &'static str,
    /// What the auditor should know: the version written, the number listed. No secret.
    pub detail: &'a str,
}

/// See [`Record::Reload`].
#[derive(Clone, Copy, Debug)]
pub struct Reload<'a> {
    /// SHA-256 of the policy snapshot in force from here on.
    pub snapshot: crate::crypto::Digest,
    /// `ok`, or why the old one stays (the first fault; the number of faults).
    pub result: Result<(), &'a str>,
}

/// Proof that a record is durable.
#[derive(Debug)]
#[must_use]
pub struct Receipt {
    nonce: Option<Nonce>,
    decision: DecisionId,
}

impl Receipt {
    /// Called by the journal when the record is durable, and nowhere else: `tests/house.rs` lists the place.
    #[expect(dead_code, reason = "the journal is being written")]
    pub(crate) fn issue(nonce: Option<Nonce>, decision: DecisionId) -> Self {
        Self { nonce, decision }
    }

    /// The nonce of the lease that was recorded, if it was a release.
    pub(crate) fn nonce(&self) -> Option<Nonce> {
        self.nonce
    }

    /// What names the record to callers and operators.
    #[must_use]
    pub fn decision(&self) -> DecisionId {
        self.decision
    }
}

/// Names a record: the first 8 hexadecimal digits of the log id, a hyphen, and the record's index.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct DecisionId {
    /// The first 4 bytes of the log id.
    pub log: [u8; 4],
    /// The index of the record: its line number over the valid part of all segments, from 0.
    pub index: u64,
}

impl fmt::Display for DecisionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.log.iter().try_for_each(|byte| write!(f, "{byte:02x}"))?;
        write!(f, "-{}", self.index)
    }
}

/// The record could not be made durable; nothing may be released.
#[derive(Clone, Debug, thiserror::Error)]
pub enum NotDurable {
    /// Writing or syncing failed; the batch is void.
    #[error("the audit record could not be made durable: {0}")]
    Io(String),
    /// The record is longer than a line may be.
    #[error("the audit record would be {0} bytes long; a line holds 8192")]
    TooLong(usize),
    /// The journal has stopped.
    #[error("the audit journal has stopped")]
    Stopped,
}
