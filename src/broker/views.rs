//! What is shown of the agent: to an operator, and to a workload of itself.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::catalogue::{self, ProviderStatus};
use super::delivery::DeliveryStatus;
use super::{Broker, Rules};
use crate::access::Role;
use crate::audit::Journal;
use crate::fault::{Faults, counted, shown};
use crate::name::Name;
use crate::peer::{OVERFLOW_ID, Unidentified};
use crate::secret;
use crate::store::{Notes, Version};
use crate::time::Boot;

/// The state of the agent.
#[derive(Clone, Debug, Serialize)]
pub struct Status {
    /// bursar's version.
    pub version: &'static str,
    /// Whether requests are served.
    pub ready: bool,
    /// SHA-256 of the policy snapshot in force.
    pub policy: String,
    /// How many rules it has.
    pub rules: usize,
    /// The providers, by name.
    pub providers: Vec<ProviderStatus>,
    /// The stores, by name.
    pub stores: Vec<Name>,
    /// The files that are delivered, by name.
    pub deliveries: Vec<DeliveryStatus>,
    /// The log.
    pub log: LogStatus,
    /// The memory in which secrets lie.
    pub secrets: SecretsStatus,
}

/// The state of the log.
#[derive(Clone, Debug, Serialize)]
pub struct LogStatus {
    /// Its id.
    pub id: String,
    /// How many records it holds.
    pub records: u64,
    /// The number of the segment that is written.
    pub segment: u64,
    /// The error with which the disk fails, while it does: nothing is handed out then.
    pub failing_errno: Option<i32>,
    /// Whether the disk has not answered for 5 seconds: nothing is handed out then either.
    pub hanging: bool,
}

/// The memory in which secrets lie.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct SecretsStatus {
    /// How many there are.
    pub held: usize,
    /// How many bytes of memory they lie in.
    pub mapped_bytes: usize,
    /// How many of these may be swapped out, since `RLIMIT_MEMLOCK` is reached.
    pub unlocked_bytes: usize,
}

/// A version of a secret, without its value.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct VersionStatus {
    /// Its id.
    pub version: String,
    /// Its stages: `Pending`, `Current`, `Previous`, `Retired`.
    pub stages: Vec<String>,
    /// When it was made (RFC 3339).
    pub created_at: String,
    /// What made it: `put`, `rotation`; none where its store does not say.
    pub by: Option<String>,
}

impl VersionStatus {
    /// What is shown of `version`.
    #[must_use]
    pub fn of(version: &Version) -> Self {
        Self {
            version: version.id.to_string(),
            stages: version.stages.iter().map(|stage| stage.as_str().to_owned()).collect(),
            created_at: version.created.rfc3339().as_str().to_owned(),
            by: version.notes.get(Notes::BY).map(ToOwned::to_owned),
        }
    }
}

/// What bursar sees of a peer.
#[derive(Clone, Debug, Serialize)]
pub struct Whoami {
    /// The workload that the peer maps to.
    pub workload: Option<Name>,
    /// The facts, by the names that `workloads.toml` uses.
    pub seen: BTreeMap<&'static str, String>,
    /// The providers of which some token may be permitted.
    pub providers: Vec<Name>,
    /// Why it maps to none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<&'static str>,
}

impl Status {
    pub(super) fn of(broker: &Broker, rules: &Rules) -> Self {
        Self {
            version: env!("CARGO_PKG_VERSION"),
            ready: broker.ready().is_ok(),
            policy: rules.policy.digest().to_string(),
            rules: rules.policy.rules().len(),
            providers: catalogue::of(broker, rules),
            stores: rules.shelf.stores.keys().cloned().collect(),
            deliveries: broker.deliveries.all(),
            log: LogStatus::of(&broker.journal, broker.clock.now().boot),
            secrets: SecretsStatus::now(),
        }
    }
}

impl LogStatus {
    fn of(journal: &Journal, now: Boot) -> Self {
        let status = journal.status();
        Self {
            id: journal.log().to_string(),
            records: status.size,
            segment: status.segment,
            failing_errno: status.failing,
            hanging: status.hangs(now),
        }
    }
}

impl SecretsStatus {
    fn now() -> Self {
        let stats = secret::stats();
        let unlocked_bytes = stats.mapped_bytes.saturating_sub(stats.locked_bytes);
        Self { held: stats.secrets, mapped_bytes: stats.mapped_bytes, unlocked_bytes }
    }
}

/// What whoami says to a peer that is nobody.
pub(super) const fn problem(uid: u32, why: &Unidentified) -> &'static str {
    if uid == OVERFLOW_ID && matches!(why, Unidentified::NoMatch) {
        "uid 65534 is what the kernel shows for a uid that means nothing here (of another user namespace, or `nobody`), so \
         no entry can select on it; give this process a uid of its own, a unit, or a listener"
    } else {
        why.caller(Role::Workload)
    }
}

/// Says in the agent's log what an operator's reload came to, as for SIGHUP; all faults went to the operator.
pub(super) fn tell_of(reloaded: &Result<(), Faults>, operator: &Name) {
    let faults = match reloaded {
        Ok(()) => return tracing::info!("reloaded by `{operator}`: the new configuration and policies are in force"),
        Err(faults) => faults,
    };
    let count = counted(faults.iter().count() as u64, "fault");
    let first =
        faults.iter().next().map(|first| format!("{}: {}", first.place, shown(&first.what))).unwrap_or_default();
    tracing::warn!(
        "not reloaded by `{operator}`, the old configuration and policies stay: {count}; the first: {first}"
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_without_a_uid_is_told_so() {
        assert!(problem(OVERFLOW_ID, &Unidentified::NoMatch).contains("65534"));
        assert_eq!(problem(1000, &Unidentified::NoMatch), Unidentified::NoMatch.caller(Role::Workload));
        assert_eq!(problem(OVERFLOW_ID, &Unidentified::Gone), Unidentified::Gone.caller(Role::Workload));
    }
}
