//! The steps of a request. Each records its own refusal, so that no verb can forget to.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::seats::{Seat, Seats};
use super::{Broker, Done, Refused, Released, Rules, VERDICT_HOLDS, Want, Why, release};
use crate::access::{
    self, Access, Action, Audiences, Grounds, Permit, Resource, Role, Scopes, SecretId, Verdict, Workload,
};
use crate::account::Lease;
use crate::audit::{Asked, Operation, Receipt, Record, Refusal, Release, TraceId, line};
use crate::kept;
use crate::name::Name;
use crate::oauth::Ask;
use crate::peer::{Peer, Registry, Unidentified};
use crate::store::{Place, StoreError, Which};
use crate::time::Moment;
use crate::token::{Provider, Unobtained};

/// Who asks: a peer, by what the kernel says of it; or the configuration, for a program that cannot ask.
pub(super) trait Asker: Sync {
    /// Whose refusals its refusals count as.
    fn uid(&self) -> u32;
    /// Who it is now.
    fn attest(
        &self,
        registry: &Registry,
        role: Role,
    ) -> impl Future<Output = Result<Arc<Workload>, Unidentified>> + Send;
}

impl Asker for Peer {
    fn uid(&self) -> u32 {
        Self::uid(self)
    }

    fn attest(
        &self,
        registry: &Registry,
        role: Role,
    ) -> impl Future<Output = Result<Arc<Workload>, Unidentified>> + Send {
        Self::attest(self, registry, role)
    }
}

/// One request on its way: the steps, each of which records its own refusal.
pub(super) struct Case<'a, A = Peer> {
    pub(super) broker: &'a Broker,
    pub(super) peer: &'a A,
    pub(super) action: Action,
    pub(super) trace: Option<TraceId>,
}

impl<A: Asker> Case<'_, A> {
    /// Who asks, by what the kernel says now.
    pub(super) async fn attest(&self, rules: &Rules, role: Role) -> Result<Arc<Workload>, Refused> {
        match self.peer.attest(&rules.registry, role).await {
            Ok(who) => Ok(who),
            Err(why) => {
                let detail = why.to_string();
                Err(self.refuse(None, None, None, Why::Unidentified(why, role), &detail).await)
            }
        }
    }

    /// Nothing, unless the workload asks more often than one may.
    pub(super) async fn within_its_rate(&self, rules: &Rules, who: &Workload, now: Moment) -> Result<(), Refused> {
        let Some(rate) = rules.per_workload else { return Ok(()) };
        let taken = lock(&self.broker.requests).take(&who.name, rate, now.boot);
        match taken {
            Ok(()) => Ok(()),
            Err(wait) => {
                let why = Why::SlowDown { what: "you ask more often than `limits.per_workload` allows".into(), wait };
                Err(self.refuse(Some(who), None, None, why, "").await)
            }
        }
    }

    /// A seat among those who wait or listen, unless as many do as may.
    pub(super) async fn seat(&self, seats: &Seats, who: &Workload) -> Result<Seat, Refused> {
        match seats.take(&who.name) {
            Some(seat) => Ok(seat),
            None => {
                let what = "as many wait or listen as bursar lets, of your workload or of all";
                let why = Why::SlowDown { what: what.into(), wait: Duration::from_secs(10) };
                Err(self.refuse(Some(who), None, None, why, "").await)
            }
        }
    }

    /// The provider of that name. One that does not exist is refused as one on which nothing is permitted.
    pub(super) async fn provider<'r>(
        &self,
        rules: &'r Rules,
        who: &Workload,
        name: &str,
    ) -> Result<&'r Arc<Provider>, Refused> {
        match name.parse().ok().and_then(|name: Name| rules.providers.get(&name)) {
            Some(provider) => Ok(provider),
            None => Err(self.refuse(Some(who), None, None, Why::AccessDenied, "there is no such provider").await),
        }
    }

    /// What will be sent to the provider, if its entry lists it: that, and nothing else, is judged.
    ///
    /// Only a workload with some permit on the provider is told what the entry does not list: to the others that
    /// would be a look into the catalogue.
    pub(super) async fn listed(
        &self,
        rules: &Rules,
        who: Arc<Workload>,
        provider: &Provider,
        scopes: Scopes,
        audience: Audiences,
    ) -> Result<Access, Refused> {
        let resource = provider.resource.clone();
        let not_listed = match provider.settings.catalogue.ask(scopes, audience) {
            Ok(Ask { scopes, audience }) => {
                return self.recordable(Access { who, action: self.action, resource, scopes, audience }).await;
            }
            Err(why) => why,
        };
        let detail = not_listed.to_string();
        let may_know = rules.policy.may_ever(&who, self.action, &resource);
        let why = if may_know { not_listed.into() } else { Why::AccessDenied };
        Err(self.refuse(Some(&who), Some(self.asked(&resource)), None, why, &detail).await)
    }

    /// Nothing, unless no rule gives the workload anything of this provider: then it hears no more of it than of one that
    /// does not exist.
    pub(super) async fn may_ever(&self, rules: &Rules, who: &Workload, provider: &Provider) -> Result<(), Refused> {
        if rules.policy.may_ever(who, self.action, &provider.resource) {
            return Ok(());
        }
        Err(self.refuse(Some(who), Some(self.asked(&provider.resource)), None, Why::AccessDenied, "").await)
    }

    /// The access, if its record would fit into a line: before anything is asked for it.
    async fn recordable(&self, access: Access) -> Result<Access, Refused> {
        if line::fits(&access) {
            return Ok(access);
        }
        let what = "more scopes and audiences than one record can hold: ask for less at once";
        let why = Why::InvalidRequest(what.into());
        Err(self.refuse(Some(&access.who), Some(self.asked(&access.resource)), None, why, what).await)
    }

    /// Policy's answer.
    pub(super) async fn judge(&self, rules: &Rules, access: Access, now: Moment) -> Result<Permit, Refused> {
        let counts = &self.broker.counts;
        match rules.policy.judge(access, now.wall) {
            Verdict::Permit(permit) => {
                counts.verdicts.count("permit");
                Ok(permit)
            }
            Verdict::Denied(denied) => {
                counts.verdicts.count("deny");
                let asked = Asked::of(&denied.access);
                let verdict = Some((&denied.grounds, Some(denied.why)));
                Err(self.refuse(Some(&denied.access.who), Some(asked), verdict, Why::AccessDenied, "").await)
            }
        }
    }

    /// An operator's permit: who asks, and policy's answer.
    pub(super) async fn permit(&self, rules: &Rules, resource: Resource) -> Result<Permit, Refused> {
        let who = self.attest(rules, Role::Operator).await?;
        let (scopes, audience) = Default::default();
        let access = Access { who, action: self.action, resource, scopes, audience };
        self.judge(rules, access, self.broker.clock.now()).await
    }

    /// What the engine gave for the permit.
    pub(super) async fn obtained(&self, obtained: Result<Lease, Unobtained>) -> Result<Lease, Refused> {
        match obtained {
            Ok(lease) => Ok(lease),
            Err(Unobtained { permit, why }) => {
                let detail = why.to_string();
                Err(self.refuse_permitted(&permit, why.into(), &detail).await)
            }
        }
    }

    /// The question about the secret that the configuration has by that name. One that it does not have is refused as one
    /// that is not permitted. What has no entry is no workload's, though a store may have it: that is where bursar's own
    /// credentials are.
    pub(super) async fn entry(&self, rules: &Rules, who: Arc<Workload>, name: &str) -> Result<Access, Refused> {
        let entry = name.parse().ok().filter(|name: &Name| rules.shelf.entries.contains_key(name));
        let Some(entry) = entry else {
            return Err(self.refuse(Some(&who), None, None, Why::AccessDenied, "there is no such secret").await);
        };
        let (scopes, audience) = Default::default();
        let resource = Resource::Secret(SecretId::Entry(entry));
        self.recordable(Access { who, action: self.action, resource, scopes, audience }).await
    }

    /// What the secrets' engine gave for the permit.
    pub(super) async fn unlocked(&self, obtained: Result<Lease, kept::Unobtained>) -> Result<Lease, Refused> {
        match obtained {
            Ok(lease) => Ok(lease),
            Err(kept::Unobtained { permit, why }) => {
                let detail = why.to_string();
                Err(self.refuse_permitted(&permit, why.into(), &detail).await)
            }
        }
    }

    /// What a delivery wants, if policy allows it.
    pub(super) async fn wanted(
        &self,
        rules: &Rules,
        who: Arc<Workload>,
        want: &Want,
        now: Moment,
    ) -> Result<Lease, Refused> {
        match want {
            Want::Secret(name) => {
                let access = self.entry(rules, who, name.as_str()).await?;
                let permit = self.judge(rules, access, now).await?;
                self.unlocked(self.broker.kept.obtain(permit, &rules.shelf, &Which::Current).await).await
            }
            Want::Token { provider, scopes, audience } => {
                let provider = self.provider(rules, &who, provider.as_str()).await?;
                let access = self.listed(rules, who, provider, scopes.clone(), audience.clone()).await?;
                let permit = self.judge(rules, access, now).await?;
                let lease = self.obtained(provider.obtain(permit, Duration::ZERO).await).await?;
                self.renewable(lease).await
            }
        }
    }

    /// The lease, if it says when it ends: a file cannot be renewed in time that may end at any moment.
    async fn renewable(&self, lease: Lease) -> Result<Lease, Refused> {
        let account = lease.account();
        if account.terms.expires().is_some() {
            return Ok(lease);
        }
        let what =
            "the provider does not say how long its tokens live: set `lifetime_if_missing` to have one delivered";
        let asked = Some(Asked::of(account.access));
        let why = Why::InvalidRequest(what.into());
        Err(self.refuse(Some(&account.access.who), asked, Some((account.grounds, None)), why, what).await)
    }

    /// What leaves, once the record of it is durable.
    pub(super) async fn released(&self, lease: Lease, began: Moment) -> Result<Released, Refused> {
        let took = self.broker.clock.now().since(began);
        let record = Record::Release(Release { account: lease.account(), took, trace: self.trace });
        let receipt = self.recorded(&record).await?;
        let now = self.broker.clock.now();
        if now.since(began) > VERDICT_HOLDS {
            // The provider, the store or the disk hung, and policy may have changed since. The log over-reports.
            let why = Why::TemporarilyUnavailable { wait: Duration::from_secs(1) };
            return Err(self.counted(Refused { why, decision: Some(receipt.decision()) }));
        }
        release(lease, receipt, now).map_err(|refused| self.counted(refused))
    }

    /// Where a secret stands; an operator who may act on it may know that it does not.
    pub(super) async fn place(&self, rules: &Rules, permit: &Permit, id: &SecretId) -> Result<Place, Refused> {
        match rules.shelf.find(id) {
            Some(place) => Ok(place),
            None => {
                let what = "neither a `[secret]` entry nor `STORE/NAME` of a configured store";
                Err(self.refuse_permitted(permit, Why::InvalidRequest(format!("`{id}` is {what}")), what).await)
            }
        }
    }

    /// Nothing, unless a rotation of what stands there is unfinished: what is written over it would be forgotten, and work
    /// on at the far side.
    pub(super) async fn not_rotating(&self, permit: &Permit, place: &Place) -> Result<(), Refused> {
        let Some(engine) = &self.broker.rotation else { return Ok(()) };
        let name = match engine.unfinished_at(place).await {
            Ok(None) => return Ok(()),
            Ok(Some(name)) => name,
            Err(error) => {
                let detail = error.to_string();
                return Err(self.refuse_permitted(permit, Why::Store(error), &detail).await);
            }
        };
        let what = format!(
            "the rotation of `{name}` is unfinished, and its former version would work on, unknown: `bursar rotations` shows \
             what it waits for, `bursar revoke {name}` ends it now"
        );
        Err(self.refuse_permitted(permit, Why::InvalidRequest(what), "its rotation is unfinished").await)
    }

    /// The provider of that name; an operator who may act on it may know that there is none.
    pub(super) async fn known<'r>(
        &self,
        rules: &'r Rules,
        permit: &Permit,
        name: &Name,
    ) -> Result<&'r Arc<Provider>, Refused> {
        match rules.providers.get(name) {
            Some(provider) => Ok(provider),
            None => {
                let what = format!("there is no `[provider.{name}]`");
                Err(self.refuse_permitted(permit, Why::InvalidRequest(what), "").await)
            }
        }
    }

    /// Records an operator's action that had no effect beyond the agent.
    pub(super) async fn operated<T>(
        &self,
        permit: &Permit,
        result: Result<T, StoreError>,
        detail: impl FnOnce(&T) -> String,
    ) -> Result<Done<T>, Refused> {
        let (word, detail) = match &result {
            Ok(value) => ("ok", detail(value)),
            Err(error) => (error.code(), error.to_string()),
        };
        Done::of(result, self.record(permit, word, &detail).await?).map_err(|refused| self.counted(refused))
    }

    /// The record of an operator's action: `ok` or the error code, and what the auditor should know.
    pub(super) async fn record(&self, permit: &Permit, result: &'static str, detail: &str) -> Result<Receipt, Refused> {
        let (access, grounds) = (permit.access(), permit.grounds());
        self.recorded(&Record::Operation(Operation { access, grounds, result, detail })).await
    }

    /// The receipt of `record`, once it is durable.
    pub(super) async fn recorded(&self, record: &Record<'_>) -> Result<Receipt, Refused> {
        self.broker.journal.append(record).await.map_err(|why| self.counted(why.into()))
    }

    /// The refusal, counted. Whatever leaves without a record of its own has to pass here.
    pub(super) fn counted(&self, refused: Refused) -> Refused {
        self.broker.counts.refused(&refused);
        refused
    }

    fn asked<'a>(&self, resource: &'a Resource) -> Asked<'a> {
        Asked { action: self.action, resource: Some(resource), scopes: None, audience: None }
    }

    pub(super) async fn refuse_permitted(&self, permit: &Permit, why: Why, detail: &str) -> Refused {
        let access = permit.access();
        self.refuse(Some(&access.who), Some(Asked::of(access)), Some((permit.grounds(), None)), why, detail).await
    }

    /// Records a refusal, or counts it where its uid has had its share of records, and makes the caller's answer.
    pub(super) async fn refuse(
        &self,
        who: Option<&Workload>,
        asked: Option<Asked<'_>>,
        verdict: Option<(&Grounds, Option<access::Why>)>,
        why: Why,
        detail: &str,
    ) -> Refused {
        let refusal = Refusal {
            code: why.code(),
            who,
            uid: Some(self.peer.uid()),
            asked,
            grounds: verdict.map(|(grounds, _)| grounds),
            why: verdict.and_then(|(_, why)| why),
            detail,
            trace: self.trace,
        };
        self.counted(match self.broker.journal.refuse(&refusal).await {
            Ok(receipt) => Refused { why, decision: Some(receipt.decision()) },
            Err(not_durable) => not_durable.into(),
        })
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
