//! Files for programs that cannot ask: who a delivery is, what it wants, and what is shown of it. Nobody asks for one, so
//! the configuration is what attests it.

use std::collections::BTreeMap;
use std::future::ready;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::Serialize;

use super::case::Asker;
use super::{Broker, Refused, Released, Why};
use crate::access::{Action, Audiences, Role, Scopes, Workload};
use crate::account::Terms;
use crate::audit::{Actor, DeliveryAct, Effect, Intent, Outcome, OutcomeOf, Record};
use crate::crypto::Fingerprint;
use crate::name::Name;
use crate::peer::{Registry, Unidentified};
use crate::telemetry::metrics::{Metric, Page, Tally};

/// For whom something is put where: what the configuration says of a delivery to the broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    /// Its name in the configuration.
    pub name: Name,
    /// The workload for which it is.
    pub workload: Name,
    /// Who owns the file.
    pub uid: u32,
    /// The file, as records show it.
    pub path: Box<str>,
}

/// A value that a delivery wants.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Want {
    /// The current version of a `[secret.NAME]`.
    Secret(Name),
    /// A token.
    Token {
        /// Of which provider.
        provider: Name,
        /// With which scopes; none: the provider's `default_scopes`.
        scopes: Scopes,
        /// For which audiences; none: all that the provider lists.
        audience: Audiences,
    },
}

impl Want {
    pub(super) const fn action(&self) -> Action {
        match self {
            Self::Secret(_) => Action::Secret,
            Self::Token { .. } => Action::Token,
        }
    }
}

/// What tells one value from the next without showing it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mark {
    /// The version of a secret.
    Version(Arc<str>),
    /// The fingerprint of a token.
    Token(Fingerprint),
}

impl Mark {
    /// That of a value with these terms.
    #[must_use]
    pub fn of(terms: &Terms) -> Self {
        match terms {
            Terms::Token(terms) => Self::Token(terms.fingerprint),
            Terms::Secret(terms) => Self::Version(Arc::clone(&terms.version)),
        }
    }
}

/// The values of a delivery, of which the records are durable, in the order of its wants.
#[derive(Debug)]
pub struct Handover {
    /// The index of the intent.
    pub intent: u64,
    /// The values.
    pub values: Vec<Released>,
}

impl Asker for Order {
    fn uid(&self) -> u32 {
        self.uid
    }

    fn attest(
        &self,
        registry: &Registry,
        role: Role,
    ) -> impl Future<Output = Result<Arc<Workload>, Unidentified>> + Send {
        let known = role == Role::Workload && registry.has_workload(&self.workload);
        let who = || Arc::new(Workload::of_delivery(self.workload.clone(), self.uid, &self.name));
        ready(known.then(who).ok_or(Unidentified::NoMatch))
    }
}

impl Refused {
    /// Whether this is policy's word, so that what was delivered before is to be withdrawn.
    #[must_use]
    pub const fn is_denial(&self) -> bool {
        matches!(self.why, Why::AccessDenied | Why::Unidentified(..))
    }
}

/// How a delivery is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum DeliveryState {
    /// It was not tried yet.
    Waiting,
    /// The file holds what it should.
    Current,
    /// It fails: the file is as it was.
    Failing,
    /// Policy does not allow it.
    Denied,
}

impl DeliveryState {
    const ALL: [Self; 4] = [Self::Waiting, Self::Current, Self::Failing, Self::Denied];

    /// The word in what operators see.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Current => "current",
            Self::Failing => "failing",
            Self::Denied => "denied",
        }
    }
}

/// What is shown of a delivery.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DeliveryStatus {
    /// Its name.
    pub name: Name,
    /// For whom it is.
    pub workload: Name,
    /// The file.
    pub path: Box<str>,
    /// How it is.
    pub state: DeliveryState,
    /// When the file was last written, or found to hold what it should (RFC 3339); none: not by this agent.
    pub written_at: Option<String>,
    /// What went wrong last, while it does.
    pub error: Option<String>,
    /// Whether a token in the file has ended.
    pub expired: bool,
}

const DELIVERIES: Metric =
    Metric::gauge("bursar_deliveries", "How many deliveries are so: waiting, current, failing, denied.");
const EXPIRED: Metric =
    Metric::gauge("bursar_deliveries_expired", "How many delivered files hold a token that has ended.");
const ACTS: Metric = Metric::counter(
    "bursar_delivery_acts_total",
    "What was done at delivered files: deliver, notify (a signal, a command), withdraw; and each in vain.",
);

/// What is known of deliveries, for those who look.
#[derive(Debug)]
pub(super) struct Board {
    shown: Mutex<BTreeMap<Name, DeliveryStatus>>,
    acts: Tally<6>,
}

impl Default for Board {
    fn default() -> Self {
        let words = ["deliver", "notify", "withdraw", "deliver_failed", "notify_failed", "withdraw_failed"];
        Self { shown: Mutex::default(), acts: Tally::of(words) }
    }
}

impl Board {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<Name, DeliveryStatus>> {
        self.shown.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn all(&self) -> Vec<DeliveryStatus> {
        self.lock().values().cloned().collect()
    }

    pub(super) fn write(&self, page: &mut Page) {
        let shown = self.all();
        let mut family = page.family(&DELIVERIES);
        for state in DeliveryState::ALL {
            family.sample(&[("state", state.as_str())], shown.iter().filter(|one| one.state == state).count());
        }
        page.single(&EXPIRED, shown.iter().filter(|one| one.expired).count());
        page.family(&ACTS).tally(&[], "act", &self.acts);
    }

    fn count(&self, act: DeliveryAct, done: bool) {
        self.acts.count(match (act, done) {
            (act, true) => act.as_str(),
            (DeliveryAct::Deliver, false) => "deliver_failed",
            (DeliveryAct::Notify, false) => "notify_failed",
            (DeliveryAct::Withdraw, false) => "withdraw_failed",
        });
    }
}

impl Broker {
    /// Shows `status` to those who look from now on.
    pub fn show_delivery(&self, status: DeliveryStatus) {
        self.deliveries.lock().insert(status.name.clone(), status);
    }

    /// Shows nothing of the delivery `name` any more.
    pub fn forget_delivery(&self, name: &Name) {
        self.deliveries.lock().remove(name);
    }

    /// Announces an act at a delivered file; its index, for [`Self::acted`]. Not to be done unless this succeeds.
    ///
    /// # Errors
    /// [`Refused`]: the record could not be made durable.
    pub async fn announce(&self, order: &Order, act: DeliveryAct) -> Result<u64, Refused> {
        let who = Workload::of_delivery(order.workload.clone(), order.uid, &order.name);
        let effect = Effect::Delivery { act, delivery: &order.name, path: &order.path };
        let intent = Record::Intent(Intent { actor: Actor::Workload(&who), effect });
        Ok(self.journal.append(&intent).await?.decision().index)
    }

    /// Records what became of an act that was announced as `intent`: how it was done, or the code and the text of what
    /// went wrong, without secrets.
    pub fn acted(
        &self,
        act: DeliveryAct,
        intent: u64,
        done: Result<&'static str, (&'static str, &str)>,
        took: Duration,
    ) {
        self.deliveries.count(act, done.is_ok());
        let result = match done {
            Ok(how) => OutcomeOf::Done { detail: how },
            Err((code, detail)) => OutcomeOf::Failed { code, detail },
        };
        // A crash here leaves an intent without outcome: whoever looks sees what stands in the file.
        drop(self.journal.enqueue(&Record::Outcome(Outcome { intent, result, took })));
    }
}
