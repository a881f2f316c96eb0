//! What is shown of the agent: to an operator, and to a workload of itself.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::catalogue::{self, ProviderStatus};
use super::delivery::DeliveryStatus;
use super::{Broker, Rules};
use crate::access::{Action, Resource, Role, SecretId, Workload};
use crate::audit::Journal;
use crate::fault::{Faults, counted, shown};
use crate::kept::Look;
use crate::name::Name;
use crate::peer::{OVERFLOW_ID, Unidentified};
use crate::secret;
use crate::store::{Entry, Notes, Place, Version};
use crate::time::Boot;
use crate::token::Provider;

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
    /// The secrets that workloads may read, by name.
    pub secrets: Vec<SecretStatus>,
    /// The memory in which secrets lie.
    pub memory: MemoryStatus,
}

/// A `[secret.NAME]`, without its value.
#[derive(Clone, Debug, Serialize)]
pub struct SecretStatus {
    /// Its name.
    pub name: Name,
    /// The store in which it lives.
    pub store: Name,
    /// `fresh`, `ahead`, `stale`, `due`, `missing`, `failing`, as in [`Look`]; `unread`: nobody has asked for it.
    pub status: &'static str,
    /// The version that is known.
    pub version: Option<String>,
    /// When it was made (RFC 3339).
    pub created_at: Option<String>,
    /// How many seconds ago the store was asked for it.
    pub age: Option<u64>,
    /// How many seconds a value is taken for the one that the store has.
    pub fresh_for: Option<u64>,
    /// How many reads in a row have failed.
    pub failures: u32,
    /// How long until it is read again after a failure, in seconds, rounded up; 0: it may be read now.
    pub asked_again_in: u64,
    /// How the last read failed, if nothing has come of it since: for operators.
    pub last_failure: Option<String>,
    /// How many wait for another version.
    pub waiting: usize,
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
pub struct MemoryStatus {
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
    /// The secrets that may be permitted.
    pub secrets: Vec<Name>,
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
            secrets: secrets(broker, rules),
            memory: MemoryStatus::now(),
        }
    }
}

/// Every entry of `rules`, by name.
fn secrets(broker: &Broker, rules: &Rules) -> Vec<SecretStatus> {
    let one = |(name, entry): (&Name, &Entry)| {
        let place = rules.shelf.find(&SecretId::Entry(name.clone()));
        let look = place.as_ref().and_then(|place| broker.kept.look(place));
        SecretStatus::of(name, &entry.store, place.as_ref().map(Place::taken_for), look)
    };
    rules.shelf.entries.iter().map(one).collect()
}

impl SecretStatus {
    fn of(name: &Name, store: &Name, fresh_for: Option<Duration>, look: Option<Look>) -> Self {
        let status = look.as_ref().map_or("unread", Look::as_str);
        let (known, failed) = look.as_ref().map(|look| (look.known.clone(), look.failed.clone())).unwrap_or_default();
        Self {
            name: name.clone(),
            store: store.clone(),
            status,
            version: known.as_ref().map(|(version, ..)| version.to_string()),
            created_at: known.as_ref().map(|(_, created, _)| created.rfc3339().as_str().to_owned()),
            age: known.map(|(.., age)| age.as_secs()),
            fresh_for: fresh_for.map(|fresh_for| fresh_for.as_secs()),
            failures: look.as_ref().map_or(0, |look| look.failures),
            asked_again_in: failed.as_ref().map_or(0, |(_, wait)| catalogue::rounded_up(*wait)),
            last_failure: failed.map(|(why, _)| why.to_string()),
            waiting: look.map_or(0, |look| look.waiting),
        }
    }
}

impl Whoami {
    pub(super) fn of(rules: &Rules, who: &Workload, seen: BTreeMap<&'static str, String>) -> Self {
        let may_have = |provider: &&Arc<Provider>| rules.policy.may_ever(who, Action::Token, &provider.resource);
        let may_read = |name: &&Name| {
            rules.policy.may_ever(who, Action::Secret, &Resource::Secret(SecretId::Entry((*name).clone())))
        };
        Self {
            workload: Some(who.name.clone()),
            seen,
            providers: rules.providers.values().filter(may_have).map(|one| one.name.clone()).collect(),
            secrets: rules.shelf.entries.keys().filter(may_read).cloned().collect(),
            problem: None,
        }
    }

    pub(super) fn nobody(seen: BTreeMap<&'static str, String>, problem: &'static str) -> Self {
        Self { workload: None, seen, providers: Vec::new(), secrets: Vec::new(), problem: Some(problem) }
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

impl MemoryStatus {
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
