//! The one page: attest → judge → obtain → record → release.
//!
//! Every verb of both sockets is one function, and every function keeps this order. Who has read this
//! page has read what bursar does. The types see to it that no step is left out: policy alone makes a
//! [`Permit`], the engines make a [`Lease`] from nothing else, the journal alone makes a [`Receipt`], and
//! only a lease together with the receipt of its own record becomes [`Released`], which is all that the
//! door can turn into a body.
//!
//! The verbs of workloads stand here. Those of operators keep the same order in `operators`, and in `upkeep` where they are
//! about whole stores.
//!
//! [`Permit`]: crate::access::Permit

mod case;
mod catalogue;
mod delivery;
mod listener;
mod metrics;
mod operators;
mod refused;
mod rotations;
mod seats;
mod upkeep;
mod views;
mod watch;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arc_swap::ArcSwap;
use futures_util::future::BoxFuture;
use tokio::sync::watch::Sender;
use tokio::time::timeout;

use crate::access::{Access, Action, Audiences, Role, Scopes};
use crate::account::{Lease, Terms};
use crate::audit::{DecisionId, DeliveryAct, Journal, Receipt, Refusal, TraceId};
use crate::crypto::Random;
use crate::events::Bus;
use crate::fault::Faults;
use crate::kept;
use crate::name::Name;
use crate::peer::{Peer, Registry, Unidentified};
use crate::policy::Snapshot;
use crate::retry::{Quotas, Rate};
use crate::rotation;
use crate::secret::Secret;
use crate::store::{Shelf, VersionId, Which};
use crate::telemetry::trace::{Kind, Parent, Tracer, Trail};
use crate::time::{Clock, Moment, Wall};
use crate::token::{Provider, Rejection};

use case::Case;
use seats::Seats;

pub use catalogue::{About, BudgetStatus, EndpointStatus, ProviderStatus, Readiness};
use delivery::Board;
pub use delivery::{DeliveryState, DeliveryStatus, Handover, Mark, Order, Want};
pub use listener::{Listener, News, Subject};
use metrics::Counts;
pub use operators::{PUT_LEASE, standing};
pub use refused::{Done, Refused, Why};
pub use rotations::{How, RotateAsk, Rotated};
pub use views::{Status, VersionStatus, Whoami};
pub use watch::tell_of_changes;

/// How long a verdict holds: it is for the moment of the question. Whoever asks again is judged again.
const VERDICT_HOLDS: Duration = Duration::from_secs(30);
/// The longest wait for another version of a secret.
pub const LONGEST_WAIT: Duration = Duration::from_secs(300);

/// What one request is judged by. It is read once for each, so that a reload falls between two requests.
#[derive(Debug)]
pub struct Rules {
    /// Who is who.
    pub registry: Registry,
    /// What they may have.
    pub policy: Snapshot,
    /// What there is to have.
    pub providers: BTreeMap<Name, Arc<Provider>>,
    /// What the catalogue says of them.
    pub about: BTreeMap<Name, About>,
    /// Where secrets live.
    pub shelf: Shelf,
    /// How often one workload may ask.
    pub per_workload: Option<Rate>,
}

/// Reads configuration and policies anew: the roof's part of a reload.
pub trait Reread: Send + Sync + 'static {
    /// The new rules, archived, or everything that is wrong with them. Nothing has changed yet.
    fn reread(&self) -> BoxFuture<'_, Result<Renewed<'_>, Faults>>;
}

/// Rules that were read anew and are not in force yet.
pub struct Renewed<'a> {
    /// The rules.
    pub rules: Rules,
    /// What changes beside them: called when the record of the reload is durable, and not at all if it is not.
    pub enact: Box<dyn FnOnce() + Send + 'a>,
}

/// The broker: everything that a request needs.
pub struct Broker {
    rules: ArcSwap<Rules>,
    journal: Journal,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
    reread: Arc<dyn Reread>,
    /// Held from reading to coming into force, so that what was read later is what stays.
    reloading: tokio::sync::Mutex<()>,
    /// What each workload has had of its requests.
    requests: Mutex<Quotas>,
    /// Turns true when the agent stops: who waits or listens is let go.
    draining: Sender<bool>,
    /// Sends when other rules have come into force: who waits is judged by them.
    renewed: Sender<()>,
    waiting: Seats,
    listening: Seats,
    counts: Counts,
    tracer: Tracer,
    events: Bus,
    kept: Arc<kept::Engine>,
    deliveries: Board,
    rotation: Option<Arc<rotation::Engine>>,
}

/// A request for a secret, as understood.
#[derive(Clone, Debug)]
pub struct SecretAsk<'a> {
    /// The secret's name as it was written.
    pub name: &'a str,
    /// Which version of it.
    pub which: Which,
    /// Whether the caller waits, and for what.
    pub wait: Option<Wait>,
    /// The caller's span, if it named one.
    pub trace: Option<Parent>,
}

/// What somebody waits for: that the current version is another than those that it has.
#[derive(Clone, Debug)]
pub struct Wait {
    /// The versions that it has; with none it has nothing to wait for.
    pub held: Vec<VersionId>,
    /// How long it waits, at most [`LONGEST_WAIT`].
    pub most: Duration,
}

/// A request for a token, as understood.
#[derive(Clone, Debug)]
pub struct TokenAsk<'a> {
    /// The provider's name as it was written.
    pub provider: &'a str,
    /// The scopes that were asked for.
    pub scopes: Scopes,
    /// The audiences that were asked for.
    pub audience: Audiences,
    /// How long the token has to live at least.
    pub min_ttl: Duration,
    /// The caller's span, if it named one.
    pub trace: Option<Parent>,
}

impl Broker {
    /// A broker that judges by `rules` and records in `journal`.
    #[must_use]
    pub fn new(
        rules: Rules,
        journal: Journal,
        clock: Arc<dyn Clock>,
        random: Arc<dyn Random>,
        reread: Arc<dyn Reread>,
    ) -> Self {
        let (reloading, requests, draining, renewed, waiting) = Default::default();
        let (listening, counts, tracer, deliveries) = Default::default();
        let rules = ArcSwap::from_pointee(rules);
        let events = Bus::default();
        let kept = Arc::new(kept::Engine::new(Arc::clone(&clock), Arc::clone(&random), events.clone()));
        Self {
            rules,
            journal,
            clock,
            random,
            reread,
            reloading,
            requests,
            draining,
            renewed,
            waiting,
            listening,
            counts,
            tracer,
            events,
            kept,
            deliveries,
            rotation: None,
        }
    }

    /// Where is told what has happened to what workloads have.
    #[must_use]
    pub const fn events(&self) -> &Bus {
        &self.events
    }

    /// The secrets that are held.
    #[must_use]
    pub fn kept(&self) -> &Arc<kept::Engine> {
        &self.kept
    }

    /// The same, which traces requests for tokens.
    #[must_use]
    pub fn traced(mut self, tracer: Tracer) -> Self {
        self.tracer = tracer;
        self
    }

    /// The same, with `engine` for the secrets that are rotated.
    #[must_use]
    pub fn rotating(mut self, engine: Arc<rotation::Engine>) -> Self {
        self.rotation = Some(engine);
        self
    }

    /// Hands a workload the token that policy allows it.
    ///
    /// # Errors
    /// [`Refused`], with the record of it where there is one.
    pub async fn token(&self, peer: &Peer, ask: TokenAsk<'_>) -> Result<Released, Refused> {
        let began = self.clock.now();
        let mut trail = self.tracer.begin("token", Kind::Server, ask.trace, began);
        let answer = self.token_since(began, peer, ask, &mut trail).await;
        let ended = answer.as_ref().map_or_else(|_| self.clock.now(), Released::at);
        self.counts.answered(&answer, ended.since(began));
        self.tracer.end(metrics::noted(trail, &answer), ended);
        answer
    }

    async fn token_since(
        &self,
        began: Moment,
        peer: &Peer,
        ask: TokenAsk<'_>,
        trail: &mut Option<Trail>,
    ) -> Result<Released, Refused> {
        let rules = self.rules.load_full();
        let trace = ask.trace.map(|parent| TraceId(parent.trace));
        let case = Case { broker: self, peer, action: Action::Token, trace };

        let who = case.attest(&rules, Role::Workload).await?;
        self.step(trail, "attest");
        case.within_its_rate(&rules, &who, began).await?;
        let provider = case.provider(&rules, &who, ask.provider).await?;
        let access = case.listed(&rules, who, provider, ask.scopes, ask.audience).await?;
        metrics::note(trail, &access);
        let permit = case.judge(&rules, access, began).await?;
        self.step(trail, "judge");
        let lease = case.obtained(provider.obtain(permit, ask.min_ttl).await).await?;
        self.step(trail, "obtain");
        let released = case.released(lease, began).await?;
        self.step(trail, "record");
        provider.counts.served.count(released.terms().freshness().as_str());
        Ok(released)
    }

    /// Hands a workload the secret that policy allows it; where it waits for another version than it has, once there is
    /// one or its wait is over. It is judged before it waits, and again for what it is handed then.
    ///
    /// # Errors
    /// [`Refused`], with the record of it where there is one.
    pub async fn secret(&self, peer: &Peer, ask: SecretAsk<'_>) -> Result<Released, Refused> {
        if let Some(wait) = ask.wait.as_ref().filter(|wait| !wait.held.is_empty()) {
            timeout(wait.most, self.wait(peer, &ask, wait)).await.unwrap_or(Ok(()))?;
        }
        let began = self.clock.now();
        let mut trail = self.tracer.begin("secret", Kind::Server, ask.trace, began);
        let answer = self.secret_since(began, peer, ask, &mut trail).await;
        let ended = answer.as_ref().map_or_else(|_| self.clock.now(), Released::at);
        self.counts.answered_secret(&answer, ended.since(began));
        self.tracer.end(metrics::noted(trail, &answer), ended);
        answer
    }

    async fn secret_since(
        &self,
        began: Moment,
        peer: &Peer,
        ask: SecretAsk<'_>,
        trail: &mut Option<Trail>,
    ) -> Result<Released, Refused> {
        let rules = self.rules.load_full();
        let trace = ask.trace.map(|parent| TraceId(parent.trace));
        let case = Case { broker: self, peer, action: Action::Secret, trace };

        let who = case.attest(&rules, Role::Workload).await?;
        self.step(trail, "attest");
        case.within_its_rate(&rules, &who, began).await?;
        let name = who.name.clone();
        let access = case.entry(&rules, who, ask.name).await?;
        metrics::note(trail, &access);
        let permit = case.judge(&rules, access, began).await?;
        self.step(trail, "judge");
        let lease = case.unlocked(self.kept.obtain(permit, &rules.shelf, &ask.which).await).await?;
        self.step(trail, "obtain");
        let released = case.released(lease, began).await?;
        self.step(trail, "record");
        let rotates_at = self.holds(peer, name, ask.name, released.terms());
        Ok(Released { rotates_at, ..released })
    }

    /// Waits until a secret has another version than the workload has. Nothing of it is handed over here.
    async fn wait(&self, peer: &Peer, ask: &SecretAsk<'_>, wait: &Wait) -> Result<(), Refused> {
        let (mut renewed, mut draining) = (self.renewed.subscribe(), self.draining.subscribe());
        loop {
            let rules = self.rules.load_full();
            let trace = ask.trace.map(|parent| TraceId(parent.trace));
            let case = Case { broker: self, peer, action: Action::Secret, trace };

            let who = case.attest(&rules, Role::Workload).await?;
            let _seat = case.seat(&self.waiting, &who).await?;
            let access = case.entry(&rules, who, ask.name).await?;
            let permit = case.judge(&rules, access, self.clock.now()).await?;
            tokio::select! {
                () = self.kept.other_than(&permit, &rules.shelf, &wait.held) => return Ok(()),
                _ = draining.wait_for(|draining| *draining) => return Ok(()),
                // Whether it may still have the secret, and where that is, the new rules say.
                _ = renewed.changed() => {}
            }
        }
    }

    /// Lets a workload hear what happens to what it may have. Nothing is handed over: each event is judged for it anew.
    ///
    /// # Errors
    /// [`Refused`], with the record of it where there is one.
    pub async fn listen(self: &Arc<Self>, peer: &Arc<Peer>) -> Result<Listener, Refused> {
        let began = self.clock.now();
        let rules = self.rules.load_full();
        let case = Case { broker: self, peer: &**peer, action: Action::Secret, trace: None };

        let who = case.attest(&rules, Role::Workload).await?;
        case.within_its_rate(&rules, &who, began).await?;
        let seat = case.seat(&self.listening, &who).await?;
        let (hearing, draining) = (self.events.listen(), self.draining.subscribe());
        Ok(Listener { broker: Arc::clone(self), peer: Arc::clone(peer), hearing, heard: None, draining, _seat: seat })
    }

    /// Hands the deliverer what the configuration has delivered, where policy allows it and anything of it differs from
    /// `before`. The configuration says who is meant; each value is judged and recorded as if that workload had asked.
    ///
    /// # Errors
    /// [`Refused`], with the record of it where there is one.
    pub async fn deliver(
        &self,
        order: &Order,
        wants: &[Want],
        before: Option<&[Mark]>,
    ) -> Result<Option<Handover>, Refused> {
        let rules = self.rules.load_full();
        let mut leases = Vec::with_capacity(wants.len());
        for want in wants {
            let began = self.clock.now();
            let case = Case { broker: self, peer: order, action: want.action(), trace: None };

            let who = case.attest(&rules, Role::Workload).await?;
            let lease = case.wanted(&rules, who, want, began).await?;
            leases.push((case, lease, began));
        }
        let marks = leases.iter().map(|(_, lease, _)| Mark::of(lease.account().terms));
        if before.is_some_and(|before| marks.eq(before.iter().cloned())) {
            // Nothing leaves, so there is nothing to record.
            return Ok(None);
        }
        let intent = self.announce(order, DeliveryAct::Deliver).await?;
        let mut values = Vec::with_capacity(leases.len());
        for (case, lease, began) in leases {
            values.push(case.released(lease, began).await?);
        }
        Ok(Some(Handover { intent, values }))
    }

    /// Hears from a workload that an API refused a token which it was given here; another is fetched, if this one is held.
    ///
    /// # Errors
    /// [`Refused`], with the record of it where there is one.
    pub async fn reject(&self, peer: &Peer, provider: &str, token: &Secret) -> Result<Done<Rejection>, Refused> {
        let began = self.clock.now();
        let rules = self.rules.load_full();
        let case = Case { broker: self, peer, action: Action::Reject, trace: None };

        let who = case.attest(&rules, Role::Workload).await?;
        case.within_its_rate(&rules, &who, began).await?;
        let provider = case.provider(&rules, &who, provider).await?;
        let (scopes, audience) = Default::default();
        let access = Access {
            who: Arc::clone(&who),
            action: case.action,
            resource: provider.resource.clone(),
            scopes,
            audience,
        };
        let permit = case.judge(&rules, access, began).await?;
        let rejection = provider.reject(&who, token);
        case.operated(&permit, Ok(rejection), |rejection| rejection.as_str().to_owned()).await
    }

    /// What bursar sees of a peer, and what it may ask for. It tells the peer of nothing but itself, and has no record.
    pub async fn whoami(&self, peer: &Peer) -> Whoami {
        let rules = self.rules.load_full();
        let seen = peer.seen().await.into_iter().map(|(fact, value)| (fact.as_str(), value)).collect();
        match peer.attest(&rules.registry, Role::Workload).await {
            Ok(who) => Whoami::of(&rules, &who, seen),
            Err(why) => Whoami::nobody(seen, views::problem(peer.uid(), &why)),
        }
    }

    /// Whether tokens of `provider` can be had, for a workload that may have some.
    ///
    /// # Errors
    /// [`Refused`], for any other.
    pub async fn ready_for(&self, peer: &Peer, provider: &str) -> Result<Readiness, Refused> {
        let rules = self.rules.load_full();
        let case = Case { broker: self, peer, action: Action::Token, trace: None };

        let who = case.attest(&rules, Role::Workload).await?;
        let provider = case.provider(&rules, &who, provider).await?;
        case.may_ever(&rules, &who, provider).await?;
        Ok(Readiness::of(provider, provider.has_token_of(&who), self.ready()))
    }

    /// Records a request that was not understood, and refuses it.
    pub async fn malformed(&self, peer: &Peer, role: Role, action: Action, why: Why) -> Refused {
        let case = Case { broker: self, peer, action, trace: None };
        match case.attest(&self.rules.load_full(), role).await {
            Ok(who) => {
                // Words of ours: nothing of a request that is not understood is repeated.
                let detail = why.to_string();
                case.refuse(Some(&who), None, None, why, &detail).await
            }
            Err(refused) => refused,
        }
    }

    /// Records that another process than the connector wrote to a connection, which has been closed for it.
    pub async fn overheard(&self, peer: &Peer, fault: &Unidentified) {
        let detail = fault.to_string();
        let refusal = Refusal { code: fault.kind(), uid: Some(peer.uid()), detail: &detail, ..Refusal::default() };
        // There is no reply that could depend on it.
        let _ = self.journal.refuse(&refusal).await;
    }

    /// Whether requests can be served.
    ///
    /// # Errors
    /// Why not.
    pub fn ready(&self) -> Result<(), Why> {
        let log = self.journal.status();
        if *self.draining.borrow() {
            Err(Why::Draining)
        } else if log.failing.is_some() || log.hangs(self.clock.now().boot) {
            Err(Why::AuditUnavailable)
        } else {
            Ok(())
        }
    }

    /// From here on `/readyz` says that the agent is stopping, and nobody waits or listens.
    pub fn drain(&self) {
        self.draining.send_replace(true);
    }

    /// The rules of the moment.
    pub fn rules(&self) -> Arc<Rules> {
        self.rules.load_full()
    }

    /// A step of the trail ends here, if there is one.
    fn step(&self, trail: &mut Option<Trail>, name: &'static str) {
        trail.as_mut().into_iter().for_each(|trail| trail.step(name, self.clock.now()));
    }
}

/// Lets a value go: the only way from a lease to something that the door can turn into a body.
///
/// # Errors
/// [`Why::Internal`] if the receipt is of another record; [`Why::TemporarilyUnavailable`] if the value ended
/// while its record was being made durable.
pub fn release(lease: Lease, receipt: Receipt, now: Moment) -> Result<Released, Refused> {
    let decision = receipt.decision();
    let refused = |why| Refused { why, decision: Some(decision) };
    let opened = lease.open(receipt.nonce());
    let (value, terms) = opened.ok_or_else(|| refused(Why::Internal("a receipt of another record")))?;
    if terms.expires().is_some_and(|expires| expires.passed(now)) {
        return Err(refused(Why::TemporarilyUnavailable { wait: Duration::from_secs(1) }));
    }
    Ok(Released { value, terms, decision, at: now, rotates_at: None })
}

/// What leaves: a value of which the record is durable.
#[derive(Debug)]
#[must_use]
pub struct Released {
    value: Arc<Secret>,
    terms: Terms,
    decision: DecisionId,
    at: Moment,
    rotates_at: Option<Wall>,
}

impl Released {
    /// The value.
    #[must_use]
    pub fn value(&self) -> &Secret {
        &self.value
    }

    /// What is said of it.
    #[must_use]
    pub fn terms(&self) -> &Terms {
        &self.terms
    }

    /// The record of it.
    #[must_use]
    pub fn decision(&self) -> DecisionId {
        self.decision
    }

    /// When it was released.
    #[must_use]
    pub fn at(&self) -> Moment {
        self.at
    }

    /// When another version is due.
    #[must_use]
    pub fn rotates_at(&self) -> Option<Wall> {
        self.rotates_at
    }
}
