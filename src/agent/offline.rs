//! (E) What a command does on the rooms while no agent runs, with the records of it.

use std::fmt::Display;
use std::path::{Path, PathBuf};

use rustix::process::getuid;

use super::{Rooms, stores};
use crate::access::SecretId;
use crate::audit::stores::Held;
use crate::audit::{Actor, Effect, Intent, Noted, Outcome, OutcomeOf, Record, Standing, backwards};
use crate::broker::{PUT_LEASE, standing};
use crate::config::Settings;
use crate::config::meant::{self, SecretRef};
use crate::name::Name;
use crate::rotation::{Overlap, is_unfinished};
use crate::secret::Secret;
use crate::store::import::{self, Imported};
use crate::store::key::KeySource;
use crate::store::sealed::{Copied, Locked, Staged, check_file};
use crate::store::upkeep::{Checked, NewKey, Rekeyed, not_ours};
use crate::store::{self, Attempt, Place, Store, StoreError, Upkeep, VersionId};

/// A store that a copy took the place of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restored {
    /// How many values it has now.
    pub values: u64,
    /// Where the file is that it was; none where there was none.
    pub kept: Option<PathBuf>,
}

impl Rooms {
    /// Puts `value` as a new version of `id`, which stands at `place`, with the records of an intent and its outcome.
    ///
    /// # Errors
    /// [`StoreError`]; [`StoreError::Unavailable`] also where the intent cannot be recorded, and nothing is done then.
    pub async fn put(&self, id: &SecretId, place: &Place, value: &Secret) -> Result<VersionId, StoreError> {
        let act = async {
            self.not_rotating(place).await?;
            let attempt = Attempt::new(&*self.random).map_err(unavailable)?;
            let lease_ends = self.clock.now().wall + PUT_LEASE;
            store::put(&*place.store, &place.name, value, &attempt, lease_ends).await
        };
        self.carried_out(Effect::Put { secret: id }, stand_of(place), act, stored, VersionId::to_string).await
    }

    /// Puts `value` as `id` unless that is its value, or says whether it would.
    ///
    /// # Errors
    /// As [`Rooms::put`].
    pub async fn import(
        &self,
        id: &SecretId,
        place: &Place,
        value: &Secret,
        dry_run: bool,
    ) -> Result<Imported, StoreError> {
        match import::same_at(place, value).await? {
            Some(same) => Ok(Imported::Unchanged(same)),
            None if dry_run => Ok(Imported::WouldPut),
            None => self.put(id, place, value).await.map(Imported::Put),
        }
    }

    /// Ends a version of a secret.
    ///
    /// # Errors
    /// As [`Rooms::put`].
    pub async fn retire(&self, id: &SecretId, place: &Place, version: &VersionId) -> Result<(), StoreError> {
        let act = async {
            self.not_rotating(place).await?;
            store::retire(place, version).await
        };
        let detail = |(): &()| version.to_string();
        self.carried_out(Effect::Retire { secret: id }, stand_of(place), act, done, detail).await
    }

    /// Nothing, unless a rotation of what stands there may be unfinished: its rotator is not asked how many values it accepts.
    async fn not_rotating(&self, place: &Place) -> Result<(), StoreError> {
        let here = |at: &SecretRef| (&at.store, &at.name) == (&place.store_name, &place.name);
        if !self.rotated.iter().any(here) {
            return Ok(());
        }
        match place.store.versions(&place.name).await {
            Ok(versions) if is_unfinished(&versions, Overlap::Two, true) => Err(StoreError::Invalid(
                "its rotation is unfinished, and its former version would work on, unknown: start the agent, and \
                 `bursar rotations` shows what it waits for, `bursar revoke NAME` ends it now"
                    .into(),
            )),
            Ok(_) | Err(StoreError::NotFound(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Changes the key of a store.
    ///
    /// # Errors
    /// As [`Rooms::put`]; the store opens with the old key or the new one, whatever happened.
    pub async fn rekey(&self, name: &Name, to: NewKey) -> Result<Rekeyed, StoreError> {
        let (store, upkeep) = self.looked_after(name)?;
        let detail = |rekeyed: &Rekeyed| crate::fault::counted(rekeyed.values, "value");
        self.carried_out(Effect::Rekey { store: name }, (name, store), upkeep.rekey(to), done, detail).await
    }

    /// A copy of a store, sealed as it is.
    ///
    /// # Errors
    /// As [`Rooms::put`].
    pub async fn back_up(&self, name: &Name) -> Result<Copied, StoreError> {
        let (store, upkeep) = self.looked_after(name)?;
        let detail = |copy: &Copied| crate::fault::counted(copy.checked.values, "value");
        self.carried_out(Effect::Backup { store: name }, (name, store), upkeep.back_up(), done, detail).await
    }

    fn looked_after(&self, name: &Name) -> Result<(&dyn Store, &dyn Upkeep), StoreError> {
        let store = self.shelf.stores.get(name);
        let found = store.and_then(|store| Some((&**store, store.upkeep()?)));
        found.ok_or_else(|| StoreError::Invalid(not_ours(name, store.is_some())))
    }

    /// Looks at all of a store that is not open, also where it would not open, and holds it against the log.
    ///
    /// # Errors
    /// [`StoreError`], where it cannot be looked at.
    pub fn check(&self, settings: &Settings, name: &Name) -> Result<Checked, StoreError> {
        let (path, source) = sealed(settings, name)?;
        let mut checked = check_file(&Locked::take(path)?, &source, &*self.random)?;
        let (Some(id), Some(changes)) = (&checked.id, checked.changes) else { return Ok(checked) };
        let mut held = [Held::new(Standing { store: name.clone(), id: id.as_str().into(), changes })];
        backwards::hold(&settings.audit.dir, &mut held).map_err(unavailable)?;
        let strays = held.iter().filter_map(|held| Some(held.fault()?.0.to_string()));
        strays.collect::<Vec<_>>().into_iter().for_each(|stray| checked.found(None, stray));
        Ok(checked)
    }

    /// Puts the copy `from` in the place of a store, and takes it as it is. `key` is the one that it was made under, where
    /// that is not the store's.
    ///
    /// # Errors
    /// [`StoreError`]; the store is as it was, except where the record of its end alone was lost.
    pub async fn restore(
        &self,
        settings: &Settings,
        name: &Name,
        from: &Path,
        key: Option<&Secret>,
    ) -> Result<Restored, StoreError> {
        let (path, source) = sealed(settings, name)?;
        let staged = Staged::lay(Locked::take(path)?, from, &source, key, &self.random)?;
        let began = self.clock.now();
        let (actor, effect) = (Actor::Offline(getuid().as_raw()), Effect::Restore { store: name });
        let intent = self.journal.append(&Record::Intent(Intent { actor, effect })).await;
        let intent = intent.map_err(unavailable)?.decision().index;
        let (id, values) = (staged.id.clone(), staged.values);
        let found = Standing { store: name.clone(), id: id.as_str().into(), changes: staged.changes };
        let put = staged.put_in_place(began.wall);
        let detail = put.as_ref().map_or_else(ToString::to_string, |_| id);
        let result = match &put {
            Ok(_) => OutcomeOf::Done { detail: &detail },
            Err(error) => OutcomeOf::Failed { code: error.code(), detail: &detail },
        };
        // A crash here leaves a store that the log does not know: it has to be accepted.
        if put.is_ok() {
            drop(self.journal.append(&Record::Store(&found, Noted::Accepted)).await.map_err(unavailable)?);
        }
        let took = self.clock.now().since(began);
        drop(self.journal.enqueue(&Record::Outcome(Outcome { intent, result, took })));
        put.map(|kept| Restored { values, kept })
    }

    /// What `act` came to, with the records of its intent and its outcome, and how the store stands then.
    async fn carried_out<T>(
        &self,
        effect: Effect<'_>,
        (name, store): (&Name, &dyn Store),
        act: impl Future<Output = Result<T, StoreError>>,
        outcome: impl FnOnce(&str) -> OutcomeOf<'_>,
        detail: impl FnOnce(&T) -> String,
    ) -> Result<T, StoreError> {
        let actor = Actor::Offline(getuid().as_raw());
        let intent = self.journal.append(&Record::Intent(Intent { actor, effect })).await;
        let intent = intent.map_err(unavailable)?.decision().index;
        let began = self.clock.now();
        let done = act.await;
        let took = self.clock.now().since(began);
        let detail = done.as_ref().map_or_else(ToString::to_string, detail);
        let result = match &done {
            Ok(_) => outcome(&detail),
            Err(error) => OutcomeOf::Failed { code: error.code(), detail: &detail },
        };
        drop(self.journal.enqueue(&Record::Outcome(Outcome { intent, result, took })));
        // Also where it failed: a part of it may have been written.
        if let Some(standing) = standing(name, store) {
            drop(self.journal.enqueue(&Record::Store(&standing, Noted::Changed)));
        }
        done
    }
}

const fn stored(version: &str) -> OutcomeOf<'_> {
    OutcomeOf::Stored { version }
}

const fn done(detail: &str) -> OutcomeOf<'_> {
    OutcomeOf::Done { detail }
}

fn stand_of(place: &Place) -> (&Name, &dyn Store) {
    (&place.store_name, &*place.store)
}

fn unavailable(why: impl Display) -> StoreError {
    StoreError::Unavailable(why.to_string())
}

/// The file of a sealed store of the configuration, and where its key comes from.
fn sealed<'a>(settings: &'a Settings, name: &Name) -> Result<(&'a Path, KeySource), StoreError> {
    match settings.stores.get(name) {
        Some(meant::Store::Sealed { path, key }) => Ok((path, stores::key_source(key)?)),
        other => Err(StoreError::Invalid(not_ours(name, other.is_some()))),
    }
}
