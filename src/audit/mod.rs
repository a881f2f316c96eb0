//! The book: records, and the receipts that prove them durable. The format is `docs/formats.md`.
//!
//! A record becomes a line ([`mod@line`]); the [`journal`] gathers the lines of all who wait into one write and
//! one sync; what a batch becomes when the disk fails is decided in `commit`. [`form`] says what a line may
//! look like, [`chain`] which bytes of a directory are the log, [`verify`] and [`query`] read it.

pub mod archive;
pub mod backwards;
mod batch;
mod body;
pub mod chain;
mod commit;
mod error;
pub mod form;
mod gather;
#[cfg(test)]
mod golden;
mod ids;
pub mod journal;
pub mod keys;
pub mod layout;
pub mod line;
mod pending;
pub mod query;
mod reader;
pub mod recover;
pub mod refusals;
pub mod segment;
pub mod stores;
pub mod told;
pub mod verify;
mod writer;

use std::path::PathBuf;
use std::time::Duration;

use crate::access::{Access, Action, Audiences, Grounds, Resource, Scopes, SecretId, Why, Workload};
use crate::account::{Account, Nonce};
use crate::crypto::{Digest, Fingerprint};
use crate::name::Name;
use crate::telemetry::trace::Parent;

pub use batch::Sink;
pub use error::{AuditError, NotDurable};
pub use ids::{DecisionId, LogId, NotADecisionId, NotALogId};
pub use journal::Journal;
pub use pending::Pending;
pub use stores::{Noted, Standing};

/// The `v` of every line that this version writes.
pub const VERSION: u8 = 1;
/// The longest line, in bytes, without its newline.
pub const MAX_LINE_BYTES: usize = 8_192;
/// How many determining policies a record lists; their number stands beside the list.
pub const MAX_POLICIES: usize = 16;
/// The largest number in a line: what every JSON reader holds exactly (RFC 8259 §6).
pub const MAX_NUMBER: u64 = 1 << 53;

/// What is written down. Rendered to one line by [`mod@line`]; the journal adds version, index and time.
///
/// The journal writes `start`, `stop`, `segment` and `reopen` itself.
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
    /// The same without an agent and so without a policy: root of trust is who may open the files.
    Offline(Offline<'a>),
    /// Configuration and policy were read anew.
    Reload(Reload<'a>),
    /// How a store stands that counts its changes.
    Store(&'a Standing, Noted),
}

impl Record<'_> {
    /// Whether it tells of an effect or a refusal, so that it is written anew when its batch was void.
    ///
    /// The others announce what then did not happen: a release that was not handed over, an intent that
    /// was not followed, rules that did not come into force.
    #[must_use]
    pub const fn outlives_a_void_batch(&self) -> bool {
        match self {
            Self::Release(_) | Self::Intent(_) => false,
            Self::Reload(reload) => reload.result.is_err(),
            Self::Refusal(_)
            | Self::Suppressed(_)
            | Self::Outcome(_)
            | Self::Operation(_)
            | Self::Offline(_)
            | Self::Store(..) => true,
        }
    }

    const fn nonce(&self) -> Option<Nonce> {
        match self {
            Self::Release(release) => Some(release.account.nonce()),
            Self::Refusal(_)
            | Self::Suppressed(_)
            | Self::Intent(_)
            | Self::Outcome(_)
            | Self::Operation(_)
            | Self::Offline(_)
            | Self::Reload(_)
            | Self::Store(..) => None,
        }
    }
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

impl TraceId {
    /// The trace id of a `traceparent` header (W3C Trace Context §3.2): `00-<32 hex>-<16 hex>-<2 hex>`, or a later
    /// version that begins like it. None for anything else, and for the invalid all-zero id.
    #[must_use]
    pub fn of_traceparent(text: &str) -> Option<Self> {
        Parent::of_traceparent(text).map(|parent| Self(parent.trace))
    }
}

/// See [`Record::Refusal`].
#[derive(Clone, Copy, Debug, Default)]
pub struct Refusal<'a> {
    /// The error code that the caller saw, or `sender_mismatch`, which no caller sees.
    pub code: &'static str,
    /// Who was refused, where that is known.
    pub who: Option<&'a Workload>,
    /// The uid of the connector.
    pub uid: Option<u32>,
    /// What was asked, as far as it was understood. A resource that does not exist stands without its name.
    pub asked: Option<Asked<'a>>,
    /// On what the verdict rests, where policy was asked.
    pub grounds: Option<&'a Grounds>,
    /// Why policy refused; none where it permitted, and the refusal came from elsewhere.
    pub why: Option<Why>,
    /// What the operator should know and the caller did not see: no secret, at most 200 bytes as written are kept.
    pub detail: &'a str,
    /// The trace id of the caller's `traceparent`, if it sent one.
    pub trace: Option<TraceId>,
}

/// The code of a refusal that closed a connection because another process than the connector wrote to it.
pub const SENDER_MISMATCH: &str = "sender_mismatch";

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
    /// Whose refusals were counted.
    pub whose: Whose,
    /// How many, by error code, sorted by code.
    pub counts: &'a [(&'static str, u64)],
    /// The index of the refusal record that was named to those who were counted here.
    pub under: Option<u64>,
}

/// Whose refusals are counted together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Whose {
    /// Those of the workloads of one uid.
    Uid(u32),
    /// Those of all peers that are no workload.
    Unidentified,
    /// Those of the workloads of all uids beyond the number that is counted singly.
    Others,
}

/// On whose behalf something is done at the far side.
#[derive(Clone, Copy, Debug)]
pub enum Actor<'a> {
    /// A workload's or operator's request.
    Workload(&'a Workload),
    /// bursar itself: a background refresh, a rotation.
    Bursar,
    /// A command on the files while no agent runs, by the uid of its process.
    Offline(u32),
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
    /// A token that is held is to be ended.
    Revoke {
        /// Of which provider.
        provider: &'a Name,
        /// The scopes with which it was asked for.
        scopes: &'a Scopes,
        /// The audiences for which it was asked for.
        audience: &'a Audiences,
    },
    /// A new version of a secret is put into its store.
    Put {
        /// The secret, as policy names it.
        secret: &'a SecretId,
    },
    /// A step of a rotation.
    Rotate {
        /// Which.
        act: Act,
        /// Of which secret, as policy names it.
        secret: &'a SecretId,
        /// Of which of its versions, where there is one.
        version: Option<&'a str>,
    },
    /// A store is taken as it is, though the log knows a newer one or another.
    Accept {
        /// Which, by its name in the configuration.
        store: &'a Name,
    },
    /// A version of a secret is to be retired in its store.
    Retire {
        /// The secret, as policy names it.
        secret: &'a SecretId,
    },
    /// The key of a store is to be changed.
    Rekey {
        /// Which, by its name in the configuration.
        store: &'a Name,
    },
    /// A copy of a store, sealed as it is, is to be handed out.
    Backup {
        /// Which, by its name in the configuration.
        store: &'a Name,
    },
    /// A copy is to take the place of a store, and to be taken as it is.
    Restore {
        /// Which, by its name in the configuration.
        store: &'a Name,
    },
    /// Something is done at a file that the configuration has delivered.
    Delivery {
        /// What.
        act: DeliveryAct,
        /// Which, by its name in the configuration.
        delivery: &'a Name,
        /// The file; at most 200 bytes as written are kept.
        path: &'a str,
    },
}

/// What is done at a delivered file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeliveryAct {
    /// It is written.
    Deliver,
    /// Its reader is told: by a signal or a command.
    Notify,
    /// It is taken away.
    Withdraw,
}

impl DeliveryAct {
    /// The word in records: `effect`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Deliver => "deliver",
            Self::Notify => "notify",
            Self::Withdraw => "withdraw",
        }
    }
}

/// A step of a rotation, at the far side or at the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// A value is made.
    Create,
    /// The far side is told to accept it.
    Set,
    /// It is used there.
    Test,
    /// It becomes Current.
    Promote,
    /// The former one is ended there.
    Revoke,
    /// What will not become Current is ended there.
    Undo,
}

impl Act {
    /// The word in records.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Set => "set",
            Self::Test => "test",
            Self::Promote => "promote",
            Self::Revoke => "revoke",
            Self::Undo => "undo",
        }
    }
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
        /// Its lifetime from the moment the request was sent; none where the provider did not say.
        lifetime: Option<Duration>,
    },
    /// The provider says that a token is ended.
    Revoked {
        /// Its fingerprint.
        fingerprint: Fingerprint,
    },
    /// A token was not ended, or its end is not known.
    NotRevoked {
        /// Its fingerprint.
        fingerprint: Fingerprint,
        /// The error code.
        code: &'static str,
        /// Why, without secrets; at most 200 bytes as written are kept.
        detail: &'a str,
    },
    /// A version was stored, and is Current.
    Stored {
        /// Its id.
        version: &'a str,
    },
    /// A store was accepted.
    Accepted {
        /// Its own id.
        id: &'a str,
    },
    /// A store was rekeyed, copied or restored, or a version was retired.
    Done {
        /// What the auditor should know: the version's id, the number of values. No secret.
        detail: &'a str,
    },
    /// It failed, or its success is not known.
    Failed {
        /// The error code.
        code: &'static str,
        /// Why, without secrets; at most 200 bytes as written are kept.
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

/// See [`Record::Offline`].
#[derive(Clone, Copy, Debug)]
pub struct Offline<'a> {
    /// The uid of the process that did it.
    pub uid: u32,
    /// What was done.
    pub action: Action,
    /// To what.
    pub resource: &'a Resource,
    /// `ok`, or the error code.
    pub result: &'static str,
    /// What the auditor should know. No secret.
    pub detail: &'a str,
}

/// See [`Record::Reload`].
#[derive(Clone, Copy, Debug)]
pub struct Reload<'a> {
    /// SHA-256 of the policy snapshot in force from here on.
    pub snapshot: Digest,
    /// `ok`, or why the old one stays (the first fault; the number of faults).
    pub result: Result<(), &'a str>,
}

/// What a process says of itself when it opens the log: the `start` record.
#[derive(Clone, Debug)]
pub struct Start<'a> {
    /// Which log.
    pub log: LogId,
    /// The agent's id.
    pub agent: &'a str,
    /// The host's name.
    pub host: &'a str,
    /// The kernel's boot id.
    pub boot: &'a str,
    /// bursar's version.
    pub version: &'a str,
    /// What opens the log.
    pub mode: Mode,
    /// The process.
    pub pid: u32,
    /// Its uid.
    pub uid: u32,
    /// SHA-256 of the policy snapshot in force; none where no policy was read.
    pub policy: Option<Digest>,
}

/// What opens the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// The daemon.
    Agent,
    /// A command that changes a store while no agent runs.
    Offline,
}

impl Mode {
    /// The word in records.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Agent => "agent",
            Self::Offline => "offline",
        }
    }
}

/// Where the log lies, and how careful it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The directory of the segments.
    pub dir: PathBuf,
    /// What has to have happened before a record counts as durable.
    pub durability: Durability,
    /// The disk space that a segment may take, in bytes; the next one is begun before it is used up.
    pub segment_bytes: u64,
    /// The disk space set aside ahead of what is written, in bytes; at most a quarter of a segment is used.
    pub reserve_bytes: u64,
}

/// What has to have happened before a record counts as durable.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durability {
    /// `fdatasync` returned: it survives a power cut.
    #[default]
    Disk,
    /// `write` returned: it survives the process, and not the machine.
    Os,
}

impl Durability {
    /// The word in records and in the configuration.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Disk => "disk",
            Self::Os => "os",
        }
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_traceparent_is_read_as_w3c_says() {
        let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
        let read = |text: &str| TraceId::of_traceparent(text).map(|id| format!("{:032x}", u128::from_be_bytes(id.0)));
        for good in ["00-T-00f067aa0ba902b7-01", "cc-T-00f067aa0ba902b7-01-more"] {
            assert_eq!(read(&good.replace('T', trace)).as_deref(), Some(trace), "{good}");
        }
        for bad in ["", "00-T-00f067aa0ba902b7", "ff-T-00f067aa0ba902b7-01", "00-T-00f067aa0ba902b7-01-more"] {
            assert_eq!(read(&bad.replace('T', trace)), None, "{bad}");
        }
        assert_eq!(read("00-00000000000000000000000000000000-00f067aa0ba902b7-01"), None);
        assert_eq!(read("00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01"), None);
    }
}
