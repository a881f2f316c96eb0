//! What operators do with whole stores, and with secrets on the way from one to another. The order of the one page is
//! kept: who asks, what policy says, the intent, the act, its outcome.

use super::case::Case;
use super::{Broker, Done, Refused, Rules, Why, standing};
use crate::access::{Action, Permit, Resource, SecretId};
use crate::audit::{Actor, Effect, Intent, Noted, Outcome, OutcomeOf, Record};
use crate::fault::counted;
use crate::name::Name;
use crate::peer::Peer;
use crate::secret::Secret;
use crate::store::import::{self, Import, Imported};
use crate::store::sealed::Copied;
use crate::store::upkeep::{Checked, NewKey, Rekeyed, not_ours};
use crate::store::{self, Store, StoreError, Upkeep, VersionId, Which};

impl Broker {
    /// Whether this peer may look after stores: asked before a key is read, and again when it is there.
    ///
    /// # Errors
    /// [`Refused`]: the key is not to be read.
    pub async fn may_maintain(&self, peer: &Peer) -> Result<(), Refused> {
        let rules = self.rules.load_full();
        let case = Case { broker: self, peer, action: Action::Maintain, trace: None };

        case.permit(&rules, Resource::Agent).await.map(drop)
    }

    /// Changes the key of a store, for an operator.
    ///
    /// # Errors
    /// [`Refused`]. The store opens with the old key or the new one, whatever happened.
    pub async fn rekey(&self, peer: &Peer, name: &Name, to: NewKey) -> Result<Done<Rekeyed>, Refused> {
        let rules = self.rules.load_full();
        let case = Case { broker: self, peer, action: Action::Maintain, trace: None };

        let permit = case.permit(&rules, Resource::Agent).await?;
        let (store, upkeep) = case.looked_after(&rules, &permit, name).await?;
        let effect = Effect::Rekey { store: name };
        let act = async { upkeep.rekey(to).await };
        case.carried_out(&permit, effect, (name, store), act, |done| counted(done.values, "value")).await
    }

    /// A copy of a store as it stands, sealed as it is, for an operator.
    ///
    /// # Errors
    /// [`Refused`].
    pub async fn back_up(&self, peer: &Peer, name: &Name) -> Result<Done<Copied>, Refused> {
        let rules = self.rules.load_full();
        let case = Case { broker: self, peer, action: Action::Maintain, trace: None };

        let permit = case.permit(&rules, Resource::Agent).await?;
        let (store, upkeep) = case.looked_after(&rules, &permit, name).await?;
        let effect = Effect::Backup { store: name };
        let act = async { upkeep.back_up().await };
        case.carried_out(&permit, effect, (name, store), act, |copy| counted(copy.checked.values, "value")).await
    }

    /// Looks at all of a store, for an operator.
    ///
    /// # Errors
    /// [`Refused`]. What is damaged is an answer.
    pub async fn check_store(&self, peer: &Peer, name: &Name) -> Result<Done<Checked>, Refused> {
        let rules = self.rules.load_full();
        let case = Case { broker: self, peer, action: Action::Maintain, trace: None };

        let permit = case.permit(&rules, Resource::Agent).await?;
        let (_, upkeep) = case.looked_after(&rules, &permit, name).await?;
        case.operated(&permit, upkeep.check().await, |checked| checked.summary(name)).await
    }

    /// Puts a secret that another place has, unless its value is the same, for an operator.
    ///
    /// # Errors
    /// [`Refused`].
    pub async fn import(&self, peer: &Peer, id: &SecretId, how: Import) -> Result<Done<Imported>, Refused> {
        let rules = self.rules.load_full();
        let case = Case { broker: self, peer, action: Action::Put, trace: None };

        let permit = case.permit(&rules, Resource::Secret(id.clone())).await?;
        let place = case.place(&rules, &permit, id).await?;
        let read = match how.from {
            import::From::Value(value) => Ok(value),
            import::From::Stored(from) => case.read_for_copy(&rules, &from).await?,
        };
        let compared = match read {
            Ok(value) => import::same_at(&place, &value).await.map(|same| (value, same)),
            Err(why) => Err(why),
        };
        match compared {
            Ok((value, None)) if !how.dry_run => {
                let put = self.put_at(&case, &rules, &permit, id, &place, &value).await?;
                Ok(Done { result: Imported::Put(put.result), decision: put.decision })
            }
            Ok((_, same)) => {
                let found = same.map_or(Imported::WouldPut, Imported::Unchanged);
                case.operated(&permit, Ok(found), |found| found.as_str().to_owned()).await
            }
            Err(why) => case.operated(&permit, Err(why), |_: &Imported| String::new()).await,
        }
    }

    /// Ends a version of a secret in its store, for an operator: its value is wiped.
    ///
    /// # Errors
    /// [`Refused`]; the version that is served cannot be ended.
    pub async fn retire(&self, peer: &Peer, id: &SecretId, version: &VersionId) -> Result<Done<()>, Refused> {
        let rules = self.rules.load_full();
        let case = Case { broker: self, peer, action: Action::Revoke, trace: None };

        let permit = case.permit(&rules, Resource::Secret(id.clone())).await?;
        let place = case.place(&rules, &permit, id).await?;
        case.not_rotating(&permit, &place).await?;
        let effect = Effect::Retire { secret: id };
        let act = store::retire(&place, version);
        case.carried_out(&permit, effect, (&place.store_name, &*place.store), act, |()| version.to_string()).await
    }
}

impl Case<'_> {
    /// The store of that name, if it is one that is looked after here.
    async fn looked_after<'r>(
        &self,
        rules: &'r Rules,
        permit: &Permit,
        name: &Name,
    ) -> Result<(&'r dyn Store, &'r dyn Upkeep), Refused> {
        let store = rules.shelf.stores.get(name);
        match store.and_then(|store| Some((&**store, store.upkeep()?))) {
            Some(found) => Ok(found),
            None => {
                let what = not_ours(name, store.is_some());
                Err(self.refuse_permitted(permit, Why::InvalidRequest(what.clone()), &what).await)
            }
        }
    }

    /// The value that `from` names, for a copy: who may look after stores may have it copied.
    async fn read_for_copy(&self, rules: &Rules, from: &SecretId) -> Result<Result<Secret, StoreError>, Refused> {
        let case = Case { broker: self.broker, peer: self.peer, action: Action::Maintain, trace: None };
        let permit = case.permit(rules, Resource::Agent).await?;
        let place = case.place(rules, &permit, from).await?;
        Ok(place.store.read(&place.name, &Which::Current).await.map(|(_, value)| value))
    }

    /// What `act` came to, with the records of its intent and its outcome, and how the store stands then.
    async fn carried_out<T>(
        &self,
        permit: &Permit,
        effect: Effect<'_>,
        (name, store): (&Name, &dyn Store),
        act: impl Future<Output = Result<T, StoreError>>,
        detail: impl FnOnce(&T) -> String,
    ) -> Result<Done<T>, Refused> {
        let (journal, clock) = (&self.broker.journal, &self.broker.clock);
        let began = clock.now();
        let intent = Intent { actor: Actor::Workload(&permit.access().who), effect };
        let intent = self.recorded(&Record::Intent(intent)).await?.decision().index;
        let done = act.await;
        // A crash here leaves an intent without outcome: the store says what it came to.
        let took = clock.now().since(began);
        let text = done.as_ref().map_or_else(ToString::to_string, detail);
        let result = match &done {
            Ok(_) => OutcomeOf::Done { detail: &text },
            Err(error) => OutcomeOf::Failed { code: error.code(), detail: &text },
        };
        drop(journal.enqueue(&Record::Outcome(Outcome { intent, result, took })));
        if let Some(standing) = standing(name, store) {
            drop(journal.enqueue(&Record::Store(&standing, Noted::Changed)));
        }
        self.operated(permit, done, |_| text).await
    }
}
