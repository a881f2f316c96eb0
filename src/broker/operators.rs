//! What operators ask: the verbs of the admin socket, in the order of the one page. What is done to a store or at a far side
//! has an intent before it and an outcome after.

use std::sync::Arc;
use std::time::Duration;

use super::case::Case;
use super::{Broker, Done, How, ProviderStatus, Refused, Renewed, RotateAsk, Rotated, Rules, Status, catalogue, views};
use crate::access::{Action, Permit, Resource, SecretId};
use crate::audit::{Actor, Effect, Intent, Noted, Outcome, OutcomeOf, Record, Reload, Standing};
use crate::events::What;
use crate::fault::{Faults, counted};
use crate::name::{Name, StoredName};
use crate::oauth::Failure;
use crate::peer::Peer;
use crate::rotation;
use crate::secret::Secret;
use crate::store::{self, Attempt, Place, Store, StoreError, VersionId, Versions};
use crate::token::Revoked;

/// How long a `put` may take before another may take its reservation over.
pub const PUT_LEASE: Duration = Duration::from_secs(30);
/// How long after an operator's word the end of a token may still be begun: somebody waits for the answer.
const REVOKE_WITHIN: Duration = Duration::from_secs(30);

impl Broker {
    /// Whether this peer may put a secret: asked before its value is read, and again by [`Self::put`] when it is there.
    ///
    /// # Errors
    /// [`Refused`]: the value is not to be read.
    pub async fn may_put(&self, peer: &Peer, id: &SecretId) -> Result<(), Refused> {
        let rules = self.rules.load_full();
        let case = Case { broker: self, peer, action: Action::Put, trace: None };

        case.permit(&rules, Resource::Secret(id.clone())).await.map(drop)
    }

    /// Puts a new version of a secret into its store, for an operator.
    ///
    /// # Errors
    /// [`Refused`]; the version that is served stays what it was, unless the record of its change alone was lost.
    pub async fn put(&self, peer: &Peer, id: &SecretId, value: &Secret) -> Result<Done<VersionId>, Refused> {
        let rules = self.rules.load_full();
        let case = Case { broker: self, peer, action: Action::Put, trace: None };

        let permit = case.permit(&rules, Resource::Secret(id.clone())).await?;
        let place = case.place(&rules, &permit, id).await?;
        self.put_at(&case, &rules, &permit, id, &place, value).await
    }

    /// Puts `value` as a new version of `id`, which stands at `place`.
    pub(super) async fn put_at(
        &self,
        case: &Case<'_>,
        rules: &Rules,
        permit: &Permit,
        id: &SecretId,
        place: &Place,
        value: &Secret,
    ) -> Result<Done<VersionId>, Refused> {
        case.not_rotating(permit, place).await?;
        let began = self.clock.now();
        let intent = Intent { actor: Actor::Workload(&permit.access().who), effect: Effect::Put { secret: id } };
        let intent = case.recorded(&Record::Intent(intent)).await?.decision().index;
        let stored = self.store(place, value).await;
        if stored.is_ok() {
            self.kept.written(place);
        }
        // It may be the credential for which a provider has refused us.
        rules.providers.values().for_each(|provider| provider.forgive());
        // A crash here leaves an intent without outcome: the store says whether the version became Current.
        let took = self.clock.now().since(began);
        let detail = stored.as_ref().map_or_else(ToString::to_string, ToString::to_string);
        let result = match &stored {
            Ok(_) => OutcomeOf::Stored { version: &detail },
            Err(error) => OutcomeOf::Failed { code: error.code(), detail: &detail },
        };
        // Behind the outcome in the same batch: one sync covers both.
        drop(self.journal.enqueue(&Record::Outcome(Outcome { intent, result, took })));
        if let Some(standing) = standing(&place.store_name, &*place.store) {
            drop(self.journal.enqueue(&Record::Store(&standing, Noted::Changed)));
        }
        case.operated(permit, stored, |_| detail.clone()).await
    }

    async fn store(&self, place: &Place, value: &Secret) -> Result<VersionId, StoreError> {
        let attempt = Attempt::new(&*self.random).map_err(|why| StoreError::Unavailable(why.to_string()))?;
        let lease_ends = self.clock.now().wall + PUT_LEASE;
        store::put(&*place.store, &place.name, value, &attempt, lease_ends).await
    }

    /// Ends the tokens of a provider, for an operator: none is served again, and each is ended at the provider.
    ///
    /// # Errors
    /// [`Refused`]. A token that the provider did not end is told in the answer.
    pub async fn revoke(&self, peer: &Peer, name: &Name) -> Result<Done<Revoked>, Refused> {
        let rules = self.rules.load_full();
        let case = Case { broker: self, peer, action: Action::Revoke, trace: None };

        let permit = case.permit(&rules, Resource::Provider(name.clone())).await?;
        let provider = case.known(&rules, &permit, name).await?;
        // An intent and an outcome for each token.
        let revoked = provider.revoke(Actor::Workload(&permit.access().who), REVOKE_WITHIN).await?;
        self.events.publish(What::Revoked, Resource::Provider(name.clone()));
        let word = revoked.failure.as_ref().map_or("ok", Failure::code);
        let detail = format!("{} of {} tokens ended at the provider", revoked.ended, revoked.tokens);
        let decision = case.record(&permit, word, &detail).await?.decision();
        Ok(Done { result: revoked, decision })
    }

    /// Starts a rotation, for an operator, and follows it as far as it goes without waiting.
    ///
    /// # Errors
    /// [`Refused`]. Why it did not succeed is an answer; the former version is Current then.
    pub async fn rotate(
        &self,
        peer: &Peer,
        ask: RotateAsk<'_>,
    ) -> Result<Done<Result<Rotated, rotation::Why>>, Refused> {
        let rules = self.rules.load_full();
        let action = if ask.how == How::Leaked { Action::Revoke } else { Action::Rotate };
        let case = Case { broker: self, peer, action, trace: None };

        let permit = case.permit(&rules, Resource::Secret(SecretId::Entry(ask.name.clone()))).await?;
        // Before anything is done: who asked for it, and why. Then an intent and an outcome for each act at the far side.
        let _ = case.record(&permit, "ok", &format!("asked for {}: {}", ask.how.as_str(), ask.reason)).await?;
        let rotated = self.rotated_as(&ask).await;
        let word = rotated.as_ref().map_or_else(rotation::Why::code, |_| "ok");
        let held_by = rotated.as_ref().map_or(&[][..], |rotated| &rotated.held_by).join(", ");
        let held_by = if held_by.is_empty() { held_by } else { format!(", which was held by {held_by}") };
        let decision = case.record(&permit, word, &format!("{}{held_by}", ask.how.as_str())).await?.decision();
        Ok(Done { result: rotated, decision })
    }

    /// How the rotations stand, for an operator.
    ///
    /// # Errors
    /// [`Refused`].
    pub async fn rotations(&self, peer: &Peer) -> Result<Done<Vec<rotation::Status>>, Refused> {
        let rules = self.rules.load_full();
        let case = Case { broker: self, peer, action: Action::Status, trace: None };

        let permit = case.permit(&rules, Resource::Agent).await?;
        let rotations = self.rotation.as_ref().map(|engine| engine.status()).unwrap_or_default();
        case.operated(&permit, Ok(rotations), |_| String::new()).await
    }

    /// Lists the secrets of every store, for an operator.
    ///
    /// # Errors
    /// [`Refused`].
    pub async fn list(&self, peer: &Peer) -> Result<Done<Vec<(Name, Vec<StoredName>)>>, Refused> {
        let rules = self.rules.load_full();
        let case = Case { broker: self, peer, action: Action::List, trace: None };

        let permit = case.permit(&rules, Resource::Agent).await?;
        let mut listed = Ok(Vec::new());
        for (name, store) in &rules.shelf.stores {
            let names = store.list().await;
            listed = listed.and_then(|mut all: Vec<_>| {
                all.push((name.clone(), names?));
                Ok(all)
            });
        }
        case.operated(&permit, listed, |all| counted(all.len() as u64, "store")).await
    }

    /// The versions of a secret, without values, for an operator.
    ///
    /// # Errors
    /// [`Refused`].
    pub async fn versions(&self, peer: &Peer, id: &SecretId) -> Result<Done<Versions>, Refused> {
        let rules = self.rules.load_full();
        let case = Case { broker: self, peer, action: Action::List, trace: None };

        let permit = case.permit(&rules, Resource::Agent).await?;
        let place = case.place(&rules, &permit, id).await?;
        let versions = place.store.versions(&place.name).await;
        case.operated(&permit, versions, |all| format!("{} of `{id}`", counted(all.iter().count() as u64, "version")))
            .await
    }

    /// Reads configuration and policies anew, for an operator: all or nothing.
    ///
    /// # Errors
    /// [`Refused`], where this operator may not. Faults in what was read are an answer, and the old rules stay.
    pub async fn reload(&self, peer: &Peer) -> Result<Done<Result<(), Faults>>, Refused> {
        let rules = self.rules.load_full();
        let case = Case { broker: self, peer, action: Action::Reload, trace: None };

        let permit = case.permit(&rules, Resource::Agent).await?;
        let reloaded = self.reload_unasked().await;
        views::tell_of(&reloaded, &permit.access().who.name);
        let kept = if reloaded.is_ok() { "" } else { "faults: the old rules stay" };
        case.operated(&permit, Ok(reloaded), |_| kept.to_owned()).await
    }

    /// Reads configuration and policies anew: all or nothing. For SIGHUP, whose sender the kernel has judged.
    ///
    /// # Errors
    /// Everything that is wrong; the old rules stay.
    pub async fn reload_unasked(&self) -> Result<(), Faults> {
        let _alone = self.reloading.lock().await;
        let reloaded = self.reload_alone().await;
        self.counts.reloaded(reloaded.is_ok(), self.clock.now().wall);
        reloaded
    }

    async fn reload_alone(&self) -> Result<(), Faults> {
        let reread = self.reread.reread().await;
        let faults = reread.as_ref().err().map(ToString::to_string);
        let snapshot =
            reread.as_ref().map_or_else(|_| self.rules.load().policy.digest(), |new| new.rules.policy.digest());
        let record = Record::Reload(Reload { snapshot, result: faults.as_deref().map_or(Ok(()), Err) });
        // What cannot be recorded does not come into force.
        let recorded = self.journal.append(&record).await;
        let Renewed { rules, enact } = reread?;
        drop(recorded.map_err(|error| Faults::of_process(error.to_string()))?);
        enact();
        // A file that was mended is no change of the rules: a provider is kept, and with it what it had been refused for.
        rules.providers.values().for_each(|provider| provider.forgive());
        self.rules.store(Arc::new(rules));
        self.renewed.send_replace(());
        self.events.publish(What::Reloaded, Resource::Agent);
        Ok(())
    }

    /// What this peer may know of the agent, for an operator.
    ///
    /// # Errors
    /// [`Refused`].
    pub async fn status(&self, peer: &Peer) -> Result<Done<Status>, Refused> {
        let rules = self.rules.load_full();
        let case = Case { broker: self, peer, action: Action::Status, trace: None };

        let permit = case.permit(&rules, Resource::Agent).await?;
        let status = Status::of(self, &rules);
        case.operated(&permit, Ok(status), |_| String::new()).await
    }

    /// Whether this peer may see how the agent is: an operator who may ask for its status.
    ///
    /// # Errors
    /// [`Refused`].
    pub async fn may_see(&self, peer: &Peer) -> Result<Done<()>, Refused> {
        let rules = self.rules.load_full();
        let case = Case { broker: self, peer, action: Action::Status, trace: None };

        let permit = case.permit(&rules, Resource::Agent).await?;
        case.operated(&permit, Ok(()), |()| String::new()).await
    }

    /// The catalogue: what this host depends on and how it does, for an operator.
    ///
    /// # Errors
    /// [`Refused`].
    pub async fn providers(&self, peer: &Peer) -> Result<Done<Vec<ProviderStatus>>, Refused> {
        let rules = self.rules.load_full();
        let case = Case { broker: self, peer, action: Action::Status, trace: None };

        let permit = case.permit(&rules, Resource::Agent).await?;
        let providers = catalogue::of(self, &rules);
        case.operated(&permit, Ok(providers), |_| String::new()).await
    }
}

/// How a store stands, for its record; none where it does not count its changes.
#[must_use]
pub fn standing(name: &Name, store: &dyn Store) -> Option<Standing> {
    Some(Standing { store: name.clone(), id: store.id()?.into(), changes: store.change_counter()? })
}
